"""Evaluates a translator on held-out pairs, and reports how far from chance it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hf_latent_bridge import metrics
from hf_latent_bridge.data.chunks import EVERYTHING, PairSource
from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.encoders.base import EncoderLike
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError, SpaceMismatchError
from hf_latent_bridge.fitting.encoding import Side
from hf_latent_bridge.latents import Latents, as_tensor, check_finite
from hf_latent_bridge.metrics import bootstrap_intervals, permutation_scores
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import check_translator


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
        return cls(float(shuffled.mean()), p95, p99, metrics.p_value(scores))

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


_CHUNK = 1024
_MOST_STREAMED = 100_000


def evaluate(
    translator: Translator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: int = 32,
    seed: int = 0,
    n_bootstrap: int = 1000,
    n_permutations: int = 1000,
    progress: bool = False,
) -> Report:
    """Encodes held-out pairs and reports how well the translation meets the true counterparts.

    Args:
        translator: A fitted translator.
        source: Its source encoder; where the items are latents already, their space or None.
        target: Its target encoder, likewise.
        pairs: Pairs that the fit did not see. All latents are held in memory: those of up to
            100,000 pairs of a stream.
        batch_size: Items per forward pass.
        seed: Seeds bootstrap and shuffles.
        n_bootstrap: Draws behind the intervals.
        n_permutations: Shuffles of the pairing behind "shuffled" and the p-values.
        progress: Show a bar.

    Raises:
        SpaceMismatchError: An encoder is not the one that the translator was fitted on.
        NotFittedError: The translator was not fitted.
        InvalidPairsError: A bad row, none at all, or a longer stream.
    """
    check_translator(translator)
    sides = Side("source", source), Side("target", target)
    _check_space(sides[0], translator.source_)
    _check_space(sides[1], translator.target_)
    pairs = Pairs(*pairs) if isinstance(pairs, tuple | list) else pairs
    x, y = _latents(sides, pairs, batch_size, progress)
    return evaluate_latents(
        translator,
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        dataset=pairs.dataset,
    )


def evaluate_latents(
    translator: Translator,
    X: Latents,
    y: Latents,
    *,
    seed: int = 0,
    n_bootstrap: int = 1000,
    n_permutations: int = 1000,
    dataset: Mapping[str, Any] | None = None,
) -> Report:
    """Reports how well translated `X` meets `y`, row by row.

    Args:
        translator: A fitted translator.
        X: Source latents that the fit did not see, (n, d_source).
        y: Their counterparts, (n, d_target).
        seed: Seeds bootstrap and shuffles.
        n_bootstrap: Draws behind the intervals.
        n_permutations: Shuffles of the pairing behind "shuffled" and the p-values.
        dataset: Where the pairs come from, for the report.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity.
        ValueError: No draws or no shuffles.
    """
    settings = {"seed": seed, "n_bootstrap": n_bootstrap, "n_permutations": n_permutations}
    _check_settings(settings)
    x, true = as_tensor(X).detach().float(), as_tensor(y).detach().float()
    predicted = as_tensor(translator.transform(x))
    true = true.to(predicted.device)
    if predicted.shape != true.shape or true.ndim != 2 or len(true) == 0:
        raise InvalidLatentsError(
            f"evaluation needs target latents of shape {tuple(predicted.shape)}, with at least one "
            f"row, got shape {tuple(true.shape)}"
        )
    check_finite(true)
    ranks = metrics.counterpart_ranks(predicted, true)
    shuffles = permutation_scores(predicted, true, n_permutations=n_permutations, seed=seed)
    chance = {name: Chance.from_scores(scores) for name, scores in shuffles.items()}
    return Report(
        n_pairs=len(true),
        translated=Scores.compare(predicted, true, ranks),
        untranslated=Scores.compare(_fit_width(x, true.shape[1]), true),
        shuffled=Scores(*(chance[name].mean for name in metrics.NAMES)),
        intervals=bootstrap_intervals(predicted, true, ranks, n_bootstrap=n_bootstrap, seed=seed),
        chance=chance,
        cka=_cka("source", x, true) | _cka("translated", predicted, true),
        settings=settings,
        dataset=dataset or {},
    )


def _latents(
    sides: tuple[Side, Side], pairs: PairSource, batch_size: int, progress: bool
) -> tuple[Tensor, Tensor]:
    """Latents of both sides, (n, d_source) and (n, d_target); items are held chunk by chunk."""
    from tqdm.auto import tqdm

    parts: list[list[Tensor]] = []
    n = 0
    total = pairs.rows_of(EVERYTHING, _CHUNK)
    with tqdm(total=total, unit="pair", desc="evaluate", disable=not progress) as bar:
        for chunk in pairs.chunks(_CHUNK):
            parts.append([side.read(chunk, batch_size=batch_size) for side in sides])
            n += len(chunk.rows)
            bar.update(len(chunk.rows))
            if total is None and n > _MOST_STREAMED:
                raise InvalidPairsError(
                    f"evaluation holds all latents in memory, at most those of {_MOST_STREAMED:,} "
                    "streamed pairs, and this stream has more: sample it with max_pairs"
                )
    if not parts:
        raise InvalidPairsError("pairs need at least one item, got none")
    x, y = (torch.cat(side) for side in zip(*parts, strict=True))
    return x, y


def _cka(name: str, latents: Tensor, target: Tensor) -> dict[str, float]:
    moments = PairedMoments.from_batch(latents, target, full_syy=True)
    return {
        name: metrics.linear_cka(moments),
        f"{name}_debiased": metrics.debiased_linear_cka(latents, target),
    }


def _check_settings(settings: Mapping[str, int]) -> None:
    for name in ("n_bootstrap", "n_permutations"):
        if settings[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {settings[name]}")


def _fit_width(x: Tensor, width: int) -> Tensor:
    """Pads with zeros or cuts, the paper's "absolute" comparison for unequal widths."""
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))


def _check_space(side: Side, expected: SpaceSpec) -> None:
    got = side.space(expected.dim)
    mismatches = expected.mismatches(got)
    if mismatches:
        raise SpaceMismatchError(
            f"the translator's {side.name} is {expected}, the encoder gives {got}: "
            f"they differ in {'; '.join(mismatches)}"
        )
