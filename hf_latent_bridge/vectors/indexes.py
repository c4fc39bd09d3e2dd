"""Vectors in FAISS indexes: flat ones are read from the file's bytes, others are reconstructed."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.extras import require
from hf_latent_bridge.vectors.lines import objects_beside
from hf_latent_bridge.vectors.matrix import Layout, MatrixReader
from hf_latent_bridge.vectors.numbers import FLOAT32
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, whole

_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_HEADER = struct.Struct("<iqqq?i")  # d, ntotal, two unused, is_trained, metric_type
_EXACT = re.compile(r"Index(Flat(L2|IP|1D)?|IVFFlat(Dedup)?|HNSWFlat)\Z")


def open_faiss(source: VectorSource) -> VectorReader:
    """A FAISS index that keeps its vectors whole.

    Raises:
        MissingExtraError: An index that is not flat, and FAISS is not installed.
        InvalidLatentsError: Truncated, or an index that keeps its vectors compressed.
    """
    path = Path(source.path)
    with whole(path, "FAISS index"), path.open("rb") as stream:
        kind = stream.read(4)
        if len(kind) < 4:
            raise ValueError("it is empty")
        if kind in _FLAT:
            return MatrixReader(source, _flat_layout(stream, path))
    require("index", "faiss", purpose=f"reading {path.name}, an index that is not flat,")
    return IndexReader(source)


class IndexReader(VectorReader):
    """Vectors that FAISS reconstructs from an index, with their ids.

    Attributes:
        index: FAISS's own, without the map of ids around it.
        ids: Of the rows, (n,); None where they are numbered.
    """

    dtype = FLOAT32

    def __init__(self, source: VectorSource) -> None:
        """Reads the index.

        Raises:
            InvalidLatentsError: It keeps its vectors compressed, or not at all.
        """
        import faiss

        super().__init__(source)
        with whole(source.path, "FAISS index"):
            try:
                index = faiss.read_index(source.path)
            except RuntimeError as error:
                raise ValueError(_told(error)) from error
        self.ids: Array | None = None
        self._outer = index  # FAISS frees what is inside with what is around it
        if isinstance(index, faiss.IndexIDMap):
            self.ids = faiss.vector_to_array(index.id_map)
            index = index.index
        index = faiss.downcast_index(index)
        _check_exact(index, source.path)
        if isinstance(index, faiss.IndexIVF):
            _number_rows(index, source.path)
        self.index: Any = index
        self.n, self.dim = int(index.ntotal), int(index.d)

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Reconstructs rows in their order."""
        end = (self.n or 0) if stop is None else stop
        for first in range(start, end, size):
            n = min(size, end - first)
            try:
                vectors = self.index.reconstruct_n(first, n)
            except RuntimeError as error:
                raise ValueError(_told(error)) from error
            rows = None
            if payload and self.ids is not None:
                rows = objects_beside({"id": self.ids[first : first + n].tolist()}, "vector")
            yield Part(vectors, rows)


def _flat_layout(stream: BinaryIO, path: Path) -> Layout:
    """The matrix behind the header of an `IndexFlat`."""
    dim, n, _, _, _, metric = _HEADER.unpack(stream.read(_HEADER.size))
    if metric > 1:
        stream.read(4)  # metric_arg
    (count,) = struct.unpack("<Q", stream.read(8))
    layout = Layout((n, dim), np.dtype("<f4"), stream.tell())
    size = path.stat().st_size
    if count not in (n * dim, n * dim * 4) or layout.end != size:
        raise ValueError(f"its header announces {layout.end:,} bytes, the file has {size:,}")
    return layout


def _check_exact(index: Any, where: str) -> None:
    name = type(index).__name__
    if _EXACT.match(name) is None:
        raise InvalidLatentsError(
            f"{where} is a FAISS {name}: vectors are read from indexes that keep them whole "
            "(IndexFlat, IndexIVFFlat, IndexHNSWFlat, and these inside an IndexIDMap)"
        )


def _number_rows(index: Any, where: str) -> None:
    """Lets an inverted file reconstruct its rows by their number.

    Raises:
        InvalidLatentsError: They have ids of their own, in no order.
    """
    try:
        index.make_direct_map()
    except RuntimeError as error:
        raise InvalidLatentsError(
            f"{where} is a FAISS {type(index).__name__} whose rows have ids of their own, so that "
            "they have no order: put it in an IndexIDMap, or save its vectors and ids as a table"
        ) from error


def _told(error: Exception) -> str:
    return re.sub(r"^Error in .*?:\d+: ", "", str(error).strip().splitlines()[-1])
