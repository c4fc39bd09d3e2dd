"""Metrics against scikit-learn, scipy and cases worked by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score as sklearn_r2
from sklearn.metrics.pairwise import cosine_similarity

from hf_latent_bridge import metrics

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
    monkeypatch.setattr(metrics, "_QUERIES_PER_BLOCK", 7)
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
