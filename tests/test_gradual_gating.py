"""A shared index is judged at each share of re-encoded items, asked by either encoder."""

import json

import numpy as np
import pytest
import torch

from hf_latent_bridge import SharedSpace, gate_gradual
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError


class World:
    """Two encoders of one meaning; queries are noisy items, and each item answers its own."""

    def __init__(self, noise=0.05, n_items=300, n_queries=120):
        rng = np.random.default_rng(0)
        meaning = rng.normal(size=(n_items, 12)) * np.linspace(2, 0.5, 12)
        asked = meaning[:n_queries] + 0.2 * rng.normal(size=(n_queries, 12))
        maps = [rng.normal(size=(12, dim)) for dim in (24, 32)]
        anchors = rng.normal(size=(400, 12)) * np.linspace(2, 0.5, 12)
        self.corpus, self.queries, given = (
            tuple(z @ m + noise * rng.normal(size=(len(z), m.shape[1])) for m in maps)
            for z in (meaning, asked, anchors)
        )
        self.space = SharedSpace(dim=12, alpha=0.1).fit(dict(zip(("a", "b"), given, strict=True)))
        self.relevance = {query: {query: 1.0} for query in range(n_queries)}
        self.given = {"queries": self.queries, "corpus": self.corpus, "old": "a", "new": "b"}


@pytest.fixture(scope="module")
def world():
    return World()


def test_a_good_space_passes_at_every_share(world):
    report = gate_gradual(world.space, relevance=world.relevance, **world.given)
    assert report.verdict == "pass", str(report)
    assert [(step.share, step.asks) for step in report.steps] == [
        (share, asks) for share in (0, 0.25, 0.5, 0.75, 1) for asks in ("b", "a")
    ]
    assert [step.old_among_answers for step in report.steps[:2]] == [1, 1]
    assert [step.old_among_answers for step in report.steps[-2:]] == [0, 0]
    assert report.steps[4].old_among_answers == pytest.approx(0.5, abs=0.1)


def test_the_numbers_are_those_of_a_search_by_hand(world):
    shares = [0.5]
    report = gate_gradual(world.space, relevance=world.relevance, shares=shares, **world.given)
    old, new = (
        translate(x)
        for translate, x in zip(
            (world.space.translator("a").transform, world.space.translator("b").transform),
            world.corpus,
            strict=True,
        )
    )
    asked = world.space.translator("b").transform(world.queries[1])
    fresh = (torch.randperm(300, generator=torch.Generator().manual_seed(0)) < 150).numpy()
    items = np.where(fresh[:, None], new, old)
    best = np.argsort(-(asked @ items.T), axis=1)[:, :10]
    recall = np.mean([query in found for query, found in enumerate(best)])
    (step,) = (step for step in report.steps if step.asks == "b")
    assert step.retention["recall@10"].translated == pytest.approx(recall)
    assert step.old_among_answers == pytest.approx((~fresh)[best].mean())


def test_a_space_of_shuffled_pairs_fails(world):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(400, 24)), rng.normal(size=(400, 32))
    with pytest.warns(UserWarning, match="shuffled"):
        space = SharedSpace(dim=12, alpha=0.1).fit({"a": x, "b": y})
    report = gate_gradual(space, relevance=world.relevance, **world.given)
    assert report.verdict == "fail"
    assert "at worst" in report.reasons[0][1]


def test_one_kind_that_crowds_out_the_other_is_named(world):
    space = SharedSpace(dim=12, alpha=0.1).fit({"a": world.corpus[0], "b": world.corpus[1]})
    shifted = world.corpus[0] + 3 * world.corpus[0].std()
    given = {**world.given, "corpus": (shifted, world.corpus[1])}
    report = gate_gradual(space, relevance=world.relevance, **given)
    assert any("one kind crowds out the other" in reason for _, reason in report.reasons)


def test_a_report_is_json_markdown_and_a_page(world):
    report = gate_gradual(world.space, pass_at=0.5, **world.given)
    assert not report.judged
    assert json.loads(json.dumps(report.to_dict()))["steps"][0]["share"] == 0
    page = report.to_markdown()
    assert page.startswith("# PASS")
    assert "| 50% by b | a |" in page
    html = report.to_html()
    assert "near@10 kept, with the marks" in html
    assert html.count("<svg") == 10


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"shares": [2.0]}, ValueError, "from 0 to 1"),
        ({"old": "b", "new": "b"}, ValueError, "must be two views, got 'b' twice"),
        ({"old": "c"}, KeyError, "no view 'c'"),
        ({"queries": (np.eye(5, 24), np.eye(4, 32))}, InvalidLatentsError, "got 5 and 4"),
        ({"queries": (np.eye(5, 24), np.eye(5, 31))}, InvalidLatentsError, "31 features.*32"),
        ({"corpus": (np.eye(40, 25), np.eye(40, 32))}, InvalidLatentsError, "25 features.*24"),
        ({"corpus": (np.eye(5, 24), np.eye(5, 32))}, InvalidPairsError, "more than 10 items"),
        ({"relevance": {0: {0: 1.0}, 1: {999: 1.0}}}, InvalidPairsError, "300 items"),
        ({"pass_at": 0.5, "warn_at": 0.6}, ValueError, "warn_at <= pass_at"),
    ],
)
def test_bad_input_is_refused(world, change, error, wanted):
    with pytest.raises(error, match=wanted):
        gate_gradual(world.space, **{**world.given, **change})
