"""fit_translator: encodes pairs, sums their moments and solves for the map, in one pass."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import torch

from hf_latent_bridge.atomic import write_atomic
from hf_latent_bridge.data.chunks import CHUNK_SIZE, PairSource, Share
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.data.pairs import as_pairs
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.encoders.base import EncoderLike
from hf_latent_bridge.fitting.bank import BankSample
from hf_latent_bridge.fitting.checkpoints import (
    Checkpoint,
    FitState,
    add_states,
    side_identity,
)
from hf_latent_bridge.fitting.encoding import EncodedChunk, EncodingLoop, OnBadRow, Side, located
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.names import check_name
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator

# Share of variance that is a network's rounding, not a direction. Mean-pooled layer norms, for
# example, leave all latents in a hyperplane; products in float64 would take the noise for signal.
_NOISE = (16 * torch.finfo(torch.float32).eps) ** 2

FittedTranslator = TypeVar("FittedTranslator", bound=Translator)


@dataclass(frozen=True)
class FitSummary:
    """What a fit did; `print(summary)` shows it.

    Attributes:
        n_pairs: Pairs in the fit, over all processes.
        n_skipped: Pairs with a bad row that were skipped, over all processes.
        n_read: Pairs that this process read in this run.
        n_resumed: Pairs that this process had read in an earlier run, before it was killed.
        processes: Number of processes.
        seconds: Time of this process by step.
        total_seconds: Time from call to result.
    """

    n_pairs: int
    n_skipped: int
    n_read: int
    n_resumed: int
    processes: int
    seconds: dict[str, float]
    total_seconds: float

    @property
    def pairs_per_second(self) -> float:
        """Pairs that this process read per second of the total time."""
        return self.n_read / self.total_seconds if self.total_seconds else 0.0

    def __str__(self) -> str:
        several = f" by each of {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"{self.n_pairs:,} pairs in {self.total_seconds:.1f} s, "
            f"{self.pairs_per_second:,.0f} pairs/s{several}"
        ]
        if self.n_skipped:
            lines.append(f"{self.n_skipped:,} pairs with bad rows were skipped")
        if self.n_resumed:
            lines.append(f"resumed after {self.n_resumed:,} pairs of an earlier run")
        if slow := [f"{step} {took:.1f} s" for step, took in self.seconds.items() if took >= 0.05]:
            lines.append(", ".join(slow))
        return "\n".join(lines)


def fit_translator(
    translator: FittedTranslator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: int = 32,
    chunk_size: int = CHUNK_SIZE,
    gemm_dtype: torch.dtype = torch.float64,
    on_bad_row: OnBadRow = "stop",
    bad_rows_file: str | Path | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100_000,
    bank_size: int = 0,
    progress: bool = False,
) -> FittedTranslator:
    """Fits `translator` on the pairs as the two encoders see them, in one pass.

    Latents are summed into float64 moments chunk by chunk, so memory does not grow with the
    number of pairs; the map is kept in float32. Under `torchrun` or `accelerate launch` each
    process reads and encodes its share, and all end with the same translator; save it in the
    first.

    Args:
        translator: The translator to fit; earlier pairs are forgotten.
        source: Encoder of the source side, or a callable from a list of items to (n, d). If the
            items are latents already: their space, or None if it is unknown.
        target: The same for the target side.
        pairs: From `load_pairs`, or two lists or arrays of equal length.
        batch_size: Items per forward pass.
        chunk_size: Pairs that are read, encoded and summed at a time. Processes share the work in
            chunks: lower it to give several of them work on few pairs.
        gemm_dtype: Dtype of the products of latents, float64 or float32. Next to encoding,
            float64 costs little; for precomputed latents float32 is faster, with a relative error
            near 1e-5 in a map that few pairs determine.
        on_bad_row: "stop" at the first row that is missing, empty, unreadable, NaN or ragged, or
            "skip" such rows, count them in `dataset_` and list them in `bad_rows_file`.
        bad_rows_file: Where to write the skipped rows, one JSON object a line.
        checkpoint_dir: Folder for the moments so far, one file per process. After a kill the same
            call resumes from there; the files are removed at the end.
        checkpoint_every: Pairs that a process reads between two checkpoints.
        bank_size: How many translated source items, drawn at random, to keep as a bank of queries
            for searches (`keep_bank`), which is published with the translator; 0 for none.
        progress: Show a progress bar in the first process.

    Returns:
        `translator`, with both spaces and the dataset recorded, and a `FitSummary` in
        `fit_summary_`.

    Raises:
        InvalidPairsError: A bad row, or no good one.
        InvalidLatentsError: An encoder gave NaN or infinity, or latents are not of their space.
        EncoderError: An encoder gave another number of rows, or another dim than before.
        CheckpointError: The checkpoint is of another fit; says what changed.
        ProcessError: Another process failed or was lost.
        FileNotFoundError: The folder of `bad_rows_file` does not exist.
        ValueError: An unknown `on_bad_row` or `gemm_dtype`, or a size below 1.

    Warns:
        RankWarning: The latents do not determine the map; the minimum-norm one is taken.
    """
    started = perf_counter()
    for name, path in (("bad_rows_file", bad_rows_file), ("checkpoint_dir", checkpoint_dir)):
        check_name(path, wanted=f"a path as {name}", optional=True)
    _check_options(gemm_dtype, checkpoint_every, bad_rows_file)
    if bank_size < 0:
        raise ValueError(f"bank_size must be 0 or more, got {bank_size}")
    loop = EncodingLoop(
        as_pairs(pairs),
        (Side("source", source), Side("target", target)),
        "fit",
        batch_size=batch_size,
        chunk_size=chunk_size,
        on_bad_row=on_bad_row,
        progress=progress,
    )
    processes = Processes.current()
    checkpoint = None
    if checkpoint_dir is not None:
        identity = _identity(translator, loop, gemm_dtype) | {"processes": processes.share.count}
        identity |= {"bank_size": bank_size} if bank_size else {}
        checkpoint = Checkpoint(
            checkpoint_dir, rank=processes.share.rank, identity=identity, every=checkpoint_every
        )
    states = processes.run(
        partial(
            _sum_share,
            translator,
            loop,
            share=processes.share,
            gemm_dtype=gemm_dtype,
            checkpoint=checkpoint,
            bank_size=bank_size,
        )
    )
    bad_rows = [bad for state in states for bad in state.bad_rows]
    if bad_rows_file is not None and processes.is_first:
        _write_bad_rows(Path(bad_rows_file), bad_rows)
    moments = add_states(states)
    with loop.timing("solve"):
        n_pairs = _solve(translator, loop.sides, moments)
        _keep_bank(translator, states)
    n_skipped = len({(bad.shard, bad.row) for bad in bad_rows})
    skipped = {"bad_rows_skipped": n_skipped} if on_bad_row == "skip" else {}
    translator.dataset_ = {**loop.pairs.dataset, **skipped}
    if checkpoint:
        checkpoint.remove()
    own = states[processes.share.rank]
    translator.fit_summary_ = FitSummary(
        n_pairs=n_pairs,
        n_skipped=n_skipped,
        n_read=own.rows - own.resumed_rows,
        n_resumed=own.resumed_rows,
        processes=processes.share.count,
        seconds=loop.seconds,
        total_seconds=perf_counter() - started,
    )
    return translator


def _check_options(
    gemm_dtype: torch.dtype, checkpoint_every: int, bad_rows_file: str | Path | None
) -> None:
    if gemm_dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gemm_dtype must be torch.float32 or torch.float64, got {gemm_dtype}")
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    if bad_rows_file is not None and not Path(bad_rows_file).parent.is_dir():
        raise FileNotFoundError(f"the folder of bad_rows_file does not exist: {bad_rows_file}")


def _identity(
    translator: Translator, loop: EncodingLoop, gemm_dtype: torch.dtype
) -> dict[str, Any]:
    """What must be the same for a fit to resume from a checkpoint."""
    source, target = loop.sides
    return {
        "dataset": loop.pairs.dataset,
        "pairs": loop.pairs.fingerprint(),
        "source": side_identity(source),
        "target": side_identity(target),
        "translator": {translator.translator_type: translator.get_params()},
        "batch_size": loop.batch_size,
        "chunk_size": loop.chunk_size,
        "on_bad_row": loop.on_bad_row,
        "gemm_dtype": str(gemm_dtype),
    }


def _sum_share(
    translator: Translator,
    loop: EncodingLoop,
    stop: Callable[[], bool],
    *,
    share: Share,
    gemm_dtype: torch.dtype,
    checkpoint: Checkpoint | None,
    bank_size: int,
) -> FitState:
    """Sums the moments of a process's chunks; ends early when `stop` says so."""
    state = checkpoint.load() if checkpoint else FitState()
    if bank_size and state.bank is None:
        state.bank = BankSample(bank_size)
    for encoded in loop.run(share, after=state.after, n_done=state.rows):
        with loop.timing("moments"):
            state.add(encoded, _moments(translator, loop, encoded, gemm_dtype))
        if checkpoint:
            checkpoint.save_if_due(state)
        if stop():
            break
    return state.on_cpu()


