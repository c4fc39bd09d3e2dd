"""Growth of pairs: from a few given ones to many, where most items of both sides are unpaired.

Self-learning as for bilingual dictionaries (Artetxe, Labaka & Agirre 2018, arXiv 1805.06297): a
shared space is fitted on the pairs at hand, both sides are mapped into it, items that are each
other's nearest become pairs, and so on until the pairs stay the same. The most certain ones come
first, for a few wrong pairs among few spoil the next fit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.optimize import quadratic_assignment
from torch import Tensor

from hf_latent_bridge.canonical import CanonicalProblem
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.hubness import neighbor_similarity
from hf_latent_bridge.latents import Latents, as_tensor, check_finite, unit_rows
from hf_latent_bridge.metrics import counterpart_ranks, similarity_blocks
from hf_latent_bridge.moments import PairedMoments

Indices = npt.NDArray[np.intp]

GROWTH_ALPHA = 10.0  # strong: wrong pairs must not teach the axes to find them again
_FEWEST_TO_CONFIRM = 10
_FOLDS = 5  # of the given pairs, to see whether found ones help
_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)  # of the mutual neighbours that the first rounds take
_ASSIGNMENTS = 5  # searches for the best match of clusters
_GROWN = 6  # starts from which pairs grow: those that match best
_STABLE = 0.98
_NEIGHBORS, _ROUNDS = 10, 30
_SHRINK = 0.9


@dataclass(frozen=True, eq=False)
class Growth:
    """Pairs that were found among unpaired items, and how far they can be trusted.

    Attributes:
        rows_x: Rows of the unpaired source latents, (n,), the most certain pair first.
        rows_y: Rows of the unpaired target latents that go with them, (n,).
        n_pairs: How many pairs each round found.
        agreement: Pairs that each round has in common with the one before, as a share of those of
            either; 0 in the first.
        converged: Whether the last two rounds found the same pairs, but for 2 in 100.
        recovery: Share of the pairs that are found again, among all unpaired items, by a space
            fitted on the given pairs and the other half of the found ones.
        chance: The same for growth from the given pairs in a wrong order; where none are given,
            the most in several orders.
        gain: How much better given pairs that are held out are found with the pairs that grow from
            the others than by these alone: mean reciprocal rank among all items, of both
            directions. None where fewer than 3 different pairs are given.
        gain_error: Standard error of that over the given pairs.
    """

    rows_x: Int[Tensor, " n"]
    rows_y: Int[Tensor, " n"]
    n_pairs: tuple[int, ...]
    agreement: tuple[float, ...]
    converged: bool
    recovery: float
    chance: float = 0.0
    gain: float | None = None
    gain_error: float | None = None

    @property
    def confirmed(self) -> bool:
        """Whether at least 10 pairs were found, which are consistent and do not hurt.

        Wrong pairs are consistent with the map that has found them. A map that has not seen them
        misses many of them, how many depends on the latents; so growth from shuffled pairs is the
        measure: at most half of its misses, by two standard errors of a count. Look-alikes of items
        that only one side has are missed less; but a space that is fitted on them finds fewer of
        the given pairs.
        """
        n = len(self.rows_x)
        missed, by_chance = n * (1 - self.recovery), n * (1 - self.chance)
        at_most = missed + 2 * math.sqrt(missed + 1)
        return n >= _FEWEST_TO_CONFIRM and at_most < by_chance / 2 and not self.hurts

    @property
    def hurts(self) -> bool:
        """Whether given pairs are found less often with the found pairs than without."""
        return self.gain is not None and self.gain < 0

    def to_dict(self) -> dict[str, Any]:
        """What was found and how far it can be trusted, as JSON values, without the rows."""
        return {
            "found_pairs": len(self.rows_x),
            "rounds": len(self.n_pairs),
            "converged": self.converged,
            "recovery": self.recovery,
            "chance": self.chance,
            "gain": self.gain,
            "gain_error": self.gain_error,
            "confirmed": self.confirmed,
        }

    def __str__(self) -> str:
        settled = "" if self.converged else ", and the pairs were still changing"
        return (
            f"{len(self.rows_x):,} pairs found in {len(self.n_pairs)} rounds{settled}; "
            f"{self.recovery:.1%} of them are found again by a space that has not seen them, "
            f"{self.chance:.1%} if growth starts from shuffled pairs{self._verdict}"
        )

    @property
    def _verdict(self) -> str:
        if self.confirmed:
            return ""
        if not self.hurts:
            few = len(self.rows_x) < _FEWEST_TO_CONFIRM
            return f": {'too few' if few else 'too little difference'} to trust them"
        return (
            "; with them, given pairs are found less well (their mean reciprocal rank changes by "
            f"{self.gain:+.3f} ± {self.gain_error:.3f}): they are look-alikes"
        )


@dataclass(frozen=True, eq=False)
class _Sides:
    """Unpaired latents of both sides, and the moments of what is given."""

    x: Tensor
    y: Tensor
    given: PairedMoments
    dim: int
    n_neighbors: int

    def mapped(self, rows_x: Tensor, rows_y: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides in the space of the given pairs and these."""
        moments = self.given
        if len(rows_x):
            moments = moments + _moments(self.x[rows_x], self.y[rows_y])
        return _into_space(moments, (self.x, self.y), self.dim)


