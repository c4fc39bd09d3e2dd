"""Closed-form maps between latent spaces, solved from paired moments alone.

Names and estimators follow Maiorca et al., "Latent Space Translation via Semantic Alignment"
(NeurIPS 2023, arXiv 2311.00664), section 3; rows are latents, so a map is y = x @ weight + bias.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import scipy.linalg
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_latent_bridge.errors import SolverError
from hf_latent_bridge.moments import PairedMoments

Scaling = Literal["standard", "pareto", "center", "none"]
SCALINGS: tuple[Scaling, ...] = ("standard", "pareto", "center", "none")
DIVISORS: Mapping[Scaling, float] = {"standard": 0.5, "pareto": 0.25}
"""The power of a column's variance by which it is divided; Pareto: van den Berg et al. (2006)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Paired moments in the coordinates a solver works in: x ← (x - shift_x) / scale_x.

    A column that is constant in the pairs (`is_flat`) is left alone under every scaling: its
    products are zero here, so that no method gives it a weight, and a constant target column comes
    out as its mean.

    Attributes:
        c: Mean of x xᵀ, (d_x, d_x), or only its diagonal (d_x,).
        k: Mean of x yᵀ, (d_x, d_y).
        shift_x: (d_x,); under scaling "none" zero except for constant columns.
        shift_y: (d_y,); under scaling "none" zero except for constant columns.
        scale_x: (d_x,), one except under scaling "standard" and "pareto".
        scale_y: (d_y,), one except under scaling "standard" and "pareto".
        flat_x: Which source columns are constant, (d_x,).
        flat_y: Which target columns are constant, (d_y,).
        n: How many pairs: the latents vary in no more directions.
        eps: Relative precision of c and k.
    """

    c: Float[Tensor, "d_x d_x"] | Float[Tensor, " d_x"]
    k: Float[Tensor, "d_x d_y"]
    shift_x: Float[Tensor, " d_x"]
    shift_y: Float[Tensor, " d_y"]
    scale_x: Float[Tensor, " d_x"]
    scale_y: Float[Tensor, " d_y"]
    flat_x: Bool[Tensor, " d_x"]
    flat_y: Bool[Tensor, " d_y"]
    n: int
    eps: float

    @classmethod
    def from_moments(
        cls, moments: PairedMoments, scaling: Scaling, *, full_sxx: bool = True
    ) -> "Problem":
        """Centres and scales the moments, each side by the statistics of its own latents.

        Args:
            moments: The pairs' moments.
            scaling: "standard" for mean 0 and standard deviation 1, "pareto" for mean 0 and the
                root of the deviation, "center" for mean 0, "none" for the latents as they are.
            full_sxx: Whether all of C is needed, not just its diagonal.

        Raises:
            InvalidLatentsError: All of C is needed, and the moments hold only its diagonal.
        """
        m, n = moments, moments.n
        variance_x, variance_y = m.sxx_diagonal / n, m.syy_diagonal / n
        flat_x, flat_y = is_flat(variance_x, m.mean_x), is_flat(variance_y, m.mean_y)
        shift_x, shift_y = m.mean_x, m.mean_y
        scale_x, scale_y = torch.ones_like(shift_x), torch.ones_like(shift_y)
        c, k = variance_x, m.sxy / n
        if full_sxx:
            sxx = m.whole_sxx()
            c = (sxx + sxx.mT) / (2 * n)

        def squared(values: Tensor) -> Tensor:
            return torch.outer(values, values) if full_sxx else values.square()

        if scaling in DIVISORS:
            scale_x = torch.where(flat_x, 1.0, variance_x.clamp(min=0) ** DIVISORS[scaling])
            scale_y = torch.where(flat_y, 1.0, variance_y.clamp(min=0) ** DIVISORS[scaling])
            c, k = c / squared(scale_x), k / torch.outer(scale_x, scale_y)
        elif scaling == "none":
            c, k = c + squared(shift_x), k + torch.outer(shift_x, shift_y)
            shift_x, shift_y = shift_x * flat_x, shift_y * flat_y
        c = c.masked_fill(flat_x[:, None] | flat_x if full_sxx else flat_x, 0.0)
        k[flat_x], k[:, flat_y] = 0, 0
        return cls(c, k, shift_x, shift_y, scale_x, scale_y, flat_x, flat_y, n, m.eps)

    def solution(self, w: Float[Tensor, "d_x d_y"], rank: int, full_rank: int) -> "Solution":
        """Folds shift and scale of both sides into `w`: one affine map of plain latents.

        Weights of constant columns are set to exactly zero.
        """
        weight = w * self.scale_y / self.scale_x[:, None]
        weight[self.flat_x] = 0
        weight[:, self.flat_y] = 0
        return Solution(weight, self.shift_y - self.shift_x @ weight, rank, full_rank)

    def family(self, left: Tensor, right: Tensor, values: Tensor) -> "MapFamily":
        """The same for `left @ diag(values[i]) @ right`, without any of these products."""
        left, right = left / self.scale_x[:, None], right * self.scale_y
        left[self.flat_x] = 0
        right[:, self.flat_y] = 0
        return MapFamily(left, right, self.shift_x, self.shift_y, values)


@dataclass(frozen=True, eq=False)
class MapFamily:
    """Affine maps of plain latents that differ only in the values between two factors.

    Map i takes x to shift_y + ((x - shift_x) @ left * values[i]) @ right. A few latents are
    translated, and R² is told from moments, at a small part of what the weights of a map cost.

    Attributes:
        left: (d_x, k).
        right: (k, d_y).
        shift_x: (d_x,).
        shift_y: (d_y,).
        values: (maps, k).
    """

    left: Float[Tensor, "d_x k"]
    right: Float[Tensor, "k d_y"]
    shift_x: Float[Tensor, " d_x"]
    shift_y: Float[Tensor, " d_y"]
    values: Float[Tensor, "maps k"]

    def predictions(self, x: Float[Tensor, "n d_x"]) -> Iterator[Float[Tensor, "n d_y"]]:
        """Translations by each map, in the dtype of `x`."""
        inside = ((x.to(self.left) - self.shift_x) @ self.left).to(x.dtype)
        right, shift = self.right.to(x), self.shift_y.to(x)
        for values in self.values.to(x):
            yield torch.addmm(shift, inside * values, right)


@dataclass(frozen=True, eq=False)
class Solution:
    """An affine map of plain latents, and how much of it the pairs determine.

    Attributes:
        weight: (d_x, d_y), float64.
        bias: (d_y,), float64.
        rank: Directions that the pairs determine.
        full_rank: Directions that the method would need to be determined.
    """

    weight: Float[Tensor, "d_x d_y"]
    bias: Float[Tensor, " d_y"]
    rank: int
    full_rank: int


def solve_least_squares(
    problem: Problem, *, alpha: float = 0.0, rank: int | None = None
) -> Solution:
    """Minimises mean ‖x W - y‖² + alpha ‖W‖²: the paper's `linear`, and ridge for alpha > 0.

    With n pairs, scikit-learn's `Ridge(alpha=n * alpha)` on the scaled latents is the same.
    Where the pairs leave W undetermined, the solution of least norm is taken.

    Args:
        problem: Scaled moments.
        alpha: Penalty.
        rank: The best map of at most this rank; None for any.
    """
    return RidgePath.of(problem).ridge(alpha, rank=rank)


def solve_l_ortho(problem: Problem) -> Solution:
    """Flattens the singular values of `linear` to one: the paper's `l-ortho`, U Vᵀ of W."""
    return RidgePath.of(problem).l_ortho()


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Ridge solutions for any number of penalties, from one eigendecomposition.

    Fewer pairs than dimensions leave only as many directions, r, in which anything can vary.

    Attributes:
        problem: Scaled moments.
        values: The r largest eigenvalues of C, ascending, (r,).
        vectors: Their eigenvectors as columns, (d_x, r).
        projected: K in these eigenvectors, (r, d_y).
        rank: In how many directions the source varies more than rounding does.
    """

    problem: Problem
    values: Float[Tensor, " r"]
    vectors: Float[Tensor, "d_x r"]
    projected: Float[Tensor, "r d_y"]
    rank: int

    @classmethod
    def of(cls, problem: Problem) -> "RidgePath":
        """Decomposes C, which is all that the penalties share."""
        values, vectors = covariance_eigh(problem.c, problem.n)
        rank = _rank(values.flip(0), problem.eps, len(vectors))
        return cls(problem, values.clamp(min=0), vectors, vectors.mT @ problem.k, rank)

    @property
    def spread(self) -> float:
        """Mean variance of the source columns that vary: 1 under scaling "standard"."""
        return float(self.values.sum()) / max(1, self._n_columns)

    def freedom(self, alpha: float) -> float:
        """Effective degrees of freedom, as a share of the source columns that vary.

        1 where nothing is shrunk, 0 where everything is. Source: Hastie, Tibshirani & Friedman
        (2009), equation 3.50.

        Args:
            alpha: Penalty, above 0, in the units of C.
        """
        return float((self.values / (self.values + alpha)).sum()) / max(1, self._n_columns)

    @property
    def _n_columns(self) -> int:
        return int((~self.problem.flat_x).sum())

    def weight(self, alpha: float) -> Float[Tensor, "d_x d_y"]:
        """(C + alpha I)⁻¹ K, of least norm for alpha = 0; K itself, to which it tends, for inf.

        Args:
            alpha: Penalty, in the units of C.
        """
        if alpha == float("inf"):
            return self.problem.k
        first = len(self.values) - self.rank if alpha == 0 else 0
        shrunk = self.projected[first:] / (self.values[first:] + alpha)[:, None]
        return self.vectors[:, first:] @ shrunk

    def ridge(self, alpha: float, *, rank: int | None = None) -> Solution:
        """The ridge solution; least squares of least norm for alpha = 0.

        Args:
            alpha: Penalty, in the units of C.
            rank: The best map of at most this rank (Izenman 1975; with a penalty, Mukherjee & Zhu
                2011): predictions are projected on their own leading principal axes.
        """
        if rank is None:
            return self._solution(self.weight(alpha), alpha)
        (solution,) = self.low_rank(alpha, [rank])
        return solution

    def l_ortho(self) -> Solution:
        """Least squares with its singular values flattened to one."""
        w, rank = rotation(self.weight(0.0), self.problem.eps, most=self.rank)
        return self.problem.solution(w, rank, min(w.shape))

    def family(self, alphas: Sequence[float]) -> MapFamily:
        """The ridge solutions for several penalties.

        Args:
            alphas: Penalties above 0, in the units of C.
        """
        penalties = self.values.new_tensor(list(alphas))
        values = 1 / (self.values + penalties[:, None])
        return self.problem.family(self.vectors, self.projected, values)

    def low_rank(self, alpha: float, ranks: Sequence[int]) -> Iterator[Solution]:
        """`ridge(alpha, rank=...)` for several ranks, with one decomposition for all."""
        w = self.weight(alpha)
        first = len(self.values) - max(1, self.rank)
        roots = (self.values[first:] + alpha).clamp(min=_TINY).rsqrt()
        axes = w
        if min(ranks) < min(w.shape):
            axes = _svd(roots[:, None] * self.projected[first:], self.problem.eps)[2]
        for rank in ranks:
            whole = rank >= min(w.shape)
            yield self._solution(w if whole else (w @ axes[:rank].mT) @ axes[:rank], alpha)

    def _solution(self, w: Tensor, alpha: float) -> Solution:
        full = len(w)
        return self.problem.solution(w, self.rank if alpha == 0 else full, full)

    def spectrum(self, alpha: float) -> "Spectrum":
        """The singular vectors of the ridge solution, for any exponent.

        Args:
            alpha: Penalty, in the units of C; inf for the singular vectors of K.
        """
        first = len(self.values) - max(1, self.rank)  # elsewhere the source does not vary
        shrunk = self.projected[first:]
        if alpha != float("inf"):
            shrunk = shrunk / (self.values[first:] + alpha).clamp(min=_TINY)[:, None]
        u, s, vh = _svd(shrunk, self.problem.eps)
        keep = min(_rank(s, self.problem.eps, max(self.problem.k.shape)), self.rank)
        u, s, vh = u[:, :keep], s[:keep], vh[:keep]
        return Spectrum(
            self.problem,
            self.vectors[:, first:] @ u,
            s,
            vh,
            covariances=((u.mT @ self.projected[first:]) * vh).sum(1),
            variances=self.values[first:] @ u.square(),
            determined=alpha > 0,
        )


@dataclass(frozen=True, eq=False)
class Decomposed:
    """Moments of pairs, and what is made of them when it is needed, and once.

    Attributes:
        moments: Of the pairs.
    """

    moments: PairedMoments
    _paths: dict[Scaling, RidgePath] = field(default_factory=dict)

    def path(self, scaling: Scaling) -> RidgePath:
        """The ridge solutions under this scaling."""
        if scaling not in self._paths:
            self._paths[scaling] = RidgePath.of(Problem.from_moments(self.moments, scaling))
        return self._paths[scaling]

    def sxx_factors(self, left: Float[Tensor, "d_x k"]) -> tuple[Tensor, Tensor]:
        """The two factors, first transposed, of leftᵀ Sxx left: (r, k) each."""
        basis, inside = self._sxx
        left = left if basis is None else basis.mT @ left
        return left, inside @ left

    @cached_property
    def _sxx(self) -> tuple[Tensor | None, Tensor]:
        """Sxx of few pairs in a basis of its columns; the whole of it where they are many."""
        sxx = self.moments.whole_sxx()
        basis = _column_basis(sxx, self.moments.n)
        return basis, sxx if basis is None else basis.mT @ sxx @ basis


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The ridge solution of one penalty as U S Vᵀ, whose singular values can be flattened.

    Directions in which the pairs do not co-vary are left out: they are mapped to zero.

    Attributes:
        problem: Scaled moments.
        u: Left singular vectors as columns, (d_x, k).
        s: Singular values, (k,).
        vh: Right singular vectors as rows, (k, d_y).
        covariances: Of the source along u with the target along vh, (k,).
        variances: Of the source along u, (k,).
        determined: Whether a penalty determines the map in all directions.
    """

    problem: Problem
    u: Float[Tensor, "d_x k"]
    s: Float[Tensor, " k"]
    vh: Float[Tensor, "k d_y"]
    covariances: Float[Tensor, " k"]
    variances: Float[Tensor, " k"]
    determined: bool

    def weight(self, gamma: float, *, scale: bool = False) -> Float[Tensor, "d_x d_y"]:
        """U S^gamma Vᵀ in scaled coordinates.

        Args:
            gamma: 1 for the ridge solution, 0 for the rotation in it.
            scale: Multiply by the least-squares scalar, ⟨W, K⟩ / ⟨W, C W⟩.
        """
        return (self.u * self._values(gamma, scale)) @ self.vh

    def family(self, flattened: Sequence[tuple[float, bool]]) -> MapFamily:
        """The maps for several exponents, each with or without the least-squares scalar.

        Args:
            flattened: gamma and scale of each map.
        """
        values = torch.stack([self._values(gamma, scale) for gamma, scale in flattened])
        return self.problem.family(self.u, self.vh, values)

    def _values(self, gamma: float, scale: bool) -> Tensor:
        values = self.s.pow(gamma)
        spread = values.square() @ self.variances
        if scale and spread > 0:  # it is 0 where all source latents are equal
            values = values * ((values @ self.covariances) / spread)
        return values

    def solution(self, gamma: float, *, scale: bool = False) -> Solution:
        """The affine map with `weight(gamma)` at its centre; arguments as there."""
        full = min(self.problem.k.shape)
        rank = full if self.determined and gamma > 0 else len(self.s)
        return self.problem.solution(self.weight(gamma, scale=scale), rank, full)


