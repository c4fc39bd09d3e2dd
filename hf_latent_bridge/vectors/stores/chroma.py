"""Chroma: collections in a folder or on a server, with metadata and a document a row."""

import math
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import StoreError, StoreUnavailableError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records, is_text
from hf_latent_bridge.vectors.stores.url import StoreUrl

_METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "dot", "l2": "euclidean"}
_SPACES = {metric: space for space, metric in _METRICS.items()}
_BESIDE = {"documents": "document", "uris": "uri"}  # what a row has beside its metadata
_DIM = "dim"
T = TypeVar("T")


class ChromaCollection(Collection):
    """A collection; the payload is its metadata, and the document and URI as `document`, `uri`.

    A server's token is taken from the environment variable CHROMA_TOKEN. A path in the URL of a
    server names the database.
    """

    params: ClassVar[tuple[str, ...]] = ("https",)
    several_vectors: ClassVar[bool] = False
    keys: ClassVar[str] = "texts"
    values: ClassVar[str] = (
        "texts, finite numbers (whole ones of at most 64 bits with sign), true, false, and lists "
        "of one kind of these that are not empty; a document or URI is a text"
    )
    nulls: ClassVar[bool] = False

    @staticmethod
    def _takes(key: Key) -> bool:
        return isinstance(key, str) and bool(key)

    @classmethod
    def _takes_name(cls, name: str, target: StoreUrl) -> bool:
        return is_text(name) and name[:1] not in ("", "$", "#") and name != "chroma:document"

    @classmethod
    def _holds(cls, name: str, value: Any) -> bool:
        if name in _BESIDE.values():
            return is_text(value)
        values = value if isinstance(value, list) else [value]
        return len(set(map(type, values))) == 1 and all(map(cls._keeps, values))

    @staticmethod
    def _keeps(value: Any) -> bool:
        if isinstance(value, int):
            return -(2**63) <= value < 2**63
        return math.isfinite(value) if isinstance(value, float) else is_text(value)

    def _connect(self, timeout: float) -> Any:
        make = self._folder if self.url.local else lambda: self._server(timeout)
        return _told(make, self.url)

    def _folder(self) -> Any:
        import chromadb

        Path(self.url.path).mkdir(parents=True, exist_ok=True)
        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(path=self.url.path, settings=settings)

    def _server(self, timeout: float) -> Any:
        import chromadb

        host, port = self.url.server
        token = os.environ.get("CHROMA_TOKEN")
        client = _in_time(
            lambda: chromadb.HttpClient(
                host=host,
                port=port or 8000,
                ssl=self.url.secure,
                headers={"Authorization": f"Bearer {token}"} if token else None,
                settings=chromadb.Settings(anonymized_telemetry=False),
                database=self.url.path or chromadb.DEFAULT_DATABASE,
            ),
            timeout,
            self.url,
        )
        client._server._session.timeout = timeout  # Chroma's own requests wait without end
        return client

    @staticmethod
    def _disconnect(client: Any) -> None:
        client.close()

    def exists(self) -> bool:
        """Whether the collection is there."""
        listed = _told(self.client.list_collections, self.url)
        return self.url.name in {collection.name for collection in listed}

    def layout(self) -> Layout:
        """Width and metric."""
        found = self._found()
        dim = (found.metadata or {}).get(_DIM) or found.get_model().dimension
        if dim is None:
            raise StoreError(f"{self.url}: the collection is empty, so its width is not known")
        space = (found.configuration_json.get("hnsw") or {}).get("space", "l2")
        return Layout(int(dim), _METRICS[space])

    def count(self) -> int:
        """How many rows there are."""
        return int(self._ask(lambda c: c.count()))

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Pages through the rows in the order of their insertion."""
        start = 0 if after is None else after.rows
        while True:
            records = self._get(vectors, payloads, limit=size, offset=start)
            if not records.ids:
                return
            yield records
            start += len(records.ids)

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Gets rows by their ids."""
        if not ids:
            return Records([], [], [] if payloads else None)
        return self._get(True, payloads, ids=list(ids))

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Gets the ids alone."""
        return set(self._get(False, False, ids=list(ids)).ids) if ids else set()

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Queries the rows."""
        vector = np.asarray(query, np.float32)[None]
        found = self._ask(lambda c: c.query(query_embeddings=vector, n_results=k, include=[]))
        return list(found["ids"][0])

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Makes a collection.

        Raises:
            StoreError: It is there, for Chroma keeps one vector a row.
        """
        if self.exists():
            raise StoreError(
                f"{self.url}: Chroma keeps one vector a row: name another collection as the target"
            )
        _told(
            lambda: self.client.create_collection(
                self.url.name,
                metadata={_DIM: layout.dim},
                configuration={"hnsw": {"space": _SPACES[layout.metric]}},
                embedding_function=None,
            ),
            self.url,
        )

    def write(self, records: Records) -> None:
        """Replaces rows, of which an upsert would keep the fields that are no longer there."""
        if records.payloads is not None:
            self._delete_outdated(records)
        self.insert(records)

    def insert(self, records: Records) -> None:
        """Upserts rows, as many at a time as Chroma takes."""
        most = int(self._ask(lambda _: self.client.get_max_batch_size()))
        for first in range(0, len(records.ids), most):
            part = slice(first, first + most)
            vectors = np.asarray(records.vectors)[part]
            payloads = None if records.payloads is None else records.payloads[part]
            self._upsert(Records(records.ids[part], vectors, payloads))

    def _upsert(self, records: Records) -> None:
        rows = [dict(payload) for payload in records.payloads or []]
        beside = {kind: [row.pop(n, None) for row in rows] for kind, n in _BESIDE.items()}
        content = {
            "ids": list(records.ids),
            "embeddings": np.asarray(records.vectors, np.float32),
            "metadatas": [row or None for row in rows] if any(rows) else None,
            **{k: v if any(one is not None for one in v) else None for k, v in beside.items()},
        }
        self._ask(lambda c: c.upsert(**{k: v for k, v in content.items() if v is not None}))

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        if ids:
            self._ask(lambda c: c.delete(ids=list(ids)))

    def drop(self, *, whole: bool) -> None:
        """Deletes the collection."""
        _told(lambda: self.client.delete_collection(self.url.name), self.url)

    def check_copy(self, target: Collection | None) -> None:
        """Nothing is left behind."""

    def _get(self, vectors: bool, payloads: bool, **chosen: Any) -> Records:
        wanted = ["embeddings"] if vectors else []
        wanted += ["metadatas", *_BESIDE] if payloads else []
        got = self._ask(lambda c: c.get(include=wanted, **chosen))
        rows = None
        if payloads:
            columns = (got[kind] or [None] * len(got["ids"]) for kind in ("metadatas", *_BESIDE))
            rows = [self._payload(*row) for row in zip(*columns, strict=True)]
        return Records(got["ids"], got["embeddings"] if vectors else None, rows)

    def _payload(self, metadata: Any, *beside: str | None) -> dict[str, Any]:
        payload = dict(metadata or {})
        for name, value in zip(_BESIDE.values(), beside, strict=True):
            if value is not None and name in payload:
                raise StoreError(
                    f"{self.url}: rows have a {name} and a metadata field of that name too: rename "
                    "the field"
                )
            if value is not None:
                payload[name] = value
        return payload

    def _found(self) -> Any:
        return _told(lambda: self.client.get_collection(self.url.name, None), self.url)

    def _ask(self, request: Callable[[Any], T]) -> T:
        return _told(lambda: request(self._found()), self.url)


def _in_time(make: Callable[[], T], timeout: float, url: StoreUrl) -> T:
    """What `make` gives, or its error, within some seconds.

    Raises:
        StoreUnavailableError: It took longer.
    """
    made: queue.Queue[tuple[T | None, Exception | None]] = queue.Queue()

    def work() -> None:
        try:
            made.put((make(), None))
        except Exception as error:
            made.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = made.get(timeout=timeout)
    except queue.Empty as late:
        raise StoreUnavailableError(f"{url} did not answer within {timeout:g} s") from late
    if result is None:
        raise error or StoreUnavailableError(f"{url} gave no client")
    return result


def _told(request: Callable[[], T], url: StoreUrl) -> T:
    """The answer to a request; Chroma's errors in this library's words."""
    import httpx
    from chromadb.errors import ChromaError

    try:
        return request()
    except httpx.HTTPError as error:
        raise StoreUnavailableError(
            f"{url} did not answer ({type(error).__name__}: {error}): is the server running?"
        ) from error
    except (ChromaError, ValueError, TypeError) as error:
        told = " ".join(str(error).split())[:200]
        if "Could not connect" in told:
            raise StoreUnavailableError(f"{url}: {told}") from error
        if url.local and "hnsw segment" in told:
            raise StoreError(
                f"{url} cannot be read or written ({told}): is the disk full? Chroma may have left "
                "this collection damaged; make room, remove what a migration has made "
                "(--rollback), and start again"
            ) from error
        raise StoreError(f"{url}: {told}") from error
