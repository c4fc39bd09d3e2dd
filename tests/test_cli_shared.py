"""fit-shared, and the other commands on a shared space and its views."""

import json

import numpy as np
import pytest
import tiny_models
from tiny_images import clip_repo, pictures

from hf_latent_bridge import AutoTranslator, SharedSpace, fit_shared_space, load_views

# encoders with random weights tell little about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")


def latents(n=120):
    draw = np.random.default_rng(0)
    signal = draw.normal(size=(n, 4))
    return {
        name: signal @ draw.normal(size=(4, width)) + 0.3 * draw.normal(size=(n, width))
        for name, width in (("a", 6), ("b", 9), ("c", 7))
    }


@pytest.fixture
def files(tmp_path):
    """The options that name three files of vectors."""
    options = []
    for name, x in latents().items():
        np.save(tmp_path / f"{name}.npy", x)
        options += ["--view-vectors", f"{name}={tmp_path / name}.npy"]
    return options


def encoders():
    return {
        name: tiny_models.sentence_repo(normalize=True, seed=seed)
        for seed, name in enumerate(("one", "two"))
    }


def of_texts():
    views = [option for name, repo in encoders().items() for option in ("--view", f"{name}={repo}")]
    return [*views, "--dataset", tiny_models.text_dataset_repo(), "--split", "train"]


def test_files_of_vectors_give_the_space_that_python_gives(facts, files, tmp_path):
    said = facts("fit-shared", *files, "--dim", 4, "--output", tmp_path / "space")
    space = SharedSpace.from_pretrained(tmp_path / "space", device="cpu")
    expected = fit_shared_space(dict.fromkeys("abc"), latents(), 4)
    assert (space.alpha_, said["n_pairs"], list(said["views"])) == (expected.alpha_, 120, [*"abc"])
    assert said["bits"] == pytest.approx(max(expected.information_.bits))
    assert said["bits_by_alpha"].keys() == {"0.03", "0.1", "0.3", "1", "3", "10"}


def test_encoders_read_one_column_or_each_its_own(facts, tmp_path):
    out = ["--dim", 4, "--alpha", 1, "--output", tmp_path / "space"]
    facts("fit-shared", *of_texts(), "--column", "text", "--view-column", "two=de", *out)
    space = SharedSpace.from_pretrained(tmp_path / "space")
    assert space.dataset_["views"] == {"one": "text", "two": "de"}
    assert [view.source_.repo_id for view in space.views_.values()] == list(encoders().values())


def test_a_picture_meets_its_title(facts, refusal, repo_id, tmp_path):
    import datasets

    content = {"image": pictures(12), "title": tiny_models.sentences(12, tiny_models.EN)}
    data = datasets.Dataset.from_dict(content).cast_column("image", datasets.Image())
    data.push_to_hub(repo_id, token="hf_alice")
    views = ["--view", f"see={clip_repo()}", "--view", f"read={encoders()['one']}"]
    columns = ["--view-column", "see=image", "--view-modality", "see=image", "--column", "title"]
    options = ["--split", "train", "--alpha", 1, "--output", tmp_path / "space"]
    options += ["--dataset", repo_id, "--max-length", 6]
    said = facts("fit-shared", *views, *columns, *options)
    assert said["views"]["see"]["modality"] == "image"
    assert [view.get("max_length") for view in said["views"].values()] == [None, 6]
    assert "no encoder here reads texts" in refusal("fit-shared", *views[:2], *columns, *options)


def test_info_shows_a_space_and_its_views(facts, run, files, tmp_path):
    facts("fit-shared", *files, "--dim", "auto", "--output", tmp_path / "space")
    said = facts("info", tmp_path / "space")
    assert (said["space_type"], said["params"]["dim"]) == ("shared", said["space"]["dim"])
    assert "bits" in run("info", tmp_path / "space")[1]
    view = facts("info", tmp_path / "space", "--subfolder", "b")
    assert (view["translator_type"], view["params"]["view"]) == ("shared_view", "b")


def test_a_view_translates_a_file_and_the_space_is_pushed(facts, files, repo_id, tmp_path):
    facts("fit-shared", *files, "--dim", 4, "--output", tmp_path / "space")
    facts(
        "translate", tmp_path / "space", tmp_path / "a.npy", tmp_path / "s.npy", "--subfolder", "a"
    )
    view = AutoTranslator.from_pretrained(tmp_path / "space", subfolder="a", device="cpu")
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), view.transform(latents()["a"]))
    facts("push", tmp_path / "space", repo_id)
    assert list(SharedSpace.from_pretrained(repo_id).views_) == ["a", "b", "c"]
    assert facts("info", repo_id)["commit"]


