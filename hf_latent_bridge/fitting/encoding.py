"""The loop from pairs to latents that fitting, evaluation and the choice of anchors share."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import (
    CHUNK_SIZE,
    EVERYTHING,
    Chunk,
    ChunkNumber,
    PairSource,
    Share,
)
from hf_latent_bridge.data.items import NON_FINITE, BadRow, Screen, screened_matrix
from hf_latent_bridge.encoders.base import (
    BatchSize,
    Encoder,
    EncoderLike,
    check_encoder,
    encode,
    space_of,
)
from hf_latent_bridge.encoders.batching import prefetch
from hf_latent_bridge.errors import (
    BadRowError,
    EncoderError,
    InvalidLatentsError,
    LatentBridgeError,
)
from hf_latent_bridge.latents import all_finite, as_tensor
from hf_latent_bridge.moments import few_threads
from hf_latent_bridge.spaces import SpaceSpec

OnBadRow = Literal["stop", "skip"]
_NOT_FINITE = "is encoded as NaN or infinity"
_AHEAD = 2  # chunks that are read and encoded before they are asked for


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
        if not self.holds_latents:
            check_encoder(self.encoder)
        self.column = self.column or self.name
        self.screen = Screen(latents=self.holds_latents, finite=False)

    @property
    def holds_latents(self) -> bool:
        """Whether the items are latents already."""
        return self.encoder is None or isinstance(self.encoder, SpaceSpec)

    def space(self, dim: int) -> SpaceSpec:
        """The space of the latents; only its `dim` if nothing else is known."""
        if self.encoder is None or isinstance(self.encoder, SpaceSpec):
            return self.encoder or SpaceSpec(dim)
        return space_of(self.encoder, dim)

    @property
    def not_finite(self) -> str:
        """What is wrong with an item of latents that are not finite."""
        return NON_FINITE if self.holds_latents else _NOT_FINITE

    @property
    def device(self) -> torch.device | None:
        """Where the encoder says that it runs; None for latents, and for a callable."""
        return getattr(self.encoder, "device", None)

    def latents(
        self, chunk: Chunk, *, batch_size: BatchSize, device: torch.device | None = None
    ) -> Tensor:
        """Latents (n, d) of this side of a screened chunk.

        Args:
            chunk: The chunk.
            batch_size: Items per forward pass.
            device: Where to put latents that are read; None for where they are.

        Raises:
            InvalidLatentsError: The items are latents of another dim than their space.
            EncoderError: The encoder gave another number of rows, or another dim than before.
        """
        items = chunk.columns[self.column]
        if self.encoder is not None and not isinstance(self.encoder, SpaceSpec):
            latents = encode(self.encoder, list(items), batch_size=batch_size).detach()
        else:
            latents = as_tensor(screened_matrix(items)).to(device, non_blocking=True)
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
        checksum: CRC-32 of all pairs read up to here, where the loop takes it.
    """

    chunk: Chunk
    latents: tuple[Tensor, ...]
    bad_rows: list[BadRow]
    n_read: int
    checksum: int = 0


@dataclass(frozen=True)
class _Screened:
    """A chunk without its unusable pairs, why these were left out, and what it was before."""

    usable: Chunk
    bad_rows: list[BadRow]
    n_read: int
    checksum: int


