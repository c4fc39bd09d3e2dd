"""Latents of real encoders, kept on disk so that a second run takes seconds."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assets.cache import cache_root
from torch import Tensor

SAMPLE_SEED = 0
_ITEMS_AT_ONCE = 256


@dataclass(frozen=True)
class Views:
    """Rows of a dataset as several encoders see them.

    Attributes:
        latents: By the encoder's name, (n, d) each, row by row of the same items.
        labels: (n,), the classes.
    """

    latents: Mapping[str, Tensor]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)


def load_views(
    dataset: str, split: str, column: str, encoders: Mapping[str, Any], *, size: int
) -> Views:
    """Encodes a sample of a dataset, the same at every run, by each encoder.

    Args:
        dataset: Repo id of a dataset with a column "label".
        split: Its split.
        column: The column to encode.
        encoders: By name, what `load_text_encoder` or `load_encoder` gave.
        size: Rows to draw; all where there are fewer.
    """
    from hf_latent_bridge import load_pairs

    pairs = load_pairs(
        dataset, split=split, source=column, target="label", max_pairs=size, seed=SAMPLE_SEED
    )
    items = list(pairs.source)
    latents = {name: encode(encoder, items) for name, encoder in encoders.items()}
    return Views(latents, [int(label) for label in pairs.target])


def encode(encoder: Any, items: Sequence[Any]) -> Tensor:
    """Latents (n, d) of texts or pictures, from the cache where they are known.

    What is encoded is kept every 256 items, so that a run that was cut off goes on where it was.

    Args:
        encoder: From `hf_latent_bridge.load_encoder`.
        items: Texts or pictures.
    """
    import torch

    from hf_latent_bridge import CachedEncoder

    cached = CachedEncoder(encoder, cache_root() / "latents")
    start = time.perf_counter()
    parts = [
        cached.encode(items[first : first + _ITEMS_AT_ONCE])
        for first in range(0, len(items), _ITEMS_AT_ONCE)
    ]
    took = time.perf_counter() - start
    print(f"{len(items):,} items by {encoder.space.repo_id}: {took:.1f} s", file=sys.stderr)
    return torch.cat(parts).cpu()
