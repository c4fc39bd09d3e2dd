"""Payloads in tables: one column a field, or one column of JSON in tables made from nothing."""

import json
from collections.abc import Callable, Collection
from typing import Any

from hf_latent_bridge.errors import StoreError
from hf_latent_bridge.vectors.stores.base import Key
from hf_latent_bridge.vectors.stores.url import StoreUrl

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


def packed(payload: dict[str, Any], url: StoreUrl, key: Key) -> str | None:
    """A payload as what a column of texts holds.

    Args:
        payload: The payload.
        url: Where it goes, for an error.
        key: The id of its row, for an error.

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
        raise no_json(url, key, payload, error) from error


def no_json(
    url: StoreUrl,
    key: Key,
    payload: dict[str, Any],
    error: TypeError,
    default: Callable[[Any], Any] | None = None,
) -> StoreError:
    """The error for a payload that cannot be JSON; names its first field that cannot.

    Args:
        url: Where it goes.
        key: The id of its row.
        payload: The payload.
        error: Why it cannot.
        default: As for `json.dumps`.
    """
    bad = next((n for n, value in payload.items() if not _is_json_value(value, default)), None)
    return StoreError(
        f"{url}: row {key!r} cannot be kept as JSON, for its field {bad!r}: {error}; change it to "
        "a text or a number first, or name a target in the same kind of store"
    )


def _is_json_value(value: Any, default: Callable[[Any], Any] | None) -> bool:
    try:
        json.dumps(value, default=default)
    except TypeError:
        return False
    return True


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
