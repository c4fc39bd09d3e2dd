"""A sample of source latents for a bank of queries, the same whatever processes read the pairs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hf_latent_bridge.data.sampling import priorities, smallest
from hf_latent_bridge.fitting.encoding import EncodedChunk

_SEED = 0
_MOST_ROWS = 2**40  # in a shard


@dataclass(frozen=True)
class BankSample:
    """The rows with the smallest priorities among those read so far.

    Attributes:
        size: How many to keep.
        keys: Their priorities, ascending.
        latents: Source latents of these rows, (n, d), on the CPU; None before the first.
    """

    size: int
    keys: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    latents: Tensor | None = None

    def with_chunk(self, encoded: EncodedChunk) -> "BankSample":
        """The sample after a chunk was read."""
        if not encoded.latents:
            return self
        chunk = encoded.chunk
        shard = chunk.number.shard if chunk.sharded else 0
        keys = priorities(chunk.rows + shard * _MOST_ROWS, _SEED)
        return self + BankSample(self.size, keys, encoded.latents[0])

    def __add__(self, other: "BankSample") -> "BankSample":
        parts = [part for part in (self, other) if part.latents is not None]
        if not parts:
            return self
        keys = np.concatenate([part.keys for part in parts])
        kept = smallest(keys, self.size)
        kept = kept[np.argsort(keys[kept])]
        latents = torch.cat([part.latents.cpu() for part in parts if part.latents is not None])
        return BankSample(self.size, keys[kept], latents[torch.from_numpy(kept)])

    def to_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; empty before the first row."""
        if self.latents is None:
            return {}
        keys = torch.from_numpy(self.keys.view(np.int64).copy())
        return {"bank_keys": keys, "bank_latents": self.latents.contiguous()}

    @classmethod
    def from_tensors(cls, size: int, tensors: dict[str, Any]) -> "BankSample":
        """From a checkpoint, out of whose tensors it takes its own."""
        if "bank_keys" not in tensors:
            return cls(size)
        keys = tensors.pop("bank_keys").numpy().view(np.uint64)
        return cls(size, keys, tensors.pop("bank_latents"))
