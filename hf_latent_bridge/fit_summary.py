"""Where the time of a fit went, as an object and as a few lines of text."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STEPS = ("reading", "source encode", "target encode", "moments", "solve")


@dataclass
class FitSummary:
    """What a fit did; `print(summary)` shows it.

    Attributes:
        pairs: Pairs in the fit, over all processes.
        skipped: Bad rows that were left out, over all processes.
        resumed_rows: Rows of this process that an earlier, killed run had done.
        rows: Rows that this process read in this run.
        processes: Number of processes.
        seconds: Time of this process by step.
        total_seconds: Time from call to result.
    """

    pairs: int = 0
    skipped: int = 0
    resumed_rows: int = 0
    rows: int = 0
    processes: int = 1
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    total_seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter, repr=False)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Adds the time of a block to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

    def finish(self) -> None:
        """Stops the clock."""
        self.total_seconds = time.perf_counter() - self._start

    @property
    def rows_per_second(self) -> float:
        """Rows that this process read per second of the whole time."""
        return self.rows / self.total_seconds if self.total_seconds else 0.0

    def __str__(self) -> str:
        several = f" by each of {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"{self.pairs:,} pairs in {self.total_seconds:.1f} s, "
            f"{self.rows_per_second:,.0f} rows/s{several}"
        ]
        if self.skipped:
            lines.append(f"{self.skipped:,} bad rows were skipped")
        if self.resumed_rows:
            lines.append(f"{self.resumed_rows:,} rows were done by the run that this one went on")
        times = ", ".join(f"{step} {took:.1f} s" for step, took in self.seconds.items())
        return "\n".join([*lines, times])
