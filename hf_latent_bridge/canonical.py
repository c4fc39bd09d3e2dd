"""Canonical correlation of two or more views: a shared space in closed form, from moments alone.

Hotelling's canonical correlation (1936) with a ridge penalty in the whitening (Vinod 1976), read
as a probabilistic model of one signal behind all views (Bach & Jordan 2005): axis by axis, an
axis with correlation r between the views is weighted by r / (1 - r²). For more than two views the
axes are the leading eigenvectors of the whitened block moment (Kettenring 1971, MAXVAR).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, SolverError
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import svd

ViewMoments = Mapping[tuple[str, str], PairedMoments]

ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_LARGEST = {True: 0.999, False: 0.97}  # correlation taken for true, of two views and of more


@dataclass(frozen=True, eq=False)
class CanonicalView:
    """One view's way into the shared space: (x - mean) @ axes, before weighting.

    Attributes:
        mean: (d,).
        axes: (d, k), one column for each axis of the space.
        correlations: (k,), of each axis with the other views; in [0, 1).
    """

    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "d k"]
    correlations: Float[Tensor, " k"]

    def affine(self, shrink: float) -> tuple[Float[Tensor, "d k"], Float[Tensor, " k"]]:
        """Weight and bias of the map into the shared space.

        Args:
            shrink: Factor on the correlations, for those of a sample are larger than the true ones.
        """
        rho = shrink * self.correlations
        weight = self.axes * (rho / (1 - rho.square())).sqrt()
        return weight, -(self.mean @ weight)


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """The directions in which a view varies, with its mean variance brought to 1."""

    mean: Tensor
    vectors: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class CanonicalProblem:
    """Moments of several views in coordinates in which each penalty costs one decomposition.

    Attributes:
        spectra: For each view its mean, eigenvalues and eigenvectors.
        crosses: For each pair of views the cross-moment in their eigenvectors.
    """

    spectra: Mapping[str, _Spectrum]
    crosses: Mapping[tuple[str, str], Tensor]

    @classmethod
    def from_moments(cls, moments: ViewMoments) -> "CanonicalProblem":
        """Decomposes each view's covariance once.

        Args:
            moments: For each pair of views (a, b) the moments of items that both have seen, a as
                source, with all of Syy; one key for each two views, in either order.

        Raises:
            InvalidLatentsError: A pair of views is missing or there twice, or their widths differ
                from pair to pair, or only the diagonal of Syy was kept.
            SolverError: The latents of a view are all equal.
        """
        names = check_views(moments)
        spectra = {name: _spectrum(name, moments) for name in names}
        crosses = {
            (a, b): spectra[a].vectors.mT @ (m.sxy / m.n) @ spectra[b].vectors
            for (a, b), m in moments.items()
        }
        return cls(spectra, crosses)

    @property
    def dim(self) -> int:
        """How many axes there are: the directions of the view that varies in the fewest."""
        return min(len(s.values) for s in self.spectra.values())

    def solve(self, *, alpha: float, dim: int) -> dict[str, CanonicalView]:
        """The first axes of the shared space, the best correlated first.

        Args:
            alpha: Penalty in (C + alpha I)^(-1/2), relative to a mean variance of 1; above 0.
            dim: Number of axes; fewer where a view varies in fewer directions.
        """
        whitened = {name: 1 / (s.values + alpha).sqrt() for name, s in self.spectra.items()}
        crosses = {
            (a, b): whitened[a][:, None] * cross * whitened[b]
            for (a, b), cross in self.crosses.items()
        }
        dim = min(dim, self.dim)
        blocks = self._two(crosses, dim) if len(self.spectra) == 2 else self._many(crosses, alpha)
        limit = _LARGEST[len(self.spectra) == 2]
        return {
            name: CanonicalView(
                mean=s.mean,
                axes=s.vectors @ (whitened[name][:, None] * blocks[name][0][:, :dim]),
                correlations=blocks[name][1][:dim].clamp(0, limit),
            )
            for name, s in self.spectra.items()
        }

    def _two(
        self, crosses: Mapping[tuple[str, str], Tensor], dim: int
    ) -> dict[str, tuple[Tensor, Tensor]]:
        (((a, b), cross),) = crosses.items()
        u, rho, vh = svd(cross)
        return {a: (u, rho), b: (vh.mT, rho)}

    def _many(
        self, crosses: Mapping[tuple[str, str], Tensor], alpha: float
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Each view's block of the joint axes at unit length, and its correlation with the rest."""
        names = list(self.spectra)
        rows = [torch.cat([self._block(a, b, crosses, alpha) for b in names], dim=1) for a in names]
        values, vectors = torch.linalg.eigh(torch.cat(rows))
        values, vectors = values.flip(0), vectors.flip(1)
        parts = torch.split(vectors, [len(s.values) for s in self.spectra.values()])
        found = {}
        for name, part in zip(names, parts, strict=True):
            share = (part.square().sum(0) * len(names)).sqrt()  # 1 if all carry an axis alike
            rho = (values - 1) / (len(names) - 1) * share
            found[name] = part / share.clamp(min=1e-6), rho
        return found

    def _block(
        self, a: str, b: str, crosses: Mapping[tuple[str, str], Tensor], alpha: float
    ) -> Tensor:
        if a == b:
            values = self.spectra[a].values
            return torch.diag(values / (values + alpha))
        return crosses[a, b] if (a, b) in crosses else crosses[b, a].mT


@dataclass(frozen=True)
class Information:
    """How much views tell about each other on pairs that their axes have not seen.

    Attributes:
        alphas: The penalties tried.
        bits: Mutual information per item for each of them, in bits, mean over pairs of views.
    """

    alphas: tuple[float, ...]
    bits: tuple[float, ...]

    @property
    def best(self) -> float:
        """The penalty with the most information."""
        return max(zip(self.bits, self.alphas, strict=True))[1]


