"""Scores of paired latents, linear CKA, bootstrap intervals and permutation tests."""

import math
from collections.abc import Iterator

import scipy.special
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.latents import unit_rows
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Problem

_SHUFFLED_LEVEL, _WOULD_SHOW = 0.01, 1e-4
_FEWEST_TO_TELL = 40  # pairs
_NULL_DIRECTION = 1e-10  # eigenvalues below this share of the largest are rounding
_SKEW = 5  # variance of a chi-square with one degree of freedom over its square below the mean
NAMES = ("cosine", "r2", "recall@1", "recall@10", "mrr")
LEVEL = 0.95  # of the bootstrap intervals
TIE_EPS = 4  # similarities that differ by less than this many roundings are equal
_TOP = (1, 10)


def mean_cosine(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> float:
    """Mean cosine similarity of predictions and counterparts; 0 for a row of zeros."""
    return float(_cosines(predicted, target).mean())


def r2_score(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> float:
    """Share of the variance of the targets that the predictions explain, over all columns.

    Equals scikit-learn's `r2_score(target, predicted, multioutput="variance_weighted")`; a mean
    over columns would depend on the constant columns that real encoders have. NaN if the targets do
    not vary.
    """
    residual = (target - predicted).square().sum()
    total = _centred(target).square().sum()
    return float(1 - residual / total) if total > 0 else float("nan")


def counterpart_ranks(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "m d"],
    *,
    values_per_block: int = 2**24,
) -> Float[Tensor, " n"]:
    """Rank of each prediction's true counterpart among all targets, by cosine; 1 is best.

    Ties share their mean rank, so that equal targets or constant predictions gain nothing.

    Args:
        predicted: Predictions, (n, d).
        target: Their counterparts, in order, and any other candidates after them, (m, d), m >= n.
        values_per_block: Similarities in memory at a time, at least one row of them.
    """
    ranks = []
    for start, block in similarity_blocks(predicted, target, values_per_block=values_per_block):
        rows = torch.arange(len(block), device=block.device)
        own = block[rows, rows + start][:, None]
        close = (block - own).abs() <= TIE_EPS * torch.finfo(block.dtype).eps
        better = ((block > own) & ~close).sum(1)
        ranks.append(1 + better + (close.sum(1) - 1) / 2)
    return torch.cat(ranks)


def similarity_blocks(
    predicted: Float[Tensor, "n d"], target: Float[Tensor, "m d"], *, values_per_block: int = 2**24
) -> Iterator[tuple[int, Float[Tensor, "rows m"]]]:
    """Yields the first row of a block, and cosine similarities of its predictions with all targets.

    A block has at most `values_per_block` values, or one row.
    """
    queries = unit_rows(predicted)
    candidates = unit_rows(target)
    rows = max(1, values_per_block // max(1, len(candidates)))
    for start in range(0, len(queries), rows):
        yield start, queries[start : start + rows] @ candidates.mT


def nearest_others(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    k: int,
    *,
    values_per_block: int = 2**24,
) -> Int[Tensor, "n k"]:
    """Rows of the nearest targets of each prediction by cosine, its own counterpart left out.

    Args:
        predicted: Predictions, (n, d); the targets themselves for the target encoder's ranking.
        target: Their counterparts, (n, d).
        k: How many to find, less than n.
        values_per_block: Similarities in memory at a time, at least one row of them.
    """
    found = []
    for start, block in similarity_blocks(predicted, target, values_per_block=values_per_block):
        block[:, start : start + len(block)].fill_diagonal_(-torch.inf)
        found.append(block.topk(k, dim=1).indices)
    return torch.cat(found)


def overlap(found: Int[Tensor, "n k"], wanted: Int[Tensor, "n k"]) -> float:
    """Mean share of the wanted rows that were found; NaN where none is wanted."""
    return float(overlaps(found, wanted).mean())


def overlaps(found: Int[Tensor, "n k"], wanted: Int[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """For each query the share of the wanted rows that were found."""
    return (found[:, :, None] == wanted[:, None, :]).any(1).double().mean(1)


def same_class(found: Int[Tensor, "n k"], classes: Int[Tensor, " n"]) -> float:
    """Mean share of the found rows that have the class of the row that looks for them."""
    return float((classes[found] == classes[:, None]).double().mean())


def recall_at_k(ranks: Float[Tensor, " n"], k: int) -> float:
    """Share of predictions whose counterpart is among the k nearest targets."""
    return float((ranks <= k).double().mean())


def mean_reciprocal_rank(ranks: Float[Tensor, " n"]) -> float:
    """Mean of 1 / rank."""
    return float(ranks.double().reciprocal().mean())


def linear_cka(moments: PairedMoments) -> float:
    """Linear centred kernel alignment of two spaces: 1 if they are equal up to turn and scale.

    ||Sxy||² / (||Sxx|| ||Syy||), equation (1) with linear kernels of Kornblith et al.,
    "Similarity of Neural Network Representations Revisited" (ICML 2019). Biased
    upwards unless there are many times as many pairs as dimensions: see `debiased_linear_cka`. NaN
    if a side does not vary.

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
    made. It can be slightly negative. NaN with fewer than four pairs or if a side does not vary.
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


def look_shuffled(moments: PairedMoments) -> bool:
    """Whether the pairs explain no more than shuffled ones do, although a relation would show.

    The statistic is ||Sxy||² of standardised latents, over its mean under random pairing,
    tr(Sxx) tr(Syy) / (n - 1): the numerator of the RV coefficient (Robert & Escoufier, 1976) and
    of linear CKA. In the principal axes of the source it is a mean of squared row lengths,
    weighted by the eigenvalues of Sxx. Under random pairing these lengths are independent, with
    mean 1 and one variance, which Syy decides; as Syy is not in the moments, the variance is read
    off the scatter of the lengths below 1, where no relation can add to it. A chi-square with the
    same mean and variance gives the p-value, as in Josse, Pagès & Husson, "Testing the
    significance of the RV coefficient" (2008).

    At least 40 pairs look shuffled if p > 0.01 although half the strongest possible relation would
    have had p < 1e-4; fewer are too few to tell. In simulations (spectra of effective rank 2 to
    200, 50 to 1,000 pairs) 97 to 100 % of shuffled pairs are found, and no related ones with an
    R² of 0.5 at 10 to 50 pairs, 0.3 at 100 or 0.05 at 500. Moments with only the diagonal of Sxx
    cannot tell. Pairs that pass with the largest variance that could be read off need no principal
    axes.
    """
    if moments.n < _FEWEST_TO_TELL or not moments.has_full_sxx:
        return False
    problem = Problem.from_moments(moments, "standard")
    n_live, degrees = int((~problem.flat_y).sum()), moments.n - 1
    if _shows(problem, moments.n, variance=_SKEW * _concentration(problem.c)):
        return False
    values, axes = torch.linalg.eigh(problem.c)
    noise = float(values[-1]) * max(moments.eps * len(values) ** 0.5, _NULL_DIRECTION)
    keep = values > max(noise, 0.0)
    if n_live == 0 or not keep.any():
        return False
    values = values[keep]
    lengths = (axes[:, keep].mT @ problem.k).square().sum(1) * (degrees / n_live) / values
    weights = values / values.sum()
    below = float((1 - lengths).clamp(min=0).square().sum())
    variance = _SKEW * (below + 2 / _SKEW) / (len(lengths) + 1)  # as if one more row of rank 1
    variance *= float(weights.square().sum()) - 1 / degrees
    if variance <= 0:
        return False
    ratio, strongest = float(weights @ lengths), degrees * float(weights.square().sum())
    visible = _upper_tail((1 + strongest) / 2, variance) < _WOULD_SHOW
    return visible and _upper_tail(ratio, variance) > _SHUFFLED_LEVEL


def clearly_related(moments: PairedMoments) -> bool:
    """Whether `look_shuffled` would say no whatever Sxx is, told from Sxy and two diagonals.

    The statistic is the same; its variance under random pairing is taken at its largest, 2, which
    it has where each side varies along one axis only.
    """
    if moments.n < _FEWEST_TO_TELL:
        return False
    problem = Problem.from_moments(moments, "standard", full_sxx=False)
    return _shows(problem, moments.n, variance=2.0)


def _shows(problem: Problem, n: int, *, variance: float) -> bool:
    """Whether n pairs explain more than shuffled ones would with this variance of the ratio."""
    total = problem.c.trace() if problem.c.ndim == 2 else problem.c.sum()
    expected = float(total) * int((~problem.flat_y).sum()) / (n - 1)
    ratio = _squared(problem.k) / expected if expected > 0 else 0.0
    return _upper_tail(ratio, variance) <= _SHUFFLED_LEVEL


def _concentration(c: Tensor) -> float:
    """The sum of the squared shares of the variance along principal axes; 1 for one axis only."""
    total = float(c.trace())
    return _squared(c) / total**2 if total > 0 else 1.0


def _upper_tail(ratio: float, variance: float) -> float:
    """How often a chi-square that is scaled to mean 1 and this variance exceeds a ratio."""
    return float(scipy.special.gammaincc(1 / variance, ratio / variance))


def _squared(matrix: Tensor) -> float:
    return float(matrix.square().sum())


def _alignment(between: float, within_x: float, within_y: float) -> float:
    if min(within_x, within_y) <= 0:
        return float("nan")
    return between / math.sqrt(within_x) / math.sqrt(within_y)  # their product may underflow


def bootstrap_intervals(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    ranks: Float[Tensor, " n"],
    *,
    n_bootstrap: int,
    seed: int,
    values_per_block: int = 2**22,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of each score, over pairs drawn with replacement.

    The retrieval candidates and the mean that R² compares with stay those of all pairs, which
    changes the intervals by 1/n only.

    Args:
        predicted: Predictions, (n, d).
        target: Their counterparts, (n, d).
        ranks: `counterpart_ranks` of the two.
        n_bootstrap: Number of draws.
        seed: Seeds the draws.
        values_per_block: Drawn row numbers in memory at a time, at least one draw of them.

    Returns:
        Lower and upper end by score; NaN for R² if the targets do not vary.
    """
    values = _values_of_pairs(predicted, target, ranks).cpu()
    means = _bootstrap_means(values, n_bootstrap, seed, values_per_block)
    cosine, residual, spread, *retrieval = means.unbind(1)
    scores = _named(cosine, _r2(residual, spread), *retrieval)
    return {name: interval_of(score) for name, score in scores.items()}


def mean_interval(
    values: Float[Tensor, " n"], *, n_bootstrap: int, seed: int, values_per_block: int = 2**22
) -> tuple[float, float]:
    """95 % percentile interval of the mean of some values, drawn with replacement.

    Args:
        values: One for each pair, such as the differences of two scores.
        n_bootstrap: Number of draws.
        seed: Seeds the draws.
        values_per_block: Drawn row numbers in memory at a time, at least one draw of them.
    """
    columns = values.double().cpu()[:, None]
    return interval_of(_bootstrap_means(columns, n_bootstrap, seed, values_per_block)[:, 0])


def _bootstrap_means(values: Tensor, n_bootstrap: int, seed: int, values_per_block: int) -> Tensor:
    """Means of each column over rows drawn with replacement, (n_bootstrap, columns)."""
    n = len(values)
    draw = torch.Generator().manual_seed(seed)
    draws_per_block = max(1, values_per_block // n)
    means = []
    for start in range(0, n_bootstrap, draws_per_block):
        rows = min(draws_per_block, n_bootstrap - start)
        picks = torch.randint(n, (rows, n), generator=draw)
        offset = torch.arange(rows)[:, None] * n
        counts = torch.bincount((picks + offset).flatten(), minlength=rows * n).view(rows, n)
        means.append(counts.double() @ values / n)
    return torch.cat(means)


def interval_of(draws: Float[Tensor, " draws"]) -> tuple[float, float]:
    """The ends of the interval that holds 95 % of the draws."""
    tail = (1 - LEVEL) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    lower, upper = torch.quantile(draws, ends).tolist()
    return lower, upper


def permutation_scores(
    predicted: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    *,
    n_permutations: int,
    seed: int,
    values_per_block: int = 2**24,
) -> dict[str, Float[Tensor, " draws"]]:
    """Each score of the true pairing (first) and of `n_permutations` random ones.

    Each block of the similarity matrix is computed once and sorted by row, which gives the rank of
    any candidate in any pairing. Memory grows with n times the number of pairings, not with n².

    Args:
        predicted: Predictions, (n, d).
        target: Their counterparts, (n, d).
        n_permutations: Number of random pairings.
        seed: Seeds the pairings.
        values_per_block: Similarities in memory at a time, at least one row of them.
    """
    pairings = random_pairings(len(target), n_permutations, seed).to(target.device)
    lengths, target_lengths = predicted.norm(dim=1).double(), target.norm(dim=1).double()
    sums = torch.zeros(3 + len(_TOP), n_permutations + 1, dtype=torch.float64, device=target.device)
    for start, block in similarity_blocks(predicted, target, values_per_block=values_per_block):
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
    spread = _centred(target).double().square().sum(1).mean().cpu()
    return _named(cosine, _r2(squares - 2 * product, spread), *retrieval)


def p_value(scores: Float[Tensor, " draws"]) -> float:
    """Share of pairings, the true one (first) included, that score at least as well as it.

    NaN if there is no score.
    """
    reached = (scores >= scores[0]).double().mean()
    return math.nan if scores[0].isnan() else float(reached)


def _named(*scores: Tensor) -> dict[str, Tensor]:
    return dict(zip(NAMES, scores, strict=True))


def _r2(residual: Tensor, spread: Tensor) -> Tensor:
    return torch.where(spread > 0, 1 - residual / spread, torch.nan)


def _centred(target: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Targets less their mean; exactly zero where all are equal, whatever rounding does."""
    apart = target - target[:1]
    return apart - apart.mean(0)


def _cosines(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return (unit_rows(predicted) * unit_rows(target)).sum(1)


def _values_of_pairs(predicted: Tensor, target: Tensor, ranks: Tensor) -> Tensor:
    """The values of each pair whose means are the scores, (n, 6); columns 1 and 2 are for R²."""
    columns = [
        _cosines(predicted, target),
        (target - predicted).square().sum(1),
        _centred(target).square().sum(1),
        *(ranks <= k for k in _TOP),
        ranks.double().reciprocal(),
    ]
    return torch.stack([column.double() for column in columns], dim=1)


def random_pairings(n: int, n_permutations: int, seed: int) -> Int[Tensor, "draws n"]:
    """The target of each of `n` predictions: its own in the first row, random in the others."""
    draw = torch.Generator().manual_seed(seed)
    pairings = torch.empty(n_permutations + 1, n, dtype=torch.int32)
    pairings[0] = torch.arange(n)
    for row in pairings[1:]:
        row[:] = torch.randperm(n, generator=draw)
    return pairings


def _ranks(block: Float[Tensor, "m n"], own: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
    """Ranks of similarities among their row, as `counterpart_ranks` counts ties."""
    ordered = _sorted(block)
    tie = TIE_EPS * torch.finfo(block.dtype).eps
    below = torch.searchsorted(ordered, own - tie)
    up_to = torch.searchsorted(ordered, own + tie, right=True)
    return 1 + (block.shape[1] - up_to) + (up_to - below - 1) / 2


def _sorted(block: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Rows in ascending order; on a CPU NumPy sorts several times as fast as torch."""
    if block.device.type != "cpu":
        return block.sort(dim=1).values
    block.numpy().sort(axis=1)
    return block
