"""Qdrant: collections on a server or in a folder, with one vector or several named ones."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import numpy as np

from hf_latent_bridge.atomic import writing
from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import StoreError, StoreUnavailableError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.reader import stacked
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records, unwritten
from hf_latent_bridge.vectors.stores.url import StoreUrl

_METRICS: dict[str, Metric] = {"Cosine": "cosine", "Dot": "dot", "Euclid": "euclidean"}
_DISTANCES = {metric: distance for distance, metric in _METRICS.items()}
_ALL = 2**31 - 1  # points, of a folder that is asked for all
T = TypeVar("T")


class QdrantCollection(Collection):
    """A collection, or a named vector of one.

    An API key is taken from the environment variable QDRANT_API_KEY.
    """

    params: ClassVar[tuple[str, ...]] = ("https",)
    mixed_keys: ClassVar[bool] = True
    keys: ClassVar[str] = "whole numbers from 0 on and UUIDs (in lower case, with hyphens)"

    @staticmethod
    def _takes(key: Key) -> bool:
        if not isinstance(key, str):
            return 0 <= key < 2**64
        try:
            return str(UUID(key)) == key
        except ValueError:
            return False

    def _connect(self, timeout: float) -> Any:
        return _told(lambda: _client(self.url, timeout), self.url)

    @staticmethod
    def _disconnect(client: Any) -> None:
        client.close()

    @property
    def quick_keys(self) -> bool:
        """In a folder."""
        return self.url.local

    @property
    def _named(self) -> bool:
        return bool(self.url.vector)

    def exists(self) -> bool:
        """Whether the collection is there, and has this vector."""
        if not self._ask(lambda c: c.collection_exists(self.url.name)):
            return False
        return self.url.vector in self._vectors()

    def layout(self) -> Layout:
        """Of the vector named, or of the only one."""
        vectors = self._vectors()
        if self.url.vector not in vectors:
            named = sorted(name for name in vectors if name)
            raise StoreError(
                f"{self.url}: the collection has the vectors {named or ['(unnamed)']}: name one "
                f"as ?vector=, got {self.url.vector or 'none'!r}"
            )
        params = vectors[self.url.vector]
        if params.multivector_config is not None:
            raise StoreError(f"{self.url} holds several vectors a row; one a row is needed")
        distance = getattr(params.distance, "value", params.distance)
        if distance not in _METRICS:
            raise StoreError(f"{self.url} is searched by {distance}, not by {sorted(_METRICS)}")
        stored = getattr(params.datatype, "value", params.datatype) or "float32"
        return Layout(params.size, _METRICS[distance], stored)

    def count(self) -> int:
        """Exactly, rows that lack this vector left out."""
        has = self._has() if self._named else None
        found = self._ask(lambda c: c.count(self.url.name, count_filter=has, exact=True))
        return int(found.count)

    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """Scrolls through the points in the order of their ids.

        A folder's client sorts all ids for each page, and finds points by their ids at once.
        """
        keys = self.all_keys(after)
        if keys is None:
            pages = self._pages(size, vectors, payloads, after)
        else:
            parts = (keys[first : first + size] for first in range(0, len(keys), size))
            pages = (self._retrieved(ids, vectors, payloads) for ids in parts)
        for points in pages:
            if points:
                yield self._records(points, vectors, payloads)

    def _pages(
        self, size: int, vectors: bool, payloads: bool, after: Place | None
    ) -> Iterator[list[Any]]:
        offset: Any = None if after is None else after.key
        while True:
            points, offset = self._scroll(offset, size, vectors, payloads)
            if after is not None and points and points[0].id == after.key:
                points = points[1:]  # a scroll begins with the point that it is given
            yield points
            if offset is None:
                return

    def all_keys(self, after: Place | None = None) -> list[Key] | None:
        """The ids of a folder, in order."""
        if not self.quick_keys:
            return None
        return [point.id for page in self._pages(_ALL, False, False, after) for point in page]

    def text_beside_numbers(self) -> str | None:
        """The first UUID; numbers come before."""
        points, _ = self._scroll(str(UUID(int=0)), 1, False, False)
        return str(points[0].id) if points else None

    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Retrieves points by their ids."""
        points = self._retrieved(ids, True, payloads)
        whole = [point for point in points if self._vector(point) is not None]
        return self._records(whole, True, payloads)

    def _retrieved(self, ids: Sequence[Key], vectors: bool, payloads: bool) -> list[Any]:
        wanted: Any = [self.url.vector] if vectors and self._named else vectors
        return self._ask(
            lambda c: c.retrieve(
                self.url.name, list(ids), with_payload=payloads, with_vectors=wanted
            )
        )

    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Asks for the points without their content."""
        from qdrant_client import models

        if self.quick_keys:
            points = self._retrieved(ids, self._named, False)
            return {p.id for p in points if not self._named or self._vector(p) is not None}
        conditions: list[Any] = [models.HasIdCondition(has_id=list(ids))]
        if self._named:
            conditions.append(models.HasVectorCondition(has_vector=self.url.vector))
        points, _ = self._ask(
            lambda c: c.scroll(
                self.url.name,
                scroll_filter=models.Filter(must=conditions),
                limit=max(1, len(ids)),
                with_payload=False,
            )
        )
        return {point.id for point in points}

    def nearest(self, query: Array, k: int) -> list[Key]:
        """Queries the points."""
        vector = np.asarray(query, np.float32).tolist()
        using = self.url.vector or None
        found = self._ask(
            lambda c: c.query_points(
                self.url.name, query=vector, using=using, limit=k, with_payload=False
            )
        )
        return [point.id for point in found.points]

    def create(self, layout: Layout, like: Collection, fields: Sequence[str] = ()) -> None:
        """Makes a collection, or one more named vector in the collection that is there."""
        from qdrant_client import models

        distance = models.Distance(_DISTANCES[layout.metric])
        if not self._ask(lambda c: c.collection_exists(self.url.name)):
            params = models.VectorParams(size=layout.dim, distance=distance)
            config = {self.url.vector: params} if self._named else params
            self._ask(lambda c: c.create_collection(self.url.name, vectors_config=config))
            return
        dense = models.DenseVectorConfig(size=layout.dim, distance=distance)
        named = models.DenseVectorNameConfig(dense=dense)
        self._ask(lambda c: c.create_vector_name(self.url.name, self.url.vector, named))

    def write(self, records: Records) -> None:
        """Upserts points; updates the vector alone where there are no payloads."""
        from qdrant_client import models

        if not records.ids:
            return
        vectors = np.asarray(records.vectors, np.float32).tolist()
        if records.payloads is None:
            points = [
                models.PointVectors(id=key, vector=self._as_stored(vector))
                for key, vector in zip(records.ids, vectors, strict=True)
            ]
            self._ask(lambda c: c.update_vectors(self.url.name, points, wait=True))
            return
        batch = models.Batch(
            ids=list[Any](records.ids),
            vectors={self.url.vector: vectors} if self._named else vectors,
            payloads=list(records.payloads),
        )
        self._ask(lambda c: c.upsert(self.url.name, batch, wait=True))

    def delete(self, ids: Sequence[Key]) -> None:
        """Deletes points."""
        from qdrant_client import models

        if ids:
            chosen = models.PointIdsList(points=list(ids))
            self._ask(lambda c: c.delete(self.url.name, chosen, wait=True))

    def drop(self, *, whole: bool) -> None:
        """Deletes the collection, or this named vector alone."""
        if whole:
            self._ask(lambda c: c.delete_collection(self.url.name))
        else:
            self._ask(lambda c: c.delete_vector_name(self.url.name, self.url.vector))

    def check_copy(self, target: Collection | None) -> None:
        """Refuses where other vectors of the points would be left behind."""
        others = self._all_vectors() - {self.url.vector}
        if others:
            raise StoreError(
                f"the points of {self.url} have other vectors too, which a new collection would "
                f"not get ({', '.join(sorted(map(repr, others)))}): add the translated vectors to "
                f"the same collection, as .../{self.url.name}?vector=NEW"
            )

    def alias(self, name: str) -> str | None:
        """The collection that an alias names."""
        found = self._ask(lambda c: c.get_aliases()).aliases
        names = {alias.alias_name: alias.collection_name for alias in found}
        if name not in names and self._ask(lambda c: c.collection_exists(name)):
            raise self._taken_alias(name, "collection")
        return names.get(name)

    def point(self, name: str, collection: str | None) -> None:
        """Takes the alias away and gives it again in one request."""
        from qdrant_client import models

        changes: list[Any] = []
        if self.alias(name) is not None:
            gone = models.DeleteAlias(alias_name=name)
            changes.append(models.DeleteAliasOperation(delete_alias=gone))
        if collection is not None:
            made = models.CreateAlias(collection_name=collection, alias_name=name)
            changes.append(models.CreateAliasOperation(create_alias=made))
        if changes:
            self._ask(lambda c: c.update_collection_aliases(changes))

    def _scroll(
        self, offset: Any, size: int, vectors: bool, payloads: bool
    ) -> tuple[list[Any], Any]:
        wanted: Any = vectors
        if vectors and self._named:
            wanted = [self.url.vector]
        found: tuple[list[Any], Any] = self._ask(
            lambda c: c.scroll(
                self.url.name,
                limit=size,
                offset=offset,
                with_payload=payloads,
                with_vectors=wanted,
            )
        )
        return found

    def _records(self, points: list[Any], vectors: bool, payloads: bool) -> Records:
        return Records(
            [point.id for point in points],
            stacked([self._vector(point) for point in points]) if vectors else None,
            [point.payload or {} for point in points] if payloads else None,
        )

    def _vector(self, point: Any) -> Any:
        vector = point.vector
        if isinstance(vector, dict):
            vector = vector.get(self.url.vector)
        return None if vector is None else np.asarray(vector, np.float32)

    def _as_stored(self, vector: list[float]) -> Any:
        return {self.url.vector: vector} if self._named else vector

    def _has(self) -> Any:
        from qdrant_client import models

        return models.Filter(must=[models.HasVectorCondition(has_vector=self.url.vector)])

    def _params(self) -> Any:
        return self._ask(lambda c: c.get_collection(self.url.name)).config.params

    def _vectors(self) -> dict[str, Any]:
        """The dense vectors by name; the unnamed one as ''."""
        vectors = self._params().vectors
        return vectors if isinstance(vectors, dict) else {"": vectors}

    def _all_vectors(self) -> set[str]:
        params = self._params()
        vectors = params.vectors
        dense = set(vectors) if isinstance(vectors, dict) else {""}
        return dense | set(params.sparse_vectors or {})

    def _ask(self, request: Callable[[Any], T]) -> T:
        return _told(lambda: request(self.client), self.url)


def _client(url: StoreUrl, timeout: float) -> Any:
    from qdrant_client import QdrantClient

    if not url.host:
        with writing(Path(url.path)):
            Path(url.path).mkdir(parents=True, exist_ok=True)
            return QdrantClient(path=url.path, force_disable_check_same_thread=True)
    host, port = url.server
    key = os.environ.get("QDRANT_API_KEY")
    client = QdrantClient(
        host=host,
        port=port or 6333,
        https=url.secure,
        prefix=url.path or None,
        api_key=key,
        timeout=max(1, round(timeout)),
        check_compatibility=False,
    )
    client.get_collections()  # says now, and not in the middle of the work, if it is away
    return client


def _told(request: Callable[[], T], url: StoreUrl) -> T:
    """The answer to a request; its errors in this library's words."""
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        return request()
    except UnexpectedResponse as error:
        detail = " ".join((error.content or b"").decode(errors="replace").split())[:200]
        if error.status_code in (401, 403):
            raise StoreError(
                f"{url} refused the request ({error.status_code}): set QDRANT_API_KEY to a key "
                "that may do this"
            ) from error
        raise StoreError(f"{url} answered {error.status_code}: {detail}") from error
    except ResponseHandlingException as error:
        raise StoreUnavailableError(
            f"{url} did not answer ({error}): is the server running, and reachable from here?"
        ) from error
    except sqlite3.Error as error:  # of the files of the local mode
        raise unwritten(url, error) from error
    except (ValueError, RuntimeError, KeyError) as error:  # what the local mode raises
        raise StoreError(f"{url}: {' '.join(str(error).split())[:200]}") from error
