"""A collection read beside another one gives the rows asked for, whatever the order of either."""

import numpy as np
import pytest
from store_places import filled, rows

from hf_latent_bridge.vectors.stores.base import Place
from hf_latent_bridge.vectors.stores.beside import Beside
from hf_latent_bridge.vectors.stores.registry import open_collection

SIZE = 5


@pytest.fixture
def collection(tmp_path):
    with open_collection(filled(f"sqlite:{tmp_path}/file.db/docs", rows(60))) as opened:
        yield opened


def batches(order):
    return [list(order[first : first + SIZE]) for first in range(0, len(order), SIZE)]


@pytest.mark.parametrize(
    "order",
    [range(60), range(59, -1, -1), np.random.default_rng(0).permutation(60).tolist()],
    ids=["the same", "backwards", "any"],
)
def test_rows_are_found_in_any_order(collection, order):
    beside, wanted = Beside(collection, SIZE), rows(60)
    for ids in batches(order):
        found = beside.rows(ids)
        assert sorted(found.ids) == sorted(ids)
        np.testing.assert_allclose(found.vectors, wanted.vectors[found.ids], atol=1e-6)
        assert found.payloads == [wanted.payloads[row] for row in found.ids]


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (range(60), range(0, 120, 2)),  # half of them are asked for, and as many are not there
        (range(0, 60, 7), range(60)),  # most are not there
        (range(30, 60), range(60)),  # the first are not there
        (range(30), range(60)),  # the last are not there
        (range(60), [*range(40, 60), *range(40)]),
    ],
)
def test_rows_that_are_not_there_are_named(tmp_path, there, asked):
    url, whole = f"sqlite:{tmp_path}/file.db/some", rows(60)
    kept = list(there)
    with open_collection(
        filled(
            url,
            whole._replace(
                ids=kept, vectors=whole.vectors[kept], payloads=[whole.payloads[i] for i in kept]
            ),
        )
    ) as collection:
        beside = Beside(collection, SIZE, vectors=False, payloads=False)
        missing = [ids[row] for ids in batches(asked) for row in beside.lacking(ids)]
        assert missing == [key for key in asked if key not in kept]
        beside = Beside(collection, SIZE)
        found = [key for ids in batches(asked) for key in beside.rows(ids).ids]
        assert sorted(found) == [key for key in sorted(asked) if key in kept]


def test_rows_in_the_same_order_are_never_asked_for_by_their_keys(collection, monkeypatch):
    monkeypatch.setattr(collection, "fetch", None)
    monkeypatch.setattr(collection, "present", None)
    beside = Beside(collection, SIZE)
    assert [beside.rows(ids).ids for ids in batches(range(60))] == batches(range(60))
    assert beside.lacking([60, 61]) == [0, 1]


def test_the_rows_before_its_beginning_are_not_read(collection, monkeypatch):
    monkeypatch.setattr(collection, "present", None)
    begun = Place(40, rows(60).ids[39])
    beside = Beside(collection, SIZE, vectors=False, payloads=False, after=begun)
    missing = [ids[row] for ids in batches(range(40, 70)) for row in beside.lacking(ids)]
    assert missing == list(range(60, 70))
