"""Samples of latents that a fit keeps beside its moments, the same for any number of processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_latent_bridge.data.sampling import priorities, smallest
from hf_latent_bridge.fitting.encoding import EncodedChunk

_MOST_ROWS = 2**40  # in a shard


@dataclass(frozen=True)
class RowSample:
    """The rows with the smallest priorities among those read so far.

    Attributes:
        size: How many to keep.
        sides: Of how many sides, from the first on.
        seed: Seeds the draw.
        keys: Priorities of the rows, ascending.
        places: For each row the number of its chunk, its index in there, and its row number in the
            dataset or shard, (n, 3).
        latents: Latents of each side for these rows, (n, d), on the CPU; empty before the first.
    """

    size: int
    sides: int = 1
    seed: int = 0
    keys: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    latents: tuple[Tensor, ...] = ()

    def with_chunk(self, encoded: EncodedChunk) -> "RowSample":
        """The sample after a chunk was read."""
        if not encoded.latents:
            return self
        chunk = encoded.chunk
        shard = chunk.number.shard if chunk.sharded else 0
        keys = priorities(chunk.rows + shard * _MOST_ROWS, self.seed)
        within = np.arange(len(chunk.rows))
        places = np.stack([np.full_like(within, chunk.number.index), within, chunk.rows], axis=1)
        latents = encoded.latents[: self.sides]
        return self + replace(self, keys=keys, places=places, latents=latents)

    def __add__(self, other: "RowSample") -> "RowSample":
        parts = [part for part in (self, other) if part.latents]
        if not parts:
            return self
        keys = np.concatenate([part.keys for part in parts])
        kept = smallest(keys, self.size)
        kept = kept[np.argsort(keys[kept])]
        places = np.concatenate([part.places for part in parts])[kept]
        rows = torch.from_numpy(kept)
        sides = zip(*(part.latents for part in parts), strict=True)
        latents = tuple(torch.cat([z.cpu() for z in side])[rows] for side in sides)
        return replace(self, keys=keys[kept], places=places, latents=latents)

    def to_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; empty before the first row."""
        if not self.latents:
            return {}
        keys = torch.from_numpy(self.keys.view(np.int64).copy())
        sides = {str(number): z.contiguous() for number, z in enumerate(self.latents)}
        return {"keys": keys, "places": torch.from_numpy(self.places.copy()), **sides}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "RowSample":
        """This empty sample with the rows that `to_tensors` gave."""
        if not tensors:
            return self
        return replace(
            self,
            keys=tensors["keys"].numpy().view(np.uint64),
            places=tensors["places"].numpy(),
            latents=tuple(tensors[str(number)] for number in range(self.sides)),
        )