def held_out_information(
    folds: Sequence[ViewMoments], alphas: Sequence[float] = ALPHAS
) -> Information:
    """Mutual information of views, -½ Σ log(1 - r²), by cross-validation from fold moments.

    For each fold the axes come from the other folds and their correlations from the fold; so the
    penalty is chosen with no data but the moments.

    Args:
        folds: Moments of disjoint sets of items, at least two, each as
            `CanonicalProblem.from_moments` takes them.
        alphas: Penalties to try.

    Raises:
        InvalidLatentsError: Fewer than two folds, or they have different views.
    """
    if len(folds) < 2:
        raise InvalidLatentsError(f"at least 2 folds are needed to hold one out, got {len(folds)}")
    whole = add_views(folds)
    problems = [CanonicalProblem.from_moments(_without(whole, fold)) for fold in folds]
    dim = min(problem.dim for problem in problems)
    bits = []
    for alpha in alphas:
        solved = [problem.solve(alpha=alpha, dim=dim) for problem in problems]
        bits.append(sum(_information(pair, folds, solved) for pair in whole) / len(whole) / _LN2)
    return Information(tuple(alphas), tuple(bits))


_LN2 = 0.6931471805599453


def add_views(parts: Sequence[ViewMoments]) -> dict[tuple[str, str], PairedMoments]:
    """Moments of all items of several disjoint sets.

    Raises:
        InvalidLatentsError: They have different views.
    """
    first, *rest = parts
    total = dict(first)
    for part in rest:
        if part.keys() != total.keys():
            raise InvalidLatentsError(
                f"all folds need the same pairs of views, got {sorted(total)} and {sorted(part)}"
            )
        total = {pair: total[pair] + part[pair] for pair in total}
    return total


def check_views(moments: ViewMoments) -> list[str]:
    """The names of the views, in their order, if the moments of every two are there.

    Raises:
        InvalidLatentsError: A pair of views is missing or there twice, or their widths differ, or
            only the diagonal of Syy was kept.
    """
    names = list(dict.fromkeys(name for pair in moments for name in pair))
    wanted = {frozenset(pair) for pair in combinations(names, 2)}
    if len(names) < 2 or {frozenset(pair) for pair in moments} != wanted:
        raise InvalidLatentsError(
            f"a shared space needs moments of every two of at least 2 views, got {sorted(moments)}"
        )
    if len(moments) != len(wanted):
        raise InvalidLatentsError(f"each two views have one key, got {sorted(moments)}")
    for pair, m in moments.items():
        if not m.has_full_syy:
            raise InvalidLatentsError(f"moments of {pair} hold only the diagonal of Syy: sum all")
    for name in names:
        widths = {len(mean) for _, mean, _ in _sides(name, moments)}
        if len(widths) > 1:
            raise InvalidLatentsError(f"view {name!r} must have one width, got {sorted(widths)}")
    return names


def _without(whole: ViewMoments, fold: ViewMoments) -> dict[tuple[str, str], PairedMoments]:
    return {pair: whole[pair] - fold[pair] for pair in whole}


def _information(
    pair: tuple[str, str],
    folds: Sequence[ViewMoments],
    solved: Sequence[Mapping[str, CanonicalView]],
) -> float:
    """Nats that two views share, their axes' moments averaged over the held-out folds."""
    parts = [
        _held_out(fold[pair], *(views[name] for name in pair))
        for fold, views in zip(folds, solved, strict=True)
    ]
    cross, var_a, var_b = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
    rho = (cross / (var_a * var_b).sqrt()).nan_to_num(0).clamp(0, 0.999)
    return float(-0.5 * (1 - rho.square()).log().sum())


def _held_out(
    m: PairedMoments, a: CanonicalView, b: CanonicalView
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-moment and variances of each axis on held-out items, about the fitted means."""
    off_a, off_b = (m.mean_x - a.mean) @ a.axes, (m.mean_y - b.mean) @ b.axes
    cross = ((m.sxy.mT @ a.axes) * b.axes).sum(0) / m.n + off_a * off_b
    var_a = ((m.sxx @ a.axes) * a.axes).sum(0) / m.n + off_a.square()
    var_b = ((m.syy @ b.axes) * b.axes).sum(0) / m.n + off_b.square()
    return cross, var_a, var_b


def _sides(name: str, moments: ViewMoments) -> list[tuple[int, Tensor, Tensor]]:
    """Count, mean and second moment of a view in each pair that it is in."""
    as_x = [(m.n, m.mean_x, m.sxx) for (a, _), m in moments.items() if a == name]
    return as_x + [(m.n, m.mean_y, m.syy) for (_, b), m in moments.items() if b == name]


def _spectrum(name: str, moments: ViewMoments) -> _Spectrum:
    """Pools a view over its pairs (Chan, Golub & LeVeque 1983), and decomposes its covariance.

    Directions in which the items do not vary share nothing with other views, and are left out.
    """
    sides = _sides(name, moments)
    n = sum(count for count, _, _ in sides)
    mean = torch.stack([mean * (count / n) for count, mean, _ in sides]).sum(0)
    covariance = torch.stack(
        [(s + torch.outer(m - mean, m - mean) * count) / n for count, m, s in sides]
    ).sum(0)
    spread = covariance.trace() / len(mean)
    if not spread > 0:
        raise SolverError(f"the latents of view {name!r} are all equal: nothing can be shared")
    values, vectors = torch.linalg.eigh(covariance / spread)
    eps = max(m.eps for pair, m in moments.items() if name in pair)
    varies = values > values[-1] * eps * len(values) ** 0.5
    return _Spectrum(mean, vectors[:, varies] / spread.sqrt(), values[varies])
