"""What an evaluation found, as a table for people and as JSON for the config and the card."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hf_latent_bridge import metrics, resampling


@dataclass(frozen=True)
class Scores:
    """How well predictions match their counterparts.

    Attributes:
        cosine: Mean cosine similarity.
        r2: Share of the targets' variance that is explained.
        recall_at_1: Share whose counterpart is the nearest of all targets.
        recall_at_10: Share whose counterpart is among the ten nearest.
        mrr: Mean reciprocal rank of the counterpart.
    """

    cosine: float
    r2: float
    recall_at_1: float
    recall_at_10: float
    mrr: float

    @classmethod
    def compare(cls, predicted: Tensor, target: Tensor, ranks: Tensor | None = None) -> "Scores":
        """Scores predictions (n, d) against their counterparts (n, d)."""
        ranks = metrics.counterpart_ranks(predicted, target) if ranks is None else ranks
        return cls(
            cosine=metrics.mean_cosine(predicted, target),
            r2=metrics.r2_score(predicted, target),
            recall_at_1=metrics.recall_at_k(ranks, 1),
            recall_at_10=metrics.recall_at_k(ranks, 10),
            mrr=metrics.mean_reciprocal_rank(ranks),
        )

    def to_dict(self) -> dict[str, float]:
        """The scores under the names that the config and the card use.

        JSON has no NaN, so R² is left out where the targets do not vary.
        """
        values = (self.cosine, self.r2, self.recall_at_1, self.recall_at_10, self.mrr)
        return _finite(dict(zip(metrics.NAMES, values, strict=True)))


@dataclass(frozen=True)
class Chance:
    """What a score is when the pairs are shuffled, and how rarely that reaches the true one.

    Attributes:
        mean: Mean over the shuffles.
        p95: 95th percentile.
        p99: 99th percentile.
        p_value: Share of pairings, the true one among them, that score at least as well as it.
    """

    mean: float
    p95: float
    p99: float
    p_value: float

    @classmethod
    def from_scores(cls, scores: Tensor) -> "Chance":
        """From scores of the true pairing, first, and of the shuffled ones."""
        shuffled = scores[1:]
        p95, p99 = torch.quantile(shuffled, torch.tensor([0.95, 0.99], dtype=scores.dtype)).tolist()
        return cls(float(shuffled.mean()), p95, p99, resampling.p_value(scores))

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return {"mean": self.mean, "p95": self.p95, "p99": self.p99, "p_value": self.p_value}


@dataclass(frozen=True)
class Report:
    """What `evaluate` found; `print(report)` shows a table.

    Attributes:
        n_pairs: Number of pairs, which is also the number of retrieval candidates.
        translated: The translator's scores.
        untranslated: Scores of the source latents as they are, padded with zeros or cut to the
            target's width.
        shuffled: Mean scores against random counterparts: what chance gives.
        intervals: 95 % bootstrap interval of each of the translator's scores.
        chance: How each score spreads over shuffled pairings, and the p-value.
        cka: Linear CKA of source and translated latents with the targets, and debiased.
        settings: `seed`, `n_bootstrap` and `n_permutations`.
        dataset: Where the pairs come from.
    """

    n_pairs: int
    translated: Scores
    untranslated: Scores
    shuffled: Scores
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    chance: Mapping[str, Chance] = field(default_factory=dict)
    cka: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as `Translator.metrics_` and the card take them."""
        rows = {name: getattr(self, name).to_dict() for name in _ROWS}
        return {
            "n_pairs": self.n_pairs,
            "dataset": dict(self.dataset),
            **rows,
            "intervals": {name: list(self.intervals[name]) for name in rows["translated"]},
            "chance": {name: self.chance[name].to_dict() for name in rows["translated"]},
            "cka": _finite(self.cka),
            **self.settings,
        }

    def __str__(self) -> str:
        content = self.to_dict()
        intervals = content["intervals"].values()
        lines = {name: [f"{value:.3f}" for value in content[name].values()] for name in _ROWS}
        table = [
            (f"{self.n_pairs:,} pairs", list(content["translated"])),
            ("translated", lines["translated"]),
            ("95 % interval", [f"{lower:.3f}..{upper:.3f}" for lower, upper in intervals]),
            ("untranslated", lines["untranslated"]),
            ("shuffled", lines["shuffled"]),
        ]
        return "\n".join(
            f"{name:14}" + "".join(f"{cell:>15}" for cell in row) for name, row in table
        )


_ROWS = ("translated", "untranslated", "shuffled")


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if not math.isnan(score)}
