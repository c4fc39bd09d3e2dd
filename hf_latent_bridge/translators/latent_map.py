"""What a translator learns: a frozen map between two latent spaces, as a torch module."""

import abc
import math
from collections.abc import Sequence
from typing import Literal, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.solvers import pseudo_inverse, svd

UnitNorm = Literal["none", "source", "target", "both"]
UNIT_NORMS: tuple[UnitNorm, ...] = ("none", "source", "target", "both")


class Map(nn.Module, abc.ABC):
    """A frozen map between two latent spaces; a method that is not affine subclasses this.

    Its verbs are all that the rest of the library uses: `forward` translates, `then` puts another
    map after it, `inverse` gives the way back, `moved` copies it to a device or dtype. Its tensors
    are buffers, and `state_dict()` is what a repo holds. There are no parameters to train.

    Attributes:
        source_dim: Width of the latents it takes.
        target_dim: Width of the latents it gives.
        norms_source: Whether rows are scaled to unit norm first.
        norms_target: Whether rows are scaled to unit norm last.
    """

    source_dim: int
    target_dim: int
    norms_source: bool = False
    norms_target: bool = False

    @abc.abstractmethod
    def forward(self, x: Float[Tensor, "*n d_source"]) -> Float[Tensor, "*n d_target"]:
        """Translates latents of any leading shape, in the map's own dtype and on its device.

        Args:
            x: (..., source_dim), of any floating dtype.

        Returns:
            (..., target_dim), in the dtype of `x`.
        """

    @abc.abstractmethod
    def inverse(self) -> "Map":
        """The map from target to source latents."""

    @abc.abstractmethod
    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is.

        Tensors that are there already are shared.
        """

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of its tensors."""
        return next(self.buffers()).dtype

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return next(self.buffers()).device

    @property
    def steps(self) -> "tuple[Map, ...]":
        """The maps that it applies one after another; itself alone where it is one step."""
        return (self,)

    def then(self, after: "Map") -> "Map":
        """The map that applies this one and then `after`; affine maps become one where they can.

        It is on the device of this map; `after` stays where it is.

        Raises:
            InvalidLatentsError: `after` expects another width than this map gives.
        """
        if self.target_dim != after.source_dim:
            raise InvalidLatentsError(
                f"cannot compose: the first map gives width {self.target_dim}, "
                f"the second expects {after.source_dim}"
            )
        *before, last = self.steps
        first, *rest = after.moved(device=self.device).steps
        steps = [*before, *last.fold(first), *rest]
        return steps[0] if len(steps) == 1 else MapChain(steps)

    def fold(self, after: "Map") -> "tuple[Map, ...]":
        """This single step and the next one: as one step where they fold, else as two."""
        return self, after

    def extra_repr(self) -> str:
        """The two widths, which `print` shows."""
        return f"source_dim={self.source_dim}, target_dim={self.target_dim}"


