"""FAISS files: an index of translated vectors beside the old one, with the same ids and metric."""

from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge.atomic import clear_atomic, open_atomic
from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import InvalidLatentsError, StoreError
from hf_latent_bridge.extras import require
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.translation.moving import Conversion
from hf_latent_bridge.translation.pipeline import overlapped, progress_bar
from hf_latent_bridge.vectors.indexes import IndexReader
from hf_latent_bridge.vectors.reader import VectorSource
from hf_latent_bridge.vectors.stores.url import scheme_of

_SUFFIXES = (".faiss", ".index")
_METRICS: dict[int, Metric] = {0: "dot", 1: "euclidean"}  # as FAISS numbers them
_TRAINING = 256  # rows a list for training an inverted file
_UNIT = 1e-3
_SAMPLE = 1000


def index_path(name: str) -> Path | None:
    """The file that `faiss:./docs.faiss` or a plain path names; None if it names another store."""
    scheme = scheme_of(name)
    if scheme == "faiss":
        return Path(name.partition(":")[2])
    return Path(name) if scheme is None and name.endswith(_SUFFIXES) else None


class IndexFile:
    """A FAISS index in a file, which keeps its vectors whole.

    Attributes:
        path: The file.
        n: How many rows it holds.
        dim: Their width.
        metric: What it ranks by: "cosine" where it ranks unit vectors by their product.
    """

    def __init__(self, path: Path) -> None:
        """Reads the index.

        Raises:
            MissingExtraError: FAISS is not installed.
            StoreError: There is no such file, or it ranks by a metric that is not read.
            InvalidLatentsError: It is damaged, or keeps its vectors compressed.
        """
        require("index", "faiss", purpose=f"migrating {path.name}")
        if not path.is_file():
            raise StoreError(f"there is no FAISS file {path}")
        self.path, self._reader = path, IndexReader(VectorSource(str(path)))
        self.n, self.dim = int(self._reader.n or 0), int(self._reader.dim or 0)
        number = self._reader.index.metric_type
        if number not in _METRICS:
            raise StoreError(f"{path} ranks by FAISS's metric {number}; 0 (product) and 1 (L2) are")
        self.metric = _METRICS[number]
        if self.metric == "dot" and self._are_unit():
            self.metric = "cosine"

    def sample(self) -> Array:
        """The first rows."""
        return np.asarray(self._reader.read(np.arange(min(self.n, _SAMPLE))))

    def write(self, target: Path, conversion: Conversion, size: int, *, progress: bool) -> None:
        """Writes an index of the same kind with translated rows, which appears when it is whole.

        A target that holds these rows already, as a killed migration leaves it, stays.

        Raises:
            StoreError: The target holds something else, or does not give back what was written.
            InvalidLatentsError: Vectors of another width than the translator's source.
        """
        import faiss

        there = target.exists()
        if there and not _has_shape(target, self.n, conversion.dim):
            raise _taken(target)

        inner, ids = self._empty(conversion), self._reader.ids
        whole = inner if ids is None else faiss.IndexIDMap2(inner)
        with progress_bar(self.n, progress) as bar:
            blocks = self._reader.blocks(size=size)
            for block, vectors in overlapped(
                lambda b: self._converted(conversion, b.vectors), blocks
            ):
                if ids is None:
                    whole.add(vectors)
                else:
                    whole.add_with_ids(vectors, ids[block.first : block.first + len(vectors)])
                bar.update(len(vectors))
            if not there:
                _save(whole, target)
        with progress_bar(self.n, progress, "compare") as bar:
            same = _holds(target, inner, ids, size, bar)
        if there:
            if not same:
                raise _taken(target)
            clear_atomic(target)
        elif not same:
            target.unlink()
            raise StoreError(
                f"{target} does not give back what was written, and was removed: try again"
            )

    def _empty(self, conversion: Conversion) -> Any:
        """An index like this one without rows; an inverted file is trained on translated ones."""
        old: Any = self._reader.index
        kind = type(old).__name__
        if "HNSW" in kind:
            return _like_graph(old, conversion.dim)
        if "IVF" not in kind:
            return _made("Flat", conversion.dim, old)
        new = _made(f"IVF{old.nlist},Flat", conversion.dim, old)
        rows = np.random.default_rng(0).permutation(self.n)[: _TRAINING * old.nlist]
        new.train(self._converted(conversion, np.asarray(self._reader.read(np.sort(rows)))))
        new.nprobe = old.nprobe
        new.make_direct_map()
        return new

    def _converted(self, conversion: Conversion, old: Array) -> Array:
        new = np.ascontiguousarray(conversion.vectors(old), np.float32)
        if self.metric != "cosine":
            return new
        unit: Array = new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), 1e-30)
        return unit

    def _are_unit(self) -> bool:
        lengths = np.linalg.norm(self.sample(), axis=1)
        return bool(self.n and (np.abs(lengths - 1) < _UNIT).all())


def _made(factory: str, dim: int, like: Any) -> Any:
    import faiss

    return faiss.index_factory(dim, factory, like.metric_type)


def _like_graph(old: Any, dim: int) -> Any:
    new = _made(f"HNSW{old.hnsw.nb_neighbors(1)},Flat", dim, old)
    new.hnsw.efConstruction = old.hnsw.efConstruction
    new.hnsw.efSearch = old.hnsw.efSearch
    return new


def _save(index: Any, target: Path) -> None:
    import faiss

    library: Any = faiss  # whose stubs lack the writer
    with open_atomic(target) as stream:
        library.write_index(index, library.PyCallbackIOWriter(stream.write))


def _taken(target: Path) -> StoreError:
    return StoreError(f"{target} is there already, and holds other rows: name another file")


def _has_shape(path: Path, n: int, dim: int) -> bool:
    """Whether a file is an index of so many rows of this width."""
    try:
        found = IndexReader(VectorSource(str(path)))
    except InvalidLatentsError:
        return False
    return (found.n, found.dim) == (n, dim)


def _holds(path: Path, index: Any, ids: Array | None, size: int, bar: Any) -> bool:
    """Whether a file holds all rows of an index, with the same ids."""
    found = IndexReader(VectorSource(str(path)))
    same = found.n == index.ntotal and np.array_equal(_or_empty(found.ids), _or_empty(ids))
    for block in found.blocks(size=size) if same else ():
        wanted = index.reconstruct_n(block.first, len(block.vectors))
        same = same and np.array_equal(block.vectors, wanted)
        bar.update(len(wanted))
    return same


def _or_empty(ids: Array | None) -> Array:
    return np.empty(0, np.int64) if ids is None else ids
