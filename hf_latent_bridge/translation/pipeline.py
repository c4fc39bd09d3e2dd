"""Reads, translates and writes at the same time, in one process or in several."""

import contextlib
import copy
import hashlib
import math
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import repeat
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from hf_latent_bridge.atomic import writing
from hf_latent_bridge.data.items import Array, checksum
from hf_latent_bridge.errors import (
    BadRowError,
    CheckpointError,
    InvalidLatentsError,
    LatentBridgeError,
    ProcessError,
)
from hf_latent_bridge.latents import check_finite
from hf_latent_bridge.translation.job import Job, Noted, Watch
from hf_latent_bridge.vectors.formats import open_vectors
from hf_latent_bridge.vectors.reader import Block, VectorReader
from hf_latent_bridge.vectors.writers import Result, has_columns, write_to

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

_AHEAD = 2
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10
T = TypeVar("T")
U = TypeVar("U")
_Run = tuple[Connection, BaseProcess]


# One process ------------------------------------------------------------------------------


def translate_range(
    job: Job, rank: int, reader: VectorReader | None = None, *, progress: bool = False
) -> None:
    """Translates one process's rows, starting after its last checkpoint.

    Raises:
        BadRowError: A bad row, named by its number.
        InvalidLatentsError: The translations overflow.
        CheckpointError: An unfinished run of another job is there, or of an earlier input.
        TimeoutError: No rows could be read for `job.timeout` seconds.
    """
    reader = reader or open_vectors(job.input)
    start, stop = job.range_of(rank, reader.n or 0)
    bar = progress_bar(stop - start, progress and rank == 0)
    with bar, _Part(job, rank, start, reader) as part, ThreadPoolExecutor(1) as writer:
        done, read = part.saved, part.read
        blocks = ahead(reader.blocks(start + done, stop, job.chunk_size), timeout=job.timeout)
        bar.update(done)
        writes: list[Future[None]] = []
        for block in blocks:
            rows, read = translate_block(job, block), checksum(block.vectors, read)
            while len(writes) >= _AHEAD:
                writes.pop(0).result()
            done = block.first + len(rows) - start
            writes.append(writer.submit(part.write, rows, block.first, done, read))
            bar.update(len(rows))
        for write in writes:
            write.result()
        part.checkpoint(stop - start, read)


def translate_block(job: Job, block: Block) -> Array:
    """The vectors of a block, translated, in the dtype of the result.

    Raises:
        InvalidLatentsError: A bad row, named by its number.
    """
    dtype = np.dtype(job.dtype)
    try:
        rows = block.vectors.astype(np.promote_types(block.vectors.dtype, dtype), copy=False)
        converted = job.convert(rows)
        if converted.dtype == dtype and job.folding is None:  # finite, or it were refused
            return converted
        return _cast(converted, dtype.name)
    except InvalidLatentsError as error:
        bad = np.flatnonzero(~np.isfinite(block.vectors).all(axis=1))
        row = f"row {block.first + int(bad[0])} is bad; " if len(bad) else ""
        raise (BadRowError if len(bad) else InvalidLatentsError)(
            f"{job.input.path}: {row}rows from {block.first} on: {error}"
        ) from error


def _cast(rows: Array, dtype: str) -> Array:
    result = torch.from_numpy(np.ascontiguousarray(rows)).to(getattr(torch, dtype))
    try:
        check_finite(result)
    except InvalidLatentsError as error:
        top = float(np.finfo(dtype).max)
        raise InvalidLatentsError(
            f"the translations overflow {dtype} (at most {top:.3g}), choose a wider dtype: {error}"
        ) from error
    return result.numpy()


