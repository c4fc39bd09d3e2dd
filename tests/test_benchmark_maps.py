"""The canonical form, which the benchmark of maps compares with, is what the page says of it."""

import numpy as np
import pytest
import torch
from benchmarks.maps import canonical

from hf_latent_bridge import SpectralTranslator

DRAW = np.random.default_rng(0)
X = torch.from_numpy(DRAW.normal(size=(300, 5)) @ DRAW.normal(size=(5, 5)))
Y = X @ torch.from_numpy(DRAW.normal(size=(5, 7))) + torch.from_numpy(DRAW.normal(size=(300, 7)))


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_with_exponent_one_it_is_ridge(alpha):
    ridge = SpectralTranslator(alpha=alpha, gamma=1.0).fit(X, Y)
    torch.testing.assert_close(canonical(alpha, 1.0)(X, Y)(X), ridge.transform(X))


def test_with_a_large_penalty_and_exponent_zero_it_is_the_rotation():
    rotation = SpectralTranslator(alpha="inf", gamma=0.0).fit(X, Y)
    found = canonical(1e9, 0.0)(X, Y)(X)
    torch.testing.assert_close(found, rotation.transform(X), rtol=1e-5, atol=1e-5)
