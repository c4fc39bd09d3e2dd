"""A learning curve: each pair is read once, it stops when enough is kept, and says when never."""

import json
import warnings
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    AffineTranslator,
    KernelTranslator,
    OrthoTranslator,
    TranslatorChoice,
    learning_curve,
    load_pairs,
)
from hf_latent_bridge.errors import InvalidPairsError, SelectionWarning


class Counting:
    """An encoder that multiplies rows by a matrix, and counts how often it has seen each."""

    def __init__(self, matrix, noise=0.0):
        self.matrix, self.noise, self.seen = matrix, noise, []

    def __call__(self, items):
        rows = np.stack(items)
        self.seen += [row.tobytes() for row in rows]
        flat = np.random.default_rng(int(abs(rows.sum()) * 1e6) % 2**32)
        return rows @ self.matrix + self.noise * flat.normal(size=(len(rows), self.matrix.shape[1]))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(4000, 24))
    return meaning, rng.normal(size=(24, 40)), rng.normal(size=(24, 48))


def latents(world, noise=0.3):
    meaning, a, b = world
    rng = np.random.default_rng(1)
    return tuple(meaning @ m + noise * rng.normal(size=(len(meaning), m.shape[1])) for m in (a, b))


def test_the_curve_stops_when_enough_is_kept_and_leaves_the_translator_fitted(world):
    x, y = latents(world, noise=0.6)
    translator = AffineTranslator(alpha=0.01)
    how = {"until_retention": 0.95, "score": "first@10", "start": 10}
    curve = learning_curve(translator, None, None, (x, y), **how)
    assert curve.reached
    sizes = [point.n_pairs for point in curve.points]
    assert sizes == [10 * 2**i for i in range(len(sizes))]
    assert sizes[-1] < 3000
    assert translator.n_pairs_ == sizes[-1]
    assert curve.points[-1].retention.lower >= 0.95 > curve.points[0].retention.lower
    assert f"{sizes[-1]:,} pairs are enough to keep 0.95" in str(curve)


def test_no_item_is_encoded_twice_and_the_moments_are_those_of_one_pass(world):
    meaning, a, b = world
    source, target = Counting(a, 0.1), Counting(b, 0.1)
    translator = OrthoTranslator()
    items = list(meaning[:1200])
    curve = learning_curve(translator, source, target, (items, items), start=100, held_out=200)
    assert [point.n_pairs for point in curve.points] == [100, 200, 400, 800, 1000]
    assert curve.reached is None
    for encoder in (source, target):
        assert len(encoder.seen) == len(set(encoder.seen)) == 1200
    order = np.random.default_rng(0).permutation(1200)[200:]
    x, y = (np.concatenate([e([items[i] for i in part]) for part in _steps(order)])
            for e in (source, target))  # fmt: skip
    plain = OrthoTranslator().fit(x, y)
    probe = torch.from_numpy(x[:20])
    assert torch.allclose(plain.transform(probe), translator.transform(probe), atol=1e-4)


def _steps(order):
    ends = [0, 100, 200, 400, 800, 1000]
    return [np.sort(order[a:b]) for a, b in pairwise(ends)]


def test_it_says_that_it_is_never_enough(world):
    x, y = latents(world, noise=4.0)
    curve = learning_curve(
        AffineTranslator(alpha=0.1), None, None, (x[:900], y[:900]), until_retention=0.99
    )
    assert curve.reached is False
    assert "Never: with all 600 pairs" in str(curve)


def test_a_shuffled_pairing_ends_early_and_is_named(world):
    x, y = latents(world)
    shuffled = np.random.default_rng(2).permutation(y)
    curve = learning_curve(OrthoTranslator(), None, None, (x, shuffled), until_retention=0.5)
    assert curve.reached is False
    assert curve.points[-1].n_pairs == 500
    assert "no more than shuffled ones" in curve.reason
    assert curve.report.verdict == "fail"


def test_a_shuffled_pairing_does_not_pass_against_queries_of_its_own(world):
    x, y = latents(world)
    shuffled = np.random.default_rng(2).permutation(y[:3000])
    curve = learning_curve(
        OrthoTranslator(),
        None,
        None,
        (x[:3000], shuffled),
        queries=(None, y[3000:3200]),
        corpus=(x[3200:], y[3200:]),
        until_retention=0.5,
    )
    assert curve.reached is False


