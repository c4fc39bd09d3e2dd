"""Payloads as the columns of an Arrow table, carried and compared in the types they have there."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, overload

from hf_latent_bridge.errors import StoreError
from hf_latent_bridge.vectors.stores.json_payload import PAYLOAD, is_json, unpacked


class Columns(Sequence[dict[str, Any]]):
    """Payloads as the columns of an Arrow table, from which an object is made where one is read.

    Attributes:
        table: The columns beside key and vector.
        origin: Where they were read, for an error.
    """

    def __init__(self, table: Any, origin: str = "") -> None:
        self.table, self.origin = table, origin

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, row: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(row, slice):
            return list(self)[row]
        return next(iter(Columns(self.table.slice(range(len(self))[row], 1), self.origin)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            return map(unpacked, self.table.to_pylist())
        except (OverflowError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> StoreError:
        for name, column in zip(self.table.schema.names, self.table.columns, strict=True):
            try:
                column.to_pylist()
            except (OverflowError, ValueError):
                return StoreError(
                    f"{self.origin}: the field {name!r} ({column.type}) has a value that Python's "
                    f"objects cannot hold ({error}): change it, or name a target of the same store"
                )
        return StoreError(f"{self.origin}: {error}")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Columns) and self.is_like(other):
            return len(self) == len(other) and not any(self.differing(other))
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int]) -> "Columns":
        """Some rows, with each value as Arrow has it: Python's times have no nanoseconds."""
        import pyarrow as pa

        return Columns(self.table.take(pa.array(rows, pa.int64())), self.origin)

    @classmethod
    def gathered(cls, rows: Sequence[tuple["Columns", int]]) -> "Columns":
        """Rows of several tables of one schema, each named by its table and its number there."""
        import pyarrow as pa

        tables = {id(columns): columns.table for columns, _ in rows}
        starts = dict(zip(tables, accumulate(map(len, tables.values()), initial=0), strict=False))
        whole = pa.concat_tables(tables.values())
        origin = rows[0][0].origin
        return cls(whole, origin).take([starts[id(columns)] + row for columns, row in rows])

    def is_like(self, other: "Columns") -> bool:
        """Whether rows of the two can be compared as Arrow has them: equal names have equal types.

        Texts of JSON may differ where their objects do not.
        """
        if self.is_json or other.is_json:
            return bool(self.table.equals(other.table))
        mine, theirs = self.table.schema, other.table.schema
        return all(
            mine.field(n).type == theirs.field(n).type for n in mine.names if n in theirs.names
        )

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
        differ = [set(self.table.schema.names) != set(other.table.schema.names)] * len(self)
        for name in self.differing_fields(other):
            pairs = zip(self.table.column(name), other.table.column(name), strict=True)
            differ = [d or not _same(*pair) for d, pair in zip(differ, pairs, strict=True)]
        return differ

    def differing_fields(self, other: "Columns") -> list[str]:
        """The fields that may differ somewhere, found a column at a time."""
        names = [n for n in self.table.schema.names if n in other.table.schema.names]
        return [n for n in names if not self.table.column(n).equals(other.table.column(n))]


def chosen(payloads: Sequence[dict[str, Any]], rows: Sequence[int]) -> Sequence[dict[str, Any]]:
    """Some of the payloads, in columns where they are in columns."""
    if isinstance(payloads, Columns) and payloads.table.num_columns:
        return payloads.take(rows)
    return [payloads[row] for row in rows]


def differences(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> list[str]:
    """What is another in the first payload of `b` than in that of `a`, in words, by fields."""
    if isinstance(a, Columns) and isinstance(b, Columns) and a.is_like(b):
        mine, theirs = ({n: c.table.column(n)[0] for n in c.table.schema.names} for c in (a, b))
        differ = [n for n in mine if n in theirs and not _same(mine[n], theirs[n])]
    else:
        mine, theirs = a[0], b[0]
        differ = [n for n in mine if n in theirs and repr(mine[n]) != repr(theirs[n])]
    lacking = [n for n in mine if n not in theirs]
    return [
        *(f"the field {n!r} is not there" + " (it was None)" * (mine[n] is None) for n in lacking),
        *(f"the field {n!r} has another value" for n in differ),
        *(f"the field {n!r} is there and was not written" for n in theirs if n not in mine),
    ]


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
    return Columns(
        table.append_column(name, pa.array([text] * len(payloads), pa.string())), payloads.origin
    )


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
