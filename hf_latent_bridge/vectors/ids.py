"""Compares the ids of two files of vectors, row by row: rows of other items make no pairs."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.vectors.reader import VectorReader

NAMES = ("id", "_id", "ids", "uuid", "key", "doc_id", "item_id", "token")
_BLOCK = 8192


def check_same_ids(source: VectorReader, target: VectorReader) -> None:
    """Refuses two readers that hold ids under one name and differ in one; others may be pairs.

    Args:
        source: The source vectors.
        target: The target vectors, as many.

    Raises:
        InvalidPairsError: Names the first row with two ids.
    """
    if source.n != target.n or not source.n:
        return  # which `Pairs` refuses
    known = _fields(source) & _fields(target)
    name = next((name for name in NAMES if name in known), None)
    if name is None:
        return
    for row, (a, b) in enumerate(zip_longest(_ids(source, name), _ids(target, name))):
        if a != b and None not in (a, b):  # a row that cannot be read is told by who reads it
            raise InvalidPairsError(
                f"row {row} has the {name} {a!r} in {source.source.path} and {b!r} in "
                f"{target.source.path}: pairs need the same item in each row; sort both files by "
                f"{name}, and leave out what only one has, or match them by load_matched_pairs or "
                f"--id-field {name}"
            )


def _fields(reader: VectorReader) -> set[str]:
    return {name for row in _objects(reader, 1) if isinstance(row, dict) for name in row}


def _ids(reader: VectorReader, name: str) -> Iterator[str | None]:
    """The ids as texts, for a CSV file knows no others; None for a row that is no object."""
    rows = _objects(reader, reader.n)
    return (str(row.get(name)) if isinstance(row, dict) else None for row in rows)


def _objects(reader: VectorReader, stop: int | None) -> Iterator[Any]:
    """What rows hold besides their vectors."""
    for part in reader.guarded(0, stop, _BLOCK, True):
        if part.payload is None:
            return
        yield from part.payload.objects(np.empty((len(part.vectors), 0)))
