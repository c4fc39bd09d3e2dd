"""Runs `latent-bridge migrate` or `translate` in a terminal, kills it on the way, and times it."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SILENCE = 1200  # seconds after which a migration that says nothing is given up
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # a second thread would count the seconds in which it waits
    "PYTHONUNBUFFERED": "1",  # the result comes before Python takes down what it has loaded
}
_BAR = re.compile(rb"(translate|compare): [^\r]*? (\d+)/\d+ \[")


class Spent(NamedTuple):
    """Time that something took.

    Attributes:
        cpu: CPU seconds of all processes, which do not depend on what else the machine does.
        clock: Seconds on the clock.
    """

    cpu: float
    clock: float

    @classmethod
    def now(cls, *pids: int) -> "Spent":
        """What the processes have spent so far, and the time on the clock."""
        return cls(cpu_seconds(*pids), time.perf_counter())

    def since(self, begun: "Spent") -> "Spent":
        """What was spent after another moment."""
        return Spent(self.cpu - begun.cpu, self.clock - begun.clock)

    @staticmethod
    def total(spent: Iterable["Spent"]) -> "Spent":
        """The sum of several."""
        cpus, clocks = zip(*spent, strict=True)
        return Spent(sum(cpus), sum(clocks))


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        result: What it printed, as JSON; None if it was killed.
        moving: From its first row on until it compares, or until its result comes.
        comparing: While it compared source and target, until its result comes.
        moved: How far it was, in rows of the source.
    """

    result: dict[str, Any] | None
    moving: Spent
    comparing: Spent
    moved: int


def cpu_seconds(*pids: int) -> float:
    """CPU time of processes and their children, those that have ended included.

    It does not depend on what else the machine does.
    """
    import psutil

    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            whole = psutil.Process(pid)
            for process in (whole, *whole.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])
    return total


def run_killed(
    command: Sequence[str], stops: Sequence[int], servers: Sequence[int] = ()
) -> list[Run]:
    """Starts a migration, kills it with SIGKILL as soon as it has moved so many rows, and again.

    Args:
        command: Arguments of `latent-bridge`.
        stops: After how many rows each run is killed; one more run goes to the end.
        servers: Ids of processes that work for it.

    Raises:
        RuntimeError: A run ended before it could be killed, or failed.
    """
    runs = [_run(command, stop, servers) for stop in stops]
    early = [stop for stop, run in zip(stops, runs, strict=True) if run.result is not None]
    if early:
        raise RuntimeError(f"the migration ended before it could be killed at {early} rows")
    return [*runs, _run(command, None, servers)]


def _run(command: Sequence[str], stop: int | None, servers: Sequence[int]) -> Run:
    ours, theirs = pty.openpty()  # it shows bars in terminals only
    termios.tcsetwinsize(theirs, (24, 100))
    environment = {**os.environ, **ENVIRONMENT, "TQDM_MININTERVAL": "0"}
    whole = [sys.executable, "-m", "hf_latent_bridge", *command, "--json"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = _follow(process, ours, stop, servers)
        printed = process.stdout.read() if process.stdout else b""
    os.close(ours)
    if process.returncode not in (0, -signal.SIGKILL):
        told = seen.said.decode()[-2000:]
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {told}")
    result = json.loads(printed) if process.returncode == 0 else None
    moves, compares, end = (seen.ticks[doing] for doing in ("translate", "compare", "result"))
    if result is not None:
        moves, compares = [*moves, *(compares or end)[:1]], [*compares, *end] if compares else []
    return Run(result, _span(moves), _span(compares), seen.moved)


@dataclass
class _Seen:
    """What a process has shown: when its bars moved and its result came, and its last words."""

    ticks: dict[str, list[Spent]] = field(
        default_factory=lambda: {"translate": [], "compare": [], "result": []}
    )
    moved: int = 0
    said: bytes = b""

    def hear(self, part: bytes, now: Spent) -> None:
        """Takes the next part of what the terminal shows."""
        self.said = (self.said + part)[-5000:]
        for doing, rows in _BAR.findall(self.said):
            self.ticks[doing.decode()].append(now)
            self.moved = int(rows) if doing == b"translate" else self.moved
        _, line, rest = self.said.rpartition(b"\r")
        self.said = line + rest


def _follow(
    process: subprocess.Popen[bytes], terminal: int, stop: int | None, servers: Sequence[int]
) -> _Seen:
    """What a process shows until it is killed or its terminal closes."""
    seen, output = _Seen(), process.stdout
    open_ends: list[Any] = [terminal, output]
    while terminal in open_ends:
        ready = select.select(open_ends, [], [], SILENCE)[0]
        if not ready:
            raise RuntimeError(f"migrate has said nothing for {SILENCE} seconds")
        now = Spent.now(process.pid, *servers)
        if output in ready:
            seen.ticks["result"].append(now)
            open_ends.remove(output)
        if terminal in ready:
            part = _read(terminal)
            seen.hear(part, now)
            if not part:
                open_ends.remove(terminal)
        if stop is not None and seen.moved >= stop:
            process.kill()
            break
    return seen


def _read(terminal: int) -> bytes:
    """What the terminal shows next; nothing at its end."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def _span(ticks: Sequence[Spent]) -> Spent:
    return ticks[-1].since(ticks[0]) if ticks else Spent(0, 0)
