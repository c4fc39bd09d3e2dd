"""Kernel ridge against scikit-learn; its landmarks, and what holds where a map is not affine."""

import json
import os
from functools import partial

import numpy as np
import pytest
import safetensors.numpy
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    KernelMap,
    KernelTranslator,
    LinearTranslator,
    PairedMoments,
    Pairs,
    compose,
    fit_translator,
    translate_file,
)
from hf_latent_bridge.data.sampling import priorities, smallest
from hf_latent_bridge.errors import (
    CheckpointError,
    ConfigError,
    InvalidLatentsError,
    NotFittedError,
    NotInvertibleError,
    WeightsError,
)

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(400, 6))
Y = np.sin(X @ DRAW.normal(size=(6, 5))) + 0.05 * DRAW.normal(size=(400, 5))
TRAIN, TEST = slice(0, 300), slice(300, 400)


def unit(x, of):
    scaled = (x - of.mean(0)) / of.std(0)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)


@pytest.fixture
def fitted():
    return KernelTranslator(n_landmarks=64).fit(X[TRAIN], Y[TRAIN])


def test_with_all_rows_as_landmarks_it_is_scikit_learns_kernel_ridge():
    """Kernel ridge on a centred target, with the mean of the features taken off the kernel."""
    fitted = KernelTranslator(n_landmarks=300, alpha=1e-2).fit(X[TRAIN], Y[TRAIN])
    train, test = unit(X[TRAIN], X[TRAIN]), unit(X[TEST], X[TRAIN])
    width = np.median([np.linalg.norm(a - b) for i, a in enumerate(train) for b in train[:i]])
    kernel, cross = RBF(width)(train), RBF(width)(test, train)
    centred = kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()
    cross = cross - cross.mean(1)[:, None] - kernel.mean(0) + kernel.mean()
    penalty = 1e-2 * np.trace(centred)
    ridge = KernelRidge(alpha=penalty, kernel="precomputed")
    ridge.fit(centred, Y[TRAIN] - Y[TRAIN].mean(0))
    expected = ridge.predict(cross) + Y[TRAIN].mean(0)
    np.testing.assert_allclose(fitted.transform(X[TEST]), expected, rtol=1e-4, atol=1e-4)


def test_it_bends_where_no_affine_map_can(fitted):
    ridge = AffineTranslator(alpha=0.01).fit(X[TRAIN], Y[TRAIN])
    assert fitted.score(X[TEST], Y[TEST]) > ridge.score(X[TEST], Y[TEST]) + 0.05


def test_landmarks_are_rows_of_the_source_and_the_seed_draws_them(fitted):
    known = {tuple(row.round(9)) for row in unit(X[TRAIN], X[TRAIN])}
    assert all(tuple(row) in known for row in fitted.map_.landmarks.numpy().round(9))
    same, other = (
        KernelTranslator(n_landmarks=64, random_state=seed).fit(X[TRAIN], Y[TRAIN]).map_
        for seed in (0, 1)
    )
    assert torch.equal(same.landmarks, fitted.map_.landmarks)
    assert not torch.equal(other.landmarks, fitted.map_.landmarks)


def test_the_card_says_what_landmarks_reveal(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "kernel")
    compose(fitted, LinearTranslator().fit(Y, X)).save_pretrained(tmp_path / "composed")
    LinearTranslator().fit(X, Y).save_pretrained(tmp_path / "linear")
    cards = {name: (tmp_path / name / "README.md").read_text() for name in os.listdir(tmp_path)}
    for name in ("kernel", "composed"):
        assert "hold 64 latents of single source items" in cards[name]
        assert "They reveal about these items what such latents" in cards[name]
    assert "landmarks" not in cards["linear"]


