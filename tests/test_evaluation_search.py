"""evaluate shows what correction for hubs finds and what it costs, and says when it hurts."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from comparing import close

from hf_latent_bridge import (
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    SharedTranslator,
    evaluate,
    evaluate_latents,
    metrics,
)
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError

draw = np.random.default_rng(3)
COMMON = 2.5 * draw.normal(size=30)
SCALE = draw.lognormal(sigma=0.7, size=30)
TARGETS = draw.normal(size=(700, 30)) + COMMON
SOURCES = TARGETS * SCALE + 1.2 * draw.normal(size=(700, 30))
LABELS = ["".join("ab"[int(value > 0)] for value in (row - COMMON)[:2]) for row in TARGETS]
HELD_OUT = slice(500, 700)
FEW = {"n_bootstrap": 200, "n_permutations": 20}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def translator():
    """Leaves the hubs where they are: it only translates, and badly."""
    identity = np.eye(30)
    fitted = LinearTranslator(scaling="none").fit(identity, identity)
    return fitted.keep_bank(SOURCES[:500], size=300)


def report(translator, **options):
    x, y = SOURCES[HELD_OUT], TARGETS[HELD_OUT]
    return evaluate_latents(translator, x, y, **FEW, **options)


def explicit(translator, bank):
    """Plain and corrected scores of all pairs, by the definition of CSLS."""
    cosines = unit(translator.transform(SOURCES[HELD_OUT])) @ unit(TARGETS[HELD_OUT]).T
    nearest = np.sort(unit(TARGETS[HELD_OUT]) @ unit(bank).T, axis=1)[:, -10:]
    return cosines, cosines - nearest.mean(1) / 2


def ranks(scores):
    return 1 + (scores > np.diag(scores)[:, None]).sum(1)


def ten_nearest(scores):
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :10]


def test_both_rankings_score_as_the_explicit_ones(translator):
    labels = np.array(LABELS[HELD_OUT])
    search = report(translator, hubness="csls", labels=LABELS[HELD_OUT]).search
    native = ten_nearest(unit(TARGETS[HELD_OUT]) @ unit(TARGETS[HELD_OUT]).T)
    bank = translator.query_bank_.double().cpu().numpy()
    for got, scores in zip(
        (search.plain, search.corrected), explicit(translator, bank), strict=True
    ):
        rank, found = ranks(scores), ten_nearest(scores)
        assert got.recall_at_1 == pytest.approx((rank == 1).mean())
        assert got.recall_at_10 == pytest.approx((rank <= 10).mean())
        assert got.mrr == pytest.approx((1 / rank).mean(), abs=1e-6)
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(found, native, strict=True)]
        assert got.overlap_at_10 == pytest.approx(np.mean(shared), abs=1e-3)
        same = (labels[found] == labels[:, None]).mean()
        assert got.same_class_at_10 == pytest.approx(same, abs=1e-3)
    assert search.native_same_class == pytest.approx((labels[native] == labels[:, None]).mean())


def test_a_bank_of_such_queries_is_said_to_help_and_what_it_costs_is_shown(translator):
    found = report(translator, hubness="csls")
    assert found.search.corrected.mrr > found.search.plain.mrr
    assert found.search.mrr_gain[0] > 0
    assert found.search.bank == {"name": "translator", "size": 300, "n_neighbors": 10}
    text = str(found)
    assert "The correction finds more counterparts (mrr +" in text
    assert "overlap with the target's own neighbours" in text
    assert "Bank of queries: 300 latents, translator; 10 nearest count." in text


def test_a_bank_of_other_queries_is_said_to_hurt(translator):
    others = TARGETS[HELD_OUT][:30] + 0.05 * draw.normal(size=(30, 30))  # near some of the items
    found = report(translator, hubness="csls", bank=others, n_neighbors=1)
    assert found.search.mrr_gain[1] < 0
    assert "The correction hurts: it finds fewer counterparts" in str(found)
    assert found.search.bank["name"] == "given"


def test_a_bank_that_says_nothing_makes_no_clear_difference(translator):
    even = np.concatenate([np.eye(30), -np.eye(30)])
    search = report(translator, hubness="csls", bank=even, n_neighbors=60).search
    assert search.plain == search.corrected
    assert "makes no clear difference" in search.verdict


def test_of_a_few_pairs_all_others_are_the_neighbours(translator):
    few = slice(0, 5)
    report = evaluate_latents(
        translator, SOURCES[few], TARGETS[few], labels=list("aabbb"), n_permutations=20
    )
    assert report.search.plain.overlap_at_10 == 1
    assert report.search.plain.same_class_at_10 == pytest.approx((2 * 1 + 3 * 2) / (5 * 4))


def test_labels_alone_show_the_neighbours_of_the_same_class(translator):
    search = report(translator, labels=LABELS[HELD_OUT]).search
    assert (search.corrected, search.mrr_gain) == (None, None)
    assert search.to_dict().keys() == {"plain", "native"}
    assert 0 < search.plain.same_class_at_10 < search.native_same_class < 1


def test_labels_of_an_array_or_a_tensor_are_compared_by_value(translator):
    numbers = torch.tensor([sorted(set(LABELS)).index(label) for label in LABELS[HELD_OUT]])
    expected = report(translator, labels=LABELS[HELD_OUT]).search
    for labels in (numbers, numbers.numpy(), list(numbers)):
        assert report(translator, labels=labels).search == expected


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros((4, 1)), r"one label for each item, got shape \(4, 1\)"),
        (torch.tensor(1), "one label for each item, got tensor"),
        ("abcd", "one label for each item, got 'abcd'"),
        ([1, 2, None, 4], "label of pair 2 is missing"),
        (np.array([1.0, np.nan, 2.0, 3.0]), "label of pair 1 is missing"),
        ([1, pd.NA, 2, 3], "label of pair 1 is missing"),
        ([1, 2, 3, pd.NaT], "label of pair 3 is missing"),
        ([1, [2], 3, 4], r"texts, numbers or the like, got list \[2\] for pair 1"),
        (5, "one label for each item, got 5"),
    ],
)
def test_labels_that_are_not_one_for_each_pair_are_refused(translator, labels, told):
    with pytest.raises(InvalidPairsError, match=told):
        evaluate_latents(translator, SOURCES[:4], TARGETS[:4], labels=labels)


def test_without_hubness_and_labels_the_report_is_as_ever(translator):
    assert report(translator).search is None
    assert "search" not in report(translator).to_dict()


def test_the_report_is_json_and_goes_on_the_card(translator, tmp_path):
    found = report(translator, hubness="csls", labels=LABELS[HELD_OUT])
    translator.save_pretrained(tmp_path, metrics=found)
    saved = json.loads((tmp_path / "config.json").read_text())["metrics"]["search"]
    assert saved == found.search.to_dict()
    assert AutoTranslator.from_pretrained(tmp_path).metrics_["search"] == saved
    card = (tmp_path / "README.md").read_text()
    plain, corrected = (
        next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        for name in ("plain", "corrected (CSLS)")
    )
    assert plain.split(" | ")[3] == f"{found.search.plain.mrr:.3f}"
    assert corrected.split(" | ")[3] == f"{found.search.corrected.mrr:.3f}"
    assert "by a bank of 300 queries" in card


def test_pairs_are_ranked_as_their_latents_are(translator):
    x, y = SOURCES[HELD_OUT], TARGETS[HELD_OUT]
    options = {"hubness": "csls", "labels": LABELS[HELD_OUT]}
    through_pairs = evaluate(translator, None, None, (x, y), **FEW, **options)
    assert through_pairs.search == report(translator, **options).search


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hubness": "csl"}, ValueError, "hubness must be one of"),
        ({"bank": TARGETS}, ValueError, "a bank of queries is for hubness='csls'"),
        ({"hubness": "csls", "n_neighbors": 301}, ValueError, "from 1 to 300, the size of the"),
        ({"hubness": "csls", "bank": TARGETS[:, :4]}, InvalidLatentsError, r"\(m, 30\) of"),
        ({"labels": LABELS[:3]}, InvalidPairsError, "one for each of 200 pairs, got 3"),
    ],
)
def test_options_that_do_not_go_together_are_refused(translator, options, error, message):
    with pytest.raises(error, match=message):
        report(translator, **options)


def test_hubness_without_any_bank_says_how_to_get_one():
    plain = OrthoTranslator().fit(SOURCES[:500], TARGETS[:500])
    with pytest.raises(ValueError, match=r"keeps none: give latents of .*, fit with bank_size"):
        report(plain, hubness="csls")


def test_labels_of_skipped_pairs_are_refused(translator):
    x = SOURCES[HELD_OUT].copy()
    x[3] = np.nan
    options = {"labels": LABELS[HELD_OUT], "on_bad_row": "skip"}
    with pytest.raises(InvalidPairsError, match="1 pairs were skipped"):
        evaluate(translator, None, None, (list(x), TARGETS[HELD_OUT]), **FEW, **options)


def test_too_few_labels_are_refused_before_anything_is_encoded(translator):
    def unused(items):
        raise AssertionError("it was asked to encode")

    with pytest.raises(InvalidPairsError, match="one for each of 4 pairs, got 3"):
        evaluate(translator, unused, unused, (list("abcd"), list("abcd")), labels=LABELS[:3])


def test_the_nearest_leave_the_counterpart_out_in_blocks_of_any_size():
    x, y = (torch.from_numpy(rows[:60]).float() for rows in (SOURCES, TARGETS))
    expected = ten_nearest(unit(x.numpy()) @ unit(y.numpy()).T)
    for size in (1, 200, 2**24):
        found = metrics.nearest_others(x, y, 10, values_per_block=size)
        assert found.tolist() == expected.tolist()


def test_an_interval_of_a_mean_is_where_the_normal_law_has_it():
    values = torch.from_numpy(draw.normal(size=400))
    lower, upper = metrics.mean_interval(values, n_bootstrap=2000, seed=0)
    half = 1.96 * float(values.std()) / 20
    assert close(
        [lower, upper], [float(values.mean()) - half, float(values.mean()) + half], atol=0.02
    )


def test_the_bank_of_a_shared_space_is_of_the_space_and_not_of_the_target():
    shared = SharedTranslator(dim=8, alpha=1.0).fit(SOURCES[:500], TARGETS[:500])
    with pytest.raises(InvalidLatentsError, match=r"\(m, 8\) of a shared space.* into it first"):
        report(shared, hubness="csls", bank=TARGETS[:500])
    bank = shared.transform(SOURCES[:500])
    assert report(shared, hubness="csls", bank=bank).search.corrected is not None
