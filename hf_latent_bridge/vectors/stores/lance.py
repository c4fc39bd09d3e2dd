"""LanceDB: a column of vectors in a table in a folder, keyed by its column `id`."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import StoreError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.stores.arrow_payload import Columns
from hf_latent_bridge.vectors.stores.base import (
    Collection,
    Key,
    Layout,
    Place,
    Records,
    unwritten,
)
from hf_latent_bridge.vectors.stores.json_payload import PAYLOAD, is_json, packed

_METRICS: dict[str, Metric] = {"cosine": "cosine", "dot": "dot", "l2": "euclidean"}
_NAMES = {metric: name for name, metric in _METRICS.items()}
T = TypeVar("T")


class LanceCollection(Collection):
    """A column of fixed-size lists of floats.

    The other columns are the payload. In a table that this library made from nothing it is one
    column of JSON.
    """

    params: ClassVar[tuple[str, ...]] = ("id",)
    threads: ClassVar[bool] = True
    _growing: tuple[Any, Any] | None = None  # the table that rows are appended to, and its schema

    def _connect(self, timeout: float) -> Any:
        import lancedb

        return lancedb.connect(self.url.path)

    @staticmethod
    def _disconnect(client: Any) -> None:
        """A folder needs no goodbye."""

    def exists(self) -> bool:
        """Whether the table is there, and has this column."""
        return self._is_there() and self._column in self._schema().names

    def layout(self) -> Layout:
        """Width and dtype from the schema, metric from the index; cosine without one."""
        import pyarrow as pa

        schema = self._schema()
        vectors = [f.name for f in schema if pa.types.is_fixed_size_list(f.type)]
        if self._column not in vectors:
            raise StoreError(
                f"{self.url}: the table has the vector columns {vectors}: name one as ?vector=, "
                f"got {self._column!r}"
            )
        if self._key not in schema.names:
            raise StoreError(
                f"{self.url}: there is no column {self._key!r} that names the rows: name one as "
                f"?id=, of {schema.names}"
            )
        keys = schema.field(self._key).type
        if not (
            pa.types.is_integer(keys) or pa.types.is_string(keys) or pa.types.is_large_string(keys)
        ):
            raise StoreError(
                f"{self.url}: the column {self._key!r} holds {keys}: keys must be whole numbers or "
                "texts, name another column as ?id="
            )
        kind = schema.field(self._column).type
        dtype = {"halffloat": "float16", "float": "float32", "double": "float64"}
        stored = str(kind.value_type)
        return Layout(kind.list_size, self._metric(), dtype.get(stored, stored))

    def count(self) -> int:
        """Rows in which the column is not null."""
        return int(self._ask(lambda t: t.count_rows(f"{_quoted(self._column)} IS NOT NULL")))

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Streams the table at its version of now."""
        import pyarrow as pa

        names = self._names(vectors, payloads)
        first = 0 if after is None else after.rows
        query = self._ask(lambda t: t.search().select(names).offset(first))
        for batch in self._ask(lambda _: query.to_batches(size)):
            rows = pa.Table.from_batches([batch])
            for row in range(0, batch.num_rows, size):
                yield self._records(rows.slice(row, size), vectors, payloads)

    def place_after(self, rows: int | None = None) -> Place | None:
        """Skips the rows before it."""
        n = int(self._ask(lambda t: t.count_rows())) if rows is None else rows
        if n == 0:
            return None
        last = self._ask(lambda t: t.search().select([self._key]).offset(n - 1).limit(1).to_arrow())
        keys = last.column(self._key).to_pylist()
        return Place(n, keys[0]) if keys else None

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Filters by the column of keys."""
        names, n = self._names(True, payloads), max(1, len(ids))
        where = f"{self._among(ids)} AND {_quoted(self._column)} IS NOT NULL"
        found = self._ask(lambda t: t.search().where(where).select(names).limit(n).to_arrow())
        return self._records(found, True, payloads)

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Filters, and reads the keys alone."""
        where, n = f"{self._among(ids)} AND {_quoted(self._column)} IS NOT NULL", max(1, len(ids))
        found = self._ask(lambda t: t.search().where(where).select([self._key]).limit(n).to_arrow())
        return set(found.column(self._key).to_pylist())

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Searches the column by its metric."""
        vector, name = np.asarray(query, np.float32), _NAMES[self._metric()]

        def search(table: Any) -> Any:
            asked = table.search(vector, vector_column_name=self._column).distance_type(name)
            return asked.select([self._key, "_distance"]).limit(k).to_arrow()

        found: list[Key] = self._ask(search).column(self._key).to_pylist()
        return found

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Adds a column, or makes a table like that of `like` with another vector column."""
        import pyarrow as pa

        if re.search(r"[`.]", self._column):
            raise StoreError(f"{self.url}: a column of LanceDB has no ` or . in its name")
        self._growing = None
        field = pa.field(self._column, pa.list_(pa.float32(), layout.dim))
        if self._is_there():
            self._ask(lambda t: t.add_columns(field))
            return
        if isinstance(like, LanceCollection) and like._is_there():
            others = [f for f in like._schema() if f.name != like._column]
            if not is_json({f.name for f in others} - {like._key}):
                others += [pa.field(name, pa.string()) for name in fields]
        else:
            keys = pa.string() if like.has_texts_as_keys() else pa.int64()
            others = [pa.field(self._key, keys), pa.field(PAYLOAD, pa.string())]
        schema = pa.schema([*others, field])
        self._told(lambda: self.client.create_table(self.url.name, schema=schema))

    def insert(self, records: Records) -> None:
        """Appends rows, without the merge that reads the whole column of keys."""
        if records.payloads is None:
            self.write(records)
            return
        if self._growing is None:
            self._growing = self._ask(lambda table: (table, table.schema))
        table, schema = self._growing
        rows = self._as_arrow(records, schema)
        try:
            self._told(lambda: table.add(rows))
        except StoreError:
            self._growing = None
            raise

    def write(self, records: Records) -> None:
        """Merges rows by their keys; of rows without payloads the vectors alone."""
        rows = self._as_arrow(records, self._schema())

        def merge(table: Any) -> Any:
            into = table.merge_insert(self._key).when_matched_update_all()
            if records.payloads is not None:
                into = into.when_not_matched_insert_all()
            return into.execute(rows)

        self._ask(merge)

    def _as_arrow(self, records: Records, schema: Any) -> Any:
        import pyarrow as pa

        arrays = {self._key: self._array(records.ids, schema.field(self._key))}
        if records.payloads is not None:
            arrays |= self._beside(records.payloads, schema)
        flat = np.ascontiguousarray(records.vectors, np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
        kind = schema.field(self._column).type
        arrays[self._column] = self._told(lambda: vectors.cast(kind))
        return pa.table(arrays)

    def _beside(self, payloads: Sequence[dict[str, Any]], schema: Any) -> dict[str, Any]:
        """The columns beside key and vector; those of a table with equal columns as they are."""
        others = [f for f in schema if f.name not in (self._key, self._column)]
        if isinstance(payloads, Columns):
            if list(payloads.table.schema) == others:
                return {field.name: payloads.table.column(field.name) for field in others}
            self._check_fields(payloads, {field.name for field in others})
        rows = [self._as_columns(payload, schema) for payload in payloads]
        return {f.name: self._array([row.get(f.name) for row in rows], f) for f in others}

    def _check_fields(self, payloads: Columns, names: set[str]) -> None:
        lacking = [name for name in payloads.table.schema.names if name not in names]
        if lacking and not payloads.is_json:
            raise StoreError(
                f"{self.url}: the rows have the columns {lacking}, which this table lacks: roll "
                "back and start again, or add them here"
            )

    def _array(self, values: Sequence[Any], field: Any) -> Any:
        import pyarrow as pa

        return self._told(partial(pa.array, values, field.type))

    def index_keys(self) -> None:
        """Adds an index on the column of keys, without which each question reads the table.

        LanceDB has none for large strings.
        """
        import pyarrow as pa
        from lancedb.index import BTree

        if pa.types.is_large_string(self._schema().field(self._key).type):
            return

        def index(table: Any) -> None:
            if not any(known.columns == [self._key] for known in table.list_indices()):
                table.create_index(self._key, config=BTree())

        self._ask(index)

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        self._ask(lambda t: t.delete(self._among(ids)))

    def drop(self, *, whole: bool) -> None:
        """Drops the table, or this column."""
        self._growing = None
        if whole:
            self._told(lambda: self.client.drop_table(self.url.name))
        else:
            self._ask(lambda t: t.drop_columns([self._column]))

    def check_keys(self) -> None:
        """Counts the keys, for a column of LanceDB is never unique by itself."""
        self._refuse_keys(self._key, self.doubles())

    def first_null(self) -> tuple[Key, str] | None:
        """Looks through each column."""
        others = [n for n in self._schema().names if n not in (self._key, self._column)]
        found = ((self._where_null(name), name) for name in ([] if is_json(others) else others))
        return next(((keys[0], name) for keys, name in found if keys), None)

    def _where_null(self, name: str) -> list[Key]:
        """The key of a row in which another column than that of the vectors is null, if any."""
        where = f"{_quoted(name)} IS NULL AND {_quoted(self._column)} IS NOT NULL"
        found = self._ask(lambda t: t.search().where(where).select([self._key]).limit(1).to_arrow())
        keys: list[Key] = found.column(self._key).to_pylist()
        return keys

    def doubles(self) -> list[Key]:
        """Keys that are missing or stand in several rows."""
        import pyarrow.compute as pc

        found = self._ask(lambda t: t.search().select([self._key]).to_arrow()).column(self._key)
        counts = pc.value_counts(found)
        keys, times = counts.field("values"), counts.field("counts")
        wrong: list[Key] = keys.filter(pc.or_(pc.is_null(keys), pc.greater(times, 1))).to_pylist()
        return wrong

    def check_copy(self, target: Collection | None) -> None:
        """Nothing is left behind: other vector columns travel with the payload."""

    @property
    def _column(self) -> str:
        return self.url.vector or "vector"

    @property
    def _key(self) -> str:
        return self.url.params.get("id", "id")

    def _is_there(self) -> bool:
        return self.url.name in self.client.list_tables().tables

    def _schema(self) -> Any:
        return self._ask(lambda t: t.schema)

    def _metric(self) -> Metric:
        def find(table: Any) -> str:
            for index in table.list_indices():
                if index.columns == [self._column]:
                    return str(table.index_stats(index.name).distance_type)
            return "cosine"

        return _METRICS.get(self._ask(find), "cosine")

    def _names(self, vectors: bool, payloads: bool) -> list[str]:
        if payloads:
            names: list[str] = list(self._schema().names)
            return names if vectors else [name for name in names if name != self._column]
        return [self._key, *([self._column] if vectors else [])]

    def _among(self, ids: Sequence[Key]) -> str:
        listed = ", ".join(
            str(k) if isinstance(k, int) else "'" + k.replace("'", "''") + "'" for k in ids
        )
        return f"{_quoted(self._key)} IN ({listed})" if ids else "false"

    def _records(self, rows: Any, vectors: bool, payloads: bool) -> Records:
        from hf_latent_bridge.vectors.tables import decode_vectors

        others = [n for n in rows.schema.names if n not in (self._key, self._column)]
        return Records(
            rows.column(self._key).to_pylist(),
            decode_vectors(rows.column(self._column).combine_chunks(), None) if vectors else None,
            Columns(rows.select(others), str(self.url)) if payloads else None,
        )

    def _as_columns(self, payload: dict[str, Any], schema: Any) -> dict[str, Any]:
        names = set(schema.names) - {self._key, self._column}
        return {PAYLOAD: packed(payload)} if is_json(names) else payload

    def _ask(self, request: Callable[[Any], T]) -> T:
        """The answer of the table."""
        return self._told(lambda: request(self.client.open_table(self.url.name)))

    def _told(self, request: Callable[[], T]) -> T:
        """The answer to a request; LanceDB's errors in this library's words."""
        try:
            return request()
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            if "LanceError(IO)" in str(error):
                raise unwritten(self.url, error) from error
            raise StoreError(f"{self.url}: {' '.join(str(error).split())[:200]}") from error


def _quoted(name: str) -> str:
    return f"`{name}`"
