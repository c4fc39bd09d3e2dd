"""A translator whose two sides both move: queries and items meet in a space that they share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from hf_latent_bridge.canonical import (
    ALPHAS,
    CanonicalProblem,
    Information,
    held_out_information,
)
from hf_latent_bridge.counts import check_count, is_number
from hf_latent_bridge.errors import ConfigError
from hf_latent_bridge.latents import Latents, as_targets, unit_rows
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import N_FOLDS, Folds, Selection
from hf_latent_bridge.solvers import Decomposed, Solution
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Grid, Translator, TranslatorConfig
from hf_latent_bridge.translators.latent_map import Map
from hf_latent_bridge.translators.shared_space import (
    SharedMap,
    SharedViewTranslator,
    shared_maps,
    shared_spec,
)

SOURCE, TARGET = "source", "target"


class TwoSidedMap(SharedMap):
    """The source's map into a shared space, and the target's beside it.

    Attributes:
        target: The target's map.
        correlations: (target_dim,), of each axis.
        lengths: (2,), the usual length of a vector of each side before it becomes 1.
    """

    target: SharedMap
    correlations: Tensor
    lengths: Tensor

    def __init__(
        self, source: SharedMap, target: SharedMap, correlations: Tensor, lengths: Tensor
    ) -> None:
        """Makes the map from its parts, which it shares."""
        super().__init__(source.weight, source.bias, source.inverse_weight, source.inverse_bias)
        self.add_module("target", target)
        self.register_buffer("correlations", correlations.detach())
        self.register_buffer("lengths", lengths.detach())

    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is."""
        own = SharedMap(self.weight, self.bias, self.inverse_weight, self.inverse_bias)
        numbers = (t.to(device=device, dtype=dtype) for t in (self.correlations, self.lengths))
        return type(self)(own.moved(device, dtype), self.target.moved(device, dtype), *numbers)


