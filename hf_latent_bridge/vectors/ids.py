"""Compares the ids of two files of vectors, row by row: rows of other items make no pairs."""

from collections.abc import Iterator
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.vectors.reader import VectorReader

NAMES = ("id", "_id", "ids", "uuid", "key", "doc_id", "item_id", "custom_id", "token")
_BLOCK = 8192


def check_same_ids(*readers: VectorReader, otherwise: str = "") -> None:
    """Refuses readers of the same items of which two hold ids under one name and differ in one.

    Args:
        readers: The vectors of each side or view.
        otherwise: What else than sorting them would help, for the error.

    Raises:
        InvalidPairsError: Names the first row with two ids.
    """
    for first, second in combinations(readers, 2):
        _check_same(first, second, otherwise)


def _check_same(source: VectorReader, target: VectorReader, otherwise: str) -> None:
    if source.n != target.n or not source.n:
        return  # which is refused where they meet
    known = _fields(source) & _fields(target)
    name = next((name for name in NAMES if name in known), None)
    if name is None:
        return
    for row, (a, b) in enumerate(zip_longest(_ids(source, name), _ids(target, name))):
        if a != b and None not in (a, b):  # rows that cannot be read are refused when they are
            raise InvalidPairsError(
                f"row {row} has the {name} {a!r} in {source.source.path} and {b!r} in "
                f"{target.source.path}: row i of both must be the same item; sort both by {name}, "
                f"and leave out what only one has{otherwise}"
            )


def _fields(reader: VectorReader) -> set[str]:
    return {name for row in _objects(reader, 1) if isinstance(row, dict) for name in row}


def _ids(reader: VectorReader, name: str) -> Iterator[str | None]:
    """The ids as texts, as CSV files hold them; None for a row that is not an object."""
    rows = _objects(reader, reader.n)
    return (str(row.get(name)) if isinstance(row, dict) else None for row in rows)


def _objects(reader: VectorReader, stop: int | None) -> Iterator[Any]:
    """What rows hold besides their vectors."""
    for part in reader.guarded(0, stop, _BLOCK, True):
        if part.payload is None:
            return
        yield from part.payload.objects(np.empty((len(part.vectors), 0)))
