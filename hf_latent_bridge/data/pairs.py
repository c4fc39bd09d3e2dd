"""Pairs whose rows can be read by number: lists, arrays, files of vectors, map-style datasets."""

import abc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from hf_latent_bridge.data.chunks import (
    CHUNK_SIZE,
    EVERYTHING,
    Chunk,
    ChunkNumber,
    PairSource,
    Rows,
    Share,
    Stamps,
)
from hf_latent_bridge.data.items import Screen, digest
from hf_latent_bridge.data.sampling import Deduplicator, check_size, priorities, smallest
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.latents import check_kind
from hf_latent_bridge.vectors.columns import (
    Concatenation,
    fingerprint,
    read_rows,
    select,
    stamps_of,
)


class _Table(abc.ABC):
    """Columns of items whose rows can be read by number, row by row the same thing."""

    dataset: dict[str, Any]
    rows: Rows | None

    @property
    @abc.abstractmethod
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The items of each side or view, by its name."""

    @property
    def names(self) -> tuple[str, ...]:
        """The sides or views, by name."""
        return tuple(self.columns)

    def _check(self) -> None:
        for side in self.columns.values():
            if isinstance(side, str):
                raise InvalidPairsError(
                    "pairs need lists of items, got one text: wrap it in a list"
                )
            check_kind(side)
            if not _has_rows(side):
                raise InvalidPairsError(
                    f"pairs need lists of items, got {type(side).__name__} {side!r:.40}"
                )
        counts = [len(side) for side in self.columns.values()]
        if len(set(counts)) > 1:
            raise InvalidPairsError(
                f"pairs need as many {' as '.join(self.names)} items, got "
                f"{' and '.join(map(str, counts))}"
            )
        if len(self) == 0:
            raise InvalidPairsError("pairs need at least one item, got none")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __add__(self, other: Self) -> Self:
        """These pairs, followed by the others."""
        kind = type(self).__name__
        if not isinstance(other, type(self)):
            raise InvalidPairsError(
                f"pairs of one kind can be added, got {kind} and {type(other).__name__}: "
                "load both with streaming=True or both without"
            )
        if other.names != self.names:
            raise InvalidPairsError(f"{kind} of {self.names} and of {other.names} cannot be added")
        columns = {
            name: Concatenation([column, other.columns[name]])
            for name, column in self.columns.items()
        }
        return self._of(columns, combined_record(self.dataset, other.dataset), None)

    @abc.abstractmethod
    def _of(
        self, columns: Mapping[str, Sequence[Any]], dataset: dict[str, Any], rows: Rows | None
    ) -> Self:
        """Others of this kind."""

    def sample(self, n: int, *, seed: int = 0) -> Self:
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

    def split(self, n: int, *, seed: int = 0) -> tuple[Self, Self]:
        """Sets `n` random pairs apart: those, and the others, both in their order.

        Raises:
            InvalidPairsError: `n` is less than 1, or leaves none.
        """
        check_size(n)
        if n >= len(self):
            raise InvalidPairsError(
                f"{n:,} of {len(self):,} pairs cannot be set apart: none is left"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.select(np.sort(order[:n])), self.select(np.sort(order[n:]))

    def deduplicate(self) -> Self:
        """The first pair of each content; reads all pairs once."""
        seen, kept = Deduplicator(), []
        for chunk in self.chunks(CHUNK_SIZE):
            kept.append(seen.first_times(chunk.columns) + chunk.number.index * CHUNK_SIZE)
        return self.select(np.concatenate(kept), **({"deduplicated": True} if self.dataset else {}))

    def select(self, indices: Rows, **record: Any) -> Self:
        """Some of the pairs, read when needed.

        Args:
            indices: Which pairs, (n,).
            record: Entries to add to the record of the dataset, such as how they were chosen.
        """
        columns = {name: select(column, indices) for name, column in self.columns.items()}
        return self._of(columns, {**self.dataset, **record}, self.row_numbers(indices))

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
        return " ".join(map(fingerprint, self.columns.values()))

    def stamps(self) -> Stamps | None:
        """Those of the files of vectors among the columns."""
        return [] if "revision" in self.dataset else stamps_of(self.columns.values())

    def chunks(
        self, size: int, *, share: Share = EVERYTHING, after: ChunkNumber | None = None
    ) -> Iterator[Chunk]:
        """Chunks of at most `size` pairs, in order, starting after chunk `after`."""
        for index, start in enumerate(range(0, len(self), size)):
            number = ChunkNumber(0, index)
            if share.owns(number) and (after is None or number > after):
                indices = np.arange(start, min(start + size, len(self)))
                columns = {name: read_rows(c, indices) for name, c in self.columns.items()}
                yield Chunk(number, self.row_numbers(indices), columns)


@dataclass(frozen=True)
class Pairs(_Table):
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
        self._check()

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The items of both sides."""
        return {"source": self.source, "target": self.target}

    def __repr__(self) -> str:
        source, target = type(self.source).__name__, type(self.target).__name__
        return f"{len(self):,} Pairs of {source} and {target}, dataset={self.dataset}"

    def _of(
        self, columns: Mapping[str, Sequence[Any]], dataset: dict[str, Any], rows: Rows | None
    ) -> "Pairs":
        return Pairs(columns["source"], columns["target"], dataset, rows)

    def batches(self, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Consecutive batches of at most `size` pairs.

        Raises:
            InvalidPairsError: An item is missing, empty or unreadable; names its side and row.
        """
        screen = Screen(latents=False)
        for chunk in self.chunks(size):
            for side in ("source", "target"):
                for index, reason in screen.reasons(chunk.columns[side]).items():
                    raise InvalidPairsError(f"{chunk.bad_row(index, side, reason)}: drop this pair")
            yield list(chunk.source), list(chunk.target)


@dataclass(frozen=True)
class Views(_Table):
    """Items of several views, row by row the same thing; for a space that encoders share.

    Attributes:
        items: The items of each view, by its name.
        dataset: Where they come from; JSON values, recorded in the configs.
        rows: Row number of each item in the dataset, (n,); None for 0, 1, 2 and so on.
    """

    items: Mapping[str, Sequence[Any]]
    dataset: dict[str, Any] = field(default_factory=dict)
    rows: Rows | None = None

    def __post_init__(self) -> None:
        if not self.items:
            raise InvalidPairsError("views need at least one column of items, got none")
        self._check()

    @property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The items of each view, by its name."""
        return self.items

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name} ({type(c).__name__})" for name, c in self.columns.items())
        return f"Views of {len(self):,} items: {kinds}, dataset={self.dataset}"

    def _of(
        self, columns: Mapping[str, Sequence[Any]], dataset: dict[str, Any], rows: Rows | None
    ) -> "Views":
        return Views(columns, dataset, rows)


