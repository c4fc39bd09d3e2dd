"""Pairs of streamed datasets: read once from beginning to end, a chunk in memory at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hf_latent_bridge.data.chunks import (
    CHUNK_SIZE,
    EVERYTHING,
    Chunk,
    ChunkNumber,
    Rows,
    Share,
    Stamps,
)
from hf_latent_bridge.data.pairs import Pairs, Views, combined_record
from hf_latent_bridge.data.sampling import Deduplicator, check_size, priorities, smallest
from hf_latent_bridge.errors import DatasetError, InvalidPairsError
from hf_latent_bridge.vectors.datasets import decode, table_column

if TYPE_CHECKING:
    from datasets import IterableDataset


@dataclass(frozen=True)
class Shard:
    """Columns of a piece of a stream that can be opened alone.

    Attributes:
        stream: The piece.
        columns: Its column for each side or view, by name.
    """

    stream: "IterableDataset"
    columns: Mapping[str, str]

    @property
    def features(self) -> dict[str, Any]:
        """The `datasets` feature of each side or view; None if it is unknown."""
        known = self.stream.features or {}
        return {name: known.get(column) for name, column in self.columns.items()}

    def tables(self, size: int) -> Iterator[Any]:
        """Arrow tables of at most `size` rows, a column for each side or view, not decoded.

        Raises:
            DatasetError: Rows of one column are of types that have nothing in common.
        """
        import pyarrow as pa

        rows = self.stream.with_format("arrow")
        in_arrow = getattr(self.stream._ex_iterable, "iter_arrow", None) is not None
        try:
            # `datasets` takes the types of each other row by itself, where null is another type
            for table in rows.iter(size) if in_arrow else _joined(rows.iter(1), size):
                columns = [table.column(column) for column in self.columns.values()]
                yield pa.table(columns, names=list(self.columns))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DatasetError(
                f"rows of the streamed dataset differ in the types of {self.columns}: give its "
                f"features, or load it without streaming ({' '.join(str(error).split())[:200]})"
            ) from error

    def chunk(self, number: ChunkNumber, table: Any, rows: Rows, *, sharded: bool = False) -> Chunk:
        """Decodes a table."""
        columns = {
            name: decode(table.column(name), feature) for name, feature in self.features.items()
        }
        return Chunk(number, rows, columns, sharded)


@dataclass(frozen=True)
class _Stream:
    """Columns of a streamed dataset; each process reads its share.

    Where the number of shards is a multiple of that of the processes, a process opens its own
    shards only; otherwise each reads all, and decodes and encodes its own chunks only.

    Attributes:
        shards: The pieces of the stream, in order.
        dataset: Where the pairs come from; JSON values, recorded in the translator's config.
        deduplicated: Leave out pairs whose content came before.
    """

    shards: tuple[Shard, ...]
    dataset: dict[str, Any] = field(default_factory=dict)
    deduplicated: bool = False

    @classmethod
    def of(
        cls,
        stream: "IterableDataset",
        columns: Mapping[str, str],
        dataset: dict[str, Any],
        *,
        by_shard: bool,
    ) -> Self:
        """Columns of a stream.

        Args:
            stream: The dataset.
            columns: Its column for each side or view, by name.
            dataset: Where it comes from.
            by_shard: Whether its shards may be read separately: true for a dataset on the Hub, not
                for `stream.take(1000)`, where the limit is over all shards.

        Raises:
            InvalidPairsError: The stream is split by node already.
        """
        from datasets.distributed import split_dataset_by_node

        if getattr(stream, "_distributed", None) is not None:
            raise InvalidPairsError(
                "a stream is shared out among the processes here, and this one is split by node "
                "already, so that rows would be lost: pass the whole of it"
            )
        narrow = stream.select_columns(list(dict.fromkeys(columns.values())))
        count = stream.num_shards if by_shard else 1
        pieces = [split_dataset_by_node(narrow, rank, count) for rank in range(count)]
        return cls(tuple(Shard(piece, columns) for piece in pieces), dataset)

    @property
    def names(self) -> tuple[str, ...]:
        """The sides or views, by name."""
        return tuple(self.shards[0].columns)

    def __add__(self, other: Self) -> Self:
        """These pairs, followed by the others."""
        if not isinstance(other, type(self)) or self.deduplicated or other.deduplicated:
            raise InvalidPairsError(
                "pairs of one kind can be added, and deduplicated after that, got "
                f"{type(self).__name__} and {type(other).__name__}: load both with or both without "
                "streaming=True"
            )
        return type(self)(self.shards + other.shards, combined_record(self.dataset, other.dataset))

    def deduplicate(self) -> Self:
        """The first pair of each content; every process then reads all pairs."""
        return replace(self, dataset={**self.dataset, "deduplicated": True}, deduplicated=True)

    def rows_of(self, share: Share, size: int) -> None:
        """Unknown before the stream is read."""

    def fingerprint(self) -> str:
        """Equal for equal commits of a Hub dataset; for other streams, for equal schemas."""
        return json.dumps(
            [self.dataset, [str(shard.features) for shard in self.shards]], sort_keys=True
        )

    def stamps(self) -> Stamps | None:
        """None for a stream of unknown content: not of a Hub commit."""
        parts = self.dataset.get("parts", [self.dataset])
        return [] if all("revision" in part for part in parts) else None

    def chunks(
        self, size: int, *, share: Share = EVERYTHING, after: ChunkNumber | None = None
    ) -> Iterator[Chunk]:
        """Chunks of at most `size` pairs, in order, starting after chunk `after`."""
        unique = Deduplicator() if self.deduplicated else None
        by_shard = unique is None and len(self.shards) % share.count == 0
        for shard_number, shard in enumerate(self.shards):
            done = after is not None and shard_number < after.shard
            others = by_shard and not share.owns(ChunkNumber(shard_number, 0), by_shard=True)
            if unique is None and (done or others):
                continue
            for number, rows, table in self._tables_of(shard_number, size):
                wanted = share.owns(number, by_shard=by_shard) and (after is None or number > after)
                if not wanted and unique is None:
                    continue
                chunk = shard.chunk(number, table, rows, sharded=len(self.shards) > 1)
                if unique is not None:
                    chunk = chunk.keep(unique.first_times(chunk.columns))
                if wanted and len(chunk.rows):
                    yield chunk

    def _tables_of(self, shard: int, size: int) -> Iterator[tuple[ChunkNumber, Rows, Any]]:
        """The tables of a shard, with their chunk and row numbers."""
        row = 0
        for index, table in enumerate(self.shards[shard].tables(size)):
            yield ChunkNumber(shard, index), np.arange(row, row + len(table)), table
            row += len(table)

    def _sample(self, n: int, seed: int) -> tuple[dict[str, Sequence[Any]], dict[str, Any], Rows]:
        """Columns, record and row numbers of a sample."""
        check_size(n)
        reservoir, first_row, unique = _Reservoir(n, seed), 0, Deduplicator()
        for shard_number, shard in enumerate(self.shards):
            last = -1
            for number, within, table in self._tables_of(shard_number, CHUNK_SIZE):
                kept, rows = table, within + first_row
                last = int(rows[-1])
                if self.deduplicated:
                    chunk = shard.chunk(number, table, rows)
                    first = unique.first_times(chunk.columns)
                    kept, rows = table.take(first), rows[first]
                reservoir.add(kept, rows)
            first_row = max(first_row, last + 1)
        record = {"max_pairs": n, "seed": seed} if reservoir.seen > n else {}
        columns, chosen = reservoir.sample(self.shards[0].features)
        return columns, {**self.dataset, **record}, chosen


def _joined(rows: Iterator[Any], size: int) -> Iterator[Any]:
    """Tables of `size` rows from those of one, of types that take the values of all."""
    import pyarrow as pa

    while held := list(islice(rows, size)):
        yield pa.concat_tables(held, promote_options="permissive")


class StreamedPairs(_Stream):
    """Pairs of a streamed dataset; each process reads its share."""

    def sample(self, n: int, *, seed: int = 0) -> Pairs:
        """A sample of `n` pairs without replacement, read now and held in memory.

        The same pairs as without streaming.

        Raises:
            InvalidPairsError: `n` is less than 1, or there are no pairs.
        """
        columns, record, rows = self._sample(n, seed)
        return Pairs(columns["source"], columns["target"], record, rows)


class StreamedViews(_Stream):
    """Items of several views in a streamed dataset; each process reads its share."""

    def sample(self, n: int, *, seed: int = 0) -> Views:
        """A sample of `n` items without replacement, read now and held in memory.

        The same items as without streaming.

        Raises:
            InvalidPairsError: `n` is less than 1, or there are no items.
        """
        return Views(*self._sample(n, seed))


class _Reservoir:
    """Holds the rows of smallest priority so far, not decoded, and up to a quarter more."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, seed
        self._tables: list[Any] = []
        self._rows: list[Rows] = []
        self._limit = np.uint64(np.iinfo(np.uint64).max)
        self.seen = 0

    def add(self, table: Any, rows: Rows) -> None:
        """Adds the rows of a table that may be part of the sample."""
        self.seen += len(rows)
        wanted = np.flatnonzero(priorities(rows, self._seed) <= self._limit)
        self._tables.append(table.take(wanted))
        self._rows.append(rows[wanted])
        if sum(map(len, self._rows)) > self._n * 1.25 + CHUNK_SIZE:
            self._drop()

    def sample(self, features: Mapping[str, Any]) -> tuple[dict[str, Sequence[Any]], Rows]:
        """The sample, in the order of the rows."""
        if not self._tables:
            raise InvalidPairsError("pairs need at least one item, got none")
        self._drop()
        (table,), (rows,) = self._tables, self._rows
        return {name: table_column(table, name, kind) for name, kind in features.items()}, rows

    def _drop(self) -> None:
        import pyarrow as pa

        rows = np.concatenate(self._rows)
        keys = priorities(rows, self._seed)
        kept = smallest(keys, self._n)
        if len(kept) == self._n:
            self._limit = keys[kept].max()
        joined = pa.concat_tables(self._tables, promote_options="permissive")
        self._tables = [joined.take(kept)]
        self._rows = [rows[kept]]
