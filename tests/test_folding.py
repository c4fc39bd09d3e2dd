"""Files of vectors are folded so that a store which knows nothing of hubs ranks by CSLS."""

import json

import numpy as np
import pytest
import torch

from hf_latent_bridge import Folding, OrthoTranslator, translate_file
from hf_latent_bridge.errors import CheckpointError, InvalidLatentsError

draw = np.random.default_rng(0)
X = draw.normal(size=(120, 6)).astype(np.float32)
Y = (X @ draw.normal(size=(6, 5)) + 0.3 * draw.normal(size=(120, 5))).astype(np.float32)
ITEMS = Y[40:]
QUERIES = X[:20]
METRICS = ["dot", "cosine", "euclidean"]


@pytest.fixture
def translator():
    """From the query encoder's space into that of the store, with a bank of queries."""
    return OrthoTranslator().fit(X, Y).keep_bank(X, size=50)


@pytest.fixture
def write(tmp_path):
    """Translates and folds rows by way of files; returns the result."""

    def write(translator, rows, *, chunk_size=7, **options):
        np.save(tmp_path / "in.npy", rows)
        out = tmp_path / "out.npy"
        written = translate_file(
            translator, tmp_path / "in.npy", out, chunk_size=chunk_size, **options
        )
        result = np.load(out)
        assert written.shape == result.shape
        return result

    return write


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def explicit(queries, items, bank, n_neighbors=10):
    nearest = np.sort(unit(items) @ unit(bank).T, axis=1)[:, -n_neighbors:]
    return unit(queries) @ unit(items).T - nearest.mean(1) / 2


def store_scores(queries, items, metric):
    """What a store that knows nothing of hubs ranks by; higher is better."""
    if metric == "dot":
        return queries @ items.T
    if metric == "cosine":
        return unit(queries) @ unit(items).T
    return -np.linalg.norm(queries[:, None] - items[None], axis=2)


def ranking(scores):
    return np.argsort(-scores.round(6), axis=1, kind="stable")[:, :10]


@pytest.mark.parametrize("metric", METRICS)
def test_translated_queries_find_the_items_of_an_old_store_by_csls(translator, write, metric):
    options = {"metric": metric, "n_neighbors": 4}
    items = write(translator, ITEMS, folding=Folding("items", input_space="target", **options))
    queries = write(translator, QUERIES, folding=Folding("queries", metric=metric))
    bank = translator.query_bank_.cpu().numpy()
    expected = explicit(translator.transform(QUERIES), ITEMS, bank, 4)
    np.testing.assert_array_equal(ranking(store_scores(queries, items, metric)), ranking(expected))


@pytest.mark.parametrize("metric", METRICS)
def test_translated_items_are_found_by_queries_of_the_new_encoder(translator, write, metric):
    asked, bank = Y[:20], Y[20:40]
    items = write(translator, X[40:], folding=Folding("items", bank, metric=metric))
    folded = Folding("queries", metric=metric, input_space="target")
    queries = write(translator, asked, folding=folded)
    expected = explicit(asked, translator.transform(X[40:]), bank)
    np.testing.assert_array_equal(ranking(store_scores(queries, items, metric)), ranking(expected))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_dtype_and_the_number_of_processes_change_nothing_else(translator, write, dtype):
    folding = Folding("items", Y[:40], metric="cosine")
    expected = write(translator, X, folding=folding)
    result = write(translator, X, folding=folding, dtype=dtype, processes=2)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=2e-3 if dtype == "float16" else 1e-6)


def test_the_manifest_says_how_rows_were_folded(translator, write, tmp_path):
    write(translator, X, folding=Folding("items", metric="cosine"))
    manifest = json.loads((tmp_path / "out.npy.manifest.json").read_text())
    folding = manifest["folding"]
    assert manifest["width"] == 7
    assert len(folding.pop("bank_sha256")) == 64
    assert folding == {
        "side": "items",
        "metric": "cosine",
        "input_space": "source",
        "n_neighbors": 10,
    }
    write(translator, X)
    assert "folding" not in json.loads((tmp_path / "out.npy.manifest.json").read_text())


def test_a_run_with_another_bank_is_not_resumed(translator, write, monkeypatch):
    monkeypatch.setattr("hf_latent_bridge.translation.finish", _fail)
    with pytest.raises(OSError, match="disk full"):
        write(translator, X, folding=Folding("items", Y[:40]))
    with pytest.raises(CheckpointError, match="another input and folding"):
        write(translator, X, folding=Folding("items", Y[1:41]))


def _fail(*_):
    raise OSError("disk full")


def test_what_does_not_go_together_is_refused(translator, write):
    with pytest.raises(ValueError, match="a bank is for items"):
        Folding("queries", Y)
    for wrong in ({"side": "both"}, {"metric": "l1"}, {"input_space": "shared"}):
        with pytest.raises(ValueError, match="must be"):
            Folding(**{"side": "items", **wrong})
    with pytest.raises(ValueError, match="from 1 to 40, the size of the bank, got 41"):
        write(translator, X, folding=Folding("items", Y[:40], n_neighbors=41))
    with pytest.raises(InvalidLatentsError, match=r"a bank must be latents \(m, 5\) of "):
        write(translator, X, folding=Folding("items", X))
    with pytest.raises(ValueError, match="the translator keeps none: give latents of "):
        write(translator.drop_bank(), X, folding=Folding("items"))
    with pytest.raises(ValueError, match="items are folded by a bank of queries"):
        Folding("items").fold(torch.from_numpy(Y))
    with pytest.raises(InvalidLatentsError, match="input_space='target' must be latents of"):
        write(translator, X, folding=Folding("queries", input_space="target"))
