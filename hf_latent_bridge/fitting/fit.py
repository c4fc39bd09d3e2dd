"""Fits a translator on paired items: read, encode both sides, sum moments, solve."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, TypeVar

import torch

from hf_latent_bridge.data.chunks import PairSource
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.encoders.base import EncoderLike
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.files import write_atomic
from hf_latent_bridge.fitting.checkpoints import Checkpoint, FitState
from hf_latent_bridge.fitting.encoding import FitSummary, MomentPass, OnBadRow, Side
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator

_CHUNK = 1024
# Share of variance that is a network's rounding, not a direction: mean-pooled layer norms, for
# one, leave all latents in a hyperplane, and float64 products would take its noise for signal.
_NOISE = (16 * torch.finfo(torch.float32).eps) ** 2

AnyTranslator = TypeVar("AnyTranslator", bound=Translator)


def fit_translator(
    translator: AnyTranslator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: int = 32,
    chunk_size: int | None = None,
    gemm_dtype: torch.dtype = torch.float64,
    on_bad_row: OnBadRow = "stop",
    bad_rows_file: str | Path | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100_000,
    progress: bool = False,
) -> AnyTranslator:
    """Fits `translator` on the pairs as the two encoders see them, in one pass.

    Latents are summed into float64 moments chunk by chunk, so memory does not grow with the
    pairs; the map is kept in float32. Under `torchrun` or `accelerate launch` each process reads
    and encodes its share, and all end with the same translator; save it in the first.

    Args:
        translator: What to fit; earlier pairs are forgotten.
        source: Encoder of the source side, or a callable from a list of items to (n, d). Where
            the items are latents already: their space, or None if it is not known.
        target: The same for the target side.
        pairs: From `load_pairs`, or two lists or arrays of equal length.
        batch_size: Items per forward pass.
        chunk_size: Pairs that are read, encoded and summed at a time, the unit in which processes
            share the work: lower it to give several of them work on few pairs. None for 1,024.
        gemm_dtype: In which products of latents are taken. Beside encoding, float64 costs little;
            for latents that are given, float32 is faster, and leaves a relative error near 1e-5 in
            a map that few pairs determine.
        on_bad_row: "stop" at the first row that is missing, empty, unreadable, NaN or ragged, or
            "skip" such rows, count them in `dataset_` and list them in `bad_rows_file`.
        bad_rows_file: Where to write the skipped rows, one JSON object a line.
        checkpoint_dir: Folder to keep the moments in, one file per process. The same call goes on
            from there after a kill; when it is done, the files are removed.
        checkpoint_every: Rows that a process reads between two checkpoints.
        progress: Show a bar in the first process.

    Returns:
        `translator`, with both spaces and the dataset recorded, and a `FitSummary` of where the
        time went in `fit_summary_`.

    Raises:
        InvalidPairsError: A bad row, or no good one.
        InvalidLatentsError: An encoder gave NaN or infinity, or latents are not of their space.
        EncoderError: An encoder gave another number of rows or another width than before.
        CheckpointError: The checkpoint is of another fit; says what changed.
        ProcessError: Another process failed or was lost.
        FileNotFoundError: No folder to write `bad_rows_file` into.
        ValueError: An unknown `on_bad_row` or `gemm_dtype`, or a size below 1.

    Warns:
        RankWarning: The latents do not determine the map; the minimum-norm one is taken.
    """
    size = _CHUNK if chunk_size is None else chunk_size
    _check_sizes(chunk_size=size, checkpoint_every=checkpoint_every)
    if bad_rows_file is not None and not Path(bad_rows_file).parent.is_dir():
        raise FileNotFoundError(f"there is no folder to write {bad_rows_file} into")
    pairs = Pairs(*pairs) if isinstance(pairs, tuple | list) else pairs
    sides = Side("source", source), Side("target", target)
    processes, summary = Processes.current(), FitSummary()
    one_pass = MomentPass(translator, sides, batch_size, on_bad_row, gemm_dtype, summary)
    checkpoint = None
    if checkpoint_dir is not None:
        identity = _identity(one_pass, pairs, processes, size)
        checkpoint = Checkpoint(checkpoint_dir, rank=processes.share.rank, identity=identity)

    def work(stop: Callable[[], bool]) -> tuple[PairedMoments | None, list[BadRow]]:
        state = checkpoint.load() if checkpoint else FitState()
        save = _saver(checkpoint, state.rows, checkpoint_every)
        one_pass.run(
            pairs,
            state,
            processes.share,
            size=size,
            progress=progress,
            save=save,
            stop=stop,
        )
        return state.moments and state.moments.to("cpu"), state.bad_rows

    parts = processes.run(work)
    bad_rows = [bad for _, part in parts for bad in part]
    if bad_rows_file is not None and processes.is_first:
        _write_bad_rows(Path(bad_rows_file), bad_rows)
    moments = _sum([part for part, _ in parts if part is not None], bad_rows)
    with summary.timing("solve"):
        _solve(translator, sides, moments)
    skipped = {"bad_rows_skipped": _count(bad_rows)} if on_bad_row == "skip" else {}
    translator.dataset_ = {**pairs.dataset, **skipped}
    if checkpoint:
        checkpoint.remove()
    summary.pairs, summary.skipped = moments.n, _count(bad_rows)
    summary.processes = processes.share.count
    summary.finish()
    translator.fit_summary_ = summary
    return translator


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def _sum(parts: list[PairedMoments], bad_rows: list[BadRow]) -> PairedMoments:
    """The moments of all processes, added in the order of their ranks."""
    if not parts:
        reason = f"none of {len(bad_rows)} is usable, {bad_rows[0]}" if bad_rows else "got none"
        raise InvalidPairsError(f"pairs need at least one item, {reason}")
    return reduce(add, parts)


def _solve(translator: Translator, sides: tuple[Side, Side], moments: PairedMoments) -> None:
    moments = replace(moments, eps=max(moments.eps, _NOISE))
    source, target = (side.space(dim) for side, dim in zip(sides, moments.sxy.shape, strict=True))
    translator.fit_moments(moments, source=source, target=target)
    translator.to(dtype=torch.float32)


def _identity(
    one_pass: MomentPass, pairs: PairSource, processes: Processes, size: int
) -> dict[str, Any]:
    """What must be the same for a fit to go on from a checkpoint."""
    translator, (source, target) = one_pass.translator, one_pass.sides
    return {
        "dataset": pairs.dataset,
        "pairs": pairs.fingerprint(),
        "source": source.identity(),
        "target": target.identity(),
        "translator": {translator.translator_type: translator.get_params()},
        "batch_size": one_pass.batch_size,
        "on_bad_row": one_pass.on_bad_row,
        "gemm_dtype": str(one_pass.gemm_dtype),
        "chunk_size": size,
        "processes": processes.share.count,
    }


def _saver(checkpoint: Checkpoint | None, saved: int, every: int) -> Callable[[FitState], None]:
    """Saves a state when enough rows have been read since the last time."""

    def save(state: FitState) -> None:
        nonlocal saved
        if checkpoint is not None and state.rows - saved >= every:
            checkpoint.save(state)
            saved = state.rows

    return save


def _write_bad_rows(path: Path, bad_rows: list[BadRow]) -> None:
    ordered = sorted(bad_rows, key=lambda bad: (bad.shard or 0, bad.row, bad.side))
    lines = [json.dumps(bad.to_dict()) + "\n" for bad in ordered]
    write_atomic(path, "".join(lines).encode())


def _count(bad_rows: list[BadRow]) -> int:
    return len({(bad.shard, bad.row) for bad in bad_rows})