class _Lane:
    """A thread that encodes one chunk after another, on a GPU in a stream of its own."""

    def __init__(self, device: torch.device | None) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="encode")
        on_gpu = device is not None and device.type == "cuda"
        cuda: Any = torch.cuda  # its Stream has no types
        self._stream = cuda.Stream(device) if on_gpu else None

    def start(self, encode_side: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Starts to encode; what is called waits for the latents."""
        return partial(self._take, self._pool.submit(self._run, encode_side))

    def close(self) -> None:
        """Starts nothing any more; does not wait for what runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, encode_side: Callable[[], Tensor]) -> tuple[Tensor, torch.cuda.Event | None]:
        if self._stream is None:
            return encode_side(), None
        with torch.cuda.stream(self._stream):
            return encode_side(), self._stream.record_event()

    def _take(self, started: "Future[tuple[Tensor, torch.cuda.Event | None]]") -> Tensor:
        latents, done = started.result()
        if done is not None:  # the memory may not be used again before this stream has read it
            stream = torch.cuda.current_stream(latents.device)
            stream.wait_event(done)
            latents.record_stream(stream)
        return latents


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
        device: Where to put latents that are read; None for where they are.
        ahead: Read the next chunks, and encode each side, in threads of their own. None for where
            an encoder, or `device`, is a GPU, which then need not wait for any of it.
        checksums: Take a checksum of what is read.
        seconds: Time spent, by step; of several threads together.
    """

    pairs: PairSource
    sides: tuple[Side, ...]
    label: str
    batch_size: BatchSize = "auto"
    chunk_size: int = CHUNK_SIZE
    on_bad_row: OnBadRow = "stop"
    progress: bool = False
    device: torch.device | None = None
    ahead: bool | None = None
    checksums: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("stop", "skip"):
            raise ValueError(f"on_bad_row must be 'stop' or 'skip', got {self.on_bad_row!r}")
        check_count("chunk_size", self.chunk_size)
        if self.ahead is None:
            devices = [self.device, *(side.device for side in self.sides)]
            self.ahead = any(device is not None and device.type == "cuda" for device in devices)

    def run(
        self,
        share: Share = EVERYTHING,
        *,
        after: ChunkNumber | None = None,
        n_done: int = 0,
        checksum: int = 0,
    ) -> Generator[EncodedChunk]:
        """Yields the chunks of a process, encoded.

        Args:
            share: Which chunks are this process's.
            after: The last chunk of an earlier run; None to start with the first.
            n_done: Pairs that the earlier run has read, for the progress bar.
            checksum: That of the pairs that the earlier run has read.

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
            chunks = self._screened(
                self.pairs.chunks(self.chunk_size, share=share, after=after), checksum
            )
            for encoded in self._ahead(chunks) if self.ahead else map(self._encoded, chunks):
                yield encoded
                bar.update(encoded.n_read)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Adds the time of a block to a step."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + perf_counter() - start

    def _screened(self, chunks: Iterator[Chunk], checksum: int) -> Iterator["_Screened"]:
        """The chunks without their unusable pairs."""
        while True:
            with self.timing("reading"):
                chunk = next(chunks, None)
                if chunk is None:
                    return
                if self.checksums:
                    checksum = chunk.checksum(checksum)
                bad_rows = self._unusable(chunk)
            usable = _without(chunk, bad_rows)
            yield _Screened(usable, list(bad_rows.values()), len(chunk), checksum)

    def _ahead(self, chunks: Iterator["_Screened"]) -> Iterator[EncodedChunk]:
        """The chunks, encoded; the next ones are read and encoded while the last one is used."""
        lanes = {_lane_of(side): _Lane(side.device or self.device) for side in self.sides}
        pending: deque[tuple[_Screened, list[Callable[[], Tensor]]]] = deque()
        try:
            for chunk in prefetch(chunks, ahead=_AHEAD):
                started = [self._start(side, chunk, lanes[_lane_of(side)]) for side in self.sides]
                pending.append((chunk, started if len(chunk.usable) else []))
                if len(pending) > _AHEAD:
                    yield self._finished(*pending.popleft())
            while pending:
                yield self._finished(*pending.popleft())
        finally:
            for lane in lanes.values():
                lane.close()

    def _start(self, side: Side, chunk: "_Screened", lane: "_Lane") -> Callable[[], Tensor]:
        """Starts to encode one side; what is called for the latents. Callables wait until then."""
        encode_side = partial(self._latents, side, chunk)
        if len(chunk.usable) == 0 or not (side.holds_latents or isinstance(side.encoder, Encoder)):
            return encode_side
        return lane.start(encode_side)

    def _encoded(self, chunk: "_Screened") -> EncodedChunk:
        sides = self.sides if len(chunk.usable) else ()
        return self._finished(chunk, [partial(self._latents, side, chunk) for side in sides])

    def _latents(self, side: Side, chunk: "_Screened") -> Tensor:
        with located(chunk.usable), self.timing(f"{side.name} encode"):
            return side.latents(chunk.usable, batch_size=self.batch_size, device=self.device)

    def _finished(self, chunk: "_Screened", sides: list[Callable[[], Tensor]]) -> EncodedChunk:
        """The chunk with the latents of its sides, which are taken one after another."""
        latents = [take() for take in sides]
        not_finite = self._not_finite(chunk.usable, latents)
        kept = _without(chunk.usable, not_finite)
        if not_finite:
            finite = torch.tensor([i not in not_finite for i in range(len(chunk.usable))])
            latents = [z[finite.to(z.device)] for z in latents]
        skipped = [*chunk.bad_rows, *not_finite.values()]
        usable = tuple(latents) if len(kept) else ()
        return EncodedChunk(kept, usable, skipped, chunk.n_read, chunk.checksum)

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
        """The pairs of a chunk with latents that are NaN or infinity, by their index."""
        bad = {
            index: chunk.bad_row(index, side.name, side.not_finite)
            for side, z in zip(self.sides[: len(latents)], latents, strict=True)
            if not _all_finite(z)
            for index in (~z.isfinite().all(1)).nonzero().flatten().tolist()
        }
        if bad and self.on_bad_row == "stop":
            raise BadRowError(f"{bad[min(bad)]}: drop this pair, or {_SKIP}")
        return dict(sorted(bad.items()))


_SKIP = "skip bad rows with on_bad_row='skip' (--on-bad-row skip)"


def _all_finite(z: Tensor) -> bool:
    with few_threads(z.device.type, z.numel()):
        return all_finite(z)


def _lane_of(side: Side) -> str:
    """Sides with one encoder share a lane: it may not be asked by two threads at once."""
    return side.name if side.holds_latents else f"encoder {id(side.encoder)}"


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