def grow_pairs(
    X: Latents,
    y: Latents,
    unpaired_X: Latents,
    unpaired_y: Latents,
    *,
    dim: int = 64,
    n_neighbors: int = _NEIGHBORS,
    max_rounds: int = _ROUNDS,
) -> Growth:
    """Finds pairs among unpaired items, starting from a few that are given.

    Nearest neighbours are by cosine corrected for hubs (CSLS) in the shared space. Rows in another
    order give the same pairs. Memory stays bounded: cosines are computed in blocks.

    Args:
        X: Source latents of the given pairs, (n, d_x), at least 2 of them.
        y: Their target latents, (n, d_y).
        unpaired_X: Source latents of other items, (m_x, d_x).
        unpaired_y: Target latents of other items, (m_y, d_y). Only items that are on both sides, in
            whatever order, can be paired.
        dim: Width of the shared space.
        n_neighbors: k of CSLS; all items where there are fewer.
        max_rounds: After how many rounds to stop if the pairs keep changing.

    Raises:
        InvalidLatentsError: Fewer than 2 given pairs, unequal numbers of them, widths that differ
            between given and unpaired latents, NaN or infinity.
        SolverError: The given latents of a side are all equal.
        ValueError: A parameter is less than 1.
    """
    x, targets, *others = _alike(X=X, y=y, unpaired_X=unpaired_X, unpaired_y=unpaired_y)
    given, unpaired = (x, targets), (others[0], others[1])
    _check(given, unpaired)
    for name, value in (("dim", dim), ("n_neighbors", n_neighbors), ("max_rounds", max_rounds)):
        check_count(name, value)
    right, wrong = (
        _Sides(unpaired[0], unpaired[1], _moments(x, partners), dim, n_neighbors)
        for partners in (targets, targets.roll(1, 0))
    )
    true, shuffled = _grow(right, max_rounds), _grow(wrong, max_rounds)
    gain = _gain(given, right, max_rounds) if len(true.rows_x) else (None, None)
    return replace(true, chance=shuffled.recovery, gain=gain[0], gain_error=gain[1])


