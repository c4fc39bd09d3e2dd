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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SILENCE = 600  # seconds after which a migration that says nothing is given up
_BAR = re.compile(rb"(translate|compare): [^\r]*? (\d+)/\d+ \[")


@dataclass(frozen=True)
class Run:
    """One process.

    Attributes:
        result: What it printed, as JSON; None if it was killed.
        moving: CPU seconds between its first row and its last.
        comparing: CPU seconds in which it compared source and target.
        moved: How far it was, in rows of the source.
    """

    result: dict[str, Any] | None
    moving: float
    comparing: float
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
    environment = {**os.environ, "TQDM_MININTERVAL": "0"}
    whole = [sys.executable, "-m", "hf_latent_bridge", *command, "--json"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        times, moved, said = _follow(process, ours, stop, servers)
        printed = process.stdout.read() if process.stdout else b""
    os.close(ours)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said.decode()[-2000:]}")
    result = json.loads(printed) if process.returncode == 0 else None
    return Run(result, _span(times["translate"]), _span(times["compare"]), moved)


def _follow(
    process: subprocess.Popen[bytes], terminal: int, stop: int | None, servers: Sequence[int]
) -> tuple[dict[str, list[float]], int, bytes]:
    """The CPU time whenever a bar moved, the rows moved, and the last that was said."""
    times: dict[str, list[float]] = {"translate": [], "compare": []}
    moved, said = 0, b""
    while part := _read(terminal):
        said = (said + part)[-5000:]
        now = cpu_seconds(process.pid, *servers)
        for doing, rows in _BAR.findall(said):
            times[doing.decode()].append(now)
            moved = int(rows) if doing == b"translate" else moved
        if stop is not None and moved >= stop:
            process.kill()
            break
        said = said[said.rfind(b"\r") :] if b"\r" in said else said
    return times, moved, said


def _read(terminal: int) -> bytes:
    """What the terminal shows next; nothing at its end.

    Raises:
        RuntimeError: It has been silent for too long.
    """
    if not select.select([terminal], [], [], SILENCE)[0]:
        raise RuntimeError(f"migrate has said nothing for {SILENCE} seconds")
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def _span(times: Sequence[float]) -> float:
    return times[-1] - times[0] if times else 0.0
