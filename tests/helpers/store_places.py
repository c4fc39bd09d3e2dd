"""Collections to test with, in each store whose client is installed, and rows to put there."""

from importlib.util import find_spec

import numpy as np

from hf_latent_bridge.vectors.stores.base import Layout, Records
from hf_latent_bridge.vectors.stores.registry import STORES, open_collection

INSTALLED = sorted(s for s, store in STORES.items() if all(map(find_spec, store.needs)))


def url_in(scheme, folder, name="docs"):
    """The URL of a collection in a store of its own below a folder."""
    example = STORES[scheme].example
    return example.replace("./", f"{folder}/").replace("docs", name)


def rows(n, dim=4, *, seed=0, first=0):
    """Rows with ids, unit vectors and payloads of several kinds."""
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    payloads = [
        {"text": f"item {i}", "tags": ["a", "ü"], "price": i / 4, "seen": None, "deep": {"n": i}}
        for i in range(first, first + n)
    ]
    return Records(list(range(first, first + n)), vectors, payloads)


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
