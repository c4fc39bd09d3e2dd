"""The job of one translation: what must be done, how far each process is, and the manifest."""

import contextlib
import glob
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hf_latent_bridge.atomic import locked, write_atomic, writing
from hf_latent_bridge.errors import (
    CheckpointError,
    ConfigError,
    InUseError,
    InvalidLatentsError,
    ProcessError,
)
from hf_latent_bridge.files import WEIGHTS_NAME, seal_json, to_files, unseal_json
from hf_latent_bridge.latents import Array, as_tensor
from hf_latent_bridge.translation.folding import Folding
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.vectors.opening import is_compressed
from hf_latent_bridge.vectors.reader import VectorReader, VectorSource
from hf_latent_bridge.vectors.writers import Writer

_STATE = {
    "facts": dict,
    "done": int,
    "sha256_of_rows": str,
    "crc32_of_input": int,
    "stamps": list,
}


class Noted(NamedTuple):
    """How far a process is.

    Attributes:
        done: Rows of its range that it has written.
        written: Their SHA-256, chunk by chunk (`chained`).
        read: CRC-32 of the rows of the input that they were made of.
        stamps: Those of the input when it was opened.
    """

    done: int
    written: str
    read: int
    stamps: list[tuple[int, ...]]


@dataclass(frozen=True)
class Job:
    """One translation, the same in each of its processes.

    Attributes:
        translator: A fitted translator.
        input: What to read; opened again in each process.
        output: The file to write.
        writer: How its format is written.
        dtype: Floating dtype of the result; None until the input is opened.
        chunk_size: Rows in a chunk. Every run multiplies the same chunks, so resumed runs and
            several processes write the same bytes as one run.
        checkpoint_every: Rows between two notes of how far a process is.
        processes: Number of processes.
        timeout: Seconds without progress after which a wait for a reader or process ends.
        facts: What must not change between a run and its resumption.
        folding: How translated rows are folded for a store that corrects for hubs; None for not.
    """

    translator: Translator
    input: VectorSource
    output: Path
    writer: Writer
    dtype: str | None
    chunk_size: int
    checkpoint_every: int
    processes: int
    timeout: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    folding: Folding | None = None
    reads_back: ClassVar[bool] = False  # whether all written rows are compared at the end

    @property
    def dim(self) -> int:
        """Width of the result."""
        dim = self.translator.target_.dim
        return dim if self.folding is None else self.folding.width(dim)

    def convert(self, rows: Array) -> Array:
        """Rows of the input as rows of the result.

        Raises:
            InvalidLatentsError: Another width than that of their space, NaN or infinity.
        """
        if self.folding is None:
            return self.translator.transform(rows)
        expected = self.translator.target_
        if self.folding.input_space == "source":
            rows = self.translator.transform(rows)
        elif rows.shape[1] != expected.dim:
            raise InvalidLatentsError(
                f"vectors with input_space='target' must be latents of {expected}, got vectors of "
                f"dim {rows.shape[1]}"
            )
        return self.folding.fold(as_tensor(rows)).numpy()

    def for_input(self, reader: VectorReader) -> "Job":
        """The job with the dtype of the result, and what must not change until it is finished.

        Raises:
            InvalidLatentsError: The vectors are not as wide as the translator's source.
            ValueError: The output's format does not have the dtype that was asked for.
        """
        if reader.dim is not None:
            try:
                self.convert(np.empty((0, reader.dim), np.float32))
            except InvalidLatentsError as error:
                raise InvalidLatentsError(f"{self.input.path}: {error}") from error
        dtype = self.dtype or reader.dtype.name
        if dtype not in self.writer.dtypes:
            if self.dtype is not None:
                raise ValueError(
                    f"{self.output.name} can hold {', '.join(self.writer.dtypes)}, got {dtype=}"
                )
            dtype = self.writer.dtypes[0]
        facts = {
            "input": reader.identity(),
            "column": self.input.column,
            "scale": self.input.scale,
            "translator": describe_translator(self.translator),
            "dtype": dtype,
            "processes": self.processes,
            "chunk_size": self.chunk_size,
            "folding": self.folding and self.folding.to_dict(),
        }
        return replace(self, dtype=dtype, facts=facts)

    @property
    def start_over(self) -> str:
        """What to do if an unfinished run cannot be gone on with."""
        return "start over with resume=False (--restart)"

    @property
    def part(self) -> Path:
        """The hidden file that grows to be the result."""
        return self.output.with_name(f".{self.output.name}.part")

    def header(self, n: int) -> bytes | None:
        """The bytes before `n` translated rows, where those are all that the output holds."""
        if self.writer.header is None or is_compressed(self.output):
            return None
        return self.writer.header((n, self.dim), np.dtype(self.dtype))

    @property
    def whole(self) -> Path:
        """The hidden file in which the result is put together where it is not a plain matrix."""
        return self.part.with_name(f"{self.part.name}.whole")

    @property
    def finished(self) -> Path:
        """The hidden file that becomes the output."""
        return self.whole if self.header(0) is None else self.part

    @property
    def next_manifest(self) -> Path:
        """The hidden file that becomes the manifest."""
        return self.part.with_name(f"{self.part.name}.manifest")

    @property
    def stdin(self) -> Path:
        """The hidden file that holds the lines of stdin while they are translated."""
        return self.part.with_name(f"{self.part.name}.stdin.jsonl")

    @property
    def manifest(self) -> Path:
        """The file beside the result that says how it was made."""
        return self.output.with_name(f"{self.output.name}.manifest.json")

    def state_path(self, rank: int) -> Path:
        """Where a process notes how far it has come."""
        return self.part.with_name(f"{self.part.name}.{rank}-of-{self.processes}")

    def range_of(self, rank: int, n: int) -> tuple[int, int]:
        """First and last row (exclusive) of a process."""
        chunks = -(-n // self.chunk_size)
        first, last = (chunks * r // self.processes * self.chunk_size for r in (rank, rank + 1))
        return min(first, n), min(last, n)

    def done(self, rank: int) -> int | None:
        """Rows of its range that a process has written; None if it has not begun.

        Raises:
            CheckpointError: The state belongs to another job.
        """
        state = self._read(self.state_path(rank))
        return None if state is None or not self.part.exists() else int(state["done"])

    def noted(self, rank: int) -> Noted | None:
        """How far a process is; None if it has not begun."""
        state = self._read(self.state_path(rank))
        if state is None:
            return None
        stamps = [tuple(stamp) for stamp in state["stamps"]]
        return Noted(state["done"], state["sha256_of_rows"], state["crc32_of_input"], stamps)

    def unfinished(self, n: int) -> list[int]:
        """The processes that have not written all of their range."""
        ranges = (self.range_of(rank, n) for rank in range(self.processes))
        return [
            rank
            for rank, (start, stop) in enumerate(ranges)
            if (self.done(rank) or 0) < stop - start
        ]

    def note(self, rank: int, noted: Noted) -> None:
        """Records, whole or not at all, how many rows of a process's range are written."""
        state = {
            "facts": self.facts,
            "done": noted.done,
            "sha256_of_rows": noted.written,
            "crc32_of_input": noted.read,
            "stamps": noted.stamps,
        }
        with writing(self.output):
            write_atomic(self.state_path(rank), seal_json(state))

    @contextlib.contextmanager
    def claimed(self, rank: int) -> Iterator[None]:
        """Keeps other runs away from the files of this one; the end of its process lets go of them.

        Completes what a run has left to do that was killed between its two last steps.

        Raises:
            InUseError: Another run writes the same output.
            OSError: Nothing can be written there.
        """
        lock = self.part.with_name(f"{self.part.name}.{rank}.lock")
        with contextlib.ExitStack() as held:
            with writing(self.output):
                held.enter_context(locked(lock, self.output, patience=0))
                if rank == 0:
                    self.stdin.unlink(missing_ok=True)
                    if not self.finished.exists():
                        self._put_manifest()
            yield

    def commit(self, manifest: bytes) -> None:
        """Puts the finished file and its manifest in place.

        A kill in between leaves no manifest, never one that is about another file.
        """
        with writing(self.output):
            write_atomic(self.next_manifest, manifest)
            self.manifest.unlink(missing_ok=True)
            self.finished.replace(self.output)
            self._put_manifest()

    def _put_manifest(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.next_manifest.replace(self.manifest)

    def check(self) -> None:
        """Looks at the files that an earlier run has left.

        Raises:
            CheckpointError: They belong to another job.
        """
        for path in self._states():
            self._read(path)

    def restart(self, rank: int | None) -> None:
        """Forgets what a process has done; all of it where this process runs them all."""
        if rank is None:
            self.clear()
        else:
            self.state_path(rank).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the files of an unfinished run, and what killed ones have left."""
        with writing(self.output):
            name = glob.escape(self.part.name)
            partial = [*self.part.parent.glob(f".{name}.*"), self.next_manifest]
            for path in [*partial, *self._states(), self.part, self.whole]:
                path.unlink(missing_ok=True)
            for lock in self.part.parent.glob(f"{name}.*.lock"):
                free = locked(lock, self.output, patience=0)
                with contextlib.suppress(InUseError, FileNotFoundError), free:
                    pass  # nobody holds it, so its end removes it

    def _states(self) -> list[Path]:
        return list(self.part.parent.glob(f"{glob.escape(self.part.name)}.*-of-*"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            state = unseal_json(path.read_bytes(), _STATE, str(path))
        except FileNotFoundError:
            return None
        except ConfigError as error:
            raise CheckpointError(f"{error}; {self.start_over}") from error
        before, now = state["facts"], json.loads(json.dumps(self.facts))
        changed = [k for k in {**now, **before} if before.get(k) != now.get(k)]
        if changed:
            told = "; ".join(f"{k}: {before.get(k)!r} then, {now.get(k)!r} now" for k in changed)
            raise CheckpointError(
                f"an unfinished translation into {self.output} cannot be resumed, for it had "
                f"another {' and '.join(changed)} ({told}): put that back, or {self.start_over}"
            )
        return state


class Watch:
    """Ends a wait for processes that make no progress."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seen: list[int | None] | None = None
        self._since = time.monotonic()

    def look(self) -> int:
        """The rows that all processes have written.

        Raises:
            ProcessError: No process has written any for `job.timeout` seconds.
        """
        done = [self._job.done(rank) for rank in range(self._job.processes)]
        if done != self._seen:
            self._seen, self._since = done, time.monotonic()
        if time.monotonic() - self._since > self._job.timeout:
            raise ProcessError(
                f"the {self._job.processes} processes have noted no progress for "
                f"{self._job.timeout:g} seconds (rows written by each: {done}): start again, and "
                "all go on where they stood; a longer timeout can be given"
            )
        return sum(rows or 0 for rows in done)


def describe_translator(translator: Translator) -> dict[str, Any]:
    """Its type and parameters, repo and commit if it has them, and the hash of its map."""
    weights = to_files({}, translator.map_.state_dict())[WEIGHTS_NAME]
    return {
        "translator_type": translator.translator_type,
        "params": translator.params_,
        "repo_id": translator.repo_id,
        "commit": translator.commit,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
