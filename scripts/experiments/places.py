"""Stores and files in which a migration is measured: filled, copied bare, and read back.

Each of that is done in a process of its own, for a file of Milvus Lite stays open until the process
that has opened it ends. The bare copy reads and writes the same rows by the same client in batches
of the same size, with vectors as wide as the new ones, and nothing translated or compared.
"""

import abc
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments.killed_migration import ENVIRONMENT, Spent
from experiments.store_urls import servers_of, url_in

FILES = ("faiss", "npy", "parquet")
_CLIENTS = {".faiss": "faiss", ".parquet": "pyarrow.parquet"}
_NOTE_EVERY = 4  # batches of a file that is translated, as of one that is migrated

P = ParamSpec("P")
T = TypeVar("T")
Array = NDArray[np.float32]


class Rows(NamedTuple):
    """What is put there.

    Attributes:
        texts: The payload, one a row.
        vectors: Matrix (n, d).
        size: How many rows a batch has.
    """

    texts: list[str]
    vectors: Array
    size: int

    def batches(self) -> Iterator[tuple[int, list[str], Array]]:
        """The number of the first row, texts and vectors of each batch."""
        for first in range(0, len(self.texts), self.size):
            part = slice(first, first + self.size)
            yield first, self.texts[part], self.vectors[part]


class Place(abc.ABC):
    """Where the rows of one migration are."""

    @abc.abstractmethod
    def fill(self, rows: Rows) -> None:
        """Puts rows there."""

    @abc.abstractmethod
    def copy(self, name: str, dim: int, rows: int, size: int) -> tuple[Spent, int]:
        """What a bare copy that is `dim` wide takes, and how many rows it has copied."""

    @abc.abstractmethod
    def read(self, rows: int, size: int) -> Array:
        """The old vectors of the first rows."""

    @abc.abstractmethod
    def command(self, translator: Path, size: int) -> list[str]:
        """The arguments of `latent-bridge` that move them."""

    @abc.abstractmethod
    def whole(self, result: dict[str, Any], rows: int) -> bool:
        """Whether a command's result says that all rows were moved."""

    @property
    def servers(self) -> list[int]:
        """Ids of the processes that work for it."""
        return []


class StorePlace(Place):
    """A collection in a store of its own below a folder."""

    def __init__(self, scheme: str, folder: Path) -> None:
        self.scheme, self.folder = scheme, folder
        self.url = url_in(scheme, folder)

    def fill(self, rows: Rows) -> None:
        """Makes a collection of rows."""
        _apart(fill_store, self.scheme, self.url, rows)

    def copy(self, name: str, dim: int, rows: int, size: int) -> tuple[Spent, int]:
        """Copies half of the rows."""
        copied = url_in(self.scheme, self.folder, name)
        half, servers = rows // 2, self.servers
        spent = _apart(copy_store, self.url, copied, dim, rows=half, size=size, servers=servers)
        return spent, half

    def read(self, rows: int, size: int) -> Array:
        """Asks for rows by their ids."""
        return _apart(read_store, self.scheme, self.url, rows, size)

    def command(self, translator: Path, size: int) -> list[str]:
        """`latent-bridge migrate`."""
        new = url_in(self.scheme, self.folder, "docs_new")
        options = ["--state-dir", str(self.folder / "state"), "--batch-size", str(size)]
        return ["migrate", self.url, new, "--translator", str(translator), *options]

    def whole(self, result: dict[str, Any], rows: int) -> bool:
        """Whether they are there, and were compared."""
        return (result.get("rows"), result.get("checked")) == (rows, rows)

    @property
    def servers(self) -> list[int]:
        """Ids of the processes that work for the store's client."""
        return servers_of(self.scheme)


class FilePlace(Place):
    """A file of vectors; a FAISS file is migrated, others are translated."""

    def __init__(self, suffix: str, folder: Path) -> None:
        self.folder, self.path = folder, folder / f"docs.{suffix}"

    def fill(self, rows: Rows) -> None:
        """Writes a file of rows."""
        _apart(fill_file, self.path, rows)

    def copy(self, name: str, dim: int, rows: int, size: int) -> tuple[Spent, int]:
        """Copies all rows."""
        return _apart(copy_file, self.path, self.path.with_stem(name), dim, size), rows

    def read(self, rows: int, size: int) -> Array:
        """Reads the first rows."""
        return _apart(read_file, self.path, rows)

    def command(self, translator: Path, size: int) -> list[str]:
        """`latent-bridge migrate`, or `translate`."""
        paths = [str(self.path), str(self.path.with_stem("docs-new"))]
        if self.path.suffix == ".faiss":
            return ["migrate", *paths, "--translator", str(translator), "--batch-size", str(size)]
        options = ["--chunk-size", str(size), "--checkpoint-every", str(size * _NOTE_EVERY)]
        return ["translate", str(translator), *paths, *options]

    def whole(self, result: dict[str, Any], rows: int) -> bool:
        """Whether they are in the new file."""
        return bool(result.get("rows", result.get("shape", [0])[0]) == rows)


def place_of(kind: str, folder: Path) -> Place:
    """The place of a kind, a scheme or a suffix, below a folder."""
    return FilePlace(kind, folder) if kind in FILES else StorePlace(kind, folder)


