"""choose_anchors: the pairs to fit on, at random, far apart, or balanced over classes."""

from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.data.chunks import PairSource, size_of_chunks
from hf_latent_bridge.data.items import class_labels
from hf_latent_bridge.data.pairs import Pairs, as_pairs
from hf_latent_bridge.data.sampling import check_size
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.fitting.encoding import EncodingLoop, Side
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.spaces import SpaceSpec

AnchorMethod = Literal["uniform", "kmeans++", "farthest", "balanced"]
METHODS: tuple[AnchorMethod, ...] = ("uniform", "kmeans++", "farthest", "balanced")
_BLOCK_ROWS = 1 << 16


def farthest_points(x: Float[Tensor, "n d"], k: int, seed: int) -> Int[Tensor, " k"]:
    """Rows of points, each the farthest from all before it, the first random (Gonzalez, 1985).

    Args:
        x: Latents to choose from.
        k: Number of points, at most n.
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
    """Rows of points, drawn in proportion to the squared distance from those before.

    Arthur & Vassilvitskii, "k-means++" (2007). Once only duplicates of chosen points are left, all
    of them are equally likely.

    Args:
        x: Latents to choose from.
        k: Number of points, at most n.
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
    """The same number of rows of each class; all rows of a class that has fewer.

    Args:
        labels: The class of each row, (n,).
        k: Number of rows, at most n.
        seed: Seeds the choice within each class, and of the classes that give one row more.
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
    dtype = torch.promote_types(x.dtype, torch.float32)
    point = x[row].to(dtype)
    starts = range(0, len(x), _BLOCK_ROWS)
    blocks = [(x[i : i + _BLOCK_ROWS].to(dtype) - point).square().sum(1) for i in starts]
    return torch.cat(blocks).double().cpu()


def choose_anchors(
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    n: int,
    method: AnchorMethod,
    *,
    source: EncoderLike | SpaceSpec | None = None,
    labels: Sequence[Hashable] | None = None,
    seed: int = 0,
    batch_size: BatchSize = "auto",
    chunk_size: int | Literal["auto"] = "auto",
    progress: bool = False,
) -> Pairs:
    """Chooses `n` of the pairs as anchors, and keeps their order; all pairs if there are fewer.

    The method and its seed are recorded in the config's dataset record. "kmeans++" and "farthest"
    encode the source side of all pairs (each process its share) and keep the latents in memory.

    Args:
        pairs: The pairs to choose from: from `load_pairs`, or two lists or arrays. Not streamed,
            since rows are read again.
        n: Number of anchors.
        method: "uniform" at random; "kmeans++" or "farthest" for anchors far apart in the source
            latents; "balanced" over `labels`.
        source: Encoder of the source side; if its items are latents, their space or None.
        labels: The class of each pair, such as `load_pairs(..., source="label").source`.
        seed: Seeds the choice.
        batch_size: Items per forward pass; "auto" for as many as suit the device.
        chunk_size: Pairs that are read and encoded at a time; "auto" as for `fit_translator`.
        progress: Show a progress bar in the first process.

    Raises:
        InvalidPairsError: `n` is less than 1, the pairs are streamed, there is not one label per
            pair, or a row is bad.
        InvalidLatentsError: The encoder gave NaN or infinity.
        ProcessError: Another process failed or was lost.
        ValueError: An unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"anchors must be one of {METHODS}, got {method!r}")
    pairs = as_pairs(pairs)
    if not isinstance(pairs, Pairs):
        raise InvalidPairsError("anchors are chosen from pairs that can be read twice, not streams")
    check_size(n)
    if method == "uniform" or n >= len(pairs):
        return pairs.sample(n, seed=seed)
    if method == "balanced":
        if labels is None:
            raise InvalidPairsError(f"balanced anchors need {len(pairs)} labels, got none")
        chosen = balanced(class_labels(labels, len(pairs)), n, seed)
    else:
        side = Side("source", source)
        loop = EncodingLoop(
            pairs,
            (side,),
            "choose anchors",
            batch_size=batch_size,
            chunk_size=size_of_chunks(chunk_size, latents=side.holds_latents),
            progress=progress,
        )
        choose = farthest_points if method == "farthest" else kmeans_plus_plus
        chosen = choose(_latents(loop), n, seed)
    record = {"anchors": method, "max_pairs": n, "seed": seed}
    return pairs.select(chosen.sort().values.numpy(), **record)


def _latents(loop: EncodingLoop) -> Tensor:
    """Source latents of all pairs, (n, d), on the CPU, encoded by all processes."""
    processes = Processes.current()

    def work(stop: Callable[[], bool]) -> list[tuple[int, Tensor]]:
        found = []
        for encoded in loop.run(processes.share):
            (latents,) = encoded.latents
            found.append((encoded.chunk.number.index, latents.cpu()))
            if stop():
                break
        return found

    ordered = sorted(chain.from_iterable(processes.run(work)), key=lambda part: part[0])
    return torch.cat([latents for _, latents in ordered])
