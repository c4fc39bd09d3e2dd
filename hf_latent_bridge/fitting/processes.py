"""Several processes as one: each does its share, all get all results, an error reaches everyone."""

import atexit
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from hf_latent_bridge.data.chunks import EVERYTHING, Share
from hf_latent_bridge.errors import LatentBridgeError, ProcessError
from hf_latent_bridge.extras import require

Result = TypeVar("Result")

_BEAT = 1.0  # seconds between two signs of life
_POLL = 0.05
_runs = itertools.count(1)  # a run must not take the failure of an earlier one for its own


@dataclass(frozen=True)
class Processes:
    """The processes that `accelerate launch` or `torchrun` started, or this one alone.

    Attributes:
        share: This process's share of the work.
        patience: Seconds without a sign of life after which a process counts as lost.
    """

    share: Share = EVERYTHING
    patience: float = 300.0

    @classmethod
    def current(cls, *, start_timeout: float = 1800.0, patience: float = 300.0) -> "Processes":
        """Joins the other processes, if WORLD_SIZE says that there are any.

        Args:
            start_timeout: Seconds to wait for all of them to come.
            patience: Seconds without a sign of life after which one counts as lost.

        Raises:
            MissingExtraError: accelerate is not installed.
            ProcessError: Not all of them came in time, or Accelerate found another number of
                processes than were started.
        """
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started == 1:
            return cls(patience=patience)
        require("encoders", "accelerate", purpose="work by several processes")
        import torch
        from accelerate import PartialState

        options = {} if torch.cuda.is_available() else {"cpu": True}
        try:
            state = PartialState(**options, timeout=timedelta(seconds=start_timeout))
        except RuntimeError as error:
            raise ProcessError(
                f"not all of {started} processes came within {start_timeout:.0f} seconds: start "
                f"all of them again; {_first_line(error)}"
            ) from error
        if state.num_processes != started:
            raise ProcessError(
                f"{started} processes were started, but Accelerate joined {state.num_processes}: "
                "start them with torchrun, on CPUs with ACCELERATE_USE_CPU=1"
            )
        _leave_at_exit()
        return cls(Share(state.process_index, state.num_processes), patience)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.share.rank == 0

    def run(self, work: Callable[[Callable[[], bool]], Result]) -> list[Result]:
        """Does this process's share; returns the results of all, in the order of their ranks.

        Args:
            work: Does the share. Its argument is a function that says, without waiting, whether
                another process has failed, so that it can stop early.

        Raises:
            LatentBridgeError: In every process, the error of the first that failed.
            ProcessError: In every other process, if that was not an error of this library; in all
                that are left, if one was lost.
        """
        if self.share.count == 1:
            return [work(lambda: False)]
        from accelerate.utils import gather_object

        meeting = _Meeting(self.share, self.patience)
        result, error = None, None
        try:
            with meeting.signs_of_life():
                try:
                    result = work(meeting.has_failed)
                except Exception as caught:  # whatever it is, the others wait to hear of it
                    error = caught
                meeting.arrive(failed=error is not None)
                meeting.wait_for_all()
                outcomes = gather_object([(result, error and self._portable(error))])
        except RuntimeError as lost:
            if isinstance(lost, ProcessError):
                raise
            raise ProcessError(
                f"another of {self.share.count} processes was lost: start all of them again; "
                f"{_first_line(lost)}"
            ) from (error or lost)
        for rank, (_, failure) in enumerate(outcomes):
            if failure is not None:
                raise error if rank == self.share.rank and error is not None else failure
        return [part for part, _ in outcomes]

    def _portable(self, error: Exception) -> LatentBridgeError:
        """The error as it can be sent to other processes."""
        if isinstance(error, LatentBridgeError):
            return type(error)(str(error))
        return ProcessError(
            f"process {self.share.rank} of {self.share.count} failed: "
            f"{type(error).__name__}: {error}"
        )


class _Meeting:
    """Where the processes wait for each other at the end of a run, but not for a lost one.

    A collective operation would wait for a slow process no longer than for a lost one, so they
    meet at the store of the process group first, where each leaves signs of life.
    """

    def __init__(self, share: Share, patience: float) -> None:
        from torch.distributed import distributed_c10d

        self._share, self._patience = share, patience
        self._store: Any = distributed_c10d._get_default_store()
        self._name = f"hf_latent_bridge/run-{next(_runs)}"

    def has_failed(self) -> bool:
        """Whether a process has failed."""
        return bool(self._store.check([f"{self._name}/failed"]))

    def arrive(self, *, failed: bool) -> None:
        """Tells the others that this process has done its share, or has failed."""
        if failed:
            self._store.set(f"{self._name}/failed", "1")
        self._store.set(self._arrived(self._share.rank), "1")

    @contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Counts up in the store, in a thread, for as long as the block runs."""
        ended = threading.Event()

        def beat() -> None:
            with suppress(RuntimeError):
                while not ended.wait(_BEAT):
                    self._store.add(self._alive(self._share.rank), 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_BEAT)

    def wait_for_all(self) -> None:
        """Waits until all have arrived.

        Raises:
            ProcessError: One that has not arrived gave no sign of life for too long.
        """
        heard = dict.fromkeys(range(self._share.count), (-1, time.monotonic()))
        while missing := [rank for rank in heard if not self._store.check([self._arrived(rank)])]:
            for rank in missing:
                count = self._store.add(self._alive(rank), 0)
                before, since = heard[rank]
                if count != before:
                    heard[rank] = count, time.monotonic()
                elif time.monotonic() - since > self._patience:
                    raise ProcessError(
                        f"process {rank} of {self._share.count} gave no sign of life for "
                        f"{self._patience:.0f} seconds: start all of them again"
                    )
            time.sleep(_POLL)

    def _alive(self, rank: int) -> str:
        return f"{self._name}/alive/{rank}"

    def _arrived(self, rank: int) -> str:
        return f"{self._name}/arrived/{rank}"


@functools.cache
def _leave_at_exit() -> None:
    """Ends the threads of the process group before Python does, which might abort otherwise."""
    from accelerate import PartialState

    atexit.register(PartialState().destroy_process_group)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
