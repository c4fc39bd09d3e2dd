"""Paired moments: the few megabytes about paired latents that every solver and metric needs."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, WeightsError
from hf_latent_bridge.latents import Latents, all_finite, as_tensor

_WORK_TO_SHARE = 2**30  # floating-point operations, some 10 ms of one core
_SWAPPED = {"source": "target", "target": "source"}
_ROUNDING = 1e-3  # of a sum of squares, more than float32 products lose
_SMALLEST = 1e-12  # a side whose largest value is below loses its products, and its cosines


class _Blocking(NamedTuple):
    """How the products of many rows are cut up.

    Attributes:
        slice_rows: Most rows that are multiplied in the precision of the latents, before float64
            takes over.
        most: Bytes of the rows that are multiplied at once, where that is more than 4,096 rows.
        strip: Bytes of the rows that are shifted and summed at once.
        parts: Into so many the sum of a column is cut; rows are filled up with zeros.
    """

    slice_rows: int
    most: int
    strip: int
    parts: int

    def rows(self, row_bytes: int) -> tuple[int, int]:
        """Rows of a slice, and of a block of slices."""
        fitting = max(1, self.most // (row_bytes * _ROWS)) * _ROWS
        one = min(self.slice_rows, fitting)
        return one, fitting // one * one


_ROWS = 4096
_PANEL = 256  # columns of a symmetric product that are multiplied at once
_ON_CPU = _Blocking(slice_rows=_ROWS, most=2**24, strip=2**21, parts=1)
# only large products fill a GPU; its cache holds no strip, and it sums long columns in a buffer
_ELSEWHERE = _Blocking(slice_rows=65_536, most=2**28, strip=2**62, parts=64)


@dataclass(frozen=True, eq=False)
class PairedMoments:
    """Count, means and centred second moments of pairs (x, y), in float64.

    Moments of disjoint sets of pairs add (Chan, Golub & LeVeque, 1983), so batches, folds and
    processes can be summed in any order; a held-out fold is the total minus the fold.

    Attributes:
        n: Number of pairs.
        mean_x: Mean of the source latents, (d_x,).
        mean_y: Mean of the target latents, (d_y,).
        sxx: Sum of (x - mean_x)(x - mean_x)ᵀ, (d_x, d_x), or only its diagonal (d_x,), which is all
            that a rotation needs.
        sxy: Sum of (x - mean_x)(y - mean_y)ᵀ, (d_x, d_y).
        syy: The same for y: (d_y, d_y), or only its diagonal (d_y,), which is all that solving
            from x to y needs.
        eps: Relative precision of the products, 1.2e-7 for float32 latents and 2.2e-16 for
            float64; solvers treat smaller values as noise.
        unit_norm: Sides that were scaled to unit norm before: "none", "source", "target" or "both";
            None if it is not known.
    """

    n: int
    mean_x: Float[Tensor, " d_x"]
    mean_y: Float[Tensor, " d_y"]
    sxx: Float[Tensor, "d_x d_x"] | Float[Tensor, " d_x"]
    sxy: Float[Tensor, "d_x d_y"]
    syy: Float[Tensor, "d_y d_y"] | Float[Tensor, " d_y"]
    eps: float
    unit_norm: str | None = None

    @classmethod
    @torch.no_grad()
    def from_batch(
        cls,
        x: Latents,
        y: Latents,
        *,
        full_sxx: bool = True,
        full_syy: bool = False,
    ) -> "PairedMoments":
        """Sums one batch of paired rows, block by block, without copying the whole of it.

        Each block is shifted by the first block's mean and multiplied in its own precision
        (float16 and bfloat16 in float32), 4,096 rows at a time; products are added up in float64.

        Args:
            x: Source latents, (n, d_x), as `as_tensor` takes them, n >= 1.
            y: Target latents, (n, d_y), row i paired with row i of `x`, on the same device.
            full_sxx: Keep all of Sxx, which every method but a rotation needs.
            full_syy: Keep all of Syy, which `swap` and metrics need; costs a third product.

        Raises:
            InvalidLatentsError: No latents, wrong shapes, no rows, different devices, non-finite
                values, or values so large or small that their products are lost.
        """
        x, y = as_tensor(x), as_tensor(y)
        _check_pair(x, y)
        sums = _Sums(x, y, full_sxx=full_sxx, full_syy=full_syy)
        with _full_precision(x.device.type), few_threads(x.device.type, sums.work):
            for start in range(0, len(x), sums.rows):
                sums.add(x[start : start + sums.rows], y[start : start + sums.rows])
            found: dict[str, Any] = sums.centred(len(x))
        moments = cls(n=len(x), eps=torch.finfo(sums.dtype).eps, **found)
        if not moments.isfinite():
            raise InvalidLatentsError(_describe_non_finite(x, y))
        _check_magnitude(x, y, moments)
        return moments

    @property
    def has_full_sxx(self) -> bool:
        """Whether all of Sxx was kept, not just its diagonal."""
        return self.sxx.ndim == 2

    def whole_sxx(self) -> Float[Tensor, "d_x d_x"]:
        """All of Sxx.

        Raises:
            InvalidLatentsError: Only its diagonal was kept.
        """
        if not self.has_full_sxx:
            raise InvalidLatentsError(
                "this needs all of Sxx, but only its diagonal was kept, which is enough for a "
                "rotation: sum the moments with pair_moments(X, y)"
            )
        return self.sxx

    @property
    def sxx_diagonal(self) -> Float[Tensor, " d_x"]:
        """The diagonal of Sxx, (d_x,)."""
        return self.sxx.diagonal() if self.has_full_sxx else self.sxx

    @property
    def has_full_syy(self) -> bool:
        """Whether all of Syy was kept, not just its diagonal."""
        return self.syy.ndim == 2

    @property
    def syy_diagonal(self) -> Float[Tensor, " d_y"]:
        """The diagonal of Syy, (d_y,)."""
        return self.syy.diagonal() if self.has_full_syy else self.syy

    def isfinite(self) -> bool:
        """Whether every value is finite."""
        return all_finite(*self.to_tensors().values())

    def __add__(self, other: "PairedMoments") -> "PairedMoments":
        """Moments of both sets of pairs together, on the device of `self`."""
        if not isinstance(other, PairedMoments):
            return NotImplemented
        return self._combine(other, 1)

    def __sub__(self, other: "PairedMoments") -> "PairedMoments":
        """Moments of the pairs of `self` without those of `other`, which must be among them.

        Raises:
            InvalidLatentsError: They are not: no pair is left, or a variance is negative.
        """
        if not isinstance(other, PairedMoments):
            return NotImplemented
        if other.n >= self.n:
            raise InvalidLatentsError(
                f"cannot take {other.n} pairs out of {self.n}: at least one pair must be left"
            )
        rest = self._combine(other, -1)
        for left, whole in (
            (rest.sxx_diagonal, self.sxx_diagonal),
            (rest.syy_diagonal, self.syy_diagonal),
        ):
            if bool((left < -_ROUNDING * whole).any()):
                raise InvalidLatentsError(
                    f"cannot take {other.n} pairs out of {self.n}: they are not among them, for "
                    "the others would have a negative variance"
                )
        return rest

    def _combine(self, other: "PairedMoments", sign: int) -> "PairedMoments":
        mine, theirs = ([tuple(t.shape) for t in m.to_tensors().values()] for m in (self, other))
        if mine != theirs:
            raise InvalidLatentsError(
                "moments combine only with equal widths and the same form of Sxx and Syy: "
                f"got {self!r} and {other!r}"
            )
        norms = {m.unit_norm for m in (self, other)} - {None}
        if len(norms) > 1:
            raise InvalidLatentsError(
                f"moments combine only with one unit_norm, got {' and '.join(map(repr, norms))}"
            )
        other = other.to(self.mean_x.device)
        n = self.n + sign * other.n
        delta_x, delta_y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        part = sign * other.n / n
        between = part * self.n
        spread_x, spread_y = (
            torch.outer(delta, delta) if full else delta.square()
            for delta, full in ((delta_x, self.has_full_sxx), (delta_y, self.has_full_syy))
        )
        return replace(
            self,
            n=n,
            mean_x=self.mean_x + part * delta_x,
            mean_y=self.mean_y + part * delta_y,
            sxx=self.sxx + sign * other.sxx + between * spread_x,
            sxy=(self.sxy + sign * other.sxy).addr_(delta_x, delta_y, alpha=between),
            syy=self.syy + sign * other.syy + between * spread_y,
            eps=max(self.eps, other.eps),
            unit_norm=self.unit_norm or other.unit_norm,
        )

    def swap(self) -> "PairedMoments":
        """Moments of the pairs (y, x): what the reverse direction is solved from.

        Raises:
            InvalidLatentsError: Only the diagonal of Syy was kept.
        """
        if not self.has_full_syy:
            raise InvalidLatentsError(
                "the reverse direction needs all of Syy, but only its diagonal was kept: "
                "sum the moments with full_syy=True"
            )
        return replace(
            self,
            mean_x=self.mean_y,
            mean_y=self.mean_x,
            sxx=self.syy,
            sxy=self.sxy.mT.contiguous(),
            syy=self.sxx,
            unit_norm=_SWAPPED.get(self.unit_norm or "", self.unit_norm),
        )

    def to(self, device: torch.device | str) -> "PairedMoments":
        """The same moments on another device."""
        moved: dict[str, Any] = {k: t.to(device) for k, t in self.to_tensors().items()}
        return replace(self, **moved)

    def to_tensors(self) -> dict[str, Tensor]:
        """The five tensors by name."""
        return {
            f.name: value
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, n: int, eps: float) -> "PairedMoments":
        """Builds moments from the tensors that `to_tensors` gave.

        Raises:
            WeightsError: A tensor is missing, unknown, not finite or of another shape or dtype;
                `n` or `eps` is out of range.
        """
        names = {f.name for f in fields(cls)} - {"n", "eps", "unit_norm"}
        if set(tensors) != names:
            raise WeightsError(
                f"moments are exactly the tensors {sorted(names)}, got {sorted(tensors)}"
            )
        _check_shapes(tensors)
        values: dict[str, Any] = dict(tensors)
        moments = cls(n=n, eps=eps, **values)
        if n < 1 or not 0 < eps < 1 or not moments.isfinite():
            raise WeightsError(
                f"moments need finite values, n >= 1 and 0 < eps < 1, got {moments!r}, eps={eps}"
            )
        return moments

    def __repr__(self) -> str:
        sxx, syy = (
            "full" if full else "diagonal" for full in (self.has_full_sxx, self.has_full_syy)
        )
        return (
            f"PairedMoments(n={self.n}, d_x={len(self.mean_x)}, d_y={len(self.mean_y)}, "
            f"sxx={sxx}, syy={syy})"
        )


class _Sums:
    """Sums of shifted rows z = (x, y) and of their products, in float64.

    Of a symmetric product only the blocks on and above the diagonal are multiplied: panels of
    columns, each with all that stand at or to the right of it. Small products are multiplied
    several slices at a time, so that starting them costs little beside them.
    """

    def __init__(self, x: Tensor, y: Tensor, *, full_sxx: bool, full_syy: bool) -> None:
        self.dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        self._d_x, d = x.shape[1], x.shape[1] + y.shape[1]
        self._full_sxx, self._full_syy = full_sxx, full_syy
        blocking = _ON_CPU if x.device.type == "cpu" else _ELSEWHERE
        row_bytes = d * self.dtype.itemsize
        self._slice, self.rows = blocking.rows(row_bytes)
        self._strip, self._parts = blocking.strip // row_bytes + 1, blocking.parts
        # columns whose squares no product holds
        self._squared = slice(self._d_x if full_sxx else 0, self._d_x if full_syy else d)
        size = (self._filled(min(len(x), self.rows)), d)
        self.work = 2 * size[0] * self._d_x * d  # floating-point operations of a block
        self._z = torch.empty(size, dtype=self.dtype, device=x.device)
        with few_threads(x.device.type, self.work):
            first = [t[:_ROWS].to(self.dtype).mean(0) for t in (x, y)]
        self._shift_x, self._shift_y = first
        where: Any = {
            "dtype": torch.float64,
            "device": "cpu" if x.device.type == "mps" else x.device,
        }
        self._sum, self._squares = torch.zeros(d, **where), torch.zeros(d, **where)
        self._products = torch.zeros(d if full_syy else self._d_x, d, **where)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds a block of at most `rows` pairs."""
        z = self._shifted(x, y)
        whole = len(z) // self._slice * self._slice
        for part in (z[:whole].view(-1, self._slice, z.shape[1]), z[None, whole:]):
            for rows, columns in self._panels() if part.numel() else ():
                product = _product(part[..., rows], part[..., columns])
                self._products[rows, columns] += product.to(self._sum.device)

    def _shifted(self, x: Tensor, y: Tensor) -> Tensor:
        """The rows less their shift, summed strip by strip while they are in the cache."""
        z = self._z[: self._filled(len(x))]
        z[len(x) :] = 0
        for start in range(0, len(x), self._strip):
            rows = slice(start, start + self._strip)
            strip = z[rows]
            torch.sub(x[rows], self._shift_x, out=strip[: len(x) - start, : self._d_x])
            torch.sub(y[rows], self._shift_y, out=strip[: len(x) - start, self._d_x :])
            sums, squares = _column_sums(strip.view(-1, self._parts, strip.shape[1]), self._squared)
            self._sum += sums.to(self._sum.device)
            self._squares[self._squared] += squares.to(self._sum.device)
        return z

    def _filled(self, n: int) -> int:
        return -(-n // self._parts) * self._parts

    def _panels(self) -> Iterator[tuple[slice, slice]]:
        """The blocks of the products that are multiplied: their rows and columns."""
        height, d = self._products.shape
        if not self._full_sxx:
            yield slice(0, self._d_x), slice(self._d_x, d)
        first = 0 if self._full_sxx else self._d_x
        count = -(-(height - first) // _PANEL)
        edges = [first + (height - first) * k // count for k in range(count + 1)] if count else []
        for start, end in pairwise(edges):
            yield slice(start, end), slice(start, d)

    def centred(self, n: int) -> dict[str, Tensor]:
        """The tensors of `PairedMoments`, by name."""
        d_x, rest = self._d_x, self._sum / n
        shift = torch.cat([self._shift_x, self._shift_y]).to(rest)
        products = self._products.addr_(rest[: len(self._products)], rest, alpha=-n)
        squares = self._squares - n * rest.square()
        return {
            "mean_x": (shift + rest)[:d_x],
            "mean_y": (shift + rest)[d_x:],
            "sxx": _mirrored(products[:, :d_x]) if self._full_sxx else squares[:d_x],
            "sxy": products[:d_x, d_x:].contiguous(),
            "syy": _mirrored(products[d_x:, d_x:]) if self._full_syy else squares[d_x:],
        }


def _column_sums(parts: Tensor, squared: slice) -> tuple[Tensor, Tensor]:
    """The sum of each column, and of the squares of some, from rows in parts (n, parts, d)."""
    chosen = parts[..., squared]
    if parts.device.type == "cpu":
        squares = chosen.square().sum(0)
    else:  # without writing the squares
        norms: Tensor = torch.linalg.vector_norm(chosen, dim=0)
        squares = norms.square()
    return parts.sum(0).sum(0), squares.sum(0)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """The sum over slices of leftᵀ right, in float64 where the device has it."""
    if len(left) == 1:
        return left[0].mT @ right[0]
    dtype = left.dtype if left.device.type == "mps" else torch.float64
    return (left.mT @ right).sum(0, dtype=dtype)


def _mirrored(upper: Tensor) -> Tensor:
    """A symmetric matrix from what stands on and above its diagonal."""
    square = upper[: upper.shape[1]].triu()
    return square + square.triu(1).mT


def _check_pair(x: Tensor, y: Tensor) -> None:
    for name, latents in (("source", x), ("target", y)):
        if latents.ndim != 2:
            raise InvalidLatentsError(
                f"{name} latents must be a matrix (n, d), got shape {tuple(latents.shape)}"
            )
        for count, kind in zip(latents.shape, ("sample", "feature"), strict=True):
            if count == 0:
                raise InvalidLatentsError(
                    f"{name} latents have 0 {kind}(s) (shape={tuple(latents.shape)}) "
                    "while a minimum of 1 is required."
                )
        if not latents.is_floating_point():
            raise InvalidLatentsError(f"{name} latents must be floating point, got {latents.dtype}")
    if len(x) != len(y):
        raise InvalidLatentsError(
            f"pairs need as many source as target latents, got {len(x)} and {len(y)}"
        )
    if x.device != y.device:
        raise InvalidLatentsError(f"pairs must be on one device, got {x.device} and {y.device}")


def _check_magnitude(x: Tensor, y: Tensor, moments: PairedMoments) -> None:
    m = moments
    squares = [  # the largest mean square of a column; the largest square is no smaller
        (products / m.n + mean.square()).max()
        for mean, products in ((m.mean_x, m.sxx_diagonal), (m.mean_y, m.syy_diagonal))
    ]
    sides = ("source", x), ("target", y)
    for (name, latents), square in zip(sides, torch.stack(squares).tolist(), strict=True):
        largest = float(latents.abs().max()) if square <= _SMALLEST**2 else 1.0
        if 0 < largest < _SMALLEST:
            raise InvalidLatentsError(
                f"the {name} latents are at most {largest:.1g} in size, so small that their "
                f"products are lost: needed {_SMALLEST:.0e}, so multiply them by a constant first"
            )


def _describe_non_finite(x: Tensor, y: Tensor) -> str:
    for name, latents in (("source", x), ("target", y)):
        rows = (~latents.isfinite()).any(1).nonzero().flatten()
        if len(rows):
            return (
                f"{len(rows)} of {len(latents)} {name} latents hold NaN or infinity, first in "
                f"row {int(rows[0])}: drop these pairs or fix the encoder"
            )
    return "the latents are so large that their products overflow: divide them by a constant first"


def _check_shapes(tensors: Mapping[str, Tensor]) -> None:
    d_x, d_y = (tuple(tensors[k].shape) for k in ("mean_x", "mean_y"))
    wanted = {"sxx": (d_x + d_x, d_x), "sxy": (d_x + d_y,), "syy": (d_y + d_y, d_y)}
    for name, shapes in wanted.items():
        if tuple(tensors[name].shape) not in shapes or tensors[name].dtype != torch.float64:
            raise WeightsError(
                f"{name} must be float64 of shape {' or '.join(map(str, shapes))}, "
                f"got {tensors[name].dtype} of {tuple(tensors[name].shape)}"
            )


@contextlib.contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """Keeps autocast, TF32 and bfloat16 shortcuts out of the products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def few_threads(device_type: str, work: int) -> Iterator[None]:
    """Keeps a little work on one thread.

    On a busy machine two threads wait for each other longer than the work takes.

    Args:
        device_type: Where the work is done; only the CPU has threads.
        work: Floating-point operations.
    """
    before = torch.get_num_threads()
    if device_type != "cpu" or before == 1 or work >= _WORK_TO_SHARE:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
