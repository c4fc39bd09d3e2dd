"""Chroma: collections in a folder, with metadata and a document a row."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import LatentBridgeError, StoreError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records

_METRICS: dict[str, Metric] = {"cosine": "cosine", "ip": "dot", "l2": "euclidean"}
_SPACES = {metric: space for space, metric in _METRICS.items()}
_DOCUMENT = "document"
_DIM = "dim"
T = TypeVar("T")


class ChromaCollection(Collection):
    """A collection; the payload is its metadata, and the document as `document`."""

    def _connect(self, timeout: float) -> Any:
        return _told(self._client, self.url)

    def _client(self) -> Any:
        import chromadb

        if not self.url.local:
            raise StoreError(
                f"{self.url}: Chroma is read from its folder (chroma:./folder/name); its client "
                "waits for a server without end"
            )
        Path(self.url.path).mkdir(parents=True, exist_ok=True)
        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(path=self.url.path, settings=settings)

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
        """Upserts rows."""
        rows = [dict(payload) for payload in records.payloads or []]
        documents = [row.pop(_DOCUMENT, None) for row in rows]
        content = {
            "ids": [str(key) for key in records.ids],
            "embeddings": np.asarray(records.vectors, np.float32),
            "metadatas": [row or None for row in rows] if any(rows) else None,
            "documents": documents if any(d is not None for d in documents) else None,
        }
        self._ask(lambda c: c.upsert(**{k: v for k, v in content.items() if v is not None}))

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes rows."""
        self._ask(lambda c: c.delete(ids=list(ids)))

    def drop(self, *, whole: bool) -> None:
        """Deletes the collection."""
        _told(lambda: self.client.delete_collection(self.url.name), self.url)

    def check_copy(self, target: Collection) -> None:
        """Nothing is left behind."""

    def _get(self, vectors: bool, payloads: bool, **chosen: Any) -> Records:
        wanted = ["embeddings"] if vectors else []
        wanted += ["metadatas", "documents"] if payloads else []
        got = self._ask(lambda c: c.get(include=wanted, **chosen))
        rows = None
        if payloads:
            pairs = zip(got["metadatas"], got["documents"], strict=True)
            rows = [self._payload(metadata or {}, document) for metadata, document in pairs]
        return Records(got["ids"], got["embeddings"] if vectors else None, rows)

    def _payload(self, metadata: Any, document: str | None) -> dict[str, Any]:
        if document is None:
            return dict(metadata)
        if _DOCUMENT in metadata:
            raise StoreError(
                f"{self.url}: rows have a document and a metadata field of that name too: rename "
                "the field"
            )
        return {**metadata, _DOCUMENT: document}

    def _found(self) -> Any:
        return _told(lambda: self.client.get_collection(self.url.name, None), self.url)

    def _ask(self, request: Callable[[Any], T]) -> T:
        return _told(lambda: request(self._found()), self.url)


def _told(request: Callable[[], T], url: Any) -> T:
    """The answer to a request; Chroma's errors in this library's words."""
    from chromadb.errors import ChromaError

    try:
        return request()
    except LatentBridgeError:
        raise
    except (ChromaError, ValueError, TypeError) as error:
        raise StoreError(f"{url}: {' '.join(str(error).split())[:200]}") from error
