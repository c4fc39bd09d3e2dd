"""The paper's four estimators: affine, linear, l-ortho and ortho."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from torch import Tensor

from hf_latent_bridge.counts import check_count, is_number
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import (
    ALPHAS,
    N_FOLDS,
    Folds,
    Selection,
    family_r2,
    ridge_path,
    select_ridge,
)
from hf_latent_bridge.solvers import (
    Decomposed,
    Problem,
    RidgePath,
    Scaling,
    Solution,
    solve_by_gradient,
    solve_l_ortho,
    solve_least_squares,
    solve_ortho,
)
from hf_latent_bridge.translators.base import Grid, Translator, TranslatorConfig
from hf_latent_bridge.translators.latent_map import (
    LatentMap,
    Map,
    UnitNorm,
    is_bottleneck,
    thin_map,
)


class AffineTranslator(Translator, translator_type="affine"):
    """Least squares with a free intercept, regularised by a penalty or by stopping early.

    Source: Maiorca et al. (2023), "affine", estimated there by Adam on the mean squared error,
    which is `solver="gradient"` here. Its closed form with `alpha=0` equals `linear` (with an
    intercept); `alpha` > 0 is ridge regression.

    Args:
        alpha: Penalty on the squared weights, relative to the mean over pairs and applied in
            scaled coordinates: scikit-learn's `Ridge(alpha=n_pairs * alpha)`. The intercept is
            not penalised. Closed form only. "auto" takes the one of 60 penalties with the best R²
            on held-out pairs, in 5 folds; `selection_` keeps the curve.
        rank: At most this rank (reduced-rank regression, Izenman 1975); None for any. Where two
            thin factors are smaller than one weight, those are kept, saved and multiplied.
            Closed form only.
        solver: "closed_form", or "gradient" for full-batch Adam, run on the moments so that its
            cost does not depend on the number of pairs.
        steps: Adam steps.
        lr: Adam's learning rate.
        random_state: Seeds Adam's start; an integer.
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "pareto" (divided by the root of the deviation only), "center" or "none";
            the closed form has an intercept in any case.
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    suggested: ClassVar[Mapping[str, Any]] = {"alpha": 0.1}
    grid: ClassVar[Grid | tuple[Grid, ...] | None] = (
        {"alpha": (1.0, 0.1), "rank": (16, 64)},
        {"alpha": ALPHAS},
        {"scaling": ("pareto", "center"), "alpha": ("auto",)},
    )
    complexity: ClassVar[int] = 1
    _renamed: ClassVar[dict[str, str]] = {**Translator._renamed, "seed": "random_state"}

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = 0.0,
        rank: int | None = None,
        solver: Literal["closed_form", "gradient"] = "closed_form",
        steps: int = 300,
        lr: float = 1e-3,
        random_state: int = 0,
        scaling: Scaling = "standard",
        unit_norm: UnitNorm = "none",
    ) -> None:
        super().__init__(scaling=scaling, unit_norm=unit_norm)
        self.alpha = alpha
        self.rank = rank
        self.solver = solver
        self.steps = steps
        self.lr = lr
        self.random_state = random_state

    def _check_params(self) -> None:
        super()._check_params()
        _check_alpha(self.alpha)
        if self.solver not in ("closed_form", "gradient"):
            raise ValueError(f"solver must be 'closed_form' or 'gradient', got {self.solver!r}")
        if self.solver == "gradient" and self.alpha != 0:
            raise ValueError("alpha is a penalty of the closed form: set alpha=0 for 'gradient'")
        check_count("steps", self.steps)
        if not is_number(self.lr) or not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be a finite number > 0, got {self.lr!r}")
        if not (is_number(self.random_state) and isinstance(self.random_state, Integral)):
            raise ValueError(f"random_state must be an integer, got {self.random_state!r}")
        self._check_rank()

    def _check_rank(self) -> None:
        if self.rank is None:
            return
        check_count("rank", self.rank, also=" or None")
        if self.solver == "gradient":
            raise ValueError("rank is for the closed form: set rank=None for 'gradient'")

    @property
    def n_folds(self) -> int:
        """Into how many folds the pairs are dealt; 1 unless a parameter is "auto"."""
        return N_FOLDS if self.alpha == "auto" else 1

    def settle(self, folds: Folds) -> tuple[Self, Selection]:
        """With the penalty that has the best R² on held-out pairs.

        Args:
            folds: Moments of the pairs, in `n_folds` parts.
        """
        selection = select_ridge(folds, self.scaling, self.translator_type)
        return type(self)(**{**self.get_params(), **selection.choice.params}), selection

    def on_part(self, share: float) -> Self:
        """With the penalty on the sum over pairs that all of them will have.

        Args:
            share: The pairs to fit on, as a share of all; above 0.
        """
        return type(self)(**{**self.get_params(), "alpha": float(self.alpha) / share})

    @classmethod
    def held_out_r2(
        cls, candidates: Sequence[Self], pairs: Decomposed, held_out: Decomposed
    ) -> Iterator[tuple[float, float]]:
        """As for any type; penalties share one eigendecomposition."""
        for path, group in cls._paths(candidates, pairs):
            if path is None:
                yield from super().held_out_r2(group, pairs, held_out)
                continue
            family = path.family([float(one.alpha) for one in group])
            scores, chances = family_r2(family, held_out)
            yield from zip(scores.tolist(), chances.tolist(), strict=True)

    @classmethod
    def predictions(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor
    ) -> Iterator[Tensor]:
        """As for any type; penalties share one eigendecomposition."""
        for path, group in cls._paths(candidates, pairs):
            if path is None:
                yield from super().predictions(group, pairs, x)
                continue
            yield from path.family([float(one.alpha) for one in group]).predictions(x)

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """The map of each candidate; those of low rank share their decompositions."""

        def shared(candidate: Self) -> Scaling | None:
            return None if candidate.rank is None else candidate._closed_scaling

        for scaling, same in groupby(candidates, shared):
            if scaling is None:
                yield from super()._solutions(list(same), pairs)
                continue
            path = pairs.path(scaling)
            for alpha, group in groupby(same, lambda one: float(one.alpha)):
                yield from path.low_rank(alpha, [int(one.rank or 1) for one in group])

    @property
    def _closed_scaling(self) -> Scaling:
        """The scaling of the closed form, which has an intercept in any case."""
        return "center" if self.scaling == "none" else self.scaling

    @classmethod
    def _paths(
        cls, candidates: Sequence[Self], pairs: Decomposed
    ) -> Iterator[tuple[RidgePath | None, list[Self]]]:
        """Neighbouring candidates that differ in their penalty, with one decomposition for all."""

        def shared(candidate: Self) -> Scaling | None:
            plain = candidate.solver == "closed_form" and candidate.unit_norm == "none"
            full = candidate.rank is None and candidate.alpha != 0
            return candidate.scaling if plain and full else None

        for scaling, group in groupby(candidates, shared):
            yield scaling and ridge_path(pairs, scaling), list(group)

    def _solve(self, moments: PairedMoments) -> Solution:
        if self.solver == "gradient":
            return solve_by_gradient(
                moments, self.scaling, steps=self.steps, lr=self.lr, seed=self.random_state
            )
        problem = Problem.from_moments(moments, self._closed_scaling)
        return solve_least_squares(problem, alpha=float(self.alpha), rank=self.rank)

    def _learn_map(self, moments: PairedMoments) -> Map:
        whole = super()._learn_map(moments)
        return whole.factored(self.rank) if self.rank and isinstance(whole, LatentMap) else whole

    def _shapes(self, config: TranslatorConfig) -> dict[str, tuple[int, ...]]:
        d_source, d_target = config.source.dim, config.target.dim
        if self.rank is None or not is_bottleneck(d_source, self.rank, d_target):
            return super()._shapes(config)
        return {"left": (d_source, self.rank), "right": (self.rank, d_target), "bias": (d_target,)}

    def _tensors(self) -> dict[str, Tensor]:
        if len(self.map_.steps) == 1:
            return super()._tensors()
        left, right = (step.state_dict() for step in self.map_.steps)
        return {"left": left["weight"], "right": right["weight"], "bias": right["bias"]}

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        if "left" not in tensors:
            return super()._to_map(tensors)
        return thin_map(tensors["left"], tensors["right"], tensors["bias"], self.unit_norm)