def test_pairs_in_batches_add_up_with_the_landmarks_that_were_chosen(fitted):
    parts = KernelTranslator(n_landmarks=64).choose_landmarks(X[TRAIN])
    for rows in (slice(0, 10), slice(10, 210), slice(210, 300)):
        parts.partial_fit(X[rows], Y[rows])
    np.testing.assert_allclose(parts.transform(X), fitted.transform(X), rtol=1e-6, atol=1e-8)


def test_moments_of_chosen_landmarks_are_fitted(fitted):
    parts = KernelTranslator(n_landmarks=64).choose_landmarks(X[TRAIN])
    moments = parts.pair_moments(X[:100], Y[:100]) + parts.pair_moments(X[100:300], Y[100:300])
    parts.fit_moments(moments)
    np.testing.assert_allclose(parts.transform(X), fitted.transform(X), rtol=1e-6, atol=1e-8)


def test_moments_of_more_rows_than_are_compared_at_once_are_those_of_their_similarities():
    x = DRAW.normal(size=(5000, 6))
    y = np.sin(x[:, :2])
    chosen = KernelTranslator(n_landmarks=32, alpha=1e-9).choose_landmarks(x)
    map_ = chosen.fit(x, y).map_
    scaled = (x - map_.shift.numpy()) * map_.inverse_scale.numpy()
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    features = np.exp((scaled @ map_.landmarks.numpy().T - 1) * map_.sharpness.numpy())
    moments = chosen.pair_moments(x, y)
    np.testing.assert_allclose(moments.mean_x, features.mean(0))
    np.testing.assert_allclose(moments.sxx / 5000, np.cov(features.T, bias=True), atol=1e-12)


def test_the_first_batch_gives_the_landmarks_and_later_ones_keep_them():
    parts = KernelTranslator(n_landmarks=64).partial_fit(X[:100], Y[:100])
    parts.partial_fit(X[100:300], Y[100:300])
    expected = KernelTranslator(n_landmarks=64).choose_landmarks(X[:100]).fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_allclose(parts.transform(X), expected.transform(X), rtol=1e-6, atol=1e-8)


def test_a_fit_that_fails_leaves_the_earlier_pairs_and_their_landmarks():
    translator = KernelTranslator(n_landmarks=64).partial_fit(X[:100], Y[:100])
    with pytest.raises(InvalidLatentsError):
        translator.fit(X[200:300], np.full((100, 5), np.nan))
    translator.partial_fit(X[100:300], Y[100:300])
    expected = KernelTranslator(n_landmarks=64).partial_fit(X[:100], Y[:100])
    expected.partial_fit(X[100:300], Y[100:300])
    np.testing.assert_allclose(translator.transform(X), expected.transform(X))


@pytest.mark.parametrize("params", [{"bandwidth": 2.0}, {"n_landmarks": 8}, {"scaling": "none"}])
def test_what_the_landmarks_depend_on_does_not_change_between_batches(params):
    translator = KernelTranslator(n_landmarks=64).partial_fit(X[:100], Y[:100])
    with pytest.raises(ValueError, match=r"100 pairs so far were summed with .* call fit"):
        translator.set_params(**params).partial_fit(X[100:], Y[100:])


def test_moments_before_landmarks_and_moments_of_plain_latents_are_refused():
    with pytest.raises(NotFittedError, match="call choose_landmarks"):
        KernelTranslator().pair_moments(X, Y)
    plain = PairedMoments.from_batch(torch.from_numpy(X), torch.from_numpy(Y))
    with pytest.raises(InvalidLatentsError, match="not moments of similarities"):
        KernelTranslator().choose_landmarks(X).fit_moments(plain)
    with pytest.raises(InvalidLatentsError, match=r"X has 5 features.*expecting 6"):
        KernelTranslator().choose_landmarks(X).pair_moments(Y, X)