def kernel_ridge(
    moments: PairedMoments, gram: Float[Tensor, "m m"], alphas: Sequence[float]
) -> Iterator[Solution]:
    """Ridge in the Nyström features of some landmarks (Williams & Seeger 2001), by penalty.

    The features are the similarities to the landmarks, whitened by the landmarks' own; similarities
    that the others determine are left out.

    Args:
        moments: Of similarities (n, m), and the target.
        gram: Similarities of the landmarks, (m, m).
        alphas: Penalties relative to the total variance of the features; above 0.
    """
    problem = Problem.from_moments(moments, "center")
    values, vectors = torch.linalg.eigh(gram)
    keep = values > values[-1] * max(problem.eps, _GRAM_NOISE) * len(values) ** 0.5
    whiten = vectors[:, keep] / values[keep].sqrt()
    c = whiten.mT @ problem.c @ whiten
    values, vectors = torch.linalg.eigh(c)
    axes = whiten @ vectors
    projected, total = axes.mT @ problem.k, values.sum().clamp(min=_TINY)
    for alpha in alphas:
        w = axes @ (projected / (values.clamp(min=0) + alpha * total)[:, None])
        yield problem.solution(w, len(w), len(w))


_GRAM_NOISE = 1e-10
_TINY = torch.finfo(torch.float64).tiny


