"""Columns: rows by number, whether from a list, an array, a file, a part or several parts."""

import abc
import hashlib
import json
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_latent_bridge.data.chunks import Rows, Stamps
from hf_latent_bridge.data.items import Items, digest
from hf_latent_bridge.vectors.reader import VectorReader, join

_BLOCK = 4096


class Column(Sequence[Any]):
    """A sequence that reads many rows at once better than one by one."""

    @abc.abstractmethod
    def read(self, rows: Rows) -> Items:
        """The items of some rows, in the order asked for."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Equal for equal content."""

    def stamps(self) -> Stamps | None:
        """Those of the files that are read; empty where the fingerprint is of the content."""
        return []

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.read(np.arange(*index.indices(len(self))))
        row = operator.index(index)
        row += len(self) if row < 0 else 0
        if not 0 <= row < len(self):
            raise IndexError(f"row {index} of a column of {len(self)}")
        return self.read(np.array([row]))[0]


@dataclass(frozen=True)
class Selection(Column):
    """Some rows of a column, read when asked for."""

    column: Sequence[Any]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Rows) -> Items:
        """The items of some rows."""
        return read_rows(self.column, self.rows[rows])

    def fingerprint(self) -> str:
        """Equal for equal rows of an equal column."""
        return _hash([fingerprint(self.column).encode(), self.rows.tobytes()])

    def stamps(self) -> Stamps | None:
        """Those of the column."""
        return stamps_of([self.column])


@dataclass(frozen=True)
class Concatenation(Column):
    """Columns one after another."""

    columns: Sequence[Sequence[Any]]

    def __len__(self) -> int:
        return sum(map(len, self.columns))

    def read(self, rows: Rows) -> Items:
        """The items of some rows."""
        ends = np.cumsum([len(column) for column in self.columns])
        parts = np.searchsorted(ends, rows, side="right")
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(parts)) + 1)
        found = []
        for run in filter(len, runs):
            part = int(parts[run[0]])
            column = self.columns[part]
            found.append(read_rows(column, rows[run] - (ends[part] - len(column))))
        return join(found)

    def fingerprint(self) -> str:
        """Equal for equal columns."""
        return _hash(fingerprint(column).encode() for column in self.columns)

    def stamps(self) -> Stamps | None:
        """Those of all columns."""
        return stamps_of(self.columns)


@dataclass(frozen=True)
class VectorColumn(Column):
    """The vectors of a file, folder or dataset."""

    reader: VectorReader

    def __len__(self) -> int:
        return self.reader.n or 0

    def read(self, rows: Rows) -> Items:
        """Vectors (n, d) of some rows, or a list where some are missing or ragged.

        Raises:
            InvalidLatentsError: The file was changed since it was opened.
        """
        items = self.reader.read(rows)
        self.reader.check_unchanged()
        return items

    def fingerprint(self) -> str:
        """Equal for a file that was not changed since, read alike."""
        source = replace(self.reader.source, token=None)
        return f"{source} {json.dumps(self.reader.identity(), sort_keys=True)}"

    def stamps(self) -> Stamps | None:
        """Those of the file or files when they were opened."""
        return self.reader.stamps()


def read_rows(column: Sequence[Any], rows: Rows) -> Items:
    """Some rows of any sequence; vectors as an array where they are held as one."""
    if isinstance(column, Column):
        return column.read(rows)
    index = as_index(rows)
    if isinstance(column, np.ndarray):
        return np.asarray(column[index])
    if hasattr(column, "iloc"):  # pandas, which would look rows up by their labels
        values = column.iloc[index].to_numpy()
        return values if values.ndim == 2 else list(values)
    if isinstance(index, slice):
        return list(column[index])
    return [column[int(row)] for row in rows]


def select(column: Sequence[Any], positions: Rows) -> Selection:
    """Some rows of a column; a selection of a selection reads the column itself."""
    if isinstance(column, Selection):
        return Selection(column.column, column.rows[positions])
    return Selection(column, positions)


def as_index(rows: Rows) -> slice | Rows:
    """Consecutive rows as a slice, others as they are."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def fingerprint(column: Sequence[Any]) -> str:
    """Equal for equal content; reads all of it unless the column knows better."""
    if isinstance(column, Column):
        return column.fingerprint()
    blocks = (
        read_rows(column, np.arange(start, min(start + _BLOCK, len(column))))
        for start in range(0, len(column), _BLOCK)
    )
    return _hash(
        digest(block) if isinstance(block, np.ndarray) else b"".join(map(digest, block))
        for block in blocks
    )


def stamps_of(columns: Iterable[Sequence[Any]]) -> Stamps | None:
    """The stamps of the files that columns read; None where one cannot be known."""
    found = [column.stamps() for column in columns if isinstance(column, Column)]
    if None in found:
        return None
    return [stamp for stamps in found for stamp in stamps or []]


def _hash(parts: Iterable[bytes]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()
