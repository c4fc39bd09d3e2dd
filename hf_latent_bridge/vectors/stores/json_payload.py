"""Payloads in tables: one column a field, or one column of JSON in tables made from nothing."""

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any, overload

from hf_latent_bridge.errors import StoreError

PAYLOAD = "payload"  # the name of the column of JSON


class Held(dict[str, Any]):
    """A payload that was in a column of JSON, with the column's content, to be copied unchanged.

    Attributes:
        content: What the column holds; not JSON where it is a column of texts of someone else.
        is_text: Whether it is a column of texts.
    """

    def __init__(self, content: Any, *, is_text: bool) -> None:
        super().__init__(_fields(content, is_text))
        self.content, self.is_text = content, is_text


class Columns(Sequence[dict[str, Any]]):
    """Payloads as the columns of an Arrow table, from which an object is made where one is read.

    Attributes:
        table: The columns beside key and vector.
    """

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, row: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(row, slice):
            return list(self)[row]
        return next(iter(Columns(self.table.slice(range(len(self))[row], 1))))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(unpacked, self.table.to_pylist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Columns) and self.is_like(other):
            return len(self) == len(other) and not any(self.differing(other))
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int]) -> "Columns":
        """Some rows, with each value as Arrow has it: Python's times have no nanoseconds."""
        import pyarrow as pa

        return Columns(self.table.take(pa.array(rows, pa.int64())))

    @classmethod
    def gathered(cls, rows: Sequence[tuple["Columns", int]]) -> "Columns":
        """Rows of several tables of one schema, each named by its table and its number there."""
        import pyarrow as pa

        tables = {id(columns): columns.table for columns, _ in rows}
        starts = dict(zip(tables, accumulate(map(len, tables.values()), initial=0), strict=False))
        whole = pa.concat_tables(tables.values())
        return cls(whole).take([starts[id(columns)] + row for columns, row in rows])

    def is_like(self, other: "Columns") -> bool:
        """Whether rows of the two can be compared as Arrow has them: fields and types are one.

        Texts of JSON may differ where their objects do not.
        """
        if self.is_json:
            return bool(self.table.equals(other.table))
        return bool(self.table.schema.equals(other.table.schema))

    @property
    def is_json(self) -> bool:
        """Whether the objects stand in one column of JSON."""
        import pyarrow as pa

        if not is_json(self.table.schema.names):
            return False
        kind = self.table.schema.field(PAYLOAD).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def differing(self, other: "Columns") -> list[bool]:
        """Which rows are not those of other columns that are like them."""
        differ = [False] * len(self)
        for name in self.differing_fields(other):
            pairs = zip(self.table.column(name), other.table.column(name), strict=True)
            differ = [d or not _same(*pair) for d, pair in zip(differ, pairs, strict=True)]
        return differ

    def differing_fields(self, other: "Columns") -> list[str]:
        """The fields that may differ somewhere, found a column at a time."""
        names = self.table.schema.names
        return [n for n in names if not self.table.column(n).equals(other.table.column(n))]


def chosen(payloads: Sequence[dict[str, Any]], rows: Sequence[int]) -> Sequence[dict[str, Any]]:
    """Some of the payloads, in columns where they are in columns."""
    if isinstance(payloads, Columns) and payloads.table.num_columns:
        return payloads.take(rows)
    return [payloads[row] for row in rows]


def values_of(payloads: Sequence[dict[str, Any]], name: str) -> list[Any]:
    """A field of each payload; None where it is not there."""
    if not isinstance(payloads, Columns) or payloads.is_json:
        return [payload.get(name) for payload in payloads]
    there = name in payloads.table.schema.names
    values: list[Any] = payloads.table.column(name).to_pylist() if there else [None] * len(payloads)
    return values


def with_text(payloads: Sequence[dict[str, Any]], name: str, text: str) -> Sequence[dict[str, Any]]:
    """The payloads with one more field, in columns where they are in columns."""
    import pyarrow as pa

    if not isinstance(payloads, Columns) or payloads.is_json:
        return [{**payload, name: text} for payload in payloads]
    table = payloads.table.select([n for n in payloads.table.schema.names if n != name])
    return Columns(table.append_column(name, pa.array([text] * len(payloads), pa.string())))


def _same(a: Any, b: Any) -> bool:
    """Whether two values of Arrow are one; not a number is itself, whatever the dictionary."""
    import pyarrow as pa

    if a.equals(b) or not (a.is_valid and b.is_valid):
        return bool(a.is_valid == b.is_valid)
    kind = a.type
    if pa.types.is_floating(kind):
        return bool(a.as_py() != a.as_py() and b.as_py() != b.as_py())
    if pa.types.is_dictionary(kind):
        return _same(a.value, b.value)
    if pa.types.is_struct(kind):
        return all(_same(a[i], b[i]) for i in range(kind.num_fields))
    if pa.types.is_nested(kind):
        return len(a.values) == len(b.values) and all(map(_same, a.values, b.values))
    return False


def is_json(columns: Collection[str]) -> bool:
    """Whether the columns beside key and vector are the one of JSON."""
    return set(columns) == {PAYLOAD}


def packed(payload: dict[str, Any]) -> str | None:
    """A payload as what a column of texts holds.

    Raises:
        StoreError: It holds what JSON has no room for, such as a time.
    """
    value = as_json(payload)
    if isinstance(payload, Held) and (payload.is_text or value is None):
        held: str | None = payload.content
        return held
    try:
        return json.dumps(value)
    except TypeError as error:
        raise StoreError(f"a payload cannot be kept as JSON: {error}") from error


def as_json(payload: dict[str, Any]) -> Any:
    """A payload as what a column of JSON values holds."""
    return payload.content if isinstance(payload, Held) and not payload.is_text else payload


def unpacked(row: dict[str, Any], *, is_text: bool = True) -> dict[str, Any]:
    """The payload that a row holds, given its columns beside key and vector.

    Args:
        row: The columns by name.
        is_text: Whether a column of JSON is one of texts, and not of JSON values.
    """
    return Held(row[PAYLOAD], is_text=is_text) if is_json(row) else row


def _fields(content: Any, is_text: bool) -> dict[str, Any]:
    fields = content
    if is_text and isinstance(content, str):
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError):
            fields = None
    return fields if isinstance(fields, dict) else {PAYLOAD: content}
