"""The registry of vector stores, and the opening of their URLs."""

from dataclasses import dataclass
from pathlib import Path

from hf_latent_bridge.errors import InvalidNameError, StoreError
from hf_latent_bridge.extras import require
from hf_latent_bridge.names import without_secrets
from hf_latent_bridge.vectors.stores.base import Collection
from hf_latent_bridge.vectors.stores.chroma import ChromaCollection
from hf_latent_bridge.vectors.stores.lance import LanceCollection
from hf_latent_bridge.vectors.stores.milvus import MilvusCollection
from hf_latent_bridge.vectors.stores.postgres import PostgresCollection
from hf_latent_bridge.vectors.stores.qdrant import QdrantCollection
from hf_latent_bridge.vectors.stores.sqlite import SqliteCollection
from hf_latent_bridge.vectors.stores.url import StoreUrl, parse_url, scheme_of

TIMEOUT = 60.0  # seconds for one request to a store


@dataclass(frozen=True)
class VectorStore:
    """A kind of vector store.

    Attributes:
        scheme: How its URLs begin.
        example: A URL of it, for help texts.
        collection: How it is read and written.
        needs: Packages that its client imports.
        extra: The extra of this library that installs them.
    """

    scheme: str
    example: str
    collection: type[Collection]
    needs: tuple[str, ...]
    extra: str


STORES: dict[str, VectorStore] = {}


def register(store: VectorStore) -> VectorStore:
    """Makes a store known to everything that reads vectors, and to `migrate`.

    Raises:
        ValueError: The scheme is taken.
    """
    if store.scheme in STORES:
        raise ValueError(f"the scheme {store.scheme!r} is taken")
    STORES[store.scheme] = store
    return store


def is_store_url(name: object) -> bool:
    """Whether a name is the URL of a known store."""
    return isinstance(name, str) and scheme_of(name) in STORES


def addressable() -> str:
    """An example URL of each store, for help texts and errors."""
    return ", ".join(store.example for store in STORES.values())


def open_collection(
    url: str,
    *,
    create: bool = False,
    timeout: float = TIMEOUT,
) -> Collection:
    """Connects to a collection, which need not exist yet.

    Args:
        url: Its URL.
        create: Whether a file or folder that is not there is made.
        timeout: Seconds for one request.

    Raises:
        InvalidNameError: Not the URL of a known store.
        MissingExtraError: The store's client is not installed.
        StoreError: There is no such file or folder.
        StoreUnavailableError: The store cannot be reached.
    """
    store, parsed = _store_of(url), address(url)
    require(store.extra, *store.needs, purpose=f"a {store.scheme} URL")
    if parsed.local and not create and not Path(parsed.path).exists():
        raise StoreError(f"{parsed}: there is no {parsed.path}")
    return store.collection(parsed, timeout=timeout)


def address(url: str) -> StoreUrl:
    """The parts of a store's URL; connects to nothing.

    Raises:
        InvalidNameError: Not the URL of a known store.
    """
    kind = _store_of(url).collection
    found = parse_url(url, params=kind.params, embedded=kind.embedded, users=kind.users)
    if found.vector and not kind.several_vectors:
        raise InvalidNameError(
            f"{found}: {found.scheme} keeps one vector a row, which has no name: leave "
            f"?vector={found.vector} out"
        )
    return found


def kind_of(url: str) -> type[Collection]:
    """The class of the collections that a URL names.

    Raises:
        InvalidNameError: Not the URL of a known store.
    """
    return _store_of(url).collection


def _store_of(url: str) -> VectorStore:
    store = STORES.get(scheme_of(url) or "")
    if store is None:
        raise InvalidNameError(
            f"a store is named by a URL ({addressable()}), got {without_secrets(url)!r}"
        )
    return store


register(
    VectorStore(
        "qdrant", "qdrant:./folder/docs", QdrantCollection, ("qdrant_client",), extra="qdrant"
    )
)
register(
    VectorStore(
        "postgresql",
        "postgresql://user@host/db/docs?vector=embedding",
        PostgresCollection,
        ("psycopg", "pgvector"),
        extra="postgres",
    )
)
register(VectorStore("lancedb", "lancedb:./folder/docs", LanceCollection, ("lancedb",), "lancedb"))
register(
    VectorStore("chroma", "chroma:./folder/docs", ChromaCollection, ("chromadb",), extra="chroma")
)
register(
    VectorStore("milvus", "milvus:./file.db/docs", MilvusCollection, ("pymilvus",), extra="milvus")
)
register(
    VectorStore(
        "sqlite",
        "sqlite:./file.db/docs",
        SqliteCollection,
        ("apsw", "sqlite_vec"),
        extra="sqlite",
    )
)
