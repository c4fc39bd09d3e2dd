"""The choice of a map and its parameters by cross-validation, compared with scikit-learn's."""

import dataclasses
import functools
import json
import warnings
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
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
    KernelTranslator,
    LatentIndex,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
    PairedMoments,
    Pairs,
    SharedTranslator,
    SharedViewTranslator,
    SpectralTranslator,
    Translator,
    TranslatorChoice,
    fit_head,
    fit_translator,
    select_translator,
)
from hf_latent_bridge.errors import (
    CheckpointError,
    ConfigError,
    DecoderError,
    InvalidLatentsError,
    InvalidPairsError,
    SelectionWarning,
    SolverError,
)
from hf_latent_bridge.files import read_config
from hf_latent_bridge.fitting.choice import candidates
from hf_latent_bridge.selection import (
    ALPHAS,
    N_FOLDS,
    Folds,
    r2_from_moments,
    ridge_alphas,
    ridge_path,
    select,
    select_ridge,
    sure_leads,
)
from hf_latent_bridge.solvers import SCALINGS, Decomposed
from hf_latent_bridge.translators.base import TRANSLATORS

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


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["standard", "center"])
def test_the_curve_of_ridge_equals_scikit_learns_grid_search_on_the_same_folds(scaling):
    x, y = latents()
    selection = select_ridge(Folds(folds_of(x, y)), scaling)
    split = PredefinedSplit(np.arange(N) % N_FOLDS)
    alphas = [trial.params["alpha"] for trial in selection.trials]
    scale = {"with_std": scaling == "standard"}
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(**scale), Ridge()), transformer=StandardScaler(**scale)
    )
    # scikit-learn's penalty is on the sum over pairs: in a fold that which all pairs will have
    grid = {"regressor__ridge__alpha": [N * alpha for alpha in alphas]}
    search = GridSearchCV(model, grid, cv=split, scoring=VARIANCE_WEIGHTED).fit(x, y)
    assert len(alphas) == 60
    scores, errors = ([getattr(t, name) for t in selection.trials] for name in ("score", "error"))
    np.testing.assert_allclose(scores, search.cv_results_["mean_test_score"], rtol=0, atol=1e-8)
    deviations = search.cv_results_["std_test_score"] / np.sqrt(N_FOLDS - 1)
    np.testing.assert_allclose(errors, deviations, rtol=0, atol=1e-8)
    assert selection.chosen == search.best_index_


def test_the_best_penalty_is_the_one_of_ridge_cv():
    x, y = latents()
    selection = select_ridge(Folds(folds_of(x, y)), "center")
    alphas = [N * trial.params["alpha"] for trial in selection.trials]
    split = PredefinedSplit(np.arange(N) % N_FOLDS)
    reference = RidgeCV(alphas, cv=split, scoring=VARIANCE_WEIGHTED).fit(x, y)
    assert reference.alpha_ == alphas[selection.chosen]
    assert reference.best_score_ == pytest.approx(selection.choice.score, abs=1e-8)


@pytest.mark.parametrize("scaling", ["standard", "center", "none"])
def test_every_penalty_of_a_path_gives_the_map_that_is_fitted_with_it(scaling):
    x, y = latents()
    pairs = PairedMoments.from_batch(*map(torch.from_numpy, (x, y)))
    path = ridge_path(Decomposed(pairs), scaling)
    alphas = (1e-3, 0.1, 10.0)
    found = path.family(alphas).predictions(torch.from_numpy(x))
    for alpha, predicted in zip(alphas, found, strict=True):
        fitted = AffineTranslator(alpha=alpha, scaling=scaling).fit(x, y)
        np.testing.assert_allclose(predicted, fitted.transform(x), atol=1e-8)


@pytest.mark.parametrize("translator", [AffineTranslator(alpha=0.3), OrthoTranslator()])
def test_r2_from_moments_is_the_score_on_the_pairs(translator):
    x, y = latents()
    translator.fit(x[:200], y[:200])
    held_out = PairedMoments.from_batch(*(torch.from_numpy(z[200:]) for z in (x, y)))
    moments = Decomposed(held_out)
    score, chance = r2_from_moments(translator.map_.weight, translator.map_.bias, moments)
    assert score == pytest.approx(translator.score(x[200:], y[200:]), abs=1e-10)
    draw = np.random.default_rng(0)
    shuffled = [translator.score(x[200:], y[200:][draw.permutation(N - 200)]) for _ in range(400)]
    assert chance == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / 20)


