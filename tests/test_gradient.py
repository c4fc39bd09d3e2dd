"""Adam on the moments is Adam on the data."""

import numpy as np
import pytest
import torch

from hf_latent_bridge import AffineTranslator, LinearTranslator

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 1.0, (200, 4)) @ RNG.normal(size=(4, 4))
Y = X @ RNG.normal(size=(4, 6)) + RNG.normal(size=(200, 6))


def adam_on_the_data(x: np.ndarray, y: np.ndarray, steps: int, lr: float, seed: int) -> np.ndarray:
    """What the paper does: full-batch Adam on the mean squared error of a linear layer."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(x.shape[1], y.shape[1]).double()
    bound = x.shape[1] ** -0.5
    shape = (x.shape[1], y.shape[1])
    weight = torch.empty(shape).double().uniform_(-bound, bound, generator=generator)
    bias = torch.empty(shape[1]).double().uniform_(-bound, bound, generator=generator)
    layer.weight.data, layer.bias.data = weight.T.clone(), bias
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(layer(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return layer(torch.from_numpy(x)).detach().numpy()


def gradient(**params: object) -> AffineTranslator:
    return AffineTranslator(solver="gradient", **params)


def test_without_scaling_it_follows_adam_on_the_data_step_by_step():
    expected = adam_on_the_data(X, Y, steps=50, lr=1e-2, seed=3)
    fitted = gradient(steps=50, lr=1e-2, random_state=3, scaling="none").fit(X, Y)
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-9)


def test_with_standard_scaling_it_follows_adam_on_scaled_data():
    (x, y), (mean, deviation) = ((X - X.mean(0)) / X.std(0), Y - Y.mean(0)), (Y.mean(0), Y.std(0))
    expected = adam_on_the_data(x, y / deviation, steps=50, lr=1e-2, seed=0) * deviation + mean
    fitted = gradient(steps=50, lr=1e-2).fit(X, Y)
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-9)


@pytest.mark.slow
def test_many_steps_reach_the_closed_form():
    expected = LinearTranslator().fit(X, Y).transform(X)
    fitted = gradient(steps=5000, lr=1e-2).fit(X, Y)
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-3)


def test_the_random_state_decides_the_start():
    one, same, other = (gradient(steps=5, random_state=s).fit(X, Y).transform(X) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    gradient(steps=2).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0.1},
        {"steps": 0},
        {"steps": 1.5},
        {"lr": 0.0},
        {"lr": "fast"},
        {"lr": float("nan")},
    ],
)
def test_parameters_that_make_no_sense_are_refused(params):
    with pytest.raises(ValueError, match=f"{next(iter(params))}"):
        gradient(**params).fit(X, Y)
