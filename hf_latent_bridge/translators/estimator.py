"""The scikit-learn face of a translator: fit on pairs, translate, score."""

import abc
import inspect
import warnings
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, NotFittedError, RankWarning
from hf_latent_bridge.latents import Array, Latents, as_tensor, check_finite, like
from hf_latent_bridge.metrics import r2_score
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import SCALINGS, AffineMap, Scaling, Solution, is_flat
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.latent_map import TranslatorModule, translate

Normalize = Literal["none", "source", "target", "both"]
_NORMALIZE: tuple[Normalize, ...] = ("none", "source", "target", "both")


class TranslatorEstimator(abc.ABC):
    """Learns an affine map from pairs; `Translator` adds the Hub.

    Attributes:
        source_: Whose latents are translated.
        target_: Whose space they are carried into.
        moments_: Moments of the pairs; None if the translator was loaded.
    """

    source_: SpaceSpec
    target_: SpaceSpec
    moments_: PairedMoments | None

    def __init__(self, *, scaling: Scaling = "standard", normalize: Normalize = "none") -> None:
        self.scaling = scaling
        self.normalize = normalize

    @abc.abstractmethod
    def _solve(self, moments: PairedMoments) -> Solution:
        """The map for these moments; raises ValueError on parameters out of range."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of `__init__`, as scikit-learn names them."""
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters of `__init__`; takes effect at the next fit.

        Raises:
            ValueError: An unknown parameter.
        """
        unknown = sorted(params.keys() - self.get_params().keys())
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameters {unknown}")
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
        """
        return self.fit_moments(self.pair_moments(X, y), source=source, target=target)

    def fit_transform(self, X: Latents, y: Latents) -> Latents:
        """Fits on the pairs and translates their source latents."""
        return self.fit(X, y).transform(X)

    def partial_fit(self, X: Latents, y: Latents) -> Self:
        """Adds pairs to those already seen; the map is solved when it is next needed.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
            NotFittedError: The translator was loaded, so its earlier pairs are not known.
        """
        moments = self.pair_moments(X, y)
        if not self._is_fitted():
            return self._learn(moments, None, None)
        if self.moments_ is None:
            raise NotFittedError(
                "a loaded translator does not hold the moments of its pairs: "
                "fit a new one, or add the new pairs to saved PairedMoments"
            )
        self._check_width(moments.mean_x, self.source_width, "source_")
        self._check_width(moments.mean_y, self.target_width, "target_")
        return self._learn(self.moments_ + moments, self.source_, self.target_)

    def fit_moments(
        self,
        moments: PairedMoments,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Self:
        """Estimates the map from moments of the pairs, which `pair_moments` sums.

        Args:
            moments: Moments of all pairs.
            source: The source space, recorded in the config.
            target: The target space, recorded in the config.
        """
        self._learn(moments, source, target)
        self._solve_now()
        return self

    def pair_moments(self, X: Latents, y: Latents, *, full_syy: bool = False) -> PairedMoments:
        """Moments of a batch of pairs, as this translator needs them (after `normalize`)."""
        self._check_params()
        if y is None:
            raise InvalidLatentsError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        source, target = as_tensor(X), _as_columns(y)
        if source.ndim == 1:
            raise InvalidLatentsError(
                f"Expected 2D array, got 1D array instead: shape {tuple(source.shape)}. "
                "Reshape your data to (n, d), one row per item"
            )
        before, after = self._norms()
        if before:
            source = torch.nn.functional.normalize(source, dim=-1)
        if after:
            target = torch.nn.functional.normalize(target, dim=-1)
        return PairedMoments.from_batch(source, target, full_syy=full_syy)

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
        x = self._check_input(X, self.source_width, "source_")
        return like(translate(x, self._map_for(x), *self._norms()), X)

    __call__ = transform

    @overload
    def inverse_transform(self, Y: Tensor) -> Tensor: ...
    @overload
    def inverse_transform(self, Y: Array) -> Array: ...
    def inverse_transform(self, Y: Latents) -> Latents:
        """Carries target latents back into the source space.

        Exact where the map is square and of full rank (so always for `ortho` between equal
        widths); otherwise the least-squares solution of least norm. Norms that `normalize` took
        away do not come back.

        Args:
            Y: (n, d_target) or one latent (d_target,).

        Returns:
            (n, d_source) or (d_source,), in the form that `Y` has.
        """
        y = self._check_input(Y, self.target_width, "target_")
        before, after = self._norms()
        return like(translate(y, self._map_for(y, inverse=True), after, before), Y)

    def score(self, X: Latents, y: Latents) -> float:
        """R² of translated `X` against `y`: the share of the variance of `y` that is explained."""
        predicted = as_tensor(self.transform(X))
        return r2_score(predicted.double(), _as_columns(y).to(predicted.device).double())

    @property
    def map_(self) -> AffineMap:
        """The learned map y = x @ weight + bias, everything folded in but `normalize`."""
        self._require_fit()
        self._solve_now()
        return self._maps["fitted"]

    @property
    def n_pairs_(self) -> int:
        """Number of pairs that the fit saw."""
        self._require_fit()
        return self._n_pairs

    @property
    def n_features_in_(self) -> int:
        """Width of the source latents, under scikit-learn's name."""
        return self.source_width

    @property
    def source_width(self) -> int:
        """Width of the source latents."""
        self._require_fit()
        return self.source_.dim

    @property
    def target_width(self) -> int:
        """Width of the target latents."""
        self._require_fit()
        return self.target_.dim

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Moves the learned map to a device or floating dtype, which is also what is saved.

        `transform` follows its input wherever the map is; this only saves the first copy.
        """
        self._maps = {"fitted": self.map_.to(device, dtype)}
        return self

    def as_module(self) -> TranslatorModule:
        """A frozen `torch.nn.Module` that translates (..., d_source) to (..., d_target)."""
        return TranslatorModule(self.map_, *self._norms())

    def _learn(
        self, moments: PairedMoments, source: SpaceSpec | None, target: SpaceSpec | None
    ) -> Self:
        self._check_params()
        d_source, d_target = moments.sxy.shape
        source, target = source or SpaceSpec(d_source), target or SpaceSpec(d_target)
        if (source.dim, target.dim) != (d_source, d_target):
            raise InvalidLatentsError(
                f"the pairs are {d_source} and {d_target} wide, but the spaces are {source} "
                f"and {target}"
            )
        self.moments_ = moments
        self.source_, self.target_ = source, target
        self._n_pairs = moments.n
        self._maps = {}
        return self

    def _solve_now(self) -> None:
        if "fitted" in self._maps or self.moments_ is None:
            return
        solution = self._solve(self.moments_)
        if solution.rank < solution.full_rank:
            warnings.warn(_describe_rank(solution, self.moments_), RankWarning, stacklevel=3)
        dtype = (
            torch.float64 if self.moments_.eps < torch.finfo(torch.float32).eps else torch.float32
        )
        self._maps["fitted"] = solution.map.to(dtype=dtype)

    def _map_for(self, x: Tensor, *, inverse: bool = False) -> AffineMap:
        dtype = torch.promote_types(x.dtype, torch.float32)
        key = f"{'inverse' if inverse else 'forward'} {x.device} {dtype}"
        if key not in self._maps:
            fitted = self.map_.inverse() if inverse else self.map_
            self._maps[key] = fitted.to(x.device, dtype)
        return self._maps[key]

    def _norms(self) -> tuple[bool, bool]:
        return self.normalize in ("source", "both"), self.normalize in ("target", "both")

    def _check_params(self) -> None:
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {SCALINGS}, got {self.scaling!r}")
        if self.normalize not in _NORMALIZE:
            raise ValueError(f"normalize must be one of {_NORMALIZE}, got {self.normalize!r}")

    def _check_input(self, latents: Latents, width: int, side: str) -> Tensor:
        x = as_tensor(latents)
        if x.ndim not in (1, 2):
            raise InvalidLatentsError(
                f"latents must be one vector (d,) or a matrix (n, d), got shape {tuple(x.shape)}"
            )
        self._check_width(x, width, side)
        check_finite(x)
        return x

    def _check_width(self, x: Tensor, width: int, side: str) -> None:
        if x.shape[-1] != width:
            raise InvalidLatentsError(
                f"X has {x.shape[-1]} features, but {type(self).__name__} is expecting {width} "
                f"features as input: latents of {getattr(self, side)}"
            )

    def _is_fitted(self) -> bool:
        return hasattr(self, "_maps")

    def _require_fit(self) -> None:
        if not self._is_fitted():
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted: call fit(X, Y), partial_fit or "
                "fit_moments first, or load one with AutoTranslator.from_pretrained"
            )

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, multi_output=True),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
            input_tags=InputTags(),
        )

    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in inspect.signature(type(self)).parameters.items()}
        params = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items() if v != defaults[k])
        fitted = ""
        if self._is_fitted():
            fitted = f" from {self.source_} to {self.target_}, {self.n_pairs_:,} pairs"
        return f"{type(self).__name__}({params}){fitted}"


def _as_columns(y: Latents) -> Tensor:
    """Target latents as a matrix; a plain vector is one column, as in scikit-learn."""
    target = as_tensor(y)
    return target[:, None] if target.ndim == 1 else target


def _describe_rank(solution: Solution, moments: PairedMoments) -> str:
    text = f"{moments.n} pairs determine {solution.rank} of {solution.full_rank} directions"
    constant = int(is_flat(moments.sxx.diagonal() / moments.n, moments.mean_x).sum())
    if constant:
        text += f" ({constant} source columns are constant)"
    text += "; the minimum-norm map ignores the others"
    if moments.n > solution.full_rank:
        return f"{text}, in which the latents of these pairs do not vary"
    return f"{text}. Add pairs, or regularise with AffineTranslator(alpha=0.1)"