def solve_ortho(problem: Problem, *, scale: bool | Literal["columns"] = False) -> Solution:
    """Orthogonal Procrustes (Schönemann 1966), the paper's `ortho`: U Vᵀ of the cross-covariance.

    For unequal widths the thin SVD gives what zero-padding the narrower side would. Directions
    in which the pairs do not co-vary are mapped to zero, not to an arbitrary rotation.

    Args:
        problem: Scaled moments.
        scale: Multiply by the least-squares scalar, sum(S) / trace(C); or, for "columns", each
            target column by its own least-squares scalar, diag(Wᵀ K) / diag(Wᵀ C W).

    Raises:
        SolverError: With `scale`, when all source latents are equal.
    """
    w, keep = rotation(problem.k, problem.eps, most=problem.n)
    if scale == "columns":
        spread = (w * (problem.c @ w)).sum(0)
        w = w * torch.where(spread > 0, (w * problem.k).sum(0) / spread, 0.0)
    elif scale:
        spread = problem.c.trace() if problem.c.ndim == 2 else problem.c.sum()
        if spread <= 0:
            raise SolverError("scale=True needs source latents that vary, got none that do")
        w = w * ((w * problem.k).sum() / spread)
    return problem.solution(w, keep, min(w.shape))


def rotation(
    matrix: Float[Tensor, "a b"],
    eps: float,
    *,
    most: int | None = None,
    by_products: bool | None = None,
) -> tuple[Float[Tensor, "a b"], int]:
    """U Vᵀ of the singular vectors whose values stand above rounding, and their number.

    Args:
        matrix: (a, b).
        eps: Relative precision of its entries.
        most: Largest number of them; None for any.
        by_products: Whether to try products alone first; None for wide matrices on a GPU, where
            they are faster. One core takes three times as long for them as for an SVD.
    """
    most = min(matrix.shape) if most is None else most
    if by_products is None:
        by_products = matrix.is_cuda and min(matrix.shape) >= _POLAR_FROM
    found = _polar(matrix, eps) if by_products else None
    if found is not None and found[1] <= most:
        return found
    basis = _column_basis(matrix, most)
    u, s, vh = _svd(matrix if basis is None else basis.mT @ matrix, eps)
    keep = min(_rank(s, eps, max(matrix.shape)), most)
    w = u[:, :keep] @ vh[:keep]
    return w if basis is None else basis @ w, keep


