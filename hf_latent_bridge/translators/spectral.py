"""The family between ridge and rotation: a penalty, and an exponent on the singular values."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import ClassVar, Literal, Self

import numpy as np
from torch import Tensor

from hf_latent_bridge.counts import is_number
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import N_FOLDS, Folds, Selection, family_r2, select_ridge
from hf_latent_bridge.solvers import Decomposed, MapFamily, Scaling, Solution, Spectrum
from hf_latent_bridge.translators.base import Grid, Translator
from hf_latent_bridge.translators.latent_map import UnitNorm

_FLATTENED, _FREE = 0.75, 0.8


class SpectralTranslator(Translator, translator_type="spectral"):
    """Ridge with its singular values flattened: between regression and rotation.

    The ridge solution U S Vᵀ becomes U S^gamma Vᵀ, times one scalar. The paper's estimators are the
    corners (with `scale=False`): `linear` at alpha=0, gamma=1; `l_ortho` at alpha=0, gamma=0;
    `ortho` at alpha=inf, gamma=0; and gamma=1 is ridge. Inside, a penalty keeps weak directions of
    the source from being blown up, and a small exponent keeps directions that are hard to predict
    from vanishing, so that neighbours stay apart.

    Args:
        alpha: Penalty relative to the mean variance of a source column, so that it means the same
            under every scaling; from 0 to infinity, for which `config.json` says "inf". "auto" is
            the penalty with which ridge has the best R² on held-out pairs, of 60; `selection_`
            keeps the scores of ridge.
        gamma: Exponent of the singular values, from 0 (rotation) to 1 (ridge). "auto", which needs
            alpha="auto", is 0.75, or 1 where ridge has at least four fifths of the source's
            degrees of freedom: there it shrinks little, and nothing is to be undone.
        scale: Multiply the map by the scalar that least squares gives.
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "pareto" (divided by the root of the deviation only), "center" or "none".
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    grid: ClassVar[Grid | tuple[Grid, ...] | None] = (
        {"alpha": (10.0, 3.0, 1.0, 0.3), "gamma": (0.25, 0.5, 0.75)},
        {"scaling": ("pareto",), "alpha": ("auto",), "gamma": (0.25, 0.5, 1.0)},
        {"scaling": ("pareto",), "alpha": (30.0, 3.0, 0.3, 0.03), "gamma": (0.75,)},
        {"scaling": ("center",), "alpha": (10.0, 1.0, 0.1), "gamma": (0.5, 0.75)},
        {"scaling": ("none",), "alpha": (1.0, 0.1), "gamma": (0.25, 0.5)},
    )
    complexity: ClassVar[int] = 2

    def __init__(
        self,
        *,
        alpha: float | Literal["inf", "auto"] = 1.0,
        gamma: float | Literal["auto"] = 0.25,
        scale: bool = True,
        scaling: Scaling = "standard",
        unit_norm: UnitNorm = "none",
    ) -> None:
        super().__init__(scaling=scaling, unit_norm=unit_norm)
        self.alpha = alpha
        self.gamma = gamma
        self.scale = scale

    def _check_params(self) -> None:
        super()._check_params()
        named = self.alpha in ("inf", "auto")
        if not named and not (is_number(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be a number >= 0, 'inf' or 'auto', got {self.alpha!r}")
        self._check_gamma()
        if not isinstance(self.scale, bool | np.bool_):
            raise ValueError(f"scale must be True or False, got {self.scale!r}")

    def _check_gamma(self) -> None:
        if self.gamma == "auto":
            if self.alpha != "auto":
                raise ValueError(f"gamma='auto' needs alpha='auto', got alpha={self.alpha!r}")
        elif not is_number(self.gamma) or not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be a number from 0 to 1 or 'auto', got {self.gamma!r}")

    @property
    def n_folds(self) -> int:
        """Into how many folds the pairs are dealt; 1 unless `alpha` is "auto"."""
        return N_FOLDS if self.alpha == "auto" else 1

    def settle(self, folds: Folds) -> tuple[Self, Selection]:
        """With the penalty by which ridge does best on held-out pairs, and then the exponent.

        Args:
            folds: Moments of the pairs, in `n_folds` parts.
        """
        selection = select_ridge(folds, self.scaling, "ridge", relative=True)
        params = {**self.get_params(), **selection.choice.params}
        if self.gamma == "auto":
            freedom = folds.ridge(self.scaling).freedom[selection.chosen]
            params["gamma"] = 1.0 if freedom >= _FREE else _FLATTENED
        return type(self)(**params), selection

    def on_part(self, share: float) -> Self:
        """With the penalty on the sum over pairs that all of them will have.

        Args:
            share: The pairs to fit on, as a share of all; above 0.
        """
        if self.alpha == "inf":
            return self
        return type(self)(**{**self.get_params(), "alpha": float(self.alpha) / share})

    @classmethod
    def held_out_r2(
        cls, candidates: Sequence[Self], pairs: Decomposed, held_out: Decomposed
    ) -> Iterator[tuple[float, float]]:
        """As for any type, without the weights of any map."""
        for spectrum, group in cls._spectra(candidates, pairs):
            scores, chances = family_r2(_family(spectrum, group), held_out)
            yield from zip(scores.tolist(), chances.tolist(), strict=True)

    @classmethod
    def predictions(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor
    ) -> Iterator[Tensor]:
        """As for any type, without the weights of any map."""
        if any(one.unit_norm != "none" for one in candidates):
            yield from super().predictions(candidates, pairs, x)
            return
        for spectrum, group in cls._spectra(candidates, pairs):
            yield from _family(spectrum, group).predictions(x)

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """The map of each candidate."""
        for spectrum, group in cls._spectra(candidates, pairs):
            yield from (spectrum.solution(float(one.gamma), scale=one.scale) for one in group)

    @classmethod
    def _spectra(
        cls, candidates: Sequence[Self], pairs: Decomposed
    ) -> Iterator[tuple[Spectrum, list[Self]]]:
        """Neighbouring candidates that differ in `gamma` and `scale` alone, and what they share."""
        for scaling, same in groupby(candidates, lambda one: one.scaling):
            path = pairs.path(scaling)
            for alpha, group in groupby(same, lambda one: float(one.alpha)):
                penalty = alpha if math.isinf(alpha) else alpha * path.spread
                yield path.spectrum(penalty), list(group)

    def _solve(self, moments: PairedMoments) -> Solution:
        (solution,) = self._solutions([self], Decomposed(moments))
        return solution


def _family(spectrum: Spectrum, group: Sequence[SpectralTranslator]) -> MapFamily:
    return spectrum.family([(float(one.gamma), bool(one.scale)) for one in group])