def test_a_fit_over_chunks_is_the_fit_on_arrays():
    arrays = KernelTranslator(n_landmarks=64).fit(X[TRAIN], Y[TRAIN])
    chunks = fit_translator(
        KernelTranslator(n_landmarks=64), None, None, Pairs(X[TRAIN], Y[TRAIN]), chunk_size=50
    )
    rows = smallest(priorities(np.arange(300), 0), 256)
    sample = KernelTranslator(n_landmarks=64).choose_landmarks(X[rows]).fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_allclose(chunks.transform(X), sample.transform(X), rtol=1e-3, atol=1e-4)
    assert chunks.map_.dtype == torch.float32
    assert arrays.map_.dtype == torch.float64


def test_sorted_pairs_give_landmarks_of_all_kinds():
    order = np.argsort(X[:300, 0])
    kernel = KernelTranslator(n_landmarks=16)  # drawn from 64 of the 300 pairs
    fitted = fit_translator(kernel, None, None, Pairs(X[order], Y[order]), chunk_size=32)
    first = (fitted.map_.landmarks / fitted.map_.inverse_scale)[:, 0]
    assert first.min() < -0.2
    assert first.max() > 0.2


def test_a_fit_that_was_interrupted_resumes(tmp_path):
    asked = []

    def encode(items):
        asked.append(len(items))
        if len(asked) == 6:  # two chunks for the landmarks, three for the fit, then this
            raise RuntimeError("out of memory")
        return X[items]

    options = {"chunk_size": 32, "checkpoint_dir": tmp_path, "checkpoint_every": 1}
    fit = partial(fit_translator, source=encode, target=None, pairs=(range(300), Y[:300]))
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(KernelTranslator(n_landmarks=16), **options)
    resumed = fit(KernelTranslator(n_landmarks=16), **options)
    assert resumed.fit_summary_.n_resumed == 96
    expected = fit(KernelTranslator(n_landmarks=16), chunk_size=32)
    np.testing.assert_array_equal(resumed.transform(X), expected.transform(X))


def test_chosen_landmarks_serve_a_fit_over_chunks_and_belong_to_its_checkpoint(tmp_path):
    def failing(items):
        if 200 in items:
            raise RuntimeError("out of memory")
        return X[items]

    options = {"chunk_size": 50, "checkpoint_dir": tmp_path, "checkpoint_every": 1}
    translator = KernelTranslator(n_landmarks=16).choose_landmarks(X[300:])
    translator.set_params(n_landmarks=32)
    with pytest.raises(RuntimeError):
        fit_translator(translator, failing, None, (range(300), Y[:300]), **options)
    other = KernelTranslator(n_landmarks=32).choose_landmarks(X[200:])
    with pytest.raises(CheckpointError, match="landmarks_from"):
        fit_translator(other, failing, None, (range(300), Y[:300]), **options)
    fitted = fit_translator(translator, None, None, (X[:300], Y[:300]))
    expected = KernelTranslator(n_landmarks=32).choose_landmarks(X[300:]).fit(X[:300], Y[:300])
    np.testing.assert_allclose(fitted.transform(X), expected.transform(X), rtol=1e-3, atol=1e-4)


def test_fewer_rows_than_landmarks_are_all_taken_and_the_config_says_so(tmp_path):
    fitted = KernelTranslator(n_landmarks=64).fit(X[:20], Y[:20])
    assert fitted.params_["n_landmarks"] == fitted.map_.n_landmarks == 20
    fitted.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))


def test_the_saved_tensors_are_used_as_the_page_on_the_format_says(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    t = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    scaled = (X - t["shift"]) * t["inverse_scale"]
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    likeness = np.exp((scaled @ t["landmarks"].T - 1) * t["sharpness"])
    np.testing.assert_allclose(fitted.transform(X), likeness @ t["weight"] + t["bias"])
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("config_sha256")
    config["params"]["n_landmarks"] = 63
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError):
        AutoTranslator.from_pretrained(tmp_path)