def _check_alpha(alpha: object) -> None:
    if alpha != "auto" and not (is_number(alpha) and 0 <= float(alpha) < float("inf")):
        raise ValueError(f"alpha must be 'auto' or a finite number >= 0, got {alpha!r}")


class LinearTranslator(Translator, translator_type="linear"):
    """The least-squares map, with no penalty and no intercept beyond the scaling's shift.

    Source: Maiorca et al. (2023), "linear". Needs clearly more pairs than dimensions; with
    fewer, `AffineTranslator(alpha=0.1)` is the safer choice.

    Args:
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "pareto" (divided by the root of the deviation only), "center", or "none"
            for a map through the origin.
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    grid: ClassVar[Grid | tuple[Grid, ...] | None] = {}
    complexity: ClassVar[int] = 3

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """As for any type; the decomposition is that of ridge."""
        return (pairs.path(one.scaling).ridge(0.0) for one in candidates)

    def _solve(self, moments: PairedMoments) -> Solution:
        return solve_least_squares(Problem.from_moments(moments, self.scaling))


class LOrthoTranslator(Translator, translator_type="l_ortho"):
    """Solves `linear`, then sets all its singular values to one.

    Source: Maiorca et al. (2023), "l-ortho". Weak directions of the source count as much as
    strong ones, so it needs clearly more pairs than dimensions.

    Args:
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "pareto" (divided by the root of the deviation only), "center" or "none".
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    grid: ClassVar[Grid | tuple[Grid, ...] | None] = {}
    complexity: ClassVar[int] = 4

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """As for any type; the decomposition is that of ridge."""
        return (pairs.path(one.scaling).l_ortho() for one in candidates)

    def _solve(self, moments: PairedMoments) -> Solution:
        return solve_l_ortho(Problem.from_moments(moments, self.scaling))


