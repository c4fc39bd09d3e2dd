"""What `fit` takes from its flags: pairs, anchors, bad rows, checkpoints and processes."""

import contextlib
import json
import os
import sys

import datasets
import numpy as np
import pytest
import tiny_models
import warm
from processes import PATIENCE
from tiny_images import clip_repo, pictures

import hf_latent_bridge
from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    SpaceSpec,
    evaluate_latents,
    select_translator,
)
from hf_latent_bridge.errors import EncoderError

# encoders with random weights tell nothing about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")

X = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
Y = (X @ np.random.default_rng(1).normal(size=(16, 8))).astype(np.float32)
RIDGE = ["--type", "affine", "--param", "alpha=0.1"]


def encoders():
    """Two tiny encoders whose latents leave no direction out."""
    return [tiny_models.sentence_repo(normalize=True, seed=seed) for seed in (0, 1)]


def named():
    source, target = encoders()
    return ["--source", source, "--target", target, *RIDGE]


def texts():
    columns = ["--source-column", "text", "--target-column", "de"]
    return ["--dataset", tiny_models.text_dataset_repo(), "--split", "train", *columns]


@pytest.fixture
def fit(facts, tmp_path):
    """Runs `fit` with further arguments; returns the translator that it saved."""

    def fit(*arguments):
        facts("fit", *named(), *arguments, "--output", tmp_path / "out")
        return AutoTranslator.from_pretrained(tmp_path / "out", device="cpu")

    return fit


@pytest.fixture
def files(tmp_path):
    """The options that name two files of vectors."""
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return ["--source-vectors", tmp_path / "x.npy", "--target-vectors", tmp_path / "y.npy"]


# Pairs ------------------------------------------------------------------------------------------


def test_a_stream_gives_the_translator_of_the_dataset(fit):
    plain, streamed = fit(*texts()), fit(*texts(), "--stream")
    assert streamed.dataset_ == plain.dataset_
    np.testing.assert_array_equal(streamed.map_.weight, plain.map_.weight)


def test_several_configurations_and_datasets_are_read_one_behind_the_other(fit, repo_id):
    rows = tiny_models.text_dataset()["train"]
    for name, part in (("first", rows.select(range(30))), ("second", rows.select(range(30, 40)))):
        part.push_to_hub(repo_id, name, split="train", token="hf_alice")
    both = ["--name", "first", "--name", "second"]
    options = ["--dataset", repo_id, *both, "--split", "train", "--source-column", "text"]
    assert fit(*options).n_pairs_ == 40
    fitted = fit(*options[:2], "--name", "first", *options[6:], "--also", repo_id)
    assert fitted.n_pairs_ == 60
    assert [part["name"] for part in fitted.dataset_["parts"]] == ["first", "first"]


def test_an_earlier_commit_of_the_dataset_is_read_when_asked_for(fit, repo_id):
    rows = tiny_models.text_dataset()["train"]
    rows.select(range(30)).push_to_hub(repo_id, split="train", token="hf_alice")
    commit = tiny_models.commit_of(repo_id, "dataset")
    rows.push_to_hub(repo_id, split="train", token="hf_alice")
    options = ["--dataset", repo_id, "--split", "train", "--source-column", "text"]
    assert fit(*options, "--dataset-revision", commit).n_pairs_ == 30


def test_duplicates_are_left_out_when_asked_for(fit):
    twice = ["--also", tiny_models.text_dataset_repo()]
    once = fit(*texts(), *twice, "--deduplicate")
    assert once.n_pairs_ < 200 < fit(*texts(), *twice).n_pairs_
    assert once.dataset_["deduplicated"] is True


def test_files_of_vectors_give_the_library_fit_and_name_their_encoders(facts, fit, files, tmp_path):
    fitted = fit(*files, "--source-revision", "main")
    expected = AffineTranslator(alpha=0.1).fit(X.astype(np.float64), Y.astype(np.float64))
    np.testing.assert_allclose(fitted.map_.weight, expected.map_.weight, atol=1e-5)
    assert (fitted.source_.repo_id, fitted.target_.repo_id) == tuple(encoders())
    commits = fitted.source_.revision, fitted.target_.revision
    assert commits == (tiny_models.commit_of(encoders()[0]), None)
    told = facts("evaluate", tmp_path / "out", *files)
    assert told["translated"] == evaluate_latents(fitted, X, Y).to_dict()["translated"]


