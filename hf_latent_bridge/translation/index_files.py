"""FAISS files: an index of translated vectors beside the old one, with the same ids and metric."""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from hf_latent_bridge.atomic import writing
from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import InvalidLatentsError, StoreError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.latents import as_tensor, unit_rows
from hf_latent_bridge.translation.job import Job
from hf_latent_bridge.translation.moving import Conversion
from hf_latent_bridge.translation.pipeline import (
    chained,
    finish,
    overlapped,
    progress_bar,
    translate_range,
    translated_blocks,
)
from hf_latent_bridge.vectors.indexes import FlatReader, IndexReader, open_faiss
from hf_latent_bridge.vectors.opening import is_compressed
from hf_latent_bridge.vectors.reader import Block, VectorReader, VectorSource, file_stamp
from hf_latent_bridge.vectors.stores.url import scheme_of
from hf_latent_bridge.vectors.writers import Result, Writer

_SUFFIXES = (".faiss", ".index")
_METRICS: dict[int, Metric] = {0: "dot", 1: "euclidean"}  # as FAISS numbers them
_TRAINING = 256  # rows a list for training an inverted file
_UNIT = 1e-3
_SAMPLE = 1000
_NOTE_EVERY = 4  # batches; a kill costs half as many
_TIMEOUT = 600.0  # seconds for the next rows of a file
_CLOSE = 1e-5  # of a row's largest number; batches of another size are multiplied in another order


def index_path(name: str) -> Path | None:
    """The file that `faiss:./docs.faiss` or a plain path names; None if it names another store.

    Raises:
        StoreError: Its name says that it is compressed.
    """
    scheme = scheme_of(name)
    if scheme != "faiss":
        return Path(name) if scheme is None and name.endswith(_SUFFIXES) else None
    path = Path(name.partition(":")[2])
    if is_compressed(path):
        raise StoreError(f"FAISS files are not compressed, got {path}: name it without the suffix")
    return path


@dataclass(frozen=True)
class IndexJob(Job):
    """The translation of an index, with rows of unit norm where that is what the index ranks.

    Attributes:
        unit: Whether translated rows are scaled to unit norm.
    """

    unit: bool = False
    reads_back: ClassVar[bool] = True

    def convert(self, rows: Array) -> Array:
        """Rows of the old index as rows of the new one."""
        new = super().convert(rows)
        return unit_rows(as_tensor(new)).numpy() if self.unit else new

    def for_input(self, reader: VectorReader) -> "IndexJob":
        """The job with what must not change until it is finished."""
        job = replace(self, facts=super().for_input(reader).facts)
        return replace(job, facts={**job.facts, "unit": self.unit})

    @property
    def start_over(self) -> str:
        """What to do if an unfinished run cannot be gone on with."""
        return f"remove the files {self.part}* and start over"