def _apart(function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What a function returns, run in a process of its own."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_as_a_move) as process:
        return process.submit(function, *given, **named).result()


def _as_a_move() -> None:
    """Gives this process what that of a move has."""
    os.environ.update(ENVIRONMENT)


def key(scheme: str, number: int) -> int | str:
    """The id of a row: a number, or text where the store has no others."""
    return f"{number:08}" if scheme == "chroma" else number


def wider(vectors: Array, dim: int) -> Array:
    """The same rows, repeated or cut to a width."""
    return np.tile(vectors, -(-dim // vectors.shape[1]))[:, :dim]


# Stores ---------------------------------------------------------------------------------


def fill_store(scheme: str, url: str, rows: Rows) -> None:
    """Makes a collection of rows."""
    from hf_latent_bridge.vectors.stores.base import Layout, Records
    from hf_latent_bridge.vectors.stores.registry import open_collection

    with open_collection(url, create=True) as collection:
        collection.create(Layout(rows.vectors.shape[1], "cosine"), collection)
        for first, texts, vectors in rows.batches():
            ids = [key(scheme, first + row) for row in range(len(texts))]
            collection.insert(Records(ids, vectors, [{"text": text} for text in texts]))


def copy_store(
    url: str, copied: str, dim: int, *, rows: int, size: int, servers: Sequence[int]
) -> Spent:
    """Time for reading some rows and writing them with vectors of another width."""
    from hf_latent_bridge.vectors.stores.base import Layout
    from hf_latent_bridge.vectors.stores.registry import open_collection

    pids = os.getpid(), *servers
    with open_collection(url) as old, open_collection(copied, create=True) as new:
        new.create(Layout(dim, "cosine"), old)
        old.count()  # as for the bar of a migration, for which a file of Milvus Lite is loaded
        begun, done = Spent.now(*pids), 0
        for records in old.scan(size):
            new.insert(records._replace(vectors=wider(np.asarray(records.vectors), dim)))
            done += len(records.ids)
            if done >= rows:
                break
        spent = Spent.now(*pids).since(begun)
        new.drop(whole=True)
    return spent


def read_store(scheme: str, url: str, rows: int, size: int) -> Array:
    """The vectors of the first rows, asked for by their ids."""
    from hf_latent_bridge.vectors.stores.registry import open_collection

    found: dict[Any, Any] = {}
    with open_collection(url) as collection:
        for first in range(0, rows, size):
            ids = [key(scheme, row) for row in range(first, min(first + size, rows))]
            records = collection.fetch(ids)
            found.update(zip(records.ids, np.asarray(records.vectors), strict=True))
    return np.stack([found[key(scheme, row)] for row in range(rows)])


# Files ----------------------------------------------------------------------------------


def fill_file(path: Path, rows: Rows) -> None:
    """Writes a file of rows in the format of its suffix."""
    if path.suffix == ".npy":
        np.save(path, rows.vectors)
    elif path.suffix == ".faiss":
        _write_index(path, rows.vectors.shape[1], (vectors for _, _, vectors in rows.batches()))
    else:
        _write_table(path, rows.batches())


def copy_file(path: Path, copied: Path, dim: int, size: int) -> Spent:
    """Time for reading all rows and writing them with vectors of another width."""
    if path.suffix in _CLIENTS:  # loaded before, as for a move
        import_module(_CLIENTS[path.suffix])
    begun = Spent.now(os.getpid())
    if path.suffix == ".npy":
        old = np.load(path, mmap_mode="r")
        new = np.lib.format.open_memmap(copied, "w+", np.float32, (len(old), dim))
        for first in range(0, len(old), size):
            new[first : first + size] = wider(old[first : first + size], dim)
        new.flush()
    elif path.suffix == ".faiss":
        _write_index(copied, dim, (wider(rows, dim) for rows in _read_index(path, size)))
    else:
        batches = ((first, texts, wider(rows, dim)) for first, texts, rows in _table(path, size))
        _write_table(copied, batches)
    with copied.open("rb") as stream:
        os.fsync(stream.fileno())  # as a translated file is
    spent = Spent.now(os.getpid()).since(begun)
    copied.unlink()
    return spent


def read_file(path: Path, rows: int) -> Array:
    """The vectors of the first rows."""
    from hf_latent_bridge.vectors.formats import open_vectors

    return np.asarray(open_vectors(path).read(np.arange(rows)), np.float32)


def _write_index(path: Path, dim: int, batches: Iterator[Array]) -> None:
    import faiss

    index = faiss.IndexFlatIP(dim)
    for vectors in batches:
        index.add(vectors)
    faiss.write_index(index, str(path))


def _read_index(path: Path, size: int) -> Iterator[Array]:
    import faiss

    index = faiss.read_index(str(path))
    for first in range(0, index.ntotal, size):
        yield index.reconstruct_n(first, min(size, index.ntotal - first))


def _write_table(path: Path, batches: Iterator[tuple[int, list[str], Array]]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    with contextlib.ExitStack() as held:
        writer: Any = None
        for first, texts, vectors in batches:
            flat = pa.array(np.ascontiguousarray(vectors).ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            ids = np.arange(first, first + len(texts))
            table = pa.table({"id": ids, "text": texts, "vector": lists})
            if writer is None:  # as `translate` writes: no dictionary of vectors
                keyed = {"use_dictionary": ["id", "text"]}
                writer = held.enter_context(ParquetWriter(path, table.schema, **keyed))
            writer.write_table(table)


def _table(path: Path, size: int) -> Iterator[tuple[int, list[str], Array]]:
    from pyarrow.parquet import ParquetFile

    first = 0
    with ParquetFile(path) as file:
        for batch in file.iter_batches(size):
            flat = batch["vector"].flatten().to_numpy()
            yield first, batch["text"].to_pylist(), flat.reshape(len(batch), -1)
            first += len(batch)