class LatentMap(Map):
    """The affine map x @ weight + bias, between two optional scalings to unit L2 norm.

    Attributes:
        weight: (source_dim, target_dim).
        bias: (target_dim,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "d_source d_target"],
        bias: Float[Tensor, " d_target"],
        *,
        unit_norm: UnitNorm = "none",
    ) -> None:
        """Makes the map from its tensors, which it shares.

        Args:
            weight: (d_source, d_target).
            bias: (d_target,), of the same dtype, on the same device.
            unit_norm: Sides that are scaled to unit norm: "none", "source" (before the affine
                map), "target" (after it) or "both".

        Raises:
            InvalidLatentsError: The shapes do not fit.
            ValueError: An unknown `unit_norm`.
        """
        super().__init__()
        if weight.ndim != 2 or bias.shape != weight.shape[1:]:
            raise InvalidLatentsError(
                "a map needs a weight (d_source, d_target) and a bias (d_target,), "
                f"got {tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        check_unit_norm(unit_norm)
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", bias.detach())
        self.source_dim, self.target_dim = weight.shape
        self.norms_source = unit_norm in ("source", "both")
        self.norms_target = unit_norm in ("target", "both")

    @property
    def unit_norm(self) -> UnitNorm:
        """The sides that are scaled to unit norm, as `__init__` takes them."""
        return _unit_norm(self.norms_source, self.norms_target)

    def forward(self, x: Float[Tensor, "*n d_source"]) -> Float[Tensor, "*n d_target"]:
        """Translates latents of any leading shape, in the map's own dtype and on its device.

        Args:
            x: (..., source_dim), of any floating dtype.

        Returns:
            (..., target_dim), in the dtype of `x`.
        """
        # looked up as attributes of a module, they take as long as a tenth of a small product
        weight, bias = self._tensors()
        rows = x if x.dtype == weight.dtype else x.to(weight.dtype)
        if self.norms_source:
            rows = normalize(rows, dim=-1)
        if rows.ndim == 2:
            mapped = torch.addmm(bias, rows, weight)
        else:
            mapped = linear(rows, weight.mT, bias)
        if self.norms_target:
            mapped = normalize(mapped, dim=-1)
        return mapped if mapped.dtype == x.dtype else mapped.to(x.dtype)

    def inverse(self) -> "LatentMap":
        """The Moore-Penrose inverse, x = (y - bias) @ weight⁺, with the two norms swapped.

        Exact for a square map of full rank, otherwise the least-squares solution of least norm.
        A norm that the map took away does not come back.
        """
        inverse = pseudo_inverse(self.weight.double(), self._noise)
        return LatentMap(
            inverse.to(self.dtype),
            -(self.bias.double() @ inverse).to(self.dtype),
            unit_norm=_unit_norm(self.norms_target, self.norms_source),
        )

    @property
    def _noise(self) -> float:
        """Which share of the largest singular value rounding may add to another.

        Products of the weights were rounded in at least float32, and then the weights to their
        dtype, each apart from the others.
        """
        wide = torch.promote_types(self.dtype, torch.float32)
        products = torch.finfo(wide).eps * math.sqrt(max(self.weight.shape))
        return max(products, torch.finfo(self.dtype).eps)

    def fold(self, after: Map) -> tuple[Map, ...]:
        """This step and the next one: as one map if both are affine with no norm between.

        Through a bottleneck they stay two, where two thin weights have fewer numbers than one.
        """
        if not isinstance(after, LatentMap) or self.norms_target or after.norms_source:
            return self, after
        if is_bottleneck(self.source_dim, self.target_dim, after.target_dim):
            return self, after
        bias = torch.addmm(after.bias, self.bias[None], after.weight)[0]
        unit_norm = _unit_norm(self.norms_source, after.norms_target)
        return (LatentMap(self.weight @ after.weight, bias, unit_norm=unit_norm),)

    def factored(self, rank: int) -> Map:
        """The same map as two thin steps, U S and Vᵀ of its weight, where those are smaller.

        Args:
            rank: Of the weight; further singular values are dropped.
        """
        if not is_bottleneck(self.source_dim, rank, self.target_dim):
            return self
        u, s, vh = svd(self.weight.double())
        rows, columns = (self.weight.bool().any(axis) for axis in (1, 0))  # dead ones stay at zero
        left = (u[:, :rank] * s[:rank] * rows[:, None]).to(self.dtype).contiguous()
        right = (vh[:rank] * columns).to(self.dtype).contiguous()
        return thin_map(left, right, self.bias, self.unit_norm)

    def _tensors(self) -> tuple[Tensor, Tensor]:
        buffers = cast(dict[str, Tensor], self._buffers)
        return buffers["weight"], buffers["bias"]

    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is."""
        weight = moved_weight(self.weight, device, dtype)
        bias = self.bias.to(device=device, dtype=dtype)
        return type(self)(weight, bias, unit_norm=self.unit_norm)

    def extra_repr(self) -> str:
        """Widths and norms, which `print` shows."""
        return f"{super().extra_repr()}, unit_norm={self.unit_norm!r}"