@pytest.mark.slow
def test_vectors_of_any_model_are_fitted_and_evaluated_without_a_network(files, tmp_path):
    """In a process of its own, for which nothing listens where the Hub should be."""
    alone = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    named = ["--source", "openai/text-embedding-3-small"]
    commands = (
        ["fit", *named, *files, "--output", tmp_path / "out"],
        ["evaluate", tmp_path / "out", *files],
    )
    words = [[str(word) for word in command] for command in commands]
    code = f"from hf_latent_bridge.cli import main; print([main(words) for words in {words}])"
    done = warm.finished("-c", code, env=alone, loaded=warm.BASE)
    assert done.stdout.endswith("\n[0, 0]\n")
    fitted = AutoTranslator.from_pretrained(tmp_path / "out", device="cpu")
    assert fitted.source_ == SpaceSpec(X.shape[1], repo_id=named[1])
    assert fitted.target_ == SpaceSpec(Y.shape[1])


def test_a_side_that_must_be_encoded_needs_its_encoder(refusal, hub, tmp_path):
    asked = len(hub.log)
    output = ["--output", tmp_path / "out"]
    assert "--target is needed" in refusal("fit", "--source", "a/b", *texts(), *output)
    assert len(hub.log) == asked


def test_datasets_of_vectors_are_fitted_as_files_are(fit, tmp_path):
    for side, latents in (("source", X), ("target", Y)):
        data = datasets.Dataset.from_dict({"id": range(50), "embedding": latents.tolist()})
        datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / side)
    files = ["--source-vectors", tmp_path / "source", "--target-vectors", tmp_path / "target"]
    expected = AffineTranslator(alpha=0.1).fit(X.astype(np.float64), Y.astype(np.float64))
    fitted = fit(*files, "--split", "train")
    np.testing.assert_allclose(fitted.map_.weight, expected.map_.weight, atol=1e-5)


def test_integers_need_their_scale(fit, refusal, files, tmp_path):
    whole = np.round(X * 20).astype(np.int8)
    np.save(tmp_path / "x.npy", whole)
    message = refusal("fit", *named(), *files, "--output", tmp_path / "out")
    assert "holds int8: say what the integers are to be multiplied by" in message
    expected = AffineTranslator(alpha=0.1).fit(whole * 0.05, Y.astype(np.float64))
    for scale in ("--scale", "--source-scale"):
        fitted = fit(*files, scale, "0.05")
        np.testing.assert_allclose(fitted.map_.weight, expected.map_.weight, atol=1e-5)


def test_a_column_of_latents_is_taken_as_they_are(facts, fit, tmp_path):
    sentences = tiny_models.sentences(50, tiny_models.EN)
    columns = {"text": sentences, "vector": list(Y)}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "data")
    options = ["--dataset", tmp_path / "data", "--source-column", "text"]
    options += ["--target-column", "vector", "--precomputed", "target"]
    fitted = fit(*options)
    assert (fitted.source_.dim, fitted.target_.dim) == (16, 8)
    assert fitted.target_.repo_id == encoders()[1]
    assert facts("evaluate", tmp_path / "out", *options)["n_pairs"] == 50