@pytest.mark.parametrize("unit_norm", ["none", "target"])
def test_it_composes_before_and_after_an_affine_map(unit_norm, tmp_path):
    kernel = KernelTranslator(n_landmarks=64, unit_norm=unit_norm).fit(X, Y)
    after = LinearTranslator().fit(Y, Y @ DRAW.normal(size=(5, 4)))
    before = LinearTranslator().fit(X @ DRAW.normal(size=(6, 6)), X)
    whole = compose(before, kernel, after)
    expected = after.transform(kernel.transform(before.transform(X)))
    np.testing.assert_allclose(whole.transform(X), expected, rtol=1e-7)
    whole.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.transform(X), whole.transform(X))
    with pytest.raises(NotInvertibleError):
        whole.inverse_transform(after.transform(Y))
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("config_sha256")
    config["params"]["landmarks"] = [0, -1, 0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="landmarks must be a number >= 0 for each"):
        AutoTranslator.from_pretrained(tmp_path)


def test_files_are_translated(fitted, tmp_path):
    np.save(tmp_path / "x.npy", X)
    translate_file(fitted, tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), fitted.transform(X), rtol=1e-5)


def test_it_is_a_module_that_exports_as_a_graph(fitted):
    module, x = fitted.as_module(), torch.from_numpy(X)
    exported = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(exported(x), fitted.transform(x))
    assert "n_landmarks=64" in repr(module)


def test_latents_at_the_mean_and_equal_latents_are_translated():
    fitted = KernelTranslator().fit(X, Y)
    assert np.isfinite(fitted.transform(X.mean(0))).all()
    same = KernelTranslator().fit(np.ones((50, 3)), Y[:50])
    np.testing.assert_allclose(same.transform(np.ones((2, 3))), Y[:50].mean(0)[None].repeat(2, 0))


@pytest.mark.parametrize("size", [1e-13, 1e-30, 1e-160, 1e-300, 1e200])
@pytest.mark.parametrize("scaling", ["standard", "pareto", "center", "none"])
def test_latents_of_any_size_give_the_same_or_are_refused(scaling, size):
    translator = KernelTranslator(scaling=scaling, n_landmarks=40)
    expected = translator.fit(X, Y).transform(X)
    scaled = X.astype(np.float64) * size
    if (scaling, size) in {("standard", 1e-13), ("standard", 1e-30), ("pareto", 1e-13)}:
        np.testing.assert_allclose(translator.fit(scaled, Y).transform(scaled), expected, atol=1e-9)
    else:
        with pytest.raises(
            InvalidLatentsError, match=r"source latents are at most .* norms are los"
        ):
            translator.fit(scaled, Y)
    normed = KernelTranslator(scaling=scaling, n_landmarks=40, unit_norm="source")
    np.testing.assert_allclose(
        normed.fit(scaled, Y).transform(scaled), normed.fit(X, Y).transform(X), atol=1e-9
    )


def test_latents_with_a_scale_that_their_dtype_does_not_hold_are_refused():
    scaled = (X * 1e-40).astype(np.float32)
    with pytest.raises(InvalidLatentsError, match=r"at most .*e-40 in size, .* multiply them"):
        KernelTranslator().fit(scaled, Y)


def test_tensors_that_make_no_map_are_refused(fitted):
    tensors = fitted.map_.state_dict() | {"shift": torch.zeros(5)}
    with pytest.raises(InvalidLatentsError, match=r"needs shift \(6,\), got \(5,\)"):
        KernelMap(tensors)


@pytest.mark.parametrize(
    "params", [{"alpha": 0}, {"bandwidth": -1}, {"n_landmarks": 0}, {"random_state": "a"}]
)
def test_a_parameter_out_of_range_is_refused(params):
    with pytest.raises(ValueError, match=f"{next(iter(params))} must be"):
        KernelTranslator(**params).fit(X, Y)


@pytest.mark.parametrize("x", [X[0], X[:0]])
def test_landmarks_come_from_a_matrix_of_latents(x):
    with pytest.raises(InvalidLatentsError, match="landmarks are drawn from latents"):
        KernelTranslator().choose_landmarks(x)
