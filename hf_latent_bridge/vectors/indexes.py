"""Vectors in FAISS indexes: flat ones are read from the file's bytes, others are reconstructed."""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.extras import require
from hf_latent_bridge.vectors.lines import Objects, objects_beside
from hf_latent_bridge.vectors.matrix import Layout, MatrixReader
from hf_latent_bridge.vectors.numbers import FLOAT32
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, whole

_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_MAPS = (b"IxMp", b"IxM2")  # IndexIDMap and IndexIDMap2: an index, and then its ids
_HEADER = struct.Struct("<iqqq?i")  # d, ntotal, two unused, is_trained, metric_type
_UNUSED = 1 << 20
_COUNT = struct.Struct("<Q")
_EXACT = re.compile(r"Index(Flat(L2|IP|1D)?|IVFFlat(Dedup)?|HNSWFlat)\Z")


def open_faiss(source: VectorSource) -> "FlatReader | IndexReader":
    """A FAISS index that keeps its vectors whole.

    Raises:
        MissingExtraError: An index that is not flat, and FAISS is not installed.
        InvalidLatentsError: Truncated, or an index that keeps its vectors compressed.
    """
    path = Path(source.path)
    with whole(path, "FAISS index"), path.open("rb") as stream:
        outer, kind = b"", stream.read(4)
        if len(kind) < 4:
            raise ValueError("it is empty")
        if kind in _MAPS:
            _read_header(stream)
            outer, kind = kind, stream.read(4)
        if kind in _FLAT:
            return FlatReader(source, *_flat_layout(stream, path, mapped=bool(outer)), outer, kind)
    require("index", "faiss", purpose=f"reading {path.name}, an index that is not flat,")
    return IndexReader(source)


class FlatReader(MatrixReader):
    """A flat index: a matrix in a file, behind it the ids where they are mapped.

    Attributes:
        metric_type: What it ranks by, as FAISS numbers metrics.
        has_ids: Whether its rows have ids; else they are numbered.
    """

    def __init__(
        self, source: VectorSource, layout: Layout, metric_type: int, outer: bytes, kind: bytes
    ) -> None:
        """An index of the kind that FAISS calls `kind`, mapped by one that it calls `outer`."""
        super().__init__(source, layout)
        self.metric_type, self.has_ids = metric_type, bool(outer)
        self._outer, self._kind = outer, kind

    def ids(self, first: int, n: int) -> Array | None:
        """The ids of some rows, (n,); None where they are numbered."""
        if not self.has_ids:
            return None
        with self._opened() as file:
            content = os.pread(file, n * 8, self.layout.end + _COUNT.size + first * 8)
        return np.frombuffer(content, "<i8")

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Blocks of rows, with their ids."""
        for part in super().parts(start, stop, size):
            n = len(part.vectors)
            yield Part(part.vectors, _beside(self.ids(start, n)) if payload else None)
            start += n

    def header(self, shape: tuple[int, ...]) -> bytes:
        """The bytes before the matrix of an index of the same kind, equally many for any shape."""
        n, dim = shape
        facts = _HEADER.pack(dim, n, _UNUSED, _UNUSED, True, self.metric_type)
        before = self._outer + facts if self._outer else b""
        return before + self._kind + facts + _COUNT.pack(n * dim)


class IndexReader(VectorReader):
    """Vectors that FAISS reconstructs from an index, with their ids.

    Attributes:
        index: FAISS's own, without the map of ids around it.
        metric_type: What it ranks by, as FAISS numbers metrics.
        has_ids: Whether its rows have ids; else they are numbered.
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
        self._ids: Array | None = None
        self._outer = index  # FAISS frees what is inside with what is around it
        if isinstance(index, faiss.IndexIDMap):
            self._ids = faiss.vector_to_array(index.id_map)
            index = index.index
        index = faiss.downcast_index(index)
        _check_exact(index, source.path)
        if isinstance(index, faiss.IndexIVF):
            _number_rows(index, source.path)
        self.index: Any = index
        self.metric_type, self.has_ids = int(index.metric_type), self._ids is not None
        self.n, self.dim = int(index.ntotal), int(index.d)

    def ids(self, first: int, n: int) -> Array | None:
        """The ids of some rows, (n,); None where they are numbered."""
        return None if self._ids is None else self._ids[first : first + n]

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
            yield Part(vectors, _beside(self.ids(first, n)) if payload else None)


def _beside(ids: Array | None) -> Objects | None:
    return None if ids is None else objects_beside({"id": ids.tolist()}, "vector")


def _flat_layout(stream: BinaryIO, path: Path, *, mapped: bool) -> tuple[Layout, int]:
    """The matrix behind the header of an `IndexFlat`, and what it ranks by."""
    n, dim, metric = _read_header(stream)
    (count,) = _COUNT.unpack(stream.read(_COUNT.size))
    layout = Layout((n, dim), np.dtype("<f4"), stream.tell())
    end, size = layout.end + (_COUNT.size + n * 8 if mapped else 0), path.stat().st_size
    if count not in (n * dim, n * dim * 4) or end != size:
        raise ValueError(f"its header announces {end:,} bytes, the file has {size:,}")
    return layout, metric


def _read_header(stream: BinaryIO) -> tuple[int, int, int]:
    """Rows, width and metric of an index."""
    dim, n, _, _, _, metric = _HEADER.unpack(stream.read(_HEADER.size))
    if metric > 1:
        stream.read(4)  # metric_arg
    return n, dim, metric


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
