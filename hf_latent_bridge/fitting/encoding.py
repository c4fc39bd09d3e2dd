"""The loop from pairs to latents that fitting, evaluation and the choice of anchors share."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.data.chunks import (
    CHUNK_SIZE,
    EVERYTHING,
    Chunk,
    ChunkNumber,
    PairSource,
    Share,
)
from hf_latent_bridge.data.items import BadRow, Screen, as_matrix
from hf_latent_bridge.encoders.base import EncoderLike, encode, space_of
from hf_latent_bridge.errors import (
    BadRowError,
    EncoderError,
    InvalidLatentsError,
    LatentBridgeError,
)
from hf_latent_bridge.latents import as_tensor
from hf_latent_bridge.spaces import SpaceSpec

OnBadRow = Literal["stop", "skip"]
_NOT_FINITE = "is encoded as NaN or infinity"


@dataclass
class Side:
    """Encodes the items of one side; passes latents through.

    Attributes:
        name: "source", "target" or the name of a view.
        encoder: Encodes the items. If they are latents already: their space, or None if it is
            unknown.
        column: The column of its items in the chunks; empty for that of its name.
    """

    name: str
    encoder: EncoderLike | SpaceSpec | None
    column: str = ""
    screen: Screen = field(init=False)
    _dim: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.column = self.column or self.name
        self.screen = Screen(latents=self.holds_latents)

    @property
    def holds_latents(self) -> bool:
        """Whether the items are latents already."""
        return self.encoder is None or isinstance(self.encoder, SpaceSpec)

    def space(self, dim: int) -> SpaceSpec:
        """The space of the latents; only its `dim` if nothing else is known."""
        if self.encoder is None or isinstance(self.encoder, SpaceSpec):
            return self.encoder or SpaceSpec(dim)
        return space_of(self.encoder, dim)

    def latents(self, chunk: Chunk, *, batch_size: int) -> Tensor:
        """Latents (n, d) of this side of a screened chunk.

        Raises:
            InvalidLatentsError: The items are latents of another dim than their space.
            EncoderError: The encoder gave another number of rows, or another dim than before.
        """
        items = chunk.columns[self.column]
        if self.encoder is not None and not isinstance(self.encoder, SpaceSpec):
            latents = encode(self.encoder, list(items), batch_size=batch_size).detach()
        else:
            latents = as_tensor(as_matrix(items))
        dim = latents.shape[1]
        if isinstance(self.encoder, SpaceSpec) and dim != self.encoder.dim:
            raise InvalidLatentsError(
                f"the {self.name} items must be latents of {self.encoder}, got vectors of dim {dim}"
            )
        if self._dim not in (None, dim):
            raise EncoderError(
                f"the {self.name} encoder must give latents of one dim, got {self._dim} before "
                f"and {dim} now"
            )
        self._dim = dim
        return latents


@dataclass(frozen=True)
class EncodedChunk:
    """The latents of a chunk.

    Attributes:
        chunk: The usable pairs of the chunk.
        latents: Latents (n, d) of each side for these pairs; empty if no pair is usable.
        bad_rows: Why the other pairs were skipped.
        n_read: Number of pairs read, usable or not.
    """

    chunk: Chunk
    latents: tuple[Tensor, ...]
    bad_rows: list[BadRow]
    n_read: int


@dataclass
class EncodingLoop:
    """Reads pairs chunk by chunk, leaves out unusable rows and encodes the others.

    Attributes:
        pairs: The pairs.
        sides: Which sides to encode: source, target, or any number of views.
        label: Name of the progress bar.
        batch_size: Items per forward pass.
        chunk_size: Pairs in a chunk.
        on_bad_row: Stop at an unusable row, or skip it.
        progress: Show a progress bar in the first process.
        seconds: Time spent, by step.
    """

    pairs: PairSource
    sides: tuple[Side, ...]
    label: str
    batch_size: int = 32
    chunk_size: int = CHUNK_SIZE
    on_bad_row: OnBadRow = "stop"
    progress: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("stop", "skip"):
            raise ValueError(f"on_bad_row must be 'stop' or 'skip', got {self.on_bad_row!r}")
        if self.chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {self.chunk_size}")

    def run(
        self, share: Share = EVERYTHING, *, after: ChunkNumber | None = None, n_done: int = 0
    ) -> Generator[EncodedChunk]:
        """Yields the chunks of a process, encoded.

        Args:
            share: Which chunks are this process's.
            after: The last chunk of an earlier run; None to start with the first.
            n_done: Pairs that the earlier run has read, for the progress bar.

        Raises:
            BadRowError: An unusable row, or a latent that is not finite, if `on_bad_row` is "stop";
                names the row.
            InvalidLatentsError: Latents are not of their space.
            EncoderError: The encoder gave another number of rows, or another dim than before.
        """
        from tqdm.auto import tqdm

        bar = tqdm(
            total=self.pairs.rows_of(share, self.chunk_size),
            initial=n_done,
            unit="pair",
            desc=self.label + (f", process 1 of {share.count}" if share.count > 1 else ""),
            disable=not self.progress or share.rank != 0,
        )
        with bar:
            chunks = self.pairs.chunks(self.chunk_size, share=share, after=after)
            while (chunk := self._next(chunks)) is not None:
                yield self._encoded(chunk)
                bar.update(len(chunk))

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Adds the time of a block to a step."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start

    def _next(self, chunks: Iterator[Chunk]) -> Chunk | None:
        with self.timing("reading"):
            return next(chunks, None)

    def _encoded(self, chunk: Chunk) -> EncodedChunk:
        with self.timing("reading"):
            bad_rows = self._unusable(chunk)
        usable = _without(chunk, bad_rows)
        if len(usable) == 0:
            return EncodedChunk(usable, (), list(bad_rows.values()), len(chunk))
        latents = []
        with located(usable):
            for side in self.sides:
                with self.timing(f"{side.name} encode"):
                    latents.append(side.latents(usable, batch_size=self.batch_size))
        not_finite = self._not_finite(usable, latents)
        kept = _without(usable, not_finite)
        if not_finite:
            finite = torch.tensor([i not in not_finite for i in range(len(usable))])
            latents = [z[finite.to(z.device)] for z in latents]
        skipped = [*bad_rows.values(), *not_finite.values()]
        return EncodedChunk(kept, tuple(latents) if len(kept) else (), skipped, len(chunk))

    def _unusable(self, chunk: Chunk) -> dict[int, BadRow]:
        """The pairs of a chunk with an unusable item, by their index."""
        bad = {
            index: chunk.bad_row(index, side.name, reason)
            for side in self.sides
            for index, reason in side.screen.reasons(chunk.columns[side.column]).items()
        }
        if bad and self.on_bad_row == "stop":
            raise BadRowError(f"{bad[min(bad)]}: drop this pair, or {_SKIP}")
        return dict(sorted(bad.items()))

    def _not_finite(self, chunk: Chunk, latents: list[Tensor]) -> dict[int, BadRow]:
        """The pairs of a chunk that an encoder turned into NaN or infinity, by their index."""
        bad = {
            index: chunk.bad_row(index, side.name, _NOT_FINITE)
            for side, z in zip(self.sides, latents, strict=True)
            if not bool(z.sum().isfinite())
            for index in (~z.isfinite().all(1)).nonzero().flatten().tolist()
        }
        if bad and self.on_bad_row == "stop":
            raise BadRowError(f"{bad[min(bad)]}: drop this pair, mend the encoder, or {_SKIP}")
        return dict(sorted(bad.items()))


_SKIP = "skip bad rows with on_bad_row='skip'"


@contextmanager
def located(chunk: Chunk) -> Iterator[None]:
    """Adds to an error which pairs it is about; rows in its text count from the first of them."""
    try:
        yield
    except LatentBridgeError as error:
        raise type(error)(f"among {chunk}: {error}") from error


def _without(chunk: Chunk, indices: dict[int, BadRow]) -> Chunk:
    """The chunk without some of its pairs."""
    if not indices:
        return chunk
    return chunk.keep(np.setdiff1d(np.arange(len(chunk)), list(indices)))