def covariance_eigh(matrix: Float[Tensor, "d d"], most: int) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues and eigenvectors of a covariance that has no more of them than most."""
    basis = _column_basis(matrix, most)
    inside = matrix if basis is None else basis.mT @ matrix @ basis
    values, vectors = torch.linalg.eigh(inside)
    first = max(0, len(values) - most)
    values, vectors = values[first:], vectors[:, first:]
    return values, vectors if basis is None else basis @ vectors


def _column_basis(matrix: Float[Tensor, "a b"], most: int) -> Float[Tensor, "a r"] | None:
    """Orthonormal columns that span those of a matrix of rank at most `most`.

    What random vectors become by the matrix spans its columns (Halko, Martinsson & Tropp 2011).

    Returns:
        None where it would save little.
    """
    width = most + _SPARE
    if _WORTH * width > min(matrix.shape):
        return None
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(matrix.shape[1], width, dtype=matrix.dtype, generator=generator)
    basis: Tensor = torch.linalg.qr(matrix @ probes.to(matrix))[0]
    return basis


_SPARE = 16  # probes beyond the rank, lest one direction is met too weakly
_WORTH = 3  # how many times wider a matrix must be


def _svd(matrix: Float[Tensor, "a b"], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of a matrix whose entries have a relative precision of eps.

    From the eigenvectors of matrix matrixᵀ in half the time, where the precision allows: singular
    values below 1e-8 of the largest are lost, and the error of others is 1e-16 of the largest
    value's square over their own, far below the rounding of float32 products.
    """
    squares_tell = eps > _GRAM_NOISE and matrix.device.type == "cpu"
    return _svd_by_gram(matrix) if squares_tell else svd(matrix)


