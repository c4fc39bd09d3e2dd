"""Rows of a collection for those that are read from another one: in order, and by key where not."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_latent_bridge.data.items import Items
from hf_latent_bridge.vectors.reader import stacked
from hf_latent_bridge.vectors.stores.arrow_payload import Columns
from hf_latent_bridge.vectors.stores.base import Collection, Key, Place, Records

_KEPT = 4  # so many times `size` rows are asked for until a page is forgotten


class Beside:
    """Reads a collection beside another one that holds the same rows, mostly in the same order.

    Most stores read rows in order much faster than they find them by their keys. So the collection
    is scanned as far as the other one has come. Only rows that are not found there are asked for by
    their keys, and not even those where the scan has ended and has left nothing out.
    """

    def __init__(
        self,
        collection: Collection,
        size: int,
        *,
        vectors: bool = True,
        payloads: bool = True,
        after: Place | None = None,
        by_keys: bool = False,
        index: bool = False,
    ) -> None:
        """Begins at the first row, or behind those that nobody will ask for.

        Args:
            collection: The collection that holds the rows.
            size: As for a scan.
            vectors: As for a scan.
            payloads: As for a scan.
            after: As for a scan; the rows before it must not be asked for.
            by_keys: Ask for all rows by their keys, as where some may lack this vector.
            index: Make rows quick to find by key before the first is asked for; for a collection
                that may be changed.
        """
        self._collection, self._size = collection, size
        self._vectors, self._payloads = vectors, payloads
        self._scan = collection.scan(size, vectors=vectors, payloads=payloads, after=after)
        self._asked = 0
        self._pages: deque[tuple[int, Records]] = deque()  # and how many rows were asked for then
        self._places: dict[Key, tuple[Records, int]] = {}
        self._open: set[Key] = set()  # read, and not asked for yet
        self._ended = by_keys or (collection.quick_keys and (vectors or payloads))
        self._whole = not self._ended
        self._index = index

    def lacking(self, ids: Sequence[Key]) -> list[int]:
        """Which of some rows are not there."""
        missing = self._read_on(ids)
        if missing and not self._knows_all:
            there = self._by_key().present([ids[row] for row in missing])
            missing = [row for row in missing if ids[row] not in there]
        return missing

    def rows(self, ids: Sequence[Key]) -> Records:
        """Those of some rows that are there, in their order."""
        missing = set(self._read_on(ids))
        for _, page in self._pages:
            if page.ids == ids:
                return page
        found = [self._places[key] for row, key in enumerate(ids) if row not in missing]
        if missing and not self._knows_all:
            others = [ids[row] for row in sorted(missing)]
            apart = self._by_key().fetch(others, payloads=self._payloads)
            found += [(apart, row) for row in range(len(apart.ids))]
        return _together(found, payloads=self._payloads)

    def _by_key(self) -> Collection:
        if self._index:
            self._collection.index_keys()
            self._index = False
        return self._collection

    @property
    def _knows_all(self) -> bool:
        return self._ended and self._whole

    def _read_on(self, ids: Sequence[Key]) -> list[int]:
        """Scans until these rows are read, at most two pages ahead; which were not found."""
        self._asked += len(ids)
        self._forget()
        missing = [row for row, key in enumerate(ids) if key not in self._places]
        while missing and not self._ended and len(self._open) < 2 * self._size:
            self._next_page()
            missing = [row for row in missing if ids[row] not in self._places]
        self._open.difference_update(ids)
        return missing

    def _next_page(self) -> None:
        page = next(self._scan, None)
        if page is None:
            self._ended = True
            return
        self._pages.append((self._asked, page))
        self._open.update(page.ids)
        self._places.update({key: (page, row) for row, key in enumerate(page.ids)})

    def _forget(self) -> None:
        while self._pages and self._pages[0][0] < self._asked - _KEPT * self._size:
            _, page = self._pages.popleft()
            self._whole = self._whole and self._open.isdisjoint(page.ids)
            self._open.difference_update(page.ids)
            for key in page.ids:
                self._places.pop(key, None)


def _together(rows: Sequence[tuple[Records, int]], *, payloads: bool) -> Records:
    vectors = [_of(page.vectors, row) for page, row in rows]
    return Records(
        [page.ids[row] for page, row in rows],
        stacked([None if vector is None else np.asarray(vector) for vector in vectors]),
        _payloads([(page.payloads or [], row) for page, row in rows]) if payloads else None,
    )


def _payloads(rows: Sequence[tuple[Sequence[dict[str, Any]], int]]) -> Sequence[dict[str, Any]]:
    columns = [(p, row) for p, row in rows if isinstance(p, Columns) and p.table.num_columns]
    tables = {id(page): page.table for page, _ in columns}.values()
    if not rows or len(columns) < len(rows) or len({table.schema for table in tables}) > 1:
        return [page[row] for page, row in rows]
    return Columns.gathered(columns)


def _of(column: Sequence[Any] | Items | None, row: int) -> Any:
    return None if column is None else column[row]
