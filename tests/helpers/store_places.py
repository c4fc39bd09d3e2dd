"""Collections to test with, in each store whose client is installed, and rows to put there."""

import hashlib
import os

import numpy as np
from experiments.store_urls import installed
from experiments.store_urls import url_in as embedded_url_in

from hf_latent_bridge.vectors.stores.base import Layout, Records
from hf_latent_bridge.vectors.stores.registry import open_collection

__all__ = ["INSTALLED", "content", "filled", "key", "rows", "url_in"]

INSTALLED = installed()
MILVUS = os.environ.get("MILVUS_SERVER")  # host:port of one to test on instead of files


def url_in(scheme, folder, name="docs"):
    """The URL of a collection of its own, on a server of Milvus where one is given."""
    if scheme == "milvus" and MILVUS:
        return f"milvus://{MILVUS}/{name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    return embedded_url_in(scheme, folder, name)


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
