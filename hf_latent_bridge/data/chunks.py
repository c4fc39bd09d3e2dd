"""The unit of work: chunks of consecutive rows, each at a fixed place, shared out to processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.data.items import BadRow, Items

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Place:
    """Where a chunk stands: its shard (0 where there is one) and its number in that shard."""

    shard: int
    index: int


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows. Their places do not depend on the number of processes, so sums do not.

    Attributes:
        place: Where the chunk stands.
        rows: Number of each row in the dataset, (n,); in its shard where `sharded`.
        source: Items for the source side.
        target: Items for the target side.
        sharded: Whether rows count from the beginning of their shard.
    """

    place: Place
    rows: Rows
    source: Items
    target: Items
    sharded: bool = False

    def bad_row(self, position: int, side: str, reason: str) -> BadRow:
        """What is wrong with the item at a position of this chunk."""
        shard = self.place.shard if self.sharded else None
        return BadRow(int(self.rows[position]), side, reason, shard)

    def keep(self, positions: Rows) -> "Chunk":
        """The chunk with some of its rows."""
        source, target = (_pick(items, positions) for items in (self.source, self.target))
        return Chunk(self.place, self.rows[positions], source, target, self.sharded)


@dataclass(frozen=True)
class Share:
    """The part of the chunks that one of several processes reads."""

    rank: int = 0
    count: int = 1

    def owns(self, place: Place, *, by_shard: bool = False) -> bool:
        """Whether the chunk is this process's; with `by_shard`, it has all of a shard or none."""
        return (place.shard + (0 if by_shard else place.index)) % self.count == self.rank


EVERYTHING = Share()


class PairSource(Protocol):
    """Pairs that can be read in one pass, by one or several processes."""

    @property
    def dataset(self) -> dict[str, Any]:
        """Where the pairs come from; JSON values, recorded in the translator's config."""

    def rows_of(self, share: Share, size: int) -> int | None:
        """Number of rows in a process's chunks; None where only reading them would tell."""

    def fingerprint(self) -> str:
        """Equal for equal pairs in the same order, so that a resumed fit knows them again."""

    def chunks(
        self, size: int, *, share: Share = EVERYTHING, after: Place | None = None
    ) -> Iterator[Chunk]:
        """A process's chunks of at most `size` rows, in order, from behind a place on."""


def _pick(items: Items, positions: Rows) -> Items:
    if isinstance(items, np.ndarray):
        return items[positions]
    return [items[position] for position in positions]
