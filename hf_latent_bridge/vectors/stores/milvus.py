"""Milvus: a vector field of a collection, in a Milvus Lite file or on a server."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import StoreError, StoreUnavailableError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.reader import stacked
from hf_latent_bridge.vectors.stores.base import (
    Collection,
    Key,
    Layout,
    Place,
    Records,
    is_text,
    unwritten,
)
from hf_latent_bridge.vectors.stores.url import StoreUrl

_METRICS: dict[str, Metric] = {"COSINE": "cosine", "IP": "dot", "L2": "euclidean"}
_NAMES = {metric: name for name, metric in _METRICS.items()}
_VECTORS = range(100, 110)  # pymilvus' DataTypes of vectors
_FLOATS = {101: "float32", 102: "float16", 103: "bfloat16"}
_LOADING = 600.0  # seconds for a server to load a collection into memory
_STRONG = "Strong"
_LONGEST = 65_535  # bytes of a text
_ALL = 2**31 - 1  # rows, for a file that is asked for all
_INDEXED, _UNINDEXED = "AUTOINDEX", "FLAT"
_READ = {"consistency_level": _STRONG}  # a server else answers without the rows just written
# a file's server cuts off clients that look after it every ten seconds of a long request
_UNHURRIED = {"grpc.keepalive_time_ms": 3_600_000}
_LITE, _CALLS = "milvus_lite.adapter.grpc.servicer", "pymilvus.decorators"
_ITERATOR = "pymilvus.client.iterator.query_iterator"
T = TypeVar("T")


class MilvusCollection(Collection):
    """A vector field; the other fields, dynamic ones included, are the payload.

    A server's token (`user:password` or an API key) is taken from MILVUS_TOKEN.
    """

    params: ClassVar[tuple[str, ...]] = ("https",)
    values: ClassVar[str] = (
        "texts, finite numbers (whole ones from -2**63 to 2**64 - 1), true, false, null, and lists "
        "and objects of these"
    )
    _is_loaded = False
    _key_name: str | None = None

    @classmethod
    def _takes_name(cls, name: str, target: StoreUrl) -> bool:
        return is_text(name) and name not in ("id", target.vector or "vector", "$meta")

    @staticmethod
    def _keeps(value: Any) -> bool:
        if isinstance(value, int):
            return -(2**63) <= value < 2**64
        return math.isfinite(value) if isinstance(value, float) else value is None or is_text(value)

    def _connect(self, timeout: float) -> Any:
        from pymilvus import MilvusClient

        if self.url.local:
            return self._open_file(MilvusClient)
        scheme = "https" if self.url.secure else "http"
        token = os.environ.get("MILVUS_TOKEN", "")
        address = f"{scheme}://{self.url.host}"
        return self._told(
            lambda: MilvusClient(uri=address, token=token, db_name=self.url.path, timeout=timeout)
        )

    def _open_file(self, connect: Callable[..., Any]) -> Any:
        """A client of Milvus Lite, which logs a traceback and keeps the reason to itself."""
        from pymilvus.exceptions import MilvusException

        self._check_folder()
        try:
            with _silent("milvus_lite.server_manager"):
                return connect(uri=self.url.path, grpc_options=_UNHURRIED)
        except MilvusException as error:
            raise StoreUnavailableError(
                f"{self.url} cannot be opened: a file of Milvus Lite can be open in one process at "
                "a time, and stays open until that process ends; or it is not a file of Milvus Lite"
            ) from error

    @staticmethod
    def _disconnect(client: Any) -> None:
        client.close()

    @property
    def quick_keys(self) -> bool:
        """In a file and on a server."""
        return True

    def exists(self) -> bool:
        """Whether the collection is there, and has this field."""
        there = self._ask(lambda c: c.has_collection(self.url.name))
        return there and self._column in self._vectors()

    def layout(self) -> Layout:
        """Width and dtype from the schema, metric from the index."""
        if not self._ask(lambda c: c.has_collection(self.url.name)):
            raise StoreError(f"{self.url}: there is no collection {self.url.name!r}")
        vectors = self._vectors()
        if self._column not in vectors or int(vectors[self._column]["type"]) not in _FLOATS:
            raise StoreError(
                f"{self.url}: the collection has the vector fields {sorted(vectors)}: name one of "
                f"floats as ?vector=, got {self._column!r}"
            )
        field = vectors[self._column]
        index = self._index()
        metric = _METRICS.get(index.get("metric_type", "COSINE"))
        if metric is None:
            raise StoreError(f"{self.url} is searched by {index['metric_type']}, not {_NAMES}")
        return Layout(int(field["params"]["dim"]), metric, _FLOATS[int(field["type"])])

    def count(self) -> int:
        """How many rows there are."""
        rows = self._query(filter="", output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Goes through the rows in the order of their keys.

        Milvus Lite looks at every row for each page, and finds rows by their keys at once. So all
        keys of a file are listed in one look, and the rows are fetched by them.
        """
        keys = self.all_keys(after)
        if keys is None:
            yield from self._pages(size, vectors, payloads, after)
            return
        for first in range(0, len(keys), size):
            page = Records(keys[first : first + size])
            if vectors or payloads:
                page = self.fetch(page.ids, payloads=payloads)
            if page.ids:
                yield page if vectors else page._replace(vectors=None)

    def _pages(
        self, size: int, vectors: bool, payloads: bool, after: Place | None
    ) -> Iterator[Records]:
        """The rows of a server, page by page."""
        fields = self._fields_read(vectors, payloads)
        self._load()
        behind = self._behind(after)
        with _silent(_ITERATOR):  # it warns of servers that keep no time stamps
            pages = self._ask(
                lambda c: c.query_iterator(
                    self.url.name, batch_size=size, filter=behind, output_fields=fields, **_READ
                )
            )
        try:
            while rows := self._told(pages.next):
                yield self._records(rows, vectors, payloads)
        finally:
            pages.close()

    def all_keys(self, after: Place | None = None) -> list[Key] | None:
        """The keys of a file, in order."""
        if not self.url.local:
            return None
        rows = self._query(filter=self._behind(after), limit=_ALL, output_fields=[self._key])
        return sorted(row[self._key] for row in rows)

    def _among(self, ids: Sequence[Key]) -> str:
        """An expression for some rows; pymilvus would not escape a backslash in their keys."""
        return f"{self._key} in [{', '.join(map(_literal, ids))}]"

    def _behind(self, after: Place | None) -> str:
        return "" if after is None else f"{self._key} > {_literal(after.key)}"

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Gets rows by their keys."""
        fields = self._fields_read(True, payloads)
        rows = self._query(filter=self._among(ids), output_fields=fields) if ids else []
        return self._records(rows, True, payloads)

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Gets the keys alone."""
        rows = self._query(filter=self._among(ids), output_fields=[self._key]) if ids else []
        return {row[self._key] for row in rows}

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Searches the field."""
        self._load()
        vector, key = np.asarray(query, np.float32).tolist(), self._key
        found = self._ask(
            lambda c: c.search(
                self.url.name, data=[vector], anns_field=self._column, limit=k, **_READ
            )
        )
        return [hit[key] if key in hit else hit["id"] for hit in found[0]]

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Makes a collection, with the other fields of `like` where that is one of Milvus.

        Raises:
            StoreError: The collection is there, for Milvus adds no vector field to one.
        """
        from pymilvus import DataType

        if self._ask(lambda c: c.has_collection(self.url.name)):
            raise StoreError(
                f"{self.url}: Milvus adds no vector field to a collection: name another one"
            )
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
        if isinstance(like, MilvusCollection) and like.exists():
            for field in like._fields():
                if int(field["type"]) not in _VECTORS:
                    schema.add_field(
                        field["name"],
                        DataType(int(field["type"])),
                        is_primary=bool(field.get("is_primary")),
                        nullable=bool(field.get("nullable")),
                        **_elements(field),
                        **field.get("params", {}),
                    )
        elif like.has_texts_as_keys():
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_LONGEST)
        else:
            schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field(self._column, DataType.FLOAT_VECTOR, dim=layout.dim)
        index = self.client.prepare_index_params()
        kind = _UNINDEXED if self.url.local else _INDEXED
        index.add_index(self._column, index_type=kind, metric_type=_NAMES[layout.metric])
        level = like._consistency() if isinstance(like, MilvusCollection) else _STRONG
        self._ask(
            lambda c: c.create_collection(
                self.url.name, schema=schema, index_params=index, consistency_level=level
            )
        )

    def unindexed(self) -> int:
        """All rows of a file that was not indexed as a whole.

        Milvus Lite takes longer to index rows than to write them, and begins again after each
        start. So a file has no index until its rows are there, and is searched row by row.
        """
        if not self.url.local or self._index().get("index_type") == _INDEXED:
            return 0
        return self.count()

    def index_vectors(self, metric: Metric) -> None:
        """Builds the index of a file."""
        index = self.client.prepare_index_params()
        index.add_index(self._column, index_type=_INDEXED, metric_type=_NAMES[metric])
        if self._index():
            self._ask(lambda c: c.release_collection(self.url.name))
            self._ask(lambda c: c.drop_index(self.url.name, self._column))
        self._ask(lambda c: c.create_index(self.url.name, index))
        self._is_loaded = False

    def _index(self) -> dict[str, Any]:
        return self._ask(lambda c: c.describe_index(self.url.name, self._column)) or {}

    def insert(self, records: Records) -> None:
        """Inserts rows, with no search for rows to replace."""
        rows = self._rows(records)
        self._ask(lambda c: c.insert(self.url.name, rows))

    def write(self, records: Records) -> None:
        """Replaces rows, of which an upsert into a file would keep fields that are gone."""
        if self.url.local and records.payloads is not None:
            self._delete_outdated(records)
        rows = self._rows(records)
        self._ask(lambda c: c.upsert(self.url.name, rows))

    def _rows(self, records: Records) -> list[dict[str, Any]]:
        key, vectors = self._key, np.asarray(records.vectors, np.float32).tolist()
        payloads = records.payloads or [{} for _ in records.ids]
        return [
            {**payload, key: of_row, self._column: vector}
            for of_row, vector, payload in zip(records.ids, vectors, payloads, strict=True)
        ]

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        if ids:
            self._ask(lambda c: c.delete(self.url.name, filter=self._among(ids)))

    def drop(self, *, whole: bool) -> None:
        """Drops the collection."""
        self._key_name = None
        self._ask(lambda c: c.drop_collection(self.url.name))

    def check_copy(self, target: Collection | None) -> None:
        """Refuses where other vectors of the rows would be left behind."""
        if others := sorted(self._vectors().keys() - {self._column}):
            raise StoreError(
                f"the rows of {self.url} have other vectors too, which a new collection would not "
                f"get: {', '.join(others)}"
            )

    def alias(self, name: str) -> str | None:
        """The collection that an alias names."""
        named = self._ask(lambda c: c.list_aliases()).get("aliases", [])
        if name not in named:
            if self._ask(lambda c: c.has_collection(name)):
                raise self._taken_alias(name, "collection")
            return None
        return str(self._ask(lambda c: c.describe_alias(name))["collection_name"])

    def point(self, name: str, collection: str | None) -> None:
        """Creates, alters or drops an alias."""
        there = self.alias(name) is not None
        if collection is None:
            if there:
                self._ask(lambda c: c.drop_alias(name))
        elif there:
            self._ask(lambda c: c.alter_alias(collection, name))
        else:
            self._ask(lambda c: c.create_alias(collection, name))

    @property
    def _column(self) -> str:
        return self.url.vector or "vector"

    @property
    def _key(self) -> str:
        if self._key_name is None:
            keys = (field["name"] for field in self._fields() if field.get("is_primary"))
            self._key_name = str(next(keys))
        return self._key_name

    def _consistency(self) -> Any:
        """How fresh answers are; a server's scan has no other way to ask for what was written."""
        if not self.exists():
            return _STRONG
        return self._ask(lambda c: c.describe_collection(self.url.name))["consistency_level"]

    def _fields(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask(lambda c: c.describe_collection(self.url.name))[
            "fields"
        ]
        return found

    def _vectors(self) -> dict[str, Any]:
        return {f["name"]: f for f in self._fields() if int(f["type"]) in _VECTORS}

    def _fields_read(self, vectors: bool, payloads: bool) -> list[str]:
        if payloads:
            return ["*"]
        return [self._key, *([self._column] if vectors else [])]

    def _records(self, rows: Any, vectors: bool, payloads: bool) -> Records:
        key = self._key
        beside = [{k: v for k, v in row.items() if k not in (key, self._column)} for row in rows]
        return Records(
            [row[key] for row in rows],
            stacked([np.asarray(row[self._column], np.float32) for row in rows])
            if vectors
            else None,
            beside if payloads else None,
        )

    def _load(self) -> None:
        """Loads the collection, as none is when a file is opened or a server has just started."""
        if not self._is_loaded:
            self._ask(lambda c: c.load_collection(self.url.name, timeout=_LOADING))
            self._is_loaded = True

    def _query(self, **asked: Any) -> list[Any]:
        self._load()
        return list(self._ask(lambda c: c.query(self.url.name, **asked, **_READ)))

    def _ask(self, request: Callable[[Any], T]) -> T:
        return self._told(lambda: request(self.client))

    def _told(self, request: Callable[[], T]) -> T:
        """The answer to a request; Milvus' errors in this library's words."""
        from pymilvus.exceptions import MilvusException

        try:
            with _silent(_LITE), _silent(_CALLS):  # which log errors that are also raised
                return request()
        except MilvusException as error:
            told = " ".join(str(error.message).split())[:200]
            if self.url.local and "[Errno " in told:
                raise unwritten(self.url, OSError(told)) from error
            if "connect" in told.lower() or error.code == 2:
                raise StoreUnavailableError(f"{self.url} did not answer: {told}") from error
            raise StoreError(f"{self.url}: {told}") from error


def _elements(field: dict[str, Any]) -> dict[str, Any]:
    """What the elements of an array are."""
    from pymilvus import DataType

    kind = field.get("element_type")
    return {"element_type": DataType(int(kind))} if kind else {}


def _literal(key: Key) -> str:
    """A key in an expression."""
    return json.dumps(key, ensure_ascii=False)


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keeps a logger of the client's from the terminal."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
