"""Latents of one encoder on disk: two files that only grow, and a checksum for each row."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hf_latent_bridge import atomic

ABOUT = "about.json"
_RECORD = np.dtype([("key", "<u8"), ("checksum", "<u8")])
_SMALL = 4096


class LatentStore:
    """Rows of bytes by key; any number of processes may read and write at once.

    `rows.bin` holds the rows, `index.bin` for each the start of its key and a checksum over key
    and row. Writers take turns. A reader skips rows with a wrong checksum, so a row that was
    written in part or damaged counts as missing and is written again.

    Attributes:
        folder: Where the two files are; made by the first write.
        row_bytes: Length of a row.
        about: What the rows are, in JSON; its file's time is that of the last use.
    """

    def __init__(self, folder: Path, row_bytes: int, about: bytes) -> None:
        self.folder = folder
        self.row_bytes = row_bytes
        self.about = about
        self._inode: int | None = None
        self._seen = 0
        self._recent: dict[int, int] = {}
        self._keys: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._rows: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def read(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The rows of those keys that are there and undamaged.

        Args:
            keys: Keys of 16 bytes.
        """
        self._catch_up()
        found = [(row, key) for key in dict.fromkeys(keys) if (row := self._find(key)) is not None]
        if not found:
            return {}
        index_file, rows_file = self.folder / "index.bin", self.folder / "rows.bin"
        try:
            with index_file.open("rb") as index, rows_file.open("rb") as rows:
                with contextlib.suppress(OSError):  # others keep it, and it cannot be written
                    os.utime(self.folder / ABOUT)
                return dict(self._read_rows(sorted(found), index, rows))
        except FileNotFoundError:  # cleared since
            return {}

    def write(self, rows: Mapping[bytes, bytes]) -> None:
        """Adds rows, but for those that another process has added meanwhile.

        Args:
            rows: Rows of `row_bytes` by their keys of 16 bytes.
        """
        with atomic.writing(self.folder), locked(self.folder):
            self.folder.mkdir(exist_ok=True)
            atomic.write_atomic(self.folder / ABOUT, self.about)
            known = self.read(rows)
            new = {key: row for key, row in rows.items() if key not in known}
            records = np.array([(_prefix(k), _checksum(k, r)) for k, r in new.items()], _RECORD)
            n = whole_rows(self.folder, self.row_bytes)
            _append(self.folder / "rows.bin", n * self.row_bytes, b"".join(new.values()))
            _append(self.folder / "index.bin", n * _RECORD.itemsize, records.tobytes())

    def _read_rows(
        self, found: list[tuple[int, bytes]], index: BinaryIO, rows: BinaryIO
    ) -> Iterator[tuple[bytes, bytes]]:
        for number, key in found:
            index.seek(number * _RECORD.itemsize + 8)
            rows.seek(number * self.row_bytes)
            checksum, row = index.read(8), rows.read(self.row_bytes)
            if int.from_bytes(checksum, "little") == _checksum(key, row):
                yield key, row

    def _find(self, key: bytes) -> int | None:
        """The newest row under a key; a damaged one has a newer successor."""
        prefix = _prefix(key)
        if prefix in self._recent:
            return self._recent[prefix]
        place = int(np.searchsorted(self._keys, np.uint64(prefix), side="right")) - 1
        return int(self._rows[place]) if place >= 0 and self._keys[place] == prefix else None

    def _catch_up(self) -> None:
        """Takes up what was appended since; starts over where the files were cleared."""
        try:
            with (self.folder / "index.bin").open("rb") as index:
                stat = os.fstat(index.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._seen * _RECORD.itemsize:
                    self._forget(stat.st_ino)
                index.seek(self._seen * _RECORD.itemsize)
                fresh = index.read()
        except FileNotFoundError:
            self._forget(None)
            return
        records = np.frombuffer(fresh[: len(fresh) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
        numbers = range(self._seen, self._seen + len(records))
        self._recent.update(zip(records["key"].tolist(), numbers, strict=True))
        self._seen += len(records)
        if len(self._recent) > max(_SMALL, len(self._keys) // 8):
            self._merge()

    def _merge(self) -> None:
        """Moves the recent keys to the sorted ones, which need a tenth of the memory."""
        keys = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
        rows = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        keys, rows = np.concatenate([self._keys, keys]), np.concatenate([self._rows, rows])
        order = np.lexsort((rows, keys))
        self._keys, self._rows, self._recent = keys[order], rows[order], {}

    def _forget(self, inode: int | None) -> None:
        self._inode, self._seen, self._recent = inode, 0, {}
        self._keys, self._rows = self._keys[:0], self._rows[:0]


def locked(folder: Path) -> AbstractContextManager[None]:
    """Keeps other writers out; the lock is outside the folder, or it would vanish with it.

    Raises:
        OSError: Nothing can be written there.
        InUseError: Another process has been writing for a minute.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    return atomic.locked(folder.with_suffix(".lock"), folder)


def whole_rows(folder: Path, row_bytes: int) -> int:
    """How many rows are in both files of a store, but for the part of one that a crash left."""
    sizes = [(folder / name) for name in ("rows.bin", "index.bin")]
    if not all(path.is_file() for path in sizes):
        return 0
    rows, index = (path.stat().st_size for path in sizes)
    return min(rows // row_bytes, index // _RECORD.itemsize)


def _append(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b" if path.exists() else "x+b") as stream:
        stream.truncate(start)
        stream.seek(start)
        stream.write(content)


def _prefix(key: bytes) -> int:
    return int.from_bytes(key[:8], "little")


def _checksum(key: bytes, row: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(row, digest_size=8, key=key).digest(), "little")