def _has_rows(side: Any) -> bool:
    """Whether items can be counted and read by number."""
    sized = hasattr(side, "__len__") and hasattr(side, "__getitem__")
    return sized and not isinstance(side, Mapping) and getattr(side, "ndim", 1) > 0


def of_columns(
    columns: Mapping[str, Sequence[Any]], dataset: dict[str, Any], rows: Rows | None = None
) -> Pairs | Views:
    """Pairs of a source and a target, or items of views."""
    if set(columns) == {"source", "target"}:
        return Pairs(columns["source"], columns["target"], dataset, rows)
    return Views(columns, dataset, rows)


def as_pairs(pairs: PairSource | tuple[Sequence[Any], Sequence[Any]]) -> PairSource:
    """Pairs as `load_pairs` gives them, from those or from two lists or arrays.

    Raises:
        InvalidPairsError: None of these.
    """
    if isinstance(pairs, PairSource):
        return pairs
    if isinstance(pairs, tuple | list):
        check_sides(pairs)
        return Pairs(*pairs)
    raise InvalidPairsError(
        "pairs come from load_pairs or are two lists or arrays, (sources, targets), got "
        f"{type(pairs).__name__} {pairs!r:.60}"
    )


def check_sides(sides: Sequence[Any]) -> None:
    """Refuses rows of pairs, [(a, b), (c, d)], where the two columns are meant to be given.

    Raises:
        InvalidPairsError: Not two columns, or two rows of two that could be either.
    """
    plain = (tuple, list) if isinstance(sides, list) else (tuple,)
    if len(sides) == 2 and not all(isinstance(s, plain) and len(s) == 2 for s in sides):
        return
    got = f"{len(sides)}" if len(sides) != 2 else f"two of two items each, {sides!r:.60}"
    raise InvalidPairsError(
        f"pairs need two lists, one for each side, got {got}: pass (sources, targets), such as "
        "([source for source, _ in rows], [target for _, target in rows]) for rows of pairs"
    )


def combined_record(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The record of two datasets together; empty for lists, which have no record."""
    parts = [*first.get("parts", [first]), *second.get("parts", [second])]
    return {"parts": parts} if any(parts) else {}


def as_views(items: PairSource | Mapping[str, Sequence[Any]] | Sequence[Any]) -> PairSource:
    """Items as `load_views` gives them: from those, columns by name, two columns or one list."""
    if isinstance(items, Mapping):
        return Views(items)
    if isinstance(items, tuple) and len(items) == 2 and not any(isinstance(x, str) for x in items):
        return as_pairs(items)
    return items if isinstance(items, PairSource) else Views({"items": items})
