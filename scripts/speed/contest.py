"""Times works by turns, so that other load on the machine slows all of them alike."""

import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

Work = Callable[[], object]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        quick: Small numbers, to see that every row runs.
        repeats: Runs of each work.
        processor: Count the seconds of the processor, which other load does not stretch.
    """

    quick: bool = False
    repeats: int = 5
    processor: bool = False

    def pick(self, full: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        """One of two lists of sizes."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Wanted:
    """A goal: the time of another work over ours is at least so much.

    Attributes:
        ratio: Lowest ratio.
        of: Name of the other work.
    """

    ratio: float
    of: str


@dataclass(frozen=True)
class Contest:
    """Works that do the same, the library's first.

    Attributes:
        case: What is special here, such as "300,000 pairs"; a row has each case once.
        works: The works by name, the library's first. What each needs is made before.
        wanted: The goals.
        size: The number on the horizontal axis of the plot; None to leave it out.
        memory: Names of the works whose peak memory is measured, each in a process of its own.
        most: At most so many repeats, for works of minutes, which are not warmed up either.
        once: Names of works that run in the first turn only, as they take so long.
        times: For works on a sample, by name: how many times the sample is the whole.
        wall: Whether only the time on the clock means something, as with several threads.
    """

    case: str
    works: Mapping[str, Work]
    wanted: Sequence[Wanted] = ()
    size: int | None = None
    memory: Sequence[str] = ()
    most: int | None = None
    once: Sequence[str] = ()
    times: Mapping[str, float] = field(default_factory=dict)
    wall: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: one or more contests.

    Attributes:
        name: Its name in the table and for `--rows`.
        device: Where it runs.
        contests: Prepares them, one after another, so that only one is in memory.
    """

    name: str
    device: Device
    contests: Callable[[Scale], Iterator[Contest]]


ROWS: dict[str, Row] = {}


def row(
    name: str, device: Device = "cpu"
) -> Callable[[Callable[[Scale], Iterator[Contest]]], Callable[[Scale], Iterator[Contest]]]:
    """Enters a function that yields contests into the table."""

    def enter(
        contests: Callable[[Scale], Iterator[Contest]],
    ) -> Callable[[Scale], Iterator[Contest]]:
        ROWS[name] = Row(name, device, contests)
        return contests

    return enter


@dataclass(frozen=True)
class Measured:
    """What one contest gave, as JSON values.

    Attributes:
        row: Name of the row.
        case: The case.
        seconds: Of each work, in the order in which they took turns.
        wanted: Goals as (ratio, of).
        size: As in `Contest`.
        peak_mib: Memory that a work needs beyond its input, by name.
        facts: The machine and the versions.
    """

    row: str
    case: str
    seconds: dict[str, list[float]]
    wanted: list[tuple[float, str]] = field(default_factory=list)
    size: int | None = None
    peak_mib: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """Name of the library's work."""
        return next(iter(self.seconds))

    def median(self, work: str) -> float:
        """Median seconds of a work."""
        return statistics.median(self.seconds[work])

    def ratios(self, work: str) -> list[float]:
        """Time of another work over ours, turn by turn, in ascending order."""
        pairs = zip(self.seconds[work], self.seconds[self.ours], strict=False)
        return sorted(theirs / ours for theirs, ours in pairs)


def measure(contest: Contest, row_name: str, scale: Scale) -> Measured:
    """Runs each work once to warm up, and then all of them by turns."""
    clock = processor_time if scale.processor and not contest.wall else time.perf_counter
    repeats = min(scale.repeats, contest.most or scale.repeats)
    for work in contest.works.values() if contest.most is None and repeats > 1 else ():
        timed_once(work, clock)
    seconds: dict[str, list[float]] = {name: [] for name in contest.works}
    for turn in range(repeats):
        for name, work in contest.works.items():
            if turn == 0 or name not in contest.once:
                seconds[name].append(timed_once(work, clock) * contest.times.get(name, 1.0))
    wanted = [(goal.ratio, goal.of) for goal in contest.wanted]
    return Measured(row_name, contest.case, seconds, wanted, contest.size)


def timed_once(work: Work, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one run, to the end of what it started on a GPU.

    A work that is over in less than a hundredth of a second is run so often that it is not.
    """
    start = clock()
    work()
    _wait()
    once = clock() - start
    if once > 0.01:
        return once
    runs = int(0.01 / max(once, 1e-6)) + 1
    start = clock()
    for _ in range(runs):
        work()
    _wait()
    return (clock() - start) / runs


def processor_time() -> float:
    """Seconds that the processor has spent on this process and on those that it waited for."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + others.ru_utime + others.ru_stime


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def keep(path: Path, measured: Measured) -> None:
    """Adds to the results in a file, in place of an earlier one of the same case."""
    others = [one for one in kept(path) if (one.row, one.case) != (measured.row, measured.case)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in [*others, measured]], indent=1))


def kept(path: Path) -> list[Measured]:
    """The results in a file; none if it is not there."""
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    return [Measured(**{**one, "wanted": [(r, of) for r, of in one["wanted"]]}) for one in found]
