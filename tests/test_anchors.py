"""Anchors: exact by their definition, seeded, and recorded."""

import datasets
import pandas as pd
import pytest
import torch

from hf_latent_bridge import load_pairs
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.fitting.anchors import (
    METHODS,
    balanced,
    choose_anchors,
    farthest_points,
    kmeans_plus_plus,
)

POINTS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
CHOICES = [farthest_points, kmeans_plus_plus]


def test_each_farthest_point_is_the_farthest_from_all_before_it():
    chosen = farthest_points(POINTS, 10, 0).tolist()
    for k in range(1, 10):
        distances = torch.cdist(POINTS, POINTS[chosen[:k]]).min(1).values
        assert chosen[k] == int(distances.argmax())


@pytest.mark.parametrize("choose", CHOICES)
def test_no_point_is_chosen_twice_even_among_duplicates(choose):
    points = torch.cat([POINTS[:3]] * 5)
    assert len(set(choose(points, 15, 1).tolist())) == 15


@pytest.mark.parametrize("choose", CHOICES)
def test_the_seed_decides(choose):
    first, again, other = (choose(POINTS, 8, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance():
    points = torch.tensor([[0.0], [1.0], [2.0]])
    pairs = [tuple(kmeans_plus_plus(points, 2, seed).tolist()) for seed in range(3000)]
    seconds = [second for first, second in pairs if first == 0]
    assert seconds.count(2) / len(seconds) == pytest.approx(4 / 5, abs=0.04)


def test_balanced_takes_as_many_of_each_class_as_there_can_be():
    labels = ["a"] * 50 + ["b"] * 2 + ["c"] * 8
    chosen = balanced(labels, 20, 0).tolist()
    counts = {label: sum(labels[row] == label for row in chosen) for label in "abc"}
    assert len(set(chosen)) == 20
    assert counts == {"a": 10, "b": 2, "c": 8}


def test_labels_of_an_array_or_a_tensor_are_compared_by_value():
    pairs = load_pairs((POINTS.numpy(), POINTS.numpy()))
    labels = [row % 3 for row in range(60)]
    expected = choose_anchors(pairs, 9, "balanced", labels=labels).source[:]
    numbers = torch.tensor(labels)
    for others in (numbers, numbers.numpy(), list(numbers)):
        assert (choose_anchors(pairs, 9, "balanced", labels=others).source[:] == expected).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_choice_and_its_seed_are_recorded_and_rows_keep_their_order(method):
    columns = {"x": POINTS.numpy(), "y": list(range(60))}
    pairs = load_pairs(columns, source="x", target="y")
    labels = [row % 3 for row in range(60)]
    chosen = choose_anchors(pairs, 9, method, labels=labels, seed=4)
    rows = chosen.target[:]
    assert rows == sorted(set(rows))
    assert len(rows) == 9
    assert chosen.dataset.items() >= {"max_pairs": 9, "seed": 4}.items()
    assert chosen.dataset.get("anchors", "uniform") == method
    assert (chosen.source[:] == POINTS.numpy()[rows]).all()


def test_what_cannot_be_chosen_is_refused():
    pairs = load_pairs((POINTS.numpy(), POINTS.numpy()))
    with pytest.raises(InvalidPairsError, match="balanced anchors need 60 labels, got none"):
        choose_anchors(pairs, 5, "balanced")
    for label in (None, float("nan"), pd.NA, [1]):
        with pytest.raises(InvalidPairsError, match=r"pair 1( is missing|$)"):
            choose_anchors(pairs, 5, "balanced", labels=[0, label, *range(58)])
    with pytest.raises(ValueError, match="anchors must be one of"):
        choose_anchors(pairs, 5, "best")


def test_two_arrays_are_pairs_as_in_a_fit_and_a_stream_is_refused():
    arrays = POINTS.numpy(), POINTS.numpy()
    expected = choose_anchors(load_pairs(arrays), 9, "farthest").source[:]
    assert (choose_anchors(arrays, 9, "farthest").source[:] == expected).all()
    stream = datasets.Dataset.from_dict({"x": [[1.0]], "y": [[2.0]]}).to_iterable_dataset()
    with pytest.raises(InvalidPairsError, match="not streams"):
        choose_anchors(load_pairs(stream, source="x", target="y"), 1, "farthest")
