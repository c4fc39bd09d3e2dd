"""Hubness: the folded form ranks as the explicit score, whatever the store ranks by."""

import numpy as np
import pytest
import torch

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.hubness import (
    csls_scores,
    fold_items,
    fold_queries,
    neighbor_similarity,
    rescore,
)

METRICS = ["dot", "cosine", "euclidean"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def latents():
    draw = np.random.default_rng(0)
    return draw.normal(size=(40, 8)), draw.normal(size=(300, 8)), draw.normal(size=(60, 8))


def explicit_similarity(items, bank, k):
    """CSLS's r by its definition: all cosines, sorted."""
    cosines = unit(items) @ unit(bank).T
    return np.sort(cosines, axis=1)[:, -k:].mean(1)


def store_scores(queries, items, metric):
    """What a store that knows nothing of hubs ranks by; higher is better."""
    if metric == "dot":
        return queries @ items.T
    if metric == "cosine":
        return unit(queries) @ unit(items).T
    return -np.linalg.norm(queries[:, None] - items[None], axis=2)


def test_similarity_is_the_mean_cosine_of_the_nearest_in_the_bank(latents):
    _, items, bank = latents
    found = neighbor_similarity(items, bank, n_neighbors=7)
    np.testing.assert_allclose(found, explicit_similarity(items, bank, 7))


@pytest.mark.parametrize("metric", METRICS)
def test_a_store_of_folded_items_ranks_by_the_corrected_score(latents, metric):
    queries, items, bank = latents
    explicit = csls_scores(unit(queries) @ unit(items).T, explicit_similarity(items, bank, 10))
    folded = store_scores(
        fold_queries(queries, metric=metric), fold_items(items, bank, metric=metric), metric
    )
    np.testing.assert_array_equal(np.argsort(-folded, axis=1), np.argsort(-explicit, axis=1))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_folded_items_all_have_one_norm(latents, metric):
    _, items, bank = latents
    norms = np.linalg.norm(fold_items(items, bank, metric=metric), axis=1)
    np.testing.assert_allclose(norms, np.sqrt(2))


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_of_zeros_has_the_score_0_in_every_store(latents, metric):
    queries, items, bank = latents
    items = np.concatenate([items, np.zeros((1, 8))])
    stored, asked = fold_items(items, bank, metric=metric), fold_queries(queries, metric=metric)
    ahead = (store_scores(asked, stored, metric) > store_scores(asked, stored[-1:], metric)).sum(1)
    cosines = unit(queries) @ unit(items[:-1]).T
    scores = csls_scores(cosines, explicit_similarity(items[:-1], bank, 10))
    np.testing.assert_array_equal(ahead, (scores > 0).sum(1))


def test_an_item_is_folded_alike_alone_and_among_others(latents):
    _, items, bank = latents
    together = fold_items(items, bank, metric="cosine")
    np.testing.assert_allclose(fold_items(items[5:6], bank, metric="cosine"), together[5:6])


def test_the_correction_finds_counterparts_that_hubs_had_hidden():
    draw = np.random.default_rng(3)
    items = draw.normal(size=(400, 30)) + 0.8 * draw.normal(size=30)
    scale = draw.lognormal(sigma=0.7, size=30)
    queries, bank = (
        items[part] * scale + 1.2 * draw.normal(size=(200, 30))
        for part in (slice(0, 200), slice(200, 400))
    )
    wanted = np.arange(200)

    def found(scores):
        return (scores.argmax(1) == wanted).mean()

    plain = found(unit(queries) @ unit(items).T)
    corrected = found(fold_queries(queries) @ fold_items(items, bank).T)
    assert corrected > plain + 0.03


def test_tensors_give_tensors_of_their_dtype(latents):
    queries, items, bank = (torch.from_numpy(x).float() for x in latents)
    assert fold_items(items, bank).dtype == torch.float32
    assert isinstance(fold_queries(queries), torch.Tensor)
    np.testing.assert_allclose(
        neighbor_similarity(items, bank).cpu().numpy(), neighbor_similarity(*latents[1:]), atol=1e-6
    )


def test_a_zero_item_is_no_hub(latents):
    _, items, bank = latents
    items[3] = 0
    folded = fold_items(items, bank, metric="cosine")
    assert np.isfinite(folded).all()
    assert folded[3, -2] == 0


@pytest.mark.parametrize(
    ("items", "bank", "message"),
    [
        (np.ones((4, 3)), np.ones((20, 2)), "one width, got 3 and 2"),
        (np.ones(3), np.ones((20, 3)), r"items must be a matrix \(n, d\), got shape \(3,\)"),
        (np.ones((4, 3)), np.ones((0, 3)), "bank needs at least one query, got none"),
        (np.full((4, 3), np.nan), np.ones((20, 3)), "NaN or infinity"),
        (np.ones((4, 3)), np.full((20, 3), np.inf), "NaN or infinity"),
    ],
)
def test_what_cannot_be_compared_is_refused(items, bank, message):
    with pytest.raises(InvalidLatentsError, match=message):
        fold_items(items, bank)


@pytest.mark.parametrize("n_neighbors", [0, 6, -1])
def test_more_neighbours_than_the_bank_has_are_refused(n_neighbors):
    with pytest.raises(ValueError, match="from 1 to 5, the size of the bank"):
        neighbor_similarity(np.ones((4, 3)), np.ones((5, 3)), n_neighbors=n_neighbors)


def test_an_unknown_metric_is_refused(latents):
    queries, items, bank = latents
    for fold in (
        lambda: fold_items(items, bank, metric="l1"),
        lambda: fold_queries(queries, metric="l1"),
    ):
        with pytest.raises(ValueError, match="metric must be 'dot', 'cosine' or 'euclidean'"):
            fold()


def overfetched(scores, k):
    rows = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


def test_rescoring_all_items_gives_the_explicit_ranking(latents):
    queries, items, bank = latents
    cosines, r = unit(queries) @ unit(items).T, explicit_similarity(items, bank, 10)
    scores, rows = rescore(*overfetched(cosines, 300), r, top_k=12)
    expected = np.sort(cosines - r / 2, axis=1)[:, ::-1][:, :12]
    np.testing.assert_allclose(scores, expected)
    np.testing.assert_array_equal(rows, np.argsort(r / 2 - cosines, axis=1)[:, :12])


def test_a_longer_list_comes_nearer_to_the_explicit_ranking(latents):
    queries, items, bank = latents
    cosines, r = unit(queries) @ unit(items).T, explicit_similarity(items, bank, 10)
    explicit = np.argsort(r / 2 - cosines, axis=1)[:, :10]
    shares = []
    for k in (10, 20, 40, 80, 300):
        _, rows = rescore(*overfetched(cosines, k), r)
        shares.append(
            np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, explicit, strict=True)])
        )
    assert shares == sorted(shares)
    assert shares[0] < 0.95
    assert shares[-1] == 1