@pytest.mark.parametrize("spelled", ["text", "integers"])
def test_a_column_of_latents_is_read_as_a_file_of_vectors_is(facts, fit, tmp_path, spelled):
    whole = np.round(Y * 10).clip(-127, 127).astype(np.int8)
    columns = {"text": tiny_models.sentences(50, tiny_models.EN), "vector": whole.tolist()}
    options = ["--target-scale", "0.1"]
    if spelled == "text":
        columns["vector"], options = [json.dumps(row) for row in (whole * 0.1).tolist()], []
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "data")
    options += ["--dataset", tmp_path / "data", "--source-column", "text"]
    options += ["--target-column", "vector", "--precomputed", "target"]
    fitted = fit(*options)
    assert fitted.dataset_.get("target_scale") == (0.1 if spelled == "integers" else None)
    assert facts("evaluate", tmp_path / "out", *options)["n_pairs"] == 50
    columns["vector"] = (whole * 0.1).tolist()
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "floats")
    options = [tmp_path / "floats" if word == tmp_path / "data" else word for word in options]
    expected = fit(*[word for word in options if word not in ("--target-scale", "0.1")])
    np.testing.assert_allclose(fitted.map_.weight, expected.map_.weight, atol=1e-4)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_a_column_of_pictures_is_encoded_by_the_image_tower(run, refusal, tmp_path):
    columns = {"image": pictures(12), "caption": tiny_models.sentences(12, tiny_models.EN)}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "data")
    clip = ["--source", clip_repo(), "--source-modality", "image"]
    clip += ["--target", clip_repo(), "--target-modality", "text"]
    pairs = ["--dataset", tmp_path / "data", "--source-column", "image"]
    pairs += ["--target-column", "caption"]
    cut = ["--max-length", 6, "--output", tmp_path / "out"]
    code, _, err = run("fit", *clip, *pairs, *cut)
    assert code == 0, err
    fitted = AutoTranslator.from_pretrained(tmp_path / "out", device="cpu")
    assert (fitted.source_.modality, fitted.target_.modality) == ("image", "text")
    assert (fitted.source_.max_length, fitted.target_.max_length) == (None, 6)
    pictures_twice = [*clip[:-1], "image", *pairs[:-1], "image"]
    assert "--max-length cuts texts, and no encoder here" in refusal("fit", *pictures_twice, *cut)


# Anchors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kmeans++", "farthest"])
def test_anchors_apart_are_recorded_and_the_source_is_loaded_once(method, fit, monkeypatch):
    loaded = []
    load = hf_latent_bridge.load_encoder
    monkeypatch.setattr(
        hf_latent_bridge, "load_encoder", lambda name, **k: loaded.append(name) or load(name, **k)
    )
    fitted = fit(*texts(), "--anchors", method, "--max-pairs", 20, "--seed", 3)
    assert fitted.dataset_.items() >= {"anchors": method, "max_pairs": 20, "seed": 3}.items()
    assert fitted.n_pairs_ == 20
    assert loaded == encoders()


def test_balanced_anchors_take_as_many_of_each_class(fit):
    options = ["--anchors", "balanced", "--label-column", "label", "--max-pairs", 40]
    assert fit(*texts(), *options).n_pairs_ == 40


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        (["--anchors", "farthest"], "--anchors farthest needs --max-pairs"),
        (["--anchors", "balanced", "--max-pairs", "5"], "needs --label-column"),
        (["--source-vectors", "x.npy"], "pairs come from --dataset"),
        (["--source-vectors", "x.npy", "--target-vectors", "y.npy"], "pairs come from --dataset"),
    ],
)
def test_arguments_that_do_not_go_together_are_told_first(options, telling, refusal, hub, tmp_path):
    asked = len(hub.log)
    wanted = ["--source", "a/b", "--target", "a/b", "--dataset", "a/b", "--source-column", "text"]
    assert telling in refusal("fit", *wanted, *options, "--output", tmp_path / "out")
    assert len(hub.log) == asked


def test_a_held_out_split_of_files_is_refused(refusal, files, tmp_path):
    options = ["--evaluate-split", "test", "--output", tmp_path / "out"]
    assert "use `latent-bridge evaluate`" in refusal("fit", *named(), *files, *options)


# Bad rows and checkpoints -----------------------------------------------------------------------


def spoil(tmp_path, row=25):
    x = X.copy()
    x[row] = np.nan
    np.save(tmp_path / "x.npy", x)


