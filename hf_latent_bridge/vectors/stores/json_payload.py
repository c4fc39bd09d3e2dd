"""Payloads in tables: one column a field, or one column of JSON in tables made from nothing."""

import json
from collections.abc import Collection
from typing import Any

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


def is_json(columns: Collection[str]) -> bool:
    """Whether the columns beside key and vector are the one of JSON."""
    return set(columns) == {PAYLOAD}


def packed(payload: dict[str, Any]) -> str | None:
    """A payload as what a column of texts holds."""
    value = as_json(payload)
    if isinstance(payload, Held) and (payload.is_text or value is None):
        held: str | None = payload.content
        return held
    return json.dumps(value)


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
