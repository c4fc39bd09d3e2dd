"""Takes latents as users hold them (NumPy, tensors, lists) and gives results back alike."""

import warnings
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError

Array = npt.NDArray[Any]
Latents = Tensor | Array


def as_tensor(latents: Latents) -> Tensor:
    """A tensor that shares memory with `latents` where it can.

    Args:
        latents: A floating tensor, or anything that NumPy takes as real numbers; integers
            become float64.

    Raises:
        InvalidLatentsError: Sparse, complex, non-numeric, or an integer tensor.
    """
    if isinstance(latents, Tensor):
        if not latents.is_floating_point():
            raise InvalidLatentsError(f"latents must be floating point, got {latents.dtype}")
        return latents
    if hasattr(latents, "toarray"):
        raise InvalidLatentsError(
            "sparse latents are not supported: pass X.toarray() if they fit in memory"
        )
    array = _as_array(latents)
    if np.iscomplexobj(array):
        raise InvalidLatentsError("Complex data not supported: latents must be real numbers")
    if array.dtype not in (np.float16, np.float32, np.float64) or not array.dtype.isnative:
        array = _to_float64(array)
    return _share(array)


@overload
def like(result: Tensor, given: Tensor) -> Tensor: ...
@overload
def like(result: Tensor, given: Array) -> Array: ...
def like(result: Tensor, given: Latents) -> Latents:
    """`result` as a tensor if `given` was one, else as a NumPy array."""
    return result if isinstance(given, Tensor) else result.detach().cpu().numpy()


def check_finite(x: Tensor) -> None:
    """Refuses NaN and infinity, in one pass that needs no memory.

    Raises:
        InvalidLatentsError: Names the first bad row.
    """
    if x.detach().sum().isfinite() or x.isfinite().all():
        return
    rows = (~x.isfinite()).reshape(-1, x.shape[-1]).any(1).nonzero()
    raise InvalidLatentsError(
        f"latents hold NaN or infinity in {len(rows)} of {x.numel() // x.shape[-1]} rows, "
        f"first in row {int(rows[0])}"
    )


def _as_array(latents: Any) -> Array:
    try:
        array = np.asarray(latents)
    except ValueError as error:
        raise InvalidLatentsError(f"latents must be rows of one width: {error}") from error
    if array.ndim == 0:
        raise InvalidLatentsError(f"latents must be numbers in rows, got {latents!r}")
    return array


def _to_float64(array: Array) -> Array:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidLatentsError(f"latents must be numbers: {error}") from error


def _share(array: Array) -> Tensor:
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
