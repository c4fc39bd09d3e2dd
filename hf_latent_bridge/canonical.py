"""Canonical correlation of two or more views: a shared space in closed form, from moments alone.

Hotelling's canonical correlation (1936) with a ridge penalty in the whitening (Vinod 1976), read
as a probabilistic model of one signal behind all views (Bach & Jordan 2005): axis by axis, an
axis with correlation r between the views is weighted by r / (1 - r²). For more than two views the
axes are the leading eigenvectors of the whitened block moment (Kettenring 1971, MAXVAR).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add

import scipy.linalg
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, SolverError
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import covariance_eigh, is_flat, pseudo_inverse

ViewMoments = Mapping[tuple[str, str], PairedMoments]

ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_ENOUGH = 0.99  # of the information
_UNTOLD = 1.92  # nats: half the 95 % quantile of chi-squared with one degree of freedom
_NOTHING = 1e-7  # a correlation below is rounding
_ROGUE = 30  # times the mean variance, which no column of a view counts for more than
_LARGEST = {True: 0.999, False: 0.97}  # correlation taken for true, of two views and of more


@dataclass(frozen=True, eq=False)
class CanonicalView:
    """One view's way into the shared space, and back.

    Attributes:
        mean: (d,).
        axes: (d, k), one column for each axis of the space: (x - mean) @ axes are the coordinates
            before weighting.
        loadings: (k, d): mean + coordinates @ loadings is the expected x, given its coordinates.
        variances: (k,), of the coordinates; a penalty makes them less than 1.
        correlations: (k,), of each axis with the other views; in [0, 1).
    """

    mean: Float[Tensor, " d"]
    axes: Float[Tensor, "d k"]
    loadings: Float[Tensor, "k d"]
    variances: Float[Tensor, " k"]
    correlations: Float[Tensor, " k"]

    def affine(self, shrink: float) -> tuple[Float[Tensor, "d k"], Float[Tensor, " k"]]:
        """Weight and bias of the map into the shared space.

        Args:
            shrink: Factor on the correlations, for those of a sample are larger than the true ones.
        """
        weight = self.axes * axis_weights(shrink * self.correlations)
        return weight, -(self.mean @ weight)

    def length(self, shrink: float) -> float:
        """Root mean square length of a vector in the shared space, before it becomes 1."""
        weights = axis_weights(shrink * self.correlations)
        return float((weights.square() * self.variances).sum().sqrt())

    def inverse(self, shrink: float) -> tuple[Float[Tensor, "k d"], Float[Tensor, " d"]]:
        """Weight and bias of the map back, for shared vectors of length 1.

        It gives the posterior mean of x, given the vector of another view of the same item: its
        coordinates, with the usual length for that which was lost, times the correlations.
        """
        weights = axis_weights(shrink * self.correlations)
        scale = torch.where(weights > 0, self.correlations / weights, 0.0)
        return self.length(shrink) * scale[:, None] * self.loadings, self.mean


def axis_weights(rho: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """The square root of r / (1 - r²): what each coordinate is multiplied by."""
    return (rho / (1 - rho.square())).sqrt()


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """The directions in which a view varies, with its mean variance (spread) brought to 1.

    Attributes:
        mean: (d,).
        vectors: (d, r); (x - mean) @ vectors are the coordinates.
        values: Their variances, ascending, (r,).
        back: (r, d): mean + coordinates @ back is x.
    """

    mean: Tensor
    vectors: Tensor
    values: Tensor
    back: Tensor


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

        Their signs do not depend on how the moments were summed: the largest weight of each axis
        in the view whose name sorts first is positive.

        Args:
            alpha: Penalty in (C + alpha I)^(-1/2), relative to a mean variance of 1; above 0.
            dim: Number of axes; fewer where a view varies in fewer directions.

        Raises:
            SolverError: A view is correlated with the others along no axis: its map would be zero.
        """
        limit = _LARGEST[len(self.spectra) == 2]
        found, blocks = {}, self.axes(alpha=alpha, dim=dim)
        first = min(self.spectra)
        signs = _signs(self.spectra[first].vectors @ blocks[first][0])
        for name, (unsigned, rho) in blocks.items():
            if not bool((rho > 0).any()):
                raise SolverError(
                    f"view {name!r} has nothing in common with the others: along none of "
                    f"{len(rho)} axes is it correlated with them by alpha={alpha:g}, so it would "
                    "be mapped to zero"
                )
            s, axes = self.spectra[name], unsigned * signs
            roots = (s.values + alpha).sqrt()[:, None]
            found[name] = CanonicalView(
                mean=s.mean,
                axes=s.vectors @ axes,
                loadings=_inverted(axes * roots) @ (roots * s.back),
                variances=(axes.square() * s.values[:, None]).sum(0),
                correlations=rho.clamp(0, limit),
            )
        return found

    def maps(self, *, alpha: float, dim: int, shrink: float) -> dict[str, tuple[Tensor, Tensor]]:
        """For each view weight and bias of its map into the space, without the way back.

        Args:
            alpha: As for `solve`.
            dim: As for `solve`.
            shrink: As for `CanonicalView.affine`.
        """
        limit, found = _LARGEST[len(self.spectra) == 2], {}
        for name, (axes, rho) in self.axes(alpha=alpha, dim=dim).items():
            s = self.spectra[name]
            weight = s.vectors @ (axes * axis_weights(shrink * rho.clamp(0, limit)))
            found[name] = weight, -(s.mean @ weight)
        return found

    def axes(self, *, alpha: float, dim: int) -> dict[str, tuple[Tensor, Tensor]]:
        """For each view its axes in its own eigenvectors, (r, k), and their correlations, (k,)."""
        whitened = {name: 1 / (s.values + alpha).sqrt() for name, s in self.spectra.items()}
        crosses = {
            (a, b): whitened[a][:, None] * cross * whitened[b]
            for (a, b), cross in self.crosses.items()
        }
        dim = min(dim, self.dim)
        two = len(self.spectra) == 2
        blocks = _two(crosses, dim) if two else self._many(crosses, alpha, dim)
        return {name: (whitened[name][:, None] * u, rho) for name, (u, rho) in blocks.items()}

    def _many(
        self, crosses: Mapping[tuple[str, str], Tensor], alpha: float, dim: int
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Each view's block of the joint axes at unit length, and its correlation with the rest.

        An eigenvalue is what the views add to the axis by themselves, which is 1 without a penalty,
        and what they add by agreeing; only the latter is a correlation. It is multiplied by the
        former, which is small for axes along which the views vary little beside the penalty.
        """
        names = list(self.spectra)
        rows = [torch.cat([self._block(a, b, crosses, alpha) for b in names], dim=1) for a in names]
        matrix = torch.cat(rows)
        values, vectors = _leading(matrix, dim)
        alone = matrix.diagonal() @ vectors.square()
        agreed = alone * (values - alone) / (len(names) - 1)
        parts = torch.split(vectors, [len(s.values) for s in self.spectra.values()])
        found = {}
        for name, part in zip(names, parts, strict=True):
            share = (part.square().sum(0) * len(names)).sqrt()  # 1 if all carry an axis alike
            rho = agreed * share
            found[name] = part / share.clamp(min=_NOTHING), rho * (rho > _NOTHING)
        return found

    def _block(
        self, a: str, b: str, crosses: Mapping[tuple[str, str], Tensor], alpha: float
    ) -> Tensor:
        if a == b:
            values = self.spectra[a].values
            return torch.diag(values / (values + alpha))
        return crosses[a, b] if (a, b) in crosses else crosses[b, a].mT


def _two(crosses: Mapping[tuple[str, str], Tensor], dim: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Singular vectors of the one cross-moment, from the Gram matrix of its shorter side.

    Values lie in [0, 1], and one is as good as 0 long before the squares lose it; the longer side
    then has no direction for it.
    """
    (((a, b), cross),) = crosses.items()
    wide = cross.shape[0] <= cross.shape[1]
    short = cross if wide else cross.mT
    squares, u = _leading(short @ short.mT, dim)
    rho = squares.clamp(min=0).sqrt()
    found = rho > _NOTHING
    v = (short.mT @ u) * torch.where(found, 1 / rho, 0.0)
    rho = rho * found
    return {a: (u if wide else v, rho), b: (v if wide else u, rho)}


def _signs(columns: Float[Tensor, "d k"]) -> Float[Tensor, " k"]:
    """The sign of each column's largest value."""
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).to(columns)


