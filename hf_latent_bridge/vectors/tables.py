"""Vectors in columns of tables: Parquet, Arrow, Feather, and datasets."""

import abc
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hf_latent_bridge.data.items import Array, Items, Unreadable
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import Field, find_field, is_well_known, likely
from hf_latent_bridge.vectors.numbers import (
    FLOAT32,
    floating,
    is_vector_text,
    parse_vector,
    to_floats,
    width,
)
from hf_latent_bridge.vectors.reader import Part, Scale, VectorReader, VectorSource, stacked, whole

_BUFFER = 2**20
_SAMPLE = 100  # first rows, in which texts are checked for vectors


@dataclass(frozen=True)
class TableRows:
    """Rows as an Arrow table, with their vectors in `field`."""

    rows: Any
    field: Field

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, start: int, stop: int) -> Self:
        """The payload of some of the rows."""
        return type(self)(self.rows.slice(start, stop - start), self.field)

    def joined(self, others: "list[TableRows]") -> Self:
        """This payload followed by others, which may have other columns.

        Raises:
            InvalidLatentsError: A column has types that have none in common.
        """
        import pyarrow

        parts: list[TableRows] = [self, *others]
        try:
            rows = pyarrow.concat_tables(
                [part.rows for part in parts], promote_options="permissive"
            )
        except pyarrow.ArrowException as error:
            raise InvalidLatentsError(
                f"the shards hold columns of one name and different types ({error}): write them "
                "with the same type"
            ) from error
        return type(self)(rows, self.field)

    def objects(self, vectors: Array) -> list[dict[str, Any]]:
        """A JSON object per row, with the vectors (n, d)."""
        import pyarrow

        objects: list[dict[str, Any]] = self._with(pyarrow.nulls(len(self))).to_pylist()
        *path, last = self._keys
        for row, vector in zip(objects, vectors.tolist(), strict=True):
            parent: Any = row
            for name in path:
                parent = parent and parent[name]
            if parent is not None:  # a struct that is null has no place for it
                parent[last] = vector
        return objects

    def table(self, vectors: Array) -> Any:
        """The table with the vectors (n, d) in their column, at its place."""
        return self._with(vector_array(vectors))

    def _with(self, new: Any) -> Any:
        """The table with another column of vectors."""
        names = self.rows.column_names
        top, *path = self._keys
        if self.field.is_wide:
            at = min(names.index(column) for column in self.field.columns)
            return self.rows.drop_columns(list(self.field.columns)).add_column(at, top, new)
        if path:
            new = _put(self.rows.column(top).combine_chunks(), path, new)
        return self.rows.set_column(names.index(top), top, new)

    @property
    def _keys(self) -> list[str]:
        if self.field.is_wide:
            return [self.field.title(self.rows.column_names)]
        return route(self.field.name, self.rows.schema)


