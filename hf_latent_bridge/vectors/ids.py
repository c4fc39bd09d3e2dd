"""Ids beside vectors: one for each row, and the same in two files that are paired row by row."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, zip_longest
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.vectors.reader import VectorReader

NAMES = ("id", "_id", "ids", "uuid", "key", "doc_id", "item_id", "custom_id", "token")
_BLOCK = 8192


def is_column(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape has one value a row."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def check_lengths(
    where: object, matrix: str, n: int, lengths: Mapping[str, int], others: Collection[int] = ()
) -> None:
    """Refuses ids that are more or fewer than the vectors, which could name none of them.

    Args:
        where: The file, for the error.
        matrix: What holds the vectors.
        n: How many there are.
        lengths: Of what stands beside them, one value a row, by its name.
        others: How many rows other matrices of the file have, whose ids they may be.

    Raises:
        InvalidLatentsError: Says how many ids there are.
    """
    for name in NAMES:
        if (found := lengths.get(name, n)) != n and found not in others:
            raise InvalidLatentsError(
                f"{where}: {name!r} must have {n:,} values, one for each row of {matrix!r}, got "
                f"{found:,}: save the file again with an id for each row, or without {name!r}"
            )


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
