"""The honest report: what a translator gives, what no translation gives, what chance gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hf_latent_bridge import metrics
from hf_latent_bridge.data import Pairs
from hf_latent_bridge.encoders import EncoderLike, encode, space_of
from hf_latent_bridge.errors import InvalidLatentsError, SpaceMismatchError
from hf_latent_bridge.latents import Latents, as_tensor, check_finite
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators import Translator


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
    def compare(cls, predicted: Tensor, target: Tensor) -> "Scores":
        """Scores predictions (n, d) against their counterparts (n, d)."""
        ranks = metrics.counterpart_ranks(predicted, target)
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
        scores = {
            "cosine": self.cosine,
            "r2": self.r2,
            "recall@1": self.recall_at_1,
            "recall@10": self.recall_at_10,
            "mrr": self.mrr,
        }
        return {name: score for name, score in scores.items() if not math.isnan(score)}


@dataclass(frozen=True)
class Report:
    """What `evaluate` found; `print(report)` shows a table.

    Attributes:
        n_pairs: Number of pairs, which is also the number of retrieval candidates.
        translated: The translator's scores.
        untranslated: Scores of the source latents as they are, padded with zeros or cut to the
            target's width.
        shuffled: Scores against random counterparts: what chance gives.
        dataset: Where the pairs come from.
    """

    n_pairs: int
    translated: Scores
    untranslated: Scores
    shuffled: Scores
    dataset: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as `Translator.metrics_` and the card take them."""
        rows = {name: getattr(self, name).to_dict() for name in _ROWS}
        return {"n_pairs": self.n_pairs, "dataset": dict(self.dataset), **rows}

    def __str__(self) -> str:
        names = list(self.translated.to_dict())
        lines = [f"{f'{self.n_pairs:,} pairs':14}" + "".join(f"{name:>11}" for name in names)]
        for row in _ROWS:
            values = getattr(self, row).to_dict().values()
            lines.append(f"{row:14}" + "".join(f"{value:11.3f}" for value in values))
        return "\n".join(lines)


_ROWS = ("translated", "untranslated", "shuffled")


def evaluate(
    translator: Translator,
    source: EncoderLike,
    target: EncoderLike,
    pairs: Pairs | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Encodes held-out pairs and reports how well the translation meets the true counterparts.

    Args:
        translator: A fitted translator.
        source: Its source encoder.
        target: Its target encoder.
        pairs: Pairs that the fit did not see; all latents are held in memory.
        batch_size: Items per forward pass.
        seed: Seeds the shuffle.
        progress: Show a bar for each encoder.

    Raises:
        SpaceMismatchError: An encoder is not the one that the translator was fitted on.
        NotFittedError: The translator was not fitted.
    """
    _check_space("source", space_of(source, translator.source_width), translator.source_)
    _check_space("target", space_of(target, translator.target_width), translator.target_)
    pairs = pairs if isinstance(pairs, Pairs) else Pairs(*pairs)
    ((items, counterparts),) = pairs.batches(len(pairs))
    x = encode(source, items, batch_size=batch_size, progress=progress)
    y = encode(target, counterparts, batch_size=batch_size, progress=progress)
    return evaluate_latents(translator, x, y, seed=seed, dataset=pairs.dataset)


def evaluate_latents(
    translator: Translator,
    X: Latents,
    Y: Latents,
    *,
    seed: int = 0,
    dataset: Mapping[str, Any] | None = None,
) -> Report:
    """Reports how well translated `X` meets `Y`, row by row.

    Args:
        translator: A fitted translator.
        X: Source latents that the fit did not see, (n, d_source).
        Y: Their counterparts, (n, d_target).
        seed: Seeds the shuffle.
        dataset: Where the pairs come from, for the report.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity.
    """
    x, y = as_tensor(X).detach().float(), as_tensor(Y).detach().float()
    predicted = as_tensor(translator.transform(x))
    y = y.to(predicted.device)
    if predicted.shape != y.shape or y.ndim != 2 or len(y) == 0:
        raise InvalidLatentsError(
            f"evaluation needs target latents of shape {tuple(predicted.shape)}, with at least one "
            f"row, got shape {tuple(y.shape)}"
        )
    check_finite(y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).to(y.device)
    return Report(
        n_pairs=len(y),
        translated=Scores.compare(predicted, y),
        untranslated=Scores.compare(_fit_width(x, y.shape[1]), y),
        shuffled=Scores.compare(predicted[order], y),
        dataset=dataset or {},
    )


def _fit_width(x: Tensor, width: int) -> Tensor:
    """Pads with zeros or cuts, the paper's "absolute" comparison for unequal widths."""
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))


def _check_space(side: str, got: SpaceSpec, expected: SpaceSpec) -> None:
    mismatches = expected.mismatches(got)
    if mismatches:
        raise SpaceMismatchError(
            f"the translator's {side} is {expected}, the encoder gives {got}: "
            f"they differ in {'; '.join(mismatches)}"
        )
