"""translate_file: translates files of latents that need not fit in memory and resumes if killed."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hf_latent_bridge._version import __version__
from hf_latent_bridge.atomic import writing
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.names import check_name
from hf_latent_bridge.translation.folding import Folding, with_bank
from hf_latent_bridge.translation.job import Job
from hf_latent_bridge.translation.pipeline import (
    finish,
    translate_block,
    translate_range,
    translate_ranges,
    wait_for_others,
)
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.vectors.formats import open_vectors, writer_of
from hf_latent_bridge.vectors.reader import Scale, VectorReader, VectorSource, name_of
from hf_latent_bridge.vectors.writers import id_name, json_lines, other_columns

_SAMPLE = 100  # first rows, whose columns are told


@dataclass(frozen=True)
class TranslatedFile:
    """The result of `translate_file`.

    Attributes:
        path: The file that was written; "-" for stdout.
        n: Number of rows.
        dim: Their width.
        dtype: Their dtype.
        kept: Columns of the input (ids, texts, metadata) that are in the result too.
        dropped: Columns of the input for which the result's format has no room.
    """

    path: str
    n: int
    dim: int
    dtype: str
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the vectors, (n, dim)."""
        return self.n, self.dim

    def __str__(self) -> str:
        text = f"{self.n:,} latents (dim={self.dim}) in {self.path}"
        if not self.dropped:
            return text
        return f"{text}; dropped, as this format has no room for them: {', '.join(self.dropped)}"


def translate_file(
    translator: Translator,
    path: str | Path,
    output: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    scale: Scale | None = None,
    folding: Folding | None = None,
    dtype: Literal["float16", "float32", "float64"] | None = None,
    chunk_size: int = 8192,
    checkpoint_every: int = 65_536,
    processes: int = 1,
    timeout: float = 600.0,
    resume: bool = True,
    progress: bool = False,
) -> TranslatedFile:
    """Translates a file, a dataset's column or a stream of latents into a file or stream.

    Ids and other columns of the rows are kept where the output's format has room for them. The
    result appears at `output` only when it is whole, with `<output>.manifest.json` beside it, which
    records the input and the translator. A run that was killed continues where it stopped when it
    is started again. Under `torchrun` (RANK and WORLD_SIZE) each process takes a range of rows.

    Args:
        translator: A fitted translator, or a composition of several.
        path: File or folder of vectors, (n, d_source), in any format that `latent-bridge translate
            --help` lists; a Hub dataset or a folder of one; "-" for JSON lines on stdin.
        output: File to write, (n, d_target); its suffix chooses the format. "-" for JSON lines on
            stdout.
        column: Column, key, tensor or array that holds the latents, if there are several.
        name: Configuration of a Hub dataset.
        split: Split of a dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Hub token for a dataset; None for the one that is logged in.
        scale: What stored integers are multiplied by, or "binary" for bits packed in bytes.
        folding: Fold the vectors for a store, so that it corrects for hubs: the items that it holds
            or the queries that it is asked, translated or not.
        dtype: Of the result; None for that of the input.
        chunk_size: Rows that are translated at a time.
        checkpoint_every: Rows between checkpoints, per process.
        processes: Number of processes to start; leave it 1 under torchrun.
        timeout: Seconds without progress after which a run ends with an error, for reading or
            another process hangs. Reading stdin waits as long as its writer lives.
        resume: Continue an unfinished run; False starts over.
        progress: Show a bar.

    Returns:
        Path, shape and dtype of the result, and which columns were kept or dropped.

    Raises:
        FileNotFoundError: There is no such file to read, or no folder to write into.
        InvalidLatentsError: Not floating rows of the source's width, NaN or infinity, a result
            that overflows `dtype`, or a file that only pickle could read.
        ProcessError: A process was killed, or none has made progress for `timeout` seconds.
        CheckpointError: Input, translator or options are not those of the unfinished run, or its
            notes are damaged.
        InUseError: Another run is writing the same output.
        OSError: The output cannot be written; says what to do.
        TimeoutError: No rows could be read for `timeout` seconds.
        TypeError: `translator` is something else, such as its name.
        ValueError: `path` and `output` are one file, or the folder of `output` is `path`; a format
            that is not written, or options that do not go together.
    """
    if not isinstance(translator, Translator):
        raise TypeError(
            f"translate_file takes a fitted translator, got {translator!r:.80}: load one with "
            "AutoTranslator.from_pretrained"
        )
    check_count("chunk_size", chunk_size)
    check_count("checkpoint_every", checkpoint_every)
    check_count("processes", processes)
    if not timeout > 0:
        raise ValueError(f"timeout must be a number above 0, got {timeout}")
    rank, world = _rank_and_world(processes)
    _check_paths(str(path), str(output), world)
    job = Job(
        translator,
        VectorSource(str(path), column, name, split, revision, scale, token),
        Path(output),
        writer_of("out.jsonl" if str(output) == "-" else output),
        dtype,
        chunk_size,
        checkpoint_every,
        world,
        timeout,
        folding=None if folding is None else with_bank(folding, translator),
    )
    if str(output) == "-":
        return _to_stdout(job)
    with job.claimed(rank or 0):
        if str(path) != "-":
            return _to_file(job, rank, resume=resume, progress=progress)
        with _stdin_in_file(job) as job:
            return _to_file(job, rank, resume=False, progress=progress)


