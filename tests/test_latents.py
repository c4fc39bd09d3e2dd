"""What users hand in as latents, and what is refused."""

import numpy as np
import pytest
import scipy.sparse
import torch

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.latents import as_tensor, like


def test_tensors_pass_through_untouched():
    tensor = torch.ones(2, 3, dtype=torch.bfloat16)
    assert as_tensor(tensor) is tensor


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_share_their_memory(dtype):
    array = np.zeros((2, 3), dtype)
    array_as_tensor = as_tensor(array)
    array[0, 0] = 5
    assert array_as_tensor[0, 0] == 5


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.longdouble])
def test_other_numbers_become_float64(dtype):
    assert as_tensor(np.ones((2, 3), dtype)).dtype == torch.float64


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.ones(2, 3, dtype=torch.long), "floating point"),
        (scipy.sparse.eye(3).tocsr(), "sparse"),
        (np.ones((2, 3), complex), "Complex"),
        (np.array([["a", "b"]]), "must be numbers"),
        ([[1.0], [1.0, 2.0]], "rows of one width"),
        (None, "must be numbers in rows, got None"),
    ],
)
def test_what_is_no_latents_is_refused(latents, message):
    with pytest.raises(InvalidLatentsError, match=message):
        as_tensor(latents)


def test_results_take_the_form_of_what_was_given():
    result = torch.ones(2)
    assert like(result, torch.zeros(1)) is result
    assert isinstance(like(result, np.zeros(1)), np.ndarray)
