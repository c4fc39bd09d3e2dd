"""Metrics against scikit-learn, scipy and cases worked by hand; intervals cover the truth."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity

from hf_latent_bridge import PairedMoments, metrics
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.metrics import (
    bootstrap_intervals,
    counterpart_ranks,
    p_value,
    permutation_scores,
)

RNG = np.random.default_rng(0)
TARGET = torch.from_numpy(RNG.normal(size=(50, 6)))
PREDICTED = TARGET + torch.from_numpy(RNG.normal(size=(50, 6)))


def test_r2_is_scikit_learns_variance_weighted_r2():
    expected = r2_score(TARGET, PREDICTED, multioutput="variance_weighted")
    assert metrics.r2_score(PREDICTED, TARGET) == pytest.approx(expected)


def test_a_dead_column_does_not_rule_r2():
    flat = torch.full((50, 1), 0.3).double()
    with_dead = metrics.r2_score(
        torch.hstack([PREDICTED, flat + 1e-6]), torch.hstack([TARGET, flat])
    )
    assert with_dead == pytest.approx(metrics.r2_score(PREDICTED, TARGET), abs=1e-6)


def test_r2_of_targets_that_do_not_vary_is_undefined():
    assert np.isnan(metrics.r2_score(PREDICTED[:1], TARGET[:1]))
    for dtype in (torch.float32, torch.float64):  # in both the mean of 50 equal values is not exact
        equal, predicted = torch.full((50, 6), 0.1, dtype=dtype), PREDICTED.to(dtype)
        assert np.isnan(metrics.r2_score(predicted, equal))
        scores = permutation_scores(predicted, equal, n_permutations=20, seed=0)["r2"]
        assert scores.isnan().all()
        assert np.isnan(p_value(scores))
        ranks = counterpart_ranks(predicted, equal)
        ends = bootstrap_intervals(predicted, equal, ranks, n_bootstrap=20, seed=0)["r2"]
        assert np.isnan(ends).all()


def test_mean_cosine_is_the_mean_diagonal_of_the_similarity_matrix():
    expected = cosine_similarity(PREDICTED, TARGET).diagonal().mean()
    assert metrics.mean_cosine(PREDICTED, TARGET) == pytest.approx(expected)


def test_ranks_are_those_of_a_sorted_similarity_matrix():
    similarity = cosine_similarity(PREDICTED, TARGET)
    expected = [(row > row[i]).sum() + 1 for i, row in enumerate(similarity)]
    ranks = metrics.counterpart_ranks(PREDICTED, TARGET, values_per_block=7 * 50)
    assert ranks.tolist() == expected


def test_equal_targets_share_their_mean_rank():
    target = torch.eye(4)[[0, 0, 0, 1]]
    assert metrics.counterpart_ranks(target, target).tolist() == [2.0, 2.0, 2.0, 1.0]


def test_targets_that_differ_by_rounding_share_their_mean_rank():
    """One direction in many lengths: their float32 cosines differ in the last bits."""
    directions = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    target = (directions[:, None] * torch.arange(1, 5)[:, None]).reshape(200, 64)
    similarity = torch.nn.functional.normalize(target, dim=1)
    copies = (similarity @ similarity.mT).view(200, 50, 4)[
        torch.arange(200), torch.arange(200) // 4
    ]
    assert (copies.max(1).values > copies.min(1).values).any()
    assert metrics.counterpart_ranks(target, target).tolist() == [2.5] * 200


def test_a_constant_prediction_is_ranked_as_chance():
    ranks = metrics.counterpart_ranks(torch.zeros(9, 6).double(), TARGET[:9])
    assert ranks.tolist() == [5.0] * 9


def test_recall_and_reciprocal_rank_of_a_case_worked_by_hand():
    ranks = torch.tensor([1.0, 2.0, 11.0, 4.0])
    assert metrics.recall_at_k(ranks, 1) == 0.25
    assert metrics.recall_at_k(ranks, 10) == 0.75
    assert metrics.mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 2 + 1 / 11 + 1 / 4) / 4)


# Linear CKA ---------------------------------------------------------------------------------


def moments(x, y):
    return PairedMoments.from_batch(x, y, full_syy=True)


def gram_cka(x, y):
    """Centred Gram matrices of all pairs, as Kornblith et al. write it."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = (centre @ (t @ t.T) @ centre for t in (x.numpy(), y.numpy()))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def gram_hsic(x, y):
    """HSIC_1, equation (5) of Song et al., on Gram matrices without their diagonals."""
    n = len(x)
    k, m = (t.numpy() @ t.numpy().T for t in (x, y))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + sums - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def turn(width):
    return torch.from_numpy(np.linalg.qr(RNG.normal(size=(width, width)))[0])


OTHER = TARGET @ torch.from_numpy(RNG.normal(size=(6, 9))) + 0.5 + PREDICTED[:, :1]


