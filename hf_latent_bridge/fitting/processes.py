"""Several processes as one: each does its part, all get all results, an error reaches everyone."""

import atexit
import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from hf_latent_bridge.data.chunks import EVERYTHING, Share
from hf_latent_bridge.errors import LatentBridgeError, ProcessError
from hf_latent_bridge.extras import require

Result = TypeVar("Result")

_FAILED = "hf_latent_bridge/failed/"  # and the number of the run, for a later one may succeed
_runs = itertools.count(1)
_PATIENCE = timedelta(days=30)  # a process may finish its share long before the slowest


@dataclass(frozen=True)
class Processes:
    """The processes that `accelerate launch` or `torchrun` started, or this one alone.

    Attributes:
        share: Which of how many this is.
    """

    share: Share = EVERYTHING

    @classmethod
    def current(cls) -> "Processes":
        """Joins the others, if WORLD_SIZE says that there are any.

        Raises:
            MissingExtraError: accelerate is not installed.
            ProcessError: Accelerate found another number of processes than were started.
        """
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started == 1:
            return cls()
        require("encoders", "accelerate", purpose="a fit in several processes")
        import torch
        from accelerate import PartialState

        options = {} if torch.cuda.is_available() else {"cpu": True}
        state = PartialState(**options, timeout=_PATIENCE)
        if state.num_processes != started:
            raise ProcessError(
                f"{started} processes were started, but Accelerate joined {state.num_processes}: "
                "start them with torchrun, on CPUs with ACCELERATE_USE_CPU=1"
            )
        _leave_at_exit()
        return cls(Share(state.process_index, state.num_processes))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.share.rank == 0

    def run(self, work: Callable[[Callable[[], bool]], Result]) -> list[Result]:
        """Does this process's part; returns the parts of all, in the order of their ranks.

        Args:
            work: The part; it is given a function that says, without waiting, whether another
                process has failed, so that it may stop early.

        Raises:
            LatentBridgeError: In every process, what the first failing one raised.
            ProcessError: In every other process, if that was no error of this library; in all
                that are left, if one was killed.
        """
        if self.share.count == 1:
            return [work(lambda: False)]
        from accelerate.utils import gather_object

        key, store = f"{_FAILED}{next(_runs)}", _store()
        result, error = None, None
        try:
            result = work(lambda: bool(store.check([key])))
        except Exception as caught:  # whatever it is, the others wait to hear of it
            error = caught
        try:
            if error is not None:
                store.set(key, "1")
            outcomes = gather_object([(result, error and self._portable(error))])
        except RuntimeError as lost:
            raise ProcessError(
                f"another of {self.share.count} processes was lost: start all of them again; "
                f"{str(lost).splitlines()[0]}"
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


@functools.cache
def _leave_at_exit() -> None:
    """Ends the group's threads while Python still runs: left alone, they may abort the process."""
    from accelerate import PartialState

    atexit.register(PartialState().destroy_process_group)


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()