def test_queries_and_judgements_can_be_given(world):
    x, y = latents(world, noise=0.1)
    curve = learning_curve(
        AffineTranslator(alpha=0.01),
        None,
        None,
        (x[:3000], y[:3000]),
        queries=(None, y[3000:3200] + 0.1),
        corpus=(x[3000:3500], y[3000:3500]),
        relevance={query: {query: 1.0} for query in range(200)},
        until_retention=0.9,
    )
    assert curve.reached
    assert curve.report.judged
    assert (curve.report.n_queries, curve.report.n_items) == (200, 500)
    assert curve.points[-1].n_pairs == 125  # nothing was set apart, and few are enough


def test_queries_alone_look_for_the_held_out_items(world):
    x, y = latents(world)
    curve = learning_curve(
        OrthoTranslator(), None, None, (x, y), queries=(None, y[:90] + 0.1), held_out=300
    )
    assert (curve.report.n_queries, curve.report.n_items) == (90, 300)


def test_types_that_choose_their_parameters_do_so_at_each_point(world):
    x, y = latents(world)
    translator = AffineTranslator(alpha="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = learning_curve(translator, None, None, (x[:900], y[:900]), held_out=300)
    assert translator.selection_ is not None
    assert curve.points[-1].n_pairs == 600


def test_landmarks_are_drawn_from_all_pairs_of_a_point(world):
    x, y = latents(world)
    translator = KernelTranslator(n_landmarks=200)
    curve = learning_curve(translator, None, None, (x[:900], y[:900]), held_out=300, start=50)
    assert [point.n_pairs for point in curve.points] == [50, 100, 200, 400, 600]
    assert translator.n_pairs_ == 600
    assert translator.params_["n_landmarks"] == 200


@pytest.mark.slow
def test_the_type_that_does_best_is_chosen_at_each_point(world):
    x, y = latents(world)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        curve = learning_curve("auto", None, None, (x[:600], y[:600]), held_out=200, start=200)
    assert [point.n_pairs for point in curve.points] == [200, 400]
    assert curve.translator.selection_.objective == "ranking"
    assert curve.translator.n_pairs_ == 400


def test_a_choice_by_labels_is_refused(world):
    x, y = latents(world)
    choice = TranslatorChoice("classification", labels=[0, 1] * 450)
    with pytest.raises(ValueError, match="labels do not belong"):
        learning_curve(choice, None, None, (x[:900], y[:900]))


def test_a_curve_is_json_and_a_table(world):
    x, y = latents(world)
    curve = learning_curve(OrthoTranslator(), None, None, (x[:600], y[:600]), until_retention=0.9)
    told = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert [point["n_pairs"] for point in told["points"]] == [p.n_pairs for p in curve.points]
    assert told["gate"]["verdict"] in ("pass", "warn", "fail")
    assert str(curve).startswith("| pairs | retention of near@10 |")


def test_moments_of_steps_add_to_those_of_all(world):
    x, y = latents(world)
    translator = AffineTranslator(alpha=0.01)
    learning_curve(translator, None, None, (x, y), start=300)
    whole = translator.fold_moments(x, y)
    assert translator.moments_.n == 3000
    assert reduce(add, whole).n == 4000


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"start": 1}, ValueError, "start must be an integer of at least 2"),
        ({"held_out": -1}, ValueError, "held_out must be an integer of at least 0"),
        ({"until_retention": 1.5}, ValueError, "at most 1, got 1.5"),
        ({"k": 400}, InvalidPairsError, "more than 400 items"),
    ],
)
def test_bad_input_is_refused(world, change, error, wanted):
    x, y = latents(world)
    with pytest.raises(error, match=wanted):
        learning_curve(OrthoTranslator(), None, None, (x[:900], y[:900]), **change)


@pytest.mark.parametrize("what", ["ortho", OrthoTranslator])
def test_what_is_neither_a_translator_nor_auto_is_refused(world, what):
    with pytest.raises(ValueError, match=r"a translator such as OrthoTranslator\(\), .* got"):
        learning_curve(what, None, None, latents(world))


def test_with_nothing_to_judge_by_it_says_what_to_give(world):
    x, y = latents(world)
    with pytest.raises(InvalidPairsError, match="pass queries and corpus, or held_out"):
        learning_curve(OrthoTranslator(), None, None, (x[:900], y[:900]), held_out=0)


def test_a_stream_is_refused(world):
    from datasets import Dataset

    x, y = latents(world)
    data = Dataset.from_dict({"x": x[:9].tolist(), "y": y[:9].tolist()}).to_iterable_dataset()
    stream = load_pairs(data, source="x", target="y", streaming=True)
    with pytest.raises(InvalidPairsError, match="can be counted"):
        learning_curve(OrthoTranslator(), None, None, stream)
