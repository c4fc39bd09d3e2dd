"""Scores of a search: whether counterparts are found, the neighbours' classes, and the like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from quality.methods import Fitted

if TYPE_CHECKING:
    from hf_latent_bridge import Head

K = 10
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Search:
    """Queries and items where they are compared.

    Attributes:
        queries: (m, d).
        items: (n, d).
        correction: One number per item that is taken off the cosine, (n,); None for none.
    """

    queries: Tensor
    items: Tensor
    correction: Tensor | None = None

    @classmethod
    def of(cls, fitted: Fitted, source: Tensor, target: Tensor, *, centred: bool) -> "Search":
        """Latents of the source look for latents of the target.

        Args:
            fitted: The method.
            source: Latents of the queries by the source encoder.
            target: Latents of the items by the target encoder.
            centred: Take the anchors' mean off both, where the method gives one.
        """
        from hf_latent_bridge.hubness import neighbor_similarity

        queries, items = fitted.query(source), fitted.item(target)
        if centred and fitted.centre is not None:
            queries, items = queries - fitted.centre, items - fitted.centre
        if fitted.bank is None:
            return cls(queries, items)
        return cls(queries, items, neighbor_similarity(items, fitted.bank) / 2)

    def similarity(self) -> Tensor:
        """What is ranked by, (m, n)."""
        cosines = normalize(self.queries, dim=1) @ normalize(self.items, dim=1).mT
        return cosines if self.correction is None else cosines - self.correction


def find_own(search: Search) -> dict[str, float]:
    """How well query i finds item i: R@1, R@10 and MRR; ties share their mean rank."""
    similarity = search.similarity()
    own = similarity.diagonal()[:, None]
    tie = (similarity - own).abs() <= 4 * torch.finfo(similarity.dtype).eps
    ranks = 1 + ((similarity > own) & ~tie).sum(1) + (tie.sum(1) - 1) / 2
    return {
        "R@1": float((ranks <= 1).double().mean()),
        "R@10": float((ranks <= K).double().mean()),
        "MRR": float(ranks.double().reciprocal().mean()),
    }


def neighbours(search: Search) -> Tensor:
    """The ten nearest items of each query but its own, (m, 10); item i is query i's own."""
    return nearest_others(search.similarity())


def nearest_others(similarity: Tensor) -> Tensor:
    """The same from similarities (m, n), whose diagonal is overwritten."""
    return similarity.fill_diagonal_(-torch.inf).topk(K, dim=1).indices


def of_the_same_class(nearest: Tensor, same: Tensor) -> float:
    """P@10: share of the neighbours (m, 10) whose class is the query's, from `same` (m, n)."""
    return float(same.gather(1, nearest).double().mean())


def overlap(nearest: Tensor, native: Tensor) -> float:
    """Share of the native ten nearest that are among these ten, both (m, 10)."""
    return float((nearest[:, :, None] == native[:, None, :]).any(2).double().mean())


def accuracy(head: "Head", latents: Tensor, labels: Sequence[int]) -> float:
    """How often a head's best label is the true one."""
    answers = [head.labels[best] for best in head.logits(latents).argmax(1).tolist()]
    return fmean(answer == label for answer, label in zip(answers, labels, strict=True))
