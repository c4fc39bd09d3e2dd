"""Datasets on the Hub or in a folder, opened at one commit, and their columns."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from hf_latent_bridge.data.chunks import Rows, Stamps
from hf_latent_bridge.data.items import Items, Unreadable
from hf_latent_bridge.errors import (
    DatasetError,
    HubUnavailableError,
    LatentBridgeError,
    RepoAccessError,
)
from hf_latent_bridge.extras import require
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.waits import bounded_waits, patiently
from hf_latent_bridge.vectors.columns import Column, as_index, fingerprint
from hf_latent_bridge.vectors.reader import VectorSource, check_stamps, file_stamp
from hf_latent_bridge.vectors.shards import is_saved
from hf_latent_bridge.vectors.tables import TableReader, decode_vectors, tops_of

if TYPE_CHECKING:
    from datasets import Dataset

_SAVED = "state.json"  # which is beside the files of such a folder, and not of the cache


class DatasetOptions(TypedDict, total=False):
    """How a dataset is looked for on the Hub, spelled as by huggingface_hub.

    Attributes:
        revision: Branch, tag or commit; resolved to a commit once.
        token: Hub token; None for the one that is logged in, False for none.
        cache_dir: Where `datasets` keeps what it has downloaded and prepared.
        force_download: Download even if cached.
        local_files_only: Use the cache alone.
    """

    revision: str | None
    token: str | bool | None
    cache_dir: str | Path | None
    force_download: bool
    local_files_only: bool


def load_dataset(
    data: str,
    split: str | None,
    *,
    name: str | None = None,
    streaming: bool = False,
    **options: Unpack[DatasetOptions],
) -> tuple[Any, dict[str, Any]]:
    """A split of a dataset on the Hub or in a folder, and where it comes from.

    Args:
        data: Repo id or folder.
        split: Such as "train".
        name: Configuration of the dataset.
        streaming: Read it once from front to end instead of downloading it first.
        options: Where and how it is looked for on the Hub.

    Raises:
        MissingExtraError: `datasets` is not installed.
        RepoNotFoundError: No such dataset or revision, or a revision of a folder.
        RepoAccessError: The dataset is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DatasetError: No such configuration or split, or no rows.
    """
    require("encoders", "datasets", purpose="reading a dataset")
    commit = None
    if Path(data).is_dir():
        if (revision := options.get("revision")) is not None:
            raise client.folder_without_revisions(data, revision)
    else:
        commit, reached = client.resolve(
            data,
            repo_type="dataset",
            revision=options.get("revision"),
            token=options.get("token"),
            local_files_only=options.get("local_files_only", False),
        )
        options["local_files_only"] = not reached
    found = _read_intact(data, commit, options, name=name, streaming=streaming)
    loaded = pick_split(found, repr(data), split)
    if not streaming:
        _check_commit(loaded, data, commit)
    known = {"repo_id": None if commit is None else data, "revision": commit}
    known |= {"name": name, "split": split}
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
        access = DatasetOptions(revision=source.revision, token=source.token)
        loaded, self._record = load_dataset(source.path, source.split, name=source.config, **access)
        self._data, self._files = loaded.with_format("arrow"), saved_files(loaded)
        self.n = len(loaded)
        self._look(loaded.features.arrow_schema)

    def identity(self) -> dict[str, Any]:
        """Repo, commit, split, column and fingerprint."""
        where = {} if "repo_id" in self._record else {"folder": self.source.path}
        fingerprint = self._data._fingerprint
        return {**where, **self._record, "column": self.column, "fingerprint": fingerprint}

    def stamps(self) -> list[tuple[int, ...]]:
        """The stamps of the files of a folder that `save_to_disk` wrote."""
        return list(self._files.values())

    def check_unchanged(self) -> None:
        """Refuses a saved dataset whose files were changed since it was opened.

        Raises:
            InvalidLatentsError: Names the file.
        """
        check_stamps(self._files)

    def tables(self, start: int, stop: int, size: int, columns: list[str] | None) -> Iterator[Any]:
        """Slices of the dataset's Arrow table."""
        data = self._data
        if columns is not None:
            data = data.select_columns(tops_of(data.features.arrow_schema, columns))
        for first in range(start, stop, size):
            yield data[first : min(first + size, stop)]