def ahead(items: Iterable[T], *, timeout: float, depth: int = _AHEAD) -> Iterator[T]:
    """The same items, taken in a thread that stays up to `depth` ahead.

    Raises:
        TimeoutError: The next item did not come within `timeout` seconds.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not left.is_set():
            try:
                ready.put((item, error), timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            break

    def take() -> None:
        try:
            for item in items:
                put(item, None)
                if left.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = ready.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError(
                    f"no rows could be read for {timeout:g} seconds: is the disk or network that "
                    "holds them still there? A longer timeout can be given"
                ) from None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        left.set()


def overlapped(
    convert: Callable[[T], U], items: Iterable[T], *, apart: bool = False
) -> Iterator[tuple[T, U]]:
    """Items and what they become, each converted in a thread while the one before it is used.

    Args:
        convert: Makes of an item what it becomes.
        items: Taken in the caller's thread, for some clients of stores are bound to theirs.
        apart: Take them in the other thread too, which then stays up to two ahead.
    """
    with ThreadPoolExecutor(1) as worker:
        if apart:
            yield from _taken_apart(convert, iter(items), worker)
            return
        before: tuple[T, Future[U]] | None = None
        for item in items:
            coming = item, worker.submit(convert, item)
            if before is not None:
                yield before[0], before[1].result()
            before = coming
        if before is not None:
            yield before[0], before[1].result()


def _taken_apart(
    convert: Callable[[T], U], items: Iterator[T], worker: ThreadPoolExecutor
) -> Iterator[tuple[T, U]]:
    def take() -> tuple[T, U] | None:
        for item in items:
            return item, convert(item)
        return None

    coming = deque(worker.submit(take) for _ in range(_AHEAD))
    while (pair := coming.popleft().result()) is not None:
        coming.append(worker.submit(take))
        yield pair


def chained(before: str, content: bytes | memoryview) -> str:
    """SHA-256 of a chunk of rows and of the chunks before it, whose digest is `before`.

    A run that goes on needs that digest alone, and not the rows.
    """
    digest = hashlib.sha256(before.encode())
    digest.update(content)
    return digest.hexdigest()


class _Part(AbstractContextManager["_Part"]):
    """The growing file of results, and how much of one process's range is in it for good.

    Attributes:
        saved: Rows of the range that an earlier run or a checkpoint has noted.
        read: CRC-32 of the rows of the input that they were made of.
    """

    def __init__(self, job: Job, rank: int, start: int, reader: VectorReader) -> None:
        self._job, self._rank, self._stamps = job, rank, reader.stamps()
        self._row_bytes = job.dim * np.dtype(job.dtype).itemsize
        self._offset = len(job.header(0) or b"")
        noted = job.noted(rank) if job.done(rank) else None
        self._digest, self.saved = (noted.written, noted.done) if noted else ("", 0)
        with writing(job.output):
            self._file = os.open(job.part, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, self._file)
            if noted is not None and not job.reads_back:
                self._check_written(start, noted)
            self.read = noted.read if noted and self.saved else 0
            if noted is not None and self.saved and self._stamps not in ([], noted.stamps):
                self._check_read(start, reader)
            self._note()
            opened.pop_all()

    def _check_written(self, start: int, noted: Noted) -> None:
        """Checks the rows of an earlier run; none counts if they are damaged."""
        left, found = self.saved, ""
        with open(self._file, "rb", closefd=False) as stream:
            stream.seek(self._offset + start * self._row_bytes)
            while left > 0:
                rows = min(left, self._job.chunk_size)
                found, left = chained(found, stream.read(rows * self._row_bytes)), left - rows
        if found != noted.written:
            self._digest, self.saved = "", 0

    def _check_read(self, start: int, reader: VectorReader) -> None:
        """Reads again what an earlier run has read, from a file that was touched since.

        Its name, size and time are compared already; it may have been moved or copied.

        Raises:
            CheckpointError: The rows are others.
        """
        job, found = self._job, 0
        blocks = reader.blocks(start, start + self.saved, job.chunk_size)
        for block in ahead(blocks, timeout=job.timeout):
            found = checksum(block.vectors, found)
        if found != self.read:
            raise CheckpointError(
                f"an unfinished translation into {job.output} cannot be resumed: the first "
                f"{self.saved:,} rows that it read of {job.input.path} were changed since, though "
                f"the name, size and time are the same; put them back, or {job.start_over}"
            )

    def write(self, rows: Array, first: int, done: int, read: int) -> None:
        """Writes rows at their place; notes it where a checkpoint is due."""
        content = rows.reshape(-1).view(np.uint8).data
        self._digest = chained(self._digest, content)
        position = self._offset + first * self._row_bytes
        with writing(self._job.output):
            while len(content):
                written = os.pwrite(self._file, content, position)
                content, position = content[written:], position + written
        if done - self.saved >= self._job.checkpoint_every:
            self.checkpoint(done, read)

    def checkpoint(self, done: int, read: int) -> None:
        """Syncs what was written, then notes it."""
        with writing(self._job.output):
            getattr(os, "fdatasync", os.fsync)(self._file)  # which macOS does not have
        self.saved, self.read = done, read
        self._note()

    def _note(self) -> None:
        noted = Noted(self.saved, self._digest, self.read, self._stamps or [])
        self._job.note(self._rank, noted)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


# Several processes ------------------------------------------------------------------------


def translate_ranges(job: Job, n: int, *, progress: bool = False) -> None:
    """Translates each range in a process of its own on this machine.

    Args:
        job: The job.
        n: Number of rows.
        progress: Show a bar of the rows that all processes have written.

    Raises:
        LatentBridgeError: The error of the first process that failed; the others are stopped.
        ProcessError: A process was killed, or none makes progress.
    """
    context = _copies_of_one()
    job = replace(job, translator=copy.copy(job.translator).to("cpu"))  # where the rows are
    runs: list[_Run] = []
    try:
        for rank in range(job.processes):
            receiver, sender = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_work, args=(job, rank, sender), daemon=True
            )
            process.start()
            sender.close()
            runs.append((receiver, process))
        _follow(runs, job, n, progress)
    finally:
        for receiver, process in runs:
            process.kill()
            process.join(_GRACE_SECONDS)
            receiver.close()


def _copies_of_one() -> "ForkServerContext | SpawnContext":
    """The way to start processes: on Linux, as copies of one that has loaded this file.

    That one is started anew, without the threads and GPUs of this process, and loads torch for all.
    Elsewhere, where a copy may fail in the libraries of the system, each is started anew.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # nothing where one is running already
    return context


