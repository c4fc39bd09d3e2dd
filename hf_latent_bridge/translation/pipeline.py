"""Reads, multiplies and writes at the same time: one thread on each side of the product."""

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.latents import check_finite
from hf_latent_bridge.translation.job import Job
from hf_latent_bridge.translation.opening import open_source
from hf_latent_bridge.translation.outputs import header
from hf_latent_bridge.translation.sources import Rows, Source
from hf_latent_bridge.translators.base import Translator

_CHECKPOINT_BYTES = 2**25
_AHEAD = 2
T = TypeVar("T")


def translate_range(
    job: Job, rank: int, source: Source | None = None, *, progress: bool = False
) -> int:
    """Does one process's rows, from where its last checkpoint stands; returns their number.

    Raises:
        InvalidLatentsError: A bad row, named by its number.
        ResumeError: An unfinished run of another job is there.
    """
    from tqdm.auto import tqdm

    source = source or open_source(job.place)
    start, stop = job.range_of(rank, source.n)
    done = job.done(rank) or 0
    job.note(rank, done)
    dtype, width = np.dtype(job.dtype), job.translator.target_.dim
    offset = len(header(job.target.suffix, (0, width), dtype))
    file = os.open(job.part, os.O_WRONLY | os.O_CREAT, 0o666)
    bar = tqdm(
        total=source.n and (stop or 0) - start,
        initial=done,
        unit="row",
        desc="translate",
        disable=not progress or rank > 0,
    )
    try:
        with bar, ThreadPoolExecutor(1) as writer:
            writes: list[Future[None]] = []
            unsaved = 0
            for first, rows in translated(job.translator, source, start + done, stop, job):
                while len(writes) >= _AHEAD:
                    writes.pop(0).result()
                place = offset + first * width * dtype.itemsize
                writes.append(writer.submit(_write, file, rows, place))
                done, unsaved = first + len(rows) - start, unsaved + rows.nbytes
                if unsaved >= _CHECKPOINT_BYTES and source.n is not None:
                    writes.append(writer.submit(_checkpoint, file, job, rank, done))
                    unsaved = 0
                bar.update(len(rows))
            for write in writes:
                write.result()
        _checkpoint(file, job, rank, done)
    finally:
        os.close(file)
    return done


def translated(
    translator: Translator, source: Source, start: int, stop: int | None, job: Job
) -> Iterator[tuple[int, Rows]]:
    """Blocks of the result, each with the number of its first row.

    Raises:
        InvalidLatentsError: A bad row, named by its number.
    """
    dtype = np.dtype(job.dtype)
    for block in ahead(source.blocks(start, stop, job.rows)):
        try:
            rows = _cast(translator.transform(block), dtype)
        except InvalidLatentsError as error:
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            row = f"row {start + int(bad[0])} is bad; " if len(bad) else ""
            raise InvalidLatentsError(
                f"{job.place.name}: {row}rows from {start} on: {error}"
            ) from error
        yield start, rows
        start += len(block)


def _cast(rows: Rows, dtype: np.dtype[np.floating]) -> Rows:
    native = dtype.newbyteorder("=")
    result = torch.from_numpy(np.ascontiguousarray(rows)).to(getattr(torch, native.name))
    try:
        check_finite(result)
    except InvalidLatentsError as error:
        top = float(np.finfo(native).max)
        raise InvalidLatentsError(
            f"the translations overflow {native} (at most {top:.3g}), choose a wider dtype: {error}"
        ) from error
    return result.numpy().astype(dtype, copy=False)


def ahead(items: Iterable[T], depth: int = _AHEAD) -> Iterator[T]:
    """The same items, taken in a thread that stays up to `depth` ahead."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not left.is_set():
            try:
                ready.put((item, error), timeout=0.1)
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
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        left.set()


def _write(file: int, rows: Rows, place: int) -> None:
    content = rows.reshape(-1).view(np.uint8).data
    while len(content):
        written = os.pwrite(file, content, place)
        content, place = content[written:], place + written


def _checkpoint(file: int, job: Job, rank: int, done: int) -> None:
    os.fdatasync(file)
    job.note(rank, done)
