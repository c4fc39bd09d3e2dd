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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

from hf_latent_bridge.errors import LatentBridgeError

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.utime"}
REQUEST = "hf_latent_bridge.request"  # an event of the jobs that talk to the Hub
PATIENCE = 240  # seconds for a few runs of a job
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LIMITS = (0, 1, 100, 300, 1000, 2000, 5000, 20_000)
STATES = 12  # moments of a kill after which bits are flipped, at most
TOGETHER = 25  # states that one copy of the process looks at
DISKS = {"full disk": errno.ENOSPC, "read-only disk": errno.EROFS}
KINDS = (
    "killed",
    *DISKS,
    "small files",
    "two at once",
    "flipped bits",
    "flipped midway",
)

T = TypeVar("T")


def nothing(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """Something that writes files, and what must be true whatever happens to it.

    Attributes:
        name: What it does; jobs with the same words before a colon share a row of the table.
        promise: What is promised to its user, for the documentation.
        start: Puts the files into a folder that are there before.
        run: Does the job there, in its first or second variant.
        read: What a reader finds there, as JSON values; must equal that before or after.
        ready: Makes, for each copy of the folder, what cannot be copied.
        same: Whether a second run gives the same bytes, and nothing else is left.
        goes_on: Whether the job ends well though the disk fails.
        refuses: Whether two of them at once may be refused.
        own: Patterns of the files of a finished run that this library reads again and checks.
        unfinished: The same of a killed run; None for all that it leaves and a whole run does not.
    """

    name: str
    promise: str
    start: Callable[[Path], None]
    run: Callable[[Path, int], None]
    read: Callable[[Path], Any]
    ready: Callable[[Path], None] = nothing
    same: bool = True
    goes_on: bool = False
    refuses: bool = False
    own: tuple[str, ...] = ("*",)
    unfinished: tuple[str, ...] | None = None


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
    content = json.dumps(facts_of(work)).encode()
    with contextlib.suppress(BaseException):
        while content:
            content = content[os.write(write, content) :]
    os._exit(0)


def facts_of(work: Callable[[], Any]) -> dict[str, Any]:
    """What some work returns or raises, as an `Outcome` has it."""
    try:
        return {"value": work()}
    except BaseException as error:
        refused = isinstance(error, LatentBridgeError | OSError)
        return {"error": f"{type(error).__name__}: {error}", "refused": refused}


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
        self.count, self._over = 0, False
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """From now on nothing is counted; a hook cannot be removed."""
        self._over = True

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self._over:
            return
        if event == "open":
            if self._changes and not (args[2] or 0) & WRITES:
                return
        elif event == REQUEST:
            if self._changes:
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
        self._aside = root / "aside"
        self.problems: list[str] = []
        self._clean.mkdir(parents=True)
        self._aside.mkdir()
        self._demand(forked(lambda: job.start(self._clean)), "the start")
        self.before = self._read_after(None)
        self.after, self.trees = {}, {}
        for variant in (1, 2):
            self.after[variant] = self._read_after(variant)
            self.trees[variant] = tree(self.folder)

    def events(self, *, changes: bool) -> range:
        """The numbers of a whole run's events."""

        def counted() -> int:
            events = Events(self.folder, sys.maxsize, die, changes=changes)
            self.job.run(self.folder, 1)
            return events.count

        self._fresh()
        outcome = forked(counted)
        self._demand(outcome, "a counted run")
        return range(1, int(outcome.value or 0) + 1)

    def killed_at(self, events: Sequence[int]) -> None:
        """Ends the job with SIGKILL at each of these events, and looks at what is left."""
        for batch in _batches(events):
            for number, event in enumerate(batch):
                self._killed(event)
                self.folder.rename(self._aside / str(number))

            def look(n: int = len(batch)) -> list[dict[str, Any]]:
                return [self._look_at(number) for number in range(n)]

            found = forked(look)
            self._demand(found, f"a look at what is left of runs killed at {batch}")
            for event, facts in zip(batch, found.value, strict=True):
                self._note(f"killed at event {event}", *self._wrong(facts))

    def disk_fails_at(self, events: Sequence[int], number: int) -> None:
        """Lets every change fail, starting at each of these events."""
        code = errno.errorcode[number]
        self._disturbed({f"{code} from change {at} on": self._full(at, number) for at in events})

    def files_limited_to(self, sizes: Sequence[int]) -> None:
        """Lets no file grow beyond each of these sizes in bytes."""
        self._disturbed({f"files of at most {size} bytes": _limited(size) for size in sizes})

    def two_at_once(self) -> None:
        """Runs both variants at the same moment, with a reader all the while."""
        self._fresh()
        start = time.monotonic() + 0.05
        until, ended = os.pipe()

        def run(variant: int) -> None:
            time.sleep(max(0, start - time.monotonic()))
            self.job.run(self.folder, variant)

        def read() -> list[Any]:
            os.close(ended)
            found: list[Any] = []
            while not select.select([until], [], [], 0)[0]:
                state = self.job.read(self.folder)
                if state not in found:
                    found.append(state)
            return found

        reader = launched(read)
        runs = [launched(lambda v=variant: run(v)) for variant in (1, 2)]
        outcomes = [collected(*each) for each in runs]
        os.close(ended)
        seen = collected(*reader)
        os.close(until)
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

    def flipped(self, draws: Sequence[float]) -> int | None:
        """Flips bits of the files that a run leaves, one at a time, and reads them.

        Returns:
            How many were refused; None where nothing is read again.
        """
        self._read_after(1)
        whole = tree(self.folder)
        files = {path: whole[path] for path in matching(whole, self.job.own)}
        if not files:
            return None

        def look(draw: float) -> tuple[bool, str]:
            where = flip(self.folder, files, draw)
            state = Outcome(**facts_of(lambda: self.job.read(self.folder)))
            put_back(self.folder, whole)
            wrong = not state.refused and (state.error or state.value != self.after[1])
            return state.refused, f"a flipped bit in {where}: reads as {state}" if wrong else ""

        return self._looked(look, draws)

    def flipped_midway(self, draws: Sequence[float]) -> int | None:
        """Flips bits of the files that killed runs leave, one at a time; reads them and goes on.

        Returns:
            How many were refused; None where a killed run leaves nothing that is read again.
        """
        spread = _spread(self.events(changes=False), min(STATES, len(draws)))
        moments = [at for at in spread if self._left_at(at)]
        if not moments:
            return None
        shares = (draws[number :: len(moments)] for number in range(len(moments)))
        return sum(map(self._flipped_after, moments, shares))

    def _flipped_after(self, event: int, draws: Sequence[float]) -> int:
        files, state = self._left_at(event), tree(self.folder)

        def look(draw: float) -> tuple[bool, str]:
            put_back(self.folder, state)
            where = flip(self.folder, files, draw)
            facts = self._look()
            refused = Outcome(**facts["state"]).refused or Outcome(**facts["again"]).refused
            problems = "; ".join(self._wrong(facts, may_refuse=True))
            says = f"killed at event {event}, a flipped bit in {where}: {problems}"
            return refused, says if problems else ""

        return self._looked(look, draws)

    def _left_at(self, event: int) -> dict[str, bytes]:
        """Kills a run at an event; the files it leaves that the next one reads."""
        self._killed(event)
        found = tree(self.folder)
        names = matching(found, self.job.unfinished or ("*",))
        if self.job.unfinished is None:
            names = [name for name in names if name not in self.trees[1].keys() | self._start]
        elif not self.job.unfinished:
            return {}
        return {name: found[name] for name in names if found[name]}

    @property
    def _start(self) -> set[str]:
        return set(tree(self._clean))

    def _looked(self, look: Callable[[float], tuple[bool, str]], draws: Sequence[float]) -> int:
        refused = 0
        for batch in _batches(draws):
            found = forked(lambda part=batch: [look(draw) for draw in part])
            if found.error or not found.ended:
                self._note("bits", f"the reader ended with {found}, at one of {batch}")
            for was_refused, problem in found.value or []:
                refused += was_refused
                if problem:
                    self._note("bits", problem)
        return refused

    def _killed(self, event: int) -> None:
        """Starts anew, and kills a run at an event."""

        def run() -> None:
            Events(self.folder, event, die, changes=False)
            self.job.run(self.folder, 1)

        self._fresh()
        outcome = forked(run)
        if outcome.error:
            self._note(f"killed at event {event}", f"ended before with {outcome.error}")

    @contextlib.contextmanager
    def _full(self, event: int, number: int) -> Iterator[None]:
        events = Events(self.folder, event, fail_with(number), changes=True)
        try:
            yield
        finally:
            events.stop()

    def _disturbed(self, ways: Mapping[str, contextlib.AbstractContextManager[None]]) -> None:
        """Runs the job, disturbed in each of these ways, and looks at what is left."""

        def tried(names: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
            for name in names:
                self._fresh()
                with ways[name]:
                    ended = facts_of(lambda: self.job.run(self.folder, 1))
                yield {**ended, "value": None}, self._look()

        for batch in _batches(list(ways)):
            found = forked(lambda names=batch: list(tried(names)))
            self._demand(found, f"runs with {batch}")
            for what, (ended, facts) in zip(batch, found.value, strict=True):
                self._note(what, *self._wrong_end(Outcome(**ended)), *self._wrong(facts))

    def _wrong_end(self, outcome: Outcome) -> list[str]:
        """What must not be of how a run with a failing disk ended."""
        if not outcome.error:
            return []
        wrong = [] if outcome.refused else [f"ended with {outcome.error}"]
        if self.job.goes_on:
            wrong.append(f"did not go on: {outcome.error}")
        if not (str(self.folder) in outcome.error and "; " in outcome.error):
            wrong.append(f"names no file, or not what to do: {outcome.error}")
        return wrong

    def _look_at(self, number: int) -> dict[str, Any]:
        (self._aside / str(number)).rename(self.folder)
        facts = self._look()
        shutil.rmtree(self.folder)
        return facts

    def _look(self) -> dict[str, Any]:
        """What a reader finds, how another run ends, what a reader finds then, and what differs."""
        state = facts_of(lambda: self.job.read(self.folder))
        again = facts_of(lambda: self.job.run(self.folder, 1))
        facts = {"state": state, "again": {**again, "value": None}, "differs": "", "then": {}}
        if "error" not in again:
            facts["then"] = facts_of(lambda: self.job.read(self.folder))
            same = not self.job.same or tree(self.folder) == self.trees[1]
            facts["differs"] = "" if same else self._difference()
        return facts

    def _wrong(self, facts: dict[str, Any], *, may_refuse: bool = False) -> list[str]:
        """What must not be of what `_look` has seen."""
        state, again = Outcome(**facts["state"]), Outcome(**facts["again"])
        wrong = []
        if state.error and not (may_refuse and state.refused):
            wrong.append(f"reading ended with {state.error}")
        elif not state.error and state.value not in (self.before, self.after[1]):
            wrong.append(f"was left as {state.value}, before it was {self.before}")
        if again.error:
            return wrong if may_refuse and again.refused else [*wrong, f"again: {again.error}"]
        then = Outcome(**facts["then"])
        if then.error or then.value != self.after[1]:
            wrong.append(f"another run leaves {then}")
        return wrong + ([f"after another run {facts['differs']}"] if facts["differs"] else [])

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
        if self.job.ready is not nothing:
            self._demand(forked(lambda: self.job.ready(self.folder)), "getting ready")

    def _demand(self, outcome: Outcome, what: str) -> None:
        if outcome.error or not outcome.ended:
            raise RuntimeError(f"{self.job.name}: {what} failed: {outcome}")

    def _note(self, when: str, *wrong: str) -> None:
        self.problems += [f"{self.job.name}, {when}: {what}"[:1000] for what in wrong]


@contextlib.contextmanager
def _limited(size: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER))


def _spread(events: range, number: int) -> list[int]:
    """So many of the events, as far from each other and from both ends as they can be."""
    return sorted({events[len(events) * part // (number + 1)] for part in range(1, number + 1)})


def tree(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and its folders with a slash at the end."""
    return {
        str(path.relative_to(folder)) + ("/" if path.is_dir() else ""): b""
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The files among the names of a tree that one of the patterns matches."""
    return [
        name
        for name in names
        if not name.endswith("/") and any(fnmatch(f"/{name}", pattern) for pattern in patterns)
    ]


def flip(folder: Path, files: Mapping[str, bytes], draw: float) -> str:
    """Flips one bit of these files on disk; returns which.

    Args:
        folder: Where they are.
        files: Their names and contents.
        draw: Which bit of all, from 0 to 1.
    """
    position = int(draw * sum(map(len, files.values())) * 8)
    at = iter(files)
    while position >= len(files[name := next(at)]) * 8:
        position -= len(files[name]) * 8
    damaged = bytearray(files[name])
    damaged[position // 8] ^= 1 << position % 8
    (folder / name).write_bytes(damaged)
    return f"{name}, bit {position}"


def put_back(folder: Path, wanted: Mapping[str, bytes]) -> None:
    """Gives the files of a folder their contents back, and removes all others."""
    found = tree(folder)
    for name in sorted(found.keys() - wanted.keys(), reverse=True):
        (folder / name).rmdir() if name.endswith("/") else (folder / name).unlink()
    for name, content in wanted.items():
        if name.endswith("/"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        elif found.get(name) != content:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


@dataclass(frozen=True)
class Effort:
    """How much of everything is tried.

    Attributes:
        sample: How many events of each kind; None for every one.
        rounds: How often two are started at once.
        flips: How many bits of the files of finished runs are flipped.
        midway: The same of unfinished runs.
        seed: Chooses events and bits.
    """

    sample: int | None = None
    rounds: int = 50
    flips: int = 1000
    midway: int = 1000
    seed: int = 0


def try_kind(trial: Trial, kind: str, effort: Effort) -> dict[str, Any]:
    """Tries a job in one way.

    Returns:
        How many runs there were, None where there can be none; how many were refused, of those
        with flipped bits; and the problems.
    """
    draw = random.Random(f"{effort.seed} {kind}")
    trial.problems.clear()

    def sample(events: Sequence[int]) -> list[int]:
        return sorted(draw.sample(events, min(effort.sample or len(events), len(events))))

    runs, refused = 0, None
    if kind == "killed":
        trial.killed_at(events := sample(trial.events(changes=False)))
        runs = len(events)
    elif kind in DISKS:
        trial.disk_fails_at(events := sample(trial.events(changes=True)), DISKS[kind])
        runs = len(events)
    elif kind == "small files":
        trial.files_limited_to(sizes := sample(LIMITS))
        runs = len(sizes)
    elif kind == "two at once":
        runs = effort.rounds
        for _ in range(runs):
            trial.two_at_once()
    else:
        finished = kind == "flipped bits"
        number = effort.flips if finished else effort.midway
        draws = [draw.random() for _ in range(number)]
        refused = trial.flipped(draws) if finished else trial.flipped_midway(draws)
        runs = 0 if refused is None else number
    return {"kind": kind, "runs": runs, "refused": refused, "problems": list(trial.problems)}


def try_job(
    job: Job, root: Path, effort: Effort, kinds: Sequence[str] = KINDS
) -> Iterator[dict[str, Any]]:
    """Tries a job in several ways; yields a report of each, see `try_kind`.

    Args:
        job: The job.
        root: An empty folder.
        effort: How much of everything.
        kinds: Which ways.
    """
    facts = {"job": job.name, "promise": job.promise}
    try:
        trial = Trial(job, root)
        for kind in kinds:
            yield {**facts, **try_kind(trial, kind, effort)}
    except RuntimeError as error:
        yield {**facts, "kind": "", "runs": 0, "refused": None, "problems": [str(error)]}


def main() -> None:
    """Tries jobs as each line of stdin says, `[name, kinds, effort]`.

    Prints the names of the jobs and the kinds; then a line of JSON for each kind,
    and an empty one when the job is done. What a job would import by itself is imported here, once.
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
    with tempfile.TemporaryDirectory() as folder:  # what is read or compiled once is kept
        JOBS["save over an old one: a translator"].start(Path(folder))
    print(json.dumps([list(JOBS), KINDS]), flush=True)
    for name, kinds, effort in map(json.loads, sys.stdin):
        with tempfile.TemporaryDirectory() as root:
            for report in try_job(JOBS[name], Path(root), Effort(**effort), kinds):
                print(json.dumps(report), flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