class SharedTranslator(Translator, translator_type="shared"):
    """Queries and items meet in a space that their two encoders share.

    `transform` carries the source's latents there, and `target_translator_` the target's: both
    sides move, so it is for search alone. It finds more counterparts than any map into the target
    can, above all with few pairs or unlike encoders. A head, a decoder or an index of the target's
    own vectors cannot read its results. The method is that of `SharedSpace`, which joins more than
    two encoders; here one repo holds both sides, and `select_translator(...,
    objective="counterpart")` compares it with the other types.

    Args:
        dim: Number of axes; fewer where a side varies in fewer directions. "auto" for the first
            that hold 99 % of the held-out mutual information.
        alpha: Penalty relative to a mean variance of 1: about 1, or 3 and more with few pairs.
            "auto" for the one with the most held-out mutual information.
        shrink: By which correlations of the sample are taken down.
    """

    moves_target: ClassVar[bool] = True
    full_syy: ClassVar[bool] = True
    grid: ClassVar[Grid | tuple[Grid, ...] | None] = {}
    complexity: ClassVar[int] = 5
    _target: SpaceSpec | None = None

    def __init__(
        self,
        *,
        dim: int | Literal["auto"] = "auto",
        alpha: float | Literal["auto"] = "auto",
        shrink: float = 0.9,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.alpha = alpha
        self.shrink = shrink

    @property
    def target_(self) -> SpaceSpec:
        """The shared space; its revision is a digest of both maps, which are solved for it."""
        self._require_fit()
        if self._target is None:
            self._target = shared_spec({SOURCE: self._both, TARGET: self._both.target})
        return self._target

    @target_.setter
    def target_(self, space: SpaceSpec) -> None:
        self._target = space

    @property
    def target_translator_(self) -> SharedViewTranslator:
        """The translator of the target's latents into the shared space."""
        params = {
            "view": TARGET,
            "views": [SOURCE, TARGET],
            "alpha": float(self.params_["alpha"]),
            "shrink": float(self.params_["shrink"]),
            "length": float(self._both.lengths[1]),
            "correlations": self._both.correlations.tolist(),
        }
        view = SharedViewTranslator()._learn_from(
            params, (self._known_items(), self.target_), self.n_pairs_, self._both.target
        )
        view.dataset_, view._query_bank = dict(self.dataset_), self._query_bank
        return view

    @property
    def information_(self) -> Information | None:
        """How much both sides tell about each other on held-out pairs, in bits, by penalty.

        None if neither `alpha` nor `dim` was "auto".
        """
        self._require_fit()
        self._solve_now()
        return self._information

    @property
    def _both(self) -> TwoSidedMap:
        fitted = self.map_
        if not isinstance(fitted, TwoSidedMap):
            raise TypeError(f"the map of a SharedTranslator is a TwoSidedMap, got {type(fitted)}")
        return fitted

    def _known_items(self) -> SpaceSpec:
        if self._items is None:
            raise ConfigError("config.json of a translator of type 'shared' must state its items")
        return self._items

    def _check_params(self) -> None:
        super()._check_params()
        if self.dim != "auto":
            check_count("dim", self.dim, also=" or 'auto'")
        if self.alpha != "auto" and not (
            is_number(self.alpha) and 0 < float(self.alpha) < float("inf")
        ):
            raise ValueError(f"alpha must be 'auto' or a finite number > 0, got {self.alpha!r}")
        if not is_number(self.shrink) or not 0 < float(self.shrink) <= 1:
            raise ValueError(f"shrink must be above 0 and at most 1, got {self.shrink!r}")

    @property
    def n_folds(self) -> int:
        """Into how many folds the pairs are dealt; 1 unless a parameter is "auto"."""
        return N_FOLDS if "auto" in (self.dim, self.alpha) else 1

    def settle(self, folds: Folds) -> tuple[Self, Selection | None]:
        """With the penalty and the width by held-out mutual information.

        Args:
            folds: Moments of the pairs, in `n_folds` parts.
        """
        tried = ALPHAS if self.alpha == "auto" else (float(self.alpha),)
        parts = [{(SOURCE, TARGET): fold} for fold in folds.held_out]
        found, alpha = held_out_information(parts, tried)
        dim = found.n_axes if self.dim == "auto" else self.dim
        settled = type(self)(dim=dim, alpha=alpha, shrink=self.shrink)
        settled._information = found
        return settled, None

    def _take_over(self, settled: Self) -> None:
        super()._take_over(settled)
        self._information = settled._information

    def score(self, X: Latents, y: Latents) -> float:
        """R² of both sides in the shared space: of the source's vectors against the target's.

        Args:
            X: Source latents, (n, d_source).
            y: Target latents, (n, d_target).

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
        """
        return super().score(X, self.transform_target(as_targets(y)))

    @property
    def pair_spaces_(self) -> tuple[SpaceSpec, SpaceSpec]:
        """The spaces of both sides of the pairs, those of the two encoders."""
        self._require_fit()
        return self.source_, self._known_items()

    def _set_spaces(self, source: SpaceSpec, target: SpaceSpec) -> None:
        self.source_, self._items = source, target

    def _learn(
        self,
        folds: Sequence[PairedMoments | None],
        source: SpaceSpec | None,
        target: SpaceSpec | None,
    ) -> Self:
        super()._learn(folds, source, target)
        self._items, self._target = self._target, None
        self._information = None
        return self

    def __repr__(self) -> str:
        if not self._is_fitted() or "fitted" in self._maps:
            return super().__repr__()
        return (
            f"{type(self).__name__} of {self.source_} and {self._known_items()}, "
            f"{self.n_pairs_:,} pairs, to be solved when it is needed"
        )

    def _solve(self, moments: PairedMoments) -> Solution:
        """The affine part of the source's map."""
        weight, bias = self._problem(moments).maps(
            alpha=float(self.alpha), dim=int(self.dim), shrink=float(self.shrink)
        )[SOURCE]
        return Solution(weight, bias, weight.shape[1], weight.shape[1])

    def _learn_map(self, moments: PairedMoments) -> Map:
        solved = self._problem(moments).solve(alpha=float(self.alpha), dim=int(self.dim))
        shrink = float(self.shrink)
        double = moments.eps < torch.finfo(torch.float32).eps
        maps = shared_maps(solved, shrink, torch.float64 if double else torch.float32)
        correlations = solved[SOURCE].correlations
        lengths = correlations.new_tensor([solved[side].length(shrink) for side in maps])
        like = maps[SOURCE].weight
        return TwoSidedMap(maps[SOURCE], maps[TARGET], correlations.to(like), lengths.to(like))

    @staticmethod
    def _problem(moments: PairedMoments) -> CanonicalProblem:
        return CanonicalProblem.from_moments({(SOURCE, TARGET): moments})

    @classmethod
    def predictions(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor
    ) -> Iterator[Tensor]:
        """Held-out source latents in the shared space of each candidate."""
        for maps in cls._all_maps(candidates, pairs):
            yield _into(x, *maps[SOURCE])

    @classmethod
    def searches(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor, y: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Held-out latents of both sides in the shared space of each candidate."""
        for maps in cls._all_maps(candidates, pairs):
            yield _into(x, *maps[SOURCE]), _into(y, *maps[TARGET])

    @classmethod
    def _all_maps(
        cls, candidates: Sequence[Self], pairs: Decomposed
    ) -> Iterator[Mapping[str, tuple[Tensor, Tensor]]]:
        problem = cls._problem(pairs.moments)
        for one in candidates:
            yield problem.maps(alpha=float(one.alpha), dim=int(one.dim), shrink=float(one.shrink))

    def _shapes(self, config: TranslatorConfig) -> dict[str, tuple[int, ...]]:
        self._items = config.items
        k = config.target.dim
        shapes: dict[str, tuple[int, ...]] = {"correlations": (k,), "lengths": (2,)}
        for prefix, d in (("", config.source.dim), ("target.", self._known_items().dim)):
            shapes |= {f"{prefix}weight": (d, k), f"{prefix}bias": (k,)}
            shapes |= {f"{prefix}inverse_weight": (k, d), f"{prefix}inverse_bias": (d,)}
        return shapes

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        names = ("weight", "bias", "inverse_weight", "inverse_bias")
        source, target = (
            SharedMap(*(tensors[f"{prefix}{name}"] for name in names)) for prefix in ("", "target.")
        )
        return TwoSidedMap(source, target, tensors["correlations"], tensors["lengths"])


def _into(latents: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return unit_rows(torch.addmm(bias.to(latents), latents, weight.to(latents)))
