"""While a migration runs, old and new vectors give one list of answers without duplicates."""

import numpy as np
import pytest
from store_places import filled, rows

from hf_latent_bridge import DualSearch, Hit, OrthoTranslator, migrate
from hf_latent_bridge.errors import InvalidNameError, StoreError
from hf_latent_bridge.vectors.stores.base import Layout
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]
N = 40


@pytest.fixture(params=["qdrant", "sqlite"])
def url(request, tmp_path):
    place = {"qdrant": "db", "sqlite": "file.db"}[request.param]
    return filled(f"{request.param}:{tmp_path}/{place}/docs", rows(N))


@pytest.fixture
def queries():
    return rows(1, seed=5).vectors[0], rows(1, 6, seed=6).vectors[0]


def moved(url, which):
    """Some rows by their new vectors, as a migration in its middle has written them."""
    with open_collection(url) as old, open_collection(f"{url}-new") as new:
        new.create(Layout(6, "cosine"), old)
        given = rows(N, 6, seed=2)
        vectors = given.vectors[which]
        payloads = [given.payloads[i] for i in which]
        if payloads:
            new.write(given._replace(ids=list(which), vectors=vectors, payloads=payloads))


def ranking(vectors, query):
    return np.argsort(-(vectors @ query), kind="stable").tolist()


def test_before_the_first_row_is_moved_it_is_the_old_ranking(url, queries):
    wanted = [Hit(key, False) for key in ranking(rows(N).vectors, queries[0])[:10]]
    with DualSearch(url, f"{url}-new") as search:
        assert search.nearest(*queries, k=10) == wanted
        moved(url, [])
        assert search.nearest(*queries, k=10) == wanted


def test_after_the_last_row_it_is_the_new_ranking(url, queries):
    moved(url, range(N))
    wanted = [Hit(key, True) for key in ranking(rows(N, 6, seed=2).vectors, queries[1])[:10]]
    with DualSearch(url, f"{url}-new") as search:
        assert search.nearest(*queries, k=10) == wanted


def test_in_between_rows_that_wait_keep_their_places_and_moved_ones_fill_the_others(url, queries):
    there = set(range(0, N, 2))
    moved(url, sorted(there))
    fresh = iter([key for key in ranking(rows(N, 6, seed=2).vectors, queries[1]) if key in there])
    wanted = [
        Hit(next(fresh), True) if key in there else Hit(key, False)
        for key in ranking(rows(N).vectors, queries[0])[:10]
    ]
    with DualSearch(url, f"{url}-new") as search:
        found = search.nearest(*queries, k=10)
    assert found == wanted
    assert len({hit.id for hit in found}) == 10


def test_no_row_is_lost_or_twice_at_any_moment_of_a_migration(url, queries, tmp_path):
    translator = OrthoTranslator().fit(rows(40, seed=1).vectors, rows(40, 6, seed=2).vectors)
    seen = []

    class Watched(OrthoTranslator):
        def transform(self, X):
            with DualSearch(url, f"{url}-new") as search:
                seen.append([hit.id for hit in search.nearest(*queries, k=N)])
            return translator.transform(X)

    watched = Watched().fit(rows(40, seed=1).vectors, rows(40, 6, seed=2).vectors)
    migrate(watched, url, f"{url}-new", batch_size=7, state_dir=tmp_path / "state")
    assert len(seen) > 6
    assert all(sorted(ids) == list(range(N)) for ids in seen)


def test_bad_input_is_refused(url, queries):
    with pytest.raises(StoreError, match="other"):
        DualSearch(url.replace("docs", "other"), f"{url}-new")
    with DualSearch(url, f"{url}-new") as search:
        with pytest.raises(ValueError, match="k must be an integer of at least 1"):
            search.nearest(*queries, k=0)
        with pytest.raises(StoreError):
            search.nearest(queries[1], queries[1])


@pytest.mark.parametrize(
    ("source", "target"), [("other", "docs"), ("docs", None)], ids=["source", "target"]
)
def test_what_was_opened_for_a_search_that_is_refused_is_let_go_of(tmp_path, source, target):
    from qdrant_client import QdrantClient

    folder = tmp_path / "db"
    filled(f"qdrant:{folder}/docs", rows(N))
    with pytest.raises((StoreError, InvalidNameError)) as kept:  # and all that its frames hold
        DualSearch(f"qdrant:{folder}/{source}", f"qdrant:{folder}/{target}" if target else "docs")
    QdrantClient(path=str(folder)).close()  # raises where the folder is open elsewhere
    assert kept.tb
