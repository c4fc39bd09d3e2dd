"""Latents as JSON lines: one list of numbers a line, or an object that holds one."""

import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.translation.sources import Place, Rows, file_identity


class JsonLines:
    """Rows of a `.jsonl` file, or of stdin, as float32."""

    width: int | None = None
    dtype: np.dtype[np.floating] = np.dtype("f4")

    def __init__(self, place: Place) -> None:
        """Counts the rows of a file; a stream is left unread."""
        self.path: Path | None = None if place.name == "-" else Path(place.name)
        self._column = place.column
        self._hash = hashlib.sha256()
        self.n: int | None = None
        if self.path is not None:
            if not self.path.exists():
                raise FileNotFoundError(f"there is no file {self.path} to translate")
            with self.path.open("rb") as stream:
                self.n = sum(1 for _ in stream)

    def identity(self) -> dict[str, Any]:
        """Name, size and time of a file; for a stream the hash of what was read."""
        if self.path is not None:
            return file_identity(self.path)
        return {"name": "-", "sha256": self._hash.hexdigest()}

    def blocks(self, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        """Parses rows; those before `start` are passed over unparsed."""
        if self.path is None:
            yield from self._blocks(sys.stdin.buffer, start, stop, size)
        else:
            with self.path.open("rb") as stream:
                yield from self._blocks(stream, start, stop, size)

    def _blocks(self, stream: BinaryIO, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        lines = islice(enumerate(stream), start, stop)
        while block := [self._parse(row, line) for row, line in islice(lines, size)]:
            yield np.stack(block)

    def _parse(self, row: int, line: bytes) -> Rows:
        if self.path is None:
            self._hash.update(line)
        name = self.path or "stdin"
        try:
            content = json.loads(line)
            values = content[self._column] if isinstance(content, dict) else content
            latent = np.array(values, dtype=np.float32)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise InvalidLatentsError(
                f"{name}: row {row} must be a list of numbers, or an object with one under the "
                f"column's name ({self._column}), got {line[:60]!r}"
            ) from error
        self.width = self.width or latent.size
        if latent.shape != (self.width,):
            raise InvalidLatentsError(
                f"{name}: row {row} must be {self.width} wide as the first, got {latent.shape}"
            )
        return latent


def to_lines(rows: Rows) -> bytes:
    """One list a line; reading it back gives the same numbers."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows.tolist())
