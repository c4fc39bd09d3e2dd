"""Fit on pairs, translate, score: a translator as a scikit-learn estimator."""

import abc
import copy
import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.errors import (
    InvalidLatentsError,
    NotFittedError,
    RankWarning,
    SelectionWarning,
    UnrelatedPairsWarning,
)
from hf_latent_bridge.latents import (
    Array,
    Latents,
    as_targets,
    as_tensor,
    check_finite,
    check_translated,
    check_unit,
    like,
    unit_rows,
)
from hf_latent_bridge.metrics import clearly_related, look_shuffled, r2_score
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import Folds, Selection, doubts, r2_from_moments
from hf_latent_bridge.solvers import SCALINGS, Decomposed, Scaling, Solution, is_flat
from hf_latent_bridge.spaces import SHARED, SpaceSpec, check_space
from hf_latent_bridge.translators.latent_map import LatentMap, Map, UnitNorm, check_unit_norm


class TranslatorEstimator(abc.ABC):
    """Learns a map from pairs; `Translator` adds the Hub.

    `fit`, `partial_fit` and `fit_moments` read the parameters; whatever is learned stays as it was
    fitted, whatever `set_params` does afterwards.

    Attributes:
        params_: The parameters that the fit read, with the value chosen for each that is "auto".
        source_: The space of the latents that are translated.
        target_: The space that they are translated into.
        moments_: Moments of the pairs; None if the translator was loaded. A rotation's `fit` keeps
            no more of Sxx than its diagonal; `pair_moments` sums what other methods need.
        affine: Whether it learns an affine map, from moments of plain latents.
        full_syy: Whether it needs all second moments of the target, and not only their diagonal.
        selection_: How the parameters that were "auto" were chosen; None if none was.
    """

    params_: dict[str, Any]
    source_: SpaceSpec
    target_: SpaceSpec
    moments_: PairedMoments | None
    _folds: list[PairedMoments | None]
    selection_: Selection | None = None
    affine: ClassVar[bool] = True
    full_syy: ClassVar[bool] = False
    _fixed: ClassVar[tuple[str, ...]] = ("unit_norm",)  # parameters that change what is summed
    _given: dict[str, Any]
    _maps: dict[str | tuple[bool, torch.device, torch.dtype], Map]
    _unrelated_pairs: bool = False

    def __init__(self, *, scaling: Scaling = "standard", unit_norm: UnitNorm = "none") -> None:
        self.scaling = scaling
        self.unit_norm = unit_norm

    @abc.abstractmethod
    def _solve(self, moments: PairedMoments) -> Solution:
        """The affine map for these moments, by this translator's parameters."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of `__init__`, as scikit-learn names them."""
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters of `__init__`; takes effect at the next fit.

        Raises:
            ValueError: An unknown parameter.
        """
        known = self.get_params().keys()
        if unknown := sorted(params.keys() - known):
            raise ValueError(
                f"{type(self).__name__} has no parameters {unknown}: it has {sorted(known)}"
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: Latents,
        y: Latents,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Self:
        """Estimates the map from pairs, forgetting earlier ones.

        Args:
            X: Source latents, (n, d_source).
            y: Target latents, (n, d_target); row i is the counterpart of row i of `X`.
            source: The space of `X`, recorded in the config.
            target: The space of `y`, recorded in the config.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.

        Warns:
            RankWarning: The pairs do not determine the map; the minimum-norm one is taken.
            UnrelatedPairsWarning: The pairs explain no more than shuffled ones do.
        """
        self.begin(X)
        folds = self.fold_moments(X, y) if self.full_sxx else [self._sufficient_moments(X, y)]
        return self._learn(folds, source, target)._solved()

    def fit_transform(self, X: Latents, y: Latents) -> Latents:
        """Fits on the pairs and translates their source latents."""
        return self.fit(X, y).transform(X)

    def partial_fit(self, X: Latents, y: Latents) -> Self:
        """Adds pairs to those already seen; the map is solved when it is next needed.

        It is solved with the parameters of the latest call. Only those that change what is summed,
        such as `unit_norm`, must be those of the earlier calls.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
            NotFittedError: The translator was loaded, so its earlier pairs are not known.
            ValueError: Another `unit_norm` than that of the earlier pairs.
        """
        self._check_params()
        if not self._is_fitted():
            self.begin(X)
            return self._learn(self.fold_moments(X, y), None, None)
        if self.moments_ is None:
            raise NotFittedError(
                "a loaded translator does not hold the moments of its pairs: "
                "fit a new one, or add the new pairs to saved PairedMoments"
            )
        for name in self._fixed:
            if (now := getattr(self, name)) != (before := self._given[name]):
                raise ValueError(
                    f"the {self.n_pairs_:,} pairs so far were summed with {name}={before!r}, which "
                    f"is now {now!r}: set it back to add pairs, or call fit to start over"
                )
        if len(self._folds) != self.n_folds:
            raise ValueError(
                f"the {self.n_pairs_:,} pairs so far were summed in {len(self._folds)} folds, and "
                f"these parameters need {self.n_folds}: set them back to add pairs, or call fit"
            )
        folds = self.fold_moments(X, y, start=self.n_pairs_)
        if not self.moments_.has_full_sxx:
            folds = [fold and replace(fold, sxx=fold.sxx_diagonal) for fold in folds]
        dims = self.dims_of(next(fold for fold in folds if fold is not None))
        for dim, space, name in zip(dims, self.pair_spaces_, ("X", "y"), strict=True):
            self._check_width(dim, space, name)
        both = [
            before + fold if before and fold else before or fold
            for before, fold in zip(self._folds, folds, strict=True)
        ]
        return self._learn(both, *self.pair_spaces_)

    def fit_moments(
        self,
        moments: PairedMoments | Sequence[PairedMoments | None],
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Self:
        """Estimates the map from moments of the pairs, which `pair_moments` sums.

        Args:
            moments: Moments of all pairs. Where a parameter is "auto": moments of each fold, which
                `fold_moments` sums.
            source: The source space, recorded in the config.
            target: The target space, recorded in the config.

        Raises:
            InvalidLatentsError: Another number of folds than `n_folds`, a fold without a pair, or
                no moments.
        """
        self._check_params()
        folds = _as_folds(moments)
        known = [fold for fold in folds if fold is not None]
        for part in known:
            if part.unit_norm not in (None, self.unit_norm):
                raise InvalidLatentsError(
                    f"the moments were summed with unit_norm={part.unit_norm!r}, and this "
                    f"{type(self).__name__} has unit_norm={self.unit_norm!r}: use the same in both"
                )
        if self.n_folds == 1 and known:
            folds = [reduce(add, known)]
        return self._learn(folds, source, target)._solved()

    @property
    def n_folds(self) -> int:
        """Into how many folds the pairs are dealt; 1 unless a parameter is "auto"."""
        return 1

    def fold_moments(
        self, X: Latents, y: Latents, *, start: int = 0, n_folds: int | None = None
    ) -> list[PairedMoments | None]:
        """Moments of a batch of pairs for each fold; pairs are dealt to the folds one by one.

        Args:
            X: Source latents, (n, d_source).
            y: Target latents, (n, d_target).
            start: Number of the first pair among all batches, which decides its fold.
            n_folds: Number of folds; None for as many as the parameters need.

        Returns:
            One entry for each fold; None for one without a pair in this batch.
        """
        n_folds = self.n_folds if n_folds is None else n_folds
        if n_folds == 1:
            return [self.pair_moments(X, y)]
        source, target = as_tensor(X), as_targets(y)
        if source.ndim != 2 or len(source) != len(target) or len(source) == 0:
            return [self.pair_moments(source, target)]  # which refuses them
        check_finite(source)
        check_finite(target)
        rows = [slice((k - start) % n_folds, None, n_folds) for k in range(n_folds)]
        return [
            self.pair_moments(source[part], target[part]) if len(source[part]) else None
            for part in rows
        ]

    def pair_moments(
        self, X: Latents, y: Latents, *, full_sxx: bool = True, full_syy: bool = False
    ) -> PairedMoments:
        """Moments of a batch of pairs after `unit_norm`: all that an affine map may need."""
        self._check_params()
        both = self._normed(X, y)
        full_syy = full_syy or self.full_syy
        moments = PairedMoments.from_batch(*both, full_sxx=full_sxx, full_syy=full_syy)
        return replace(moments, unit_norm=self.unit_norm)

    @property
    def full_sxx(self) -> bool:
        """Whether it needs all second moments of the source, and not only their diagonal."""
        return True

    def _sufficient_moments(self, X: Latents, y: Latents) -> PairedMoments:
        """Moments with the diagonal of Sxx alone, unless all of it must tell if pairs match."""
        moments = self.pair_moments(X, y, full_sxx=False)
        if clearly_related(moments):
            return moments
        source, _ = self._normed(X, torch.ones(moments.n, 1))
        both = torch.promote_types(source.dtype, as_tensor(y).dtype)  # that products are taken in
        nothing = source.new_zeros(moments.n, 1, dtype=both)
        return replace(moments, sxx=PairedMoments.from_batch(source, nothing).sxx)

    def _normed(self, X: Latents, y: Latents) -> tuple[Tensor, Tensor]:
        """Both sides as tensors, after `unit_norm`."""
        source, target = as_tensor(X), as_targets(y)
        if source.ndim == 1:
            raise InvalidLatentsError(
                f"Expected 2D array, got 1D array instead: shape {tuple(source.shape)}. "
                "Reshape your data to (n, d), one row per item"
            )
        if self.unit_norm in ("source", "both"):
            source = unit_rows(source)
        if self.unit_norm in ("target", "both"):
            target = unit_rows(target)
        return source, target

    def begin(self, X: Latents) -> None:
        """Takes what must be known before pairs are summed from a first batch of source latents.

        Args:
            X: (n, d_source), `sample_size` of them where there are so many.
        """
        self._check_params()

    @property
    def summed_by(self) -> tuple[Any, ...]:
        """Equal for translators that can be fitted on the same moments."""
        kind = "affine" if self.affine else type(self).__name__
        return kind, *(getattr(self, name) for name in self._fixed)

    def share_sums(self, other: Self) -> None:
        """Takes over what `begin` made of the first latents for another with equal `summed_by`."""
        self._check_params()

    def fit_identity(self) -> dict[str, Any]:
        """What decides how pairs are summed, for the checkpoint of a fit: JSON values."""
        return self.get_params()

    @property
    def sample_size(self) -> int:
        """How many source latents a fit must see before it can sum pairs."""
        return 0

    def dims_of(self, moments: PairedMoments) -> tuple[int, int]:
        """Widths of the source and target latents that the moments were summed from."""
        d_source, d_target = moments.sxy.shape
        return d_source, d_target

    @overload
    def transform(self, X: Tensor) -> Tensor: ...
    @overload
    def transform(self, X: Array) -> Array: ...
    def transform(self, X: Latents) -> Latents:
        """Translates source latents into the target space.

        Args:
            X: (n, d_source) or one latent (d_source,). float16 and bfloat16 are computed in
                float32. Gradients flow through.

        Returns:
            (n, d_target) or (d_target,): a tensor for a tensor, on its device and in its dtype,
            else a NumPy array.

        Raises:
            InvalidLatentsError: Another width than the source's, NaN or infinity.
        """
        self._require_fit()
        x = self._rows(X, self.source_)
        return like(_translated(self._map_for(x), x), X)

    @overload
    def inverse_transform(self, y: Tensor) -> Tensor: ...
    @overload
    def inverse_transform(self, y: Array) -> Array: ...
    def inverse_transform(self, y: Latents) -> Latents:
        """Carries target latents back into the source space.

        Exact where the map is square and of full rank (so always for `ortho` between equal
        widths); otherwise the least-squares solution of least norm. Norms that `unit_norm` took
        away do not come back.

        Args:
            y: (n, d_target) or one latent (d_target,).

        Returns:
            (n, d_source) or (d_source,): a tensor if `y` is a tensor, else a NumPy array.
        """
        self._require_fit()
        latents = self._rows(y, self.target_, "y")
        return like(_translated(self._map_for(latents, inverse=True), latents), y)

    def score(self, X: Latents, y: Latents) -> float:
        """R² of translated `X` against `y`: the share of the variance of `y` that is explained.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
        """
        predicted, target = as_tensor(self.transform(X)), as_targets(y)
        if predicted.shape != target.shape:
            raise InvalidLatentsError(
                f"score needs target latents of shape {tuple(predicted.shape)}, one row for each "
                f"of X, got {tuple(target.shape)}"
            )
        check_finite(target)
        targets = target.detach().to(predicted.device)
        return r2_score(predicted.detach().double(), targets.double())

    @property
    def map_(self) -> Map:
        """The learned map, from plain source latents to plain target latents."""
        self._require_fit()
        self._solve_now()
        return self._maps["fitted"]

    @property
    def unrelated_pairs_(self) -> bool:
        """Whether the pairs of the fit explain no more than shuffled ones do."""
        self._require_fit()
        self._solve_now()
        return self._unrelated_pairs

    @property
    def n_pairs_(self) -> int:
        """Number of pairs that the fit saw."""
        self._require_fit()
        return self._n_pairs

    @property
    def n_features_in_(self) -> int:
        """Width of the source latents, under scikit-learn's name."""
        self._require_fit()
        return self.source_.dim

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Moves the learned map to a device or floating dtype, which is also what is saved.

        `transform` follows its input wherever the map is; this only saves the first copy.
        """
        self._maps = {"fitted": self.map_.moved(device, dtype)}
        return self

    def move_moments(self, device: torch.device | str) -> Self:
        """Moves the moments of the pairs, to which further pairs are added where they are."""
        if self.moments_ is not None:
            self.moments_ = self.moments_.to(device)
            self._folds = [None if fold is None else fold.to(device) for fold in self._folds]
        return self

    def as_module(self) -> Map:
        """A copy of the map: a `torch.nn.Module` from (..., d_source) to (..., d_target)."""
        return copy.deepcopy(self.map_)

    @property
    def pair_spaces_(self) -> tuple[SpaceSpec, SpaceSpec]:
        """The spaces of both sides of the pairs; the second is `target_` unless both sides move."""
        self._require_fit()
        return self.source_, self.target_

    def _learn(
        self,
        folds: Sequence[PairedMoments | None],
        source: SpaceSpec | None,
        target: SpaceSpec | None,
    ) -> Self:
        self._check_params()
        if len(folds) != self.n_folds:
            raise InvalidLatentsError(
                f"{self!r} needs moments of the pairs in {self.n_folds} fold(s), got {len(folds)}: "
                "sum them with fold_moments; fewer pairs than folds are too few"
            )
        moments = reduce(add, (fold for fold in folds if fold is not None))
        d_source, d_target = self.dims_of(moments)
        for space in (source, target):
            check_space(space)
        source, target = source or SpaceSpec(d_source), target or SpaceSpec(d_target)
        if (source.dim, target.dim) != (d_source, d_target):
            raise InvalidLatentsError(
                f"the pairs have widths {d_source} and {d_target}, but the spaces are {source} "
                f"and {target}"
            )
        self.params_ = self._fit_params()
        self._given = {name: plain(getattr(self, name)) for name in self._fixed}
        self.moments_, self._folds, self.selection_ = moments, list(folds), None
        self.source_, self.target_ = source, target
        self._n_pairs = moments.n
        self._maps = {}
        return self

    def _take_over(self, settled: Self) -> None:
        """Keeps what a fit has chosen."""
        self.params_ = settled.get_params()

    def _fit_params(self) -> dict[str, Any]:
        """A copy of the parameters, as a config states them."""
        return {name: plain(value) for name, value in self.get_params().items()}

    def _as_fitted(self) -> Self:
        """An unfitted translator with the parameters that the fit read."""
        return type(self)(**self.params_)

    def _solve_now(self) -> None:
        if "fitted" in self._maps or self.moments_ is None:
            return
        self._unrelated_pairs = look_shuffled(self.moments_)
        if self._unrelated_pairs:
            warnings.warn(_describe_shuffled(self.moments_), UnrelatedPairsWarning, stacklevel=3)
        as_fitted = self._as_fitted()
        if as_fitted.n_folds > 1:
            as_fitted, self.selection_ = as_fitted.settle(Folds(self._all_folds()))
            widest = max(self.moments_.sxy.shape)
            found = self.selection_ and doubts(self.selection_, self._n_pairs, widest)
            if found:
                warnings.warn("; ".join(found), SelectionWarning, stacklevel=4)
            self._take_over(as_fitted)
        self._maps["fitted"] = as_fitted._learn_map(self.moments_)

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """The map of each candidate for the same pairs.

        A type overrides this where its candidates share work.

        Args:
            candidates: Translators of this type, of which only the parameters count.
            pairs: Moments of the pairs to fit on.
        """
        return (candidate._solve(pairs.moments) for candidate in candidates)

    @classmethod
    def held_out_r2(
        cls, candidates: Sequence[Self], pairs: Decomposed, held_out: Decomposed
    ) -> Iterator[tuple[float, float]]:
        """R² of each candidate on held-out pairs, from moments, and its mean if they were shuffled.

        Args:
            candidates: Translators of this type, of which only the parameters count.
            pairs: Moments of the pairs to fit on.
            held_out: Moments of other pairs.
        """
        for solution in cls._solutions(candidates, pairs):
            yield r2_from_moments(solution.weight, solution.bias, held_out)

    @classmethod
    def predictions(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor
    ) -> Iterator[Tensor]:
        """Translations of held-out latents by each candidate.

        Args:
            candidates: Translators of this type, of which only the parameters count.
            pairs: Moments of the pairs to fit on.
            x: Source latents of other pairs, (n, d_source).
        """
        solutions = cls._solutions(candidates, pairs)
        for candidate, solution in zip(candidates, solutions, strict=True):
            weight, bias = solution.weight.to(x), solution.bias.to(x)
            yield LatentMap(weight, bias, unit_norm=candidate.unit_norm)(x)

    @classmethod
    def searches(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor, y: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Held-out latents of both sides, by each candidate, where they are compared.

        Args:
            candidates: Translators of this type, of which only the parameters count.
            pairs: Moments of the pairs to fit on.
            x: Source latents of other pairs, (n, d_source).
            y: Target latents, (m, d_target).
        """
        return ((predicted, y) for predicted in cls.predictions(candidates, pairs, x))

    def on_part(self, share: float) -> Self:
        """The translator to fit on some of the pairs, to tell how this one would do on all.

        Args:
            share: The pairs to fit on, as a share of all; above 0.
        """
        return self

    def settle(self, folds: Folds) -> tuple[Self, Selection | None]:
        """This translator with a value for each parameter that is "auto", and how it was chosen.

        Args:
            folds: Moments of the pairs, in `n_folds` parts.
        """
        raise NotImplementedError(f"{type(self).__name__} chooses no parameter")

    def _all_folds(self) -> list[PairedMoments]:
        folds = [fold for fold in self._folds if fold is not None]
        if len(folds) < len(self._folds):
            raise InvalidLatentsError(
                f"a choice by {len(self._folds)} folds needs a pair in each, got {self._n_pairs:,} "
                "in all: add pairs, or pass a number in place of 'auto'"
            )
        return folds

    def _solved(self) -> Self:
        self._solve_now()
        return self

    def _learn_map(self, moments: PairedMoments) -> Map:
        """The map for these moments, in the precision of the pairs, by the current parameters."""
        solution = self._solve(moments)
        if solution.rank < solution.full_rank:
            warnings.warn(_describe_rank(solution, moments), RankWarning, stacklevel=4)
        double = moments.eps < torch.finfo(torch.float32).eps
        dtype = torch.float64 if double else torch.float32
        weight, bias = solution.weight.to(dtype).contiguous(), solution.bias.to(dtype)
        return LatentMap(weight, bias, unit_norm=self.unit_norm)

    def _map_for(self, x: Tensor, *, inverse: bool = False) -> Map:
        key = inverse, x.device, x.dtype
        if key not in self._maps:
            fitted = self.map_.inverse() if inverse else self.map_
            self._maps[key] = fitted.moved(x.device, torch.promote_types(x.dtype, torch.float32))
        return self._maps[key]

    def _check_params(self) -> None:
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {SCALINGS}, got {self.scaling!r}")
        check_unit_norm(self.unit_norm)

    def _check_input(self, latents: Latents, space: SpaceSpec) -> Tensor:
        x = self._rows(latents, space)
        check_finite(x)
        return x

    def _rows(self, latents: Latents, space: SpaceSpec, name: str = "X") -> Tensor:
        """Latents of a space as a tensor, which may hold NaN or infinity."""
        x = as_tensor(latents)
        if x.ndim not in (1, 2):
            raise InvalidLatentsError(
                f"latents must be one vector (d,) or a matrix (n, d), got shape {tuple(x.shape)}"
            )
        self._check_width(x.shape[-1], space, name)
        return x

    def _check_width(self, dim: int, space: SpaceSpec, name: str) -> None:
        if dim != space.dim:
            shared = space.pooling == SHARED
            raise InvalidLatentsError(
                f"{name} has {dim} features, but {type(self).__name__} is expecting {space.dim} "
                f"features as input: latents of {space}"
                + (": translate them by their own view of the shared space" if shared else "")
            )

    def _is_fitted(self) -> bool:
        return hasattr(self, "_maps")

    def _require_fit(self) -> None:
        if not self._is_fitted():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted: call fit(X, y), partial_fit or "
                "fit_moments first, or load one with AutoTranslator.from_pretrained"
            )

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the copies of the map on other devices and in other dtypes."""
        state = dict(self.__dict__)
        if "_maps" in state:
            state["_maps"] = {k: v for k, v in self._maps.items() if k == "fitted"}
        return state

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(
                required=True, two_d_labels=True, multi_output=True, single_output=False
            ),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def __repr__(self) -> str:
        params = self.get_params()
        defaults = {k: p.default for k, p in inspect.signature(type(self)).parameters.items()}
        changed = ", ".join(f"{k}={v!r}" for k, v in params.items() if v != defaults[k])
        text = f"{type(self).__name__}({changed})"
        if not self._is_fitted():
            return text
        text += f" from {self.source_} to {self.target_}, {self.n_pairs_:,} pairs"
        before = ", ".join(f"{k}={v!r}" for k, v in self.params_.items() if v != params[k])
        return f"{text}, fitted with {before}" if before else text


def _translated(map_: Map, x: Tensor) -> Tensor:
    """The translations of latents, if both are finite."""
    if not isinstance(map_, LatentMap):  # an affine map makes NaN of what is not finite
        check_finite(x)
    rows = unit_rows(x.to(map_.dtype)) if map_.norms_source else x
    result = map_.forward(rows)
    if result.dtype != x.dtype:
        result = result.to(x.dtype)
    check_translated(result, x)
    if map_.norms_target:
        check_unit(result, rows)
    return result


def plain(value: Any) -> Any:
    """A copy of a parameter's value that JSON can hold: no NumPy scalars, infinity as "inf"."""
    plain = value.item() if isinstance(value, np.generic) else copy.deepcopy(value)
    return "inf" if plain == float("inf") else plain


