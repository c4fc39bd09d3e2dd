"""Sums the moments of encoded chunks: over processes, past bad rows, with checkpoints."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import takewhile
from operator import add
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from hf_latent_bridge.atomic import check_writable, write_atomic
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import PairSource, size_of_chunks
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.encoders.base import BatchSize
from hf_latent_bridge.fitting.checkpoints import Checkpoint, FitState, add_states, side_identity
from hf_latent_bridge.fitting.encoding import EncodedChunk, EncodingLoop, OnBadRow, Side, located
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.fitting.samples import RowSample
from hf_latent_bridge.moments import PairedMoments, few_threads
from hf_latent_bridge.names import check_name

# Named moments of a batch, from the latents of each side and the number of its first row.
BatchMoments = Callable[[Sequence[Tensor], int], Mapping[str, PairedMoments]]
# How many latents of the first side are shown before anything is summed, and to whom.
FirstLook = tuple[int, Callable[[Tensor], None]]


@dataclass(frozen=True)
class FitOptions:
    """How a fit on encoders runs; `fit_translator` describes each option.

    Raises:
        ValueError: An option out of range.
        FileNotFoundError: The folder of `bad_rows_file` does not exist.
    """

    batch_size: BatchSize = "auto"
    chunk_size: int | Literal["auto"] = "auto"
    gemm_dtype: torch.dtype = torch.float64
    on_bad_row: OnBadRow = "stop"
    bad_rows_file: str | Path | None = None
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int = 100_000
    bank_size: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("bad_rows_file", "checkpoint_dir"):
            check_name(getattr(self, name), wanted=f"a path as {name}", optional=True)
        if self.gemm_dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"gemm_dtype must be torch.float32 or torch.float64, got {self.gemm_dtype}"
            )
        check_count("checkpoint_every", self.checkpoint_every)
        check_count("bank_size", self.bank_size, least=0)
        if self.bad_rows_file is not None:
            _check_folder(Path(self.bad_rows_file))


class FitKeywords(TypedDict, total=False):
    """The fields of `FitOptions`, as `fit_translator` takes them."""

    batch_size: BatchSize
    chunk_size: int | Literal["auto"]
    gemm_dtype: torch.dtype
    on_bad_row: OnBadRow
    bad_rows_file: str | Path | None
    checkpoint_dir: str | Path | None
    checkpoint_every: int
    bank_size: int
    progress: bool


@dataclass(frozen=True)
class Summed:
    """What all processes have summed.

    Attributes:
        moments: The sums, by name.
        dataset: Where the pairs come from, and how many were skipped.
        n_skipped: Pairs with a bad row that were skipped, over all processes.
        n_read: Pairs that this process read in this run.
        n_resumed: Pairs that this process had read in an earlier run, before it was killed.
        processes: Number of processes.
        samples: Latents of some of the pairs, drawn at random, by what they are kept for.
        remove_checkpoint: To call once the result is saved; None if there is no checkpoint.
    """

    moments: dict[str, PairedMoments]
    dataset: dict[str, Any]
    n_skipped: int
    n_read: int
    n_resumed: int
    processes: int
    samples: dict[str, RowSample]
    remove_checkpoint: Callable[[], None] | None


class MomentSums:
    """One pass over the pairs, by all processes, with the options of a fit.

    Attributes:
        device: Where moments are summed: where an encoder runs, or the default device.
        loop: The loop from pairs to latents.
    """

    def __init__(
        self,
        pairs: PairSource,
        sides: tuple[Side, ...],
        options: FitOptions,
        *,
        what: Any,
        held_out: RowSample | None = None,
    ) -> None:
        """Joins the other processes; reads nothing yet.

        Args:
            pairs: The pairs.
            sides: The sides, in the order in which their latents are summed.
            options: Those of the fit.
            what: The fit and its parameters, JSON values, for the checkpoint.
            held_out: An empty sample of both sides to keep for a selection; None for none.
        """
        self._options = options
        bank = RowSample(options.bank_size) if options.bank_size else None
        kept = {"bank": bank, "held out": held_out}
        self._samples = {name: sample for name, sample in kept.items() if sample is not None}
        on = [side.device for side in sides if side.device is not None]
        self.device = on[0] if on else default_device()
        self.loop = EncodingLoop(
            pairs,
            sides,
            "fit",
            batch_size=self._options.batch_size,
            chunk_size=size_of_chunks(
                self._options.chunk_size, latents=all(side.holds_latents for side in sides)
            ),
            on_bad_row=self._options.on_bad_row,
            progress=self._options.progress,
            device=self.device,
            checksums=options.checkpoint_dir is not None and pairs.stamps() != [],
        )
        self._processes = Processes.current()
        self._checkpoint = self._open_checkpoint(what)

    def run(self, batch_moments: BatchMoments, *, first_look: FirstLook | None = None) -> Summed:
        """Reads, encodes and sums this process's share; returns the sums of all.

        Args:
            batch_moments: The moments of a batch.
            first_look: Shows latents of some items of the first side, the same ones in each
                process, before anything is summed: a random sample, or the first of a stream.

        Raises:
            InvalidPairsError: A bad row, or no good one.
            InvalidLatentsError: An encoder gave NaN or infinity, or latents are not of their space.
            EncoderError: An encoder gave another number of rows, or another dim than before.
            CheckpointError: The checkpoint is of another fit; says what changed.
            ProcessError: Another process failed or was lost.
        """
        processes = self._processes
        states = processes.run(partial(self._sum_share, batch_moments, first_look))
        bad_rows = [bad for state in states for bad in state.bad_rows]
        if (path := self._options.bad_rows_file) is not None and processes.is_first:
            _write_bad_rows(Path(path), bad_rows)
        n_skipped = len({(bad.shard, bad.row) for bad in bad_rows})
        skipped = {"bad_rows_skipped": n_skipped} if self.loop.on_bad_row == "skip" else {}
        own = states[processes.share.rank]
        return Summed(
            moments=add_states(states),
            dataset={**self.loop.pairs.dataset, **skipped},
            n_skipped=n_skipped,
            n_read=own.rows - own.resumed_rows,
            n_resumed=own.resumed_rows,
            processes=processes.share.count,
            samples=_add_samples(states),
            remove_checkpoint=self._checkpoint.remove if self._checkpoint else None,
        )

    def _open_checkpoint(self, what: Any) -> Checkpoint | None:
        if self._options.checkpoint_dir is None:
            return None
        loop, share = self.loop, self._processes.share
        identity = {
            "dataset": loop.pairs.dataset,
            "pairs": loop.pairs.fingerprint(),
            **{side.name: side_identity(side) for side in loop.sides},
            "translator": what,
            "batch_size": loop.batch_size,
            "chunk_size": loop.chunk_size,
            "on_bad_row": loop.on_bad_row,
            "gemm_dtype": str(self._options.gemm_dtype),
            "processes": share.count,
        }
        if self._options.bank_size:
            identity["bank_size"] = self._options.bank_size
        every = self._options.checkpoint_every
        folder = self._options.checkpoint_dir
        return Checkpoint(folder, rank=share.rank, identity=identity, every=every)

    def _sum_share(
        self, batch_moments: BatchMoments, first_look: FirstLook | None, stop: Callable[[], bool]
    ) -> FitState:
        """Sums the moments of this process's chunks; ends early when `stop` says so."""
        checkpoint, share = self._checkpoint, self._processes.share
        with checkpoint.claimed() if checkpoint else nullcontext():
            state = checkpoint.load() if checkpoint else FitState()
            state.samples = self._samples | state.samples
            shown = 0 if first_look is None else self._look(*first_look)
            if checkpoint and self.loop.checksums:
                self._check_read(checkpoint, state, shown)
            for encoded in self.loop.run(
                share, after=state.after, n_done=state.rows, checksum=state.checksum
            ):
                with self.loop.timing("moments"):
                    state.add(encoded, self._moments(encoded, batch_moments))
                if checkpoint:
                    checkpoint.save_if_due(state)
                if stop():
                    break
            if checkpoint:
                checkpoint.finish(state)
        return state.on_cpu()

    def _check_read(self, checkpoint: Checkpoint, state: FitState, shown: int) -> None:
        """Makes sure that what an earlier run has read is still there.

        Its name, size and time are compared already. It is read again if a file has been touched
        since, which may be a move or a copy, or if nobody knows.

        Raises:
            CheckpointError: It was changed.
        """
        stamps, after = self.loop.pairs.stamps(), state.after
        if after is None:
            state.checksum = shown
        elif stamps is None or stamps != state.stamps:
            chunks = self.loop.pairs.chunks(self.loop.chunk_size, share=self._processes.share)
            for chunk in takewhile(lambda chunk: chunk.number <= after, chunks):
                shown = chunk.checksum(shown)
            checkpoint.check_read_again(state, shown)
        state.stamps = stamps or []

    def _look(self, size: int, show: Callable[[Tensor], None]) -> int:
        """Shows the first latents; returns the checksum of what was read for it."""
        pairs = self.loop.pairs
        if size and isinstance(pairs, Pairs):
            pairs = pairs.sample(size)
        first = replace(self.loop, pairs=pairs, sides=self.loop.sides[:1], progress=False)
        found: list[Tensor] = []
        checksum = 0
        with closing(first.run()) as chunks:
            while sum(map(len, found)) < size and (encoded := next(chunks, None)) is not None:
                found += encoded.latents
                checksum = encoded.checksum
        show(torch.cat(found)[:size] if found else torch.empty(0, 1))
        return checksum

    def _moments(
        self, encoded: EncodedChunk, batch_moments: BatchMoments
    ) -> Mapping[str, PairedMoments]:
        """Moments of a chunk's usable pairs, on the device of an encoder if there is one."""
        if not encoded.latents:
            return {}
        encoders = [
            z.device
            for z, side in zip(encoded.latents, self.loop.sides, strict=True)
            if not side.holds_latents
        ]
        device = encoders[0] if encoders else self.device
        # MPS has no float64
        dtype = torch.float32 if device.type == "mps" else self._options.gemm_dtype
        with few_threads(device.type, sum(z.numel() for z in encoded.latents)):
            latents = [z.to(device, dtype) for z in encoded.latents]
        with located(encoded.chunk):
            first = encoded.chunk.number.index * self.loop.chunk_size
            return batch_moments(latents, first)


def _add_samples(states: Sequence[FitState]) -> dict[str, RowSample]:
    """The samples of all processes."""
    names = states[0].samples
    return {name: reduce(add, (state.samples[name] for state in states)) for name in names}


def _check_folder(bad_rows_file: Path) -> None:
    if not bad_rows_file.parent.is_dir():
        raise FileNotFoundError(f"the folder of bad_rows_file does not exist: {bad_rows_file}")
    check_writable(bad_rows_file.parent)


def _write_bad_rows(path: Path, bad_rows: list[BadRow]) -> None:
    ordered = sorted(bad_rows, key=lambda bad: (bad.shard or 0, bad.row, bad.side))
    lines = [json.dumps(bad.to_dict()) + "\n" for bad in ordered]
    write_atomic(path, "".join(lines).encode())