def test_two_views_are_evaluated_against_each_other(facts, tmp_path):
    out = ["--column", "text", "--dim", 4, "--alpha", 1, "--output", tmp_path / "space"]
    facts("fit-shared", *of_texts(), *out)
    views = ["--subfolder", "one", "--target-subfolder", "two"]
    pairs = ["--dataset", tiny_models.text_dataset_repo(), "--source-column", "text"]
    said = facts("evaluate", tmp_path / "space", *views, *pairs, "--split", "train")
    assert said["translated"]["recall@1"] > said["shuffled"]["recall@1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--view", "a"], "--view takes NAME=VALUE, got 'a'"),
        (["--view", "a=x", "--view", "a=y"], "--view names 'a' twice"),
        (["--view", "a=x", "--view-vectors", "a=y.npy"], "view 'a' has an encoder and a file"),
        (["--view-vectors", "a=x.npy", "--dataset", "me/x"], "or all of them from --view-vectors"),
        (["--view", "a=x", "--view", "b=y"], "--dataset is needed"),
        (["--view-vectors", "a=x.npy", "--split", "test"], "--split is for --view and --dataset"),
        (["--grow", "a=x.npy", "--deduplicate"], "--deduplicate does not go with --grow"),
        (["--grow", "a=x.npy", "--on-bad-row", "skip"], "--on-bad-row does not go with --grow"),
        (["--view", "a=x", "--dataset", "me/x"], "--column is needed, or --view-column a=COLUMN"),
        (
            ["--view", "a=x", "--dataset", "me/x", "--view-column", "b=text"],
            "--view-column names 'b', which no --view does",
        ),
    ],
)
def test_views_that_do_not_go_together_are_refused(options, message, refusal, tmp_path):
    assert message in refusal("fit-shared", *options, "--output", tmp_path / "space")


def test_a_view_that_is_not_there_is_named_with_those_that_are(refusal, files, facts, tmp_path):
    facts("fit-shared", *files, "--dim", 4, "--output", tmp_path / "space")
    command = ["re-encode", "sqlite:x.db/docs", "--space", tmp_path / "space", "--view", "z"]
    assert "there is no view 'z': the space joins ['a', " in refusal(*command)


def test_a_view_keeps_no_results_of_its_own(refusal, files, facts, tmp_path):
    facts("fit-shared", *files, "--dim", 4, "--output", tmp_path / "space")
    vectors = ["--source-vectors", tmp_path / "a.npy", "--target-vectors", tmp_path / "b.npy"]
    said = refusal("evaluate", tmp_path / "space", "--subfolder", "a", *vectors, "--save")
    assert "a repo or folder of its own" in said


def test_items_from_files_are_the_views_of_load_views(tmp_path):
    for name, x in latents().items():
        np.save(tmp_path / f"{name}.npy", x)
    items = load_views({name: tmp_path / f"{name}.npy" for name in latents()})
    assert json.dumps(items.names) == '["a", "b", "c"]'


def grown_files(tmp_path):
    """Files of 25 given pairs and of 275 unpaired items of two views."""
    draw = np.random.default_rng(0)
    signal = draw.normal(size=(300, 20)) / np.arange(1, 21) ** 0.5
    order = draw.permutation(275)
    options = {"given": [], "more": []}
    for name, width in (("a", 40), ("b", 56)):
        x = signal @ draw.normal(size=(20, width)) + 0.2 * draw.normal(size=(300, width))
        more = x[25:] if name == "a" else x[25:][order]
        for kind, rows, flag in (("given", x[:25], "--view-vectors"), ("more", more, "--grow")):
            np.save(tmp_path / f"{name}-{kind}.npy", rows)
            options[kind] += [flag, f"{name}={tmp_path / name}-{kind}.npy"]
    return options


def test_a_space_grows_from_a_few_given_pairs(facts, tmp_path):
    options = grown_files(tmp_path)
    out = ["--dim", 16, "--output", tmp_path / "space"]
    said = facts("fit-shared", *options["given"], *options["more"], *out)
    assert said["growth"]["confirmed"]
    assert said["growth"]["gain"] > 0
    assert said["n_pairs"] == 25 + said["growth"]["found_pairs"] > 250
    space = SharedSpace.from_pretrained(tmp_path / "space", device="cpu")
    assert space.dataset_["given_pairs"] == 25


def test_growth_takes_latents_alone(refusal, tmp_path):
    options = grown_files(tmp_path)["more"]
    out = ["--column", "text", "--output", tmp_path / "space"]
    assert "--grow takes latents" in refusal("fit-shared", *of_texts(), *options, *out)
