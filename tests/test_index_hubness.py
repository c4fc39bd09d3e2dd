"""An index that corrects for hubs ranks as the explicit score, however it was filled or loaded."""

import json

import numpy as np
import pytest
import torch
from comparing import close

from hf_latent_bridge import LatentIndex, OrthoTranslator, SpaceSpec, load_decoder
from hf_latent_bridge.errors import (
    ConfigError,
    DecoderError,
    InvalidLatentsError,
    NotFittedError,
    SpaceMismatchError,
)
from hf_latent_bridge.files import read_config

draw = np.random.default_rng(0)
VECTORS = (draw.normal(size=(200, 8)) * draw.uniform(0.5, 2, size=(200, 1)) + 0.4).astype("float32")
QUERIES, BANK = (draw.normal(size=(n, 8)).astype("float32") + 0.2 for n in (30, 50))
ITEMS = [f"item {row}" for row in range(200)]
SPACE = SpaceSpec(8, repo_id="me/encoder")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def explicit_scores(n_neighbors=10):
    """CSLS by its definition, without the term of the query."""
    nearest = np.sort(unit(VECTORS) @ unit(BANK).T, axis=1)[:, -n_neighbors:]
    return unit(QUERIES) @ unit(VECTORS).T - nearest.mean(1) / 2


def corrected(vectors=VECTORS, items=ITEMS, **options):
    options = {"hubness": "csls", "bank": BANK, "space": SPACE, **options}
    return LatentIndex.from_latents(vectors, items, **options)


def rows_of(index, top_k=15):
    return [[hit["row"] for hit in hits] for hits in index.search(QUERIES, top_k=top_k)]


SEARCHES = [
    {"search": "exact"},
    {"search": "faiss"},
    {"search": "faiss", "search_params": {"factory": "IVF1,Flat"}},
]


@pytest.mark.parametrize("options", SEARCHES)
@pytest.mark.parametrize("n_neighbors", [1, 10])
def test_the_ranking_and_the_scores_are_those_of_csls(options, n_neighbors):
    index = corrected(n_neighbors=n_neighbors, **options)
    explicit = explicit_scores(n_neighbors)
    best = np.argsort(-explicit, axis=1)[:, :15]
    assert rows_of(index) == best.tolist()
    scores = [[hit["score"] for hit in hits] for hits in index.search(QUERIES, top_k=15)]
    np.testing.assert_allclose(scores, np.take_along_axis(explicit, best, 1), atol=1e-5)


def test_the_correction_changes_the_ranking():
    plain = LatentIndex.from_latents(VECTORS, ITEMS)
    assert rows_of(plain) != rows_of(corrected())
    assert (plain.hubness, plain.bank) == (None, None)


@pytest.mark.parametrize("options", SEARCHES)
def test_items_added_one_by_one_are_ranked_as_all_at_once(options):
    index = corrected(VECTORS[:1], ITEMS[:1], **options)
    for row in range(1, 40):
        index.add(VECTORS[row : row + 1], ITEMS[row : row + 1])
    index.add(VECTORS[40:], ITEMS[40:])
    assert rows_of(index) == rows_of(corrected(**options))
    assert close(index._tensors()["similarity"], corrected()._tensors()["similarity"], atol=1e-6)


@pytest.mark.parametrize("options", SEARCHES[:2])
def test_a_saved_index_ranks_and_grows_as_before(tmp_path, options):
    corrected(VECTORS[:120], ITEMS[:120], n_neighbors=7, **options).save_pretrained(tmp_path)
    loaded = load_decoder(tmp_path)
    assert (loaded.hubness, loaded.n_neighbors, loaded.metric) == ("csls", 7, "cosine")
    assert close(loaded.bank, unit(BANK), atol=1e-6)
    loaded.add(VECTORS[120:], ITEMS[120:])
    assert rows_of(loaded) == rows_of(corrected(n_neighbors=7))
    assert "hubness='csls'" in repr(loaded)


