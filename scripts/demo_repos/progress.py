"""Says what is being made, how far it is and how long it takes, on the console and to the page."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_BAR = 20
_EVERY = 15.0  # seconds between two lines, where the console keeps each
_TICK = 5.0  # seconds between two looks at a task that counts no items
_TRUSTED = 60.0  # seconds for which the expected times, and then those so far, are believed
_SKIPPED = 4  # times as fast as expected: this was there already


class Progress:
    """The progress of work that is measured in seconds that it was expected to take.

    Attributes:
        now: What is being done.
        waiting: Names of the repos that are not there yet.
    """

    def __init__(
        self,
        expected: float = 0.0,
        *,
        waiting: Sequence[str] = (),
        file: Path | None = None,
        console: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now, self.waiting = "starting", list(waiting)
        self._expected, self._file, self._console = expected, file, console or sys.stderr
        self._clock, self._said = clock, float("-inf")
        self._done = self._base = self._share = 0.0
        self._began, self._counts, self._lock = clock(), False, threading.Lock()
        self._pace = 1.0  # seconds that a second of expected work took before this task

    @contextmanager
    def ticking(self, seconds: float = _TICK) -> Iterator[None]:
        """Within the block, time moves tasks on that count no items, such as a training."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(seconds):
                self.tick()

        clock = threading.Thread(target=run, daemon=True)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join(60)

    def tick(self) -> None:
        """Moves a task that counts no items on by the time it has taken, never to its end."""
        if self._share and not self._counts:
            passed = (self._clock() - self._began) / self._share
            self._done = self._base + self._share * (1 - math.exp(-passed))
        self._tell()

    @contextmanager
    def part(self, seconds: float, repos: Sequence[str]) -> Iterator[None]:
        """A part of the work that makes some repos, and was expected to take so long."""
        start = self._done
        yield
        self._done = start + seconds
        self._settle()
        self._share = 0.0
        self.waiting = [name for name in self.waiting if name not in repos]
        self._tell(always=True)

    def task(self, now: str, seconds: float = 0.0) -> None:
        """Begins something within a part."""
        self._done = max(self._done, self._base + self._share)
        self._settle()
        self.now, self._share, self._counts = now, seconds, False
        self._tell(always=True)

    def each(self, items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
        """The items of a task, some at a time; counts those that came back."""
        self._counts = True
        for start in range(0, len(items), size):
            yield items[start : start + size]
            self._done = self._base + self._share * min(1.0, (start + size) / len(items))
            self._tell()

    def finish(self) -> None:
        """All is there."""
        self._done, self.now, self.waiting = self._expected, "", []
        self._tell(always=True)

    @property
    def percent(self) -> int:
        """How much is done; 100 only at the end."""
        if not self.now:
            return 100
        return min(99, int(100 * self._done / self._expected)) if self._expected else 0

    @property
    def left(self) -> str:
        """How long it still takes, from the speed so far, above all that of this task."""
        minutes = max(0.0, self._expected - self._done) * self._speed() / 60
        return f"about {minutes:.0f} minutes left" if minutes >= 1.5 else "about a minute left"

    def _speed(self) -> float:
        """Seconds that a second of expected work takes; what is skipped makes it no faster."""
        passed = self._clock() - self._began
        done = min(self._done - self._base, _SKIPPED * passed)
        return (passed + _TRUSTED * self._pace) / (done + _TRUSTED)

    def _settle(self) -> None:
        """Ends a task: the next one is expected to be as fast."""
        self._pace, self._began, self._base = self._speed(), self._clock(), self._done

    def _tell(self, *, always: bool = False) -> None:
        if self._expected:
            with self._lock:
                self._write(always)

    def _write(self, always: bool) -> None:
        if self._file is not None:
            status = {"percent": self.percent, "now": self.now, "left": self.left}
            half = self._file.with_suffix(".new")
            half.write_text(json.dumps({**status, "waiting": self.waiting}))
            os.replace(half, self._file)
        kept = not self._console.isatty()
        if kept and not always and self._clock() - self._said < _EVERY:
            return
        self._said = self._clock()
        bar = "#" * (_BAR * self.percent // 100)
        told = f"{self.now}, {self.left}" if self.now else "all is there"
        line = f"  [{bar:-<{_BAR}}] {self.percent:3} %  {told}"
        print(
            line if kept else f"\r{line[:100]:100}",
            end="\n" if kept or not self.now else "",
            file=self._console,
            flush=True,
        )
