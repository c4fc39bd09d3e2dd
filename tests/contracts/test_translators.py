"""What every registered translator does, whatever its method; a composition is one of them."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LatentMap,
    LinearTranslator,
    OrthoTranslator,
    PairedMoments,
    SpaceSpec,
    compose,
    evaluate_latents,
)
from hf_latent_bridge.errors import InvalidLatentsError, NotFittedError, NotInvertibleError
from hf_latent_bridge.solvers import SCALINGS
from hf_latent_bridge.translators.base import TRANSLATORS, Translator, methods

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6)) @ RNG.normal(size=(6, 6)) + 2
Y = X @ RNG.normal(size=(6, 9)) + RNG.normal(size=(300, 9)) - 1
BETWEEN = X @ RNG.normal(size=(6, 7)) + RNG.normal(size=(300, 7))
TORCH_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def composition(unit_norm: str) -> Translator:
    """From X by way of BETWEEN to Y, with a norm between the two maps or none."""
    first = LinearTranslator(unit_norm=unit_norm).fit(X, BETWEEN)
    between = BETWEEN / np.linalg.norm(BETWEEN, axis=1, keepdims=True) ** (unit_norm != "none")
    return compose(first, LinearTranslator().fit(between, Y))


COMPOSED = {
    "composed": lambda: composition("none"),
    "composed_with_a_norm": lambda: composition("target"),
}


@pytest.fixture(params=methods().values(), ids=methods())
def translator(request) -> Translator:
    """One of each type that learns from pairs, not fitted."""
    return request.param()


AFFINE = {name: kind for name, kind in methods().items() if kind.affine}


@pytest.fixture(params=AFFINE.values(), ids=AFFINE)
def affine(request) -> Translator:
    """One of each type that learns an affine map from moments of plain latents, not fitted."""
    return request.param()


@pytest.fixture
def affine_learned(affine) -> Translator:
    """One of each type that learns an affine map, fitted."""
    return affine.fit(X, Y)


@pytest.fixture
def learned(translator) -> Translator:
    """One of each type that learns from pairs, fitted."""
    return translator.fit(X, Y)


@pytest.fixture(params=[*methods(), *COMPOSED])
def fitted(request) -> Translator:
    """One of each type, compositions too, from X to Y."""
    if request.param in COMPOSED:
        return COMPOSED[request.param]()
    return TRANSLATORS[request.param]().fit(X, Y)


def test_all_types_are_covered_here(fitted):
    assert TRANSLATORS[fitted.translator_type] is type(fitted)
    made_of_others = {"composed", "shared_view", "shared_pair"}  # tests/test_shared_space.py
    both_move = {"shared"}  # tests/test_shared_translator.py
    assert TRANSLATORS.keys() - methods().keys() == made_of_others | both_move
    assert TRANSLATORS.keys() - methods(moving=True).keys() == made_of_others


def test_a_type_that_is_taken_cannot_be_registered_again():
    with pytest.raises(ValueError, match="'ortho' is taken by OrthoTranslator"):

        class Mine(TRANSLATORS["linear"], translator_type="ortho"):
            pass


def test_fit_beats_no_translation(fitted):
    assert fitted.score(X, Y) > 0.3


def test_fit_returns_the_translator_and_keeps_its_parameters(translator):
    before = translator.get_params()
    assert translator.fit(X, Y) is translator
    assert translator.get_params() == before


def test_fit_forgets_earlier_pairs(translator):
    first = translator.fit(X, Y).map_.weight
    translator.fit(X[:, ::-1].copy(), Y)
    again = translator.fit(X, Y).map_.weight
    assert torch.equal(first, again)


def test_partial_fits_add_up_to_one_fit(affine, affine_learned):
    parts = type(affine)()
    for rows in (slice(0, 10), slice(10, 210), slice(210, 300)):
        parts.partial_fit(X[rows], Y[rows])
    torch.testing.assert_close(parts.map_.weight, affine_learned.map_.weight, rtol=1e-8, atol=1e-10)
    assert parts.n_pairs_ == 300


def test_fitting_on_moments_is_fitting_on_their_pairs(affine, affine_learned):
    moments = PairedMoments.from_batch(torch.from_numpy(X), torch.from_numpy(Y), full_syy=True)
    other = type(affine)().fit_moments(moments)
    torch.testing.assert_close(other.map_.weight, affine_learned.map_.weight, rtol=1e-9, atol=1e-11)


def test_the_order_of_pairs_does_not_matter(affine, affine_learned):
    order = RNG.permutation(300)
    other = type(affine)().fit(X[order], Y[order])
    torch.testing.assert_close(other.map_.weight, affine_learned.map_.weight, rtol=1e-8, atol=1e-10)


def test_a_translation_is_one_affine_map(affine_learned):
    expected = X @ affine_learned.map_.weight.numpy() + affine_learned.map_.bias.numpy()
    np.testing.assert_allclose(affine_learned.transform(X), expected, rtol=1e-10, atol=1e-10)


def test_one_vector_translates_like_a_row(fitted):
    np.testing.assert_allclose(fitted.transform(X[3]), fitted.transform(X)[3])


def test_no_rows_translate_to_no_rows(fitted):
    assert fitted.transform(X[:0]).shape == (0, 9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_comes_back_as_numpy_in_its_dtype(fitted, dtype):
    result = fitted.transform(X.astype(dtype))
    assert isinstance(result, np.ndarray)
    assert result.dtype == dtype


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_tensors_come_back_as_tensors_in_their_dtype(fitted, dtype):
    result = fitted.transform(torch.from_numpy(X).to(dtype))
    assert result.dtype == dtype
    expected = torch.from_numpy(fitted.transform(X))
    torch.testing.assert_close(result.double(), expected, rtol=0.02, atol=0.1)


def test_half_precision_is_computed_in_float32(fitted):
    half = torch.from_numpy(X).half()
    assert torch.equal(fitted.transform(half), fitted.transform(half.float()).half())


def test_lists_integers_and_odd_strides_are_taken(fitted):
    rows = np.arange(12).reshape(2, 6)
    expected = fitted.transform(rows.astype(float))
    for same in (
        rows.tolist(),
        rows,
        rows[::-1][::-1],
        np.asfortranarray(rows),
        rows.astype(">f8"),
    ):
        np.testing.assert_allclose(fitted.transform(same), expected)


def test_a_read_only_memory_map_is_taken_without_a_copy_or_a_warning(fitted, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(fitted.transform(mapped), fitted.transform(X))


def test_gradients_flow_through_a_translation(affine_learned):
    x = torch.from_numpy(X).requires_grad_()
    affine_learned.transform(x).sum().backward()
    torch.testing.assert_close(x.grad[0], affine_learned.map_.weight.sum(1))


def test_the_score_of_tensors_with_gradients_is_that_of_their_values(fitted):
    x, y = (torch.tensor(latents, requires_grad=True) for latents in (X, Y))
    assert fitted.score(x, y) == fitted.score(x.detach(), y.detach())


def test_inverse_transform_undoes_a_map_into_a_wider_space(affine_learned):
    np.testing.assert_allclose(
        affine_learned.inverse_transform(affine_learned.transform(X)), X, atol=1e-8
    )


def test_inverse_transform_is_another_map_where_there_is_one(fitted):
    if fitted.affine:
        back = fitted.inverse_transform(Y)
        assert back.shape == X.shape
        np.testing.assert_allclose(fitted.inverse_transform(Y[3]), back[3])
    else:
        with pytest.raises(NotInvertibleError, match="fit a translator in the other direction"):
            fitted.inverse_transform(Y)


def test_inverse_transform_is_least_squares_from_a_narrower_space(affine):
    fitted = affine.fit(Y, X)
    back = fitted.inverse_transform(X)
    np.testing.assert_allclose(fitted.transform(back), X, atol=1e-6)
    pinv = np.linalg.pinv(fitted.map_.weight.numpy())
    np.testing.assert_allclose(back, (X - fitted.map_.bias.numpy()) @ pinv, atol=1e-6)


def test_normalized_translations_have_unit_norm_and_ignore_the_norm_of_the_source(translator):
    fitted = translator.set_params(unit_norm="both").fit(X, Y)
    np.testing.assert_allclose(np.linalg.norm(fitted.transform(X), axis=1), 1.0)
    for size in (7, 1e-200, 1e200):
        np.testing.assert_allclose(fitted.transform(size * X), fitted.transform(X))
    if fitted.affine:
        np.testing.assert_allclose(np.linalg.norm(fitted.inverse_transform(Y), axis=1), 1.0)


def test_normalizing_one_side_is_normalizing_it_by_hand(translator):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = type(translator)().fit(unit, Y).transform(unit)
    actual = translator.set_params(unit_norm="source").fit(X, Y).transform(X)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_map_is_kept_in_the_precision_of_the_pairs(translator, dtype):
    fitted = translator.fit(torch.from_numpy(X).to(dtype), torch.from_numpy(Y).to(dtype))
    assert fitted.map_.weight.dtype == dtype


def test_to_moves_the_map_to_another_dtype(fitted):
    expected = fitted.transform(X)
    assert fitted.to(dtype=torch.float32) is fitted
    assert fitted.map_.dtype == torch.float32
    np.testing.assert_allclose(fitted.transform(X), expected, rtol=1e-4, atol=1e-4)


def test_the_module_gives_the_same_translations_for_any_leading_shape(fitted):
    module = fitted.as_module()
    x = torch.from_numpy(X)
    torch.testing.assert_close(module(x), fitted.transform(x))
    torch.testing.assert_close(module(x.reshape(3, 100, 6)).reshape(300, 9), fitted.transform(x))
    torch.testing.assert_close(module(x[0]), fitted.transform(x[0]))
    assert list(module.parameters()) == []


def test_what_is_done_to_the_module_leaves_the_translator_alone(fitted):
    expected = fitted.transform(X)
    module = fitted.as_module().to(torch.float16)
    for buffer in module.buffers():
        buffer.zero_()
    np.testing.assert_array_equal(fitted.transform(X), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_value_is_refused_with_its_row(fitted, bad):
    x = X.copy()
    x[[5, 7], 1] = bad
    with pytest.raises(InvalidLatentsError, match="in 2 of 300 rows, first in row 5"):
        fitted.transform(x)


def test_large_finite_half_precision_values_are_not_mistaken_for_infinity(fitted):
    assert fitted.transform(torch.full((100, 6), 6e4, dtype=torch.bfloat16)).isfinite().all()


def test_a_wrong_width_is_refused_naming_whose_latents_are_expected(translator):
    space = SpaceSpec(6, repo_id="acme/encoder", pooling="mean")
    fitted = translator.fit(X, Y, source=space)
    with pytest.raises(InvalidLatentsError, match=r"9 features.*expecting 6.*acme/encoder \(dim=6"):
        fitted.transform(Y)
    with pytest.raises(InvalidLatentsError, match=r"^y has 6 features.*expecting 9"):
        fitted.inverse_transform(X)


def test_spaces_of_another_width_than_the_pairs_are_refused(translator):
    with pytest.raises(InvalidLatentsError, match="pairs have widths 6 and 9"):
        translator.fit(X, Y, target=SpaceSpec(8))


@pytest.mark.parametrize("use", ["transform", "inverse_transform", "as_module", "score", "save"])
def test_an_unfitted_translator_says_how_to_fit_it(translator, use, tmp_path):
    calls = {
        "transform": lambda: translator.transform(X),
        "inverse_transform": lambda: translator.inverse_transform(Y),
        "as_module": translator.as_module,
        "score": lambda: translator.score(X, Y),
        "save": lambda: translator.save_pretrained(tmp_path),
    }
    with pytest.raises(NotFittedError, match="not fitted: call fit"):
        calls[use]()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("params", [{"scaling": "zscore"}, {"unit_norm": "l2"}])
def test_a_parameter_out_of_range_is_refused_at_fit(translator, params):
    with pytest.raises(ValueError, match=f"{next(iter(params))} must be one of"):
        translator.set_params(**params).fit(X, Y)


def test_true_is_not_taken_for_a_number(translator):
    numbers = [
        name for name, value in translator.get_params().items() if type(value) in (int, float)
    ]
    for name in numbers:
        with pytest.raises(ValueError, match=name):
            type(translator)(**{name: True}).fit(X, Y)


def test_an_unknown_parameter_is_refused(translator):
    with pytest.raises(ValueError, match=r"no parameters.*zeta"):
        translator.set_params(zeta=1)


def test_a_saved_translator_comes_back_the_same(fitted, tmp_path):
    fitted.save_pretrained(tmp_path, metrics={"n_pairs": 5})
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    assert type(loaded) is type(fitted)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.params_ == fitted.params_
    assert (loaded.source_, loaded.target_) == (fitted.source_, fitted.target_)
    assert (loaded.n_pairs_, loaded.metrics_) == (300, {"n_pairs": 5})
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    if fitted.affine:
        np.testing.assert_array_equal(loaded.inverse_transform(Y), fitted.inverse_transform(Y))


def test_a_bank_of_queries_is_saved_with_it_and_changes_no_translation(fitted, tmp_path):
    before = fitted.transform(X)
    fitted.keep_bank(X, size=20).save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    bank = loaded.query_bank_.double().numpy()
    np.testing.assert_allclose(bank, fitted.query_bank_.double().cpu().numpy(), atol=1e-6)
    np.testing.assert_allclose(loaded.transform(X), before, rtol=1e-4, atol=1e-4)
    directions = before / np.linalg.norm(before, axis=1, keepdims=True)
    assert bank.shape == (20, 9)
    assert np.abs(bank[:, None] - directions[None]).max(2).min(1).max() < 1e-5
    np.testing.assert_array_equal(copy.deepcopy(fitted).query_bank_.cpu(), fitted.query_bank_.cpu())


def test_a_loaded_translator_refuses_more_pairs(learned, tmp_path):
    learned.save_pretrained(tmp_path)
    with pytest.raises(NotFittedError, match="does not hold the moments"):
        AutoTranslator.from_pretrained(tmp_path).partial_fit(X, Y)


def test_parameters_are_json(translator):
    assert json.loads(json.dumps(translator.get_params())) == translator.get_params()


def test_repr_shows_changed_parameters_and_the_fit(translator):
    name = type(translator).__name__
    assert repr(translator) == f"{name}()"
    translator.set_params(scaling="center").fit(X, Y)
    assert repr(translator).startswith(
        f"{name}(scaling='center') from an encoder of unknown name (dim=6)"
    )
    assert repr(translator).endswith("300 pairs")
    translator.set_params(scaling="none")
    assert repr(translator).endswith("300 pairs, fitted with scaling='center'")


def test_copies_and_pickles_translate_the_same(fitted):
    expected = fitted.transform(X)
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(twin.transform(X), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_fit_is_the_cpu_fit(translator, learned):
    x, y = torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda()
    on_gpu = type(translator)().fit(x, y)
    assert on_gpu.transform(x).is_cuda
    torch.testing.assert_close(on_gpu.transform(x).cpu(), torch.from_numpy(learned.transform(X)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_translates_as_the_cpu_does(fitted):
    x = torch.from_numpy(X)
    torch.testing.assert_close(fitted.transform(x.cuda()).cpu(), fitted.transform(x))


# Constant columns

SCALED = [(kind, {}, scaling) for kind in methods().values() for scaling in SCALINGS] + [
    (AffineTranslator, {"solver": "gradient", "steps": 20}, scaling) for scaling in SCALINGS
]
DEAD_X, DEAD_Y = [0, 3, 7], [1, 5, 10]


def with_dead_columns(dtype):
    """Pairs with columns that are constant, zero, or full of rounding, on both sides."""
    x, y = np.insert(X, [0, 2, 5], 0, axis=1), np.insert(Y, [1, 4, 8], 0, axis=1)
    assert not x[:, DEAD_X].any()
    assert not y[:, DEAD_Y].any()
    x[:, 0], y[:, 1] = 0.1, -7.3
    x[:, 7], y[:, 10] = 1e-9 * RNG.normal(size=300), 0.2 + 1e-9 * RNG.normal(size=300)
    return x.astype(dtype), y.astype(dtype)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "params", "scaling"), SCALED)
def test_constant_columns_are_left_alone(kind, params, scaling, dtype):
    x, y = with_dead_columns(dtype)
    fitted = kind(**params, scaling=scaling).fit(x, y)
    translated = fitted.transform(x)
    for column in DEAD_Y:
        np.testing.assert_allclose(translated[:, column], y[:, column].mean(), rtol=1e-6)
        assert np.ptp(translated[:, column]) == 0
    other = x.copy()
    other[:, DEAD_X] = 1000 * RNG.normal(size=(300, 3))
    np.testing.assert_array_equal(fitted.transform(other), translated)
    live_x, live_y = np.delete(x, DEAD_X, axis=1), np.delete(y, DEAD_Y, axis=1)
    if not params:  # the random start of the gradient solver depends on the widths
        alone = kind(scaling=scaling).fit(live_x, live_y).transform(live_x)
        tolerance = 1e-8 if dtype == np.float64 else 2e-3
        found = np.delete(translated, DEAD_Y, axis=1)
        np.testing.assert_allclose(found, alone, rtol=tolerance, atol=tolerance)


# Parameters are read at fit

SETTINGS = [{"unit_norm": "both"}, {"unit_norm": "source", "scaling": "none"}]


def everything(translator):
    """All that a fitted translator gives."""
    return [
        translator.transform(X),
        translator.transform(X.astype(np.float32)),
        translator.inverse_transform(Y) if translator.affine else Y,
        translator.as_module()(torch.from_numpy(X)),
        compose(translator).transform(X),
        translator.score(X, Y),
    ]


@pytest.mark.parametrize("params", SETTINGS)
def test_parameters_set_after_the_fit_change_nothing_that_was_learned(translator, params, tmp_path):
    defaults = translator.get_params()
    expected = everything(type(translator)().fit(X, Y))
    fitted = translator.fit(X, Y).set_params(**params)
    for now, then in zip(everything(fitted), expected, strict=True):
        np.testing.assert_array_equal(now, then)
    assert fitted.params_ == defaults
    fitted.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert loaded.get_params() == defaults
    np.testing.assert_array_equal(loaded.transform(X), expected[0])


@pytest.mark.parametrize("params", SETTINGS)
def test_parameters_set_before_the_map_is_solved_change_nothing_either(translator, params):
    expected = type(translator)().partial_fit(X, Y).transform(X)
    added = translator.partial_fit(X, Y).set_params(**params)
    np.testing.assert_array_equal(added.transform(X), expected)


@pytest.mark.parametrize("params", SETTINGS)
def test_the_next_fit_reads_the_parameters_again(learned, params):
    expected = type(learned)().set_params(**params).fit(X, Y)
    again = learned.set_params(**params).fit(X, Y)
    assert again.params_ == expected.params_ == again.get_params()
    np.testing.assert_array_equal(again.transform(X), expected.transform(X))


def test_pairs_are_never_added_to_pairs_of_another_norm(translator):
    translator.partial_fit(X[:100], Y[:100]).set_params(unit_norm="both")
    with pytest.raises(ValueError, match=r"100 pairs so far .*'none', which is now 'both'.*fit"):
        translator.partial_fit(X[100:], Y[100:])
    assert translator.n_pairs_ == 100
    translator.set_params(unit_norm="none").partial_fit(X[100:], Y[100:])
    expected = type(translator)().partial_fit(X[:100], Y[:100]).partial_fit(X[100:], Y[100:])
    np.testing.assert_allclose(translator.transform(X), expected.transform(X), rtol=1e-8)


def test_pairs_that_are_added_are_solved_with_the_latest_parameters(affine):
    affine.partial_fit(X[:100], Y[:100]).set_params(scaling="none")
    affine.partial_fit(X[100:], Y[100:])
    expected = type(affine)().set_params(scaling="none").fit(X, Y)
    np.testing.assert_allclose(affine.transform(X), expected.transform(X), rtol=1e-6)
    assert affine.params_ == expected.params_


def test_a_clone_is_not_fitted_and_has_the_parameters(fitted):
    twin = clone(fitted)
    assert type(twin) is type(fitted)
    assert twin.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        twin.transform(X)


# Compositions


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_is_not_fitted_on_pairs(name):
    composed = COMPOSED[name]()
    expected = composed.transform(X)
    moments = PairedMoments.from_batch(torch.from_numpy(X), torch.from_numpy(Y))
    for fit in (composed.fit, composed.partial_fit, composed.pair_moments, composed.fit_transform):
        with pytest.raises(TypeError, match="fit its translators and compose them again"):
            fit(X, Y)
    with pytest.raises(TypeError, match="fit its translators"):
        composed.fit_moments(moments)
    np.testing.assert_array_equal(composed.transform(X), expected)


def test_one_translator_may_come_twice(tmp_path):
    turn = OrthoTranslator(unit_norm="both").fit(X, X[:, ::-1].copy())
    twice = compose(turn, turn, turn)
    np.testing.assert_allclose(
        twice.transform(X), turn.transform(turn.transform(turn.transform(X)))
    )
    twice.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert len(loaded.map_.steps) == 3
    np.testing.assert_array_equal(loaded.transform(X), twice.transform(X))


def test_a_translator_composed_with_its_inverse_module_leads_back():
    rotation = OrthoTranslator(scaling="center").fit(X, BETWEEN[:, :6])
    there, back = rotation.map_, rotation.map_.inverse()
    x = torch.from_numpy(X)
    torch.testing.assert_close(there.then(back)(x), x)
    assert isinstance(there.then(back), LatentMap)


# Evaluation


def test_it_is_evaluated(fitted):
    report = evaluate_latents(fitted, X, Y, n_bootstrap=10, n_permutations=10)
    assert report.n_pairs == 300
    assert report.translated.r2 == pytest.approx(fitted.score(X, Y), abs=1e-3)