def test_bad_rows_are_skipped_counted_and_listed_when_asked_for(fit, files, tmp_path):
    spoil(tmp_path)
    fitted = fit(*files, "--on-bad-row", "skip", "--bad-rows-file", tmp_path / "bad.jsonl")
    assert (fitted.n_pairs_, fitted.dataset_["bad_rows_skipped"]) == (49, 1)
    (line,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert json.loads(line) == {"row": 25, "side": "source", "reason": "holds NaN or infinity"}


def test_an_evaluation_stops_at_a_bad_row_or_skips_it(fit, files, facts, refusal, tmp_path):
    fit(*files)
    spoil(tmp_path)
    arguments = ["evaluate", tmp_path / "out", *files, "--bootstrap", 10, "--permutations", 10]
    assert "row 25 of the source column" in refusal(*arguments)
    assert facts(*arguments, "--on-bad-row", "skip")["n_pairs"] == 49


def test_a_stopped_fit_leaves_a_checkpoint_and_a_changed_one_does_not_go_on(
    fit, files, refusal, tmp_path
):
    spoil(tmp_path)
    options = [*files, "--checkpoint-dir", tmp_path / "kept", "--checkpoint-every", 10]
    options += ["--chunk-size", 10]
    out = ["--output", tmp_path / "out"]
    assert "row 25 of the source column" in refusal("fit", *named(), *options, *out)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["fit-0-of-1.safetensors"]
    line = refusal("fit", *named(), *options, "--on-bad-row", "skip", *out)
    assert 'on_bad_row was "stop", is "skip"' in line
    assert not (tmp_path / "out").exists()


# Running ----------------------------------------------------------------------------------------


def test_options_of_running_reach_the_encoders(refusal, monkeypatch, tmp_path):
    asked = []

    def refuse(name, **options):
        asked.append(options)
        raise EncoderError("seen")

    monkeypatch.setattr(hf_latent_bridge, "load_encoder", refuse)
    options = ["--autocast", "bfloat16", "--compile", "--device", "cpu", "--max-length", 9]
    options += ["--source-modality", "text", "--source-revision", "v1"]
    assert refusal("fit", *named(), *texts(), *options, "--output", tmp_path / "out") == "seen"
    (told,) = asked
    assert (str(told["autocast"]), told["compile"]) == ("torch.bfloat16", True)
    assert (told["device"], told["max_length"]) == ("cpu", 9)
    assert (told["modality"], told["revision"]) == ("text", "v1")


def test_products_in_float32_are_near_those_in_float64(fit, files):
    fast, exact = fit(*files, "--gemm-dtype", "float32"), fit(*files)
    np.testing.assert_allclose(fast.map_.weight, exact.map_.weight, atol=1e-4)


def test_one_process_needs_no_accelerate_and_several_say_what_to_install(
    fit, files, refusal, monkeypatch, tmp_path
):
    encoders()  # they are made by a library that uses accelerate
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert fit(*files).n_pairs_ == 50
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = refusal("fit", *named(), *files, "--output", tmp_path / "other")
    assert "accelerate" in line
    assert 'pip install "hf-latent-bridge[encoders]"' in line


@pytest.mark.slow
def test_two_processes_fit_what_one_fits_and_the_first_speaks(fit, tmp_path):
    alone = fit(*texts(), "--chunk-size", 32)
    options = ["--stream", "--chunk-size", "32", "--output", tmp_path / "two"]
    command = ["-m", "hf_latent_bridge", "fit", *named(), *texts(), *options]
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run) for run in warm.group(2, *command)]
        (first, error), (second, other) = (run.communicate(timeout=PATIENCE) for run in runs)
        assert [run.returncode for run in runs] == [0, 0], error + other
    assert first.count("saved in") == 1
    assert "200 pairs" in first
    assert "pairs/s by each of 2 processes" in first
    assert second == ""
    two = AutoTranslator.from_pretrained(tmp_path / "two", device="cpu")
    np.testing.assert_allclose(two.map_.weight, alone.map_.weight, atol=1e-5)
    assert two.dataset_ == alone.dataset_


