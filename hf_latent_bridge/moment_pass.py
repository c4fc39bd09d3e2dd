"""One process's pass over its pairs: screen, encode, and sum their moments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.checkpoints import FitState
from hf_latent_bridge.data import BadRow, Chunk, PairSource, Share
from hf_latent_bridge.encoders import default_device
from hf_latent_bridge.errors import EncoderError, InvalidPairsError
from hf_latent_bridge.fit_summary import FitSummary
from hf_latent_bridge.sides import Side, located
from hf_latent_bridge.translators import Translator

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
