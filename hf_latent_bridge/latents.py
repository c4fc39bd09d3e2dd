"""The one gate for latents: arrays, tensors, lists and columns of rows, or a clear refusal."""

import math
import warnings
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError

Array = npt.NDArray[Any]
Latents = Tensor | Array
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_tensor(latents: Latents) -> Tensor:
    """A tensor that shares memory with `latents` where it can.

    Args:
        latents: A dense floating tensor, or anything that NumPy takes as real numbers: arrays,
            lists, data frames, and columns, lists or object arrays of equally long rows. Integers
            become float64.

    Raises:
        InvalidLatentsError: Sparse, masked, quantised, nested or complex latents, tensors without
            values or of integers, and what is not numbers: bools, texts, dates. Says what to do.
    """
    check_kind(latents)
    if isinstance(latents, Tensor):
        if latents.dtype in FLOATS:
            return latents
        raise InvalidLatentsError(_describe_dtype(latents))
    return _share(_as_floats(_as_array(latents)))


def check_kind(latents: object) -> None:
    """Refuses what would not be read as the numbers that it shows.

    Raises:
        InvalidLatentsError: Sparse, masked, quantised or nested latents, or without values.
    """
    if type(latents) is np.ndarray or (type(latents) is Tensor and not _describe_layout(latents)):
        return
    if not isinstance(latents, Tensor) and hasattr(latents, "toarray"):
        raise InvalidLatentsError(
            "sparse latents are not supported: pass X.toarray() if they fit in memory"
        )
    if np.ma.isMaskedArray(latents) or torch.masked.is_masked_tensor(latents):
        raise InvalidLatentsError(
            "masked latents are not supported: drop the rows with masked values, or fill them"
        )
    if isinstance(latents, Tensor) and (reason := _describe_layout(latents)):
        raise InvalidLatentsError(reason)


def as_targets(y: Latents | None) -> Tensor:
    """Target latents as a matrix (n, d); labels are refused.

    Args:
        y: As `as_tensor` takes them, in two dimensions and not integers.

    Raises:
        InvalidLatentsError: None, one-dimensional, or integers, with a word on labels; or whatever
            `as_tensor` refuses.
    """
    if y is None:
        raise InvalidLatentsError(
            "a fit requires y to be passed, but the target y is None: pass latents (n, d)"
        )
    check_kind(y)
    given = y if isinstance(y, Tensor) else _as_array(y)
    kind = str(given.dtype).removeprefix("torch.")
    if given.ndim == 1:
        raise InvalidLatentsError(
            f"y must be target latents (n, d), got one dimension {tuple(given.shape)} of {kind}: "
            "these look like labels, on which a translator is not fitted (fit_head is for labels; "
            "to keep a fitted translator in a pipeline, wrap it in sklearn.frozen.FrozenEstimator)"
            "; a target of one dimension is y.reshape(-1, 1)"
        )
    if kind.startswith(("int", "uint", "bool")):
        raise InvalidLatentsError(
            f"y must be target latents, which are floating point, got {kind}: labels are for "
            "fit_head; if these are latents all the same, pass y.astype(float)"
        )
    return as_tensor(y)


@overload
def like(result: Tensor, given: Tensor) -> Tensor: ...
@overload
def like(result: Tensor, given: Array) -> Array: ...
def like(result: Tensor, given: Latents) -> Latents:
    """`result` as a tensor if `given` was one, else as a NumPy array."""
    return result if isinstance(given, Tensor) else result.numpy(force=True)


def check_finite(x: Tensor, holder: str | None = None) -> None:
    """Refuses NaN and infinity, in one pass that needs no memory.

    Args:
        x: Latents (..., d).
        holder: What they are from, such as a file, for the error.

    Raises:
        InvalidLatentsError: Names the first bad row.
    """
    if all_finite(x):
        return
    rows = (~x.isfinite()).reshape(-1, x.shape[-1]).any(1).nonzero()
    raise InvalidLatentsError(
        f"{f'{holder} holds' if holder else 'latents hold'} NaN or infinity in {len(rows):,} of "
        f"{x.numel() // x.shape[-1]:,} rows, first in row {int(rows[0])}"
    )


def all_finite(*tensors: Tensor) -> bool:
    """Whether no value is NaN or infinite; a GPU is waited for only once.

    Where only the sum of all is infinite, each is looked at.

    Args:
        tensors: At least one, all on one device.
    """
    total = tensors[0].sum()
    for tensor in tensors[1:]:
        total = total + tensor.sum()
    return math.isfinite(total.item()) or all(bool(t.isfinite().all()) for t in tensors)


def unit_rows(x: Tensor) -> Tensor:
    """Rows (..., d) scaled to unit L2 norm, of whatever size they are; rows of zeros stay zero.

    Where squares may leave the range of the dtype, as in float32 those of values above 1e19 do,
    rows are divided by their largest value first.
    """
    tiny = torch.finfo(x.dtype).tiny
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if not bool(((norms >= max(_SHORTEST, tiny)) & norms.isfinite()).all()):
        largest = torch.linalg.vector_norm(x.detach(), torch.inf, dim=-1, keepdim=True)
        x = x / largest.clamp(min=tiny)
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norms.clamp(min=tiny)


