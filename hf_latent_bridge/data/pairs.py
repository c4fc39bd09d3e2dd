"""Pairs whose rows can be read by number: lists, arrays, files of vectors, map-style datasets."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_latent_bridge.data.chunks import (
    CHUNK_SIZE,
    EVERYTHING,
    Chunk,
    ChunkNumber,
    PairSource,
    Rows,
    Share,
)
from hf_latent_bridge.data.items import Screen, digest
from hf_latent_bridge.data.sampling import Deduplicator, check_size, priorities, smallest
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.latents import check_kind
from hf_latent_bridge.vectors.columns import Concatenation, fingerprint, read_rows, select


@dataclass(frozen=True)
class Pairs:
    """Items for the source encoder, each with its counterpart for the target encoder.

    Attributes:
        source: Items for the source encoder.
        target: Items for the target encoder, row by row the counterparts.
        dataset: Where they come from; JSON values, recorded in the translator's config.
        rows: Row number of each pair in the dataset, (n,); None for 0, 1, 2 and so on.
    """

    source: Sequence[Any]
    target: Sequence[Any]
    dataset: dict[str, Any] = field(default_factory=dict)
    rows: Rows | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, str) or isinstance(self.target, str):
            raise InvalidPairsError(
                "pairs need two lists of items, got one text: wrap it in a list"
            )
        for side in (self.source, self.target):
            check_kind(side)
            if not hasattr(side, "__len__"):
                raise InvalidPairsError(
                    f"pairs need two lists of items, got {type(side).__name__} {side!r:.40}"
                )
        if len(self.source) != len(self.target):
            raise InvalidPairsError(
                f"pairs need as many source as target items, got {len(self.source)} and "
                f"{len(self.target)}"
            )
        if len(self.source) == 0:
            raise InvalidPairsError("pairs need at least one item, got none")

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        source, target = type(self.source).__name__, type(self.target).__name__
        return f"{len(self):,} Pairs of {source} and {target}, dataset={self.dataset}"

    def __add__(self, other: "Pairs") -> "Pairs":
        """These pairs, followed by the others."""
        if not isinstance(other, Pairs):
            raise InvalidPairsError(
                f"pairs of one kind can be added, got Pairs and {type(other).__name__}: "
                "load both with streaming=True or both without"
            )
        return Pairs(
            Concatenation([self.source, other.source]),
            Concatenation([self.target, other.target]),
            combined_record(self.dataset, other.dataset),
        )

    def sample(self, n: int, *, seed: int = 0) -> "Pairs":
        """A sample of `n` pairs without replacement, in their order; all if there are fewer.

        Streaming the dataset gives the same sample.

        Raises:
            InvalidPairsError: `n` is less than 1.
        """
        check_size(n)
        if n >= len(self):
            return self
        keys = priorities(self.row_numbers(np.arange(len(self))), seed)
        record = {"max_pairs": n, "seed": seed} if self.dataset else {}
        return self.select(smallest(keys, n), **record)

    def deduplicate(self) -> "Pairs":
        """The first pair of each content; reads all pairs once."""
        seen, kept = Deduplicator(), []
        for chunk in self.chunks(CHUNK_SIZE):
            first = seen.first_times(chunk.source, chunk.target)
            kept.append(first + chunk.number.index * CHUNK_SIZE)
        return self.select(np.concatenate(kept), **({"deduplicated": True} if self.dataset else {}))

    def select(self, indices: Rows, **record: Any) -> "Pairs":
        """Some of the pairs, read when needed.

        Args:
            indices: Which pairs, (n,).
            record: Entries to add to the record of the dataset, such as how they were chosen.
        """
        source, target = (select(column, indices) for column in (self.source, self.target))
        return Pairs(source, target, {**self.dataset, **record}, self.row_numbers(indices))

    def row_numbers(self, indices: Rows) -> Rows:
        """Row numbers in the dataset of some of the pairs."""
        return indices if self.rows is None else self.rows[indices]

    def rows_of(self, share: Share, size: int) -> int:
        """Number of pairs in the chunks of a process."""
        starts = range(share.rank * size, len(self), share.count * size)
        return sum(min(size, len(self) - start) for start in starts)

    def fingerprint(self) -> str:
        """Equal for equal pairs; data of a Hub commit is not read for it."""
        if "revision" in self.dataset:
            rows = "all" if self.rows is None else digest(self.rows).hex()
            return f"{len(self)} {json.dumps(self.dataset, sort_keys=True)} {rows}"
        return f"{fingerprint(self.source)} {fingerprint(self.target)}"

    def chunks(
        self, size: int, *, share: Share = EVERYTHING, after: ChunkNumber | None = None
    ) -> Iterator[Chunk]:
        """Chunks of at most `size` pairs, in order, starting after chunk `after`."""
        for index, start in enumerate(range(0, len(self), size)):
            number = ChunkNumber(0, index)
            if share.owns(number) and (after is None or number > after):
                indices = np.arange(start, min(start + size, len(self)))
                source, target = (read_rows(c, indices) for c in (self.source, self.target))
                yield Chunk(number, self.row_numbers(indices), source, target)

    def batches(self, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Consecutive batches of at most `size` pairs.

        Raises:
            InvalidPairsError: An item is missing, empty or unreadable; names its side and row.
        """
        screen = Screen(latents=False)
        for chunk in self.chunks(size):
            for side in ("source", "target"):
                for index, reason in screen.reasons(chunk.items(side)).items():
                    raise InvalidPairsError(f"{chunk.bad_row(index, side, reason)}: drop this pair")
            yield list(chunk.source), list(chunk.target)


def as_pairs(pairs: PairSource | tuple[Sequence[Any], Sequence[Any]]) -> PairSource:
    """Pairs as `load_pairs` gives them, from those or from two lists or arrays."""
    return Pairs(*pairs) if isinstance(pairs, tuple | list) else pairs


def combined_record(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The record of two datasets together; empty for lists, which have no record."""
    parts = [*first.get("parts", [first]), *second.get("parts", [second])]
    return {"parts": parts} if any(parts) else {}
