"""Intervals that cover the truth, p-values that are uniform where there is nothing to find."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity

from hf_latent_bridge import metrics
from hf_latent_bridge.metrics import (
    bootstrap_intervals,
    counterpart_ranks,
    p_value,
    permutation_scores,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy_pairs(n, *, noise=1.0, width=6, seed=0):
    """Targets with an offset, and predictions that miss them by some noise."""
    target = normal(n, width, seed=seed) + 0.5
    return target + noise * normal(n, width, seed=seed + 10_000), target


def intervals_of(predicted, target, **options):
    options = {"n_bootstrap": 300, "seed": 0} | options
    return bootstrap_intervals(predicted, target, counterpart_ranks(predicted, target), **options)


class TestIntervals:
    def test_they_are_those_of_scipy(self):
        predicted, target = noisy_pairs(400)
        cosines = torch.nn.functional.cosine_similarity(predicted, target).numpy()
        expected = scipy.stats.bootstrap(
            (cosines,), np.mean, n_resamples=5000, method="percentile", rng=0
        ).confidence_interval
        assert intervals_of(predicted, target, n_bootstrap=5000)["cosine"] == pytest.approx(
            tuple(expected), abs=0.004
        )

    def test_that_of_r2_is_that_of_scikit_learns_r2_over_redrawn_pairs(self):
        predicted, target = noisy_pairs(400)
        rng = np.random.default_rng(0)
        redrawn = []
        for _ in range(2000):
            rows = rng.integers(400, size=400)
            y, p = target.numpy()[rows], predicted.numpy()[rows]
            redrawn.append(r2_score(y, p, multioutput="variance_weighted"))
        expected = np.quantile(redrawn, [0.025, 0.975])
        assert intervals_of(predicted, target, n_bootstrap=2000)["r2"] == pytest.approx(
            tuple(expected), abs=0.01
        )

    @pytest.mark.parametrize("name", ["cosine", "r2", "recall@1"])
    def test_nineteen_of_twenty_cover_the_truth(self, name):
        """Recall is drawn as it is counted, among the candidates of the sample."""
        runs, n = 300, 100
        ends = []
        for seed in range(runs):
            predicted, target = noisy_pairs(n, seed=seed)
            hits = normal(n, seed=seed) > 0.5
            ranks = torch.where(hits, 1.0, 2.0)
            ends.append(
                bootstrap_intervals(predicted, target, ranks, n_bootstrap=300, seed=seed)[name]
            )
        lower, upper = np.array(ends).T
        many = noisy_pairs(200_000, seed=runs)
        truth = {
            "cosine": metrics.mean_cosine(*many),
            "r2": metrics.r2_score(*many),
            "recall@1": scipy.stats.norm.sf(0.5),
        }[name]
        covered = ((lower <= truth) & (truth <= upper)).mean()
        assert 0.90 <= covered <= 0.98

    def test_they_narrow_with_the_root_of_the_number_of_pairs(self):
        widths = []
        for n in (250, 4000):
            lower, upper = intervals_of(*noisy_pairs(n))["cosine"]
            widths.append(upper - lower)
        assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)

    def test_a_score_that_never_varies_has_no_width(self):
        _, target = noisy_pairs(50)
        lower_upper = intervals_of(target, target)
        assert lower_upper["recall@1"] == lower_upper["mrr"] == (1, 1)
        assert lower_upper["r2"] == (1, 1)

    def test_r2_of_targets_that_do_not_vary_is_undefined(self):
        assert np.isnan(intervals_of(normal(5, 3), torch.ones(5, 3))["r2"]).all()

    def test_blocks_change_no_number_but_the_draw(self, monkeypatch):
        pairs = noisy_pairs(200)
        whole = intervals_of(*pairs, n_bootstrap=3000)
        monkeypatch.setattr(metrics, "_RESAMPLED_VALUES_PER_BLOCK", 1000)
        in_blocks = intervals_of(*pairs, n_bootstrap=3000)
        for name, ends in whole.items():
            assert in_blocks[name] == pytest.approx(ends, abs=0.02)


class TestShuffles:
    def test_scores_are_those_of_the_shuffled_pairs(self, monkeypatch):
        """Each pairing is scored again by scikit-learn, ties as `counterpart_ranks` takes them."""
        monkeypatch.setattr(metrics, "_VALUES_PER_BLOCK", 200)
        predicted, target = noisy_pairs(40)
        target[3] = target[4]
        scores = permutation_scores(predicted, target, n_permutations=5, seed=2)
        pairings = metrics._pairings(40, 5, seed=2)
        for draw, pairing in enumerate(pairings.long()):
            y = target[pairing]
            ranks = counterpart_ranks(predicted, y)
            expected = {
                "cosine": cosine_similarity(predicted, y).diagonal().mean(),
                "r2": r2_score(y, predicted, multioutput="variance_weighted"),
                "recall@1": metrics.recall_at_k(ranks, 1),
                "recall@10": metrics.recall_at_k(ranks, 10),
                "mrr": metrics.mean_reciprocal_rank(ranks),
            }
            got = {name: float(values[draw]) for name, values in scores.items()}
            assert got == pytest.approx(expected, abs=1e-5)

    def test_the_first_pairing_is_the_true_one(self):
        assert metrics._pairings(9, 3, seed=0)[0].tolist() == list(range(9))

    def test_retrieval_by_chance_is_what_counting_says(self):
        predicted, target = noisy_pairs(200)
        scores = permutation_scores(predicted, target, n_permutations=400, seed=0)
        assert scores["recall@1"][1:].mean() == pytest.approx(1 / 200, abs=0.001)
        assert scores["recall@10"][1:].mean() == pytest.approx(10 / 200, abs=0.002)
        harmonic = np.mean(1 / np.arange(1, 201))
        assert scores["mrr"][1:].mean() == pytest.approx(harmonic, abs=0.002)

    def test_p_values_are_uniform_where_predictions_have_nothing_to_do_with_targets(self):
        values = []
        for seed in range(200):
            predicted, target = normal(30, 4, seed=seed), normal(30, 4, seed=seed + 10_000)
            scores = permutation_scores(predicted, target, n_permutations=99, seed=seed)
            values.append([p_value(scores[name]) for name in ("cosine", "r2", "mrr")])
        for column in np.array(values).T:
            assert scipy.stats.kstest(column, "uniform").pvalue > 0.01

    def test_a_tied_score_counts_against_the_true_pairing(self):
        assert p_value(torch.tensor([2.0, 1.0, 2.0, 3.0]).double()) == 3 / 4

    def test_the_smallest_p_value_is_one_in_all_pairings(self):
        _, target = noisy_pairs(50)
        scores = permutation_scores(target, target, n_permutations=99, seed=0)
        assert p_value(scores["mrr"]) == 1 / 100

    def test_one_pair_can_only_be_shuffled_to_itself(self):
        scores = permutation_scores(normal(1, 3), normal(1, 3, seed=1), n_permutations=9, seed=0)
        assert p_value(scores["cosine"]) == 1
        assert scores["r2"].isnan().all()
