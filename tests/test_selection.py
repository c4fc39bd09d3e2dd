"""The choice of a map and its parameters by cross-validation, compared with scikit-learn's."""

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    OrthoTranslator,
    PairedMoments,
    fit_translator,
)
from hf_latent_bridge.errors import ConfigError, InvalidLatentsError, SelectionWarning, SolverError
from hf_latent_bridge.selection import (
    ALPHAS,
    N_FOLDS,
    RidgePath,
    r2_from_moments,
    ridge_alphas,
    select_ridge,
    simplest_within_one_error,
    training_folds,
)

N, D_X, D_Y = 300, 24, 10


def latents(n=N, noise=3.0, seed=0):
    """Pairs of correlated latents, of which one source column is constant."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, D_X)) @ draw.normal(size=(D_X, D_X)) + 2
    x[:, 3] = 1.5
    y = x @ draw.normal(size=(D_X, D_Y)) / 3 + noise * draw.normal(size=(n, D_Y)) - 1
    return x, y


def folds_of(x, y):
    return [
        PairedMoments.from_batch(*(torch.from_numpy(z[k::N_FOLDS]) for z in (x, y)))
        for k in range(N_FOLDS)
    ]


VARIANCE_WEIGHTED = make_scorer(r2_score, multioutput="variance_weighted")


@pytest.mark.parametrize("scaling", ["standard", "center"])
def test_the_curve_of_ridge_equals_scikit_learns_grid_search_on_the_same_folds(scaling):
    x, y = latents()
    selection = select_ridge(folds_of(x, y), scaling)
    split = PredefinedSplit(np.arange(N) % N_FOLDS)
    per_pair = N - N // N_FOLDS  # scikit-learn's penalty is on the sum over pairs
    alphas = [trial.params["alpha"] for trial in selection.trials]
    scale = {"with_std": scaling == "standard"}
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(**scale), Ridge()), transformer=StandardScaler(**scale)
    )
    grid = {"regressor__ridge__alpha": [per_pair * alpha for alpha in alphas]}
    search = GridSearchCV(model, grid, cv=split, scoring=VARIANCE_WEIGHTED).fit(x, y)
    assert len(alphas) == 60
    scores, errors = ([getattr(t, name) for t in selection.trials] for name in ("score", "error"))
    np.testing.assert_allclose(scores, search.cv_results_["mean_test_score"], rtol=0, atol=1e-8)
    deviations = search.cv_results_["std_test_score"] / np.sqrt(N_FOLDS - 1)
    np.testing.assert_allclose(errors, deviations, rtol=0, atol=1e-8)
    assert selection.best == search.best_index_


def test_the_best_penalty_is_the_one_of_ridge_cv():
    x, y = latents()
    selection = select_ridge(folds_of(x, y), "center")
    per_pair = N - N // N_FOLDS
    alphas = [per_pair * trial.params["alpha"] for trial in selection.trials]
    split = PredefinedSplit(np.arange(N) % N_FOLDS)
    reference = RidgeCV(alphas, cv=split, scoring=VARIANCE_WEIGHTED).fit(x, y)
    assert reference.alpha_ == alphas[selection.best]
    assert reference.best_score_ == pytest.approx(selection.trials[selection.best].score, abs=1e-8)


@pytest.mark.parametrize("scaling", ["standard", "center", "none"])
def test_every_penalty_of_a_path_gives_the_map_that_is_fitted_with_it(scaling):
    x, y = latents()
    path = RidgePath.from_moments(PairedMoments.from_batch(*map(torch.from_numpy, (x, y))), scaling)
    for alpha in (1e-3, 0.1, 10.0):
        fitted = AffineTranslator(alpha=alpha, scaling=scaling).fit(x, y)
        solution = path.solution(alpha)
        assert torch.allclose(solution.weight, fitted.map_.weight, atol=1e-10)
        assert torch.allclose(solution.bias, fitted.map_.bias, atol=1e-10)
        predicted = path.predict(torch.from_numpy(x), alpha).numpy()
        np.testing.assert_allclose(predicted, fitted.transform(x), atol=1e-8)


@pytest.mark.parametrize("translator", [AffineTranslator(alpha=0.3), OrthoTranslator()])
def test_r2_from_moments_is_the_score_on_the_pairs(translator):
    x, y = latents()
    translator.fit(x[:200], y[:200])
    held_out = PairedMoments.from_batch(*(torch.from_numpy(z[200:]) for z in (x, y)))
    score, chance = r2_from_moments(translator.map_.weight, translator.map_.bias, held_out)
    assert score == pytest.approx(translator.score(x[200:], y[200:]), abs=1e-10)
    draw = np.random.default_rng(0)
    shuffled = [translator.score(x[200:], y[200:][draw.permutation(N - 200)]) for _ in range(400)]
    assert chance == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / 20)


def test_the_fold_moments_of_the_others_are_those_of_their_pairs():
    x, y = latents()
    for number, rest in enumerate(training_folds(folds_of(x, y))):
        others = np.arange(N) % N_FOLDS != number
        direct = PairedMoments.from_batch(*(torch.from_numpy(z[others]) for z in (x, y)))
        for name, tensor in rest.to_tensors().items():
            assert torch.allclose(tensor, direct.to_tensors()[name], atol=1e-8), name


def test_the_rule_takes_the_first_candidate_within_one_error_of_the_difference():
    draw = np.random.default_rng(0)
    for _ in range(200):
        scores = draw.normal(size=(7, 5)) * 0.2 + draw.normal(size=(7, 1)) * 0.3
        best, chosen = simplest_within_one_error(torch.from_numpy(scores))
        assert best == scores.mean(1).argmax()
        allowed = [
            number
            for number, row in enumerate(scores)
            if (scores[best] - row).mean() <= np.std(scores[best] - row, ddof=1) / np.sqrt(5)
        ]
        assert chosen == min([*allowed, best])


def test_equal_scores_choose_the_simplest():
    assert simplest_within_one_error(torch.full((4, 5), 0.5)) == (0, 0)


def test_auto_takes_the_chosen_penalty_and_says_how():
    x, y = latents()
    auto = AffineTranslator(alpha="auto").fit(x, y)
    alpha = auto.params_["alpha"]
    assert alpha == auto.selection_.choice.params["alpha"]
    assert auto.get_params()["alpha"] == "auto"
    given = AffineTranslator(alpha=alpha).fit(x, y)
    np.testing.assert_allclose(auto.transform(x), given.transform(x), atol=1e-9)
    assert given.selection_ is None
    assert "60 candidates" in str(auto.selection_)


def test_the_choice_is_the_same_however_the_pairs_come():
    x, y = latents()
    whole = AffineTranslator(alpha="auto").fit(x, y)
    batches = AffineTranslator(alpha="auto")
    for start, end in ((0, 2), (2, 3), (3, 104), (104, N)):
        batches.partial_fit(x[start:end], y[start:end])
    streamed = fit_translator(AffineTranslator(alpha="auto"), None, None, (x, y), chunk_size=32)
    for other in (batches, streamed):
        assert other.map_ is not None
        np.testing.assert_allclose(
            [trial.score for trial in other.selection_.trials],
            [trial.score for trial in whole.selection_.trials],
            atol=1e-9,
        )
        assert other.params_ == whole.params_


def test_penalties_follow_the_scale_of_latents_that_are_only_centred():
    x, y = latents()
    small = AffineTranslator(alpha="auto", scaling="center").fit(x / 100, y)
    large = AffineTranslator(alpha="auto", scaling="center").fit(x, y)
    assert small.params_["alpha"] == pytest.approx(large.params_["alpha"] / 1e4)
    np.testing.assert_allclose(small.transform(x / 100), large.transform(x), atol=1e-8)


def test_the_curve_is_saved_loaded_and_dropped_by_another_fit(tmp_path):
    x, y = latents()
    auto = AffineTranslator(alpha="auto").fit(x, y)
    auto.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert loaded.selection_ == auto.selection_
    assert loaded.params_ == auto.params_
    loaded.save_pretrained(tmp_path)
    assert AutoTranslator.from_pretrained(tmp_path).selection_ == auto.selection_
    assert auto.set_params(alpha=0.1).fit(x, y).selection_ is None


DAMAGES = {
    "no trials": lambda record: record.pop("trials"),
    "an unknown field": lambda record: record.update(more=1),
    "a choice that is not among the trials": lambda record: record.update(chosen=60),
    "a count that is not an integer": lambda record: record.update(n_folds=2.5),
    "an unknown objective": lambda record: record.update(objective="beauty"),
    "a score that is a text": lambda record: record["trials"][3].update(score="high"),
    "a trial without params": lambda record: record["trials"][3].pop("params"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused(damage, tmp_path):
    x, y = latents()
    AffineTranslator(alpha="auto").fit(x, y).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    DAMAGES[damage](config["selection"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="selection"):
        AutoTranslator.from_pretrained(tmp_path)


def test_few_pairs_are_warned_of():
    x, y = latents(2 * D_X - 1, noise=1.0)
    with pytest.warns(SelectionWarning, match="47 pairs are fewer than twice the larger width"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_a_choice_on_the_edge_of_the_penalties_is_warned_of():
    x, y = latents(noise=0.0)
    with pytest.warns(SelectionWarning, match="first or last of the penalties"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_a_clear_choice_from_many_pairs_is_silent():
    x, y = latents()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AffineTranslator(alpha="auto").fit(x, y)


def test_a_fold_without_a_pair_is_refused():
    x, y = latents(4)
    with pytest.raises(InvalidLatentsError, match="5 folds needs a pair in each, got 4"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_moments_that_are_not_in_folds_are_refused():
    x, y = latents()
    translator = AffineTranslator(alpha="auto")
    with pytest.raises(InvalidLatentsError, match="fold_moments"):
        translator.fit_moments(translator.pair_moments(x, y))
    assert translator.fit_moments(folds_of(x, y)).selection_ is not None


def test_a_fold_of_equal_targets_is_refused():
    x, y = latents(5 * 10)
    y[::5] = y[0]
    with pytest.raises(SolverError, match="target latents of a fold are all"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_equal_source_latents_are_refused():
    x, y = latents()
    x[:] = x[0]
    with pytest.raises(SolverError, match="nothing to choose from"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_the_gradient_has_no_penalty_to_choose():
    with pytest.raises(ValueError, match="alpha is a penalty of the closed form"):
        AffineTranslator(alpha="auto", solver="gradient").fit(*latents())


def test_the_penalties_span_eight_decades_around_the_mean_variance():
    x, y = latents()
    moments = PairedMoments.from_batch(*map(torch.from_numpy, (x, y)))
    assert ridge_alphas(moments, "standard") == pytest.approx(ALPHAS)
    assert (max(ALPHAS), min(ALPHAS)) == pytest.approx((1e3, 1e-5))
