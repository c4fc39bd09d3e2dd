"""Chooses the pairs to fit on: k-means++, farthest points, balanced classes."""

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.data.sampling import check_size
from hf_latent_bridge.data.streams import StreamedPairs
from hf_latent_bridge.encoders.base import EncoderLike
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.fitting.encoding import Side
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.spaces import SpaceSpec


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


AnchorMethod = Literal["uniform", "kmeans++", "farthest", "balanced"]
METHODS: tuple[AnchorMethod, ...] = ("uniform", "kmeans++", "farthest", "balanced")
_CHUNK = 1024


def choose_anchors(
    pairs: Pairs | StreamedPairs,
    n: int,
    method: AnchorMethod,
    *,
    source: EncoderLike | SpaceSpec | None = None,
    labels: Sequence[Hashable] | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> Pairs:
    """`n` of the pairs as anchors, in their order; all where there are fewer.

    The method and its seed are recorded in the config's dataset record. "kmeans++" and "farthest"
    encode the source side of all pairs (each process its share) and hold its latents.

    Args:
        pairs: What to choose from, not streamed: rows are read again.
        n: How many.
        method: "uniform" by chance, "kmeans++" or "farthest" apart in the source latents, or
            "balanced" over `labels`.
        source: Encoder of the source side; where its items are latents, their space or None.
        labels: The class of each pair, such as `load_pairs(..., source="label").source`.
        seed: Seeds the choice.
        batch_size: Items per forward pass.

    Raises:
        InvalidPairsError: `n` is less than 1, streamed pairs, no label for each pair, or a bad row.
        ValueError: An unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"anchors must be one of {METHODS}, got {method!r}")
    if not isinstance(pairs, Pairs):
        raise InvalidPairsError("anchors are chosen from pairs that can be read twice, not streams")
    check_size(n)
    if method == "uniform" or n >= len(pairs):
        return pairs.sample(n, seed=seed)
    if method == "balanced":
        if labels is None or len(labels) != len(pairs):
            got = "none" if labels is None else f"{len(labels)}"
            raise InvalidPairsError(f"balanced anchors need {len(pairs)} labels, got {got}")
        chosen = balanced(list(labels), n, seed)
    else:
        choose = farthest_points if method == "farthest" else kmeans_plus_plus
        chosen = choose(_latents(pairs, Side("source", source), batch_size), n, seed)
    record = {"anchors": method, "max_pairs": n, "seed": seed}
    return pairs.select(chosen.sort().values.numpy(), **record)


def _latents(pairs: Pairs, side: Side, batch_size: int) -> Tensor:
    """Source latents of all pairs, (n, d), encoded by all processes."""
    processes = Processes.current()

    def work(stop: object) -> list[tuple[int, Tensor]]:
        found = []
        for chunk in pairs.chunks(_CHUNK, share=processes.share):
            found.append((chunk.place.index, side.read(chunk, batch_size=batch_size).cpu()))
        return found

    ordered = sorted(chain.from_iterable(processes.run(work)), key=lambda part: part[0])
    return torch.cat([latents for _, latents in ordered])
