"""The protocol of all readers of vectors: what to read, and rows in blocks or by number."""

import abc
import contextlib
import lzma
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.data.items import Array, Items, Unreadable
from hf_latent_bridge.errors import BadRowError, InvalidLatentsError, LatentBridgeError

_TICK = 20_000_000  # nanoseconds; Linux counts in steps of up to 10 ms
Scale = float | Literal["binary"]
_BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    EOFError,
    RuntimeError,
    SyntaxError,
    TokenError,
    BadZipFile,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class VectorSource:
    """What to read; enough to open it again in another process.

    Attributes:
        path: File, folder, id of a Hub dataset, or "-" for JSON lines on stdin.
        column: Column, key, tensor or array with the vectors; a path such as
            `response.data[0].embedding`, or a pattern such as `dim_*` for one column per
            dimension. None where it can be found without.
        config: Configuration of a Hub dataset.
        split: Split of a dataset.
        revision: Branch, tag or commit of a Hub dataset.
        scale: What stored integers are multiplied by, or "binary" for bits packed in bytes.
        token: Hub token.
    """

    path: str
    column: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    scale: Scale | None = None
    token: str | bool | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Takes paths as text.

        Raises:
            ValueError: A scale that is not a finite number other than 0, or "binary".
        """
        object.__setattr__(self, "path", str(self.path))
        scale = self.scale
        number = isinstance(scale, int | float) and math.isfinite(scale) and scale != 0
        if scale not in (None, "binary") and not number:
            raise ValueError(
                f'scale must be a finite number other than 0, or "binary", got {scale}'
            )


class Payload(Protocol):
    """What some rows hold besides their vectors: ids, texts, metadata."""

    def __len__(self) -> int: ...

    def cut(self, start: int, stop: int) -> Self:
        """The payload of some of the rows."""

    def joined(self, others: "list[Any]") -> Self:
        """This payload followed by others of the same reader."""

    def objects(self, vectors: Array) -> list[dict[str, Any]]:
        """A JSON object per row, with a row of `vectors` (n, d) in place of the vector read."""

    def table(self, vectors: Array) -> Any:
        """An Arrow table with the rows of `vectors` (n, d) in place of the vectors read."""


class Part(NamedTuple):
    """Consecutive rows as a format gives them.

    `vectors` is a matrix (n, d), or a list that has an array, None (missing) or an Unreadable for
    each row where they do not make a matrix.
    """

    vectors: Items
    payload: Payload | None = None


class Block(NamedTuple):
    """Consecutive rows, checked: number of the first one, vectors (n, d) and payload if wanted."""

    first: int
    vectors: Array
    payload: Payload | None = None


class VectorReader(abc.ABC):
    """Rows of vectors in a file, folder, dataset or stream. A format implements `parts`.

    Attributes:
        source: What is read.
        column: The column found or named; None where the format has none.
        n: Number of rows; None for a stream, which can be read once only.
        dim: Their width; None for a stream, and where there are no rows.
        dtype: Floating dtype of the rows, in native byte order.
        integers: Whether integers are stored, which a scale turns into floats.
        stamp: The `file_stamp` of the file when it was opened; None where there is no such file.
        alike: Whether all rows are known to have the same columns of the same types.
        unfit: Length of what could be a field by its name, and is not: one value a row is needed.
        hop: With a row so many rows ahead, it is faster to begin anew there than to read on; None
            where that is never so.
    """

    unfit: Mapping[str, int] = MappingProxyType({})
    hop: int | None = 64
    column: str | None = None
    integers: bool = False
    alike: bool = False
    stamp: tuple[int, ...] | None = None
    n: int | None
    dim: int | None
    dtype: "np.dtype[np.floating[Any]]"

    def __init__(self, source: VectorSource) -> None:
        self.source = source
        self._cursor: _Cursor | None = None

    @abc.abstractmethod
    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Rows from `start` to `stop` in order, in parts of at most about `size` rows."""

    @property
    def path(self) -> Path | None:
        """The file; None for a stream, a folder or a dataset."""
        return None if self.source.path == "-" else Path(self.source.path)

    def identity(self) -> dict[str, Any]:
        """JSON values that change when the rows do."""
        return file_identity(Path(self.source.path))

    def stamps(self) -> list[tuple[int, ...]] | None:
        """The stamp of each file; empty where `identity` is of the content, None for neither."""
        return [] if self.stamp is None else [self.stamp]

    def blocks(
        self, start: int = 0, stop: int | None = None, size: int = 8192, *, payload: bool = False
    ) -> Iterator[Block]:
        """Rows from `start` to `stop`, exactly `size` at a time but for the last block.

        Raises:
            BadRowError: A row is missing, ragged or unreadable; names it.
        """
        if self.n is not None:
            stop = self.n if stop is None else min(stop, self.n)
        first = start
        for part in rebatch(self.guarded(start, stop, size, payload), size):
            yield Block(first, self._matrix(part.vectors, first), part.payload)
            first += len(part.vectors)

    def read(self, rows: npt.NDArray[np.int64]) -> Items:
        """The vectors of some rows, in the order asked for; unusable ones as `Part` has them."""
        if self._cursor is None:
            self._cursor = _Cursor(self)
        order = np.argsort(rows, kind="stable")
        items = self._cursor.read(rows[order])
        if (np.diff(order) == 1).all():
            return items
        back = np.argsort(order, kind="stable")
        return items[back] if isinstance(items, np.ndarray) else [items[i] for i in back]

    def guarded(self, start: int, stop: int | None, size: int, payload: bool) -> Iterator[Part]:
        """`parts`, with an error that names the file where it is damaged."""
        with whole(self.source.path):
            for part in self.parts(start, stop, size, payload=payload):
                self.check_unchanged()
                yield part
        self.check_unchanged()

    def check_scale(self) -> None:
        """Refuses a scale where there is nothing to be multiplied.

        Raises:
            InvalidLatentsError: The rows hold floating numbers.
        """
        if self.source.scale is not None and (self.n or self.dim) and not self.integers:
            where = "stdin" if self.source.path == "-" else self.source.path
            raise InvalidLatentsError(
                f"{where} holds floating numbers, and a scale is for integers: leave it out"
            )

    def check_unchanged(self) -> None:
        """Refuses a file that is another one than was opened.

        Raises:
            InvalidLatentsError: It was written or replaced since.
        """
        if self.stamp is not None:
            check_stamps({Path(self.source.path): self.stamp})

    def _matrix(self, vectors: Items, first: int) -> Array:
        self.dim = self.dim or next((len(v) for v in vectors if isinstance(v, np.ndarray)), None)
        if isinstance(vectors, np.ndarray) and vectors.shape[1:] == (self.dim,):
            return vectors
        for row, vector in enumerate(vectors, first):
            reason = self._reason(vector)
            if reason is not None:
                raise BadRowError(f"{self.source.path}: row {row} {reason}")
        return np.stack(list(vectors))

    def _reason(self, vector: Any) -> str | None:
        if vector is None:
            return "has no vector"
        if isinstance(vector, Unreadable):
            return vector.reason
        if vector.shape == (self.dim,):
            return None
        return f"has {len(vector)} numbers, it must have {self.dim} as the first"


