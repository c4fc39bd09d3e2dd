"""How sure a score is: bootstrap intervals over pairs, and what shuffled pairings score by chance.

Sources: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile
intervals); Phipson & Smyth, "Permutation P-values Should Never Be Zero" (2010).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge import metrics

LEVEL = 0.95
_VALUES_PER_BLOCK = 2**22
_TOP = (1, 10)


def bootstrap_intervals(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    ranks: Float[Tensor, " n"],
    *,
    n_bootstrap: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of each score, over pairs drawn with replacement.

    The candidates of retrieval and the mean that R² compares with are those of all pairs: both
    move by 1/n only.

    Args:
        predicted: Predictions, (n, d).
        target: Their counterparts, (n, d).
        ranks: `metrics.counterpart_ranks` of the two.
        n_bootstrap: Number of draws.
        seed: Seeds the draws.

    Returns:
        Lower and upper end by score; NaN for R² where the targets do not vary.
    """
    values = _values_of_pairs(predicted, target, ranks).cpu()
    n = len(values)
    draw = torch.Generator().manual_seed(seed)
    draws_per_block = max(1, _VALUES_PER_BLOCK // n)
    means = []
    for start in range(0, n_bootstrap, draws_per_block):
        rows = min(draws_per_block, n_bootstrap - start)
        picks = torch.randint(n, (rows, n), generator=draw)
        offset = torch.arange(rows)[:, None] * n
        counts = torch.bincount((picks + offset).flatten(), minlength=rows * n).view(rows, n)
        means.append(counts.double() @ values / n)
    cosine, residual, spread, *retrieval = torch.cat(means).unbind(1)
    scores = _named(cosine, _r2(residual, spread), *retrieval)
    tail = (1 - LEVEL) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    lower_upper = {name: torch.quantile(score, ends).tolist() for name, score in scores.items()}
    return {name: (lower, upper) for name, (lower, upper) in lower_upper.items()}


def permutation_scores(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    *,
    n_permutations: int,
    seed: int,
) -> dict[str, Float[Tensor, " draws"]]:
    """Each score of the true pairing, first, and of `n_permutations` random ones.

    All pairings are read off one block of the similarity matrix after another: a sorted row tells
    the rank of any candidate. Memory grows with n times the number of pairings, never with n².

    Args:
        predicted: Predictions, (n, d).
        target: Their counterparts, (n, d).
        n_permutations: Number of random pairings.
        seed: Seeds the pairings.
    """
    pairings = _pairings(len(target), n_permutations, seed).to(target.device)
    lengths, target_lengths = predicted.norm(dim=1).double(), target.norm(dim=1).double()
    sums = torch.zeros(3 + len(_TOP), n_permutations + 1, dtype=torch.float64, device=target.device)
    for start, block in metrics.similarity_blocks(predicted, target):
        rows = slice(start, start + len(block))
        partners = pairings[:, rows].mT.long()
        own = block.gather(1, partners)
        ranks = _ranks(block, own)
        cosines = own.double()
        products = cosines * lengths[rows, None] * target_lengths[partners]
        hits = [(ranks <= k).sum(0) for k in _TOP]
        parts = [cosines.sum(0), products.sum(0), *hits, ranks.double().reciprocal().sum(0)]
        sums += torch.stack([part.double() for part in parts])
    cosine, product, *retrieval = sums.cpu() / len(target)
    squares = (lengths.square() + target_lengths.square()).mean().cpu()
    spread = (target - target.mean(0)).double().square().sum(1).mean().cpu()
    return _named(cosine, _r2(squares - 2 * product, spread), *retrieval)


def p_value(scores: Float[Tensor, " draws"]) -> float:
    """Share of pairings, the true one (the first) among them, that score at least as well as it."""
    return float((scores >= scores[0]).double().mean())


def _named(*scores: Tensor) -> dict[str, Tensor]:
    return dict(zip(metrics.NAMES, scores, strict=True))


def _r2(residual: Tensor, spread: Tensor) -> Tensor:
    return torch.where(spread > 0, 1 - residual / spread, torch.nan)


def _values_of_pairs(predicted: Tensor, target: Tensor, ranks: Tensor) -> Tensor:
    """What the scores are means of, (n, 6): R² is one less the ratio of columns 1 and 2."""
    columns = [
        torch.nn.functional.cosine_similarity(predicted, target, dim=1),
        (target - predicted).square().sum(1),
        (target - target.mean(0)).square().sum(1),
        *(ranks <= k for k in _TOP),
        ranks.double().reciprocal(),
    ]
    return torch.stack([column.double() for column in columns], dim=1)


def _pairings(n: int, n_permutations: int, seed: int) -> Int[Tensor, "draws n"]:
    draw = torch.Generator().manual_seed(seed)
    pairings = torch.empty(n_permutations + 1, n, dtype=torch.int32)
    pairings[0] = torch.arange(n)
    for row in pairings[1:]:
        row[:] = torch.randperm(n, generator=draw)
    return pairings


def _ranks(block: Float[Tensor, "m n"], own: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
    """Ranks of similarities among their row, as `metrics.counterpart_ranks` counts ties."""
    ordered = _sorted(block)
    tie = metrics.TIE_EPS * torch.finfo(block.dtype).eps
    below = torch.searchsorted(ordered, own - tie)
    up_to = torch.searchsorted(ordered, own + tie, right=True)
    return 1 + (block.shape[1] - up_to) + (up_to - below - 1) / 2


def _sorted(block: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Rows in ascending order; on a CPU, NumPy's vectorised sort is several times as fast."""
    if block.device.type != "cpu":
        return block.sort(dim=1).values
    block.numpy().sort(axis=1)
    return block
