"""Columns of latents in tables: parquet files, and datasets on the Hub or in a folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.hub import client
from hf_latent_bridge.translation.sources import Place, Rows, file_identity, only

if TYPE_CHECKING:
    import pyarrow


class ParquetColumn:
    """A list column of a parquet file, read row group by row group."""

    def __init__(self, place: Place) -> None:
        """Opens the file and looks at its first row."""
        import pyarrow
        import pyarrow.parquet

        self.path = Path(place.name)
        try:
            self._file = pyarrow.parquet.ParquetFile(place.name)
        except pyarrow.ArrowInvalid as error:
            raise InvalidLatentsError(
                f"{place.name} is not a whole parquet file: {error}"
            ) from error
        self._column = only(self.path, self._file.schema_arrow.names, place.column)
        self.n: int = self._file.metadata.num_rows
        self.dtype = _dtype(place.name, self._file.schema_arrow.field(self._column).type)
        self.width: int | None = next((b.shape[1] for b in self.blocks(0, 1, 1)), None)

    def identity(self) -> dict[str, Any]:
        """Name, size and time of the last change of the file."""
        return file_identity(self.path)

    def blocks(self, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        """Decodes only the row groups that hold rows of the range."""
        stop = self.n if stop is None else stop
        return rebatch(self._parts(start, stop, size), size)

    def _parts(self, start: int, stop: int, size: int) -> Iterator[Rows]:
        first = 0
        for group in range(self._file.num_row_groups):
            last = first + self._file.metadata.row_group(group).num_rows
            if first < stop and last > start:
                row = first
                for batch in self._file.iter_batches(size, [group], [self._column]):
                    part = batch.column(0)
                    cut = slice(max(0, start - row), max(0, min(len(part), stop - row)))
                    if cut.start < cut.stop:
                        yield _matrix(part[cut], f"{self.path}", row + cut.start)
                    row += len(part)
            first = last


class DatasetColumn:
    """A list column of a dataset on the Hub or in a folder."""

    path: Path | None = None

    def __init__(self, place: Place) -> None:
        """Loads the dataset, as far as it is not cached."""
        self._place = place
        data, commit = _load(place)
        names = list(data.column_names)
        self._column = only(Path(place.name), names, place.column)
        self._data = data.select_columns([self._column]).with_format("arrow")
        self.n: int = len(data)
        self._facts = {"repo_id" if commit else "folder": place.name, "revision": commit}
        self._facts |= {"name": place.config, "split": place.split, "column": self._column}
        self._facts |= {"fingerprint": data._fingerprint}
        self.dtype = _dtype(place.name, self._data.features.arrow_schema.field(0).type)
        self.width: int | None = next((b.shape[1] for b in self.blocks(0, 1, 1)), None)

    def identity(self) -> dict[str, Any]:
        """Repo, commit, split, column and fingerprint."""
        return {name: fact for name, fact in self._facts.items() if fact is not None}

    def blocks(self, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        """Slices of the dataset's Arrow table."""
        stop = self.n if stop is None else stop
        for first in range(start, stop, size):
            part = self._data[first : min(first + size, stop)].column(0).combine_chunks()
            yield _matrix(part, self._place.name, first)


def rebatch(parts: Iterable[Rows], size: int) -> Iterator[Rows]:
    """The same rows in blocks of exactly `size`, but for the last."""
    held: list[Rows] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= size:
            rows = np.concatenate(held) if len(held) > 1 else held[0]
            yield rows[:size]
            held = [rows[size:]] if len(rows) > size else []
    if held:
        yield np.concatenate(held)


def _load(place: Place) -> tuple[Any, str | None]:
    import datasets

    folder = Path(place.name)
    commit = None
    if not folder.is_dir():
        commit = client.resolve_commit(place.name, repo_type="dataset", revision=place.revision)
    try:
        if any((folder / f"dataset_{kind}.json").is_file() for kind in ("info", "dict")):
            loaded: Any = datasets.load_from_disk(place.name)
        else:
            loaded = datasets.load_dataset(place.name, place.config, revision=commit)
    except (OSError, ValueError) as error:
        raise InvalidLatentsError(f"dataset {place.name} cannot be read: {error}") from error
    if isinstance(loaded, dict):
        if place.split not in loaded:
            raise InvalidLatentsError(
                f"dataset {place.name} has the splits {sorted(loaded)}, got {place.split}"
            )
        loaded = loaded[place.split]
    return loaded, commit


def _dtype(name: str, kind: "pyarrow.DataType") -> np.dtype[np.floating]:
    values = getattr(kind, "value_type", None)
    if values is None or str(values) not in ("halffloat", "float", "double"):
        raise InvalidLatentsError(f"{name}: the column must hold lists of floats, it holds {kind}")
    return np.dtype({"halffloat": "f2", "float": "f4", "double": "f8"}[str(values)])


def _matrix(column: Any, name: str, start: int) -> Rows:
    """A list array as a matrix (n, d), without a copy; `start` is the number of its first row."""
    import pyarrow.compute as pc

    values = column.flatten()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    bad = lengths != lengths[0]  # a missing list has length NaN
    if bad.any() or column.null_count:
        row = int(np.argmax(bad | np.isnan(lengths)))
        raise InvalidLatentsError(
            f"{name}: rows must be {lengths[0]:.0f} wide, row {start + row} is {lengths[row]}"
        )
    if values.null_count:
        row = int(values.is_null().index(True).as_py() // lengths[0])
        raise InvalidLatentsError(f"{name}: row {start + row} holds an empty value")
    rows: Rows = values.to_numpy().reshape(len(column), -1)
    return rows
