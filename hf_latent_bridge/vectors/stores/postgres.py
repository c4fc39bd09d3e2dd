"""PostgreSQL with pgvector: a column of vectors in a table, keyed by its primary key."""

import json
import math
import re
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import StoreError, StoreUnavailableError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.reader import stacked
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records, is_text
from hf_latent_bridge.vectors.stores.json_payload import (
    PAYLOAD,
    as_json,
    is_json,
    packed,
    unpacked,
)
from hf_latent_bridge.vectors.stores.url import StoreUrl

_METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "dot", "l2": "euclidean"}
_OPERATORS: dict[Metric, str] = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->"}
_OPERATIONS = re.compile(r"_(\w+)_ops$")
_DTYPES = {"vector": "float32", "halfvec": "float16"}
# what CREATE TABLE ... (LIKE ... INCLUDING ALL) leaves out, and what goes with the vectors' column
_NOT_COPIED = """
WITH asked AS (SELECT to_regclass(%s)::oid AS id, %s::text AS vectors),
gone AS (SELECT DISTINCT classid, objid FROM asked
JOIN pg_attribute ON attrelid = id AND attname = vectors
JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = id AND refobjsubid = attnum)
SELECT format('foreign key %%s %%s', conname, pg_get_constraintdef(c.oid))
FROM pg_constraint c, asked WHERE contype = 'f' AND conrelid = id
UNION ALL SELECT format('foreign key %%s of %%s', conname, conrelid::regclass)
FROM pg_constraint, asked WHERE contype = 'f' AND confrelid = id AND conrelid <> id
UNION ALL SELECT format('trigger %%s', tgname)
FROM pg_trigger, asked WHERE tgrelid = id AND NOT tgisinternal
UNION ALL SELECT format('policy %%s', polname) FROM pg_policy, asked WHERE polrelid = id
UNION ALL SELECT 'row level security' FROM pg_class, asked WHERE oid = id AND relrowsecurity
UNION ALL SELECT 'privileges' FROM pg_class, asked WHERE oid = id AND relacl IS NOT NULL
UNION ALL SELECT format('privileges on %%s', attname)
FROM pg_attribute, asked WHERE attrelid = id AND attacl IS NOT NULL
UNION ALL SELECT format('check %%s %%s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
JOIN gone ON classid = 'pg_constraint'::regclass AND objid = oid WHERE contype = 'c'
UNION ALL SELECT format('statistics %%s', stxname) FROM pg_statistic_ext
JOIN gone ON classid = 'pg_statistic_ext'::regclass AND objid = oid
UNION ALL SELECT format('index %%s', relname) FROM pg_class
JOIN gone ON classid = 'pg_class'::regclass AND objid = oid WHERE relkind = 'i'
"""
# until PostgreSQL 15 the column itself depends on the other, since then its default does
_GENERATED = """
SELECT DISTINCT g.attname FROM pg_attribute v
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.attrelid
AND d.refobjsubid = v.attnum
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
JOIN pg_attribute g ON g.attrelid = v.attrelid AND g.attgenerated <> ''
AND g.attnum = coalesce(f.adnum, CASE WHEN d.objid = v.attrelid THEN d.objsubid END)
WHERE v.attrelid = to_regclass(%s) AND v.attname = %s ORDER BY 1
"""


