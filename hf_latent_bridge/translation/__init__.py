"""translate_file: translates files of latents that need not fit in memory and resumes if killed."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError, ResumeError
from hf_latent_bridge.translation.job import Job, describe_translator, write_manifest
from hf_latent_bridge.translation.lines import to_lines
from hf_latent_bridge.translation.opening import open_source
from hf_latent_bridge.translation.outputs import check_output, finish
from hf_latent_bridge.translation.pipeline import (
    translate_chunk,
    translate_range,
    translate_ranges,
    wait_for_others,
)
from hf_latent_bridge.translation.sources import Place, Source
from hf_latent_bridge.translators.base import Translator


@dataclass(frozen=True)
class TranslatedFile:
    """The result of `translate_file`.

    Attributes:
        path: The file that was written; "-" for stdout.
        n: Number of rows.
        dim: Their width.
        dtype: Their dtype.
    """

    path: str
    n: int
    dim: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the vectors, (n, dim)."""
        return self.n, self.dim

    def __str__(self) -> str:
        return f"{self.n:,} latents, {self.dim} wide, in {self.path}"


def translate_file(
    translator: Translator,
    path: str | Path,
    output: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    dtype: Literal["float16", "float32", "float64"] | None = None,
    chunk_size: int = 8192,
    checkpoint_every: int = 65_536,
    processes: int = 1,
    timeout: float = 600.0,
    resume: bool = True,
    progress: bool = False,
) -> TranslatedFile:
    """Translates a file, a dataset's column or a stream of latents into a file or stream.

    The result appears at `output` only when it is whole, with `<output>.manifest.json` beside it,
    which records the input and the translator. A run that was killed continues where it stopped
    when it is started again. Under `torchrun` (RANK and WORLD_SIZE) each process takes a range of
    rows.

    Args:
        translator: A fitted translator, or a composition of several.
        path: `.npy`, `.safetensors`, `.parquet` or `.jsonl` file, (n, d_source); a Hub dataset
            or a folder of one; "-" for JSON lines on stdin.
        output: `.npy`, `.safetensors`, `.parquet` or `.jsonl` file to write, (n, d_target); "-"
            for JSON lines on stdout.
        column: Column, key or tensor that holds the latents, if there are several.
        name: Configuration of a Hub dataset.
        split: Split of a dataset.
        revision: Branch, tag or commit of a Hub dataset.
        dtype: Of the result; None for that of the input.
        chunk_size: Rows that are translated at a time.
        checkpoint_every: Rows between checkpoints, per process.
        processes: Number of processes to start; leave it 1 under torchrun.
        timeout: Seconds without progress after which a run ends with an error, because reading
            or another process hangs. Reading from stdin waits as long as its writer lives.
        resume: Continue an unfinished run; False starts over.
        progress: Show a bar.

    Returns:
        Path, shape and dtype of the result.

    Raises:
        FileNotFoundError: There is no such file to read, or no folder to write into.
        InvalidLatentsError: Not floating rows of the source's width, NaN or infinity, a result
            that overflows `dtype`, or a file that only pickle could read.
        ProcessError: A process was killed, or none has made progress for `timeout` seconds.
        ResumeError: Input, translator or options are not those of the unfinished run.
        TimeoutError: No rows could be read for `timeout` seconds.
        ValueError: `path` and `output` are one file, or options that do not go together.
    """
    rank, world = _rank_and_world(processes)
    _check_sizes(chunk_size=chunk_size, checkpoint_every=checkpoint_every, timeout=timeout)
    check_output(str(path), str(output))
    if "-" in (str(path), str(output)) and world > 1:
        raise ValueError("a stream is translated by one process: leave --processes out")
    with _as_file(str(path), str(output)) as readable:
        given = Place(readable, column, name, split, revision)
        opened = open_source(given)
        _check_width(translator, opened)
        kind = np.dtype(dtype) if dtype else opened.dtype
        job = Job(
            translator,
            given,
            Path(output),
            kind.str if Path(output).suffix == ".npy" else kind.newbyteorder("<").str,
            chunk_size,
            checkpoint_every,
            world,
            timeout,
        )