class _Cursor:
    """Goes on where the last read ended: rows are mostly asked for in ascending order."""

    _SIZE = 1024

    def __init__(self, reader: VectorReader) -> None:
        self._reader = reader
        self._open(0)

    def _open(self, row: int) -> None:
        self._parts = self._reader.guarded(row, self._reader.n, self._SIZE, False)
        self._first = row
        self._held: Items = []

    @property
    def _end(self) -> int:
        return self._first + len(self._held)

    def read(self, rows: npt.NDArray[np.int64]) -> Items:
        """Some rows in ascending order; apart from others only they are read."""
        hop = self._reader.hop
        runs = [rows] if hop is None else np.split(rows, np.flatnonzero(np.diff(rows) > hop) + 1)
        if len(runs) == 1:
            return self._read_on(rows)
        return join([items for run in runs for items in self._read_apart(run)])

    def _read_apart(self, run: npt.NDArray[np.int64]) -> Iterator[Items]:
        first = int(run[0])
        for part in self._reader.guarded(first, int(run[-1]) + 1, self._SIZE, False):
            inside = run[(run >= first) & (run < first + len(part.vectors))]
            yield _pick(part.vectors, inside - first)
            first += len(part.vectors)

    def _read_on(self, rows: npt.NDArray[np.int64]) -> Items:
        found: list[Items] = []
        while len(rows):
            self._go_to(int(rows[0]))
            count = int(np.searchsorted(rows, self._end))
            found.append(_pick(self._held, rows[:count] - self._first))
            rows = rows[count:]
        return join(found)

    def _go_to(self, row: int) -> None:
        hop = self._reader.hop
        if row < self._first or (hop is not None and row > self._end + hop):
            self._open(row)
        while row >= self._end:
            part = next(self._parts, None)
            if part is None:
                raise InvalidLatentsError(
                    f"{self._reader.source.path} ends before row {row}: was it cut short?"
                )
            self._first, self._held = self._end, part.vectors