def _svd_by_gram(matrix: Float[Tensor, "a b"]) -> tuple[Tensor, Tensor, Tensor]:
    if matrix.shape[0] > matrix.shape[1]:
        u, s, vh = _svd_by_gram(matrix.mT)
        return vh.mT, s, u.mT
    values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    u, s = vectors.flip(1), values.flip(0).clamp(min=0).sqrt()
    return u, s, (u.mT @ matrix) / s.clamp(min=_TINY**0.5)[:, None]


_POLAR_FROM = 256  # a smaller SVD takes no longer than the iteration
_STRETCH = 2.7  # at 3 small values would grow fastest, but those near 1 would shrink to nothing
_MARGIN = 16.0  # how far above rounding values must be for the iteration to be sure of them


def _polar(matrix: Float[Tensor, "a b"], eps: float) -> tuple[Tensor, int] | None:
    """`rotation` by products alone; None where values stand too near to rounding to be told apart.

    The scaled Newton-Schulz iteration (Björck & Bowie 1971; Chen & Chow 2014) takes all singular
    values from `low` to the largest to 1. Values of rounding end below 1 / _MARGIN, and purifying
    the Gram matrix (McWeeny 1960) takes their squares to 0.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    largest = float(tall.abs().max())
    if not 0 < largest < float("inf"):
        return None
    x = tall / largest
    gram = x.mT @ x
    top = float(torch.linalg.matrix_norm(gram @ gram)) ** 0.25  # no singular value is larger
    x, gram = x / top, gram / top**2
    low = _MARGIN * eps * max(matrix.shape) ** 0.5
    while 1 - low > 1e-8:
        square = min(_STRETCH, 3 / (1 + low + low * low))
        x, gram = _newton_schulz(x, gram, square)
        low = square**0.5 * min(low * (3 - square * low * low), 3 - square) / 2
    x, gram = _newton_schulz(x, gram, 1.0)
    for _ in range(3):
        twice = gram @ gram
        gram = 3 * twice - 2 * gram @ twice
    w = x @ gram
    left = float((w.mT @ w - gram).abs().max())
    if left > 1e-12:
        return None
    return w if tall is matrix else w.mT, round(float(gram.trace()))


def _newton_schulz(x: Tensor, gram: Tensor, square: float) -> tuple[Tensor, Tensor]:
    """One step for singular values of x times the root of `square`; and the new Gram matrix."""
    step = gram * (-0.5 * square**1.5)
    step.diagonal().add_(1.5 * square**0.5)
    x = x @ step
    return x, x.mT @ x


def svd(matrix: Float[Tensor, "a b"]) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD; where divide-and-conquer does not converge, the slower QR iteration is tried.

    Raises:
        SolverError: Neither converges.
    """
    try:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    except RuntimeError:  # torch's LinAlgError
        u, s, vh = _svd_by_qr_iteration(matrix)
    return u, s, vh