def _to_file(job: Job, rank: int | None, *, resume: bool, progress: bool) -> TranslatedFile:
    """Translates into a file; `rank` is this process's under a launcher, else None."""
    reader = open_vectors(job.input)
    reader.check_scale()
    job = job.for_input(reader)
    if not resume:
        job.restart(rank)
    job.check()
    try:
        if rank:  # not the first of several processes
            translate_range(job, rank, reader)
        else:
            _lead(job, reader, alone=rank is None, progress=progress)
    except InvalidLatentsError:
        if rank is None:
            job.clear()
        raise
    return _result_of(job, reader)


def _lead(job: Job, reader: VectorReader, *, alone: bool, progress: bool) -> None:
    """Translates, waits for the other processes and puts the result in place."""
    with _described(job, reader) as description:
        if alone and job.processes > 1:
            translate_ranges(job, reader.n or 0, progress=progress)
        else:
            translate_range(job, 0, reader, progress=progress)
        wait_for_others(job, reader.n or 0)
        _publish(job, reader, description.result())


def _result_of(job: Job, reader: VectorReader) -> TranslatedFile:
    n = reader.n or 0
    first = next(reader.blocks(0, min(_SAMPLE, n), _SAMPLE, payload=True), None)
    others = other_columns(first) if first else []
    kept = others if job.writer.keeps == "all" else []
    if job.writer.keeps == "ids":
        kept = [name for name in others if name == id_name(others)]
    dropped = [name for name in others if name not in kept]
    dim = job.dim
    return TranslatedFile(str(job.output), n, dim, str(job.dtype), tuple(kept), tuple(dropped))


def _publish(job: Job, reader: VectorReader, description: dict[str, Any]) -> None:
    """Puts the output and its manifest in place."""
    reader.check_unchanged()
    if reader.identity() != job.facts["input"]:
        raise InvalidLatentsError(f"{job.input.path} was changed while it was read: start again")
    result = _result_of(job, reader)
    content = {
        "output": name_of(job.output),
        "rows": result.n,
        "width": result.dim,
        "dtype": result.dtype,
        "kept": list(result.kept),
        "dropped": list(result.dropped),
        "source": description,
        "translator": job.facts["translator"],
        **({} if job.folding is None else {"folding": job.facts["folding"]}),
        "library_version": __version__,
    }
    finish(job, reader)
    job.commit((json.dumps(content, indent=2) + "\n").encode())
    job.clear()


def _to_stdout(job: Job) -> TranslatedFile:
    """Translates lines as they come."""
    reader = open_vectors(job.input)
    reader.check_scale()
    job = job.for_input(reader)
    n = 0
    for block in reader.blocks(0, None, job.chunk_size, payload=True):
        reader.check_scale()  # of stdin, the first rows say what it holds
        translated = block._replace(vectors=translate_block(job, block))
        sys.stdout.buffer.write(json_lines(translated))
        n += len(block.vectors)
    sys.stdout.buffer.flush()
    return TranslatedFile("-", n, job.dim, str(job.dtype))


@contextlib.contextmanager
def _stdin_in_file(job: Job) -> Iterator[Job]:
    """Keeps the lines of stdin in a hidden file until they are translated."""
    try:
        with writing(job.output), job.stdin.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield replace(job, input=replace(job.input, path=str(job.stdin)))
    except InvalidLatentsError as error:
        raise InvalidLatentsError(str(error).replace(str(job.stdin), "stdin")) from error
    finally:
        job.stdin.unlink(missing_ok=True)


@contextlib.contextmanager
def _described(job: Job, reader: VectorReader) -> "Iterator[Future[dict[str, Any]]]":
    """The input for the manifest, hashed while it is translated."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            yield beside.submit(_describe, job, reader, ended)
        finally:
            ended.set()


def _describe(job: Job, reader: VectorReader, ended: threading.Event) -> dict[str, Any]:
    """A file by its name, size and SHA-256."""
    if reader.path is None:
        return reader.identity()
    digest = hashlib.sha256()
    with reader.path.open("rb", buffering=0) as stream:
        while not ended.is_set() and (content := stream.read(2**22)):
            digest.update(content)
    name = "-" if reader.path == job.stdin else name_of(reader.path)
    return {"name": name, "size": reader.path.stat().st_size, "sha256": digest.hexdigest()}


def _rank_and_world(processes: int) -> tuple[int | None, int]:
    """This process's rank under a launcher, else None; and the number of processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return None, processes
    if processes > 1:
        raise ValueError(f"WORLD_SIZE={world} processes are running already: leave --processes out")
    if "RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE={world} is set and RANK is not: start all processes by torchrun, or unset "
            "WORLD_SIZE"
        )
    return int(os.environ["RANK"]), world


def _check_paths(path: str, output: str, world: int) -> None:
    check_name(path, wanted="a file, folder or dataset of vectors", urls=True)
    if "-" in (path, output) and world > 1:
        raise ValueError("a stream is translated by one process: leave --processes out")
    if (path == "-" and sys.stdin is None) or (output == "-" and sys.stdout is None):
        raise ValueError("a stream is closed that would be read or written: name a file")
    if output == "-":
        return
    target = Path(output)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} into")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: name a file to write, such as out.npy")
    if target.exists() and path != "-" and Path(path).exists() and target.samefile(path):
        raise ValueError(f"input and output are the same file, {path}: name another output")
    if path != "-" and Path(path).is_dir() and target.parent.samefile(path):
        raise ValueError(f"{target.name} would be one more file of the input {path}: name another")