@pytest.mark.parametrize("size", [1e-11, 1e15])
def test_cka_does_not_depend_on_the_size_of_the_latents(size):
    x, y = (t.double() * size for t in (TARGET, OTHER))
    assert metrics.linear_cka(moments(x, y)) == pytest.approx(gram_cka(TARGET, OTHER))
    expected = metrics.debiased_linear_cka(TARGET.double(), OTHER.double())
    assert metrics.debiased_linear_cka(x, y) == pytest.approx(expected)


def test_cka_of_moments_whose_norms_underflow_together_is_the_same():
    m = moments(TARGET.double(), OTHER.double())
    near = replace(m, sxx=m.sxx * 1e-90, sxy=m.sxy * 1e-90, syy=m.syy * 1e-90)
    assert metrics.linear_cka(near) == pytest.approx(gram_cka(TARGET, OTHER))


def test_linear_cka_is_that_of_the_gram_matrices():
    assert metrics.linear_cka(moments(TARGET, OTHER)) == pytest.approx(gram_cka(TARGET, OTHER))


def test_debiased_cka_is_that_of_the_gram_matrices():
    expected = gram_hsic(TARGET, OTHER) / np.sqrt(
        gram_hsic(TARGET, TARGET) * gram_hsic(OTHER, OTHER)
    )
    assert metrics.debiased_linear_cka(TARGET, OTHER) == pytest.approx(expected)


@pytest.mark.parametrize(
    "cka", [lambda x, y: metrics.linear_cka(moments(x, y)), metrics.debiased_linear_cka]
)
def test_cka_does_not_change_with_turns_shifts_and_scales_but_with_other_maps(cka):
    before = cka(TARGET, OTHER)
    assert cka(3 * TARGET @ turn(6) + 7, 0.1 * OTHER @ turn(9) - 2) == pytest.approx(before)
    assert cka(TARGET, TARGET @ turn(6)) == pytest.approx(1)
    assert cka(OTHER, TARGET) == pytest.approx(before)
    stretched = TARGET * torch.tensor([9.0, 1, 1, 1, 1, 1])
    assert cka(TARGET, stretched) < 0.8


def test_unrelated_spaces_have_no_debiased_cka_but_a_biased_one():
    x, y = (torch.from_numpy(RNG.normal(size=(40, 60))) for _ in "xy")
    assert metrics.linear_cka(moments(x, y)) > 0.5
    values = []
    for _ in range(20):
        x, y = (torch.from_numpy(RNG.normal(size=(40, 60))) for _ in "xy")
        values.append(metrics.debiased_linear_cka(x, y))
    assert np.mean(values) == pytest.approx(0, abs=0.03)


def test_cka_of_a_side_that_does_not_vary_or_of_few_pairs_is_undefined():
    flat = torch.ones(50, 3).double()
    assert np.isnan(metrics.linear_cka(moments(TARGET, flat)))
    assert np.isnan(metrics.debiased_linear_cka(TARGET, flat))
    assert np.isnan(metrics.debiased_linear_cka(TARGET[:3], OTHER[:3]))


def test_cka_from_moments_without_all_of_syy_says_how_to_keep_it():
    with pytest.raises(InvalidLatentsError, match="full_syy=True"):
        metrics.linear_cka(PairedMoments.from_batch(TARGET, OTHER))


# Intervals and shuffles ----------------------------------------------------------------------


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy_pairs(n, *, noise=1.0, width=6, seed=0):
    """Targets with an offset, and predictions that miss them by some noise."""
    target = normal(n, width, seed=seed) + 0.5
    return target + noise * normal(n, width, seed=seed + 10_000), target


def intervals_of(predicted, target, **options):
    options = {"n_bootstrap": 300, "seed": 0} | options
    return bootstrap_intervals(predicted, target, counterpart_ranks(predicted, target), **options)


@pytest.mark.slow
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

    def test_blocks_change_no_number_but_the_draw(self):
        pairs = noisy_pairs(200)
        whole = intervals_of(*pairs, n_bootstrap=3000)
        in_blocks = intervals_of(*pairs, n_bootstrap=3000, values_per_block=1000)
        for name, ends in whole.items():
            assert in_blocks[name] == pytest.approx(ends, abs=0.02)


class TestShuffles:
    def test_scores_are_those_of_the_shuffled_pairs(self):
        """Each pairing is scored again by scikit-learn, ties as `counterpart_ranks` takes them."""
        predicted, target = noisy_pairs(40)
        target[3] = target[4]
        scores = permutation_scores(
            predicted, target, n_permutations=5, seed=2, values_per_block=200
        )
        pairings = metrics.random_pairings(40, 5, seed=2)
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
        assert metrics.random_pairings(9, 3, seed=0)[0].tolist() == list(range(9))

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
