"""SQLite: a vector column of a sqlite-vec table, or a column of float32 blobs of any table."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from hf_latent_bridge.data.items import Array, Unreadable
from hf_latent_bridge.errors import StoreError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.reader import stacked
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records, unwritten
from hf_latent_bridge.vectors.stores.json_payload import PAYLOAD, is_json, packed, unpacked

_METRICS: dict[str, Metric] = {"cosine": "cosine", "l2": "euclidean"}
_VECTOR = re.compile(r"\b(\w+)\s+(?:float|f32)\s*\[(\d+)\]([^,)]*)", re.IGNORECASE)
_NAME = r"(?:\"(?:[^\"]|\"\")*\"|\[[^\]]*\]|`(?:[^`]|``)*`|'(?:[^']|'')*'|[^\s(]+)"
_TABLE = re.compile(rf"^(CREATE\s+(?:VIRTUAL\s+)?TABLE\s+){_NAME}", re.IGNORECASE)
_KEY = re.compile(r"\b(\w+)\s+(integer|text)\s+primary\s+key", re.IGNORECASE)
_CACHE = 1 << 16  # KiB of pages: sqlite-vec walks through chunks of 1,024 vectors at every row


class SqliteCollection(Collection):
    """A vector column.

    The other columns are the payload. In a table that this library made from nothing it is one
    column of JSON. The client is apsw, for many builds of Python's sqlite3 load no extensions.
    """

    params: ClassVar[tuple[str, ...]] = ()

    def _connect(self, timeout: float) -> Any:
        import apsw
        import sqlite_vec

        self._check_folder()
        try:
            client = apsw.Connection(self.url.path)
            client.set_busy_timeout(round(timeout * 1000))
            client.execute(f"PRAGMA cache_size = -{_CACHE}")
        except apsw.Error as error:
            raise unwritten(self.url, error) from error
        client.enable_load_extension(True)
        client.load_extension(sqlite_vec.loadable_path())
        client.enable_load_extension(False)
        return client

    @staticmethod
    def _disconnect(client: Any) -> None:
        client.close()

    def exists(self) -> bool:
        """Whether the table is there, and has this column."""
        return self._sql() is not None and self._column in self._columns()

    def layout(self) -> Layout:
        """From the definition of a vec0 table; of blobs, from the first, if there is one."""
        sql = self._sql()
        if sql is None:
            raise StoreError(f"{self.url}: there is no table {self.url.name!r}")
        if self._column not in self._columns():
            raise StoreError(
                f"{self.url}: the table has the columns {self._columns()}: name that of the "
                f"vectors as ?vector=, got {self._column!r}"
            )
        for name, dim, rest in _VECTOR.findall(sql) if self._is_virtual else []:
            if name == self._column:
                metric = re.search(r"distance_metric\s*=\s*(\w+)", rest)
                return Layout(int(dim), _METRICS.get(metric[1].lower() if metric else "l2", "dot"))
        rows = self._ask(
            f"SELECT length({self._vector}) FROM {self._table} WHERE {self._vector} IS NOT NULL "
            "LIMIT 1"
        )
        if not rows and not self._is_virtual:
            return Layout(0, "cosine")
        if not rows or self._is_virtual or rows[0][0] % 4:
            raise StoreError(f"{self.url}: {self._column!r} holds no vectors of float32")
        return Layout(rows[0][0] // 4, "cosine")

    def count(self) -> int:
        """Rows in which the column is not null."""
        where = "" if self._is_virtual else f"WHERE {self._vector} IS NOT NULL"
        return int(self._ask(f"SELECT count(*) FROM {self._table} {where}")[0][0])

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Pages through the keys."""
        last = None if after is None else after.key
        while True:
            records = self._page(last, size, vectors, payloads)
            if not records.ids:
                return
            yield records
            last = records.ids[-1]
            if last is None:
                self._refuse_keys(self._key_name, [last])

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Selects rows by their keys."""
        return self._select(self._among(ids), list(ids), True, payloads)

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Selects the keys alone."""
        sql = f"SELECT {self._key} FROM {self._table} {self._among(ids)}"
        return {row[0] for row in self._ask(sql, list(ids))}

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Searches a vec0 table by its metric, and a column of blobs by cosine."""
        blob = np.asarray(query, "<f4").tobytes()
        if self._is_virtual:
            rest = f"WHERE {self._vector} MATCH ? AND k = ? ORDER BY distance"
        else:
            distance = f"vec_distance_cosine({self._vector}, ?)"
            rest = f"WHERE {self._vector} IS NOT NULL ORDER BY {distance} LIMIT ?"
        rows = self._ask(f"SELECT {self._key} FROM {self._table} {rest}", [blob, k])
        return [row[0] for row in rows]

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Adds a column of blobs, or makes a table like that of `like`.

        Raises:
            StoreError: A vec0 table is there, to which no column can be added; or `like` is a
                view, or defined so that the column cannot be told.
        """
        if self._sql() is not None:
            if self._is_virtual:
                raise StoreError(
                    f"{self.url}: a vec0 table takes no further column: name another table"
                )
            self._ask(f"ALTER TABLE {self._table} ADD COLUMN {self._vector} BLOB")
            return
        if not isinstance(like, SqliteCollection) or (sql := like._sql()) is None:
            metric = "cosine" if layout.metric == "cosine" else "l2"
            column = f"{self._column} float[{layout.dim}] distance_metric={metric}"
            kind = "text" if like.has_texts_as_keys() else "integer"
            made = f"vec0(id {kind} primary key, {column}, +{PAYLOAD} text)"
            self._ask(f"CREATE VIRTUAL TABLE {self._table} USING {made}")
            return
        if is_json(like._others()):
            fields = ()
        self._ask(self._definition(sql, like, layout.dim, fields))

    def _definition(
        self, sql: str, like: "SqliteCollection", dim: int, fields: Sequence[str]
    ) -> str:
        """The definition of a table like another, with another vector column and further fields."""
        matched, is_vec0 = _TABLE.match(sql), like._is_virtual
        if matched is None:
            raise StoreError(f"{like.url} is a view, and only tables are copied")
        body, column = sql[matched.end() :], rf"\"?\b{re.escape(like._column)}\b\"?(\s+"
        if is_vec0:
            column, named = rf"{column}(?:float|f32)\s*\[)\d+\]", rf"{self._column}\g<1>{dim}]"
        else:
            column, named = rf"{column}BLOB\b)", rf"{self._vector}\g<1>"
        body, found = re.subn(column, lambda m: m.expand(named), body, count=1, flags=re.I)
        if not found and (is_vec0 or like._column != self._column):
            raise StoreError(
                f"{like.url}: the definition of {like._column!r} is not understood, so that it "
                f"cannot get another name or width: leave ?vector out of {self.url}"
            )
        more = "".join(f", {'+' if is_vec0 else ''}{name} text" for name in fields)
        columns, _, options = body.rpartition(")")
        return f"{matched[1]}{self._table}{columns}{more}){options}"

    def insert(self, records: Records) -> None:
        """Adds rows, with no search for rows to replace."""
        self._write(records, replaced=[])

    def write(self, records: Records) -> None:
        """Replaces rows in one transaction; of rows without payloads the vectors alone."""
        self._write(records, replaced=records.ids)

    def _write(self, records: Records, *, replaced: Sequence[Key]) -> None:
        vectors = [row.tobytes() for row in np.asarray(records.vectors, "<f4")]
        if records.payloads is None:
            sql = f"UPDATE {self._table} SET {self._vector} = ? WHERE {self._key} = ?"
            self._run([], sql, list(zip(vectors, records.ids, strict=True)))
            return
        columns = self._others()
        names = ", ".join([self._key, self._vector, *map(_quoted, columns)])
        rows = [
            [key, vector, *self._values(payload, columns)]
            for key, vector, payload in zip(records.ids, vectors, records.payloads, strict=True)
        ]
        marks = _marks(rows[0]) if rows else ""
        self._run(replaced, f"INSERT INTO {self._table} ({names}) VALUES ({marks})", rows)

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        self._ask(f"DELETE FROM {self._table} WHERE {self._key} IN ({_marks(ids)})", list(ids))

    def drop(self, *, whole: bool) -> None:
        """Drops the table, or this column."""
        if whole:
            self._ask(f"DROP TABLE {self._table}")
        else:
            self._ask(f"ALTER TABLE {self._table} DROP COLUMN {self._vector}")

    def check_keys(self) -> None:
        """Looks for rows without a key, which a key that is not of integers lets in."""
        if not self._is_virtual:
            sql = f"SELECT {self._key} FROM {self._table} WHERE {self._key} IS NULL LIMIT 1"
            self._refuse_keys(self._key_name, [row[0] for row in self._ask(sql)])

    def first_null(self) -> tuple[Key, str] | None:
        """Reads the table as far as the first null."""
        others = self._others()
        if not others or is_json(others):
            return None
        tests = [f"{_quoted(name)} IS NULL" for name in others]
        rows = self._ask(
            f"SELECT {self._key}, {', '.join(tests)} FROM {self._table} "
            f"WHERE {self._vector} IS NOT NULL AND ({' OR '.join(tests)}) LIMIT 1"
        )
        return (rows[0][0], others[rows[0][1:].index(1)]) if rows else None

    def text_beside_numbers(self) -> str | None:
        """The last key; numbers come before texts."""
        if self._is_virtual:
            return None
        rows = self._ask(f"SELECT {self._key} FROM {self._table} ORDER BY {self._key} DESC LIMIT 1")
        return rows[0][0] if rows and isinstance(rows[0][0], str) else None

    def check_copy(self, target: Collection | None) -> None:
        """Nothing is left behind: other columns travel with the payload."""

    @property
    def _table(self) -> str:
        return _quoted(self.url.name)

    @property
    def _column(self) -> str:
        return self.url.vector or "embedding"

    @property
    def _vector(self) -> str:
        return _quoted(self._column)

    @property
    def _is_virtual(self) -> bool:
        return "virtual table" in (self._sql() or "").lower()

    @property
    def _key_name(self) -> str:
        if self._is_virtual:
            found = _KEY.search(self._sql() or "")
            return found[1] if found else "rowid"
        keys = [row[1] for row in self._ask(f"PRAGMA table_info({self._table})") if row[5]]
        return keys[0] if len(keys) == 1 else "rowid"

    @property
    def _has_text_keys(self) -> bool:
        found = _KEY.search(self._sql() or "")
        return found is not None and found[2].lower() == "text"

    @property
    def _key(self) -> str:
        return _quoted(self._key_name)

    def _sql(self) -> str | None:
        """The definition of the table; None if there is none."""
        rows = self._ask("SELECT sql FROM sqlite_master WHERE name = ?", [self.url.name])
        return rows[0][0] if rows else None

    def _columns(self) -> list[str]:
        rows = self._ask(f"PRAGMA table_info({self._table})")
        return [row[1] for row in rows]

    def _others(self) -> list[str]:
        """The columns of the payload."""
        return [name for name in self._columns() if name not in (self._key_name, self._column)]

    def _among(self, ids: Sequence[Key]) -> str:
        where = f"WHERE {self._key} IN ({_marks(ids)})"
        return where if self._is_virtual else f"{where} AND {self._vector} IS NOT NULL"

    def _page(self, last: Key | None, size: int, vectors: bool, payloads: bool) -> Records:
        """The rows after a key.

        A vec0 table looks at all its rows for that, but sqlite-vec lists their numbers in order in
        a table of its own.
        """
        behind = [] if last is None else [last]
        if not self._is_virtual or self._has_text_keys:
            where = f"WHERE {self._key} > ?" if behind else ""
            rest = f"{where} ORDER BY {self._key} LIMIT ?"
            return self._select(rest, [*behind, size], vectors, payloads)
        where = "WHERE rowid > ?" if behind else ""
        listed = f"SELECT rowid FROM {_quoted(self.url.name + '_rowids')} {where}"
        ids = [row[0] for row in self._ask(f"{listed} ORDER BY rowid LIMIT ?", [*behind, size])]
        if not (vectors or payloads):
            return Records(list(ids))
        rest = f"{self._among(ids)} ORDER BY {self._key}"
        return self._select(rest, ids, vectors, payloads)

    def _select(self, rest: str, parameters: list[Any], vectors: bool, payloads: bool) -> Records:
        others = self._others()
        names = [self._key, *([self._vector] if vectors else [])]
        names += map(_quoted, others if payloads else [])
        rows = self._ask(f"SELECT {', '.join(names)} FROM {self._table} {rest}", parameters)
        first = 1 + vectors
        return Records(
            [row[0] for row in rows],
            stacked([_array(row[1]) for row in rows]) if vectors else None,
            [unpacked(dict(zip(others, row[first:], strict=True))) for row in rows]
            if payloads
            else None,
        )

    def _values(self, payload: dict[str, Any], columns: list[str]) -> list[Any]:
        if is_json(columns):
            return [packed(payload)]
        return [payload.get(name) for name in columns]

    def _run(self, ids: Sequence[Key], sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Deletes rows and runs a statement for each of some others, in one transaction."""
        import apsw

        try:
            with self.client:
                if ids:
                    self.delete(ids)
                self.client.cursor().executemany(sql, rows)
        except apsw.Error as error:
            cause = error.__context__ if isinstance(error.__context__, apsw.Error) else error
            if isinstance(cause, apsw.ConstraintError | apsw.MismatchError):
                raise self._failure(cause) from error
            raise unwritten(self.url, cause) from error  # sqlite-vec calls a full disk anything

    def _failure(self, error: Exception) -> StoreError:
        import apsw

        if isinstance(error, apsw.IOError | apsw.FullError | apsw.ReadOnlyError):
            return unwritten(self.url, error)
        return StoreError(f"{self.url}: {' '.join(str(error).split())[:200]}")

    def _ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        import apsw

        try:
            return list(self.client.cursor().execute(sql, parameters))
        except apsw.Error as error:
            raise self._failure(error) from error


def _array(blob: Any) -> Any:
    if blob is None:
        return None
    if not isinstance(blob, bytes) or len(blob) % 4:
        return Unreadable("is not of float32")
    return np.frombuffer(blob, "<f4")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
