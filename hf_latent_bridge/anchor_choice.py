"""Chooses anchors among pairs, by chance or by what their source latents or classes say."""

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from hf_latent_bridge import anchors
from hf_latent_bridge.data import Pairs, StreamedPairs
from hf_latent_bridge.data.sampling import check_size
from hf_latent_bridge.encoders import EncoderLike
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.processes import Processes
from hf_latent_bridge.sides import Side
from hf_latent_bridge.spaces import SpaceSpec

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
        chosen = anchors.balanced(list(labels), n, seed)
    else:
        choose = anchors.farthest_points if method == "farthest" else anchors.kmeans_plus_plus
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
