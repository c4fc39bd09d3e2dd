"""Ends a job, or lets its disk fail, at each of its file-system events, and says what is left."""

import contextlib
import errno
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hf_latent_bridge.errors import LatentBridgeError

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.utime"}
PATIENCE = 120  # seconds for one run of a job
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LIMITS = (0, 1, 100, 300, 1000, 2000, 5000, 20_000)


@dataclass(frozen=True)
class Job:
    """Something that writes files, and what must be true whatever happens to it.

    Attributes:
        name: What it does.
        promise: What is promised to its user, for the documentation.
        start: Puts the files into a folder that are there before.
        run: Does the job there, in its first or second variant.
        read: What a reader finds there, as JSON values; must equal that before or after.
        same: Whether a second run gives the same bytes, and nothing else is left.
        goes_on: Whether the job ends well though the disk fails.
        refuses: Whether two of them at once may be refused.
        checked: Whether this library reads what the job leaves, and finds single bits that differ.
    """

    name: str
    promise: str
    start: Callable[[Path], None]
    run: Callable[[Path, int], None]
    read: Callable[[Path], Any]
    same: bool = True
    goes_on: bool = False
    refuses: bool = False
    checked: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        value: What the work returned, as JSON values.
        error: The error in words; None where there was none.
        refused: Whether that is an error of the library, or one of the file system.
        ended: Whether the process ended by itself.
    """

    value: Any = None
    error: str | None = None
    refused: bool = False
    ended: bool = True


def forked(work: Callable[[], Any]) -> Outcome:
    """Does some work in a copy of this process, which costs milliseconds."""
    return collected(*launched(work))


def launched(work: Callable[[], Any]) -> tuple[int, int]:
    """Starts a copy of this process; gives its id and the pipe from which its outcome comes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        facts: dict[str, Any] = {"value": work()}
    except BaseException as error:
        refused = isinstance(error, LatentBridgeError | OSError)
        facts = {"error": f"{type(error).__name__}: {error}", "refused": refused}
    with contextlib.suppress(BaseException):
        os.write(write, json.dumps(facts).encode())
    os._exit(0)


def collected(pid: int, read: int) -> Outcome:
    """Waits for a copy of this process; one that takes too long is ended."""
    content, end = b"", time.monotonic() + PATIENCE
    while select.select([read], [], [], max(0, end - time.monotonic()))[0]:
        if not (part := os.read(read, 65536)):
            break
        content += part
    else:
        os.kill(pid, signal.SIGKILL)
        content = json.dumps({"error": f"no end after {PATIENCE} seconds"}).encode()
    os.close(read)
    os.waitpid(pid, 0)
    return Outcome(**json.loads(content)) if content else Outcome(ended=False)


class Events:
    """Counts what a process does to the files in a folder, and acts at one of these events."""

    def __init__(self, folder: Path, at: int, act: Callable[[str], None], *, changes: bool) -> None:
        self._folder, self._at, self._act, self._changes = str(folder), at, act, changes
        self.count = 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if self._changes and not (args[2] or 0) & WRITES:
                return
        elif event not in CHANGES:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else "/"
        if os.path.isabs(path) and not path.startswith(self._folder):
            return
        self.count += 1
        if self.count >= self._at:
            self._act(path)


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with(number: int) -> Callable[[str], None]:
    """From this event on every change fails, as on a full or read-only disk."""

    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return fail


