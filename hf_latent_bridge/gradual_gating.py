"""gate_gradual: judges one index of old and new vectors, whatever share is encoded again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.gating import (
    Reason,
    Relevance,
    Retention,
    Thresholds,
    Verdict,
    as_matrix,
    bootstrap_draws,
    check_sizes,
    deciding,
    first_k,
    gravest_first,
    judge_number,
    judge_order,
    judge_retention,
    markdown_table,
    page_of,
    retention_of,
    search_scores,
    shown_interval,
)
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.translators.shared_space import SharedSpace

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_SKEW = 0.1  # by how much the old items' share of the answers may differ from that of the index


@dataclass(frozen=True)
class GradualStep:
    """The shared index when some share of its items is encoded again, asked by one encoder.

    Attributes:
        share: Of the items that have new vectors.
        asks: The view whose encoder asks.
        retention: Of each score over the new encoder's own search, all items encoded again.
        old_among_answers: The share of old items among the first k; it would be 1 - `share` if the
            two kinds were found alike.
    """

    share: float
    asks: str
    retention: Mapping[str, Retention]
    old_among_answers: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "share": self.share,
            "asks": self.asks,
            "retention": {name: found.to_dict() for name, found in self.retention.items()},
            "old_among_answers": self.old_among_answers,
        }


@dataclass(frozen=True)
class GradualReport:
    """The result of `gate_gradual`; `print(report)` shows it.

    Attributes:
        verdict: "pass", "warn" or "fail", on the queries of the new encoder.
        reasons: Why, the gravest first, each with its own verdict.
        steps: Each share of re-encoded items, asked by the new encoder and by the old one.
        native: Mean of each score for the new encoder's own search and the old encoder's own.
        old: The view of the old encoder.
        new: The view of the new one.
        judged: Whether relevance judgements were given.
        k: How many results count.
        n_queries: Number of queries.
        n_items: Number of items in the corpus.
        thresholds: Which retention is enough.
        decides: The score by which the gate decides.
    """

    verdict: Verdict
    reasons: Sequence[Reason]
    steps: Sequence[GradualStep]
    native: Mapping[str, Mapping[str, float]]
    old: str
    new: str
    judged: bool
    k: int
    n_queries: int
    n_items: int
    thresholds: Thresholds
    decides: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "verdict": self.verdict,
            "reasons": [{"verdict": verdict, "reason": text} for verdict, text in self.reasons],
            "steps": [step.to_dict() for step in self.steps],
            "native": {name: dict(scores) for name, scores in self.native.items()},
            "old": self.old,
            "new": self.new,
            "judged": self.judged,
            "k": self.k,
            "n_queries": self.n_queries,
            "n_items": self.n_items,
            "pass_at": self.thresholds.passing,
            "warn_at": self.thresholds.warning,
            "decides": self.decides,
        }

    def to_markdown(self) -> str:
        """The report as a page."""
        names = list(self.steps[0].retention)
        own = [
            [f"{name} alone", "", *(f"{scores[score]:.3f}" for score in names), "", ""]
            for name, scores in self.native.items()
        ]
        steps = [
            [
                f"{step.share:.0%} by {self.new}",
                step.asks,
                *(f"{step.retention[name].translated:.3f}" for name in names),
                shown_interval(step.retention[self.decides]),
                f"{step.old_among_answers:.1%} of {1 - step.share:.0%}",
            ]
            for step in self.steps
        ]
        kept = f"{self.decides} kept"
        header = ["index", "asked by", *names, kept, "old items among the answers"]
        return "\n\n".join(
            [
                f"# {self.verdict.upper()}",
                "\n".join(f"- {verdict.upper()}: {text}" for verdict, text in self.reasons),
                f"{self.n_queries:,} queries, {self.n_items:,} items in one index, old ones by "
                f"{self.old} until {self.new} has encoded them again.",
                markdown_table(header, [*own, *steps]) + "\n",
            ]
        )

    def to_html(self) -> str:
        """The report as a page that needs no other file."""
        return page_of(self, "gradual_page.html")

    def __str__(self) -> str:
        return self.to_markdown().rstrip()


def gate_gradual(
    space: SharedSpace,
    *,
    old: str,
    new: str,
    queries: tuple[Latents, Latents],
    corpus: tuple[Latents, Latents],
    shares: Sequence[float] = SHARES,
    relevance: Relevance | None = None,
    k: int = 10,
    score: str | None = None,
    pass_at: float | None = None,
    warn_at: float | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> GradualReport:
    """Judges a shared index whose items are encoded again little by little (`migrate_gradually`).

    Which items are encoded again first is drawn at random. The verdict is on the queries of the new
    encoder: what they find at each share must be as good as with everything encoded again.

    Args:
        space: A fitted shared space.
        old: The view of the old encoder.
        new: The view of the new one.
        queries: Latents of the queries by the old encoder (n, d_old) and by the new (n, d_new).
        corpus: Latents of the items by the old encoder (m, d_old) and by the new (m, d_new).
        shares: Which shares of re-encoded items to try, each from 0 to 1.
        relevance: For the number of a query the gains of relevant items by their number; without,
            what is found of the new encoder's own ranking.
        k: How many results count.
        score: As for `gate_latents`.
        pass_at: The lower end of the 95 % interval must reach it at every share; None for 0.95.
        warn_at: The mean must reach it at every share; None for 0.9, and for 0.8 without
            judgements.
        n_bootstrap: Draws of the queries for the intervals.
        seed: Seeds the draws, and the order in which items are encoded again.

    Raises:
        UnknownNameError: The space has no such view.
        InvalidLatentsError: Wrong shapes, NaN or infinity.
        InvalidPairsError: Too few queries or items, or judgements that do not fit them.
        ValueError: A parameter out of range.
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"shares must be from 0 to 1, got {list(shares)}")
    if old == new:
        raise ValueError(f"old and new must be two views, got {old!r} twice")
    judged = relevance is not None
    limits = Thresholds.default(judged).with_limits(pass_at, warn_at)
    asked = _pair(queries, "queries")
    held = _pair(corpus, "items", asked[1].device)
    check_sizes((asked[1], held[1]), relevance, k)
    order = torch.randperm(len(held[1]), generator=torch.Generator().manual_seed(seed))
    fresh = {share: order < round(share * len(order)) for share in shares}
    best = _found(space, (old, new), asked, held, fresh, k=k)
    scores = search_scores(best, (asked[1], held[1]), relevance, k)
    n = len(relevance) if relevance else len(asked[1])
    steps = list(_steps((new, old), fresh, best, scores, bootstrap_draws(n, n_bootstrap, seed)))
    decides = deciding(steps[0].retention, score)
    asked_by_new = [step for step in steps if step.asks == new]
    worst = min(asked_by_new, key=lambda step: step.retention[decides].mean)
    found = [
        *judge_retention(decides, worst.retention[decides], limits, n, judged=judged),
        *(judge_order(decides, worst.retention, limits) if judged and score is None else ()),
    ]
    verdict, reasons = gravest_first(
        [(v, f"at worst, {worst.share:.0%} encoded again: {text}") for v, text in found],
        judge_number(n, limits),
        [_judge_mixture(asked_by_new)],
    )
    return GradualReport(
        verdict=verdict,
        reasons=reasons,
        steps=steps,
        native={
            name: {label: float(values.mean()) for label, values in scores[own].items()}
            for name, own in ((new, "native"), (old, "old"))
        },
        old=old,
        new=new,
        judged=judged,
        k=k,
        n_queries=n,
        n_items=len(held[1]),
        thresholds=limits,
        decides=decides,
    )


