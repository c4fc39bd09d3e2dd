"""Writes files whole or not at all, readable by whoever the umask allows."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content appears at `path` in one step, when the block ends without an error.

    A reader or a crash sees the old file or the new one, never a part.

    Args:
        path: The file to write; its folder must exist.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Puts `content` at `path` in one step.

    Args:
        path: The file to write; its folder must exist.
        content: All of its bytes.
    """
    with open_atomic(path) as stream:
        stream.write(content)
