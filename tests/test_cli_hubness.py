"""The command line keeps banks of queries, and reports searches that correct for hubs."""

import numpy as np
import pytest
import tiny_models

from hf_latent_bridge import AutoTranslator, OrthoTranslator, evaluate_latents
from hf_latent_bridge.hubness import fold_items, fold_queries

# encoders with random weights tell nothing about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")

draw = np.random.default_rng(0)
X = draw.normal(size=(90, 6)).astype(np.float32)
Y = (X @ draw.normal(size=(6, 5)) + 0.5 * draw.normal(size=(90, 5))).astype(np.float32)
FEW = ["--bootstrap", 20, "--permutations", 19]


@pytest.fixture
def folder(tmp_path):
    """A saved translator with a bank, and files of vectors."""
    OrthoTranslator().fit(X, Y).keep_bank(X, size=30).save_pretrained(tmp_path / "translator")
    for name, rows in (("x", X), ("y", Y), ("bank", Y[:20])):
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path


def vectors(folder):
    return ["--source-vectors", folder / "x.npy", "--target-vectors", folder / "y.npy"]


def test_a_fit_keeps_a_bank_and_its_report_uses_it(facts, tmp_path):
    source, target = (tiny_models.sentence_repo(normalize=True, seed=seed) for seed in (0, 1))
    named = ["--source", source, "--target", target, "--type", "affine", "--param", "alpha=0.1"]
    data = ["--dataset", tiny_models.text_dataset_repo(), "--source-column", "text"]
    splits = ["--split", "train", "--evaluate-split", "test"]
    told = facts("fit", *named, *data, *splits, "--bank-size", 25, "--output", tmp_path / "out")
    assert told["metrics"]["search"]["bank"] == {
        "name": "translator",
        "size": 25,
        "n_neighbors": 10,
    }
    assert len(AutoTranslator.from_pretrained(tmp_path / "out").query_bank_) == 25
    told = facts("evaluate", tmp_path / "out", *data, "--split", "test", "--label-column", "label")
    assert told["search"].keys() == {"plain", "native"}


@pytest.mark.parametrize("given", [False, True])
def test_evaluate_reports_searches_by_the_bank_of_the_translator_or_a_file(folder, facts, given):
    bank = ["--bank", folder / "bank.npy"] if given else []
    told = facts(
        "evaluate",
        folder / "translator",
        *vectors(folder),
        *FEW,
        *bank,
        *("--hubness", "csls", "--n-neighbors", 4),
    )
    translator = AutoTranslator.from_pretrained(folder / "translator")
    options = {"n_bootstrap": 20, "n_permutations": 19, "hubness": "csls", "n_neighbors": 4}
    expected = evaluate_latents(translator, X, Y, bank=Y[:20] if given else None, **options)
    assert told["search"] == expected.to_dict()["search"]


def test_results_are_saved_beside_the_bank(folder, facts):
    options = [*vectors(folder), *FEW, "--hubness", "csls", "--save"]
    told = facts("evaluate", folder / "translator", *options)
    loaded = AutoTranslator.from_pretrained(folder / "translator")
    assert loaded.metrics_["search"] == told["search"]
    assert len(loaded.query_bank_) == 30
    card = (folder / "translator" / "README.md").read_text()
    assert "| corrected (CSLS) |" in card
    assert "`query_bank` in the weights holds 30 latents" in card


def test_options_without_what_they_need_are_refused(folder, refusal):
    evaluate = ["evaluate", folder / "translator", *vectors(folder)]
    assert "--bank is for --hubness csls" in refusal(*evaluate, "--bank", folder / "bank.npy")
    assert "--n-neighbors is for --hubness" in refusal(*evaluate, "--n-neighbors", 4)
    fold = ["translate", folder / "translator", folder / "x.npy", folder / "out.npy"]
    assert "--n-neighbors is for --fold" in refusal(*fold, "--n-neighbors", 4)
    assert "folded without a bank" in refusal(*fold, *Q, "--n-neighbors", 4)
    assert "has no field 'label'" in refusal(*evaluate, "--label-column", "label")
    plain = OrthoTranslator().fit(X, Y)
    plain.save_pretrained(folder / "plain")
    line = refusal("evaluate", folder / "plain", *vectors(folder), "--hubness", "csls")
    assert "the translator keeps none" in line


def test_translate_folds_items_and_queries(folder, facts):
    translator = AutoTranslator.from_pretrained(folder / "translator")
    told = facts("translate", folder / "translator", folder / "x.npy", folder / "queries.npy", *Q)
    assert told["shape"] == [90, 7]
    items = ["--fold", "items", "--metric", "cosine", "--n-neighbors", 4, "--input-space", "target"]
    facts("translate", folder / "translator", folder / "y.npy", folder / "items.npy", *items)
    queries, items = (np.load(folder / f"{name}.npy") for name in ("queries", "items"))
    bank = translator.query_bank_.cpu()
    options = {"n_neighbors": 4, "metric": "cosine"}
    np.testing.assert_allclose(items, fold_items(Y, bank, **options), atol=1e-6)
    expected = fold_queries(translator.transform(X), metric="cosine")
    np.testing.assert_allclose(queries, expected, atol=1e-6)


Q = ["--fold", "queries", "--metric", "cosine"]


def test_a_bank_in_a_file_takes_the_place_of_the_translators(folder, facts):
    options = ["--fold", "items", "--bank", folder / "bank.npy"]
    facts("translate", folder / "translator", folder / "x.npy", folder / "out.npy", *options)
    translated = AutoTranslator.from_pretrained(folder / "translator").transform(X)
    expected = fold_items(translated, Y[:20])
    np.testing.assert_allclose(np.load(folder / "out.npy"), expected, atol=1e-6)


def test_options_of_a_folding_without_one_are_refused(folder, refusal):
    line = refusal(
        *("translate", folder / "translator", folder / "x.npy", folder / "out.npy"),
        *("--metric", "cosine"),
    )
    assert "--metric is for --fold items or queries" in line
