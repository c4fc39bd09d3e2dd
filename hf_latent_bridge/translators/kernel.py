"""A map that is not affine: ridge regression on the similarities to some landmarks."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from numbers import Integral
from typing import Any, ClassVar, NoReturn, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from hf_latent_bridge.counts import check_count, is_number
from hf_latent_bridge.errors import InvalidLatentsError, NotFittedError, NotInvertibleError
from hf_latent_bridge.latents import Latents, as_tensor, check_finite, unit_rows
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import DIVISORS, Decomposed, Scaling, Solution, is_flat, kernel_ridge
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Grid, Translator, TranslatorConfig
from hf_latent_bridge.translators.latent_map import Map, UnitNorm, check_unit_norm

_SHORTEST = 1e-12  # norm that is scaled to 1, as `normalize` does it
_ROWS = 4096  # that are compared with the landmarks at once


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What turns source latents into similarities: a shift, a scale, and rows to compare with.

    Attributes:
        shift: (d,), taken off each latent.
        inverse_scale: (d,), by which the difference is multiplied; 0 for constant columns.
        rows: (m, d), of unit norm, in scaled coordinates.
        sharpness: (1,), 1 / h² of the Gaussian exp(-‖x - row‖² / 2h²).
    """

    shift: Float[Tensor, " d"]
    inverse_scale: Float[Tensor, " d"]
    rows: Float[Tensor, "m d"]
    sharpness: Float[Tensor, " 1"]

    @classmethod
    def draw(
        cls, x: Float[Tensor, "n d"], number: int, *, scaling: Scaling, bandwidth: float, seed: int
    ) -> Self:
        """Draws rows at random; the statistics are those of all of `x`, in float64.

        Args:
            x: Source latents.
            number: How many to draw; all where there are fewer.
            scaling: Of the latents, before they are brought to unit norm.
            bandwidth: Relative to the median distance of two landmarks.
            seed: Seeds the draw.

        Raises:
            InvalidLatentsError: The latents are so small or large that their norms are lost.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        x = x.detach().to("cpu" if x.device.type == "mps" else x.device, torch.float64)
        mean, variance = x.mean(0), x.var(0, correction=0)
        flat = is_flat(variance, mean)
        scale = torch.where(flat, 1.0, variance ** DIVISORS.get(scaling, 0.0))
        shift = torch.zeros_like(mean) if scaling == "none" else mean
        inverse_scale = torch.where(flat, 0.0, scale.reciprocal())
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        scaled = (x[order[:number].to(x.device)] - shift) * inverse_scale
        lengths = torch.linalg.vector_norm(scaled.to(dtype), dim=1)
        _check_size(x, variance, lengths, inverse_scale.to(dtype))
        rows = normalize(scaled, dim=1)
        apart = torch.cdist(rows, rows)[~torch.eye(len(rows), dtype=torch.bool, device=x.device)]
        median = apart.median() if len(apart) else mean.new_zeros(())
        width = bandwidth * torch.where(median > 0, median, 1.0)
        return cls(shift, inverse_scale, rows, width.pow(-2).reshape(1))

    @property
    def dim(self) -> int:
        """Width of the latents."""
        return self.rows.shape[1]

    def to(self, like: Tensor) -> "Landmarks":
        """The same on the device and in the dtype of a tensor."""
        return Landmarks(*(t.to(like) for t in vars(self).values()))

    def similarities(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """The Gaussian of the distance from each latent, at unit norm, to each landmark."""
        unit = normalize((x - self.shift) * self.inverse_scale, dim=1)
        return ((unit @ self.rows.mT - 1) * self.sharpness).exp()


def _check_size(
    x: Float[Tensor, "n d"],
    variance: Float[Tensor, " d"],
    lengths: Float[Tensor, " m"],
    inverse_scale: Float[Tensor, " d"],
) -> None:
    """Refuses latents whose squares, whose scale, or whose norms once they are scaled, are lost.

    Raises:
        InvalidLatentsError: Says how large they are.
    """
    largest, limits = float(variance.max()), torch.finfo(torch.float64)
    squares_lost = largest < limits.tiny / limits.eps and bool((x != x[0]).any())
    longest, steepest = float(lengths.max()), float(inverse_scale.max())
    if squares_lost or not largest + longest + steepest < limits.max or 0 < longest < _SHORTEST:
        raise InvalidLatentsError(
            f"the source latents are at most {float(x.abs().max()):.1g} in size, so small or large "
            "that their norms are lost: multiply them by one constant, so that they are near 1, "
            "or scale them to unit norm (unit_norm='source')"
        )


class KernelMap(Map):
    """Similarities to landmarks, then an affine map, between two optional scalings to unit norm.

    Attributes:
        shift: (source_dim,).
        inverse_scale: (source_dim,).
        landmarks: (m, source_dim).
        sharpness: (1,).
        weight: (m, target_dim).
        bias: (target_dim,).
        unit_norm: The sides that are scaled to unit norm.
    """

    shift: Tensor
    inverse_scale: Tensor
    landmarks: Tensor
    sharpness: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], *, unit_norm: UnitNorm = "none") -> None:
        """Makes the map from its tensors, by name, which it shares.

        Raises:
            InvalidLatentsError: The shapes do not fit.
            ValueError: An unknown `unit_norm`.
        """
        super().__init__()
        check_unit_norm(unit_norm)
        n_landmarks, self.source_dim = tensors["landmarks"].shape
        self.target_dim = len(tensors["bias"])
        for name, shape in self.shapes(self.source_dim, n_landmarks, self.target_dim).items():
            if tensors[name].shape != shape:
                raise InvalidLatentsError(
                    f"a kernel map needs {name} {shape}, got {tuple(tensors[name].shape)}"
                )
            self.register_buffer(name, tensors[name].detach())
        self.unit_norm: UnitNorm = unit_norm
        self.norms_source = unit_norm in ("source", "both")
        self.norms_target = unit_norm in ("target", "both")

    @staticmethod
    def shapes(source_dim: int, n_landmarks: int, target_dim: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of its tensors."""
        return {
            "shift": (source_dim,),
            "inverse_scale": (source_dim,),
            "landmarks": (n_landmarks, source_dim),
            "sharpness": (1,),
            "weight": (n_landmarks, target_dim),
            "bias": (target_dim,),
        }

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks."""
        return len(self.landmarks)

    def forward(self, x: Float[Tensor, "*n d_source"]) -> Float[Tensor, "*n d_target"]:
        """Translates latents of any leading shape, in the map's own dtype and on its device.

        Args:
            x: (..., source_dim), of any floating dtype.

        Returns:
            (..., target_dim), in the dtype of `x`.
        """
        rows = x.reshape(-1, x.shape[-1]).to(self.weight.dtype)
        if self.norms_source:
            rows = normalize(rows, dim=1)
        base = Landmarks(self.shift, self.inverse_scale, self.landmarks, self.sharpness)
        mapped = torch.addmm(self.bias, base.similarities(rows), self.weight)
        if self.norms_target:
            mapped = normalize(mapped, dim=1)
        return mapped.reshape(*x.shape[:-1], self.target_dim).to(x.dtype)

    def inverse(self) -> NoReturn:
        """There is none in closed form.

        Raises:
            NotInvertibleError: Always; says what to do.
        """
        raise NotInvertibleError(
            "a kernel map has no inverse in closed form: fit a translator in the other direction, "
            "KernelTranslator().fit(y, X)"
        )

    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is."""
        tensors = {k: t.to(device=device, dtype=dtype) for k, t in self.state_dict().items()}
        return type(self)(tensors, unit_norm=self.unit_norm)

    def extra_repr(self) -> str:
        """Widths, number of landmarks and norms, which `print` shows."""
        facts = f"n_landmarks={self.n_landmarks}, unit_norm={self.unit_norm!r}"
        return f"{super().extra_repr()}, {facts}"