def match_unpaired(
    unpaired_X: Latents,
    unpaired_y: Latents,
    *,
    dim: int = 64,
    n_clusters: int = 25,
    n_starts: int = 30,
    seed: int = 0,
) -> Growth:
    """Experimental: finds pairs with not a single one given.

    Both sides are cut into clusters, and the clusters matched so that their centres lie to each
    other on one side as on the other (quadratic assignment). Pairs grow from the centres that match
    best, as by `grow_pairs`, until they are confirmed against growth from centres that are matched
    at random. Many starts fail, and all of them may. After
    mini-vec2vec (Dar 2025, arXiv 2510.02348).

    Args:
        unpaired_X: Source latents, (m_x, d_x), more than `n_clusters` of them different.
        unpaired_y: Target latents, (m_y, d_y). Only items on both sides can be paired.
        dim: Width of the shared space.
        n_clusters: How many clusters each side is cut into, at least 3.
        n_starts: How many times to cluster and match; pairs grow from the best 6.
        seed: For clusters and assignments.

    Returns:
        The confirmed pairs, or those of the best start, not `confirmed`: then no start was better
        than chance, and nothing should be built on them.

    Raises:
        InvalidLatentsError: Not more different items than clusters, NaN or infinity.
        ValueError: A parameter is less than its minimum.
    """
    sides = _alike(unpaired_X=unpaired_X, unpaired_y=unpaired_y)
    check_count("n_clusters", n_clusters, least=3)
    check_count("n_starts", n_starts)
    check_count("dim", dim)
    check_count("seed", seed, least=0)
    different = [len(np.unique(side.cpu().numpy(), axis=0)) for side in sides]
    if min(different) <= n_clusters:
        raise InvalidLatentsError(
            f"{n_clusters} clusters need more different items than that on each side, got "
            f"{different[0]:,} and {different[1]:,}: add items, or ask match_unpaired for fewer"
        )
    x, y = (unit_rows(side - side.mean(0)) for side in sides)
    draw = np.random.default_rng(seed)
    starts = [_Start.draw(x, y, n_clusters, draw) for _ in range(n_starts)]
    starts.sort(key=lambda start: -start.likeness)
    chance = _grow(starts[0].sides(x, y, dim, draw.permutation(n_clusters))).recovery
    found: list[Growth] = []
    for start in starts[:_GROWN]:
        grown = replace(_grow(start.sides(x, y, dim, start.order)), chance=chance)
        if grown.confirmed:  # of six starts one may be lucky, so chance has more than one try, too
            shuffled = (start.sides(x, y, dim, draw.permutation(n_clusters)) for _ in range(_GROWN))
            grown = replace(grown, chance=max(chance, *(_grow(one).recovery for one in shuffled)))
        found.append(grown)
        if grown.confirmed:
            break
    return max(found, key=lambda growth: (growth.confirmed, growth.recovery))


@dataclass(frozen=True, eq=False)
class _Start:
    """Matched centres of clusters.

    Attributes:
        centres_x: (k, d_x).
        centres_y: (k, d_y).
        order: For each centre of x the row of its match.
        likeness: Cosine of the centres' mutual cosines on both sides, after matching.
    """

    centres_x: Tensor
    centres_y: Tensor
    order: Indices
    likeness: float

    @classmethod
    def draw(cls, x: Tensor, y: Tensor, k: int, draw: np.random.Generator) -> "_Start":
        """Clusters both sides, and matches the clusters."""
        centres, grams = [], []
        for side in (x, y):
            means, _ = kmeans2(side.double().cpu().numpy(), k, iter=50, minit="++", rng=draw)
            centres.append(torch.from_numpy(means).to(side))
            unit = unit_rows(centres[-1] - centres[-1].mean(0)).double().cpu().numpy()
            grams.append(unit @ unit.T)
        order, fit = _assignment(grams[0], grams[1], draw)
        norms = np.linalg.norm(grams[0]) * np.linalg.norm(grams[1])
        return cls(centres[0], centres[1], order, float(fit / norms))

    def sides(self, x: Tensor, y: Tensor, dim: int, order: Indices) -> _Sides:
        """The centres as given pairs in this order, all items as unpaired."""
        matched = self.centres_y[torch.from_numpy(order).to(y.device)]
        return _Sides(x, y, _moments(self.centres_x, matched), dim, _NEIGHBORS)


