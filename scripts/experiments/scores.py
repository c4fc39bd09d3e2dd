"""How the experiments score: a head's accuracy, a retrieval's recall, and chance."""

from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from hf_latent_bridge import Head


def accuracy(head: "Head", latents: Tensor, labels: Sequence[Hashable]) -> float:
    """Share of rows whose best label is the true one."""
    answers = [answer["label"] for answer in head(latents)]
    return fmean(a == b for a, b in zip(answers, labels, strict=True))


def majority(labels: Sequence[Hashable]) -> float:
    """The accuracy of whoever always says the most frequent label: what chance gives."""
    return max(Counter(labels).values()) / len(labels)


def recall_at_1(predicted: Tensor, target: Tensor) -> float:
    """Share of predictions whose true counterpart is the nearest of all targets, by cosine."""
    from hf_latent_bridge import metrics

    return metrics.recall_at_k(metrics.counterpart_ranks(predicted, target), 1)
