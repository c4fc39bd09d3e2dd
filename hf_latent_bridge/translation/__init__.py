"""Translates files of latents that need not fit in memory, in a run that can be killed."""

import hashlib
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError, ProcessError, ResumeError
from hf_latent_bridge.translation.job import Job, describe_translator, write_manifest
from hf_latent_bridge.translation.lines import to_lines
from hf_latent_bridge.translation.opening import open_source
from hf_latent_bridge.translation.outputs import check_output, finish
from hf_latent_bridge.translation.pipeline import translate_range, translated
from hf_latent_bridge.translation.processes import translate_ranges
from hf_latent_bridge.translation.sources import Place, Source
from hf_latent_bridge.translators.base import Translator

_ROWS = 8192
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 600.0


def translate_file(
    translator: Translator,
    source: str | Path,
    target: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    dtype: Literal["float16", "float32"] | None = None,
    processes: int = 1,
    resume: bool = True,
    progress: bool = False,
) -> tuple[int, int]:
    """Translates a file, a dataset's column or a stream of latents into a file or stream.

    The result appears at `target` only when it is whole, with `<target>.manifest.json` beside it,
    which says from what and by which translator it was made. A run that was killed goes on where
    it stood when it is asked for again. Under `torchrun` (RANK and WORLD_SIZE) each process takes
    a range of rows.

    Args:
        translator: A fitted translator.
        source: `.npy`, `.safetensors`, `.parquet` or `.jsonl` file, (n, d_source); a Hub dataset
            or a folder of one; "-" for JSON lines on stdin.
        target: `.npy`, `.safetensors`, `.parquet` or `.jsonl` file to write, (n, d_target); "-"
            for JSON lines on stdout.
        column: Column, key or tensor, where the source has several.
        name: Configuration of a Hub dataset.
        split: Split of a dataset.
        revision: Branch, tag or commit of a Hub dataset.
        dtype: Of the result; None for that of the source.
        processes: Number of processes to start; leave it 1 under torchrun.
        resume: Go on with an unfinished run; False starts over.
        progress: Show a bar.

    Returns:
        The shape of the result.

    Raises:
        FileNotFoundError: No such file to read, or no folder to write into.
        InvalidLatentsError: Not floating rows of the source's width, NaN or infinity, a result
            that overflows `dtype`, or a file that only pickle could read.
        ProcessError: A process was killed, or has noted no progress for ten minutes.
        ResumeError: Input, translator or options are not those of the unfinished run.
        ValueError: Both names are of one file, or options that do not go together.
    """
    place = Place(str(source), column, name, split, revision)
    check_output(place.name, str(target))
    rank, world = _rank_and_world(processes)
    opened = open_source(place)
    _check_width(translator, opened)
    job = _job(translator, place, opened, Path(target), dtype=dtype, world=world)
    if "-" in (place.name, str(target)) and world > 1:
        raise ValueError("a stream is translated by one process: leave --processes out")
    if str(target) == "-":
        return _to_stdout(job, opened)
    if not resume or opened.n is None:
        job.clear() if processes == world else job.state_path(rank).unlink(missing_ok=True)
    job.check()
    return _run(job, opened, rank, processes, progress)


def _run(job: Job, source: Source, rank: int, processes: int, progress: bool) -> tuple[int, int]:
    with ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(_describe_source, source) if rank == 0 else None
        try:
            if processes > 1:
                n = translate_ranges(job, source.n, progress=progress)
            else:
                n = translate_range(job, rank, source, progress=progress)
        except InvalidLatentsError:
            if processes == job.world:
                job.clear()
            raise
        shape = (n if source.n is None else source.n, job.translator.target_.dim)
        if hashed is not None:
            _wait_for_others(job, source)
            _finish(job, source, hashed, shape)
    return shape


def _finish(
    job: Job, source: Source, hashed: "Future[dict[str, Any]]", shape: tuple[int, int]
) -> None:
    described = hashed.result() if source.n is not None else source.identity()
    if source.n is not None and source.identity() != job.facts["input"]:
        raise ResumeError(f"{job.place.name} was changed while it was read: start again")
    write_manifest(job, described, shape)
    finish(job.part, job.target, shape, np.dtype(job.dtype))
    job.clear()


def _rank_and_world(processes: int) -> tuple[int, int]:
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and processes > 1:
        raise ValueError(f"WORLD_SIZE={world} processes are running already: leave --processes out")
    return (int(os.environ["RANK"]), world) if world > 1 else (0, processes)


def _check_width(translator: Translator, source: Source) -> None:
    if source.width is not None:
        translator.transform(np.empty((0, source.width), dtype=np.float32))


def _job(
    translator: Translator,
    place: Place,
    source: Source,
    target: Path,
    *,
    dtype: str | None,
    world: int,
) -> Job:
    kind = np.dtype(dtype) if dtype else source.dtype
    if target.suffix != ".npy":
        kind = kind.newbyteorder("<")
    facts = {
        "input": source.identity() if source.n is not None else place.name,
        "column": place.column,
        "translator": describe_translator(translator),
        "dtype": kind.str,
        "processes": world,
        "block": _ROWS,
    }
    return Job(translator, place, target, kind.str, _ROWS, world, facts)


def _describe_source(source: Source) -> dict[str, Any]:
    """The source for the manifest: a file by its name, size and SHA-256."""
    if source.path is None:
        return source.identity()
    digest = hashlib.sha256()
    with source.path.open("rb", buffering=0) as stream:
        while content := stream.read(2**22):
            digest.update(content)
    size = source.path.stat().st_size
    return {"name": source.path.name, "size": size, "sha256": digest.hexdigest()}


def _to_stdout(job: Job, source: Source) -> tuple[int, int]:
    n = 0
    for first, rows in translated(job.translator, source, 0, None, job):
        sys.stdout.buffer.write(to_lines(rows))
        n = first + len(rows)
    sys.stdout.buffer.flush()
    return n, job.translator.target_.dim


def _wait_for_others(job: Job, source: Source) -> None:
    """Until every process has noted that its range is done.

    Raises:
        ProcessError: Some have noted nothing new for a long time.
    """
    before, since = None, time.monotonic()
    while late := [rank for rank in range(job.world) if not job.is_done(rank, source.n)]:
        done = [job.done(rank) for rank in late]
        if done != before:
            before, since = done, time.monotonic()
        if time.monotonic() - since > _PATIENCE_SECONDS:
            raise ProcessError(
                f"of {job.world} processes, {late} have noted no progress for "
                f"{_PATIENCE_SECONDS:.0f} seconds: start again, and all go on where they stood"
            )
        time.sleep(_POLL_SECONDS)
