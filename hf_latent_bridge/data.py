"""Paired items: which columns of which dataset say the same thing to two encoders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_latent_bridge import hub
from hf_latent_bridge.errors import HubUnavailableError, InvalidPairsError, RepoAccessError

if TYPE_CHECKING:
    from datasets import Dataset

Columns = Mapping[str, Sequence[Any]] | Sequence[Sequence[Any]]


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
        if isinstance(self.source, str) or isinstance(self.target, str):
            raise InvalidPairsError(
                "pairs need two lists of items, got one text: wrap it in a list"
            )
        if len(self.source) != len(self.target):
            raise InvalidPairsError(
                f"pairs need as many source as target items, got {len(self.source)} and "
                f"{len(self.target)}"
            )
        if len(self.source) == 0:
            raise InvalidPairsError("pairs need at least one item, got none")

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, n: int, *, seed: int = 0) -> "Pairs":
        """`n` of the pairs without replacement, in their order; all where there are fewer.

        Raises:
            InvalidPairsError: `n` is less than 1.
        """
        if n < 1:
            raise InvalidPairsError(f"max_pairs must be at least 1, got {n}")
        if n >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        provenance = self.dataset and {**self.dataset, "max_pairs": n, "seed": seed}
        return Pairs(_Selection(self.source, rows), _Selection(self.target, rows), provenance)

    def batches(self, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Consecutive batches of at most `size` pairs.

        Raises:
            InvalidPairsError: An item is None or an empty text; names its side and its row in the
                dataset.
        """
        for start in range(0, len(self), size):
            rows = range(start, min(start + size, len(self)))
            yield (
                _checked("source", self.source, rows),
                _checked("target", self.target, rows),
            )


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
        RepoAccessError: The dataset is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        InvalidPairsError: No such split or column, unequal lengths, no rows.
    """
    columns, provenance = _open(data, name, split, revision, token)
    if isinstance(columns, Sequence):
        pairs = Pairs(*columns)
    else:
        target = target or source
        provenance |= {"source": source, "target": target}
        pairs = Pairs(_column(columns, source), _column(columns, target), provenance)
    return pairs if max_pairs is None else pairs.sample(max_pairs, seed=seed)


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


def _open(
    data: "str | Path | Dataset | Columns",
    name: str | None,
    split: str | None,
    revision: str | None,
    token: str | bool | None,
) -> tuple[Any, dict[str, Any]]:
    """Two lists or columns by name, and where they come from."""
    if isinstance(data, str | Path):
        return _load_dataset(str(data), name, split, revision, token)
    if isinstance(data, list | tuple):
        if len(data) != 2:
            raise InvalidPairsError(f"pairs need two lists, one for each side, got {len(data)}")
        return data, {}
    return _pick_split(data, "the dataset", split), {"split": split} if split else {}


def _load_dataset(
    data: str, name: str | None, split: str | None, revision: str | None, token: str | bool | None
) -> tuple["Dataset", dict[str, Any]]:
    import datasets

    commit, folder = None, Path(data)
    if not folder.is_dir():
        commit = hub.resolve_commit(data, repo_type="dataset", revision=revision, token=token)
    try:
        if any((folder / f"dataset_{kind}.json").is_file() for kind in ("info", "dict")):
            loaded: Any = datasets.load_from_disk(data)
        else:
            loaded = datasets.load_dataset(data, name, revision=commit, token=token)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise RepoAccessError(
            f"dataset {data!r} is gated: ask for access on its page and pass a token that has it"
        ) from error
    except ConnectionError as error:
        raise HubUnavailableError(
            f"dataset {data!r} is not in the cache and the Hub was not reached: {error}"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidPairsError(f"dataset {data!r} cannot be read: {error}") from error
    loaded = _pick_split(loaded, repr(data), split)
    _check_commit(loaded, data, commit)
    known = {"repo_id": None if commit is None else data, "revision": commit}
    known |= {"name": name, "split": split}
    return loaded, {k: v for k, v in known.items() if v}


def _check_commit(loaded: "Dataset", data: str, commit: str | None) -> None:
    """`datasets` falls back to what it has cached, of whatever commit, when a download fails."""
    files = [Path(file["filename"]) for file in loaded.cache_files]
    if commit and files and not any(commit in file.parts for file in files):
        raise HubUnavailableError(
            f"dataset {data!r} at {commit} could not be downloaded: only other commits of it are "
            "cached; check the network, your token and access, or name one of them as revision"
        )


def _pick_split(loaded: Any, data: str, split: str | None) -> Any:
    if isinstance(loaded, dict) and hasattr(loaded, "column_names"):  # a DatasetDict
        if split not in loaded:
            raise InvalidPairsError(f"{data} has the splits {sorted(loaded)}, got {split=}")
        return loaded[split]
    own = getattr(loaded, "split", None)
    if None not in (split, own) and str(own) != split:
        raise InvalidPairsError(f"{data} is the split {str(own)!r}, got {split=}")
    return loaded


def _column(columns: Any, name: str | None) -> Sequence[Any]:
    known = list(getattr(columns, "column_names", None) or columns)
    if name not in known:
        raise InvalidPairsError(f"pairs need column names out of {known}, got {name!r}")
    column: Sequence[Any] = columns[name]
    if not hasattr(column, "__len__"):
        raise InvalidPairsError(
            f"pairs need columns of known length, got {type(column).__name__}: take some rows of a "
            "streamed dataset first, such as list(dataset.take(1000))"
        )
    return column


def _checked(side: str, column: Sequence[Any], rows: range) -> list[Any]:
    items = list(column[rows.start : rows.stop])
    for position, item in zip(rows, items, strict=True):
        if item is None or (isinstance(item, str) and not item.strip()):
            row = column.rows[position] if isinstance(column, _Selection) else position
            what = "missing" if item is None else "an empty text"
            raise InvalidPairsError(f"row {row} of the {side} column is {what}: drop this pair")
    return items
