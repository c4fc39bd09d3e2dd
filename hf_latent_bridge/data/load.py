"""load_pairs and load_views: from a dataset, lists or files to pairs, chosen as asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add, getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from hf_latent_bridge.data.pairs import Pairs, Views, check_sides, of_columns
from hf_latent_bridge.data.streams import StreamedPairs, StreamedViews
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.names import check_name
from hf_latent_bridge.vectors.columns import VectorColumn
from hf_latent_bridge.vectors.datasets import (
    DatasetOptions,
    dataset_column,
    load_dataset,
    pick_split,
)
from hf_latent_bridge.vectors.formats import is_vectors_path, open_vectors
from hf_latent_bridge.vectors.ids import check_same_ids
from hf_latent_bridge.vectors.reader import VectorSource

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Columns = Mapping[str, Sequence[Any]] | Sequence[Any]
Names = str | Sequence[str] | None


@overload
def load_pairs(
    data: "str | Path | Dataset | Columns",
    name: Names = ...,
    *,
    split: Names = ...,
    source: str | None = ...,
    target: str | None = ...,
    max_pairs: int | None = ...,
    seed: int = ...,
    deduplicate: bool = ...,
    streaming: Literal[False] = ...,
    **options: Unpack[DatasetOptions],
) -> Pairs: ...
@overload
def load_pairs(
    data: "str | Path | Dataset | IterableDataset | Columns",
    name: Names = ...,
    *,
    split: Names = ...,
    source: str | None = ...,
    target: str | None = ...,
    max_pairs: int | None = ...,
    seed: int = ...,
    deduplicate: bool = ...,
    streaming: bool = ...,
    **options: Unpack[DatasetOptions],
) -> Pairs | StreamedPairs: ...
def load_pairs(
    data: "str | Path | Dataset | IterableDataset | Columns",
    name: Names = None,
    *,
    split: Names = None,
    source: str | None = None,
    target: str | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    deduplicate: bool = False,
    streaming: bool = False,
    **options: Unpack[DatasetOptions],
) -> Pairs | StreamedPairs:
    """Picks two columns of a dataset as pairs, or pairs two lists, arrays or files of vectors.

    Columns may hold texts, pictures (`datasets.Image`), or vectors that an encoder gave earlier.
    Pairs of several datasets add: `load_pairs("me/a", ...) + load_pairs("me/b", ...)`.

    Args:
        data: A Hub dataset's repo id, a folder, a `datasets.Dataset` or `IterableDataset`, a
            mapping of columns, or (source, target), two of these: lists, arrays, files of vectors
            (or folders of numbered ones), or a `VectorSource` that says how to read one. Rows of
            pairs, [(a, b), (c, d)], are refused. Each of several
            processes reads all rows of an `IterableDataset`, and encodes its share: every one
            must give them in the same order, so shuffle it with a seed.
        name: Configuration of a Hub dataset, as `datasets.load_dataset` takes it; several are
            read one after another.
        split: Split of a Hub dataset or folder, such as "train", or several.
        source: Column (or tensor in a file) for the source side.
        target: The same for the target side; None for the source's, encoded by both. In a file,
            the vectors are found without a name where only one column can be meant.
        max_pairs: Take a sample of this many pairs, without replacement; None for all. Of a
            stream, the sample is read now and held in memory.
        seed: Seeds the sample.
        deduplicate: Leave out pairs whose content came before; reads all of them.
        streaming: Read the dataset once from front to end instead of downloading it first.
        options: For a Hub dataset: `revision` (resolved to a commit once), `token`, `cache_dir`,
            `force_download` and `local_files_only`, as huggingface_hub takes them.

    Raises:
        InvalidNameError: The name is empty, or there is none.
        RepoNotFoundError: No such dataset or revision.
        RepoAccessError: The dataset is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DatasetError: No such split or configuration.
        InvalidPairsError: No such column, unequal lengths, no rows, two files whose ids differ, or
            options of a Hub dataset for something else.
        InvalidLatentsError: A file that holds no vectors, or several columns and none is named.
    """
    if data is None or isinstance(data, str | Path):
        check_name(data, wanted="a dataset's repo id, a folder, a dataset or two columns")
    _check_options(data, name, split, {"streaming": streaming, **options})
    if isinstance(data, list | tuple):
        pairs: Any = _pair_up(data, source, target)
    else:
        sides = {"source": source, "target": target or source}
        pairs = _read(data, name, split, sides, streaming=streaming, **options)
    if deduplicate:
        pairs = pairs.deduplicate()
    chosen: Pairs | StreamedPairs = (
        pairs if max_pairs is None else pairs.sample(max_pairs, seed=seed)
    )
    return chosen


def load_views(
    data: "str | Path | Dataset | IterableDataset | Columns",
    views: Mapping[str, str] | None = None,
    name: Names = None,
    *,
    split: Names = None,
    max_pairs: int | None = None,
    seed: int = 0,
    deduplicate: bool = False,
    streaming: bool = False,
    **options: Unpack[DatasetOptions],
) -> Pairs | Views | StreamedPairs | StreamedViews:
    """Picks a column for each of several views, for `fit_shared_space`.

    Several views may read one column (encoders of the same texts), or each its own (a picture and
    its title). It takes and refuses what `load_pairs` does.

    Args:
        data: A Hub dataset's repo id, a folder, a dataset or a mapping of columns; or, without
            `views`, a mapping from each view to its list, array or file of vectors.
        views: The column for each view, by its name.
        name: Configuration of a Hub dataset, or several.
        split: Split of a Hub dataset or folder, or several.
        max_pairs: Take a sample of this many items, without replacement; None for all.
        seed: Seeds the sample.
        deduplicate: Leave out items whose content came before, in all views; reads all of them.
        streaming: Read the dataset once from front to end instead of downloading it first.
        options: As for `load_pairs`.

    Raises:
        InvalidPairsError: No such column, unequal lengths, no rows, or two files whose ids differ.
    """
    sides = list(data.values()) if views is None and isinstance(data, Mapping) else data
    _check_options(sides, name, split, {"streaming": streaming, **options})
    if views is None:
        if not isinstance(data, Mapping):
            raise InvalidPairsError(
                "views need a dataset and the column for each view, "
                "load_views('me/news', {'minilm': 'text', 'mpnet': 'text'}), or a mapping from "
                f"views to files or arrays; got {type(data).__name__} alone"
            )
        columns = {view: _side(column, None) for view, column in data.items()}
        _check_ids(columns.values())
        items: Pairs | Views | StreamedPairs | StreamedViews = of_columns(columns, {})
    else:
        items = _read(data, name, split, views, streaming=streaming, **options)
    if deduplicate:
        items = items.deduplicate()
    return items if max_pairs is None else items.sample(max_pairs, seed=seed)


def _check_options(data: Any, name: Names, split: Names, options: Mapping[str, Any]) -> None:
    """Refuses options that nothing would read.

    Raises:
        InvalidPairsError: Options of a dataset on the Hub or in a folder, and `data` is something
            else.
    """
    if isinstance(data, str | Path):
        return
    read = () if isinstance(data, list | tuple) else ("split", "streaming")
    given = {"name": name, "split": split, **options}
    unread = [key for key, value in given.items() if value not in (None, False) and key not in read]
    if unread:
        raise InvalidPairsError(
            f"{', '.join(unread)}: only for a dataset that is named by its repo id or folder, got "
            f"{type(data).__name__}"
        )


def _each(names: Names) -> Iterable[str | None]:
    return [names] if names is None or isinstance(names, str) else names


def _read(
    data: Any, name: Names, split: Names, columns: Mapping[str, str | None], **options: Any
) -> Any:
    """The columns of all configurations and splits, one after another."""
    parts = (
        _open(data, part, columns, name=config, **options)
        for config in _each(name)
        for part in _each(split)
    )
    return reduce(add, parts)


def _open(
    data: Any, split: str | None, wanted: Mapping[str, str | None], **options: Any
) -> Pairs | Views | StreamedPairs | StreamedViews:
    columns, record = data, dict[str, Any]({"split": split} if split else {})
    own = isinstance(data, str | Path)
    is_array = hasattr(data, "ndim") and not hasattr(data, "keys")  # a data frame has both
    if is_array or isinstance(data, VectorSource) or (own and Path(data).is_file()):
        one = f"the file {data}" if own else f"one {type(data).__name__}"
        raise InvalidPairsError(
            f"pairs need two sides, load_pairs((source, target)), got {one}; name two columns of "
            "one file by two VectorSource"
        )
    if own:
        columns, record = load_dataset(str(data), split, **options)
    else:
        columns = pick_split(data, "the dataset", split)
    if options["streaming"] and hasattr(columns, "to_iterable_dataset"):
        columns = columns.to_iterable_dataset()
    known = _names(columns)
    picked = {name: _known(column, known) for name, column in wanted.items()}
    two_sided = set(picked) == {"source", "target"}
    record |= picked if two_sided else {"views": picked}
    if hasattr(columns, "num_shards") and not hasattr(columns, "__len__"):
        kind = StreamedPairs if two_sided else StreamedViews
        return kind.of(columns, picked, record, by_shard=own)
    pick = dataset_column if hasattr(columns, "select_columns") else getitem
    return of_columns({name: pick(columns, column) for name, column in picked.items()}, record)


def _pair_up(data: Sequence[Any], source: str | None, target: str | None) -> Pairs:
    check_sides(data)
    first, second = _side(data[0], source), _side(data[1], target, source)
    _check_ids((first, second), ", or match them by load_matched_pairs or --id-field")
    return Pairs(first, second)


def _check_ids(columns: Iterable[Sequence[Any]], otherwise: str = "") -> None:
    files = [column.reader for column in columns if isinstance(column, VectorColumn)]
    check_same_ids(*files, otherwise=otherwise)


def _side(side: Any, column: str | None, other: str | None = None) -> Sequence[Any]:
    """A side of the pairs; a file's column is `column`, else `other` if it has one named so."""
    if not is_vectors_path(side):
        items: Sequence[Any] = side
        return items
    source = side if isinstance(side, VectorSource) else VectorSource(str(side))
    named = source if column is None else replace(source, column=column)
    if named.column is None and other is not None:
        try:
            return _vectors(replace(named, column=other))
        except InvalidLatentsError:
            return _vectors(named)
    return _vectors(named)


def _vectors(source: VectorSource) -> VectorColumn:
    reader = open_vectors(source)
    if reader.n is None:
        raise InvalidPairsError("pairs are read by row number, and stdin has none: name a file")
    return VectorColumn(reader)


def _known(name: str | None, known: list[str]) -> str:
    if name is None or name not in known:
        raise InvalidPairsError(f"pairs need column names out of {known}, got {name!r}")
    return name


def _names(columns: Any) -> list[str]:
    if hasattr(columns, "column_names"):
        return list(columns.column_names or next(iter(columns), {}))
    return list(columns)
