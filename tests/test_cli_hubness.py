"""The command line keeps banks of queries, and reports searches that correct for hubs."""

import numpy as np
import pytest
import tiny_models

from hf_latent_bridge import AutoTranslator, OrthoTranslator, evaluate_latents

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


def test_options_without_what_they_need_are_refused(folder, refusal):
    evaluate = ["evaluate", folder / "translator", *vectors(folder)]
    assert "state it" in refusal(*evaluate, "--bank", folder / "bank.npy")
    assert "is a column of --dataset" in refusal(*evaluate, "--label-column", "label")
    plain = OrthoTranslator().fit(X, Y)
    plain.save_pretrained(folder / "plain")
    line = refusal("evaluate", folder / "plain", *vectors(folder), "--hubness", "csls")
    assert "the translator keeps none" in line