class TableReader(VectorReader):
    """A column of vectors in a table. A kind of table implements `tables` and calls `_look`."""

    field: Field
    alike = True

    @abc.abstractmethod
    def tables(self, start: int, stop: int, size: int, columns: list[str] | None) -> Iterator[Any]:
        """Arrow tables with rows from `start` to `stop`; None for all columns."""

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Decodes tables."""
        end = (self.n or 0) if stop is None else stop
        columns = None if payload else list(self.field.columns)
        for table in self.tables(start, end, size, columns):
            vectors = vectors_of(table, self.field, self.source.scale)
            yield Part(vectors, TableRows(table, self.field) if payload else None)

    def _look(self, schema: Any) -> None:
        """Finds the column by the types and the first rows; then dtype and width.

        Raises:
            InvalidLatentsError: No such column, several could be meant, or two have one name.
        """
        if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
            raise InvalidLatentsError(
                f"{self.source.path}: several columns are named {twice}: rename them"
            )
        texts = [path for path, kind in _leaves(schema) if _is_text(kind)]
        n = self.n or 0
        shown = next(self.tables(0, min(n, _SAMPLE), _SAMPLE, texts), None) if texts else None
        self.field = find_in(schema, shown, self.source.column, self.source.path)
        self.column = self.field.name
        kinds = dict(_leaves(schema))
        stored = [_stored(kinds[column]) for column in self.field.columns]
        kind = np.result_type(*stored) if len(stored) > 1 else stored[0]
        where = f"{self.source.path}: column {self.field.name!r}"
        self.dtype = floating(kind, self.source.scale, where)
        self.integers = np.dtype(kind).kind in "iu"
        dim = len(stored) if self.field.is_wide else None
        if dim is None:
            shown_rows = self.parts(0, min(n, _SAMPLE), _SAMPLE)
            first = (row for part in shown_rows for row in part.vectors)
            dim = next((len(row) for row in first if isinstance(row, np.ndarray)), None)
        else:
            dim = width(dim, kind, self.source.scale)
        self.dim = dim


class ParquetReader(TableReader):
    """A `.parquet` file, decoded page by page; open only while it is read, for shards are many."""

    def __init__(self, source: VectorSource) -> None:
        """Reads what the file says of itself, and looks at its first rows."""
        super().__init__(source)
        self._metadata: Any = None
        with whole(source.path, "parquet file"):
            with self._opened() as file:
                self._metadata, schema = file.metadata, file.schema_arrow
            self.n = self._metadata.num_rows
            self.hop = max(self._group_sizes(), default=0)
            self._look(schema)

    def tables(self, start: int, stop: int, size: int, columns: list[str] | None) -> Iterator[Any]:
        """Tables of the row groups that hold rows of the range."""
        import pyarrow

        first = 0
        with self._opened() as file:
            for group, rows in enumerate(self._group_sizes()):
                row, first = first, first + rows
                if row >= stop or first <= start:
                    continue
                for batch in file.iter_batches(size, [group], columns):
                    cut = slice(max(0, start - row), max(0, min(len(batch), stop - row)))
                    if cut.start < cut.stop:
                        yield pyarrow.Table.from_batches([batch])[cut]
                    row += len(batch)
                    if row >= stop:
                        break

    def _group_sizes(self) -> list[int]:
        groups = range(self._metadata.num_row_groups)
        return [self._metadata.row_group(group).num_rows for group in groups]

    def _opened(self) -> Any:
        """The file, opened so that memory holds pages of it and no whole row group."""
        import pyarrow.parquet

        how = {"metadata": self._metadata, "pre_buffer": False, "buffer_size": _BUFFER}
        return pyarrow.parquet.ParquetFile(self.source.path, **how)


class ArrowReader(TableReader):
    """An Arrow IPC file or stream, or a Feather file; memory holds one batch of it."""

    def __init__(self, source: VectorSource) -> None:
        """Counts the rows of its batches."""
        super().__init__(source)
        self._held: tuple[int, tuple[str, ...] | None, Any] = (-1, None, None)
        with whole(source.path, "Arrow file"):
            with Path(source.path).open("rb") as stream:
                magic = stream.read(6)
            if not magic:
                raise ValueError("it is empty")
            if magic[:4] == b"FEA1":
                raise ValueError("it is of version 1 of Feather: write it again as version 2")
            self._is_file = magic == b"ARROW1"
            self.hop = self.hop if self._is_file else None
            self._schema = self._opened(None).schema
            self._starts = [0]
            for batch in self._all_batches(tuple(self._schema.names[:1])):
                self._starts.append(self._starts[-1] + len(batch))
            self.n = self._starts[-1]
            self._look(self._schema)

    def tables(self, start: int, stop: int, size: int, columns: list[str] | None) -> Iterator[Any]:
        """Slices of the batches that hold rows of the range."""
        import pyarrow

        named = None if columns is None else tuple(columns)
        for first, batch in self._batches(start, stop, named):
            for row in range(max(start, first), min(stop, first + len(batch)), size):
                part = batch.slice(row - first, min(size, stop - row))
                yield pyarrow.Table.from_batches([part])

    def _batches(
        self, start: int, stop: int, columns: tuple[str, ...] | None
    ) -> Iterator[tuple[int, Any]]:
        """The batches that hold rows of a range, each with the number of its first row."""
        if not self._is_file:
            for first, batch in zip(self._starts, self._all_batches(columns), strict=False):
                if first < stop and first + len(batch) > start:
                    yield first, _checked(batch)
            return
        file = self._opened(columns)
        for number, first in enumerate(self._starts[:-1]):
            if first < stop and self._starts[number + 1] > start:
                if self._held[:2] != (number, columns):
                    self._held = number, columns, _checked(file.get_batch(number))
                yield first, self._held[2]

    def _all_batches(self, columns: tuple[str, ...] | None) -> Iterator[Any]:
        opened = self._opened(columns)
        if self._is_file:
            yield from map(opened.get_batch, range(opened.num_record_batches))
        else:
            yield from opened

    def _opened(self, columns: tuple[str, ...] | None) -> Any:
        """The file, to read only some columns; not through a memory map.

        A map would count every page that was read as memory of this process.
        """
        import pyarrow
        from pyarrow import ipc

        fields = None
        if columns is not None:
            names = self._schema.names
            fields = sorted(names.index(name) for name in tops_of(self._schema, columns))
        options = ipc.IpcReadOptions(included_fields=fields)
        opener = ipc.open_file if self._is_file else ipc.open_stream
        return opener(pyarrow.OSFile(self.source.path), options=options)


def _checked(batch: Any) -> Any:
    """The batch; Arrow would end the process at the first use of one that is damaged.

    Raises:
        ArrowInvalid: Lengths, offsets or texts of a column are not valid.
    """
    batch.validate(full=True)
    return batch


def vectors_of(table: Any, field: Field, scale: Scale | None) -> Items:
    """The vectors of a table: a matrix (n, d), or a row each where some are missing or ragged."""
    if field.is_wide:
        return _across(table, field, scale)
    return decode_vectors(column_at(table, field.name), scale)


def column_at(table: Any, path: str) -> Any:
    """A column, or a field of a struct at a path such as `vectors.body`, as one array."""
    import pyarrow
    import pyarrow.compute

    top, *inner = route(path, table.schema)
    column = table.column(top)
    if inner:
        column = pyarrow.compute.struct_field(column, inner)
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):  # of no chunks
        column = pyarrow.array([], column.type)
    return column


def tops_of(schema: Any, columns: Iterable[str]) -> list[str]:
    """The columns of a schema in which columns or fields of structs are."""
    return list(dict.fromkeys(route(path, schema)[0] for path in columns))


def route(path: str, kind: Any) -> list[str]:
    """The names on the way to a field of a schema or struct; a name may hold dots itself."""
    if kind.get_field_index(path) >= 0:
        return [path]
    for field in kind:
        inner = path.removeprefix(f"{field.name}.")
        if inner != path and _test(field.type, "is_struct") and (names := route(inner, field.type)):
            return [field.name, *names]
    return []


def decode_vectors(array: Any, scale: Scale | None) -> Items:
    """An Arrow array of lists or texts as a matrix, or as a row each (None where missing)."""
    import pyarrow

    if isinstance(array.type, pyarrow.DictionaryType):
        array = array.dictionary_decode()
    if isinstance(array.type, pyarrow.BaseExtensionType):
        array = array.storage
    if _is_text(array.type):
        return stacked([None if t is None else parse_vector(t) for t in array.to_pylist()])
    dim = _common_width(array)
    if dim is not None:
        values = array.flatten()
        while hasattr(values.type, "value_type"):
            values = values.flatten()
        stored = values.to_numpy(zero_copy_only=False).reshape(len(array), -1)
        return to_floats(stored, scale)
    return stacked([_row(row, scale) for row in array])


def find_in(schema: Any, shown: Any, wanted: str | None, where: object) -> Field:
    """The column of vectors of a table.

    Args:
        schema: Its Arrow schema.
        shown: A table of the first rows, by which texts are judged; None where there are none.
        wanted: The column that was named.
        where: The file or dataset, for the error.

    Raises:
        InvalidLatentsError: No such column, or several could be meant.
    """
    leaves = dict(_leaves(schema))
    lists = [path for path, kind in leaves.items() if _is_list_of(kind, "is_floating")]
    lists += [path for path, kind in leaves.items() if _is_text(kind) and _shows(shown, path)]
    if wanted in leaves and wanted not in lists and _is_text(leaves[wanted]):
        lists.append(wanted)
    integers = [path for path, kind in leaves.items() if _is_list_of(kind, "is_integer")]
    lists = likely(lists, integers) if wanted is None else lists + integers
    if wanted in leaves and wanted not in lists:
        raise InvalidLatentsError(
            f"{where}: the column {wanted!r} must hold lists of floats, it holds {leaves[wanted]}; "
            f"there is {lists or 'no column that does'}"
        )
    numbers = [path for path, kind in leaves.items() if _is_number(kind)]
    others = [f"{path} ({kind})" for path, kind in leaves.items() if path not in numbers]
    return find_field(where, wanted, lists, numbers, others)


def array_of(values: list[Any]) -> Any:
    """JSON values as an Arrow array; as JSON texts where Arrow has no common type for them."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.array([json_text(value) for value in values], pyarrow.string())