def _assignment(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], draw: np.random.Generator
) -> tuple[Indices, float]:
    """The order of y's rows and columns in which it is most like x; the best of some searches."""
    found = []
    for _ in range(_ASSIGNMENTS):
        options = {"maximize": True, "rng": draw}
        rough = quadratic_assignment(x, y, options={**options, "P0": "randomized"}).col_ind
        guess = np.stack([np.arange(len(rough)), rough], axis=1)
        found.append(
            quadratic_assignment(x, y, method="2opt", options={**options, "partial_guess": guess})
        )
    best = max(found, key=lambda result: float(result.fun))
    return best.col_ind, float(best.fun)


def _grow(sides: _Sides, max_rounds: int = _ROUNDS) -> Growth:
    """Rounds of fitting and matching until the pairs stay the same."""
    none = torch.empty(0, dtype=torch.long, device=sides.x.device)
    pairs = (none, none)
    if not (len(sides.x) and len(sides.y)):
        return Growth(*pairs, (0,), (0.0,), converged=True, recovery=0.0)
    counts, agreements, converged = [], [], False
    for number in range(max_rounds):
        share = _SHARES[number] if number < len(_SHARES) else 1.0
        found = _mutual_neighbors(*sides.mapped(*pairs), sides.n_neighbors)
        kept = max(1, round(share * len(found[0])))
        found = (found[0][:kept], found[1][:kept])
        counts.append(kept)
        agreements.append(_agreement(pairs, found, len(sides.y)))
        pairs = found
        converged = number > len(_SHARES) and agreements[-1] >= _STABLE
        if converged:
            break
    return Growth(*pairs, tuple(counts), tuple(agreements), converged, _recovery(sides, pairs))


def _mutual_neighbors(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int
) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """Rows that are each other's nearest by CSLS, the nearest pair first."""
    of_x = neighbor_similarity(x, y, n_neighbors=min(k, len(y))) / 2
    of_y = neighbor_similarity(y, x, n_neighbors=min(k, len(x))) / 2
    there, scores = _nearest(x, y, of_y)
    back, _ = _nearest(y, x, of_x)
    rows = torch.arange(len(x), device=x.device)
    mutual = rows[back[there] == rows]
    order = mutual[(scores - of_x)[mutual].argsort(descending=True, stable=True)]
    return order, there[order]