class KernelTranslator(Translator, translator_type="kernel"):
    """Ridge on Gaussian similarities to landmarks: bends where no affine map can.

    Latents are scaled and brought to unit norm, and compared with landmarks, some of the source
    latents; ridge regression in the span of the landmarks (Nyström features, Williams & Seeger
    2001) predicts the target. It can gain a point or so of a head's accuracy over ridge, or
    nothing, and loses counterparts: measure it on held-out pairs. It has no inverse.

    The landmarks must be known before pairs are summed. `fit` draws them from all source latents,
    `partial_fit` from its first batch, `fit_translator` from a random sample of 4 `n_landmarks`
    pairs, or the first of a stream, which is read once (shuffle what is sorted);
    `choose_landmarks` takes latents of your own. They are
    published with the map: each reveals what one source latent reveals.

    Args:
        alpha: Penalty relative to the total variance of the features; above 0.
        n_landmarks: How many; as many as there are latents to draw from where those are fewer.
        bandwidth: Width of the Gaussian relative to the median distance of two landmarks.
        random_state: Seeds the draw of landmarks; an integer.
        scaling: Of the source before it is brought to unit norm: "standard", "pareto", "center" or
            "none".
        unit_norm: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    affine: ClassVar[bool] = False
    grid: ClassVar[Grid | tuple[Grid, ...] | None] = {
        "alpha": (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
    }
    complexity: ClassVar[int] = 3
    _fixed: ClassVar[tuple[str, ...]] = (
        *Translator._fixed,
        "n_landmarks",
        "bandwidth",
        "random_state",
        "scaling",
    )
    _sample: Tensor | None = None
    _landmarks: Landmarks | None = None
    _fitted_landmarks: Landmarks | None = None

    def __init__(
        self,
        *,
        alpha: float = 1e-3,
        n_landmarks: int = 256,
        bandwidth: float = 1.0,
        random_state: int = 0,
        scaling: Scaling = "standard",
        unit_norm: UnitNorm = "none",
    ) -> None:
        super().__init__(scaling=scaling, unit_norm=unit_norm)
        self.alpha = alpha
        self.n_landmarks = n_landmarks
        self.bandwidth = bandwidth
        self.random_state = random_state

    def on_part(self, share: float) -> Self:
        """With the penalty on the sum over pairs that all will have, and the same landmarks.

        Args:
            share: The pairs to fit on, as a share of all; above 0.
        """
        part = copy.copy(self)
        part.alpha = float(self.alpha) / share
        return part

    def choose_landmarks(self, X: Latents) -> Self:
        """Keeps source latents from which the coming fits draw their landmarks.

        Args:
            X: Source latents, (n, d_source): a sample of what is to be translated.

        Raises:
            InvalidLatentsError: Not a matrix of at least one row, NaN or infinity.
        """
        x = as_tensor(X).detach()
        if x.ndim != 2 or len(x) == 0:
            raise InvalidLatentsError(
                f"landmarks are drawn from latents (n, d) of at least one item, got shape "
                f"{tuple(x.shape)}"
            )
        check_finite(x)
        self._sample = x.clone()
        self.begin(x)
        return self

    def partial_fit(self, X: Latents, y: Latents) -> Self:
        """Adds pairs to those already seen, with the landmarks of the first batch.

        That batch should hold `n_landmarks` rows and be like the rest; or call `choose_landmarks`.

        Raises:
            InvalidLatentsError: Wrong shapes, NaN or infinity.
            NotFittedError: The translator was loaded, so its earlier pairs are not known.
            ValueError: A parameter that the landmarks depend on, or `unit_norm`, has changed.
        """
        if self._is_fitted():
            self._landmarks = self._fitted_landmarks
        return super().partial_fit(X, y)

    @property
    def summed_by(self) -> tuple[Any, ...]:
        """Equal for translators that have, or will draw, the same landmarks."""
        return *super().summed_by, self.fit_identity().get("landmarks_from")

    def share_sums(self, other: Self) -> None:
        """Takes over the landmarks of another translator."""
        self._landmarks = other._landmarks

    def fit_identity(self) -> dict[str, Any]:
        """The parameters, and a digest of the latents that `choose_landmarks` took."""
        if self._sample is None:
            return super().fit_identity()
        sample = self._sample.cpu().contiguous().view(-1).view(torch.uint8).numpy()
        digest = hashlib.blake2b(sample.data, digest_size=16).hexdigest()
        return super().fit_identity() | {"landmarks_from": digest}

    @property
    def sample_size(self) -> int:
        """How many source latents a fit must see before it can sum pairs."""
        return 0 if self._sample is not None else 4 * self.n_landmarks

    def pair_moments(
        self, X: Latents, y: Latents, *, full_sxx: bool = True, full_syy: bool = False
    ) -> PairedMoments:
        """Moments of a batch of pairs: of the similarities to the landmarks, and of the target.

        Raises:
            NotFittedError: There are no landmarks yet.
            InvalidLatentsError: Wrong shapes, NaN or infinity.
        """
        self._check_params()
        if self._landmarks is None:
            super().pair_moments(X, y)  # which refuses what are no pairs
            raise NotFittedError(
                "there are no landmarks yet: call choose_landmarks(X) before pair_moments"
            )
        x, y = self._normed(X, y)
        if x.shape[1] != self._landmarks.dim:
            raise InvalidLatentsError(
                f"X has {x.shape[1]} features, but KernelTranslator is expecting "
                f"{self._landmarks.dim} features as input, the width of its landmarks"
            )
        check_finite(x)
        features = self._features(x, self._landmarks)
        moments = PairedMoments.from_batch(features, y, full_sxx=full_sxx, full_syy=full_syy)
        dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        eps = max(moments.eps, torch.finfo(dtype).eps)
        return replace(moments, eps=eps, unit_norm=self.unit_norm)

    @staticmethod
    def _features(x: Tensor, landmarks: Landmarks) -> Tensor:
        """Similarities in float64 where the device has it, without such a copy of all latents."""
        dtype = x.dtype if x.device.type == "mps" else torch.float64
        base = landmarks.to(x.new_empty(0, dtype=dtype))
        return torch.cat([base.similarities(rows.to(dtype)) for rows in torch.split(x, _ROWS)])

    def _check_params(self) -> None:
        super()._check_params()
        for name in ("alpha", "bandwidth"):
            value = getattr(self, name)
            if not is_number(value) or not 0 < float(value) < float("inf"):
                raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
        check_count("n_landmarks", self.n_landmarks)
        if not (is_number(self.random_state) and isinstance(self.random_state, Integral)):
            raise ValueError(f"random_state must be an integer, got {self.random_state!r}")

    def begin(self, X: Latents) -> None:
        """Draws the landmarks, from the latents of `choose_landmarks` if it was called.

        Args:
            X: (n, d_source).
        """
        self._check_params()
        x = as_tensor(X) if self._sample is None else self._sample
        if x.ndim != 2 or x.numel() == 0 or not x.is_floating_point():
            return  # pair_moments refuses it
        check_finite(x)
        if self.unit_norm in ("source", "both"):
            x = unit_rows(x)
        self._landmarks = Landmarks.draw(
            x,
            int(self.n_landmarks),
            scaling=self.scaling,
            bandwidth=float(self.bandwidth),
            seed=int(self.random_state),
        )

    def dims_of(self, moments: PairedMoments) -> tuple[int, int]:
        """Widths of the source and target latents that the moments were summed from."""
        if self._landmarks is None or len(moments.mean_x) != len(self._landmarks.rows):
            raise InvalidLatentsError(
                "these are not moments of similarities to this translator's landmarks: call "
                "choose_landmarks(X), then sum them with pair_moments"
            )
        return self._landmarks.dim, len(moments.mean_y)

    def _fit_params(self) -> dict[str, Any]:
        params = super()._fit_params()
        if self._landmarks is not None:
            params["n_landmarks"] = len(self._landmarks.rows)
        return params

    def _learn(
        self,
        folds: Sequence[PairedMoments | None],
        source: SpaceSpec | None,
        target: SpaceSpec | None,
    ) -> Self:
        super()._learn(folds, source, target)
        self._fitted_landmarks = self._landmarks
        return self

    def _as_fitted(self) -> Self:
        as_fitted = super()._as_fitted()
        as_fitted._landmarks = self._fitted_landmarks
        return as_fitted

    @classmethod
    def _solutions(cls, candidates: Sequence[Self], pairs: Decomposed) -> Iterator[Solution]:
        """The map of each candidate; those with the same landmarks share a decomposition."""
        for landmarks, same in groupby(candidates, lambda one: one._known_landmarks()):
            base = landmarks.to(pairs.moments.sxx)
            gram = ((base.rows @ base.rows.mT - 1) * base.sharpness).exp()
            yield from kernel_ridge(pairs.moments, gram, [float(one.alpha) for one in same])

    def _solve(self, moments: PairedMoments) -> Solution:
        (solution,) = self._solutions([self], Decomposed(moments))
        return solution

    @classmethod
    def predictions(
        cls, candidates: Sequence[Self], pairs: Decomposed, x: Tensor
    ) -> Iterator[Tensor]:
        """As for any type, by way of the similarities."""
        solutions = cls._solutions(candidates, pairs)
        for candidate, solution in zip(candidates, solutions, strict=True):
            yield candidate._as_map(solution, pairs.moments).moved(x.device, x.dtype)(x)

    def _learn_map(self, moments: PairedMoments) -> Map:
        return self._as_map(self._solve(moments), moments)

    def _as_map(self, solution: Solution, moments: PairedMoments) -> Map:
        base = self._known_landmarks().to(moments.sxx)
        tensors = {
            "shift": base.shift,
            "inverse_scale": base.inverse_scale,
            "landmarks": base.rows,
            "sharpness": base.sharpness,
            "weight": solution.weight,
            "bias": solution.bias,
        }
        double = moments.eps < torch.finfo(torch.float32).eps
        dtype = torch.float64 if double else torch.float32
        return KernelMap(tensors, unit_norm=self.unit_norm).moved(dtype=dtype)

    def _known_landmarks(self) -> Landmarks:
        if self._landmarks is None:
            raise NotFittedError("there are no landmarks yet: call choose_landmarks(X)")
        return self._landmarks

    def _shapes(self, config: TranslatorConfig) -> dict[str, tuple[int, ...]]:
        return KernelMap.shapes(config.source.dim, int(self.n_landmarks), config.target.dim)

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        return KernelMap(tensors, unit_norm=self.unit_norm)
