"""Payloads in tables: one column a field, or one column of JSON in tables made from nothing."""

import json
from collections.abc import Collection, Iterator, Sequence
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
        if isinstance(other, Columns) and self.table.equals(other.table):
            return True
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


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
