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