def _found(
    space: SharedSpace,
    views: tuple[str, str],
    asked: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    fresh: Mapping[float, Tensor],
    *,
    k: int,
) -> dict[str, Tensor]:
    """What old and new queries find in the index of each share of fresh items, and on their own."""
    maps = [space.translator(name) for name in views]
    queries, items = (
        [as_tensor(view.transform(x)).float() for view, x in zip(maps, side, strict=True)]
        for side in (asked, held)
    )
    best = {"native": first_k(asked[1], held[1], k=k), "old": first_k(asked[0], held[0], k=k)}
    for share, is_new in fresh.items():
        index = torch.where(is_new[:, None].to(items[0].device), items[1], items[0])
        for name, x in zip(views, queries, strict=True):
            best[_search(share, name)] = first_k(x, index, k=k)
    return best


def _search(share: float, view: str) -> str:
    """The name of the search by a view in the index of some share of fresh items."""
    return f"{share} {view}"


def _steps(
    views: tuple[str, str],
    fresh: Mapping[float, Tensor],
    best: Mapping[str, Tensor],
    scores: Mapping[str, Mapping[str, Tensor]],
    draws: Tensor,
) -> Iterator[GradualStep]:
    """Each share, asked by each view in turn."""
    for share, is_new in fresh.items():
        for view in views:
            search = _search(share, view)
            kept = {
                name: retention_of(scores["native"][name], values, draws)
                for name, values in scores[search].items()
            }
            old_share = float((~is_new)[best[search]].double().mean())
            yield GradualStep(share, view, kept, old_share)


def _pair(
    given: tuple[Latents, Latents], what: str, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Both encoders' latents on one device; some may come from a GPU, others from a file."""
    old, new = as_matrix(given[0]), as_matrix(given[1])
    device = new.device if device is None else device
    if len(old) != len(new):
        raise InvalidLatentsError(
            f"both encoders must give the same {what}, got {len(old)} and {len(new)} rows"
        )
    return old.to(device), new.to(device)


def _judge_mixture(asked: Sequence[GradualStep]) -> Reason:
    """Whether old and new items are found alike."""
    skewed = max(asked, key=_skew)
    told = (
        f"with {skewed.share:.0%} encoded again, {skewed.old_among_answers:.1%} of the answers are "
        f"old items, of the index {1 - skewed.share:.0%}"
    )
    if _skew(skewed) > _SKEW:
        return "warn", f"{told}: one kind crowds out the other"
    return "pass", f"{told}: both are found alike"


def _skew(step: GradualStep) -> float:
    return abs(step.old_among_answers - (1 - step.share))
