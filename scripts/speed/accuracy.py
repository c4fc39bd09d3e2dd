"""How far fits on float32 latents are from fits in float64 throughout, on hard data too."""

import warnings
from collections.abc import Iterator

import torch
from common import Table
from torch import Tensor

WIDTHS = (64, 96)


def accuracy_table(n: int) -> Table:
    """Relative error of translations of the training pairs, in the Frobenius norm.

    Args:
        n: Pairs.
    """
    from hf_latent_bridge import AffineTranslator, LinearTranslator, OrthoTranslator
    from hf_latent_bridge.errors import RankWarning

    methods = {
        "linear": LinearTranslator(),
        "ortho": OrthoTranslator(),
        "affine, alpha=0.1": AffineTranslator(alpha=0.1),
    }
    table = Table(["latents", *methods, "linear, torch lstsq in float32"])
    for name, x, y in data(n):
        with warnings.catch_warnings():  # directions below the rounding of float32 are left out
            warnings.simplefilter("ignore", RankWarning)
            errors = [
                distance(
                    method.fit(x, y).transform(x),
                    method.fit(x.double(), y.double()).transform(x.double()),
                )
                for method in methods.values()
            ]
        errors.append(distance(lstsq(x, y), lstsq(x.double(), y.double())))
        table.add(name, [f"{error:.0e}" for error in errors])
    return table


def data(n: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Pairs of float32 latents, from easy to hard."""
    d_x, d_y = WIDTHS
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, d_x, generator=draw)
    turn = torch.randn(d_x, d_y, generator=draw) / d_x**0.5
    noise = 0.3 * torch.randn(n, d_y, generator=draw)
    basis = torch.linalg.qr(torch.randn(d_x, d_x, generator=draw))[0]
    yield "white", x, x @ turn + noise
    yield "mean 100 deviations away", x + 100, x @ turn + noise + 100
    for condition in (1e3, 1e5):
        falling = torch.logspace(0, -torch.tensor(condition).log10().item(), d_x)
        narrow = (x * falling) @ basis
        yield f"condition {condition:.0e}", narrow, narrow @ turn + 0.01 * noise
    twins = torch.cat([x[:, : d_x // 2], x[:, : d_x // 2] + 1e-4 * x[:, d_x // 2 :]], 1)
    yield "columns in nearly equal pairs", twins, twins @ turn + noise


def lstsq(x: Tensor, y: Tensor) -> Tensor:
    """Least squares with an intercept, as one would write it in torch."""
    a = torch.cat([x, x.new_ones(len(x), 1)], 1)
    predicted: Tensor = a @ torch.linalg.lstsq(a, y).solution
    return predicted


def distance(found: Tensor, exact: Tensor) -> float:
    """Relative to the spread of the exact values."""
    spread = (exact - exact.mean(0)).norm()
    return float((found.double() - exact).norm() / spread)
