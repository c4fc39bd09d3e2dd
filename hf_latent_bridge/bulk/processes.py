"""Starts the processes of one translation on this machine and gathers them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from hf_latent_bridge.bulk.job import Job
from hf_latent_bridge.bulk.pipeline import translate_range


def translate_ranges(job: Job) -> int:
    """Translates each range in a process of its own; returns the number of rows.

    Raises:
        LatentBridgeError: What the first process that failed raised, when the
            others have ended too.
    """
    threads = max(1, (os.cpu_count() or 1) // job.world)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.world, context, _set_threads, (threads,)) as pool:
        runs = [pool.submit(translate_range, job, rank) for rank in range(job.world)]
        return sum(run.result() for run in runs)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
