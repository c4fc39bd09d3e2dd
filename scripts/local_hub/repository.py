"""One repo as the Hub stores it: commits, branches, tags and pull requests."""

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .blobs import Entry
from .errors import HubError

Tree = dict[str, Entry]


def now() -> str:
    """The time, as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Commit:
    """A snapshot of all files, with its parent, title and author."""

    oid: str
    parent: str | None
    tree: Tree
    title: str
    message: str
    author: str
    date: str = field(default_factory=now)


@dataclass
class PullRequest:
    """A proposed commit, at the revision `refs/pr/<number>`."""

    author: str
    head: str


@dataclass
class Repo:
    """A model, dataset or Space repo."""

    kind: str  # as in URLs: models, datasets or spaces
    id: str
    private: bool = False
    gated: str | bool = False
    sdk: str | None = None
    created: str = field(default_factory=now)
    downloads: int = 0
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)

    @property
    def type(self) -> str:
        """Model, dataset or space."""
        return self.kind.removesuffix("s")

    @property
    def namespace(self) -> str:
        """The user or organisation that owns the repo."""
        return self.id.split("/")[0]

    @property
    def web_path(self) -> str:
        """The path of the repo's pages below the Hub's address."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    @property
    def main(self) -> Commit:
        """The newest commit of the main branch."""
        return self.at("main")

    def at(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request or (abbreviated) commit id names."""
        oid = self._resolve(revision)
        if oid is None:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def pull_request(self, revision: str) -> PullRequest | None:
        """The pull request at `refs/pr/7`; None for any other revision."""
        match = re.fullmatch(r"refs/pr/([1-9]\d*)", revision)
        number = int(match[1]) if match else 0
        return self.pull_requests[number - 1] if 0 < number <= len(self.pull_requests) else None

    def propose(self, author: str) -> str:
        """Opens a pull request from the head of main; returns its revision."""
        self.pull_requests.append(PullRequest(author, self.main.oid))
        return f"refs/pr/{len(self.pull_requests)}"

    def commit(self, ref: str, tree: Tree, title: str, author: str, message: str = "") -> Commit:
        """Adds a commit, and moves a branch or pull request to it."""
        parent = self._resolve(ref)
        seed = json.dumps([sorted(tree.items()), parent, title, author, time.time_ns()])
        oid = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, tree, title, message, author)
        if pull_request := self.pull_request(ref):
            pull_request.head = oid
        else:
            self.branches[ref] = oid
        return self.commits[oid]

    def history(self, commit: Commit) -> list[Commit]:
        """The commit and its ancestors, newest first."""
        commits = [commit]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def _resolve(self, revision: str) -> str | None:
        if pull_request := self.pull_request(revision):
            return pull_request.head
        branch = revision.removeprefix("refs/heads/")
        tag = revision.removeprefix("refs/tags/")
        if oid := self.branches.get(branch) or self.tags.get(tag):
            return oid
        hits = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        return hits[0] if len(hits) == 1 else None
