"""What a translation run is asked to do, and how far each process of it has come."""

import glob
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import ResumeError
from hf_latent_bridge.files import WEIGHTS_NAME, read_config, to_files, write_atomic
from hf_latent_bridge.translation.sources import Place
from hf_latent_bridge.translators.base import Translator


@dataclass(frozen=True)
class Job:
    """One translation, the same in each of its processes.

    Attributes:
        translator: A fitted translator.
        place: What it reads.
        target: The file it makes.
        dtype: Floating dtype of the result, as NumPy spells it.
        rows: Rows in a block; ranges of processes and checkpoints lie between blocks, so that
            every run multiplies the same blocks and writes the same bytes.
        world: Number of processes.
        facts: What must not change between a run and its resumption.
    """

    translator: Translator
    place: Place
    target: Path
    dtype: str
    rows: int
    world: int
    facts: Mapping[str, Any]

    @property
    def part(self) -> Path:
        """The hidden file that grows to be the result."""
        return self.target.with_name(f".{self.target.name}.part")

    def state_path(self, rank: int) -> Path:
        """Where a process notes how far it has come."""
        return self.part.with_name(f"{self.part.name}.{rank}-of-{self.world}")

    def range_of(self, rank: int, n: int | None) -> tuple[int, int | None]:
        """First and last row (exclusive) of a process."""
        if n is None:
            return 0, None
        blocks = -(-n // self.rows)
        first, last = (blocks * r // self.world * self.rows for r in (rank, rank + 1))
        return min(first, n), min(last, n)

    def done(self, rank: int) -> int | None:
        """Rows of its range that a process has written; None if it has not begun.

        Raises:
            ResumeError: What is there belongs to another job; says what differs.
        """
        state = self._read(self.state_path(rank))
        return None if state is None or not self.part.exists() else int(state["done"])

    def is_done(self, rank: int, n: int | None) -> bool:
        """Whether a process has written all of its range; that of a stream is never waited for."""
        start, stop = self.range_of(rank, n)
        return stop is None or (self.done(rank) or 0) >= stop - start

    def note(self, rank: int, done: int) -> None:
        """Records, whole or not at all, that the first `done` rows of a range are written."""
        content = json.dumps({"facts": self.facts, "done": done})
        write_atomic(self.state_path(rank), content.encode())

    def check(self) -> None:
        """Looks at all that an earlier run has left.

        Raises:
            ResumeError: It belongs to another job.
        """
        for path in self._states():
            self._read(path)

    def clear(self) -> None:
        """Removes what a run leaves while it is not finished."""
        for path in [*self._states(), self.part]:
            path.unlink(missing_ok=True)

    def _states(self) -> list[Path]:
        return list(self.part.parent.glob(f"{glob.escape(self.part.name)}.*-of-*"))

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            state = read_config(path)
        except FileNotFoundError:
            return None
        before, now = state["facts"], json.loads(json.dumps(self.facts))
        changed = [k for k in now if before.get(k) != now[k]]
        if changed:
            told = "; ".join(f"{k}: {before.get(k)!r} then, {now[k]!r} now" for k in changed)
            raise ResumeError(
                f"an unfinished translation into {self.target} cannot be resumed, for it had "
                f"another {' and '.join(changed)} ({told}): put that back, or start over with "
                "resume=False (--restart)"
            )
        return state


def describe_translator(translator: Translator) -> dict[str, Any]:
    """Repo and commit where it has them, type and parameters, and the hash of its weights."""
    weights = to_files({}, translator.map_.state_dict())[WEIGHTS_NAME]
    return {
        "repo_id": translator.repo_id,
        "commit": translator.commit,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "translator_type": translator.translator_type,
        "params": translator.params_,
    }


def write_manifest(job: Job, source: Mapping[str, Any], shape: tuple[int, int]) -> None:
    """Writes `<output>.manifest.json`: what was made from what by which translator."""
    content = {
        "output": job.target.name,
        "rows": shape[0],
        "width": shape[1],
        "dtype": np.dtype(job.dtype).name,
        "source": dict(source),
        "translator": job.facts["translator"],
        "library_version": __version__,
    }
    path = job.target.with_name(f"{job.target.name}.manifest.json")
    write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())
