"""Datasets on the Hub or in a folder, opened at one commit, and their columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.items import Items, Unreadable
from hf_latent_bridge.errors import DatasetError, HubUnavailableError, RepoAccessError
from hf_latent_bridge.extras import require
from hf_latent_bridge.hub import client
from hf_latent_bridge.vectors.columns import Column, as_index, fingerprint
from hf_latent_bridge.vectors.reader import VectorSource
from hf_latent_bridge.vectors.tables import TableReader, decode_vectors, tops_of

if TYPE_CHECKING:
    from datasets import Dataset


def load_dataset(data: str, split: str | None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A split of a dataset on the Hub or in a folder, and where it comes from.

    Args:
        data: Repo id or folder.
        split: Such as "train".
        options: `name`, `revision`, `token` and `streaming`, as `load_pairs` takes them.

    Raises:
        MissingExtraError: `datasets` is not installed.
        RepoNotFoundError: No such dataset or revision.
        RepoAccessError: The dataset is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DatasetError: No such configuration or split, or no rows.
    """
    require("encoders", "datasets", purpose="reading a dataset")
    commit = None
    if not Path(data).is_dir():
        access = {"revision": options["revision"], "token": options["token"]}
        commit = client.resolve_commit(data, repo_type="dataset", **access)
    loaded = pick_split(_read(data, {**options, "revision": commit}), repr(data), split)
    if not options["streaming"]:
        _check_commit(loaded, data, commit)
    known = {"repo_id": None if commit is None else data, "revision": commit}
    known |= {"name": options["name"], "split": split}
    return loaded, {k: v for k, v in known.items() if v}


def pick_split(loaded: Any, data: str, split: str | None) -> Any:
    """One split of a `DatasetDict`; any other dataset as it is, if it is that split.

    Raises:
        DatasetError: No such split.
    """
    if isinstance(loaded, dict) and hasattr(loaded, "column_names"):  # a DatasetDict
        if split not in loaded:
            raise DatasetError(f"{data} has the splits {sorted(loaded)}, got {split=}")
        return loaded[split]
    own = getattr(loaded, "split", None)
    if None not in (split, own) and str(own) != split:
        raise DatasetError(f"{data} is the split {str(own)!r}, got {split=}")
    return loaded


class DatasetReader(TableReader):
    """A column of vectors in a dataset on the Hub or in a folder."""

    path = None

    def __init__(self, source: VectorSource) -> None:
        """Loads the dataset, as far as it is not cached."""
        super().__init__(source)
        options = {"revision": source.revision, "token": source.token, "streaming": False}
        loaded, self._record = load_dataset(
            source.path, source.split, name=source.config, **options
        )
        self._data = loaded.with_format("arrow")
        self.n = len(loaded)
        self._look(loaded.features.arrow_schema)

    def identity(self) -> dict[str, Any]:
        """Repo, commit, split, column and fingerprint."""
        where = {} if "repo_id" in self._record else {"folder": self.source.path}
        fingerprint = self._data._fingerprint
        return {**where, **self._record, "column": self.column, "fingerprint": fingerprint}

    def tables(self, start: int, stop: int, size: int, columns: list[str] | None) -> Iterator[Any]:
        """Slices of the dataset's Arrow table."""
        data = self._data
        if columns is not None:
            data = data.select_columns(tops_of(data.column_names, columns))
        for first in range(start, stop, size):
            yield data[first : min(first + size, stop)]


@dataclass(frozen=True)
class ArrowColumn(Column):
    """A column of items that Arrow holds: vectors as arrays, pictures decoded one by one."""

    fetch: Callable[[slice | Rows], Any]
    feature: Any
    length: int
    content: str | None = None

    def __len__(self) -> int:
        return self.length

    def read(self, rows: Rows) -> Items:
        """The items of some rows, decoded."""
        return decode(self.fetch(as_index(rows)), self.feature)

    def fingerprint(self) -> str:
        """Equal for equal content: that of the dataset, or a hash of the items."""
        return self.content or fingerprint(list(self))


def dataset_column(dataset: "Dataset", name: str) -> Sequence[Any]:
    """A column of a map-style dataset; through its own format where the user has set one."""
    feature = dataset.features[name]
    kind = dataset.format["type"]
    if kind == "custom" or (kind not in (None, "arrow") and not is_vectors(feature)):
        column: Sequence[Any] = dataset[name]
        return column
    rows = dataset.select_columns([name]).with_format("arrow")
    return ArrowColumn(
        lambda index: rows[index].column(name),
        feature,
        len(dataset),
        f"{dataset._fingerprint} {name}",
    )


def table_column(table: Any, name: str, feature: Any) -> ArrowColumn:
    """A column of an Arrow table in memory."""

    def fetch(index: slice | Rows) -> Any:
        column = table.column(name)
        return column[index] if isinstance(index, slice) else column.take(index)

    return ArrowColumn(fetch, feature, len(table))


def is_vectors(feature: Any) -> bool:
    """Whether each row of such a column is a list of floating-point numbers."""
    inner = getattr(feature, "feature", None)
    return str(getattr(inner, "dtype", "")).startswith("float") and not hasattr(inner, "feature")


def decode(column: Any, feature: Any) -> Items:
    """An Arrow column as a list of items, or as a matrix if each row is a vector of one width."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if _holds_vectors(array.type):
        return decode_vectors(array, None)
    items: list[Any] = array.to_pylist()
    if getattr(feature, "decode", False):
        return [_decoded(feature, item) for item in items]
    return items


def _holds_vectors(kind: Any) -> bool:
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in lists) and types.is_floating(kind.value_type)


def _decoded(feature: Any, item: Any) -> Any:
    if item is None:
        return None
    try:
        return feature.decode_example(item)
    except Exception as error:  # image libraries raise anything
        what = type(feature).__name__.lower()
        return Unreadable(f"is not a readable {what} ({' '.join(str(error).split())[:80]})")


def _read(data: str, options: dict[str, Any]) -> Any:
    import datasets

    try:
        if any((Path(data) / f"dataset_{kind}.json").is_file() for kind in ("info", "dict")):
            return datasets.load_from_disk(data)
        with client.bounded_waits():
            return datasets.load_dataset(data, **options)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise RepoAccessError(
            f"dataset {data!r} is gated: ask for access on its page and pass a token that has it"
        ) from error
    except ConnectionError as error:
        raise HubUnavailableError(
            f"dataset {data!r} is not in the cache and the Hub was not reached: {error}"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"dataset {data!r} cannot be read: {error}") from error


def _check_commit(loaded: "Dataset", data: str, commit: str | None) -> None:
    """`datasets` falls back to what it has cached, of whatever commit, when a download fails."""
    files = [Path(file["filename"]) for file in loaded.cache_files]
    if commit and files and not any(commit in file.parts for file in files):
        raise HubUnavailableError(
            f"dataset {data!r} at {commit} could not be downloaded: only other commits of it are "
            "cached; check the network, your token and access, or name one of them as revision"
        )