class OrthoTranslator(Translator, translator_type="ortho"):
    """The rotation (or reflection) that best aligns the pairs; angles and distances are kept.

    The most robust choice with few pairs. For unequal widths it is the paper's zero-padded
    solution. Source: Schönemann (1966); Maiorca et al. (2023), "ortho".

    Args:
        scale: Also fit one scalar by least squares; or, with "columns", one for each target column,
            which brings back spreads that differ from column to column (the diagonal scaling of
            Drift-Adapter, 2025). The map is then no rotation.
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "pareto" (divided by the root of the deviation only), "center" or "none";
            the map stays orthogonal only in scaled coordinates.
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    grid: ClassVar[Grid | tuple[Grid, ...] | None] = {"scaling": ("standard", "center", "none")}
    complexity: ClassVar[int] = 0

    def __init__(
        self,
        *,
        scale: bool | Literal["columns"] = False,
        scaling: Scaling = "standard",
        unit_norm: UnitNorm = "none",
    ) -> None:
        super().__init__(scaling=scaling, unit_norm=unit_norm)
        self.scale = scale

    def _check_params(self) -> None:
        super()._check_params()
        if self.scale != "columns" and not isinstance(self.scale, bool | np.bool_):
            raise ValueError(f"scale must be True, False or 'columns', got {self.scale!r}")

    def _solve(self, moments: PairedMoments) -> Solution:
        problem = Problem.from_moments(moments, self.scaling, full_sxx=self.full_sxx)
        return solve_ortho(problem, scale=self.scale)

    @property
    def full_sxx(self) -> bool:
        """Whether it needs all second moments of the source: for one scale a column only."""
        return self.scale == "columns"