class Trial:
    """A job, its files before and after, and what went wrong in its runs."""

    def __init__(self, job: Job, root: Path) -> None:
        self.job, self.folder, self._clean = job, root / "work", root / "start"
        self.problems: list[str] = []
        self.runs = 0
        self._clean.mkdir(parents=True)
        self._demand(forked(lambda: job.start(self._clean)), "the start")
        self.before = self._read_after(None)
        self.after, self.trees = {}, {}
        for variant in (1, 2):
            self.after[variant] = self._read_after(variant)
            self.trees[variant] = tree(self.folder)

    def events(self, *, changes: bool) -> int:
        """How many events a whole run has."""

        def counted() -> int:
            events = Events(self.folder, sys.maxsize, die, changes=changes)
            self.job.run(self.folder, 1)
            return events.count

        self._fresh()
        outcome = forked(counted)
        self._demand(outcome, "a counted run")
        return int(outcome.value or 0)

    def killed_at(self, event: int) -> None:
        """Ends the job with SIGKILL at an event."""
        self._disturbed(
            f"killed at event {event}", lambda: Events(self.folder, event, die, changes=False)
        )

    def disk_fails_at(self, event: int, number: int) -> None:
        """Lets every change fail from an event on."""
        self._disturbed(
            f"{errno.errorcode[number]} from change {event} on",
            lambda: Events(self.folder, event, fail_with(number), changes=True),
        )

    def files_limited_to(self, size: int) -> None:
        """Lets no file grow beyond some bytes."""
        self._disturbed(
            f"files of at most {size} bytes",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
        )

    def two_at_once(self) -> None:
        """Runs both variants at the same moment, with a reader all the while."""
        self.runs += 1
        self._fresh()
        start = time.monotonic() + 0.05

        def run(variant: int) -> None:
            time.sleep(max(0, start - time.monotonic()))
            self.job.run(self.folder, variant)

        def read() -> list[Any]:
            found, end = [], start + 0.4
            while time.monotonic() < end:
                state = self.job.read(self.folder)
                if state not in found:
                    found.append(state)
            return found

        reader = launched(read)
        runs = [launched(lambda v=variant: run(v)) for variant in (1, 2)]
        outcomes = [collected(*each) for each in runs]
        seen = collected(*reader)
        allowed = [self.before, *self.after.values()]
        if seen.error or [state for state in seen.value if state not in allowed]:
            self._note("two at once", f"a reader found {seen}")
        for outcome in outcomes:
            if outcome.error and not (self.job.refuses and outcome.refused):
                self._note("two at once", f"one ended with {outcome.error}")
        if all(outcome.error for outcome in outcomes):
            return
        state = forked(lambda: self.job.read(self.folder))
        if state.error or state.value not in self.after.values():
            self._note("two at once", f"was left as {state}")
        if self.job.same and tree(self.folder) not in self.trees.values():
            self._note("two at once", self._difference())

    def flipped(self, draws: list[float]) -> int:
        """Flips bits of the files that a run leaves; returns how many were refused."""
        refused = 0
        self._read_after(1)
        files = sorted(p for p in self.folder.rglob("*") if p.is_file())
        whole = [(path, path.read_bytes()) for path in files]
        total = sum(len(content) for _, content in whole)
        for draw in draws:
            self.runs += 1
            position, at = int(draw * total * 8), 0
            while position >= len(whole[at][1]) * 8:
                position -= len(whole[at][1]) * 8
                at += 1
            path, content = whole[at]
            damaged = bytearray(content)
            damaged[position // 8] ^= 1 << position % 8
            path.write_bytes(damaged)
            state = forked(lambda: self.job.read(self.folder))
            path.write_bytes(content)
            refused += state.refused
            if not state.refused and state.value != self.after[1]:
                where = f"{path.relative_to(self.folder)}, bit {position}"
                self._note(f"a flipped bit in {where}", f"reads as {state}")
        return refused

    def _disturbed(self, what: str, disturb: Callable[[], object]) -> None:
        self.runs += 1
        self._fresh()

        def run() -> None:
            disturb()
            self.job.run(self.folder, 1)

        outcome = forked(run)
        if outcome.error and not outcome.refused:
            self._note(what, f"ended with {outcome.error}")
        if outcome.error and self.job.goes_on:
            self._note(what, f"did not go on: {outcome.error}")
        if outcome.error and not (str(self.folder) in outcome.error and "; " in outcome.error):
            self._note(what, f"names no file, or not what to do: {outcome.error}")
        state = forked(lambda: self.job.read(self.folder))
        if state.error or state.value not in (self.before, self.after[1]):
            self._note(what, f"was left as {state}, before it was {self.before}")
        again = forked(lambda: self.job.run(self.folder, 1))
        if again.error:
            self._note(what, f"cannot be run again: {again.error}")
        elif self.job.same and tree(self.folder) != self.trees[1]:
            self._note(what, f"after another run {self._difference()}")

    def _difference(self) -> str:
        found, expected = tree(self.folder), self.trees[1]
        names = {name for name in found.keys() | expected if found.get(name) != expected.get(name)}
        return f"these files differ from those of a whole run: {sorted(names)}"

    def _read_after(self, variant: int | None) -> Any:
        self._fresh()
        if variant is not None:
            self._demand(forked(lambda: self.job.run(self.folder, variant)), "a whole run")
        outcome = forked(lambda: self.job.read(self.folder))
        self._demand(outcome, "reading")
        return outcome.value

    def _fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._clean, self.folder)

    def _demand(self, outcome: Outcome, what: str) -> None:
        if outcome.error or not outcome.ended:
            raise RuntimeError(f"{self.job.name}: {what} failed: {outcome}")

    def _note(self, when: str, what: str) -> None:
        self.problems.append(f"{self.job.name}, {when}: {what}"[:1000])


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and its folders with a slash at the end."""
    return {
        str(path.relative_to(folder)) + ("/" if path.is_dir() else ""): b""
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def try_job(
    job: Job, root: Path, *, sample: int | None, rounds: int, flips: int, seed: int = 0
) -> dict[str, Any]:
    """Tries a job in every way.

    Args:
        job: The job.
        root: An empty folder.
        sample: How many events to try of each kind; None for every one.
        rounds: How often two are started at once.
        flips: How many bits to flip.
        seed: Chooses events and bits.

    Returns:
        The number of runs of each kind, and the problems found.
    """
    draw = random.Random(seed)
    trial = Trial(job, root)
    counts = {}

    def count(kind: str, runs: Iterable[Callable[[], object]]) -> None:
        before = trial.runs
        for run in runs:
            run()
        counts[kind] = trial.runs - before

    def events(*, changes: bool) -> list[int]:
        every = range(1, trial.events(changes=changes) + 1)
        return sorted(draw.sample(every, min(sample or len(every), len(every))))

    count("killed", (partial(trial.killed_at, at) for at in events(changes=False)))
    for kind, number in (("full disk", errno.ENOSPC), ("read-only disk", errno.EROFS)):
        times = events(changes=True)
        count(kind, (partial(trial.disk_fails_at, at, number) for at in times))
    sizes = LIMITS if sample is None else draw.sample(LIMITS, min(sample, len(LIMITS)))
    count("small files", (partial(trial.files_limited_to, size) for size in sizes))
    count("two at once", [trial.two_at_once] * rounds)
    flips = flips if job.checked else 0
    refused = trial.flipped([draw.random() for _ in range(flips)])
    return {
        "job": job.name,
        "promise": job.promise,
        **counts,
        "flipped bits": flips,
        "of these refused": refused,
        "problems": trial.problems,
    }


def main() -> None:
    """Tries jobs as each line of stdin says, `[names, options]`; prints a line of JSON for each.

    No names are all of them. What a job would import by itself is imported here, once.
    """
    import importlib
    import tempfile
    import warnings

    import torch
    from crash_jobs import JOBS

    warnings.simplefilter("ignore")
    for library in ("h5py", "jinja2", "pandas", "pyarrow.feather", "pyarrow.parquet"):
        importlib.import_module(library)
    torch.set_num_threads(1)  # a copy of a process has none of its threads
    for names, options in map(json.loads, sys.stdin):
        for name in names or JOBS:
            with tempfile.TemporaryDirectory() as root:
                try:
                    report = try_job(JOBS[name], Path(root), **options)
                except RuntimeError as error:
                    report = {"job": name, "problems": [str(error)]}
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