# Selection --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
@pytest.mark.parametrize("objective", ["reconstruction", "counterpart", "ranking"])
def test_auto_chooses_a_type_and_its_parameters(objective, facts, files, tmp_path):
    options = ["--type", "auto", "--objective", objective, "--output", tmp_path / "out"]
    told = facts("fit", *files, *options)
    loaded = AutoTranslator.from_pretrained(tmp_path / "out")
    assert told["selection"] == loaded.selection_.to_dict()
    assert told["selection"]["objective"] == objective
    expected = select_translator(X, Y, objective=objective)
    assert loaded.selection_.choice.translator_type == loaded.translator_type
    np.testing.assert_allclose(loaded.transform(X), expected.transform(X), atol=1e-3)
    assert facts("info", tmp_path / "out")["selection"] == told["selection"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_auto_without_the_shift_tries_only_maps_that_it_can_be_taken_out_of(facts, files, tmp_path):
    options = ["--type", "auto", "--objective", "counterpart", "--remove-shift"]
    told = facts("fit", *files, *options, "--output", tmp_path / "out")
    tried = {trial["translator_type"] for trial in told["selection"]["trials"]}
    assert {"spectral", "ortho", "affine"} <= tried
    assert not tried & {"shared", "kernel"}
    assert told["dataset"]["shift_removed"] is True


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_auto_for_classes_takes_the_labels_of_the_pairs_that_are_sampled(facts, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 6))
    rows = {"x": x.tolist(), "y": (x @ draw.normal(size=(6, 5))).tolist()}
    rows["class"] = ["low" if row[0] < 0 else "high" for row in x]
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "data")
    columns = ["--source-column", "x", "--target-column", "y", "--precomputed", "both"]
    pairs = ["--dataset", tmp_path / "data", *columns, "--max-pairs", 60]
    auto = ["--type", "auto", "--objective", "classification", "--label-column", "class"]
    told = facts("fit", *pairs, *auto, "--output", tmp_path / "out")
    scores = [trial["score"] for trial in told["selection"]["trials"]]
    assert told["selection"]["n_held_out"] == 60
    assert max(scores) > 0.8  # labels of other rows would give 0.5


