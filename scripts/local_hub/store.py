"""All repos of the Hub, kept in one folder that a restarted server reads again."""

import fcntl
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from .blobs import Blobs, Entry
from .repository import Commit, PullRequest, Repo


@dataclass(frozen=True)
class User:
    """The user of a token, and the organisations where that user may write."""

    name: str
    role: str = "write"  # or "read"
    orgs: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        """Whether the user may write repos of this namespace."""
        return namespace == self.name or namespace in self.orgs


class Store:
    """The repos, saved after each change; one process at a time may hold the folder.

    Attributes:
        page_size: Repos in a page of a list, where a client asks for no other number.
    """

    page_size = 1000

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._lock = _lock(root)
        self._state = root / "state.json"
        self._saved = ""
        self.blobs = Blobs(root)
        self.users: dict[str, User] = {}
        self.repos: dict[str, Repo] = {}
        if self._state.exists():
            self._load()

    def add(self, repo: Repo) -> None:
        """Adds a repo under its id."""
        self.repos[f"{repo.kind}/{repo.id}"] = repo

    def remove(self, repo: Repo) -> None:
        """Removes a repo; its blobs stay, since other repos may share them."""
        del self.repos[f"{repo.kind}/{repo.id}"]

    def in_other_case(self, key: str) -> Repo | None:
        """The repo whose id differs in case alone; the Hub has no two of them."""
        return next((repo for k, repo in self.repos.items() if k.lower() == key.lower()), None)

    def save(self) -> None:
        """Writes the state if it has changed: all of it or, if interrupted, none of it."""
        text = json.dumps({"repos": list(self.repos.values())}, default=vars)
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
        """Releases the folder for another process."""
        self._lock.close()

    def _load(self) -> None:
        self._saved = self._state.read_text()
        for content in json.loads(self._saved)["repos"]:
            self.add(_load_repo(content))


def _lock(root: Path) -> IO[str]:
    """Locks the folder until the file is closed or this process dies."""
    file = (root / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        message = f"{root} is in use by another local Hub: stop that one or choose another folder"
        raise RuntimeError(message) from None
    return file


def _load_repo(content: dict[str, Any]) -> Repo:
    known = {field.name for field in fields(Repo)}  # earlier versions wrote more of them
    kept = {name: value for name, value in content.items() if name in known}
    kept["commits"] = {oid: _load_commit(commit) for oid, commit in kept["commits"].items()}
    kept["pull_requests"] = [PullRequest(**each) for each in kept.get("pull_requests", [])]
    return Repo(**kept)


def _load_commit(content: dict[str, Any]) -> Commit:
    tree = {path: Entry(*entry) for path, entry in content.pop("tree").items()}
    return Commit(**content, tree=tree)