def test_places_that_the_store_left_empty_come_last(latents):
    _, items, bank = latents
    r = torch.from_numpy(neighbor_similarity(items, bank))
    cosines, rows = torch.tensor([[0.9, 0.1, 0.2]]), torch.tensor([[4, -1, 7]])
    scores, ranked = rescore(cosines, rows, r)
    assert ranked.tolist()[0][2] == -1
    assert sorted(ranked.tolist()[0][:2]) == [4, 7]
    assert scores[0, 2] == -torch.inf


@pytest.mark.parametrize(
    ("cosines", "rows", "similarity", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 2), int), np.ones(5), InvalidLatentsError, "of one shape"),
        (
            np.ones((2, 3)),
            np.ones((2, 3)),
            np.ones(5),
            InvalidLatentsError,
            "rows must be integers, got torch.float64",
        ),
        (np.ones((2, 3)), np.full((2, 3), 5), np.ones(5), InvalidLatentsError, "below 5"),
        (np.ones((2, 3)), np.ones((2, 3), int), np.ones((5, 2)), InvalidLatentsError, "per item"),
        (np.ones((1, 1)), np.ones((1, 1), int), [0, np.nan], InvalidLatentsError, "got NaN or inf"),
    ],
)
def test_lists_that_cannot_be_rescored_are_refused(cosines, rows, similarity, error, message):
    with pytest.raises(error, match=message):
        rescore(cosines, rows, similarity)
    with pytest.raises(ValueError, match="top_k must be an integer of at least 1, got 0"):
        rescore(np.ones((1, 1)), np.zeros((1, 1), int), np.ones(1), top_k=0)


def test_a_bank_beyond_the_range_of_the_items_gives_the_same_similarity(latents):
    _, items, bank = latents
    expected = neighbor_similarity(items, bank)
    for dtype, scale, atol in ((np.float32, 1e39, 1e-6), (np.float16, 1e6, 2e-3)):
        found = neighbor_similarity(items.astype(dtype), bank * scale)
        np.testing.assert_allclose(found, expected, atol=atol)


def test_scores_and_rows_may_be_lists_or_unsigned():
    assert csls_scores([0.5, 0.25], [0.5, 0.0]).tolist() == [0.25, 0.25]
    scores, rows = rescore([[0.5, 0.25]], np.array([[0, 1]], np.uint64), [0.8, 0.0])
    assert rows.tolist() == [[1, 0]]
    np.testing.assert_allclose(scores, [[0.25, 0.1]])


def test_scores_need_an_r_for_each_cosine():
    with pytest.raises(
        InvalidLatentsError, match=r"similarity .* broadcasts .*\(2,\) for \(2, 3\)"
    ):
        csls_scores(np.ones((2, 3)), np.ones(2))
    assert csls_scores(np.ones((2, 3)), np.ones((2, 1))).shape == (2, 3)


def test_a_cosine_that_is_not_a_number_ranks_nothing():
    cosines, r = np.array([[0.5, np.nan]]), np.zeros(2)
    with pytest.raises(InvalidLatentsError, match="cosines must be numbers"):
        rescore(cosines, np.array([[0, 1]]), r)
    _, rows = rescore(cosines, np.array([[0, -1]]), r)
    assert rows.tolist() == [[0, -1]]