def test_a_pushed_index_comes_back_with_its_bank(repo_id):
    corrected().push_to_hub(repo_id, token="hf_alice")
    loaded = LatentIndex.from_pretrained(repo_id)
    assert rows_of(loaded) == rows_of(corrected())
    loaded.drop_bank()
    assert (loaded.repo_id, loaded.commit) == (None, None)


def test_without_its_bank_an_index_searches_as_before_but_takes_no_more_items(tmp_path):
    index = corrected().drop_bank()
    index.save_pretrained(tmp_path)
    loaded = load_decoder(tmp_path)
    assert rows_of(loaded) == rows_of(corrected())
    assert loaded.bank is None
    with pytest.raises(DecoderError, match="without the bank of queries that the other 200"):
        loaded.add(VECTORS[:1], ["more"])
    assert len(loaded) == 200


def test_the_config_states_the_correction_only_where_there_is_one(tmp_path):
    for name, index in (("plain", LatentIndex.from_latents(VECTORS, ITEMS)), ("csls", corrected())):
        index.save_pretrained(tmp_path / name)
    plain, csls = (
        json.loads((tmp_path / name / "config.json").read_text())["params"]
        for name in ("plain", "csls")
    )
    correction = {"hubness": "csls", "n_neighbors": 10, "bank_size": 50}
    assert csls == plain | correction
    assert not correction.keys() & plain.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hubness": "pmi2"}, "hubness must be one of"),
        ({"n_neighbors": 0}, "n_neighbors must hold positive integers"),
        ({"n_neighbors": 51}, "bank_size must be 0 or at least n_neighbors, 51, got 50"),
        ({"metric": "dot"}, "hubness needs metric 'cosine', got 'dot'"),
        ({"bank_size": 50.0}, "bank_size must be int"),
    ],
)
def test_a_config_that_cannot_be_is_refused(tmp_path, change, message):
    corrected().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = read_config(path)
    config["params"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        load_decoder(tmp_path)


def test_the_bank_of_a_translator_serves():
    anchors = draw.normal(size=(60, 8))
    translator = OrthoTranslator().fit(anchors, anchors @ draw.normal(size=(8, 8)), target=SPACE)
    translator.keep_bank(anchors, size=40)
    index = corrected(bank=translator)
    assert close(index.bank, translator.query_bank_.float(), atol=1e-6)
    assert rows_of(index) == rows_of(corrected(bank=translator.query_bank_))


def test_a_translator_into_another_space_or_without_a_bank_is_refused():
    anchors = draw.normal(size=(60, 8))
    other = SpaceSpec(8, repo_id="me/other")
    translator = OrthoTranslator().fit(anchors, anchors, target=other)
    with pytest.raises(SpaceMismatchError, match=r"^the bank's translator .*me/other.* the index "):
        corrected(bank=translator.keep_bank(anchors))
    with pytest.raises(DecoderError, match="has no bank of queries: call its keep_bank"):
        corrected(bank=OrthoTranslator().fit(anchors, anchors, target=SPACE))
    with pytest.raises(NotFittedError, match="this OrthoTranslator is not fitted"):
        corrected(bank=OrthoTranslator())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hubness": "csl"}, DecoderError, "hubness must be one of .'csls',. or None, got 'csl'"),
        ({"bank": None}, DecoderError, "needs a bank of queries"),
        ({"hubness": None}, DecoderError, "a bank of queries is for hubness='csls'"),
        ({"metric": "dot"}, DecoderError, "compares cosines, got metric='dot'"),
        ({"n_neighbors": 51}, DecoderError, "n_neighbors must be an integer from 1 to 50"),
        ({"bank": BANK[:0]}, InvalidLatentsError, "a bank needs at least one query, got none"),
        ({"bank": BANK[:, :5]}, InvalidLatentsError, r"\(n, 8\), got \(50, 5\)"),
        ({"bank": BANK * np.nan}, InvalidLatentsError, "NaN or infinity"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        corrected(**options)


def test_tensors_on_a_device_stay_there():
    index = corrected(torch.from_numpy(VECTORS), bank=torch.from_numpy(BANK).double())
    assert index.bank.dtype == torch.float32
    assert index.bank.device == index.vectors.device
