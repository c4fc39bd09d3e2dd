"""The paper's own estimate of an affine map, Adam on the MSE, run on the moments."""

import torch
from torch import Tensor

from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Problem, Scaling, Solution


@torch.no_grad()
def solve_by_gradient(
    moments: PairedMoments, scaling: Scaling, *, steps: int, lr: float, seed: int
) -> Solution:
    """Full-batch Adam on mean((x @ w + b - y)²) from a seeded `torch.nn.Linear` start.

    The gradient needs only second moments, so a step costs one (d_x, d_x) by (d_x, d_y) product
    whatever the number of pairs. Stopping early regularises: components along weak directions
    of the source stay near their random start.

    Args:
        moments: The pairs' moments.
        scaling: Coordinates in which the error is measured.
        steps: Adam steps.
        lr: Learning rate.
        seed: Seeds the start.
    """
    problem = Problem.from_moments(moments, scaling)
    mean_x = (moments.mean_x - problem.shift_x) / problem.scale_x
    mean_y = (moments.mean_y - problem.shift_y) / problem.scale_y
    w, b = _start(*problem.k.shape, seed=seed, like=problem.k)
    optimizer = torch.optim.Adam([w, b], lr=lr)
    for _ in range(steps):
        w.grad = (problem.c @ w + torch.outer(mean_x, b) - problem.k) * (2 / len(b))
        b.grad = (mean_x @ w + b - mean_y) * (2 / len(b))
        optimizer.step()
    folded = problem.fold(w)
    folded.bias.add_(b * problem.scale_y)
    return Solution(folded, rank=len(w), full_rank=len(w))


def _start(d_x: int, d_y: int, *, seed: int, like: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    bound = d_x**-0.5
    weight, bias = (
        torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        for shape in ((d_x, d_y), (d_y,))
    )
    return weight.to(like), bias.to(like)
