"""Columns of items (texts, ids, pictures) in the datasets and files that arguments name."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_latent_bridge.errors import InvalidPairsError

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".pq", ".txt")


def read_columns(name: str, split: str | None, columns: Sequence[str]) -> list[list[Any]]:
    """Some columns of a dataset or a file of items.

    Args:
        name: A Hub dataset or a folder of one; or a file with a row of named values for each item,
            or with a text on each line, which is the column `text`.
        split: Of a dataset.
        columns: Their names.

    Returns:
        All values of each column.

    Raises:
        InvalidPairsError: No such column, no rows, a row that cannot be read, or another kind of
            file.
        InvalidLatentsError: The file is damaged.
        FileNotFoundError: There is no such file.
        ValueError: A split of a file.
    """
    from hf_latent_bridge.vectors.datasets import load_dataset
    from hf_latent_bridge.vectors.opening import plain_suffix

    path = Path(name)
    suffix = plain_suffix(path)
    if not path.is_file():
        if suffix in _SUFFIXES and not path.exists():
            raise FileNotFoundError(f"there is no file {name}")
        return _of_dataset(load_dataset(name, split)[0], name, columns)
    if suffix not in _SUFFIXES:
        raise InvalidPairsError(f"items are read from {', '.join(_SUFFIXES)}, got {path.name}")
    if split is not None:
        raise ValueError(f"a split is of a dataset, and {path.name} is a file: leave it out")
    if suffix in (".parquet", ".pq"):
        return _of_dataset(_parquet(path, columns), name, columns)
    return _of_rows(_rows(path, suffix), name, columns)


def is_text_file(name: str) -> bool:
    """Whether a file has a text on each line, so that a blank one is not an item."""
    from hf_latent_bridge.vectors.opening import plain_suffix

    return plain_suffix(Path(name)) == ".txt"


def read_lines(path: str) -> list[str]:
    """The lines of a file of text.

    Raises:
        InvalidLatentsError: The file is not UTF-8.
        OSError: It cannot be read.
    """
    from hf_latent_bridge.vectors.reader import whole

    with whole(path, "file of text"):
        return Path(path).read_text(encoding="utf-8-sig").split("\n")


def check_columns(name: str, known: Iterable[str], columns: Iterable[str]) -> None:
    """Refuses a column that is not there.

    Raises:
        InvalidPairsError: Says which, and which there are.
    """
    known = list(known)
    for column in columns:
        if column not in known:
            raise InvalidPairsError(f"{name} has the columns {known}, got {column!r}")


def _of_dataset(data: Any, name: str, columns: Sequence[str]) -> list[list[Any]]:
    check_columns(name, data.column_names, columns)
    return [data[column][:] for column in columns]


def _of_rows(rows: Iterator[Any], name: str, columns: Sequence[str]) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in columns]
    known: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            reason = getattr(row, "reason", f"is not an object, but {row!r:.40}")
            raise InvalidPairsError(f"{name}: row {number} {reason}")
        known |= dict.fromkeys(row)
        for values, column in zip(found, columns, strict=True):
            values.append(row.get(column))
    if not known:
        raise InvalidPairsError(f"{name} has no rows")
    check_columns(name, known, columns)
    return found


def _rows(path: Path, suffix: str) -> Iterator[Any]:
    """A dict for each row, and something else for one that cannot be read as such."""
    from hf_latent_bridge.vectors.lines import JsonLines, json_values
    from hf_latent_bridge.vectors.opening import open_bytes
    from hf_latent_bridge.vectors.reader import VectorSource, whole
    from hf_latent_bridge.vectors.text import CsvReader

    with whole(path, f"{suffix} file"):
        if suffix == ".txt":
            with open_bytes(path) as stream:
                yield from ({"text": line.decode("utf-8-sig").rstrip("\r\n")} for line in stream)
            return
        source = VectorSource(str(path))
        if suffix in (".csv", ".tsv", ".tab"):
            reader: Any = CsvReader(source)
        else:
            reader = (json_values(source) if suffix == ".json" else None) or JsonLines(source)
        yield from reader.values(0, reader.n)


def _parquet(path: Path, columns: Sequence[str]) -> Any:
    """The columns as a dataset, which decodes pictures."""
    import datasets
    import pyarrow.parquet

    from hf_latent_bridge.vectors.reader import whole

    with whole(path, "parquet file"):
        check_columns(str(path), pyarrow.parquet.read_schema(path).names, columns)
        table = pyarrow.parquet.read_table(path, columns=list(dict.fromkeys(columns)))
        return datasets.Dataset(table)
