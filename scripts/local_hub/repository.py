"""What the Hub knows about one repo: commits, refs, discussions and who may read it."""

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .blobs import Entry
from .errors import HubError

Tree = dict[str, Entry]


def now() -> str:
    """The time, as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Commit:
    """A snapshot of all files, and how it came about."""

    oid: str
    parent: str | None
    tree: Tree
    title: str
    message: str
    author: str
    date: str = field(default_factory=now)


@dataclass
class Discussion:
    """A discussion; a pull request if it has a `head` commit."""

    num: int
    title: str
    author: str
    status: str
    base: str
    head: str | None = None
    merge_commit: str | None = None
    created: str = field(default_factory=now)
    events: list[dict[str, Any]] = field(default_factory=list)

    def record(self, kind: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
        """Append an event and return it."""
        event = {
            "id": secrets.token_hex(12),
            "type": kind,
            "createdAt": now(),
            "author": {"name": author},
            "data": data,
        }
        self.events.append(event)
        return event

    def comment(self, author: str, text: str) -> dict[str, Any]:
        """Append a comment and return its event."""
        latest = {"raw": text, "updatedAt": now(), "author": {"name": author}}
        return self.record("comment", author, {"edited": False, "hidden": False, "latest": latest})


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
    discussions: list[Discussion] = field(default_factory=list)
    access: dict[str, str] = field(default_factory=dict)  # user -> pending, accepted or rejected

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
        """Where the repo's pages are, below the Hub's address."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    @property
    def main(self) -> Commit:
        """The newest commit of the main branch."""
        return self.at("main")

    def discussion(self, num: int) -> Discussion:
        """The discussion or pull request with this number."""
        if not 1 <= num <= len(self.discussions):
            raise HubError(404, f"{self.id} has no discussion {num}")
        return self.discussions[num - 1]

    def at(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request or (abbreviated) commit id names."""
        oid = self._resolve(revision)
        if oid is None:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[oid]

    def _resolve(self, revision: str) -> str | None:
        if number := pull_request_number(revision):
            heads = {each.num: each.head for each in self.discussions}
            return heads.get(number)
        branch = revision.removeprefix("refs/heads/")
        tag = revision.removeprefix("refs/tags/")
        if oid := self.branches.get(branch) or self.tags.get(tag):
            return oid
        hits = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        return hits[0] if len(hits) == 1 else None

    def commit(
        self,
        ref: str,
        tree: Tree,
        title: str,
        author: str,
        *,
        message: str = "",
        root: bool = False,
    ) -> Commit:
        """Add a commit and move a branch or pull request to it; `root` starts a new history."""
        number = pull_request_number(ref)
        head = self._resolve(ref)
        parent = None if root else head
        seed = json.dumps([sorted(tree.items()), parent, title, author, time.time_ns()])
        oid = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, tree, title, message, author)
        if number:
            discussion = self.discussion(number)
            discussion.head = oid
            discussion.record("commit", author, {"subject": title, "oid": oid})
        else:
            self.branches[ref] = oid
        return self.commits[oid]

    def history(self, commit: Commit) -> list[Commit]:
        """The commit and its ancestors, newest first."""
        commits = [commit]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def open_discussion(
        self, title: str, text: str, author: str, *, pull_request: bool, draft: bool = False
    ) -> Discussion:
        """Start a discussion, or a pull request from the head of main."""
        base = self.main.oid
        discussion = Discussion(
            num=len(self.discussions) + 1,
            title=title,
            author=author,
            status="draft" if draft else "open",
            base=base,
            head=base if pull_request else None,
        )
        discussion.comment(author, text)
        self.discussions.append(discussion)
        return discussion


def pull_request_number(revision: str) -> int | None:
    """The number in `refs/pr/7`, or None for any other revision."""
    match = re.fullmatch(r"refs/pr/([1-9]\d*)", revision)
    return int(match[1]) if match else None