def pseudo_inverse(matrix: Float[Tensor, "a b"], noise: float) -> Float[Tensor, "b a"]:
    """The Moore-Penrose inverse.

    Args:
        matrix: (a, b).
        noise: Singular values that are no larger than this share of the largest count as zero.
    """
    u, s, vh = svd(matrix)
    keep = s > s[0] * noise
    return (vh[keep].mT / s[keep]) @ u[:, keep].mT


def _svd_by_qr_iteration(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    try:
        factors = scipy.linalg.svd(matrix.cpu().numpy(), full_matrices=False, lapack_driver="gesvd")
    except (scipy.linalg.LinAlgError, ValueError) as error:
        raise SolverError(
            f"the SVD of a {tuple(matrix.shape)} matrix does not converge ({error}): "
            "look for wild values in the latents, or use AffineTranslator(alpha=0.1)"
        ) from error
    u, s, vh = (torch.from_numpy(factor).to(matrix) for factor in factors)
    return u, s, vh


def _rank(descending: Tensor, eps: float, dim: int) -> int:
    """How many values stand above the rounding noise of products with relative precision eps."""
    largest = descending[0].clamp(min=0)
    return int((descending > largest * eps * dim**0.5).sum())


def is_flat(variance: Float[Tensor, " d"], mean: Float[Tensor, " d"]) -> Bool[Tensor, " d"]:
    """Which columns are constant but for float32 rounding.

    Encoders do have dead columns: MiniLM has three, with deviations of 1e-33 to 1e-9 beside 0.05,
    MPNet four, the liveliest at some 50 roundings where a typical one varies by millions.
    What varies there is noise, which scaling up to unit variance would put on a par with meaning;
    so a deviation is compared with the mean and with the other columns.
    """
    deviation = variance.clamp(min=0).sqrt()
    typical = deviation.square().mean().sqrt()
    return deviation <= 256 * torch.finfo(torch.float32).eps * torch.maximum(mean.abs(), typical)


@torch.no_grad()
def solve_by_gradient(
    moments: PairedMoments, scaling: Scaling, *, steps: int, lr: float, seed: int
) -> Solution:
    """Full-batch Adam on mean((x @ w + b - y)²) from a seeded `torch.nn.Linear` start.

    The gradient needs only second moments, so a step costs one (d_x, d_x) by (d_x, d_y) product
    whatever the number of pairs. Stopping early regularises: components along weak directions
    of the source stay near their random start.

    Args:
        moments: The pairs' moments.
        scaling: Coordinates in which the error is measured.
        steps: Adam steps.
        lr: Learning rate.
        seed: Seeds the start.
    """
    problem = Problem.from_moments(moments, scaling)
    mean_x = (moments.mean_x - problem.shift_x) / problem.scale_x
    mean_y = (moments.mean_y - problem.shift_y) / problem.scale_y
    w, b = _start(*problem.k.shape, seed=seed, like=problem.k)
    w[problem.flat_x], w[:, problem.flat_y], b[problem.flat_y] = 0, 0, 0
    optimizer = torch.optim.Adam([w, b], lr=lr)
    for _ in range(steps):
        w.grad = (problem.c @ w + torch.outer(mean_x, b) - problem.k) * (2 / len(b))
        b.grad = (mean_x @ w + b - mean_y) * (2 / len(b))
        optimizer.step()
    solution = problem.solution(w, rank=len(w), full_rank=len(w))
    solution.bias.add_(b * problem.scale_y)
    return solution


def _start(d_x: int, d_y: int, *, seed: int, like: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    bound = d_x**-0.5
    weight, bias = (
        torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        for shape in ((d_x, d_y), (d_y,))
    )
    return weight.to(like), bias.to(like)