def json_text(value: Any) -> str | None:
    """A JSON value as text; None and texts as they are."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def vector_array(vectors: Array) -> Any:
    """A matrix (n, d) as an Arrow array of fixed-size lists, without a copy where that can be."""
    import pyarrow

    flat = np.ascontiguousarray(vectors).reshape(-1)
    values = pyarrow.from_numpy_dtype(vectors.dtype)
    kind = pyarrow.list_(values, vectors.shape[1])
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat, values), type=kind)


def _put(column: Any, path: list[str], new: Any) -> Any:
    """A struct array with another field at a path."""
    import pyarrow

    if not path:
        return new
    names = [column.type.field(i).name for i in range(column.type.num_fields)]
    fields = dict(zip(names, column.flatten(), strict=True))
    fields[path[0]] = _put(fields[path[0]], path[1:], new)
    mask = column.is_null() if column.null_count else None
    return pyarrow.StructArray.from_arrays(list(fields.values()), names, mask=mask)


def _leaves(schema: Any) -> list[tuple[str, Any]]:
    """Columns, and fields of structs by their path, with their types."""
    level = [(field.name, field.type) for field in schema]
    found = []
    while level:
        name, kind = level.pop(0)
        if _test(kind, "is_struct"):
            level[:0] = [(f"{name}.{f.name}", f.type) for f in kind]
        else:
            found.append((name, _plain(kind)))
    return found


def _plain(kind: Any) -> Any:
    """The type of the values of a dictionary, or that stores an extension."""
    import pyarrow

    if isinstance(kind, pyarrow.DictionaryType):
        return kind.value_type
    shape = [size for size in getattr(kind, "shape", None) or [] if size != 1]
    if not isinstance(kind, pyarrow.BaseExtensionType) or len(shape) > 1:
        return kind
    return kind.storage_type


def _test(kind: Any, *names: str) -> bool:
    from pyarrow import types

    return any(getattr(types, name)(kind) for name in names)


def _is_list(kind: Any) -> bool:
    return _test(kind, "is_list", "is_large_list", "is_fixed_size_list") or _test(
        kind, "is_list_view", "is_large_list_view"
    )


def _innermost(kind: Any) -> Any:
    """The type of the numbers in lists of lists."""
    while _is_list(kind):
        kind = kind.value_type
    return kind


def _is_list_of(kind: Any, *tests: str) -> bool:
    return _is_list(kind) and _test(_innermost(kind), *tests)


def _is_text(kind: Any) -> bool:
    return _test(kind, "is_string", "is_large_string", "is_string_view")


def _is_number(kind: Any) -> bool:
    return _test(kind, "is_floating", "is_integer")


def _stored(kind: Any) -> Any:
    return FLOAT32 if _is_text(kind) else np.dtype(_innermost(kind).to_pandas_dtype())


def _shows(shown: Any, path: str) -> bool:
    """Whether the first texts of a column spell vectors."""
    if shown is None:
        return False
    first = next((text for text in column_at(shown, path).to_pylist() if text), None)
    known = is_well_known(path)
    return is_vector_text(first) or (known and isinstance(parse_vector(first or ""), np.ndarray))


def _common_width(array: Any) -> int | None:
    """The width of all rows; None where they differ, or some are missing or hold nulls."""
    from pyarrow import compute

    if array.null_count or not len(array):
        return None
    dim, inner = 1, array
    while _is_list(inner.type):
        lengths = compute.list_value_length(inner)
        widths = compute.unique(lengths).to_pylist()
        inner = inner.flatten()
        if len(widths) != 1 or inner.null_count or not widths[0]:
            return None
        if dim > 1 and widths[0] > 1:
            return None
        dim *= widths[0]
    return dim


def _row(row: Any, scale: Scale | None) -> Array | Unreadable | None:
    value = row.as_py()
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if value is None:
        return None
    if not value:
        return Unreadable("is an empty list")
    if any(number is None for number in value):
        return Unreadable("holds an empty value")
    if any(isinstance(number, list) for number in value):
        return Unreadable(f"is not a vector but {len(value)} lists")
    stored = np.array(value, np.dtype(_innermost(row.type).to_pandas_dtype()))
    vector: Array = to_floats(stored[None], scale)[0]
    return vector


def _across(table: Any, field: Field, scale: Scale | None) -> Items:
    """One column per dimension as a matrix, or as a row each where values are missing."""
    columns = [column_at(table, name) for name in field.columns]
    missing = np.zeros(len(table), bool)
    for column in columns:
        if column.null_count:
            missing |= column.is_null().to_numpy(zero_copy_only=False)
    filled = [c.fill_null(0) if c.null_count else c for c in columns]
    stored = np.stack([c.to_numpy(zero_copy_only=False) for c in filled], axis=1)
    vectors = to_floats(stored, scale)
    if not missing.any():
        return vectors
    bad = Unreadable("holds an empty value")
    return [bad if gone else row for row, gone in zip(vectors, missing, strict=True)]