def wide_latents():
    """Few pairs with many columns."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 20)) @ draw.normal(size=(20, 200)) + draw.normal(size=(60, 200))
    return x, x @ draw.normal(size=(200, 150)) / 9 + draw.normal(size=(60, 150))


@pytest.mark.parametrize("pairs", [latents(), wide_latents()], ids=["many", "few pairs"])
@pytest.mark.parametrize(
    "tried",
    [
        [
            SpectralTranslator(alpha=alpha, gamma=gamma, scale=scale, scaling=scaling)
            for scaling in ("standard", "pareto", "none")
            for alpha in (0.3, "inf")
            for gamma, scale in ((0.25, True), (1.0, False))
        ],
        [SpectralTranslator(alpha=0.3, unit_norm="both"), SpectralTranslator(unit_norm="both")],
        [AffineTranslator(alpha=0.3), AffineTranslator(alpha=3.0, scaling="center")],
        [LinearTranslator(), LinearTranslator(scaling="center")],
        [LOrthoTranslator(), LOrthoTranslator(scaling="center")],
        [OrthoTranslator(), OrthoTranslator(scaling="none")],
    ],
    ids=lambda tried: f"{tried[0].translator_type} {tried[0].unit_norm}",
)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_candidates_that_share_work_score_and_translate_as_fitted_ones(tried, pairs):
    (x, held_x), (y, held_y) = ((z[10:], z[:10]) for z in pairs)
    kind = type(tried[0])
    rest = Decomposed(tried[0].pair_moments(x, y))
    held_out = Decomposed(tried[0].pair_moments(held_x, held_y))
    queries = torch.from_numpy(held_x)
    scored = kind.held_out_r2(tried, rest, held_out)
    translated = kind.predictions(tried, rest, queries)
    for one, (score, _), found in zip(tried, scored, translated, strict=True):
        fitted = kind(**one.get_params()).fit(x, y)
        np.testing.assert_allclose(found, fitted.transform(held_x), atol=1e-7)
        if one.unit_norm == "none":
            assert score == pytest.approx(fitted.score(held_x, held_y), abs=1e-8)


def test_the_fold_moments_of_the_others_are_those_of_their_pairs():
    x, y = latents()
    folds = Folds(folds_of(x, y))
    for number in range(N_FOLDS):
        rest = folds.others(number).moments
        others = np.arange(N) % N_FOLDS != number
        direct = PairedMoments.from_batch(*(torch.from_numpy(z[others]) for z in (x, y)))
        for name, tensor in rest.to_tensors().items():
            assert torch.allclose(tensor, direct.to_tensors()[name], atol=1e-8), name


@pytest.mark.parametrize("objective", ["reconstruction", "counterpart"])
def test_the_best_mean_is_chosen_and_of_equal_ones_the_first(objective):
    scores = torch.tensor([[0.1, 0.3], [0.5, 0.4], [0.4, 0.5], [0.9, -0.1]])
    names = [(kind, {}) for kind in ("ortho", "affine", "spectral", "linear")]
    found = select(objective, names, scores, torch.zeros(4, 2), 2)
    assert found.choice.translator_type == "affine"
    assert found.choice.score == pytest.approx(0.45)
    assert found.choice.error == pytest.approx(np.std([0.5, 0.4], ddof=1) / np.sqrt(2))


def test_a_lead_counts_by_what_leads_vary_beyond_their_errors():
    first = torch.tensor([0.9, 0.1], dtype=torch.float64)
    ahead = torch.tensor([[0.0, 0.0], [0.2, 0.4], [0.0, 0.2]], dtype=torch.float64)  # .3, .1 ± .1
    variance = (0.3**2 + 0.1**2) / 2 - 0.1**2  # .04
    kept = variance / (variance + 0.1**2)  # .8
    error = np.sqrt(kept) * 0.1
    expected = [0, 0.24 - 1.96 * error, 0.08 - 1.96 * error]
    np.testing.assert_allclose(sure_leads(first + ahead), expected, atol=1e-5)


def test_one_standard_error_takes_the_simplest_that_is_within_one_error_of_the_best():
    rule = "one_standard_error"
    names = [(kind, {}) for kind in ("shared", "kernel", "affine", "affine", "ortho")]
    means = torch.tensor([0.52, 0.80, 0.72, 0.75, 0.69], dtype=torch.float64)
    scores = means[:, None] + torch.tensor([0.1, -0.1]) * torch.ones(5, 1)  # each ± .1

    def chosen(n, complexities):
        chances = torch.zeros(n, 2)
        args = ("counterpart", names[:n], scores[:n], chances, 2)
        return select(*args, rule=rule, complexities=complexities[:n]).chosen

    assert chosen(5, (5, 3, 1, 1, 0)) == 2  # ortho is 0.11 behind, and of two equals the first
    assert chosen(5, (5, 3, 2, 1, 0)) == 3
    assert chosen(2, (5, 3)) == 1
    found = select("ranking", names, scores, torch.zeros(5, 2), 2, rule=rule)
    assert found.chosen == 1
    assert not found.kept_in_doubt


@pytest.mark.parametrize("objective", ["reconstruction", "counterpart", "ranking"])
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_every_objective_may_be_chosen_by_one_standard_error(objective, tmp_path):
    x, y = latents(n=300, noise=12.0)
    among = [AffineTranslator(alpha=alpha) for alpha in (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)]
    best, simple = (
        select_translator(x, y, objective=objective, among=[*among, OrthoTranslator()], rule=rule)
        for rule in ("best", "one_standard_error")
    )
    trials = simple.selection_.trials
    assert trials == best.selection_.trials
    highest = best.selection_.choice
    assert highest.score == max(trial.score for trial in trials)
    level = [trial for trial in trials if trial.score >= highest.score - highest.error]
    rotations = [trial for trial in level if trial.translator_type == "ortho"]
    assert simple.selection_.choice == [*rotations, *level][0]
    assert objective != "reconstruction" or simple.selection_.choice != highest
    simple.save_pretrained(tmp_path)
    assert AutoTranslator.from_pretrained(tmp_path).selection_ == simple.selection_
    assert "the simplest candidate within one standard error" in (
        (tmp_path / "README.md").read_text().replace("\n", " ")
    )


@pytest.mark.parametrize("objective", ["ranking", "classification"])
def test_the_first_candidate_is_kept_unless_another_is_surely_ahead_on_the_same_pairs(objective):
    names = [("ortho", {"number": number}) for number in range(3)]

    def chosen(*ahead):
        first = torch.tensor([0.9, 0.1], dtype=torch.float64)
        scores = torch.stack([first, *(first + torch.tensor(leads) for leads in ahead)])
        chances = torch.zeros(len(scores), 2)
        return select(objective, names[: len(scores)], scores, chances, 2, rule="sure_lead").chosen

    assert chosen([0.0, 0.2], [0.2, 0.4]) == 2
    assert chosen([0.0, 0.2], [-0.2, 0.0]) == 0  # they vary as their errors do
    assert chosen([0.0, 0.0], [0.0, 0.0]) == 0
    assert chosen([0.0, 0.0], [0.1, 0.1]) == 2  # ahead on every pair alike
    assert chosen() == 0


def test_a_shared_space_is_kept_for_counterparts_unless_a_plain_map_is_surely_ahead():
    draw = np.random.default_rng(6)
    x = draw.normal(size=(60, 10))
    y = x[:, :4] @ draw.normal(size=(4, 8)) + 2 * draw.normal(size=(60, 8))
    shared, plain = SharedTranslator(), [OrthoTranslator(scaling=scaling) for scaling in SCALINGS]
    with pytest.warns(SelectionWarning, match="better than ortho"):
        kept, best = (
            select_translator(x, y, objective="counterpart", among=among)
            for among in ([shared, *plain], [*plain, shared])
        )
    assert kept.translator_type == "shared"
    assert kept.selection_.kept_in_doubt
    assert best.translator_type == "ortho"
    assert best.selection_.choice.score > kept.selection_.choice.score
    x = draw.normal(size=(120, 10))
    y = x @ np.linalg.qr(draw.normal(size=(10, 10)))[0] + 0.5 * draw.normal(size=(120, 10))
    narrow = [SharedTranslator(dim=2), OrthoTranslator()]
    sure = select_translator(x, y, objective="counterpart", among=narrow)
    assert sure.translator_type == "ortho"


def test_what_every_registered_type_offers_for_counterparts_begins_with_a_shared_space():
    assert candidates("counterpart")[0].translator_type == "shared"
    assert candidates("counterpart", shared=False)[0].translator_type == "spectral"


@pytest.mark.parametrize("in_common", [0.0, 0.8])
@pytest.mark.parametrize("n_others", [1, 30])
def test_where_all_are_alike_luck_seldom_displaces_the_first_candidate(n_others, in_common):
    draw = torch.Generator().manual_seed(0)
    names = [("ortho", {"number": number}) for number in range(n_others + 1)]
    kept = []
    for _ in range(300):
        shared, own = (
            torch.randn(rows, 200, generator=draw, dtype=torch.float64)
            for rows in (1, n_others + 1)
        )
        scores = in_common**0.5 * shared + (1 - in_common) ** 0.5 * own
        found = select(
            "ranking", names, scores, torch.zeros(n_others + 1, 2), 200, rule="sure_lead"
        )
        kept.append(found.chosen == 0)
    assert np.mean(kept) > 0.9


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


@pytest.mark.parametrize(("noise", "gamma"), [(3.0, 1.0), (10.0, 0.75)])
def test_singular_values_are_flattened_only_where_noise_makes_ridge_shrink_them(noise, gamma):
    x, y = latents(noise=noise)
    auto = SpectralTranslator(alpha="auto", gamma="auto", scaling="pareto").fit(x, y)
    assert auto.params_["gamma"] == gamma
    given = SpectralTranslator(**auto.params_).fit(x, y)
    np.testing.assert_allclose(auto.transform(x), given.transform(x), atol=1e-9)


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
    "an unknown rule": lambda record: record.update(rule="luck"),
    "a score that is a text": lambda record: record["trials"][3].update(score="high"),
    "a trial without params": lambda record: record["trials"][3].pop("params"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused(damage, tmp_path):
    x, y = latents()
    AffineTranslator(alpha="auto").fit(x, y).save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    DAMAGES[damage](config["selection"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="selection"):
        AutoTranslator.from_pretrained(tmp_path)


def test_few_pairs_are_warned_of():
    x, y = latents(2 * D_X - 1, noise=1.0)
    with pytest.warns(SelectionWarning, match="47 pairs are fewer than twice the larger width"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_a_choice_that_few_pairs_cannot_tell_from_a_rotation_says_so():
    x, y, _ = views(40)
    with pytest.warns(SelectionWarning, match="nothing is clearly better than ortho") as told:
        select_translator(x, y)
    assert "fit_growing" in str(told[0].message)


def test_candidates_that_do_equally_well_are_told_to():
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    with pytest.warns(SelectionWarning) as told:
        select_translator(x, x.flip(1), objective="counterpart")
    wanted = "on 60 pairs nothing is clearly better than ortho (both it and shared score 1.000"
    assert [str(one.message).startswith(wanted) for one in told] == [True]


def test_a_choice_on_the_edge_of_the_penalties_is_warned_of():
    x, y = latents(noise=0.0)
    with pytest.warns(SelectionWarning, match="first or last of the penalties"):
        AffineTranslator(alpha="auto").fit(x, y)


def test_a_chosen_candidate_whose_own_penalty_is_on_the_edge_is_warned_of():
    x, y = latents(noise=0.0)
    among = [OrthoTranslator(), AffineTranslator(alpha="auto")]
    for objective in ("reconstruction", "ranking"):
        with pytest.warns(SelectionWarning, match=r"alpha=1e-05, is the first or last"):
            chosen = select_translator(x, y, objective=objective, among=among)
        assert chosen.translator_type == "affine"


def test_the_penalty_of_a_candidate_that_is_kept_in_doubt_is_no_edge():
    x, y = latents(noise=0.0)
    among = [AffineTranslator(alpha="auto"), OrthoTranslator()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert select_translator(x, y, among=among).translator_type == "affine"


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
    with pytest.raises(InvalidLatentsError, match="needs a pair in each, got 3 in all"):
        translator.fit_moments(translator.fold_moments(x[:3], y[:3]))


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
    assert ridge_alphas(ridge_path(Decomposed(moments), "standard")) == pytest.approx(ALPHAS)
    assert (max(ALPHAS), min(ALPHAS)) == pytest.approx((1e3, 1e-5))


def views(n=240, seed=0):
    """Two noisy views of one signal, and the class of each item."""
    draw = np.random.default_rng(seed)
    signal = draw.normal(size=(n, 8))
    x, y = (
        signal @ draw.normal(size=(8, width)) + draw.normal(size=(n, width)) for width in (16, 12)
    )
    return x, y, [("red", "green", "blue")[int(v)] for v in np.digitize(signal[:, 0], [-0.5, 0.5])]


def views_with_a_rare_class():
    """One item has a class of its own, which no head of the other folds knows."""
    x, y, labels = views()
    return x, y, ["rare", *labels[1:]]


AMONG = (
    OrthoTranslator(),
    AffineTranslator(alpha=3.0),
    AffineTranslator(alpha=0.1),
    AffineTranslator(alpha=0.1, scaling="center"),
    AffineTranslator(alpha=0.1, rank=3),
    SpectralTranslator(alpha=0.5, gamma=0.25),
    SpectralTranslator(alpha=0.5, gamma=0.75),
    SpectralTranslator(alpha=0.1, gamma=0.75, scaling="center"),
    LinearTranslator(),
    LOrthoTranslator(),
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mean_reciprocal_rank(predicted, own, others, decoder):
    ranks, index = [], np.concatenate([own["y"], others["y"]])
    for row, similarities in enumerate(unit(predicted) @ unit(index).T):
        ranks.append(1 + sum(s > similarities[row] for s in similarities))
    return np.mean([1 / rank for rank in ranks])


def overlap(predicted, own, others, decoder):
    shares, index = [], np.concatenate([own["y"], others["y"]])
    k = len(index) // 50  # 240 items
    for row in range(len(predicted)):
        nearest = []
        for queries in (predicted, own["y"]):
            similarities = unit(queries)[row] @ unit(index).T
            similarities[row] = -np.inf
            nearest.append(set(np.argsort(-similarities)[:k]))
        shares.append(len(nearest[0] & nearest[1]) / k)
    return np.mean(shares)


def ahead_of_other_labels(predicted, own, others, decoder):
    head = decoder or fit_head(others["y"], others["labels"])
    shares = []
    for logits, label in zip(head.logits(torch.tensor(predicted)), own["labels"], strict=True):
        known = label in head.labels  # else it is ahead of none
        right = logits[list(head.labels).index(label)] if known else -torch.inf
        n_behind = sum(bool(other < right) for other in logits)
        shares += [n_behind / (len(logits) - 1), n_behind == len(logits) - 1]
    return np.mean(shares)


def score(predicted, own, others, decoder):
    residual = ((own["y"] - predicted) ** 2).sum()
    return 1 - residual / ((own["y"] - own["y"].mean(0)) ** 2).sum()


BRUTE_FORCE = {
    "reconstruction": score,
    "counterpart": mean_reciprocal_rank,
    "ranking": overlap,
    "classification": ahead_of_other_labels,
}


@functools.cache
def selection_among_these(objective):
    x, y, labels = views_with_a_rare_class()
    given = labels if objective == "classification" else None
    return select_translator(x, y, objective=objective, among=AMONG, labels=given).selection_


@pytest.mark.parametrize("objective", BRUTE_FORCE)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_scores_equal_those_of_a_loop_that_fits_every_candidate_on_every_fold(objective):
    x, y, labels = views_with_a_rare_class()
    found = selection_among_these(objective)
    folds = np.arange(len(x)) % N_FOLDS
    expected = []
    for candidate in AMONG:
        scores = []
        for fold in range(N_FOLDS):
            own, others = (
                {"y": y[rows], "labels": [labels[i] for i in np.flatnonzero(rows)]}
                for rows in (folds == fold, folds != fold)
            )
            fitted = candidate.on_part(0.8).fit(x[folds != fold], y[folds != fold])
            predicted = fitted.transform(x[folds == fold])
            scores.append(BRUTE_FORCE[objective](predicted, own, others, None))
        expected.append(np.mean(scores))
    np.testing.assert_allclose([trial.score for trial in found.trials], expected, atol=1e-9)
    assert found.n_held_out == len(x)
    assert found.n_folds == N_FOLDS


def cosines(translator, x):
    """Of translated latents with each other: the axes of a shared space have no sign."""
    translated = unit(translator.transform(x))
    return translated @ translated.T


@pytest.mark.slow
@pytest.mark.parametrize("objective", BRUTE_FORCE)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_the_winner_is_fitted_on_all_pairs_and_saved_with_its_record(objective, tmp_path):
    x, y, labels = views()
    given = labels if objective == "classification" else None
    winner = select_translator(x, y, objective=objective, labels=given)
    choice = winner.selection_.choice
    assert (winner.translator_type, winner.n_pairs_) == (choice.translator_type, len(x))
    again = type(winner)(**winner.get_params()).fit(x, y)
    assert winner.moves_target == (objective == "counterpart")  # nothing else is as good here
    np.testing.assert_allclose(cosines(winner, x), cosines(again, x), atol=1e-9)
    assert {**type(winner)().get_params(), **choice.params} == winner.get_params()
    winner.save_pretrained(tmp_path)
    assert AutoTranslator.from_pretrained(tmp_path).selection_ == winner.selection_


@pytest.mark.parametrize("objective", BRUTE_FORCE)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_shuffled_pairs_score_as_the_record_says_of_chance(objective):
    x, y, labels = views_with_a_rare_class()
    found = selection_among_these(objective)
    folds = np.arange(len(x)) % N_FOLDS
    draw, winner, scores = np.random.default_rng(0), AMONG[found.chosen], []
    for fold in range(N_FOLDS):
        fitted = winner.on_part(0.8).fit(x[folds != fold], y[folds != fold])
        rows = np.flatnonzero(folds == fold)
        predicted, rest = fitted.transform(x[rows]), np.flatnonzero(folds != fold)
        head = fit_head(y[rest], [labels[i] for i in rest])
        for _ in range(60):
            mixed = draw.permutation(len(rows))
            own = {"y": y[rows], "labels": [labels[rows[i]] for i in mixed]}
            if objective == "classification":
                scores.append(ahead_of_other_labels(predicted, own, None, head))
            elif objective == "ranking":
                scores.append(shuffled_overlap(predicted, y[rows], y[rest], mixed))
            else:
                everyone = draw.permutation(np.concatenate([y[rows], y[rest]]))
                own["y"], among = everyone[: len(rows)], {"y": everyone[len(rows) :]}
                if objective == "reconstruction":
                    own["y"] = y[rows][mixed]
                scores.append(BRUTE_FORCE[objective](predicted, own, among, None))
    # a fold's score varies between shuffles; the mean over 300 has 1/17 of that error
    assert found.chance == pytest.approx(np.mean(scores), abs=max(4 * np.std(scores) / 17, 0.01))


def shuffled_overlap(predicted, y, rest, mixed):
    shares, index = [], np.concatenate([y, rest])
    k = len(index) // 50
    itself = 9 * np.eye(len(y), len(index))
    found, native = (
        np.argsort(itself - unit(queries) @ unit(index).T)[:, :k] for queries in (predicted, y)
    )
    for row, other in enumerate(mixed):
        shares.append(len(set(found[row]) & set(native[other])) / k)
    return np.mean(shares)


def test_a_decoder_without_labels_is_held_to_its_answers_on_native_latents():
    x, y, labels = views()
    head = fit_head(y, labels)
    given = select_translator(x, y, objective="classification", decoder=head, among=AMONG)
    own = [answer["label"] for answer in head(y)]
    labelled = select_translator(
        x, y, objective="classification", decoder=head, labels=own, among=AMONG
    )
    assert given.selection_ == labelled.selection_


def test_an_index_is_a_decoder_that_answers_with_its_nearest_item():
    x, y, labels = views()
    index = LatentIndex(y, [str(label) for label in labels], None)
    by_index, by_call = (
        select_translator(x, y, objective="classification", decoder=decoder, among=AMONG)
        for decoder in (index, lambda latents: [found["item"] for found in index(latents)])
    )
    assert by_index.selection_ == by_call.selection_
    with pytest.raises(DecoderError, match=r"a decoder that answers .* got {'score'"):
        select_translator(
            x,
            y,
            objective="classification",
            decoder=lambda latents: [{"score": 1.0}] * len(latents),
            among=AMONG,
        )


def test_the_same_data_give_the_same_choice():
    x, y, _ = views()
    first, second = (
        select_translator(x, y, objective="counterpart", among=AMONG, max_held_out=100, seed=3)
        for _ in range(2)
    )
    assert first.selection_ == second.selection_
    assert first.selection_.n_held_out == 100
    other = select_translator(x, y, objective="counterpart", among=AMONG, max_held_out=100, seed=4)
    assert other.selection_.trials != first.selection_.trials


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_float32_and_tensors_choose_as_float64_and_arrays():
    x, y, _ = views()
    wide, narrow = (
        select_translator(a, b, objective="counterpart", among=AMONG).selection_
        for a, b in ((x, y), (torch.tensor(x).float(), torch.tensor(y).float()))
    )
    assert wide.chosen == narrow.chosen
    scores = ([trial.score for trial in found.trials] for found in (wide, narrow))
    np.testing.assert_allclose(*scores, atol=0.01)


@pytest.mark.parametrize("kind", [AffineTranslator, SpectralTranslator, KernelTranslator])
def test_on_some_of_the_pairs_a_penalty_has_the_same_weight_in_the_sum(kind):
    translator = kind(alpha=0.2)
    part = translator.on_part(0.8)
    assert (part.alpha, translator.alpha) == (0.25, 0.2)
    assert {**part.get_params(), "alpha": 0.2} == translator.get_params()
    assert OrthoTranslator().on_part(0.8).get_params() == OrthoTranslator().get_params()


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
@pytest.mark.parametrize("scaling", ["standard", "pareto", "center"])
def test_the_spectral_penalty_that_is_chosen_is_that_of_ridge(scaling):
    x, y = latents()
    ridge = AffineTranslator(alpha="auto", scaling=scaling).fit(x * 3, y)
    plain = SpectralTranslator(alpha="auto", gamma=1.0, scale=False, scaling=scaling).fit(x * 3, y)
    np.testing.assert_allclose(plain.transform(x), ridge.transform(x), atol=1e-5)
    scores = ([trial.score for trial in one.selection_.trials] for one in (plain, ridge))
    np.testing.assert_allclose(*scores)
    assert plain.params_["alpha"] in ALPHAS


def test_a_type_that_offers_parameters_is_among_the_candidates_after_simpler_ones(monkeypatch):
    monkeypatch.setattr("hf_latent_bridge.translators.base.TRANSLATORS", dict(TRANSLATORS))

    class Mine(Translator, translator_type="mine"):
        grid: ClassVar = {"scaling": ("center", "none")}

        def _solve(self, moments):
            return AffineTranslator(alpha=0.5, scaling=self.scaling)._solve(moments)

    offered = candidates()
    kinds = list(dict.fromkeys(one.translator_type for one in offered))
    assert (kinds[:2], kinds[-1]) == (["spectral", "ortho"], "mine")
    assert len({repr(one) for one in offered}) == len(offered)
    assert [one.scaling for one in offered if isinstance(one, Mine)] == ["center", "none"]
    for objective, tried in (("ranking", ALPHAS[::4]), ("reconstruction", ALPHAS)):
        ridge = [one for one in candidates(objective) if isinstance(one, AffineTranslator)]
        assert [one.alpha for one in ridge if one.rank is None] == [*tried, "auto", "auto"]


REFUSED = {
    "an unknown objective": ({"objective": "beauty"}, "objective must be one of"),
    "no labels": ({"objective": "classification"}, "needs labels, a decoder, or both"),
    "labels that are not used": ({"labels": ["a"] * 240}, "are for objective='classification'"),
    "labels in no order": (
        {"objective": "classification", "labels": dict.fromkeys(range(240), "a")},
        r"labels must be a list or array, one for each pair, got dict \{0: 'a'",
    ),
    "labels to be read once": (
        {"objective": "classification", "labels": iter("ab" * 120)},
        "labels must be a list or array, one for each pair, got str_",
    ),
    "too few labels": (
        {"objective": "classification", "labels": ["a", "b"]},
        "240 pairs need as many labels, got 2",
    ),
    "one candidate": ({"among": [OrthoTranslator()]}, "at least 2 candidates"),
    "a candidate that is not fitted": (
        {"among": [OrthoTranslator(), SharedViewTranslator()]},
        "must be fitted on pairs",
    ),
    "a shared space for neighbours": (
        {"among": [OrthoTranslator(), SharedTranslator()], "objective": "ranking"},
        "are for objective='counterpart'",
    ),
    "candidates that need other moments": (
        {"among": [OrthoTranslator(), OrthoTranslator(unit_norm="both")]},
        "the same unit_norm",
    ),
    "too few held-out pairs": (
        {"objective": "counterpart", "max_held_out": 10},
        "max_held_out must be an integer of at least 100, got 10",
    ),
    "half a held-out pair": ({"max_held_out": 1e3}, "max_held_out must be an integer"),
    "no seed": ({"seed": None}, "seed must be an integer of at least 0, got None"),
    "an unknown rule": ({"rule": "luck"}, "rule must be one of .*, or None, got 'luck'"),
    "a word for a switch": ({"shared": "no"}, "shared must be True or False, got 'no'"),
    "names of candidates": (
        {"among": ["ortho", "linear"]},
        r"such as OrthoTranslator\(\), got 'or",
    ),
    "classes of candidates": (
        {"among": [OrthoTranslator, LinearTranslator]},
        r"such as OrthoTranslator\(\), got <class",
    ),
    "one-hot labels": (
        {"objective": "classification", "labels": np.eye(240)},
        r"one label, a text or a whole number, got array\(\[",
    ),
    "a different label for each pair": (
        {"objective": "classification", "labels": [f"item {n}" for n in range(240)]},
        "labels that several pairs have, got a different one for each of 240 pairs",
    ),
    "a decoder with one answer": (
        {"objective": "classification", "decoder": lambda latents: ["red"] * len(latents)},
        "tells latents apart, got the answer 'red' for each of 240",
    ),
    "a decoder that measures": (
        {"objective": "classification", "decoder": lambda latents: latents[:, 0] + 0.5},
        "a decoder that answers with one label",
    ),
    "a decoder that gives vectors": (
        {"objective": "classification", "decoder": lambda latents: latents},
        "a decoder that answers with one label",
    ),
    "labels that a decoder does not give": (
        {
            "objective": "classification",
            "decoder": lambda latents: [("red", "blue")[x > 0] for x in latents[:, 0]],
            "labels": ["green", "yellow"] * 120,
        },
        "got labels such as 'green' and answers such as '(red|blue)'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused(what):
    x, y, _ = views()
    options, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        select_translator(x, y, **options)


def test_too_few_pairs_in_a_fold_are_refused():
    x, y, _ = views(12)
    with pytest.raises(
        InvalidLatentsError, match="at least 3 held-out pairs in each of 5 folds, got 2"
    ):
        select_translator(x, y, objective="ranking", among=AMONG)
    with pytest.raises(
        InvalidLatentsError, match="at least 2 pairs in each, got 9 in all: add pairs"
    ):
        select_translator(x[:9], y[:9], objective="reconstruction", among=AMONG)
    with pytest.raises(InvalidLatentsError, match="at least 2 of them in each of 5 folds, got 9"):
        AffineTranslator(alpha="auto").fit(x[:9], y[:9])


@pytest.mark.parametrize("side", ["source", "target"])
def test_copies_of_pairs_are_warned_of(side):
    x, y, _ = views()
    if side == "source":
        x[1::20] = x[::20]  # the next row is in another fold
    else:
        y[1::20] = y[::20]
    with pytest.warns(SelectionWarning, match=f"24 of 240 held-out pairs have a {side} latent"):
        select_translator(x, y, among=AMONG)


def test_a_few_copies_are_not_worth_a_warning():
    x, y, _ = views()
    x[1] = x[0]
    select_translator(x, y, among=AMONG)


def test_labels_of_one_kind_in_four_folds_are_refused():
    x, y, _ = views()
    labels = ["red"] * 239 + ["blue"]
    with pytest.raises(DecoderError, match="two kinds of labels in any 4 of 5 folds, got only"):
        select_translator(x, y, objective="classification", among=AMONG, labels=labels)


@pytest.mark.parametrize("objective", ["counterpart", "ranking"])
def test_sides_of_two_dtypes_choose_as_sides_of_one(objective):
    x, y, _ = views()
    wanted = select_translator(x, y, objective=objective, among=AMONG)
    found = select_translator(x, y.astype(np.float32), objective=objective, among=AMONG)
    assert found.params_ == wanted.params_
    fitted = fit_translator(choice(objective), None, None, (x.astype(np.float32), y))
    assert fitted.params_ == wanted.params_


def test_parameters_of_any_number_type_are_recorded_as_json(tmp_path):
    x, y, _ = views()
    among = [
        SpectralTranslator(alpha=float("inf"), gamma=np.float32(0.5)),
        AffineTranslator(alpha=np.float64(0.1), rank=np.int64(3)),
    ]
    chosen = select_translator(x, y, objective="counterpart", among=among)
    chosen.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert [trial.params for trial in loaded.selection_.trials] == [
        {"alpha": "inf", "gamma": 0.5},
        {"alpha": 0.1, "rank": 3},
    ]


@pytest.mark.parametrize(("scores", "edge"), [((3, 1, 0, 2), None), ((0, 1, 2, 3), "alpha=0.1")])
def test_a_penalty_without_end_is_no_edge(scores, edge):
    among = [("spectral", {"alpha": alpha}) for alpha in ("inf", 10.0, 3.0, 0.1)]
    rows = torch.tensor(scores, dtype=torch.float64)[:, None].expand(-1, 5)
    selection = select("reconstruction", among, rows, torch.zeros(4, 5), 100)
    assert selection.edge == edge
    assert "inf" in selection.plot()


def choice(objective="counterpart", **options):
    return TranslatorChoice(objective, among=AMONG, **options)


@pytest.mark.parametrize("objective", BRUTE_FORCE)
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_a_fit_chooses_as_select_translator_does_on_the_same_latents(objective):
    x, y, labels = views()
    labels = labels if objective == "classification" else None
    options = {"max_held_out": 150, "seed": 5, "labels": labels}
    at_once = select_translator(x, y, objective=objective, among=AMONG, **options)
    streamed = fit_translator(choice(objective, **options), None, None, (x, y), chunk_size=32)
    assert streamed.selection_.chosen == at_once.selection_.chosen
    scores = ([t.score for t in fitted.selection_.trials] for fitted in (streamed, at_once))
    np.testing.assert_allclose(*scores, atol=1e-6)
    np.testing.assert_allclose(streamed.transform(x), at_once.transform(x), atol=1e-4)
    assert streamed.fit_summary_.n_pairs == streamed.n_pairs_ == len(x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_auto_is_the_choice_by_ranking_among_all():
    x, y, _ = views()
    fitted = fit_translator("auto", None, None, (x, y))
    assert fitted.selection_.objective == "ranking"
    first, *others = fitted.selection_.trials  # the first has come to the same as one of the others
    assert first.params["gamma"] == 1.0
    assert len(others) == len(candidates()) - 2
    assert {t.translator_type for t in others} == {c.translator_type for c in candidates()}
    with pytest.raises(ValueError, match="got 'best'"):
        fit_translator("best", None, None, (x, y))


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.SelectionWarning")
def test_labels_follow_the_pairs_of_a_sample_past_bad_rows():
    x, y, labels = views(300)
    x[[3, 40]] = np.nan
    pairs = Pairs(x, y).sample(250, seed=1)
    own = pd.Series([labels[row] for row in pairs.rows], index=pairs.rows)
    by_hand = np.array([row for row in pairs.rows if row not in (3, 40)])
    fitted = fit_translator(
        choice("classification", labels=own), None, None, pairs, on_bad_row="skip"
    )
    expected = select_translator(
        x[by_hand],
        y[by_hand],
        objective="classification",
        among=AMONG,
        labels=[labels[row] for row in by_hand],
    )
    scores = ([t.score for t in found.selection_.trials] for found in (fitted, expected))
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_labels_need_pairs_that_can_be_counted():
    x, y, labels = views()
    with pytest.raises(InvalidPairsError, match="as many labels, got 3"):
        fit_translator(choice("classification", labels=labels[:3]), None, None, (x, y))


def test_an_interrupted_choice_goes_on_with_its_held_out_pairs(tmp_path):
    x, y, _ = views()
    calls = []

    def encode(rows, *, fail_at):
        calls.append(rows)
        if len(calls) == fail_at:
            raise RuntimeError("out of memory")
        return x[rows]

    def fit(fail_at=None):
        calls.clear()
        return fit_translator(
            choice(max_held_out=100),
            partial(encode, fail_at=fail_at),
            None,
            (range(240), y),
            chunk_size=16,
            checkpoint_dir=tmp_path,
            checkpoint_every=16,
        )

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(fail_at=8)
    resumed = fit()
    assert resumed.fit_summary_.n_resumed > 0
    assert (
        resumed.selection_
        == fit_translator(
            choice(max_held_out=100), lambda rows: x[rows], None, (range(240), y), chunk_size=16
        ).selection_
    )


def test_a_checkpoint_of_another_choice_is_refused(tmp_path):
    x, y, _ = views()
    options = {"chunk_size": 16, "checkpoint_dir": tmp_path, "checkpoint_every": 16}
    fit_translator(choice(), None, None, (x, y), **options)
    with pytest.raises(CheckpointError, match="translator was"):
        fit_translator(choice(seed=1), None, None, (x, y), **options)


def test_candidates_that_come_to_the_same_are_scored_once():
    x, y = latents()
    same = [
        SpectralTranslator(alpha="auto", gamma=gamma, scaling="pareto") for gamma in ("auto", 1.0)
    ]
    trials = select_translator(x, y, among=[*same, OrthoTranslator(), same[1]]).selection_.trials
    assert [(t.translator_type, t.params.get("gamma")) for t in trials] == [
        ("spectral", 1.0),
        ("ortho", None),
    ]


@pytest.mark.slow
def test_the_card_shows_the_curve_and_the_best_of_each_type(tmp_path):
    x, y = latents(noise=9.0)
    winner = select_translator(x, y)
    winner.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "## Selection" in card
    assert "Chosen by cross-validation among" in card
    assert f"by more than luck explains: {winner.selection_.choice}." in card.replace("\n", " ")
    assert winner.selection_.plot() in card
    by = "`alpha`" if len(winner.selection_.curve()) > 1 else "type"
    assert f"Held-out score by {by}:" in card
    for trial in winner.selection_.leaders():
        assert f"| `{trial.translator_type}` |" in card
        assert f"{trial.score:.3f} ± {trial.error:.3f}" in card


def test_the_curve_runs_from_the_strongest_penalty_also_where_the_choice_was_tried_first():
    among = [("spectral", {"alpha": alpha}) for alpha in (2.0, "inf", 0.1, 30.0)]
    rows = torch.tensor([3.0, 0.0, 1.0, 2.0])[:, None].expand(-1, 5)
    selection = select("reconstruction", among, rows, torch.zeros(4, 5), 100)
    assert [trial.params["alpha"] for trial in selection.curve()] == ["inf", 30.0, 2.0, 0.1]
    for params in ({}, {"alpha": "weak"}):
        given = [*among[:2], ("spectral", params), among[3]]
        selection = select("reconstruction", given, rows, torch.zeros(4, 5), 100)
        assert [trial.params for trial in selection.curve()] == [params for _, params in given]
        assert selection.edge == "alpha=2"  # of those that are stated
        assert "chosen" in selection.plot()


def test_the_plot_has_a_bar_for_each_penalty_and_marks_the_choice():
    x, y = latents()
    selection = AffineTranslator(alpha="auto").fit(x, y).selection_
    lines = selection.plot(rows=15, width=30).splitlines()
    assert len(selection.curve()) == 60
    assert 15 <= len(lines) <= 22
    (chosen,) = [line for line in lines if line.endswith("chosen")]
    assert f"{selection.choice.score:.3f} ± {selection.choice.error:.3f}" in chosen
    assert chosen.count("█") == max(line.count("█") for line in lines) == 30


def test_without_a_curve_the_plot_has_a_bar_for_each_type_and_marks_the_choice():
    x, y, _ = views()
    selection = select_translator(x, y, objective="counterpart", among=AMONG).selection_
    selection = dataclasses.replace(selection, chosen=0)
    bars = [line.split() for line in selection.plot().splitlines()]
    types = dict.fromkeys(one.translator_type for one in AMONG)
    assert {bar[0] for bar in bars} == set(types)
    assert [bar[0] for bar in bars if bar[-1] == "chosen"] == ["ortho"]


def test_a_card_without_a_selection_says_nothing_of_one(tmp_path):
    x, y = latents()
    OrthoTranslator().fit(x, y).save_pretrained(tmp_path)
    assert "Selection" not in (tmp_path / "README.md").read_text()


def test_a_penalty_that_ridge_has_chosen_is_recorded_as_that_of_ridge():
    x, y = latents()
    spectral = SpectralTranslator(alpha="auto", gamma=0.5).fit(x, y)
    assert str(spectral.selection_).startswith("ridge(alpha=")
    ridge = AffineTranslator(alpha="auto").fit(x, y).selection_.choice
    assert spectral.selection_.choice.score == pytest.approx(ridge.score)
    assert spectral.params_["alpha"] == spectral.selection_.choice.params["alpha"]
