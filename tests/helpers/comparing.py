"""Comparisons of values wherever they are: results may be on a GPU, expected values are not."""

import numpy as np
import torch


def on_cpu(values):
    """Tensors, arrays or lists as a tensor on the CPU."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu()
    return torch.as_tensor(np.asarray(values))


def same(a, b):
    """Whether two tensors are equal, value by value."""
    return torch.equal(on_cpu(a), on_cpu(b))


def close(a, b, **tolerances):
    """Whether two tensors are equal but for rounding, as `torch.allclose` takes tolerances."""
    return torch.allclose(on_cpu(a), on_cpu(b), **tolerances)


def alike(a, b, tolerance=1e-5):
    """Whether two answers, nested as they like, are equal but for rounding in their numbers."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= tolerance * max(1, abs(a), abs(b))
    return a == b