@pytest.fixture
def labelled(tmp_path):
    """Options for files whose rows have ids, in two orders; the source's have classes too."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 6))
    y = x @ draw.normal(size=(6, 5))
    rows = {"id": range(80), "x": x.tolist(), "class": ["low" if r[0] < 0 else "high" for r in x]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "x.parquet")
    order = draw.permutation(80)
    datasets.Dataset.from_dict({"id": order, "y": y[order]}).to_parquet(tmp_path / "y.parquet")
    np.save(tmp_path / "classes.npy", y)
    source = ["--source-vectors", tmp_path / "x.parquet"]
    matched = [*source, "--target-vectors", tmp_path / "y.parquet", "--id-field", "id"]
    return {"beside": [*source, "--target-vectors", tmp_path / "classes.npy"], "matched": matched}


AUTO_CLASSES = ["--type", "auto", "--objective", "classification", "--label-column", "class"]


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
@pytest.mark.parametrize("pairs", ["beside", "matched"])
def test_auto_for_classes_takes_the_labels_beside_stored_vectors(pairs, labelled, facts, tmp_path):
    some = [*labelled[pairs], "--max-pairs", 60]
    told = facts("fit", *some, *AUTO_CLASSES, "--output", tmp_path / "out")
    assert max(trial["score"] for trial in told["selection"]["trials"]) > 0.8
    balanced = ["--anchors", "balanced", "--label-column", "class"]
    facts("fit", *some[:-1], 20, *balanced, *RIDGE, "--output", tmp_path / "few")
    assert AutoTranslator.from_pretrained(tmp_path / "few").n_pairs_ == 20
    few = ["--bootstrap", 20, "--permutations", 19, "--max-pairs", 50]
    told = facts("evaluate", tmp_path / "out", *labelled[pairs], *few, "--label-column", "class")
    assert told["search"]["native"]["same class@10"] > 0.6  # 0.5 by labels of other rows


def test_labels_that_stored_vectors_do_not_have_are_refused(labelled, files, refusal, tmp_path):
    line = refusal("fit", *files, *AUTO_CLASSES, "--output", tmp_path / "out")
    assert "has no field 'class': it has nothing beside its vectors" in line
    auto = [*AUTO_CLASSES[:-1], "kind", "--output", tmp_path / "out"]
    line = refusal("fit", *labelled["beside"], *auto)
    assert "has no field 'kind': it has ['id', 'class']" in line


NOT_TOGETHER = {
    "an objective without auto": (["--objective", "ranking"], "for --type auto"),
    "parameters beside auto": (
        ["--type", "auto", "--param", "alpha=1"],
        "--type auto chooses the parameters",
    ),
    "classes without labels": (
        ["--type", "auto", "--objective", "classification"],
        "needs --label-column or --decoder",
    ),
    "queries that have no labels": (
        [
            *("--type", "auto", "--objective", "classification", "--label-column", "c"),
            *("--queries", "log.txt"),
        ],
        "--queries have no labels",
    ),
    "a parameter twice": (["--param", "scale=true", "--param", "scale=false"], "'scale' twice"),
    "a score without a curve": (["--score", "first@10"], "--score is for --until-retention"),
    "held-out pairs without a curve": (["--held-out", "9"], "--held-out is for --until-retention"),
    "labels that nothing reads": (
        ["--label-column", "c"],
        "--label-column is for --anchors balanced",
    ),
    "columns of latents in files": (["--precomputed", "both"], "--precomputed is for columns of"),
    "a shift of a map that scales": (
        ["--remove-shift", "--type", "shared", "--param", "dim=2", "--param", "alpha=1.0"],
        "map of type shared is another one",
    ),
    "a shift of a map that bends": (
        ["--remove-shift", "--type", "kernel"],
        "the map of type kernel is another one: fit another type, such as affine",
    ),
    "a shift of results of unit norm": (
        ["--remove-shift", "--param", "unit_norm=both"],
        "unit_norm='both' scales what comes out of it",
    ),
    "a decoder for another objective": (
        ["--type", "auto", "--decoder", "me/head"],
        "--decoder is for --objective classification",
    ),
}


UNREAD = {
    "--split": ["train"],
    "--name": ["plain"],
    "--dataset-revision": ["v1"],
    "--max-length": ["9"],
    "--autocast": ["bfloat16"],
    "--compile": [],
    "--no-cache": [],
    "--batch-size": ["4"],
    "--source-revision": ["main"],
    "--source-scale": ["0.5"],
    "--source-column": ["embedding"],
}


@pytest.mark.parametrize("option", UNREAD)
def test_an_option_that_nothing_reads_is_refused(option, files, refusal, tmp_path):
    told = refusal("fit", *files, option, *UNREAD[option], "--output", tmp_path / "out")
    wanted = {"--source-scale": "a scale is for integers", "--source-column": "vectors alone"}
    assert wanted.get(option, option) in told
    assert not (tmp_path / "out").exists()


def test_empty_queries_are_named(files, refusal, tmp_path):
    np.save(tmp_path / "none.npy", X[:0])
    queries = ["--queries-source-vectors", "--queries-target-vectors"]
    options = [word for flag in queries for word in (flag, tmp_path / "none.npy")]
    assert "none.npy has no rows" in refusal("fit", *files, *options, "--output", tmp_path / "out")


@pytest.mark.parametrize("what", NOT_TOGETHER)
def test_options_of_a_selection_that_do_not_go_together_are_refused(what, files, refusal, tmp_path):
    options, message = NOT_TOGETHER[what]
    assert message in refusal("fit", *files, *options, "--output", tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(refusal, tmp_path):
    nowhere = ["--source-vectors", tmp_path / "none.npy", "--target-vectors", tmp_path / "none.npy"]
    message = refusal("fit", *nowhere, "--output", "/proc/none/out")
    assert "cannot write /proc/none/out: " in message
