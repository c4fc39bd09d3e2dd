"""Payloads in tables: one column a field, or one column of JSON in tables made from nothing."""

import json
from collections.abc import Collection
from typing import Any

PAYLOAD = "payload"  # the name of the column of JSON


def is_json(columns: Collection[str]) -> bool:
    """Whether the columns beside key and vector are the one of JSON."""
    return set(columns) == {PAYLOAD}


def packed(payload: dict[str, Any]) -> str:
    """A payload as what the column of JSON holds."""
    return json.dumps(payload)


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """The payload that a row holds, given its columns beside key and vector."""
    if is_json(row):
        content = row[PAYLOAD]
        payload = json.loads(content) if isinstance(content, str) else content
        if isinstance(payload, dict):
            return payload
    return row