class IndexFile:
    """A FAISS index in a file, which keeps its vectors whole.

    A flat one is read from its bytes, a batch at a time; of others FAISS holds all in memory.

    Attributes:
        path: The file.
        n: How many rows it holds.
        dim: Their width.
        metric: What it ranks by: "cosine" where it ranks unit vectors by their product.
    """

    def __init__(self, path: Path) -> None:
        """Reads the index, or the header of a flat one.

        Raises:
            MissingExtraError: An index that is not flat, and FAISS is not installed.
            StoreError: There is no such file, or it ranks by a metric that is not read.
            InvalidLatentsError: It is damaged, or keeps its vectors compressed.
        """
        if not path.is_file():
            raise StoreError(f"there is no FAISS file {path}")
        self.path, stamp = path, file_stamp(path)
        self._reader = open_faiss(VectorSource(str(path)))
        self._reader.stamp = stamp
        self.n, self.dim = int(self._reader.n or 0), int(self._reader.dim or 0)
        number = self._reader.metric_type
        if number not in _METRICS:
            raise StoreError(f"{path} ranks by FAISS's metric {number}; 0 (product) and 1 (L2) are")
        self.metric = _METRICS[number]
        if self.metric == "dot" and self._are_unit():
            self.metric = "cosine"

    def sample(self) -> Array:
        """The first rows."""
        rows = self._reader.read(np.arange(min(self.n, _SAMPLE)))
        return np.asarray(rows, np.float32).reshape(-1, self.dim)

    def job(
        self, target: Path, conversion: Conversion, size: int, *, progress: bool = False
    ) -> IndexJob:
        """The translation into an index of the same kind, `size` rows at a time.

        Raises:
            StoreError: An inverted file without rows.
            InvalidLatentsError: Vectors of another width than the translator's source.
        """
        reader = self._reader
        if isinstance(reader, IndexReader) and not self.n and hasattr(reader.index, "nlist"):
            raise StoreError(f"{self.path} is an inverted file without rows to train another by")
        if isinstance(reader, FlatReader):
            writer = Writer(header=lambda shape, _: reader.header(shape), dtypes=("float32",))
        else:
            writer = Writer(write=partial(_write_like, reader, size, progress), dtypes=("float32",))
        job = IndexJob(
            conversion.translator,
            reader.source,
            target,
            writer,
            "float32",
            size,
            size * _NOTE_EVERY,
            1,
            _TIMEOUT,
            folding=conversion.folding,
            unit=self.metric == "cosine",
        )
        return job.for_input(reader)

    def write(self, job: IndexJob, *, progress: bool) -> None:
        """Writes the new index, which appears when it is whole and has been read back.

        The translated rows go into a hidden file first; a run that was killed goes on with it. A
        target that holds these rows already stays.

        Args:
            job: The translation, claimed by this process.
            progress: Show bars.

        Raises:
            StoreError: The target holds something else, or does not give back what was written.
            InvalidLatentsError: A bad row, or a file that was changed while it was read.
            CheckpointError: An unfinished run had another source, translator or folding.
        """
        if job.output.exists():
            taken = StoreError(
                f"{job.output} is there already, and holds other rows: name another file"
            )
            with progress_bar(self.n, progress, "compare") as bar:
                self._compare(job, job.output, self._converted(job), bar, taken)
        else:
            job.check()
            try:
                translate_range(job, 0, self._reader, progress=progress)
                self._finish(job, progress)
            except InvalidLatentsError:
                job.clear()
                raise
        job.clear()

    def _finish(self, job: IndexJob, progress: bool) -> None:
        """Makes an index of the translated rows, reads it back and puts it in place."""
        reader = self._reader
        finish(job, reader)
        if isinstance(reader, FlatReader):
            self._append_ids(job, reader.layout.end)
        lost = StoreError(f"{job.output} does not give back what was written: try again")
        try:
            with progress_bar(self.n, progress, "compare") as bar:
                if isinstance(reader, FlatReader):
                    rows = self._read_back(job, job.part, bar, lost)
                    deque(_hashed(job, rows, lost), maxlen=0)
                else:
                    rows = _hashed(job, translated_blocks(job, reader, job.chunk_size), lost)
                    self._compare(job, job.whole, rows, bar, lost)
        except StoreError:
            job.clear()
            raise
        reader.check_unchanged()
        with writing(job.output):
            job.finished.replace(job.output)

    def _append_ids(self, job: IndexJob, position: int) -> None:
        """Copies what stands behind the matrix of a flat index."""
        with writing(job.output), job.part.open("ab") as new, self.path.open("rb") as old:
            old.seek(position)
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())

    def _compare(
        self, job: IndexJob, path: Path, rows: Iterator[Block], bar: Any, error: StoreError
    ) -> None:
        """Refuses a file that is not an index of these rows."""
        for wanted, found in zip(rows, self._read_back(job, path, bar, error), strict=True):
            with np.errstate(all="ignore"):  # of damaged rows
                apart = np.abs(found.vectors - wanted.vectors).max(1)
            if not (apart <= _CLOSE * np.abs(wanted.vectors).max(1)).all():
                raise error

    def _converted(self, job: IndexJob) -> Iterator[Block]:
        blocks = self._reader.blocks(size=job.chunk_size)
        for block, new in overlapped(lambda block: job.convert(block.vectors), blocks):
            yield block._replace(vectors=new)

    def _read_back(self, job: IndexJob, path: Path, bar: Any, error: StoreError) -> Iterator[Block]:
        """The rows of an index that should be like this one but for its vectors."""
        try:
            found, old = open_faiss(VectorSource(str(path))), self._reader
            if (found.n, found.dim, found.metric_type) != (old.n, job.dim, old.metric_type):
                raise error
            for block in found.blocks(size=job.chunk_size):
                first, n = block.first, len(block.vectors)
                if not _are_equal(found.ids(first, n), old.ids(first, n)):
                    raise error
                yield block
                bar.update(n)
        except InvalidLatentsError as damaged:
            raise error from damaged

    def _are_unit(self) -> bool:
        lengths = np.linalg.norm(self.sample(), axis=1)
        return bool(self.n and (np.abs(lengths - 1) < _UNIT).all())


def _hashed(job: IndexJob, blocks: Iterator[Block], error: StoreError) -> Iterator[Block]:
    """The same rows; refuses others than were written, at their end."""
    found, noted = "", job.noted(0)
    for block in blocks:
        found = chained(found, block.vectors.reshape(-1).view(np.uint8).data)
        yield block
    if noted is None or found != noted.written:
        raise error


def _are_equal(found: Array | None, wanted: Array | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return np.array_equal(found, wanted)


def _write_like(
    old: IndexReader, size: int, progress: bool, stream: BinaryIO, result: Result
) -> None:
    """Writes an index of the same kind as another one; an inverted file is trained on new rows."""
    import faiss

    library: Any = faiss  # whose stubs lack the writer
    inner = _empty_like(old.index, result)
    whole = library.IndexIDMap2(inner) if old.has_ids else inner
    with progress_bar(result.shape[0], progress, "build") as bar:
        for first, rows, _ in result.blocks(size):
            if old.has_ids:
                whole.add_with_ids(rows, old.ids(first, len(rows)))
            else:
                whole.add(rows)
            bar.update(len(rows))
    library.write_index(whole, library.PyCallbackIOWriter(stream.write))


def _empty_like(old: Any, result: Result) -> Any:
    dim, kind = result.shape[1], type(old).__name__
    if "HNSW" in kind:
        new = _made(f"HNSW{old.hnsw.nb_neighbors(1)},Flat", dim, old)
        new.hnsw.efConstruction = old.hnsw.efConstruction
        new.hnsw.efSearch = old.hnsw.efSearch
        return new
    new = _made(f"IVF{old.nlist},Flat", dim, old)
    new.train(_sample(result, _TRAINING * old.nlist))
    new.nprobe = old.nprobe
    new.make_direct_map()
    return new


def _made(factory: str, dim: int, like: Any) -> Any:
    import faiss

    return faiss.index_factory(dim, factory, like.metric_type)


def _sample(result: Result, most: int) -> Array:
    """Rows drawn at random, in their order."""
    chosen = np.random.default_rng(0).permutation(result.shape[0]) < most
    parts = ((b.vectors, b.first) for b in result.blocks(_SAMPLE))
    found = [rows[chosen[first : first + len(rows)]] for rows, first in parts]
    return np.concatenate(found)