@dataclass(frozen=True)
class ArrowColumn(Column):
    """A column of items that Arrow holds: vectors as arrays, pictures decoded one by one."""

    fetch: Callable[[slice | Rows], Any]
    feature: Any
    length: int
    content: str | None = None
    files: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.length

    def read(self, rows: Rows) -> Items:
        """The items of some rows, decoded.

        Raises:
            InvalidLatentsError: A file that they are in was changed since it was opened.
        """
        items = decode(self.fetch(as_index(rows)), self.feature)
        if self.files and isinstance(items, np.ndarray):
            items = items.copy()  # out of the file, which may be changed later
        check_stamps(self.files)
        return items

    def stamps(self) -> Stamps:
        """Those of the files that `save_to_disk` wrote."""
        return list(self.files.values())

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
        saved_files(dataset),
    )


def saved_files(dataset: "Dataset") -> dict[Path, tuple[int, ...]]:
    """The files of a folder that `save_to_disk` wrote, with their stamps.

    They may be changed in place, and the dataset's fingerprint, which is saved with them, stays.
    """
    files = {Path(file["filename"]) for file in dataset.cache_files}
    return {file: file_stamp(file) for file in sorted(files) if (file.parent / _SAVED).is_file()}


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


def _read_intact(data: str, commit: str | None, options: DatasetOptions, **how: Any) -> Any:
    """The dataset, read again where a file of it had not the hash that the Hub states.

    `datasets` does not compare them. Files that were in the cache before are looked at only if
    they cannot be read.
    """
    begun = time.time()
    try:
        found = _read(data, commit, options, **how)
    except DatasetError:
        if not _mended(data, commit, options):
            raise
        return _read(data, commit, options, **how)
    if _mended(data, commit, options, since=begun):  # and what was made of them goes
        return _read(data, commit, options, download_mode="reuse_cache_if_exists", **how)
    return found


def _mended(
    data: str, commit: str | None, options: DatasetOptions, *, since: float = 0.0
) -> list[str]:
    if commit is None:
        return []
    access = client.HubOptions(
        token=options.get("token"), local_files_only=options.get("local_files_only", False)
    )
    return client.mend(data, commit, repo_type="dataset", since=since, **access)


def _read(data: str, commit: str | None, options: DatasetOptions, **how: Any) -> Any:
    import datasets

    forced = options.get("force_download", False)
    only_cached = options.get("local_files_only", False)
    how["download_config"] = datasets.DownloadConfig(local_files_only=only_cached)
    how.setdefault("download_mode", "force_redownload" if forced else None)
    how |= {"revision": commit, "token": options.get("token")}
    how["cache_dir"] = options.get("cache_dir") and str(options["cache_dir"])
    try:
        if is_saved(Path(data)):
            if how.get("name") is not None:
                raise DatasetError(
                    f"{data!r} was saved by save_to_disk: leave the name of a "
                    f"configuration out, got {how['name']!r}"
                )
            return datasets.load_from_disk(data)
        return patiently(functools.partial(_attempt, data, how, offline=only_cached))
    except datasets.exceptions.DatasetNotFoundError as error:
        raise RepoAccessError(
            f"dataset {data!r} is gated: ask for access on its page and pass a token that has it"
        ) from error
    except LatentBridgeError:
        raise
    except ConnectionError as error:
        raise HubUnavailableError(
            f"dataset {data!r} is not in the cache and the Hub was not reached: {error}"
        ) from error
    except Exception as error:  # builders raise anything
        clear = client.clear_cause(error, data, revision=commit)
        raise clear or DatasetError(f"dataset {data!r} cannot be read: {error}") from error


def _attempt(data: str, how: dict[str, Any], *, offline: bool) -> Any:
    import datasets

    try:
        with bounded_waits(offline=offline):
            return datasets.load_dataset(data, **how)
    except Exception as error:
        if (cause := client.busy_cause(error)) is not None:
            raise cause from error
        raise


def _check_commit(loaded: "Dataset", data: str, commit: str | None) -> None:
    """`datasets` falls back to what it has cached, of whatever commit, when a download fails."""
    files = [Path(file["filename"]) for file in loaded.cache_files]
    if commit and files and not any(commit in file.parts for file in files):
        raise HubUnavailableError(
            f"dataset {data!r} at {commit} could not be downloaded: only other commits of it are "
            "cached; check the network, your token and access, or name one of them as revision"
        )