def _inverted(matrix: Float[Tensor, "r k"]) -> Float[Tensor, "k r"]:
    return pseudo_inverse(matrix, max(matrix.shape) * torch.finfo(matrix.dtype).eps)


def _leading(matrix: Float[Tensor, "n n"], k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues of a symmetric matrix, descending, and their eigenvectors.

    Raises:
        SolverError: They do not converge.
    """
    n = len(matrix)
    try:
        values, vectors = scipy.linalg.eigh(
            matrix.cpu().numpy(), subset_by_index=(n - k, n - 1), driver="evr"
        )
    except scipy.linalg.LinAlgError as error:
        raise SolverError(
            f"the eigenvectors of a {n} x {n} moment do not converge ({error}): look for wild "
            "values in the latents, or raise alpha"
        ) from error
    largest_first = (part[..., ::-1].copy() for part in (values, vectors))
    values, vectors = (torch.from_numpy(part).to(matrix) for part in largest_first)
    return values, vectors


@dataclass(frozen=True)
class Information:
    """How much views tell about each other on pairs that their axes have not seen.

    Attributes:
        alphas: The penalties tried.
        bits: Mutual information per item for each of them, in bits, mean over pairs of views.
        correlations: With the penalty to take, the held-out correlation of each axis, mean over
            pairs of views.
    """

    alphas: tuple[float, ...]
    bits: tuple[float, ...]
    correlations: tuple[float, ...]

    def __str__(self) -> str:
        curve = ", ".join(
            f"{bits:.1f} at {alpha:g}" for alpha, bits in zip(self.alphas, self.bits, strict=True)
        )
        return (
            f"on held-out items the views tell {max(self.bits):.1f} bits about each other "
            f"(by alpha: {curve})"
        )

    @property
    def n_axes(self) -> int:
        """How many of the first axes hold 99 % of the information."""
        rho = torch.tensor(self.correlations, dtype=torch.float64)
        sums = _nats(rho).cumsum(0)
        return int((sums < _ENOUGH * sums[-1]).sum()) + 1


def held_out_information(
    folds: Sequence[ViewMoments], alphas: Sequence[float] = ALPHAS
) -> tuple[Information, float]:
    """Mutual information of views, -½ Σ log(1 - r²), by cross-validation from fold moments.

    For each fold the axes come from the other folds and their correlations from the fold; so the
    penalty is chosen with no data but the moments.

    Args:
        folds: Moments of disjoint sets of items, at least two, each as
            `CanonicalProblem.from_moments` takes them.
        alphas: Penalties to try.

    Returns:
        The information, and the penalty to take: the one with the most; of those that the items do
        not tell from it (less than 1.92 nats over all items, as in a 95 % likelihood interval) the
        one nearest 1.

    Raises:
        InvalidLatentsError: Fewer than two folds, or they have different views.
    """
    if len(folds) < 2:
        raise InvalidLatentsError(f"at least 2 folds are needed to hold one out, got {len(folds)}")
    whole = add_views(folds)
    held_out = [_HeldOut.of(fold, _without(whole, fold)) for fold in folds]
    dim = min(one.problem.dim for one in held_out)
    tried = {alpha: _correlations(held_out, alpha, dim) for alpha in alphas}
    nats = {alpha: float(_nats(rho).sum() / len(whole)) for alpha, rho in tried.items()}
    best = _likeliest(nats, min(m.n for m in whole.values()))
    bits = tuple(found / math.log(2) for found in nats.values())
    return Information(tuple(nats), bits, tuple(tried[best].mean(0).tolist())), best


def _likeliest(nats: Mapping[float, float], n: int) -> float:
    """The penalty nearest 1 of those that n items do not tell from the one with the most nats.

    Held-out information is a mean log-likelihood. Few items of views that share little tell hardly
    anything of the penalty, and views that are nearly equal tell all that is counted with any.
    """
    least = max(nats.values()) - _UNTOLD / n
    return min((alpha for alpha in nats if nats[alpha] >= least), key=lambda a: abs(math.log(a)))


def surely_related(folds: Sequence[ViewMoments], alpha: float) -> bool:
    """Whether two views tell more about each other on held-out items than luck explains.

    Of unrelated views each axis has a correlation near N(0, 1 / n), or 1 / 4n nats with a deviation
    of 0.56 / n; as folds are not independent, six deviations and 5 / n are allowed for.

    Args:
        folds: Moments of disjoint sets of items, at least two, of one pair of views.
        alpha: The penalty.
    """
    found, _ = held_out_information(folds, [alpha])
    n, k = sum(m.n for fold in folds for m in fold.values()), len(found.correlations)
    return n * found.bits[0] * math.log(2) > k / 4 + 6 * 0.56 * math.sqrt(k) + 5


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """A fold's second moments about the means of the others, in the others' eigenvectors.

    Attributes:
        problem: The other folds.
        moments: For each pair of views the cross-moment and each view's own.
    """

    problem: CanonicalProblem
    moments: Mapping[tuple[str, str], tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, fold: ViewMoments, rest: ViewMoments) -> "_HeldOut":
        problem = CanonicalProblem.from_moments(rest)
        moments = {}
        for (a, b), m in fold.items():
            one, other = problem.spectra[a], problem.spectra[b]
            off_a = (m.mean_x - one.mean) @ one.vectors
            off_b = (m.mean_y - other.mean) @ other.vectors
            moments[a, b] = (
                one.vectors.mT @ (m.sxy / m.n) @ other.vectors + torch.outer(off_a, off_b),
                one.vectors.mT @ (m.whole_sxx() / m.n) @ one.vectors + torch.outer(off_a, off_a),
                other.vectors.mT @ (m.syy / m.n) @ other.vectors + torch.outer(off_b, off_b),
            )
        return cls(problem, moments)

    def axes_moments(self, alpha: float, dim: int) -> Float[Tensor, "pairs 3 k"]:
        """For each pair of views the cross-moment and both variances of each axis."""
        axes = {name: u for name, (u, _) in self.problem.axes(alpha=alpha, dim=dim).items()}
        return torch.stack(
            [
                torch.stack(
                    [
                        ((cross.mT @ axes[a]) * axes[b]).sum(0),
                        ((own_a @ axes[a]) * axes[a]).sum(0),
                        ((own_b @ axes[b]) * axes[b]).sum(0),
                    ]
                )
                for (a, b), (cross, own_a, own_b) in self.moments.items()
            ]
        )


def _nats(rho: Tensor) -> Tensor:
    """Mutual information of axes with these correlations."""
    return -0.5 * (1 - rho.clamp(0, 0.999).square()).log()


def _correlations(held_out: Sequence[_HeldOut], alpha: float, dim: int) -> Float[Tensor, "pairs k"]:
    """Held-out correlation of each axis, its moments averaged over the folds."""
    parts = torch.stack([one.axes_moments(alpha, dim) for one in held_out])
    cross, var_a, var_b = parts.mean(0).unbind(1)
    return (cross / (var_a * var_b).sqrt()).nan_to_num(0)


def join_sets(
    sets: Iterable[Sequence[ViewMoments]], views: Sequence[str]
) -> list[dict[tuple[str, str], PairedMoments]]:
    """The moments of several sets of items, fold by fold.

    Args:
        sets: For each set its folds; sets may be of different views, and of fewer folds.
        views: All views in their order, that of the keys.

    Raises:
        InvalidLatentsError: A view has another width in one set than in another.
    """
    folds: list[dict[tuple[str, str], PairedMoments]] = []
    for parts in sets:
        folds += [{} for _ in parts[len(folds) :]]
        for fold, part in zip(folds, parts, strict=False):
            for pair, m in part.items():
                fold[pair] = _joined(pair, fold[pair], m) if pair in fold else m
    return [{pair: fold[pair] for pair in combinations(views, 2) if pair in fold} for fold in folds]


def _joined(pair: tuple[str, str], one: PairedMoments, other: PairedMoments) -> PairedMoments:
    for view, *widths in zip(pair, one.sxy.shape, other.sxy.shape, strict=True):
        _check_width(view, widths)
    return one + other


def add_views(parts: Sequence[ViewMoments]) -> dict[tuple[str, str], PairedMoments]:
    """Moments of all items of several disjoint sets, the folds.

    Raises:
        InvalidLatentsError: There is no item, or in one of the sets none that two views have seen,
            which others have.
    """
    pairs = dict.fromkeys(pair for part in parts for pair in part)
    if not pairs:
        raise InvalidLatentsError("a shared space needs at least one item, got none")
    for pair in pairs:
        seen = [part[pair].n for part in parts if pair in part]
        if len(seen) < len(parts):
            raise InvalidLatentsError(
                f"{len(parts)} folds need at least as many items that {pair[0]!r} and {pair[1]!r} "
                f"have both seen, got {sum(seen)}: add items, or pass numbers as alpha and dim"
            )
    return {pair: reduce(add, (part[pair] for part in parts)) for pair in pairs}


def check_views(moments: ViewMoments) -> list[str]:
    """The names of the views, in their order, if the moments of every two are there.

    Raises:
        InvalidLatentsError: A pair of views is missing or there twice, or their widths differ, or
            only the diagonal of Syy was kept.
    """
    names = list(dict.fromkeys(name for pair in moments for name in pair))
    wanted = list(combinations(names, 2))
    known = {frozenset(pair) for pair in moments}
    if missing := [pair for pair in wanted if frozenset(pair) not in known]:
        raise InvalidLatentsError(
            "every two views of a shared space need items that both have seen, got none of "
            + ", ".join(f"{a!r} and {b!r}" for a, b in missing)
        )
    if len(moments) != len(wanted):
        raise InvalidLatentsError(f"each two views have one key, got {sorted(moments)}")
    for pair, m in moments.items():
        if not m.has_full_syy:
            raise InvalidLatentsError(
                f"moments of {pair} hold only the diagonal of Syy: sum them with full_syy=True"
            )
    for name in names:
        _check_width(name, [len(mean) for _, mean, _ in _sides(name, moments)])
    return names


def _check_width(view: str, widths: Sequence[int]) -> None:
    if len(set(widths)) > 1:
        raise InvalidLatentsError(f"view {view!r} must have one width, got {sorted(set(widths))}")


def _without(whole: ViewMoments, fold: ViewMoments) -> dict[tuple[str, str], PairedMoments]:
    return {pair: whole[pair] - fold[pair] for pair in whole}


def _sides(name: str, moments: ViewMoments) -> list[tuple[int, Tensor, Tensor]]:
    """Count, mean and second moment of a view in each pair that it is in."""
    as_x = [(m.n, m.mean_x, m.whole_sxx()) for (a, _), m in moments.items() if a == name]
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
    flat = is_flat(covariance.diagonal(), mean)
    if bool(flat.all()):
        raise SolverError(
            f"the latents of view {name!r} are all equal, or nearly so beside their mean: nothing "
            "can be shared"
        )
    scale = _rogue_scale(covariance.diagonal(), flat)
    covariance = covariance * torch.outer(scale, scale)
    spread = covariance.trace() / len(mean)
    values, vectors = covariance_eigh(covariance / spread, n)
    eps = max(m.eps for pair, m in moments.items() if name in pair)
    varies = values > values[-1] * eps * len(mean) ** 0.5
    values, vectors = values[varies], vectors[:, varies]
    into, back = vectors * scale[:, None] / spread.sqrt(), vectors.mT / scale * spread.sqrt()
    return _Spectrum(mean, into, values, back)


def _rogue_scale(variances: Float[Tensor, " d"], flat: Bool[Tensor, " d"]) -> Float[Tensor, " d"]:
    """What each column is multiplied by, so that a few of them do not hold nearly all variance.

    In some encoders a few columns vary a hundred times as much as the others (Timkey & van
    Schijndel 2021), beside which a penalty relative to the mean variance would leave nothing of
    these. A column counts for at most 30 times the mean of all columns that vary, itself and other
    such columns included as they then are; if that cannot be, for they are too many, all stay.
    """
    ordered = variances[~flat].sort(descending=True).values
    d, k = len(ordered), torch.arange(-(-len(ordered) // _ROGUE))  # columns that are taken down
    others = ordered.flip(0).cumsum(0).flip(0)[k]
    most = _ROGUE * others / (d - _ROGUE * k.to(others))
    kept = (ordered[k] <= most) & (others > _NOTHING * ordered[0])  # the others are not rounding
    if not bool(kept.any()):
        return torch.ones_like(variances)
    largest = most[kept.int().argmax()]
    return (largest / variances.clamp(min=largest)).sqrt()
