"""Which rows make good anchors: far from each other, or evenly over classes. Pure and seeded."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def farthest_points(x: Float[Tensor, "n d"], k: int, seed: int) -> Int[Tensor, " k"]:
    """Each point the farthest from all before it, the first by chance (Gonzalez, 1985).

    Args:
        x: Latents to choose from.
        k: How many, at most n.
        seed: Seeds the choice of the first.
    """
    first = int(torch.randint(len(x), (), generator=torch.Generator().manual_seed(seed)))
    chosen, distance = [first], _distance(x, first)
    while len(chosen) < k:
        distance[chosen[-1]] = -1.0  # duplicates of chosen points are farther than these
        chosen.append(int(distance.argmax()))
        nearer = torch.minimum(distance, _distance(x, chosen[-1]))
        distance = torch.where(distance < 0, distance, nearer)
    return torch.tensor(chosen)


def kmeans_plus_plus(x: Float[Tensor, "n d"], k: int, seed: int) -> Int[Tensor, " k"]:
    """Each point by chance, in proportion to its squared distance from those before it.

    (Arthur & Vassilvitskii, 2007.) Where all others are duplicates of chosen ones, by chance.

    Args:
        x: Latents to choose from.
        k: How many, at most n.
        seed: Seeds the choice.
    """
    draw = torch.Generator().manual_seed(seed)
    free = torch.ones(len(x), dtype=torch.bool)
    distance, chosen = torch.full((len(x),), torch.inf, dtype=torch.float64), []
    for _ in range(k):
        weights = torch.where(free & distance.isfinite(), distance, 0.0)
        if not weights.any():
            weights = free.double()
        ends = weights.cumsum(0)
        at = torch.rand((), generator=draw, dtype=torch.float64) * ends[-1]
        chosen.append(int(torch.searchsorted(ends, at, right=True).clamp(max=len(x) - 1)))
        free[chosen[-1]] = False
        distance = torch.minimum(distance, _distance(x, chosen[-1]))
    return torch.tensor(chosen)


def balanced(labels: Sequence[Hashable], k: int, seed: int) -> Int[Tensor, " k"]:
    """As many rows of each class as there can be; small classes whole, the rest evenly.

    Args:
        labels: The class of each row, (n,).
        k: How many rows, at most n.
        seed: Seeds the choice within each class, and which classes give one row more.
    """
    draw = torch.Generator().manual_seed(seed)
    members: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    queues = [
        [rows[i] for i in torch.randperm(len(rows), generator=draw).tolist()]
        for rows in members.values()
    ]
    turns = torch.randperm(len(queues), generator=draw).tolist()
    rounds = range(max(map(len, queues)))
    order = [queues[turn][r] for r in rounds for turn in turns if r < len(queues[turn])]
    return torch.tensor(order[:k])


def _distance(x: Tensor, row: int) -> Tensor:
    """Squared distance of all points from one, (n,)."""
    return (x - x[row]).square().sum(1).double().cpu()
