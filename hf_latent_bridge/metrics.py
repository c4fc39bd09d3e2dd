"""How well predicted latents match their true counterparts."""

import torch
from jaxtyping import Float
from torch import Tensor

_QUERIES_PER_BLOCK = 1024


def mean_cosine(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> float:
    """Mean cosine similarity of each prediction with its counterpart; a zero row counts as 0."""
    return float(torch.nn.functional.cosine_similarity(predicted, target, dim=1).mean())


def r2_score(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> float:
    """Share of the targets' variance that the predictions explain, over all columns together.

    Equals scikit-learn's `r2_score(target, predicted, multioutput="variance_weighted")`; a mean
    over columns would be ruled by the dead columns that real encoders have. NaN where the targets
    do not vary.
    """
    residual = (target - predicted).square().sum()
    total = (target - target.mean(0)).square().sum()
    return float(1 - residual / total) if total > 0 else float("nan")


def counterpart_ranks(
    predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """Rank of each prediction's true counterpart among all targets, by cosine; 1 is best.

    Ties share their mean rank, so that equal targets or constant predictions gain nothing.
    """
    queries = torch.nn.functional.normalize(predicted, dim=1)
    candidates = torch.nn.functional.normalize(target, dim=1)
    ranks = []
    for start in range(0, len(queries), _QUERIES_PER_BLOCK):
        block = queries[start : start + _QUERIES_PER_BLOCK] @ candidates.mT
        rows = torch.arange(len(block), device=block.device)
        own = block[rows, rows + start][:, None]
        close = (block - own).abs() <= 4 * torch.finfo(block.dtype).eps
        better = ((block > own) & ~close).sum(1)
        ranks.append(1 + better + (close.sum(1) - 1) / 2)
    return torch.cat(ranks)


def recall_at_k(ranks: Float[Tensor, " n"], k: int) -> float:
    """Share of predictions whose counterpart is among the k nearest targets."""
    return float((ranks <= k).double().mean())


def mean_reciprocal_rank(ranks: Float[Tensor, " n"]) -> float:
    """Mean of 1 / rank."""
    return float(ranks.double().reciprocal().mean())
