"""The loop from pairs to latents: read, screen, encode, sum."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.data.chunks import Chunk, PairSource, Share
from hf_latent_bridge.data.items import BadRow, Items, Screen, as_matrix
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.encoders.base import Encoder, EncoderLike, encode, space_of
from hf_latent_bridge.errors import (
    EncoderError,
    InvalidLatentsError,
    InvalidPairsError,
    LatentBridgeError,
)
from hf_latent_bridge.fitting.checkpoints import FitState
from hf_latent_bridge.latents import as_tensor
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator

STEPS = ("reading", "source encode", "target encode", "moments", "solve")


@dataclass
class FitSummary:
    """What a fit did; `print(summary)` shows it.

    Attributes:
        pairs: Pairs in the fit, over all processes.
        skipped: Bad rows that were left out, over all processes.
        resumed_rows: Rows of this process that an earlier, killed run had done.
        rows: Rows that this process read in this run.
        processes: Number of processes.
        seconds: Time of this process by step.
        total_seconds: Time from call to result.
    """

    pairs: int = 0
    skipped: int = 0
    resumed_rows: int = 0
    rows: int = 0
    processes: int = 1
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    total_seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter, repr=False)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Adds the time of a block to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

    def finish(self) -> None:
        """Stops the clock."""
        self.total_seconds = time.perf_counter() - self._start

    @property
    def rows_per_second(self) -> float:
        """Rows that this process read per second of the whole time."""
        return self.rows / self.total_seconds if self.total_seconds else 0.0

    def __str__(self) -> str:
        several = f" by each of {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"{self.pairs:,} pairs in {self.total_seconds:.1f} s, "
            f"{self.rows_per_second:,.0f} rows/s{several}"
        ]
        if self.skipped:
            lines.append(f"{self.skipped:,} bad rows were skipped")
        if self.resumed_rows:
            lines.append(f"{self.resumed_rows:,} rows were done by the run that this one went on")
        times = ", ".join(f"{step} {took:.1f} s" for step, took in self.seconds.items())
        return "\n".join([*lines, times])


@dataclass
class Side:
    """The items of one side are encoded, or are latents already.

    Attributes:
        name: "source" or "target".
        encoder: What encodes the items; for latents their space, or None where it is not known.
    """

    name: str
    encoder: EncoderLike | SpaceSpec | None
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.screen = Screen(latents=self.holds_latents)

    @property
    def holds_latents(self) -> bool:
        """Whether the items are latents already."""
        return self.encoder is None or isinstance(self.encoder, SpaceSpec)

    def latents(self, items: Items, *, batch_size: int) -> Tensor:
        """Latents (n, d) of screened items.

        Raises:
            InvalidLatentsError: Items of another width than their space.
            EncoderError: The encoder gave no row per item.
        """
        if self.encoder is not None and not isinstance(self.encoder, SpaceSpec):
            return encode(self.encoder, list(items), batch_size=batch_size)
        latents = as_tensor(as_matrix(items))
        if self.encoder is not None and latents.shape[1] != self.encoder.dim:
            raise InvalidLatentsError(
                f"the {self.name} items must be latents of {self.encoder}, "
                f"got vectors that are {latents.shape[1]} wide"
            )
        return latents

    def read(self, chunk: Chunk, *, batch_size: int) -> Tensor:
        """Latents (n, d) of this side of a chunk.

        Raises:
            InvalidPairsError: An item is unusable; says which.
            LatentBridgeError: As `latents`, and which pairs it is about.
        """
        items = chunk.source if self.name == "source" else chunk.target
        for position, reason in self.screen.reasons(items).items():
            raise InvalidPairsError(f"{chunk.bad_row(position, self.name, reason)}: drop this pair")
        with located(chunk):
            return self.latents(items, batch_size=batch_size).detach()

    def space(self, dim: int) -> SpaceSpec:
        """The space of the latents; only the width where nothing else is known."""
        if self.encoder is None or isinstance(self.encoder, SpaceSpec):
            return self.encoder or SpaceSpec(dim)
        return space_of(self.encoder, dim)

    def identity(self) -> object:
        """JSON values that tell this side from another in a checkpoint."""
        if self.encoder is None:
            return "latents"
        if isinstance(self.encoder, SpaceSpec):
            return {"latents": True, **self.encoder.to_dict()}
        if isinstance(self.encoder, Encoder):
            return {**self.encoder.space.to_dict(), **_running(self.encoder)}
        return getattr(self.encoder, "__qualname__", type(self.encoder).__qualname__)


@contextlib.contextmanager
def located(chunk: Chunk) -> Iterator[None]:
    """Says which pairs an error is about; rows in its text count from the first of them."""
    try:
        yield
    except LatentBridgeError as error:
        where = f"among pairs {chunk.rows[0]} to {chunk.rows[-1]}"
        where += f" of shard {chunk.place.shard}" if chunk.sharded else ""
        raise type(error)(f"{where}: {error}") from error


def _running(encoder: Encoder) -> dict[str, str]:
    """In what precision an encoder runs, and its weights where no commit tells them."""
    inner = getattr(encoder, "encoder", encoder)  # behind a cache
    facts = {name: str(getattr(inner, name, None)) for name in ("dtype", "autocast")}
    model = getattr(inner, "model", None)
    if encoder.space.revision is None and isinstance(model, torch.nn.Module):
        digest = hashlib.blake2b(digest_size=16)
        for tensor in model.state_dict().values():
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        facts["weights"] = digest.hexdigest()
    return facts


OnBadRow = Literal["stop", "skip"]


@dataclass
class MomentPass:
    """Sums moments chunk by chunk, so that memory does not grow with the pairs.

    Attributes:
        translator: Says how pairs become moments.
        sides: Source and target.
        batch_size: Items per forward pass.
        on_bad_row: Stop at a bad row, or skip it.
        gemm_dtype: In which products are taken; they are added up in float64.
        summary: Where the times are added up.
    """

    translator: Translator
    sides: tuple[Side, Side]
    batch_size: int
    on_bad_row: OnBadRow
    gemm_dtype: torch.dtype
    summary: FitSummary
    _widths: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("stop", "skip"):
            raise ValueError(f"on_bad_row must be 'stop' or 'skip', got {self.on_bad_row!r}")
        if self.gemm_dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"gemm_dtype must be torch.float32 or torch.float64, got {self.gemm_dtype}"
            )

    def run(
        self,
        pairs: PairSource,
        state: FitState,
        share: Share,
        *,
        size: int,
        progress: bool,
        save: Callable[[FitState], None],
        stop: Callable[[], bool],
    ) -> FitState:
        """Reads a process's chunks of `size` pairs from where `state` stands, saving it at each.

        Stops early where `stop` says so.
        """
        from tqdm.auto import tqdm

        self.summary.resumed_rows = state.rows
        shown = progress and share.rank == 0
        desc = "fit" if share.count == 1 else f"fit, process 1 of {share.count}"
        total = pairs.rows_of(share, size)
        with tqdm(
            total=total, initial=state.rows, unit="pair", desc=desc, disable=not shown
        ) as bar:
            for chunk in self._timed(pairs.chunks(size, share=share, after=state.after)):
                self._add(chunk, state)
                save(state)
                bar.update(len(chunk.rows))
                if stop():
                    break
        return state

    def _timed(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        while True:
            with self.summary.timing("reading"):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _add(self, chunk: Chunk, state: FitState) -> None:
        state.after = chunk.place
        state.rows += len(chunk.rows)
        self.summary.rows += len(chunk.rows)
        with self.summary.timing("reading"):
            good = self._screened(chunk, state.bad_rows)
        if len(good.rows) == 0:
            return
        with located(good):
            x, y = self._encoded(good)
            with self.summary.timing("moments"):
                x, y = self._finite(good, x, y, state.bad_rows)
                if len(x) == 0:
                    return
                moments = self.translator.pair_moments(x, y)
                state.moments = moments if state.moments is None else state.moments + moments

    def _screened(self, chunk: Chunk, bad_rows: list[BadRow]) -> Chunk:
        """The chunk without its bad rows."""
        bad = {
            position: chunk.bad_row(position, side.name, reason)
            for side, items in zip(self.sides, (chunk.source, chunk.target), strict=True)
            for position, reason in side.screen.reasons(items).items()
        }
        if not bad:
            return chunk
        if self.on_bad_row == "stop":
            raise InvalidPairsError(
                f"{bad[min(bad)]}: drop this pair, or skip bad rows with on_bad_row='skip'"
            )
        bad_rows.extend(bad[position] for position in sorted(bad))
        good = np.setdiff1d(np.arange(len(chunk.rows)), list(bad))
        return chunk.keep(good)

    def _encoded(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        latents = []
        for side, items in zip(self.sides, (chunk.source, chunk.target), strict=True):
            with self.summary.timing(f"{side.name} encode"):
                latents.append(side.latents(items, batch_size=self.batch_size))
        x, y = latents
        self._widths.add((x.shape[1], y.shape[1]))
        if len(self._widths) > 1:
            raise EncoderError(f"the encoders changed their widths: {sorted(self._widths)}")
        place = self._device(x, y)
        # Apple's GPU has no float64
        dtype = torch.float32 if place.type == "mps" else self.gemm_dtype
        return x.to(place, dtype), y.to(place, dtype)

    def _device(self, x: Tensor, y: Tensor) -> torch.device:
        """Where an encoder has put its latents; given ones on both sides go to this process's."""
        encoded = [z.device for z, s in zip((x, y), self.sides, strict=True) if not s.holds_latents]
        return encoded[0] if encoded else default_device()

    def _finite(
        self, chunk: Chunk, x: Tensor, y: Tensor, bad_rows: list[BadRow]
    ) -> tuple[Tensor, Tensor]:
        """The pairs whose latents are finite; `pair_moments` refuses the others."""
        if self.on_bad_row == "stop" or bool((x.sum() + y.sum()).isfinite()):
            return x, y
        finite = [latents.isfinite().all(1) for latents in (x, y)]
        for side, rows in zip(self.sides, finite, strict=True):
            positions = (~rows).nonzero().flatten().tolist()
            bad_rows.extend(
                chunk.bad_row(p, side.name, "is encoded as NaN or infinity") for p in positions
            )
        good = finite[0] & finite[1]
        return x[good], y[good]
