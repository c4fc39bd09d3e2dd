"""Starts the processes of one translation on this machine and gathers them."""

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from hf_latent_bridge.errors import ProcessError
from hf_latent_bridge.translation.job import Job
from hf_latent_bridge.translation.pipeline import translate_range

_POLL_SECONDS = 0.5


def translate_ranges(job: Job, n: int | None, *, progress: bool = False) -> int:
    """Translates each range in a process of its own; returns the number of rows.

    Args:
        job: What to do.
        n: Number of rows of the source, for the bar.
        progress: Show a bar of what all processes have noted as done.

    Raises:
        LatentBridgeError: What the first process that failed raised, when the
            others have ended too.
        ProcessError: A process was killed.
    """
    threads = max(1, (os.cpu_count() or 1) // job.world)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.world, context, _set_threads, (threads,)) as pool:
        runs = [pool.submit(translate_range, job, rank) for rank in range(job.world)]
        _watch(runs, job, n, progress)
        try:
            return sum(run.result() for run in runs)
        except BrokenProcessPool as error:
            raise ProcessError(
                f"one of {job.world} processes was killed, perhaps for want of memory: start "
                "again, and all go on where they stood"
            ) from error


def _watch(runs: list["Future[int]"], job: Job, n: int | None, progress: bool) -> None:
    """Waits for all to end, and shows how far they are."""
    from tqdm.auto import tqdm

    with tqdm(total=n, unit="row", desc="translate", disable=not progress) as bar:
        while wait(runs, timeout=_POLL_SECONDS).not_done:
            bar.update(sum(job.done(rank) or 0 for rank in range(job.world)) - bar.n)
        if all(run.exception() is None for run in runs):
            bar.update(sum(run.result() for run in runs) - bar.n)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