def moved_weight(
    weight: Tensor, device: torch.device | str | None, dtype: torch.dtype | None
) -> Tensor:
    """The weight of a map on another device or in another floating dtype.

    Raises:
        InvalidLatentsError: All of it is too small for the dtype, so that it would be zero.
    """
    moved = weight.to(device=device, dtype=dtype)
    smallest = torch.finfo(moved.dtype).tiny / 64  # below, little is left of the digits
    if moved.dtype != weight.dtype and weight.any() and not (moved.abs() >= smallest).any():
        raise InvalidLatentsError(
            f"the weights of the map are at most {float(weight.abs().max()):.1g}, too small for "
            f"{moved.dtype}: keep a wider dtype, or divide the source latents by a constant, so "
            "that they are near 1, and fit again"
        )
    return moved


class MapChain(Map):
    """Maps applied one after another, where they do not fold into one; `Map.then` makes it."""

    def __init__(self, steps: Sequence[Map]) -> None:
        """Takes at least one map; the widths of neighbours must agree."""
        super().__init__()
        for number, step in enumerate(steps):
            self.add_module(str(number), step)
        self.source_dim, self.target_dim = steps[0].source_dim, steps[-1].target_dim
        self.norms_source, self.norms_target = steps[0].norms_source, steps[-1].norms_target

    @property
    def steps(self) -> tuple[Map, ...]:
        """The maps, in the order in which latents pass them."""
        return tuple(step for step in self._modules.values() if isinstance(step, Map))

    def forward(self, x: Float[Tensor, "*n d_source"]) -> Float[Tensor, "*n d_target"]:
        """Translates latents of any leading shape; nothing is rounded between the steps.

        Args:
            x: (..., source_dim), of any floating dtype.

        Returns:
            (..., target_dim), in the dtype of `x`.
        """
        latents = x.to(self.dtype)
        for step in self.steps:
            latents = step(latents)
        return latents.to(x.dtype)

    def inverse(self) -> Map:
        """The inverses of the maps, in reverse order."""
        last, *others = reversed(self.steps)
        back = last.inverse()
        for step in others:
            back = back.then(step.inverse())
        return back

    def moved(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy on another device or in another floating dtype; this one stays where it is."""
        return type(self)([step.moved(device, dtype) for step in self.steps])


def thin_map(
    left: Float[Tensor, "d_source r"],
    right: Float[Tensor, "r d_target"],
    bias: Float[Tensor, " d_target"],
    unit_norm: UnitNorm,
) -> Map:
    """The map x @ left @ right + bias, as two steps where those are smaller than one.

    Args:
        left: (d_source, r).
        right: (r, d_target).
        bias: (d_target,).
        unit_norm: Sides that are scaled to unit norm.
    """
    first = _unit_norm(unit_norm in ("source", "both"), False)
    last = _unit_norm(False, unit_norm in ("target", "both"))
    start = LatentMap(left, left.new_zeros(left.shape[1]), unit_norm=first)
    return start.then(LatentMap(right, bias, unit_norm=last))


def is_bottleneck(source_dim: int, dim: int, target_dim: int) -> bool:
    """Whether two weights by way of `dim` have fewer numbers than one between the outer widths."""
    return dim * (source_dim + target_dim) < source_dim * target_dim


def check_unit_norm(unit_norm: object) -> None:
    """Refuses what is not one of the four choices of sides.

    Raises:
        ValueError: Names the choices.
    """
    if unit_norm not in UNIT_NORMS:
        raise ValueError(f"unit_norm must be one of {UNIT_NORMS}, got {unit_norm!r}")


def _unit_norm(source: bool, target: bool) -> UnitNorm:
    if source:
        return "both" if target else "source"
    return "target" if target else "none"
