"""Everything that the Hub remembers, kept in one folder that a restarted server picks up."""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .blobs import Blobs, Entry
from .repository import Commit, Discussion, Repo


@dataclass(frozen=True)
class User:
    """Who a token stands for, and the organisations where that user may write."""

    name: str
    role: str = "write"  # or "read"
    orgs: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        """Whether repos of this namespace are the user's own."""
        return namespace == self.name or namespace in self.orgs


class Store:
    """The repos, saved after each change; one process at a time may hold the folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._lock = _lock(root)
        self._state = root / "state.json"
        self._saved = ""
        self.blobs = Blobs(root)
        self.users: dict[str, User] = {}
        self.repos: dict[str, Repo] = {}
        self.moved: dict[str, str] = {}
        if self._state.exists():
            self._load()

    def repo(self, kind: str, repo_id: str) -> Repo | None:
        """The repo with this id, also if it has moved from there."""
        key = f"{kind}/{repo_id}"
        while key in self.moved:
            key = self.moved[key]
        return self.repos.get(key)

    def add(self, repo: Repo) -> None:
        """Make a repo known under its id."""
        key = f"{repo.kind}/{repo.id}"
        self.moved.pop(key, None)
        self.repos[key] = repo

    def remove(self, repo: Repo) -> None:
        """Forget a repo; its blobs stay, since other repos may share them."""
        del self.repos[f"{repo.kind}/{repo.id}"]

    def move(self, repo: Repo, new_id: str) -> None:
        """Give a repo another id; the old one leads to it."""
        self.remove(repo)
        self.moved[f"{repo.kind}/{repo.id}"] = f"{repo.kind}/{new_id}"
        repo.id = new_id
        self.add(repo)

    def save(self) -> None:
        """Write the state if it has changed: all of it or, if interrupted, none of it."""
        state = {"repos": list(self.repos.values()), "moved": self.moved}
        text = json.dumps(state, default=vars)
        if text == self._saved:
            return
        unfinished = self._state.with_suffix(".tmp")
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self._state)
        self._saved = text

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def _load(self) -> None:
        self._saved = self._state.read_text()
        state = json.loads(self._saved)
        self.moved = state["moved"]
        for fields in state["repos"]:
            self.add(_load_repo(fields))


def _lock(root: Path) -> IO[str]:
    """Take the folder for this process; the lock goes when the file is closed or we die."""
    file = (root / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        message = f"{root} is in use by another local Hub: stop that one or choose another folder"
        raise RuntimeError(message) from None
    return file


def _load_repo(fields: dict[str, Any]) -> Repo:
    commits = {oid: _load_commit(commit) for oid, commit in fields.pop("commits").items()}
    discussions = [Discussion(**discussion) for discussion in fields.pop("discussions")]
    return Repo(**fields, commits=commits, discussions=discussions)


def _load_commit(fields: dict[str, Any]) -> Commit:
    tree = {path: Entry(*entry) for path, entry in fields.pop("tree").items()}
    return Commit(**fields, tree=tree)
