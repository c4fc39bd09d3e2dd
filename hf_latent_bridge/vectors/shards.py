"""A folder of numbered shards, read as one file after another."""

import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import natural
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource

_MANIFEST = ".manifest.json"  # what `translate` writes beside its output


class ShardsReader(VectorReader):
    """The rows of several files of one format, in natural order: shard-2 before shard-10."""

    path = None

    def __init__(self, source: VectorSource, shards: list[VectorReader]) -> None:
        """Joins opened files.

        Raises:
            InvalidLatentsError: They differ in the width or the column of the vectors.
        """
        super().__init__(source)
        dims = {shard.dim: shard.source.path for shard in shards if shard.n}
        if len(dims) > 1:
            told = ", ".join(
                f"{Path(path).name} has {dim} numbers a row" for dim, path in dims.items()
            )
            raise InvalidLatentsError(f"the shards in {source.path} differ in width: {told}")
        columns = {shard.column: shard.source.path for shard in shards if shard.n}
        if len(columns) > 1:
            told = ", ".join(f"{column!r} in {Path(path).name}" for column, path in columns.items())
            raise InvalidLatentsError(
                f"the shards in {source.path} name their vectors by several names: {told}"
            )
        self._shards = shards
        self._ends = list(accumulate(shard.n or 0 for shard in shards))
        self.n, self.dim = self._ends[-1], next(iter(dims), None)
        self.column = next(iter(columns), None)
        self.integers = any(shard.integers for shard in shards)
        self.dtype = np.result_type(*(shard.dtype for shard in shards))
        hops = [shard.hop for shard in shards]
        self.hop = None if None in hops else max(hop or 0 for hop in hops)

    def identity(self) -> dict[str, Any]:
        """The identity of each file."""
        name = Path(self.source.path).name
        return {"folder": name, "shards": [shard.identity() for shard in self._shards]}

    def stamps(self) -> list[tuple[int, ...]] | None:
        """The stamps of all files."""
        found = [shard.stamps() for shard in self._shards]
        return [stamp for stamps in found for stamp in stamps or []]

    def check_unchanged(self) -> None:
        """Refuses files that are others than were opened."""
        for shard in self._shards:
            shard.check_unchanged()

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Rows of the shards in the range."""
        stop = self.n if stop is None else stop
        for shard, end in zip(self._shards, self._ends, strict=True):
            first = end - (shard.n or 0)
            if first < (stop or 0) and end > start:
                rows = max(0, start - first), min(end, stop or 0) - first
                yield from shard.guarded(*rows, size, payload)


def files_in(folder: Path) -> list[Path]:
    """The numbered files of a folder, in natural order.

    Raises:
        InvalidLatentsError: No files, or files that differ in more than their numbers.
    """
    files = [path for path in folder.iterdir() if not _is_beside(path)]
    if folders := sorted(path.name for path in files if path.is_dir()):
        raise InvalidLatentsError(
            f"the folder {folder} holds folders, {folders[:8]}, and not numbered files alone: name "
            "one of them, or a split of a dataset"
        )
    kinds = {re.sub(r"\d+", "#", path.name) for path in files}
    if len(kinds) > 1:
        raise InvalidLatentsError(
            f"the folder {folder} holds files that are not numbered shards of one kind, "
            f"{sorted(kinds)[:8]} (# is a number): name one file, or a split of a dataset"
        )
    if not files:
        raise InvalidLatentsError(f"the folder {folder} holds no files")
    return sorted(files, key=lambda path: natural(path.name))


def is_saved(folder: Path) -> bool:
    """Whether `datasets` has saved a dataset in a folder."""
    return any((folder / f"dataset_{kind}.json").is_file() for kind in ("info", "dict"))


def _is_beside(path: Path) -> bool:
    """Whether a file says something about the others instead of holding rows."""
    return path.name.startswith((".", "_")) or path.name.endswith((_MANIFEST, ".md"))
