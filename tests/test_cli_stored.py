"""`fit` from a store: only sampled texts are encoded, queries are anchors, and pairs are added."""

import json

import numpy as np
import pytest
import store_places
import tiny_models

from hf_latent_bridge import AutoTranslator, load_encoder
from hf_latent_bridge.cli import main
from hf_latent_bridge.encoders.cache import cache_info
from hf_latent_bridge.vectors.stores.base import Records

LIGHT = [scheme for scheme in ("qdrant", "sqlite") if scheme in store_places.INSTALLED]
pytestmark = [
    pytest.mark.skipif(not LIGHT, reason="needs Qdrant or SQLite"),
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]
TEXTS = sorted(set(tiny_models.sentences(260, tiny_models.EN)))[:240]
RIDGE = ["--type", "affine", "--param", "alpha=0.1"]


@pytest.fixture(scope="module")
def encoders():
    return [tiny_models.sentence_repo(normalize=True, seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def vectors(encoders):
    return load_encoder(encoders[0]).encode(TEXTS).cpu().numpy()


def filled(scheme, vectors, folder):
    """A store that the source encoder has filled, with the texts."""
    payloads = [{"text": text, "n": i} for i, text in enumerate(TEXTS)]
    ids = [store_places.key(scheme, i) for i in range(len(TEXTS))]
    records = Records(ids, vectors, payloads)
    return store_places.filled(store_places.url_in(scheme, folder), records)


@pytest.fixture(params=LIGHT)
def each_store(request, vectors, tmp_path):
    return filled(request.param, vectors, tmp_path)


@pytest.fixture
def store(vectors, tmp_path):
    return filled(LIGHT[-1], vectors, tmp_path)


def run(*words):
    return main([str(word) for word in words])


def test_only_the_sampled_texts_of_a_store_are_encoded(each_store, encoders, tmp_path, capsys):
    source, target = encoders
    command = [
        "fit",
        "--source-vectors",
        each_store,
        "--target-encoder",
        target,
        "--text-field",
        "text",
    ]
    command += ["--max-pairs", 50, "--anchors", "kmeans++", "--cache-dir", tmp_path / "cache"]
    assert run(*command, *RIDGE, "--source", source, "--output", tmp_path / "map", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_pairs"] == 50
    assert told["dataset"]["anchors"] == "kmeans++"
    assert told["dataset"]["rows"] == len(TEXTS)
    assert told["source"]["repo_id"] == source
    (entry,) = cache_info(tmp_path / "cache")
    assert (entry.space["repo_id"], entry.items) == (target, 50)
    fitted = AutoTranslator.from_pretrained(tmp_path / "map", device="cpu")
    assert (fitted.source_.dim, fitted.target_.dim) == (16, 16)


def test_the_reverse_direction_and_evaluate_read_the_store_too(store, encoders, tmp_path, capsys):
    target = encoders[1]
    command = ["fit", "--target-vectors", store, "--source", target, "--text-field", "text"]
    assert run(*command, "--max-pairs", 200, *RIDGE, "--output", tmp_path / "map", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 200
    command = ["evaluate", tmp_path / "map", "--target-vectors", store, "--text-field", "text"]
    assert run(*command, "--max-pairs", 60, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 60


def test_queries_are_anchors_that_both_encoders_encode(store, encoders, tmp_path, capsys):
    source, target = encoders
    (tmp_path / "log.txt").write_text("old dog\nnew cat\n\nold dog\ngreen tree\n")
    command = ["fit", "--source-vectors", store, "--target", target, "--text-field", "text"]
    command += ["--max-pairs", 50, *RIDGE, "--queries", tmp_path / "log.txt"]
    assert run(*command, "--output", tmp_path / "a") == 1
    assert "Name the source encoder by --source" in capsys.readouterr().err
    assert run(*command, "--source", source, "--output", tmp_path / "a", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 53


def test_queries_come_with_the_vectors_of_an_encoder_that_is_gone(
    store, encoders, tmp_path, capsys
):
    texts = ["old dog", "new cat", "", "old dog", "green tree"]
    (tmp_path / "log.txt").write_text("\n".join(texts) + "\n")
    old = load_encoder(encoders[0], device="cpu").encode([text or "-" for text in texts]).numpy()
    np.save(tmp_path / "log.npy", old)
    command = ["fit", "--source-vectors", store, "--target", encoders[1], "--text-field", "text"]
    command += ["--max-pairs", 50, *RIDGE, "--queries", tmp_path / "log.txt"]
    command += ["--queries-source-vectors", tmp_path / "log.npy", "--output", tmp_path / "a"]
    assert run(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 53
    np.save(tmp_path / "log.npy", old[:3])
    assert run(*command) == 1
    assert "row i of all must be the same query" in capsys.readouterr().err


def test_queries_of_two_services_come_as_two_files_of_vectors(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x, mix = rng.normal(size=(90, 6)), rng.normal(size=(6, 8))
    command = ["fit", *RIDGE, "--output", tmp_path / "map", "--json"]
    for side, z in (("source", x), ("target", x @ mix)):
        np.save(tmp_path / f"{side}.npy", z[:60])
        np.save(tmp_path / f"asked-{side}.npy", z[60:])
        command += [f"--{side}-vectors", tmp_path / f"{side}.npy"]
    asked = ["--queries-source-vectors", tmp_path / "asked-source.npy"]
    assert run(*command, *asked) == 1
    assert "the target side's latents of them are missing" in capsys.readouterr().err
    asked += ["--queries-target-vectors", tmp_path / "asked-target.npy"]
    assert run(*command, *asked) == 0
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 90


@pytest.mark.slow
def test_pairs_are_added_for_the_type_that_does_best(store, encoders, tmp_path, capsys):
    command = ["fit", "--source-vectors", store, "--target", encoders[1], "--text-field", "text"]
    command += ["--max-pairs", 160, "--until-retention", 0.5, "--held-out", 80, "--type", "auto"]
    assert run(*command, "--output", tmp_path / "map", "--json") in (0, 3, 4)
    told = json.loads(capsys.readouterr().out)
    assert told["selection"]["objective"] == "ranking"
    assert told["learning_curve"]["points"][-1]["n_pairs"] == told["n_pairs"]


def test_pairs_are_added_until_retention_is_reached_and_the_curve_is_kept(
    store, encoders, tmp_path, capsys
):
    source, _ = encoders
    command = ["fit", "--source-vectors", store, "--source", source, "--target", source]
    command += ["--text-field", "text", "--max-pairs", 160, "--until-retention", 0.5]
    command += ["--held-out", 80, "--output", tmp_path / "map", "--json"]
    code = run(*command, *RIDGE)
    told = json.loads(capsys.readouterr().out)
    curve = told["learning_curve"]
    assert code == {"pass": 0, "warn": 3, "fail": 4}[told["verdict"]]
    assert curve["gate"]["n_items"] == 40
    assert curve["points"][-1]["n_pairs"] == told["n_pairs"]
    saved = AutoTranslator.from_pretrained(tmp_path / "map", device="cpu")
    assert saved.metrics_["learning_curve"]["points"] == curve["points"]
    assert "Learning curve" in (tmp_path / "map" / "README.md").read_text()
    command = ["evaluate", tmp_path / "map", "--source-vectors", store, "--text-field", "text"]
    assert run(*command, "--max-pairs", 60, "--save") == 0
    assert "| pairs | retention" in capsys.readouterr().out
    evaluated = AutoTranslator.from_pretrained(tmp_path / "map", device="cpu")
    assert evaluated.metrics_["learning_curve"] == saved.metrics_["learning_curve"]
    assert evaluated.metrics_["n_pairs"] == 60


def test_no_pair_that_judges_is_fitted_on_where_duplicates_are_left_out(tmp_path, capsys):
    rng = np.random.default_rng(0)
    command = ["fit", *RIDGE, "--output", tmp_path / "map", "--json", "--deduplicate"]
    for side in ("source", "target"):  # which know nothing of each other, so all pairs are taken
        np.save(tmp_path / f"{side}.npy", np.repeat(rng.normal(size=(90, 20)), 2, axis=0))
        command += [f"--{side}-vectors", tmp_path / f"{side}.npy"]
    assert run(*command, "--until-retention", 1.0, "--held-out", 30, "--score", "first_mrr@10") == 4
    assert json.loads(capsys.readouterr().out)["n_pairs"] == 60


def test_a_shuffled_store_never_reaches_it(vectors, encoders, tmp_path, capsys):
    rows = np.random.default_rng(0).permutation(len(TEXTS))
    lines = [
        json.dumps({"vector": vectors[i].tolist(), "text": text})
        for i, text in zip(rows, TEXTS, strict=True)
    ]
    (tmp_path / "shuffled.jsonl").write_text("\n".join(lines))
    command = ["fit", "--source-vectors", tmp_path / "shuffled.jsonl", "--target", encoders[0]]
    command += ["--text-field", "text", "--max-pairs", 160, "--until-retention", 0.5, *RIDGE]
    assert run(*command, "--held-out", 80, "--output", tmp_path / "map") == 4
    assert "Never" in capsys.readouterr().out


def test_two_files_are_paired_by_their_ids(encoders, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 6))
    for name, order in (("old", range(60)), ("new", np.random.default_rng(1).permutation(60))):
        rows = [{"id": int(i), "vector": x[i].tolist()} for i in order]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["fit", "--source-vectors", tmp_path / "old.jsonl", "--target-vectors"]
    command += [tmp_path / "new.jsonl", "--output", tmp_path / "map", *RIDGE]
    assert run(*command) == 1
    assert "--id-field" in capsys.readouterr().err
    assert run(*command, "--id-field", "id", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == {"matched_by": "id"}
    fitted = AutoTranslator.from_pretrained(tmp_path / "map", device="cpu")
    assert np.corrcoef(fitted.transform(x).ravel(), x.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (["--text-field", "text"], "needs --max-pairs"),
        (["--text-field", "body", "--max-pairs", 9], "'body'; they have"),
        (["--text-field", "text", "--dataset", "a/b"], "neither both nor --dataset"),
        (["--id-field", "id"], "or from one of these with --text-field"),
        (
            ["--text-field", "text", "--max-pairs", 9, "--source", "me/a", "--queries", "log.pdf"],
            "log.pdf",
        ),
        (
            ["--text-field", "text", "--until-retention", 0.9, "--bank-size", 5],
            "--bank-size does not go with --until-retention: fit once more",
        ),
        (
            ["--text-field", "text", "--until-retention", 0.9, "--checkpoint-dir", "c"],
            "--checkpoint-dir does not go with --until-retention",
        ),
        (
            ["--text-field", "text", "--max-pairs", 9, "--queries-target-vectors", "q.npy"],
            "goes with --target-vectors",
        ),
        (
            ["--text-field", "text", "--max-pairs", 90, "--until-retention", 9],
            "at most 1, got 9.0",
        ),
    ],
)
def test_the_command_refuses(change, wanted, store, encoders, tmp_path, capsys):
    command = ["fit", "--source-vectors", store, "--target", encoders[1], "--output"]
    assert run(*command, tmp_path / "map", *change) == 1
    assert wanted in capsys.readouterr().err
    assert not (tmp_path / "map").exists()