def _nearest(
    queries: Float[Tensor, "n d"], items: Float[Tensor, "m d"], half: Float[Tensor, " m"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The best item of each query by cosine less half its similarity to its neighbours."""
    blocks = similarity_blocks(queries, items)
    best = [(cosines - half).max(1) for _, cosines in blocks]
    return torch.cat([b.indices for b in best]), torch.cat([b.values for b in best])


def _agreement(one: Sequence[Tensor], other: Sequence[Tensor], n_y: int) -> float:
    """Pairs that two sets have in common, as a share of all that are in either."""
    codes = [pairs[0] * n_y + pairs[1] for pairs in (one, other)]
    common = int(torch.isin(*codes).sum())
    return common / (len(codes[0]) + len(codes[1]) - common)


def _recovery(sides: _Sides, pairs: tuple[Tensor, Tensor]) -> float:
    """How many pairs of each half a space finds again that was fitted on the other half."""
    if len(pairs[0]) < _FEWEST_TO_CONFIRM:
        return 0.0
    found = 0
    for half in (0, 1):
        x, y = sides.mapped(*(rows[half::2] for rows in pairs))
        similarity = neighbor_similarity(y, x, n_neighbors=min(sides.n_neighbors, len(x)))
        rows_x, rows_y = (rows[1 - half :: 2] for rows in pairs)
        found += int((_nearest(x[rows_x], y, similarity / 2)[0] == rows_y).sum())
    return found / len(pairs[0])


def _gain(
    given: tuple[Tensor, Tensor], sides: _Sides, max_rounds: int
) -> tuple[float | None, float | None]:
    """How much better held-out given pairs are found after growth from the others, and its error.

    Growth must not have seen them: look-alikes that were found by their help would find them, too.
    """
    n = len(given[0])
    folds = min(_FOLDS, n)
    if n < 3:
        return None, None
    whole = [torch.cat(both) for both in zip(given, (sides.x, sides.y), strict=True)]
    differences = []
    for fold in range(folds):
        own = torch.arange(n, device=given[0].device) % folds == fold
        if not all(_differ(side[~own]) for side in given):  # they repeat one pair
            continue
        rest = _moments(given[0][~own], given[1][~own])
        grown = _grow(replace(sides, given=rest), max_rounds)
        found = _moments(sides.x[grown.rows_x], sides.y[grown.rows_y])
        with_found, without = (
            _found_ranks(moments, whole, own.nonzero().flatten(), sides.dim)
            for moments in (rest + found, rest)
        )
        differences.append(with_found - without)
    if not differences:
        return None, None
    gain = torch.cat(differences)
    return float(gain.mean()), float(gain.std() / len(gain) ** 0.5)


def _differ(rows: Tensor) -> bool:
    return bool((rows != rows[0]).any())


def _found_ranks(
    moments: PairedMoments, whole: Sequence[Tensor], rows: Tensor, dim: int
) -> Float[Tensor, " n"]:
    """Reciprocal rank of these rows' counterparts among all items, mean of both directions."""
    x, y = _into_space(moments, (whole[0], whole[1]), dim)
    both = [
        counterpart_ranks(a[rows], torch.cat([b[rows], _others(b, rows)])).double().reciprocal()
        for a, b in ((x, y), (y, x))
    ]
    return (both[0] + both[1]) / 2


def _others(side: Tensor, rows: Tensor) -> Tensor:
    kept = torch.ones(len(side), dtype=torch.bool, device=side.device)
    kept[rows] = False
    return side[kept]


def _into_space(
    moments: PairedMoments, sides: tuple[Tensor, Tensor], dim: int
) -> tuple[Tensor, Tensor]:
    """Both sides in the space that is fitted on these moments."""
    problem = CanonicalProblem.from_moments({("source", "target"): moments})
    maps = problem.maps(alpha=GROWTH_ALPHA, dim=dim, shrink=_SHRINK)
    x, y = (
        unit_rows(torch.addmm(bias.to(side), side, weight.to(side)))
        for side, (weight, bias) in zip(sides, maps.values(), strict=True)
    )
    return x, y


def _moments(x: Tensor, y: Tensor) -> PairedMoments:
    return PairedMoments.from_batch(x, y, full_syy=True)


def _alike(**latents: Latents) -> list[Tensor]:
    """Matrices of rows by name, in one dtype of at least float32 and on the device of the first."""
    found = [_rows(rows, name) for name, rows in latents.items()]
    dtype = reduce(torch.promote_types, (x.dtype for x in found), torch.float32)
    return [x.to(found[0].device, dtype) for x in found]


def _rows(latents: Latents, name: str) -> Tensor:
    x = as_tensor(latents).detach()
    if x.ndim != 2 or x.shape[1] == 0:
        raise InvalidLatentsError(f"{name} must be a matrix (n, d), got shape {tuple(x.shape)}")
    check_finite(x)
    return x


def _check(given: Sequence[Tensor], unpaired: Sequence[Tensor]) -> None:
    """Refuses what does not go together."""
    n = [len(latents) for latents in given]
    if n[0] != n[1]:
        raise InvalidLatentsError(f"given pairs need equal numbers of rows, got {n[0]} and {n[1]}")
    if n[0] < 2:
        raise InvalidLatentsError(f"growth starts from at least 2 given pairs, got {n[0]}")
    for side, a, b in zip(("source", "target"), given, unpaired, strict=True):
        if a.shape[1] != b.shape[1]:
            raise InvalidLatentsError(
                f"given and unpaired {side} latents must have one width, "
                f"got {a.shape[1]} and {b.shape[1]}"
            )
