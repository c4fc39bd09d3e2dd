"""Chunks of consecutive pairs, the unit of reading, and how processes share them out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.data.items import BadRow, Items, checksum

CHUNK_SIZE = 1024
_CHUNK_OF_LATENTS = 16_384  # reading and adding take less time for each pair

Rows = npt.NDArray[np.int64]  # row numbers
Stamps = list[tuple[int, ...]]


@dataclass(frozen=True, order=True)
class ChunkNumber:
    """Which chunk of a dataset: its shard (0 for an undivided one), and its number in there."""

    shard: int
    index: int


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs. Their division into chunks is the same for any number of processes.

    Attributes:
        number: Which chunk of the dataset.
        rows: Row number of each pair in the dataset, (n,), or in its shard where `sharded`.
        columns: The items of each side or view, by its name.
        sharded: Whether row numbers start anew in each shard.
    """

    number: ChunkNumber
    rows: Rows
    columns: Mapping[str, Items]
    sharded: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def source(self) -> Items:
        """Items for the source encoder."""
        return self.columns["source"]

    @property
    def target(self) -> Items:
        """Items for the target encoder."""
        return self.columns["target"]

    def bad_row(self, index: int, side: str, reason: str) -> BadRow:
        """Describes an unusable item by its index in this chunk."""
        shard = self.number.shard if self.sharded else None
        return BadRow(int(self.rows[index]), side, reason, shard)

    def keep(self, indices: Rows) -> "Chunk":
        """The chunk with some of its pairs."""
        columns = {name: _pick(items, indices) for name, items in self.columns.items()}
        return Chunk(self.number, self.rows[indices], columns, self.sharded)

    def checksum(self, before: int = 0) -> int:
        """CRC-32 of all items, going on from that of the chunks before."""
        for items in self.columns.values():
            before = checksum(items, before)
        return before

    def __str__(self) -> str:
        shard = f" of shard {self.number.shard}" if self.sharded else ""
        return f"pairs {self.rows[0]} to {self.rows[-1]}{shard}"


@dataclass(frozen=True)
class Share:
    """The chunks that one of several processes reads.

    Attributes:
        rank: Number of the process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def owns(self, number: ChunkNumber, *, by_shard: bool = False) -> bool:
        """Whether the chunk is this process's; `by_shard` gives whole shards to one process."""
        return (number.shard + (0 if by_shard else number.index)) % self.count == self.rank


EVERYTHING = Share()


def size_of_chunks(chunk_size: int | Literal["auto"], *, latents: bool) -> int:
    """The number of pairs in a chunk; "auto" is 16,384 for latents, 1,024 for items to encode."""
    if chunk_size != "auto":
        return chunk_size
    return _CHUNK_OF_LATENTS if latents else CHUNK_SIZE


@runtime_checkable
class PairSource(Protocol):
    """Pairs that can be read in one pass, by one or several processes."""

    @property
    def dataset(self) -> dict[str, Any]:
        """Where the pairs come from; JSON values, recorded in the translator's config."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the chunks: "source" and "target", or the names of views."""

    def rows_of(self, share: Share, size: int) -> int | None:
        """Number of pairs in the chunks of a process; None if only reading them would tell."""

    def fingerprint(self) -> str:
        """Equal for equal pairs in the same order; a resumed fit compares it."""

    def stamps(self) -> Stamps | None:
        """What changes when a file that is read is written; None where that cannot be known.

        Empty where the fingerprint says all about the content. A resumed fit reads again what it
        had read, and compares, unless all stamps are as they were.
        """

    def chunks(
        self, size: int, *, share: Share = EVERYTHING, after: ChunkNumber | None = None
    ) -> Iterator[Chunk]:
        """Chunks of at most `size` pairs, in order, starting after chunk `after`.

        Args:
            size: Pairs in a chunk.
            share: Which chunks to read.
            after: The last chunk that needs no reading; None to start with the first.
        """


def _pick(items: Items, indices: Rows) -> Items:
    if isinstance(items, np.ndarray):
        return items[indices]
    return [items[index] for index in indices]
