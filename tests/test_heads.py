"""Heads learn what scikit-learn learns, survive the Hub bit by bit, and refuse the rest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from hf_latent_bridge import Head, SpaceSpec, fit_head, load_decoder
from hf_latent_bridge.errors import (
    ConfigError,
    DecoderError,
    FormatVersionError,
    HubUnavailableError,
    InvalidLatentsError,
    RepoNotFoundError,
    WeightsError,
)
from hf_latent_bridge.files import read_config

SPACE = SpaceSpec(6, repo_id="alice/encoder", revision="a" * 40, pooling="mean", normalize=False)


def problem(n_classes=3, n=300, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 6)) * [1, 5, 0.1, 1, 1, 1] + [0, 9, 0, 0, 0, -3]
    y = np.argmax(x[:, :n_classes] / [1, 5, 0.1][:n_classes], axis=1)
    return x, y


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_the_linear_head_is_scikit_learns_logistic_regression_on_standardised_latents(n_classes, C):
    x, y = problem(n_classes)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)).fit(x, y)
    head = fit_head(x, y, C=C)
    answers = head(x, top_k=n_classes)
    got = np.array([[a["score"] for a in sorted(r, key=lambda a: a["label"])] for r in answers])
    assert got == pytest.approx(reference.predict_proba(x), abs=1e-5)
    assert [a["label"] for a in head(x)] == reference.predict(x).tolist()


@pytest.mark.parametrize("deviation", [1e-9, 1e-5])
def test_a_dead_column_is_not_scaled_up_to_noise(deviation):
    x, y = problem()
    noise = np.random.default_rng(1).normal(size=(len(x), 1))
    dead = np.concatenate([x, noise * deviation], axis=1)
    head = fit_head(dead, y)
    assert head.layers[0].weight[:, -1].abs().max() < 1


def test_an_mlp_separates_what_no_plane_can():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 6)).astype(np.float32)
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    accuracy = {
        hidden: np.mean([a["label"] for a in fit_head(x, y, hidden=hidden)(x)] == y)
        for hidden in (None, 32)
    }
    assert accuracy[None] < 0.65
    assert accuracy[32] > 0.95


def test_equal_seeds_give_equal_heads_and_the_global_generator_is_left_alone():
    x, y = problem()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    heads = [fit_head(x, y, hidden=4, seed=seed).layers[0].weight for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("kind", [np.str_, np.int64])
def test_labels_come_back_as_they_were_given(kind):
    x, y = problem()
    head = fit_head(x, y.astype(kind))
    assert {type(a["label"]) for a in head(x)} == {str if kind is np.str_ else int}


def test_a_head_has_as_many_labels_as_one_likes():
    latents = torch.eye(20)
    labels = [f"item {row // 2 if row < 8 else row}" for row in range(20)]  # 16 of 20 rows
    head = fit_head(latents, labels, C=1e3)
    assert [answer["label"] for answer in head(latents)] == labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "one label per row, 300 here, got 1"),
        ([7] * 300, "at least two kinds of labels, got only 7"),
        ([None, "a"] * 150, "all texts or all integers, got None"),
        ([1, "a"] * 150, "all texts or all integers"),
        (np.zeros((300, 2), int), r"labels must have one dimension, got shape \(300, 2\)"),
        ([0.5, 1.5] * 150, "all texts or all integers, got 0.5"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels, message):
    with pytest.raises(DecoderError, match=message):
        fit_head(problem()[0], labels)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "made of linear layers with a ReLU between"),
        ([nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)], "made of linear layers with a ReLU"),
        ([nn.Linear(6, 4), nn.Linear(4, 2)], "made of linear layers with a ReLU between"),
        ([nn.Linear(6, 4), nn.ReLU()], "made of linear layers with a ReLU between"),
        ([nn.Linear(6, 2, bias=False)], "linear layers with a bias"),
        ([nn.Linear(5, 2)], "needs 6 inputs"),
        ([nn.Linear(6, 3)], "3 outputs needs as many labels, got 2"),
    ],
)
def test_layers_that_a_saved_head_could_not_say_are_refused(layers, message):
    with pytest.raises(DecoderError, match=message):
        Head(nn.Sequential(*layers), ["a", "b"], SPACE)
    with pytest.raises(DecoderError, match=r"made of a torch\.nn\.Sequential, got Linear"):
        Head(nn.Linear(6, 2), ["a", "b"], SPACE)


def test_latents_beyond_the_heads_precision_are_refused_instead_of_scored():
    head = fit_head(*problem())
    with pytest.raises(InvalidLatentsError, match="NaN or infinity in 1 of 1 rows"):
        head(np.full((1, 6), 1e300))
    with pytest.raises(DecoderError, match="scores of row 1 are NaN"):  # infinity less infinity
        head(np.float32([[0] * 6, [3e38] * 6]) * np.sign(head.layers[0].weight[0].numpy()))


def test_latents_that_cannot_be_learned_from_are_refused():
    x, y = problem()
    for bad in (x[:0], x[0], x[:, :5]):
        with pytest.raises(InvalidLatentsError, match=r"\(n, 6\) of at least one row"):
            fit_head(bad, y[: len(bad)], space=SPACE)
    x[2, 2] = np.inf
    with pytest.raises(InvalidLatentsError, match="first in row 2"):
        fit_head(x, y)


@pytest.mark.parametrize(
    "options",
    [{"C": 0}, {"C": "a"}, {"hidden": True}, {"C": float("nan")}, {"hidden": 0}, {"hidden": 2.5}],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(DecoderError, match=r"must be (positive|an integer of at least 1 or None)"):
        fit_head(*problem(), **options)


@pytest.mark.parametrize("hidden", [None, 5])
def test_a_smaller_c_is_a_stronger_penalty(hidden):
    loose, strict = (fit_head(*problem(), hidden=hidden, C=C) for C in (1e3, 1e-3))
    norms = [float(head.layers[-1].weight.norm()) for head in (loose, strict)]
    assert norms[1] < 0.7 * norms[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_latents_of_any_floating_dtype_are_read(dtype):
    x, y = problem()
    head = fit_head(x, y)
    assert head.logits(torch.from_numpy(x).to(dtype)).dtype == torch.float32
    with pytest.raises(InvalidLatentsError, match="must be floating point"):
        head(torch.ones(2, 6, dtype=torch.int32))


@pytest.mark.parametrize("hidden", [None, 5])
def test_a_head_comes_back_from_the_hub_bit_by_bit(hidden, repo_id):
    x, y = problem()
    head = fit_head(x, y, space=SPACE, hidden=hidden)
    commit = head.push_to_hub(repo_id, token="hf_alice").oid
    assert (head.repo_id, head.commit) == (repo_id, commit)
    loaded = load_decoder(repo_id, device="cpu")
    assert isinstance(loaded, Head)
    assert (loaded.space, loaded.labels) == (SPACE, (0, 1, 2))
    assert (loaded.repo_id, loaded.commit) == (repo_id, commit)
    assert torch.equal(loaded.logits(x), head.logits(x))
    assert loaded.push_to_hub(repo_id, token="hf_alice").oid == commit


def test_a_revision_brings_the_old_head_back(repo_id):
    x, y = problem()
    old = fit_head(x, y)
    commit = old.push_to_hub(repo_id, token="hf_alice").oid
    fit_head(x, y, C=0.001).push_to_hub(repo_id, token="hf_alice")
    assert torch.equal(
        load_decoder(repo_id, revision=commit, device="cpu").logits(x), old.logits(x)
    )
    assert not torch.equal(Head.from_pretrained(repo_id, device="cpu").logits(x), old.logits(x))


def test_a_head_in_a_subfolder_is_loaded_and_says_where_it_was(tmp_path, repo_id, api):
    x, y = problem()
    head = fit_head(x, y, space=SPACE)
    head.save_pretrained(tmp_path / "heads" / "news")
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=tmp_path)
    for load in (load_decoder, Head.from_pretrained):
        for place in (repo_id, tmp_path):
            loaded = load(place, subfolder="heads/news", device="cpu")
            assert torch.equal(loaded.logits(x), head.logits(x))
    loaded = Head.from_pretrained(repo_id, subfolder="heads/news")
    assert (loaded.repo_id, loaded.subfolder) == (repo_id, "heads/news")
    loaded.push_to_hub(f"{repo_id}-own", token="hf_alice")
    assert (loaded.repo_id, loaded.subfolder) == (f"{repo_id}-own", "")
    with pytest.raises(RepoNotFoundError, match=r"has no config\.json"):
        load_decoder(repo_id)


def test_two_writers_never_undo_each_other(repo_id, monkeypatch):
    """The second looks at the repo, the first pushes, the second commits."""
    from hf_latent_bridge.hub import client

    first, second = fit_head(*problem(), C=0.1), fit_head(*problem(), C=10)
    first.push_to_hub(repo_id, token="hf_alice")
    original = client.read_head

    def read_head(*arguments, **keywords):
        found = original(*arguments, **keywords)
        monkeypatch.setattr(client, "read_head", original)
        fit_head(*problem(), C=1).push_to_hub(repo_id, token="hf_alice")
        return found

    monkeypatch.setattr(client, "read_head", read_head)
    with pytest.raises(HubUnavailableError, match="push again"):
        second.push_to_hub(repo_id, token="hf_alice")
    assert second.commit is None
    commit = second.push_to_hub(repo_id, token="hf_alice").oid
    x = problem()[0]
    loaded = load_decoder(repo_id, revision=commit, device="cpu")
    assert torch.equal(loaded.logits(x), second.logits(x))


def test_local_files_only_and_cache_dir_reach_the_files(repo_id, tmp_path):
    fit_head(*problem()).push_to_hub(repo_id, token="hf_alice")
    with pytest.raises(HubUnavailableError, match="is not in the cache"):
        load_decoder(repo_id, cache_dir=tmp_path, local_files_only=True)
    load_decoder(repo_id, cache_dir=tmp_path)
    assert load_decoder(repo_id, cache_dir=tmp_path, local_files_only=True).labels == (0, 1, 2)


def test_text_that_people_wrote_into_the_card_is_kept(tmp_path, repo_id, api):
    head = fit_head(*problem(), space=SPACE)
    head.save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    assert "`alice/encoder`" in card.read_text()
    card.write_text(card.read_text() + "\nTrained on my own news.\n")
    Head.from_pretrained(tmp_path).push_to_hub(repo_id, token="hf_alice", tags=["news"])
    text = Path(api.hf_hub_download(repo_id, "README.md")).read_text()
    assert "Trained on my own news." in text
    assert f'Head.from_pretrained("{repo_id}")' in text
    assert {"latent-translation", "decoder:head", "news"} <= set(api.model_info(repo_id).tags)


@pytest.fixture
def folder(tmp_path):
    fit_head(*problem(), space=SPACE).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, **changes):
    config = read_config(folder / "config.json")
    for name, value in changes.items():
        if value is None:
            del config[name]
        else:
            config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format_version": 99}, FormatVersionError, "pip install -U hf-latent-bridge"),
        ({"format_version": 0}, ConfigError, "format_version must be 1 or more, got 0"),
        ({"format_version": True}, ConfigError, "format_version must be 1 or more, got True"),
        ({"space": None}, ConfigError, r"missing fields \['space'\]"),
        ({"more": 1}, ConfigError, r"unknown fields \['more'\]"),
        ({"params": {"labels": "abc"}}, ConfigError, "params: labels must be list, got 'abc'"),
        ({"params": {"labels": [0, 1, [2]]}}, ConfigError, "labels must be texts or integers"),
        ({"params": {"hidden": [-1]}}, ConfigError, "hidden must hold positive integers"),
        ({"params": {"problem_type": "magic"}}, ConfigError, "problem_type must be one of"),
        (
            {"params": {"more": 1}},
            ConfigError,
            r"params: .* unknown fields \['more'\]",
        ),
        ({"space": {"dim": 7}}, WeightsError, r"shape \(3, 7\), got torch.float32 of \(3, 6\)"),
        ({"params": {"labels": ["a"]}}, WeightsError, r"shape \(1, 6\)"),
        ({"params": {"hidden": [4]}}, WeightsError, r"missing \['2.bias', '2.weight'\]"),
        ({"weights_sha256": "0" * 64}, WeightsError, "SHA-256 differs"),
    ],
)
def test_a_config_that_says_something_else_is_refused(folder, changes, error, message):
    rewrite(folder, **changes)
    with pytest.raises(error, match=message):
        load_decoder(folder)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_head_without_outputs_is_refused():
    with pytest.raises(DecoderError, match="at least one output"):
        Head(nn.Sequential(nn.Linear(6, 0)), [], SPACE)


def test_damaged_weights_are_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(WeightsError, match="truncated"):
        load_decoder(folder)
    tensors = safetensors.torch.load(content)
    tensors["0.bias"][0] = float("nan")
    path.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(WeightsError, match=r"0\.bias holds NaN"):
        load_decoder(folder)
    path.unlink()
    with pytest.raises(RepoNotFoundError, match=r"has no model\.safetensors"):
        load_decoder(folder)


def test_a_folder_has_no_revision_and_a_card_must_be_text(folder):
    with pytest.raises(RepoNotFoundError, match="no revision 'v1'"):
        load_decoder(folder, revision="v1")
    (folder / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="must be UTF-8"):
        load_decoder(folder)


def test_a_head_of_another_kind_is_refused_by_the_class_that_was_asked(folder, tmp_path):
    from hf_latent_bridge import LatentIndex

    shutil.copy(folder / "model.safetensors", folder / "items.jsonl")
    with pytest.raises(ConfigError, match=r"must state decoder_type 'index', got .*'head'"):
        LatentIndex.from_pretrained(folder)


def test_what_is_no_repo_or_may_not_be_seen_is_refused(repo_id):
    head = fit_head(*problem())
    head.push_to_hub(repo_id, token="hf_alice", private=True)
    with pytest.raises(RepoNotFoundError, match="no repo"):
        load_decoder(repo_id, token=False)
    assert load_decoder(repo_id, token="hf_alice").labels == (0, 1, 2)
    with pytest.raises(ValueError, match="tags must be a list"):
        head.push_to_hub(repo_id, token="hf_alice", tags="news")


@pytest.mark.parametrize("name", ["labels", "layers", "problem_type"])
def test_what_a_head_answers_with_cannot_be_replaced(name):
    head = fit_head(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(AttributeError, match=name):
        setattr(head, name, None)


def test_a_problem_type_that_no_config_takes_is_refused():
    head = fit_head(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(DecoderError, match=r"problem_type must be one of .*got 'ranking'"):
        Head(head.layers, head.labels, head.space, "ranking")