def _as_folds(
    moments: PairedMoments | Sequence[PairedMoments | None],
) -> list[PairedMoments | None]:
    """The moments of each fold; one fold for moments of all pairs.

    Raises:
        InvalidLatentsError: They are something else, or of no pair at all.
    """
    folds = [moments] if isinstance(moments, PairedMoments) else moments
    known = (PairedMoments, type(None))
    if not isinstance(folds, list | tuple) or not all(isinstance(fold, known) for fold in folds):
        raise InvalidLatentsError(
            "a fit takes PairedMoments, or a list of them for the folds, as pair_moments and "
            f"fold_moments give them, got {type(moments).__name__} {moments!r:.60}"
        )
    if folds and all(fold is None for fold in folds):
        raise InvalidLatentsError(f"a fit needs moments of at least one pair, got {moments!r:.60}")
    return list(folds)


def _describe_shuffled(moments: PairedMoments) -> str:
    return (
        f"these {moments.n:,} pairs explain no more of the target than shuffled pairs would: "
        "check that row i of both sides is the same item, and that each side was encoded as meant"
    )


def _describe_rank(solution: Solution, moments: PairedMoments) -> str:
    text = f"{moments.n} pairs determine {solution.rank} of {solution.full_rank} directions"
    constant = int(is_flat(moments.sxx_diagonal / moments.n, moments.mean_x).sum())
    if constant:
        text += f" ({constant} source columns are constant, or nearly so beside the others)"
    text += "; the minimum-norm map ignores the others"
    if moments.n > solution.full_rank:
        return f"{text}, in which the latents of these pairs do not vary"
    return f"{text}. Add pairs, or regularise with AffineTranslator(alpha=0.1)"
