"""Metrics against scikit-learn, scipy and cases worked by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score as sklearn_r2
from sklearn.metrics.pairwise import cosine_similarity

from hf_latent_bridge import PairedMoments, metrics
from hf_latent_bridge.errors import InvalidLatentsError

RNG = np.random.default_rng(0)
TARGET = torch.from_numpy(RNG.normal(size=(50, 6)))
PREDICTED = TARGET + torch.from_numpy(RNG.normal(size=(50, 6)))


def test_r2_is_scikit_learns_variance_weighted_r2():
    expected = sklearn_r2(TARGET, PREDICTED, multioutput="variance_weighted")
    assert metrics.r2_score(PREDICTED, TARGET) == pytest.approx(expected)


def test_a_dead_column_does_not_rule_r2():
    flat = torch.full((50, 1), 0.3).double()
    with_dead = metrics.r2_score(
        torch.hstack([PREDICTED, flat + 1e-6]), torch.hstack([TARGET, flat])
    )
    assert with_dead == pytest.approx(metrics.r2_score(PREDICTED, TARGET), abs=1e-6)


def test_r2_of_targets_that_do_not_vary_is_undefined():
    assert np.isnan(metrics.r2_score(PREDICTED[:1], TARGET[:1]))


def test_mean_cosine_is_the_mean_diagonal_of_the_similarity_matrix():
    expected = cosine_similarity(PREDICTED, TARGET).diagonal().mean()
    assert metrics.mean_cosine(PREDICTED, TARGET) == pytest.approx(expected)


def test_ranks_are_those_of_a_sorted_similarity_matrix(monkeypatch):
    monkeypatch.setattr(metrics, "_VALUES_PER_BLOCK", 7 * 50)
    similarity = cosine_similarity(PREDICTED, TARGET)
    expected = [(row > row[i]).sum() + 1 for i, row in enumerate(similarity)]
    assert metrics.counterpart_ranks(PREDICTED, TARGET).tolist() == expected


def test_equal_targets_share_their_mean_rank():
    target = torch.eye(4)[[0, 0, 0, 1]]
    assert metrics.counterpart_ranks(target, target).tolist() == [2.0, 2.0, 2.0, 1.0]


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
