"""Opens files as bytes, decompressed on the way where their name says so."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
COMPRESSED = tuple(_OPENERS)


def is_compressed(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() in _OPENERS


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed."""
    if is_compressed(path):
        return cast(BinaryIO, _OPENERS[path.suffix.lower()](path, "rb"))
    return path.open("rb")


def plain_suffix(path: Path) -> str:
    """The suffix that says the format, in lower case and without that of a compression."""
    return (path.with_suffix("") if is_compressed(path) else path).suffix.lower()
