"""A composition is saved, pushed and used like any other translator, and names its parts."""

import json

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    SharedSpace,
    SpaceSpec,
    compose,
    translate_file,
)
from hf_latent_bridge.errors import ConfigError, NotFittedError, WeightsError
from hf_latent_bridge.files import read_config
from hf_latent_bridge.translators.base import TRANSLATORS, methods

A, B, C = (SpaceSpec(dim, repo_id=f"me/{name}") for dim, name in ((4, "a"), (6, "b"), (3, "c")))
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(60, 4))
BETWEEN = X @ DRAW.normal(size=(4, 6)) + 0.1 * DRAW.normal(size=(60, 6))
Y = BETWEEN @ DRAW.normal(size=(6, 3)) + 0.1 * DRAW.normal(size=(60, 3))


@pytest.fixture
def first():
    return LinearTranslator(unit_norm="target").fit(X, BETWEEN, source=A, target=B)


@pytest.fixture
def second():
    return OrthoTranslator(scaling="center").fit(BETWEEN, Y, source=B, target=C)


def test_it_says_what_it_was_made_of_and_when(first, second, repo_id, tmp_path):
    commit = first.push_to_hub(repo_id, token="hf_alice").oid
    composed = compose(first, second)
    first.fit(X, 2 * BETWEEN)
    composed.save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    assert config["translator_type"] == "composed"
    assert config["params"]["dims"] == [4, 6, 3]
    assert config["params"]["unit_norms"] == ["target", "none"]
    one, two = config["params"]["translators"]
    assert (one["repo_id"], one["revision"]) == (repo_id, commit)
    assert one["params"] == {"scaling": "standard", "unit_norm": "target"}
    assert (one["translator_type"], two["translator_type"]) == ("linear", "ortho")
    assert (one["target"], two["source"]) == (B.to_dict(), B.to_dict())
    assert "repo_id" not in two
    card = (tmp_path / "README.md").read_text()
    assert f"1. `linear`, a to b, 60 pairs, `{repo_id}` at `{commit[:12]}`" in card
    assert "1. `ortho`, b to c, 60 pairs, not on the Hub" in card


def test_it_is_pushed_and_loaded_with_its_evaluation(first, second, repo_id):
    composed = compose(first, second)
    composed.push_to_hub(repo_id, token="hf_alice", metrics={"n_pairs": 60})
    loaded = AutoTranslator.from_pretrained(repo_id)
    assert (loaded.repo_id, loaded.commit) == (repo_id, composed.commit)
    assert (loaded.source_, loaded.target_, loaded.n_pairs_) == (A, C, 60)
    assert loaded.translators_ == composed.translators_
    assert loaded.metrics_ == {"n_pairs": 60}
    expected = composed.transform(torch.from_numpy(X))
    torch.testing.assert_close(loaded.transform(torch.from_numpy(X)), expected)
    again = compose(loaded, LinearTranslator().fit(Y, X, source=C, target=A))
    assert [r["translator_type"] for r in again.translators_] == ["linear", "ortho", "linear"]


def part(name):
    if name == "shared_view":
        views = {"a": X, "b": BETWEEN}
        return SharedSpace(3, alpha=1.0).fit(views, spaces={"a": A, "b": B}).translator("a")
    return TRANSLATORS[name]().fit(X, BETWEEN, source=A, target=B)


@pytest.mark.parametrize("name", [*methods(moving=True), "shared_view"])
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_a_translator_of_any_type_is_saved_between_others_and_behind_a_norm(name, tmp_path):
    before = OrthoTranslator(unit_norm="target").fit(X, X, source=A, target=A)
    middle = part(name)
    after = AffineTranslator(alpha=0.1).fit(middle.transform(X), Y, source=middle.target_, target=C)
    composed = compose(before, middle, after)
    composed.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    in_turn = after.transform(middle.transform(before.transform(X)))
    np.testing.assert_allclose(composed.transform(X), in_turn, atol=1e-9)
    np.testing.assert_allclose(loaded.transform(X), in_turn, atol=1e-9)
    if name != "kernel":
        np.testing.assert_allclose(loaded.inverse_transform(Y), composed.inverse_transform(Y))


def test_it_translates_files(first, second, tmp_path):
    np.save(tmp_path / "x.npy", X)
    composed = compose(first, second)
    translate_file(composed, tmp_path / "x.npy", tmp_path / "y.npy", dtype="float64")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), composed.transform(X))


def test_a_composition_of_one_is_that_translator(second):
    np.testing.assert_allclose(compose(second).transform(BETWEEN), second.transform(BETWEEN))


def test_what_is_not_a_fitted_translator_is_not_composed(first):
    with pytest.raises(NotFittedError):
        compose(first, OrthoTranslator())
    with pytest.raises(TypeError, match="compose; got str 'me/repo'"):
        compose("me/repo", first)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dims": [4, 3]}, "one number more"),
        ({"dims": [4, 0, 3]}, "positive integers"),
        ({"dims": [5, 6, 3]}, "dims must lead from 4 to 3"),
        ({"unit_norms": ["target", "l2"]}, "unit_norm must be one of"),
        ({"unit_norms": []}, "one number more"),
        ({"translators": ["me/a"]}, "must be an object"),
        ({"translators": [{"translator_type": "ortho"}]}, "missing fields"),
        ({"auto_map": "evil.py"}, "unknown fields"),
    ],
)
def test_a_config_that_does_not_add_up_is_refused(first, second, tmp_path, params, message):
    compose(first, second).save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    config["params"] |= params
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        AutoTranslator.from_pretrained(tmp_path)


def test_the_repo_holds_exactly_the_tensors_of_its_steps(first, second, tmp_path):
    compose(first, second).save_pretrained(tmp_path)
    second.save_pretrained(tmp_path / "other")
    (tmp_path / "model.safetensors").write_bytes(
        (tmp_path / "other" / "model.safetensors").read_bytes()
    )
    with pytest.raises(WeightsError, match=r"exactly \['0.bias', '0.weight', '1.bias'"):
        AutoTranslator.from_pretrained(tmp_path)
