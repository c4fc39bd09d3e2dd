"""A translator of low rank is saved, loaded, composed and moved as two thin factors."""

import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from hf_latent_bridge import AffineTranslator, AutoTranslator, OrthoTranslator, compose
from hf_latent_bridge.errors import WeightsError
from hf_latent_bridge.files import read_config

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(200, 12))
Y = X @ DRAW.normal(size=(12, 3)) @ DRAW.normal(size=(3, 9)) + 0.1 * DRAW.normal(size=(200, 9))


@pytest.fixture(params=["none", "source", "target", "both"])
def fitted(request):
    return AffineTranslator(alpha=0.1, rank=3, unit_norm=request.param).fit(X, Y)


def test_both_forms_are_saved_and_loaded(fitted, tmp_path):
    for name, rank, tensors in (
        ("thin", 3, {"left": (12, 3), "right": (3, 9), "bias": (9,)}),
        ("whole", 8, {"weight": (12, 9), "bias": (9,)}),
    ):
        translator = AffineTranslator(rank=rank, unit_norm=fitted.unit_norm).fit(X, Y)
        translator.save_pretrained(tmp_path / name)
        saved = safetensors.numpy.load_file(tmp_path / name / "model.safetensors")
        assert {k: t.shape for k, t in saved.items()} == tensors
        loaded = AutoTranslator.from_pretrained(tmp_path / name, device="cpu")
        np.testing.assert_array_equal(loaded.transform(X), translator.transform(X))
        np.testing.assert_array_equal(loaded.inverse_transform(Y), translator.inverse_transform(Y))


def test_the_page_on_the_format_says_how_to_use_the_factors(tmp_path):
    translator = AffineTranslator(rank=3).fit(X, Y)
    translator.save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    by_hand = X @ tensors["left"] @ tensors["right"] + tensors["bias"]
    np.testing.assert_allclose(translator.transform(X), by_hand, atol=1e-12)


def test_factors_of_another_rank_than_the_config_states_are_refused(tmp_path):
    AffineTranslator(rank=3).fit(X, Y).save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    for rank in (2, 8, None):
        config["params"]["rank"] = rank
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(WeightsError):
            AutoTranslator.from_pretrained(tmp_path)


def test_it_composes_and_the_composition_stays_thin(fitted, tmp_path):
    turn = OrthoTranslator().fit(Y, DRAW.normal(size=(200, 9)) + Y)
    both = compose(fitted, turn)
    np.testing.assert_allclose(both.transform(X), turn.transform(fitted.transform(X)))
    assert [step.source_dim for step in both.map_.steps][:2] == [12, 3]
    both.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.transform(X), both.transform(X))


def test_the_way_back_is_the_pseudo_inverse_of_the_whole_weight():
    translator = AffineTranslator(rank=3).fit(X, Y)
    left, right = (step.weight.numpy() for step in translator.map_.steps)
    expected = (Y - translator.map_.steps[1].bias.numpy()) @ np.linalg.pinv(left @ right, 1e-10)
    np.testing.assert_allclose(translator.inverse_transform(Y), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_more_rank_than_the_pairs_have_is_kept_in_shape_and_inverts():
    few = AffineTranslator(rank=4).fit(X[:3], Y[:3])
    assert few.map_.steps[0].weight.shape == (12, 4)
    np.testing.assert_allclose(few.transform(few.inverse_transform(Y[:3])), Y[:3], atol=1e-8)


def test_it_is_a_module_that_exports_as_a_graph(fitted):
    module, x = fitted.as_module(), torch.from_numpy(X)
    exported = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(exported(x), fitted.transform(x))
    assert fitted.to(dtype=torch.float32).map_.dtype == torch.float32
