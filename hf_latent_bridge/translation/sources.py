"""Where latents to translate come from, and which reader each kind of place has."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.errors import InvalidLatentsError

Rows = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Place:
    """What to read; enough to open it again in another process.

    Attributes:
        name: File, Hub dataset, folder of a dataset, or "-" for JSON lines on stdin.
        column: Column of a table, key of JSON objects or name of a tensor.
        config: Configuration of a Hub dataset.
        split: Split of a dataset.
        revision: Branch, tag or commit of a Hub dataset.
    """

    name: str
    column: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None


class Source(Protocol):
    """Rows of latents.

    Attributes:
        dtype: Floating dtype of the rows.
    """

    dtype: np.dtype[np.floating]

    @property
    def path(self) -> Path | None:
        """The file; None for a stream or a dataset."""

    @property
    def n(self) -> int | None:
        """Number of rows; None for a stream."""

    @property
    def width(self) -> int | None:
        """Their width; None where only reading tells."""

    def identity(self) -> dict[str, Any]:
        """What changes when the rows do, as JSON values."""

    def blocks(self, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        """Rows from `start` to `stop`, `size` at a time."""


def file_identity(path: Path) -> dict[str, Any]:
    """Name, size and time of the last change."""
    stat = path.stat()
    return {"name": path.name, "size": stat.st_size, "changed": stat.st_mtime_ns}


def only(path: Path, names: list[str], wanted: str | None) -> str:
    """The name that is wanted, or the only one there is.

    Raises:
        InvalidLatentsError: There is no such name, or several and none is wanted.
    """
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise InvalidLatentsError(f"{path} holds {sorted(names)}: name one as column, got {wanted}")
    return str(wanted)