class PostgresCollection(Collection):
    """A column of type `vector` or `halfvec`.

    The other columns are the payload. In a table that this library made from nothing it is one
    `jsonb` column. A password is taken from PGPASSWORD or ~/.pgpass, as by all of libpq.
    """

    params: ClassVar[tuple[str, ...]] = ("id", "host")
    embedded: ClassVar[bool] = False
    users: ClassVar[bool] = True
    values: ClassVar[str] = (
        "texts without the character NUL, finite numbers (as decimals, by which some floats "
        "beyond 2**53 change), true, false, null, and lists and objects of these"
    )

    @classmethod
    def _takes_name(cls, name: str, target: StoreUrl) -> bool:
        return cls._keeps(name)

    @staticmethod
    def _keeps(value: Any) -> bool:
        if isinstance(value, float):
            return math.isfinite(value) and (
                not value.is_integer() or value == Decimal(repr(value))
            )
        if isinstance(value, str):
            return is_text(value) and "\0" not in value
        return value is None or isinstance(value, int)

    def _connect(self, timeout: float) -> Any:
        import psycopg
        from pgvector.psycopg import register_vector
        from psycopg.types.json import set_json_loads

        address, port = self.url.server
        where = {
            "user": self.url.host.rpartition("@")[0] or None,
            "host": self.url.params.get("host") or address.strip("[]") or None,
            "port": port,
            "dbname": self.url.path or None,
        }
        milliseconds = max(1, round(timeout * 1000))
        try:
            client = psycopg.connect(
                **{name: value for name, value in where.items() if value},
                autocommit=True,
                connect_timeout=max(2, round(timeout)),
                options=f"-c statement_timeout={milliseconds}",
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(f"{self.url}: {_plain(error)}") from error
        set_json_loads(partial(json.loads, parse_float=_number), client)
        try:
            register_vector(client)
        except psycopg.ProgrammingError as error:
            client.close()
            raise StoreError(
                f"{self.url}: the database has no pgvector (CREATE EXTENSION vector)"
            ) from error
        return client

    @staticmethod
    def _disconnect(client: Any) -> None:
        client.close()

    def exists(self) -> bool:
        """Whether the table is there, and has this column."""
        return self._column in self._types()

    def layout(self) -> Layout:
        """Width from the column's type, metric from its index; cosine without one."""
        types = self._types()
        if not types:
            raise StoreError(f"{self.url}: there is no table {self.url.name!r}")
        kind = types.get(self._column)
        if kind is None or kind.partition("(")[0] not in _DTYPES:
            vectors = [name for name, kind in types.items() if kind.partition("(")[0] in _DTYPES]
            raise StoreError(
                f"{self.url}: the table has the vector columns {vectors}: name one as ?vector=, "
                f"got {self._column!r}"
            )
        name, _, dim = kind.partition("(")
        return Layout(int(dim.rstrip(")")) if dim else self._dim(), self._metric(), _DTYPES[name])

    def count(self) -> int:
        """Rows in which the column is not null."""
        sql = f"SELECT count(*) FROM {self._table} WHERE {self._vector} IS NOT NULL"
        return int(self._ask(sql)[0][0])

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Pages through the primary key."""
        last = [] if after is None else [str(after.key)]
        select, key = self._select(vectors, payloads), f"t.{self._key}"
        behind = f"WHERE {key} > %s::{self._key_type}"
        while True:
            where = behind if last else ""
            rows = self._ask(f"{select} {where} ORDER BY {key} LIMIT %s", [*last, size])
            if not rows:
                return
            yield self._records(rows, vectors, payloads)
            last = [str(rows[-1][0])]

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Selects rows by their keys."""
        where = f"WHERE t.{self._key} = ANY(%s::{self._key_type}[]) AND {self._vector} IS NOT NULL"
        rows = self._ask(f"{self._select(True, payloads)} {where}", [_texts(ids)])
        return self._records(rows, True, payloads)

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Selects the keys alone."""
        sql = (
            f"SELECT {self._key} FROM {self._table} "
            f"WHERE {self._key} = ANY(%s::{self._key_type}[]) AND {self._vector} IS NOT NULL"
        )
        return {_as_key(row[0]) for row in self._ask(sql, [_texts(ids)])}

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Orders by the distance of the column's metric."""
        distance = f"{self._vector} {_OPERATORS[self._metric()]} %s::vector"
        sql = (
            f"SELECT {self._key} FROM {self._table} WHERE {self._vector} IS NOT NULL "
            f"ORDER BY {distance} LIMIT %s"
        )
        return [_as_key(row[0]) for row in self._ask(sql, [_text(np.asarray(query)), k])]

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Adds a column, or makes a table like that of `like` with another vector column."""
        kind = f"vector({layout.dim})"
        if self._types():
            self._ask(f"ALTER TABLE {self._table} ADD COLUMN {self._vector} {kind}")
        elif isinstance(like, PostgresCollection) and like._types() and self._beside(like):
            if is_json(like._types().keys() - {like._key_name, like._column}):
                fields = ()
            always = like._column in like._columns_that("attnotnull")
            self._run(
                [
                    f"CREATE TABLE {self._table} (LIKE {like._table} INCLUDING ALL)",
                    f"ALTER TABLE {self._table} DROP COLUMN {like._vector}, "
                    f"ADD COLUMN {self._vector} {kind}{' NOT NULL' * always}",
                    *(f"ALTER TABLE {self._table} ADD COLUMN {_quoted(n)} text" for n in fields),
                ]
            )
        else:
            keys = "text" if like.has_texts_as_keys() else "bigint"
            self._ask(
                f"CREATE TABLE {self._table} (id {keys} PRIMARY KEY, {_quoted(PAYLOAD)} jsonb, "
                f"{self._vector} {kind})"
            )

    def complete(self, like: Collection) -> None:
        """Lets columns that number new rows go on after the last number of `like`."""
        if not (isinstance(like, PostgresCollection) and self._beside(like)):
            return
        for column in self._columns_that("attidentity <> ''"):
            old, new = (
                self._ask("SELECT pg_get_serial_sequence(%s, %s)", [_path(name), column])[0][0]
                for name in (like.url.name, self.url.name)
            )
            self._ask(
                "SELECT setval(%s::regclass, o.last_value, o.is_called) FROM "
                f"{_in_sql(old)} o, {_in_sql(new)} n "
                "WHERE NOT n.is_called OR o.last_value > n.last_value",
                [new],
            )

    def write(self, records: Records) -> None:
        """Upserts rows; updates the column alone where there are no payloads."""
        vectors = _vectors(np.asarray(records.vectors, np.float32))
        types, key = self._types(), self._key_name
        beside = f"unnest(%s::text[], %b::vector[]) d(k, v) WHERE %s = d.k::{types[key]}"
        if records.payloads is None:
            self._ask(
                f"UPDATE {self._table} t SET {self._vector} = d.v FROM "
                + beside.replace("WHERE %s", f"WHERE t.{_quoted(key)}"),
                [_texts(records.ids), vectors],
            )
            return
        computed = self._columns_that("attgenerated <> ''")
        others = [name for name in types if name not in (key, self._column, *computed)]
        columns = ", ".join(map(_quoted, [key, *others, self._column]))
        read = ", ".join(f"r.{_quoted(name)}" for name in [key, *others])
        kept = records.payloads
        if is_json(others):
            as_held = as_json if "json" in types[PAYLOAD] else packed
            kept = [{PAYLOAD: as_held(payload)} for payload in kept]
        rows = [{**row, key: of_row} for of_row, row in zip(records.ids, kept, strict=True)]
        numbered = self._columns_that("attidentity = 'a'")  # which no update can change
        changed = [name for name in [*others, self._column] if name not in numbered]
        replaced = (f"{_quoted(n)} = EXCLUDED.{_quoted(n)}" for n in changed)
        self._ask(
            f"INSERT INTO {self._table} ({columns}) OVERRIDING SYSTEM VALUE "
            f"SELECT {read}, d.v FROM "
            f"jsonb_populate_recordset(NULL::{self._table}, %s::jsonb) r, "
            + beside.replace("WHERE %s", f"WHERE r.{_quoted(key)}")
            + f" ON CONFLICT ({_quoted(key)}) DO UPDATE SET {', '.join(replaced)}",
            [_dumped(rows), _texts(records.ids), vectors],
        )

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        sql = f"DELETE FROM {self._table} WHERE {self._key} = ANY(%s::{self._key_type}[])"
        self._ask(sql, [_texts(ids)])

    def drop(self, *, whole: bool) -> None:
        """Drops the table, or this column."""
        if whole:
            self._ask(f"DROP TABLE {self._table}")
        else:
            self._ask(f"ALTER TABLE {self._table} DROP COLUMN {self._vector}")

    def check_keys(self) -> None:
        """Counts the keys, where the URL names a column that need not be unique."""
        if "id" in self.url.params:
            sql = (
                f"SELECT {self._key} FROM {self._table} GROUP BY {self._key} "
                f"HAVING count(*) > 1 OR {self._key} IS NULL LIMIT 3"
            )
            self._refuse_keys(self._key_name, [row[0] for row in self._ask(sql)])

    def first_null(self) -> tuple[Key, str] | None:
        """Reads the table as far as the first null."""
        others = [name for name in self._types() if name not in (self._key_name, self._column)]
        if not others or is_json(others):
            return None
        tests = [f"{_quoted(name)} IS NULL" for name in others]
        rows = self._ask(
            f"SELECT {self._key}, ARRAY[{', '.join(tests)}] FROM {self._table} "
            f"WHERE {self._vector} IS NOT NULL AND ({' OR '.join(tests)}) LIMIT 1"
        )
        return (_as_key(rows[0][0]), others[rows[0][1].index(True)]) if rows else None

    def check_copy(self, target: Collection | None) -> None:
        """Refuses a table like this one, where columns are generated from the vectors.

        Other vector columns travel with the payload.
        """
        if not (isinstance(target, PostgresCollection) and self._beside(target)):
            return
        generated = [row[0] for row in self._ask(_GENERATED, [_path(self.url.name), self._column])]
        if generated:
            raise StoreError(
                f"{self.url}: the columns {generated} are generated from {self._column!r}, so that "
                "they would change in a table like this one: add the new vectors to the same "
                f"table, as .../{self.url.name}?vector=NEW, or drop these columns first"
            )

    def not_copied(self) -> list[str]:
        """Foreign keys, triggers, policies, privileges, and what depends on the vectors."""
        table = _path(self.url.name)
        return [row[0] for row in self._ask(_NOT_COPIED, [table, self._column])]

    def alias(self, name: str) -> str | None:
        """The table that a view selects from, with its schema where this URL names one.

        Raises:
            StoreError: Something else than a view has this name.
        """
        sql = "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass(%s)"
        found = self._ask(sql, [_path(name)])
        if not found:
            return None
        if not found[0][0]:
            raise self._taken_alias(name, "table")
        sql = (
            "SELECT DISTINCT c.relnamespace::regnamespace::text, c.relname, "
            "pg_table_is_visible(c.oid) FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid AND "
            "d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass JOIN "
            "pg_class c ON c.oid = d.refobjid WHERE r.ev_class = to_regclass(%s) AND "
            "c.oid <> r.ev_class"
        )
        rows = self._ask(sql, [_path(name)])
        if not rows:
            return ""  # a view of no table
        schema, table, visible = rows[0]
        return table if visible and "." not in self.url.name else f"{schema}.{table}"

    def point(self, name: str, collection: str | None) -> None:
        """Makes the view anew in one transaction."""
        view = _in_sql(_path(name))
        changes = [f"DROP VIEW IF EXISTS {view}"]
        if collection is not None:
            changes.append(f"CREATE VIEW {view} AS SELECT * FROM {_in_sql(_path(collection))}")
        self._run(changes)

    @property
    def _table(self) -> str:
        return _in_sql(_path(self.url.name))

    @property
    def _column(self) -> str:
        return self.url.vector or "embedding"

    @property
    def _vector(self) -> str:
        return _quoted(self._column)

    @property
    def _key_name(self) -> str:
        """The primary key, or the column that the URL names as id."""
        if "id" in self.url.params:
            return self.url.params["id"]
        found = self._ask(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND "
            "a.attnum = ANY(i.indkey) WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
            [_path(self.url.name)],
        )
        if len(found) != 1:
            raise StoreError(
                f"{self.url}: the table needs a primary key of one column, it has {len(found)}: "
                "name a unique one as ?id="
            )
        return str(found[0][0])

    @property
    def _key(self) -> str:
        return _quoted(self._key_name)

    @property
    def _key_type(self) -> str:
        return self._types()[self._key_name]

    def _types(self) -> dict[str, str]:
        """The type of each column; empty if there is no table."""
        rows = self._ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE "
            "attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [_path(self.url.name)],
        )
        return dict(rows)

    def _beside(self, other: "PostgresCollection") -> bool:
        """Whether two tables are in one database, so that one can be made like the other."""
        here, there = (
            collection._ask("SELECT current_database(), pg_postmaster_start_time()")
            for collection in (self, other)
        )
        return here == there

    def _columns_that(self, how: str) -> list[str]:
        """The columns that a condition on pg_attribute names, such as those that are generated."""
        rows = self._ask(
            f"SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
            f"AND NOT attisdropped AND {how}",
            [_path(self.url.name)],
        )
        return [row[0] for row in rows]

    def _dim(self) -> int:
        where = f"{self._table} WHERE {self._vector} IS NOT NULL"
        rows = self._ask(f"SELECT vector_dims({self._vector}) FROM {where} LIMIT 1")
        if not rows:
            raise StoreError(f"{self.url}: the width of an empty column without one is not known")
        return int(rows[0][0])

    def _metric(self) -> Metric:
        """By which indexes of the column rank; cosine without one."""
        rows = self._ask(
            "SELECT pg_get_indexdef(i.indexrelid, 1, true), quote_ident(%s), o.opcname FROM "
            "pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE "
            "i.indrelid = to_regclass(%s)",
            [self._column, _path(self.url.name)],
        )
        kinds = [
            found[1]
            for indexed, column, operators in rows
            if re.search(rf'(?<![\w"]){re.escape(column)}(?![\w"])', indexed)
            and (found := _OPERATIONS.search(operators))
        ]
        known = [_METRICS[kind] for kind in kinds if kind in _METRICS]
        if kinds and not known:
            raise StoreError(f"{self.url} is searched by {kinds[0]}, not by {sorted(_METRICS)}")
        return known[0] if known else "cosine"

    def _select(self, vectors: bool, payloads: bool) -> str:
        """The beginning of a query for rows; `to_jsonb(t)` would spell out the vectors too."""
        vector, payload = f"t.{self._vector}" if vectors else "NULL", "NULL"
        if payloads:
            others = [n for n in self._types() if n not in (self._key_name, self._column)]
            columns = ", ".join(f"t.{_quoted(name)}" for name in others)
            payload = f"(SELECT to_jsonb(p) FROM (SELECT {columns}) p)"
        return f"SELECT t.{self._key}, {vector}, {payload} FROM {self._table} t"

    def _records(self, rows: list[Any], vectors: bool, payloads: bool) -> Records:
        texts = payloads and "json" not in self._types().get(PAYLOAD, "json")
        return Records(
            [_as_key(row[0]) for row in rows],
            stacked([_array(row[1]) for row in rows]) if vectors else None,
            [unpacked(row[2], is_text=texts) for row in rows] if payloads else None,
        )

    def _ask(self, sql: str, parameters: list[Any] | None = None) -> list[Any]:
        """The rows that a query gives."""
        return self._run([sql], parameters)

    def _run(self, statements: Sequence[str], parameters: list[Any] | None = None) -> list[Any]:
        """Runs statements in one transaction; the rows of the last, which takes parameters."""
        import psycopg

        *first, last = statements
        try:
            with self.client.transaction(), self.client.cursor(binary=True) as cursor:
                for statement in first:
                    cursor.execute(statement, [])
                cursor.execute(last, parameters or [])
                return list(cursor.fetchall()) if cursor.description else []
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(f"{self.url}: {_plain(error)}") from error
        except psycopg.Error as error:
            raise StoreError(f"{self.url}: {_plain(error)}") from error


def _path(name: str) -> str:
    """A table, with its schema where that is named, as PostgreSQL spells it."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _in_sql(path: str) -> str:
    """What is quoted, in a statement in which a % begins a parameter."""
    return path.replace("%", "%%")


def _quoted(name: str) -> str:
    return _in_sql('"' + name.replace('"', '""') + '"')


def _number(text: str) -> float | Decimal:
    """A fraction of JSON: as a float, or where that would be another number, as it is."""
    number = float(text)
    exact = Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


def _dumped(rows: Sequence[dict[str, Any]]) -> str:
    """JSON, in which a Decimal is a number."""
    mark = uuid.uuid4().hex

    def marked(value: Any) -> str:
        if isinstance(value, Decimal):
            return f"{mark}{value}"
        raise TypeError(f"{type(value).__name__} {value!r:.40}")

    return re.sub(rf'"{mark}([^"]*)"', r"\1", json.dumps(rows, default=marked))


def _texts(ids: Sequence[Key]) -> list[str]:
    return [str(key) for key in ids]


def _text(vector: Any) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _vectors(rows: Array) -> list[Any]:
    from pgvector import Vector

    return [Vector(row) for row in rows]


def _as_key(value: Any) -> Key:
    return value if isinstance(value, int) else str(value)


def _array(value: Any) -> Any:
    if value is None:
        return None
    return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value, np.float32)


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
