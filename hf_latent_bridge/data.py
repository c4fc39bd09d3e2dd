"""Paired items: which columns of which dataset say the same thing to two encoders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_latent_bridge import hub
from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from datasets import Dataset

Columns = Mapping[str, Sequence[Any]] | tuple[Sequence[Any], Sequence[Any]]


@dataclass(frozen=True)
class Pairs:
    """Items for the source encoder, each with its counterpart for the target encoder.

    Attributes:
        source: Items for the source encoder.
        target: Items for the target encoder, row by row the counterparts.
        dataset: Where they come from; JSON values, recorded in the translator's config.
    """

    source: Sequence[Any]
    target: Sequence[Any]
    dataset: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise InvalidPairsError(
                f"pairs need as many source as target items, got {len(self.source)} and "
                f"{len(self.target)}"
            )
        if len(self.source) == 0:
            raise InvalidPairsError("pairs need at least one item, got none")

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Consecutive batches of at most `size` pairs.

        Raises:
            InvalidPairsError: An item is None or an empty text; names row and side.
        """
        for start in range(0, len(self), size):
            items, counterparts = (
                list(side[start : start + size]) for side in (self.source, self.target)
            )
            _check_items("source", items, start)
            _check_items("target", counterparts, start)
            yield items, counterparts


def load_pairs(
    data: "str | Path | Dataset | Columns",
    name: str | None = None,
    *,
    split: str | None = None,
    source: str | None = None,
    target: str | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Pairs:
    """Picks two columns of a dataset as pairs, or pairs two lists.

    Args:
        data: A Hub dataset's repo id, a folder, a `datasets.Dataset`, a mapping of columns, or
            two lists of equal length.
        name: Configuration of a Hub dataset, as `datasets.load_dataset` takes it.
        split: Split of a Hub dataset or folder, such as "train".
        source: Column for the source encoder.
        target: Column for the target encoder; None for the same column, encoded by both.
        max_pairs: Take a sample of this many pairs, without replacement; None for all.
        seed: Seeds the sample.
        revision: Branch, tag or commit of a Hub dataset; resolved to a commit once.
        token: Hub token; None for the one that is logged in.

    Raises:
        RepoNotFoundError: No such dataset or revision.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        InvalidPairsError: No such split or column, unequal lengths, no rows.
    """
    provenance: dict[str, Any] = {}
    if isinstance(data, tuple):
        columns: Any = dict(zip(("source", "target"), data, strict=True))
        source, target = "source", "target"
    elif isinstance(data, str | Path):
        columns, provenance = _load_dataset(data, name, split, revision, token)
    else:
        columns = data
    target = target or source
    items, counterparts = (_column(columns, column) for column in (source, target))
    provenance |= {"source": source, "target": target}
    if max_pairs is not None and max_pairs < len(items):
        rows = np.random.default_rng(seed).choice(
            len(items), _at_least_one(max_pairs), replace=False
        )
        rows.sort()
        items, counterparts = (_Selection(column, rows) for column in (items, counterparts))
        provenance |= {"max_pairs": max_pairs, "seed": seed}
    return Pairs(items, counterparts, provenance)


@dataclass(frozen=True)
class _Selection(Sequence[Any]):
    """Some rows of a column, read when asked for."""

    column: Sequence[Any]
    rows: "np.typing.NDArray[np.int64]"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.column[int(row)] for row in self.rows[index]]
        return self.column[int(self.rows[index])]


def _load_dataset(
    data: str | Path,
    name: str | None,
    split: str | None,
    revision: str | None,
    token: str | bool | None,
) -> tuple["Dataset", dict[str, Any]]:
    import datasets

    commit, folder = None, Path(data)
    if not folder.is_dir():
        commit = hub.resolve_commit(str(data), repo_type="dataset", revision=revision, token=token)
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        loaded: Any = datasets.load_from_disk(str(data))
    else:
        loaded = datasets.load_dataset(str(data), name, revision=commit, token=token)
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise InvalidPairsError(
                f"dataset {str(data)!r} has the splits {sorted(loaded)}, got split={split!r}"
            )
        loaded = loaded[split]
    known = {"repo_id": None if commit is None else str(data), "revision": commit}
    known |= {"name": name, "split": split}
    return loaded, {k: v for k, v in known.items() if v is not None}


def _column(columns: Any, name: str | None) -> Sequence[Any]:
    known = list(getattr(columns, "column_names", columns))
    if name not in known:
        raise InvalidPairsError(f"pairs need column names out of {known}, got {name!r}")
    column: Sequence[Any] = columns[name]
    return column


def _at_least_one(max_pairs: int) -> int:
    if max_pairs < 1:
        raise InvalidPairsError(f"max_pairs must be at least 1, got {max_pairs}")
    return max_pairs


def _check_items(side: str, items: list[Any], start: int) -> None:
    for row, item in enumerate(items, start):
        if item is None or (isinstance(item, str) and not item.strip()):
            what = "missing" if item is None else "an empty text"
            raise InvalidPairsError(f"row {row} of the {side} column is {what}: drop this pair")
