"""Data unlike texts and pictures, to try a choice on: digits, measurements, and made-up latents."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from experiments.views import NARROW, WIDE, digit_views
from torch import Tensor

from quality.data import Data, Side

POOL, TEST = 1200, 500
CLASSES, FACTORS = 6, 24
Latents = tuple[Tensor, Tensor]


def load_made_up() -> dict[str, Data]:
    """All of it, by the names in `VIEWS`."""
    return {data.name: data for data in (digits(), tumours(), *map(made_up, MADE_UP))}


def made_up(name: str) -> Data:
    """Two views of the same made-up items."""
    draw = torch.Generator().manual_seed(list(MADE_UP).index(name))
    factors, labels = items(draw)
    x, y = MADE_UP[name](factors, draw)
    return _split(name, {"x": x, "y": y}, labels, POOL)


def digits() -> Data:
    """Pixels, oriented gradients and two small autoencoders."""
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().images.astype(np.float32) / 16)
    train, test = digit_views()
    codes = {name: torch.cat([train.latents[name], test.latents[name]]) for name in train.latents}
    sides = {"pixels": pixels.flatten(1), "gradients": gradients(pixels), **codes}
    return _split("digits", sides, [*train.labels, *test.labels], len(train))


def gradients(images: Tensor) -> Tensor:
    """How strong each of eight directions is in each quarter of an image, (n, 32)."""
    up, right = torch.gradient(images, dim=(1, 2))
    strength, angle = torch.hypot(up, right), torch.atan2(up, right)
    found = []
    for direction in torch.arange(8) * (torch.pi / 4):
        part = strength * torch.cos(angle - direction).clamp(min=0) ** 4
        found.append(torch.nn.functional.avg_pool2d(part[:, None], 4).flatten(1))
    return torch.cat(found, dim=1)


def tumours() -> Data:
    """Columns in their own units, and random features of the standardised ones."""
    from sklearn.datasets import load_breast_cancer

    read = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(read.target))
    columns = torch.from_numpy(read.data[order]).float()
    standard = (columns - columns.mean(0)) / columns.std(0)
    draw = torch.Generator().manual_seed(0)
    wide = torch.relu(standard @ torch.randn(standard.shape[1], 80, generator=draw) / 5)
    labels = read.target[order].tolist()
    return _split("tumours", {"columns": columns, "features": wide}, labels, 320)


def items(draw: torch.Generator) -> tuple[Tensor, list[int]]:
    """Factors of items in clusters, (n, factors), each next weaker, and the clusters' numbers."""
    n = POOL + TEST
    labels = torch.randint(CLASSES, (n,), generator=draw)
    centres = torch.randn(CLASSES, FACTORS, generator=draw)
    factors = 0.6 * centres[labels] + torch.randn(n, FACTORS, generator=draw)
    return factors * torch.linspace(1, 0.3, FACTORS), labels.tolist()


def view(factors: Tensor, dim: int, draw: torch.Generator, *, noise: float = 0.3) -> Tensor:
    """A random linear view with noise, (n, dim)."""
    n, d = factors.shape
    weight = torch.randn(d, dim, generator=draw) / d**0.5
    return torch.addmm(noise * torch.randn(n, dim, generator=draw), factors, weight)


def _rotation(z: Tensor, draw: torch.Generator) -> Latents:
    x = view(z, 96, draw)
    turned, _ = torch.linalg.qr(torch.randn(96, 96, generator=draw))
    return x, x @ turned + 0.2 * torch.randn(x.shape, generator=draw)


def _steep(z: Tensor, draw: torch.Generator) -> Latents:
    scales = torch.arange(1, 129) ** -1.0
    return view(z, 128, draw) * scales + 5, view(z, 128, draw) * scales + 5


def _heavy(z: Tensor, draw: torch.Generator) -> Latents:
    radius = torch.rand(len(z), 1, generator=draw).clamp(min=0.01) ** -0.5
    return view(z, 96, draw) * radius, view(z, 96, draw) * radius


def _repeated(z: Tensor, draw: torch.Generator) -> Latents:
    x, y = view(z, 96, draw), view(z, 96, draw)
    x[1::4], y[1::4] = x[::4][: len(x[1::4])], y[::4][: len(y[1::4])]
    return x, y


def _curved(z: Tensor, draw: torch.Generator) -> Latents:
    return torch.tanh(2 * view(z, 96, draw)), view(z, 96, draw).abs()


def _units(z: Tensor, draw: torch.Generator) -> Latents:
    units = 10 ** torch.linspace(-2, 2, 64)
    return view(z, 64, draw) * units, view(z, 64, draw) * units.flip(0)


MADE_UP: dict[str, Callable[[Tensor, torch.Generator], Latents]] = {
    "low rank": lambda z, draw: (view(z[:, :6], 128, draw), view(z[:, :6], 96, draw)),
    "rotation": _rotation,
    "steep": _steep,
    "unequal": lambda z, draw: (view(z, 64, draw), view(z, 1024, draw)),
    "heavy tails": _heavy,
    "repeated": _repeated,
    "curved": _curved,
    "units": _units,
}


VIEWS: Mapping[str, Sequence[str]] = {
    "digits": ("pixels", "gradients", NARROW, WIDE),
    "tumours": ("columns", "features"),
    **dict.fromkeys(MADE_UP, ("x", "y")),
}
"""The sides of each."""


def _split(name: str, sides: Mapping[str, Tensor], labels: list[int], n_pool: int) -> Data:
    both = {key: Side(rows[:n_pool], rows[n_pool:]) for key, rows in sides.items()}
    return Data(name, name, both, labels[:n_pool], labels[n_pool:])
