"""How well predicted latents match their true counterparts, and how alike two spaces are."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from hf_latent_bridge.moments import PairedMoments

NAMES = ("cosine", "r2", "recall@1", "recall@10", "mrr")
TIE_EPS = 4  # similarities that differ by less than this many roundings are equal
_VALUES_PER_BLOCK = 2**24


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
    ranks = []
    for start, block in similarity_blocks(predicted, target):
        rows = torch.arange(len(block), device=block.device)
        own = block[rows, rows + start][:, None]
        close = (block - own).abs() <= TIE_EPS * torch.finfo(block.dtype).eps
        better = ((block > own) & ~close).sum(1)
        ranks.append(1 + better + (close.sum(1) - 1) / 2)
    return torch.cat(ranks)


def similarity_blocks(
    predicted: Float[Tensor, "n d"], target: Float[Tensor, "m d"]
) -> Iterator[tuple[int, Float[Tensor, "rows m"]]]:
    """Cosine similarities of some predictions with all targets, and the first row's number.

    A block holds at most 16 million values (or one row), however many targets there are.
    """
    queries = torch.nn.functional.normalize(predicted, dim=1)
    candidates = torch.nn.functional.normalize(target, dim=1)
    rows = max(1, _VALUES_PER_BLOCK // max(1, len(candidates)))
    for start in range(0, len(queries), rows):
        yield start, queries[start : start + rows] @ candidates.mT


def recall_at_k(ranks: Float[Tensor, " n"], k: int) -> float:
    """Share of predictions whose counterpart is among the k nearest targets."""
    return float((ranks <= k).double().mean())


def mean_reciprocal_rank(ranks: Float[Tensor, " n"]) -> float:
    """Mean of 1 / rank."""
    return float(ranks.double().reciprocal().mean())


def linear_cka(moments: PairedMoments) -> float:
    """Linear centred kernel alignment of two spaces: 1 if they are equal up to turn and scale.

    ||Sxy||² / (||Sxx|| ||Syy||), equation (1) with linear kernels of Kornblith et al.,
    "Similarity of Neural Network Representations Revisited" (ICML 2019). With fewer pairs than
    some times the width it is biased upwards: see `debiased_linear_cka`. NaN where a side does
    not vary.

    Raises:
        InvalidLatentsError: The moments keep only the diagonal of Syy.
    """
    reverse = moments.swap()
    return _alignment(*(_squared(s) for s in (moments.sxy, moments.sxx, reverse.sxx)))


def debiased_linear_cka(x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"]) -> float:
    """Linear CKA from unbiased estimates of HSIC: about 0 for unrelated spaces, at any n.

    Each squared norm of `linear_cka` is replaced by n (n - 3) times HSIC_1 of Song et al.,
    "Feature Selection via Dependence Maximization" (JMLR 2012), equation (5), which for linear
    kernels of centred rows is
    ||Sxy||² - n/(n-2) Σ |x_i|²|y_i|² + Σ|x_i|² Σ|y_i|² / ((n-1)(n-2)); no n by n matrix is
    made. It can be slightly negative; NaN with fewer than four pairs or where a side does not
    vary.
    """
    n = len(x)
    if n < 4:
        return float("nan")
    moments = PairedMoments.from_batch(x, y, full_syy=True)
    a, b = ((t - t.mean(0)).double().square().sum(1) for t in (x, y))

    def unbiased(s: Tensor, a: Tensor, b: Tensor) -> float:
        return _squared(s) - float(n / (n - 2) * a @ b - a.sum() * b.sum() / ((n - 1) * (n - 2)))

    return _alignment(
        unbiased(moments.sxy, a, b), unbiased(moments.sxx, a, a), unbiased(moments.syy, b, b)
    )


def _squared(matrix: Tensor) -> float:
    return float(matrix.square().sum())


def _alignment(between: float, within_x: float, within_y: float) -> float:
    if min(within_x, within_y) <= 0:
        return float("nan")
    return between / math.sqrt(within_x * within_y)