_SHORTEST = 1e-12  # whose squares float32 holds


def check_translated(result: Tensor, given: Tensor) -> Tensor:
    """The translations of latents, if they are finite.

    Raises:
        InvalidLatentsError: The latents hold NaN or infinity, or the translations overflow.
    """
    if all_finite(result):
        return result
    check_finite(given)
    largest = float(given.detach().abs().max())
    raise InvalidLatentsError(
        f"the translations overflow {result.dtype} (at most {torch.finfo(result.dtype).max:.2g}): "
        f"the latents hold values up to {largest:.2g}, {_SMALLER}"
    )


def check_unit(result: Tensor, given: Tensor) -> None:
    """Refuses translations that a map has scaled to unit norm and lost on the way.

    Args:
        result: Of unit norm, but for rows of zeros.
        given: The latents that were translated.

    Raises:
        InvalidLatentsError: They were too large or too small; names the first such row.
    """
    norms = torch.linalg.vector_norm(result.detach(), dim=-1).reshape(-1)
    if bool((norms > 0.5).all()):
        return
    large = given.detach().abs().amax(-1).reshape(-1) > _LARGE
    lost = (norms <= 0.5) & (large | (norms > 0))
    if bool(lost.any()):
        row = int(lost.nonzero()[0])
        cure = "pass a wider dtype"
        if given.dtype == torch.float64 and not large[row]:
            cure = (
                "it has no direction, as that of the mean of the pairs has none; leave the row out"
            )
        raise InvalidLatentsError(
            f"the translation of row {row} is too {'large' if large[row] else 'small'} to be "
            f"scaled to unit norm in {given.dtype}: {cure}"
        )


_LARGE = 1e15  # the squares of values that are not so large are well within float32
_SMALLER = "divide the latents by a constant, or pass a wider dtype"


def _as_array(latents: Any) -> Array:
    if isinstance(latents, list | tuple):
        kinds = Tensor, np.ma.MaskedArray
        latents = [_as_row(as_tensor(row)) if isinstance(row, kinds) else row for row in latents]
    try:
        array = np.asarray(latents)
    except ValueError as error:
        raise InvalidLatentsError(f"latents must be rows of one width: {error}") from error
    if array.ndim == 0:
        what = f"latents must be numbers in rows, got {latents!r:.80}"
        raise InvalidLatentsError(
            f"{what}: pass list(X)" if isinstance(latents, Iterator) else what
        )
    return _stack(array) if array.dtype.kind == "O" else array


def _as_row(tensor: Tensor) -> Array:
    """A tensor as an array of its own precision; NumPy has no bfloat16."""
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return wide.numpy(force=True)


def _stack(cells: Array) -> Array:
    """The rows in the cells of an object array, such as a pandas column of lists or arrays."""
    if not all(isinstance(cell, np.ndarray | list | tuple) for cell in cells.flat):
        return cells
    widths = sorted({len(cell) for cell in cells.flat})
    if len(widths) != 1 or cells.squeeze().ndim > 1:
        raise InvalidLatentsError(
            f"latents must be one column of rows of one width, got cells of shape {cells.shape} "
            f"with rows of {widths[:5]} values"
        )
    return _as_array(list(cells.flat))


def _as_floats(array: Array) -> Array:
    dtype, kind = array.dtype, array.dtype.kind
    if kind == "f" and dtype.itemsize <= 8 and dtype.isnative:
        return array
    if kind == "c":
        raise InvalidLatentsError("Complex data not supported: latents must be real numbers")
    if kind in "bSUMmV" or (kind == "O" and any(isinstance(v, str | bytes) for v in array.flat)):
        raise InvalidLatentsError(f"latents must be numbers, got an array of {dtype}")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        cell = next(cell for cell in array.flat if not isinstance(cell, Real))
        advice = ": pass its column of latents" if isinstance(cell, Mapping) else ""
        raise InvalidLatentsError(f"latents must be numbers, got {cell!r:.60}{advice}") from error


def _describe_layout(tensor: Tensor) -> str | None:
    """Why the numbers of a tensor cannot be read; None if they can."""
    if tensor.is_meta:
        return "latents on the meta device have no values: load or encode them first"
    if tensor.is_quantized:
        return "quantised latents are not supported: pass X.dequantize()"
    if tensor.is_nested:
        return "nested latents are not supported: rows must have one width, pass a dense tensor"
    if tensor.layout is not torch.strided:
        return "sparse latents are not supported: pass X.to_dense() if they fit in memory"
    return None


def _describe_dtype(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex latents are not supported: latents must be real numbers"
    accepted = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
    return (
        f"latents must be floating point ({accepted}), got {tensor.dtype}: convert them to float32"
    )


def _share(array: Array) -> Tensor:
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)  # torch has no such strides
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