def join(parts: list[Items]) -> Items:
    """Rows of several parts: one matrix if all are matrices of one width, else a list."""
    shapes = {(p.shape[1:], p.dtype) if isinstance(p, np.ndarray) else None for p in parts}
    if len(shapes) == 1 and None not in shapes:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    return [row for part in parts for row in part]


def rebatch(parts: Iterator[Part], size: int) -> Iterator[Part]:
    """The same rows, exactly `size` in each part but the last."""
    held: list[Part] = []
    for part in parts:
        held.append(part)
        while sum(len(p.vectors) for p in held) >= size:
            whole_part = _joined(held)
            yield _cut(whole_part, 0, size)
            rest = _cut(whole_part, size, len(whole_part.vectors))
            held = [rest] if len(rest.vectors) else []
    if held and len((last := _joined(held)).vectors):
        yield last


def stacked(rows: list[Any]) -> Items:
    """Rows as a matrix where each is an array of one width, else as they are."""
    if rows and all(isinstance(row, np.ndarray) for row in rows) and len(set(map(len, rows))) == 1:
        return np.stack(rows)
    return rows


def file_identity(path: Path) -> dict[str, Any]:
    """Name, size and time of the last change."""
    stat = path.stat()
    return {"name": name_of(path), "size": stat.st_size, "changed": stat.st_mtime_ns}


def name_of(path: Path) -> str:
    """A file's name as JSON can hold it, though it may not be UTF-8."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def file_stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced.

    One of the times is that of its inode, which nobody can put back; it changes with the file's
    name, links and permissions, too. A second change within one tick of the file system's clock
    would not show in it, so a file that was written just now is stamped a moment later.
    """
    stat = path.stat()
    if 0 <= time.time_ns() - stat.st_ctime_ns < _TICK:
        time.sleep(_TICK / 1e9)
        stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def check_stamps(stamps: Mapping[Path, tuple[int, ...]]) -> None:
    """Refuses files that are others than those that were opened.

    Raises:
        InvalidLatentsError: One was written, replaced or removed since.
    """
    for path, stamp in stamps.items():
        if not path.exists() or file_stamp(path) != stamp:
            raise InvalidLatentsError(
                f"{path} was changed while it was read: start again once no other process writes, "
                "renames or links it"
            )


@contextlib.contextmanager
def whole(path: object, what: str = "file of vectors") -> Iterator[None]:
    """Turns the errors of a file that is truncated or of another kind into one that names it.

    Raises:
        InvalidLatentsError: The file cannot be read as what its name says.
        OSError: The system cannot read it.
    """
    try:
        yield
    except (LatentBridgeError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except MemoryError as error:
        detail = " ".join(str(error).split()) or "no room"
        raise InvalidLatentsError(
            f"{path} does not fit in memory, or is damaged: {detail[:200]}"
        ) from error
    except (*_BROKEN, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno:  # of the system, not of the content
            raise OSError(error.errno, f"cannot read {path}: {error.strerror}") from error
        if isinstance(error, UnicodeDecodeError):
            raise InvalidLatentsError(f"{path} must be UTF-8: save it so ({error})") from error
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidLatentsError(
            f"{path} is not a whole {what}, or is damaged: {detail[:200]}"
        ) from error


def _pick(items: Items, positions: npt.NDArray[np.int64]) -> Items:
    if isinstance(items, np.ndarray):
        return np.asarray(items[positions])
    return [items[position] for position in positions]


def _joined(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    first, *others = [part.payload for part in parts]
    vectors = join([part.vectors for part in parts])
    return Part(vectors, first.joined(others) if first is not None else None)


def _cut(part: Part, start: int, stop: int) -> Part:
    payload = None if part.payload is None else part.payload.cut(start, stop)
    return Part(part.vectors[start:stop], payload)
