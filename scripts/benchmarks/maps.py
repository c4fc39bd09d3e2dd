"""Compares the families of maps: two bases of the spectral one, kernels, scales, low rank.

Behind decision 16. Prints one table per dataset and number of anchors, means over both directions
and the draws: accuracy of the target's head, R@1 of counterparts by centred cosine, and P@10, the
share of the 10 nearest other items that are of the same class.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from common import Table, embedded_hub, positive
from experiments.crossing import Crossing, recall_at_1
from experiments.views import TASKS, Views
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from hf_latent_bridge import Translator
    from hf_latent_bridge.solvers import Problem

Method = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]
ALPHAS = (0.3, 1.0, 3.0)
GAMMAS = (0.0, 0.25, 0.5)
N_NEIGHBORS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="datasets")
    parser.add_argument("--anchors", nargs="+", type=positive, default=[100, 300, 1000])
    parser.add_argument("--draws", type=positive, default=3, help="draws of anchors (default 3)")


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    warnings.simplefilter("ignore")
    tasks = {key: TASKS[key] for key in options.tasks}
    with embedded_hub(list(dict.fromkeys(a for task in tasks.values() for a in task.assets))):
        for task in tasks.values():
            views = task.load(train=1500, test=750)
            for anchors in options.anchors:
                print(f"\n{task.title}, {anchors:,} anchors\n")
                print(table(*views, anchors, options.draws), flush=True)
    return 0


def table(train: Views, test: Views, anchors: int, draws: int) -> Table:
    """One row per method."""
    result = Table(["method", "head", "R@1", "P@10"])
    first, second = train.latents
    crossings = [Crossing.of(train, test, *way) for way in ((first, second), (second, first))]
    natives = [scores(crossing, crossing.test_y) for crossing in crossings]
    result.add("native", [fmean(column) for column in zip(*natives, strict=True)])
    for name, method in methods():
        found = [
            scores(crossing, fitted(crossing.test_x.double()))
            for crossing in crossings
            for fitted in fits(crossing, method, anchors, draws)
        ]
        result.add(name, [fmean(column) for column in zip(*found, strict=True)])
    return result


def fits(
    crossing: Crossing, method: Method, anchors: int, draws: int
) -> Iterator[Callable[[Tensor], Tensor]]:
    """The method on each draw of anchors."""
    for seed in range(draws):
        rows = np.random.default_rng(seed).choice(len(crossing.x), anchors, replace=False)
        yield method(crossing.x[rows].double(), crossing.y[rows].double())


def methods() -> Iterator[tuple[str, Method]]:
    """Every method, by the name of its row."""
    from hf_latent_bridge import (
        AffineTranslator,
        KernelTranslator,
        OrthoTranslator,
        SpectralTranslator,
    )

    made = {
        "ortho": OrthoTranslator(),
        "ortho, scale=columns": OrthoTranslator(scale="columns"),
        "ridge .1": AffineTranslator(alpha=0.1),
        "ridge 1": AffineTranslator(alpha=1.0),
        "ridge 1, rank 64": AffineTranslator(alpha=1.0, rank=64),
        "kernel": KernelTranslator(),
    }
    for name, translator in made.items():
        yield name, fitting(translator)
    for alpha in ALPHAS:
        for gamma in GAMMAS:
            spectral = SpectralTranslator(alpha=alpha, gamma=gamma)
            yield f"spectral {alpha} {gamma}", fitting(spectral)
            yield f"canonical {alpha} {gamma}", canonical(alpha, gamma)


def fitting(translator: "Translator") -> Method:
    """Fits it anew on each draw."""

    def fit(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        return translator.fit(x, y).transform

    return fit


def canonical(alpha: float, gamma: float) -> Method:
    """The same family in the canonical basis, which the library does not have.

    W = (Cx + aI)^(-1/2) U S^gamma Vᵀ (Cy + aI)^(1/2), times the least-squares scalar.
    """

    def fit(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        from hf_latent_bridge import PairedMoments
        from hf_latent_bridge.solvers import Problem

        there = Problem.from_moments(PairedMoments.from_batch(x, y), "standard")
        back = Problem.from_moments(PairedMoments.from_batch(y, x), "standard")
        solution = there.solution(canonical_weight(there, back.c, alpha, gamma), 1, 1)
        return lambda rows: rows @ solution.weight + solution.bias

    return fit


def canonical_weight(problem: "Problem", c_y: Tensor, alpha: float, gamma: float) -> Tensor:
    """W in scaled coordinates.

    Args:
        problem: Scaled moments.
        c_y: The target's second moment in its scaled coordinates, (d_y, d_y).
        alpha: The penalty a on both sides.
        gamma: The exponent of the canonical correlations.
    """
    (values_x, axes_x), (values_y, axes_y) = (torch.linalg.eigh(c) for c in (problem.c, c_y))
    root_x, root_y = ((v.clamp(min=0) + alpha).sqrt() for v in (values_x, values_y))
    inside = axes_x.mT @ problem.k @ axes_y / root_x[:, None] / root_y
    u, rho, vh = torch.linalg.svd(inside, full_matrices=False)
    w = (axes_x / root_x) @ (u * rho**gamma) @ vh @ (axes_y * root_y).mT
    scaled: Tensor = w * ((w * problem.k).sum() / (w * (problem.c @ w)).sum())
    return scaled


def scores(crossing: Crossing, predicted: Tensor) -> tuple[float, float, float]:
    """Accuracy of the head, R@1 and P@10."""
    mean = crossing.y.mean(0)
    a, b = (z.to(mean) - mean for z in (predicted, crossing.test_y))
    labels = torch.tensor(crossing.test_labels)
    near = normalize(a, dim=1) @ normalize(b, dim=1).mT
    neighbours = near.fill_diagonal_(-2).topk(N_NEIGHBORS).indices
    same = (labels[neighbours] == labels[:, None]).double().mean()
    return crossing.accuracy(predicted.to(mean)), recall_at_1(a, b), float(same)