def _moments(
    translator: Translator, loop: EncodingLoop, encoded: EncodedChunk, gemm_dtype: torch.dtype
) -> dict[str, PairedMoments]:
    """Moments of a chunk's usable pairs by fold, on the device of an encoder if there is one."""
    if not encoded.latents:
        return {}
    encoders = [
        z.device
        for z, side in zip(encoded.latents, loop.sides, strict=True)
        if not side.holds_latents
    ]
    device = encoders[0] if encoders else default_device()
    dtype = torch.float32 if device.type == "mps" else gemm_dtype  # MPS has no float64
    x, y = (z.to(device, dtype) for z in encoded.latents)
    start = encoded.chunk.number.index * loop.chunk_size
    with located(encoded.chunk):
        folds = translator.fold_moments(x, y, start=start)
    return {f"fold {number}": fold for number, fold in enumerate(folds) if fold is not None}


def _solve(
    translator: Translator, sides: tuple[Side, ...], moments: Mapping[str, PairedMoments]
) -> int:
    """Solves for the map; returns the number of pairs."""
    folds = [replace(fold, eps=max(fold.eps, _NOISE)) for fold in moments.values()]
    dims = folds[0].sxy.shape
    source, target = (side.space(dim) for side, dim in zip(sides, dims, strict=True))
    translator.fit_moments(folds, source=source, target=target)
    translator.to(dtype=torch.float32)
    return translator.n_pairs_


def _keep_bank(translator: Translator, states: list[FitState]) -> None:
    samples = [state.bank for state in states if state.bank is not None]
    if samples and (latents := reduce(add, samples).latents) is not None:
        translator.keep_bank(latents, size=len(latents))


def _write_bad_rows(path: Path, bad_rows: list[BadRow]) -> None:
    ordered = sorted(bad_rows, key=lambda bad: (bad.shard or 0, bad.row, bad.side))
    lines = [json.dumps(bad.to_dict()) + "\n" for bad in ordered]
    write_atomic(path, "".join(lines).encode())