def wait_for_others(job: Job, n: int) -> None:
    """Waits until every process has noted that its range is done.

    Raises:
        ProcessError: None has noted any progress for `job.timeout` seconds.
    """
    watch = Watch(job)
    while job.unfinished(n):
        watch.look()
        time.sleep(_POLL_SECONDS)


def progress_bar(total: int, show: bool, doing: str = "translate") -> Any:
    """A bar that counts rows."""
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="row", desc=doing, disable=not show)


def _follow(runs: list[_Run], job: Job, n: int, progress: bool) -> None:
    """Waits for all processes to end, and shows how far they are."""
    left, watch = list(runs), Watch(job)
    with progress_bar(n, progress) as bar:
        while left:
            ready = wait([receiver for receiver, _ in left], timeout=_POLL_SECONDS)
            for run in [run for run in left if run[0] in ready]:
                left.remove(run)
                _raise_failure(*run, job)
            bar.update(watch.look() - bar.n)


def _raise_failure(receiver: Connection, process: BaseProcess, job: Job) -> None:
    try:
        error = receiver.recv()
    except EOFError:
        process.join(_GRACE_SECONDS)
        killed = (process.exitcode or 0) < 0
        how = "was killed, perhaps because memory ran out" if killed else "failed, as printed above"
        raise ProcessError(
            f"one of {job.processes} processes {how}: start again, and all go on where they stood"
        ) from None
    if error is not None:
        raise error


def _work(job: Job, rank: int, sender: Connection) -> None:
    """Does one range and sends the error that ended it, or None."""
    from tqdm.auto import tqdm

    tqdm.set_lock(threading.RLock())  # one for several processes outlives those that are killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.processes))
    error: Exception | None = None
    try:
        translate_range(job, rank)
    except (LatentBridgeError, OSError, ValueError) as failure:
        error = failure
    sender.send(error)


def _end_with_parent() -> None:
    """Ends this process when the one that started it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        while not wait([parent.sentinel], timeout=_GRACE_SECONDS):
            continue
        os._exit(1)


# The result -------------------------------------------------------------------------------


def finish(job: Job, reader: VectorReader) -> None:
    """Turns the translated matrix into what the output holds, in a hidden file.

    Raises:
        OSError: It cannot be written; names the output.
    """
    with writing(job.output):
        _finish(job, reader)


def _finish(job: Job, reader: VectorReader) -> None:
    shape, dtype = (reader.n or 0, job.dim), np.dtype(job.dtype)
    header = job.header(shape[0])
    if header is not None:
        with job.part.open("r+b") as stream:
            stream.write(header)
            stream.truncate(len(header) + math.prod(shape) * dtype.itemsize)
            os.fsync(stream.fileno())
        return
    first = next(reader.blocks(0, min(1, shape[0]), 1, payload=True), None)
    payload = job.writer.keeps != "nothing" and first is not None and has_columns(first)
    blocks = partial(translated_blocks, job, reader, payload=payload)
    with job.whole.open("w+b") as stream:
        write_to(stream, job.output, job.writer, Result(shape, dtype, blocks, reader.alike))
        os.fsync(stream.fileno())


def translated_blocks(
    job: Job, reader: VectorReader, size: int, *, payload: bool = False
) -> Iterator[Block]:
    """The translated rows; with `payload` the input is read again for ids and other columns."""
    n, dim = reader.n or 0, job.dim
    carried: Iterator[Block | None] = repeat(None)
    if payload:
        carried = ahead(reader.blocks(0, None, size, payload=True), timeout=job.timeout)
    with job.part.open("rb") as stream:
        for first, block in zip(range(0, n, size), carried, strict=False):
            rows = np.fromfile(stream, job.dtype, min(size, n - first) * dim).reshape(-1, dim)
            yield Block(first, rows, block.payload if block else None)
