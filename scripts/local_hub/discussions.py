"""Discussions and pull requests."""

from typing import Any

from .access import contributor, readable, signed_in, writable
from .errors import HubError
from .messages import Reply, Request, json_reply
from .repository import Discussion, Repo
from .store import Store


def list_discussions(store: Store, request: Request) -> Reply:
    """List discussions and pull requests, newest first."""
    repo = readable(store, request)
    found = [_describe(repo, each) for each in reversed(repo.discussions) if _fits(each, request)]
    return json_reply({"count": len(found), "start": 0, "discussions": found})


def start(store: Store, request: Request) -> Reply:
    """Start a discussion, or a pull request as a draft."""
    repo, user, wanted = readable(store, request), contributor(request), request.json
    pull_request = bool(wanted.get("pullRequest"))
    discussion = repo.open_discussion(
        wanted["title"],
        wanted["description"],
        user.name,
        pull_request=pull_request,
        draft=pull_request,
    )
    url = f"{request.base_url}/{repo.web_path}/discussions/{discussion.num}"
    return json_reply({"num": discussion.num, "url": url})


def details(store: Store, request: Request) -> Reply:
    """Describe a discussion with all its events."""
    repo = readable(store, request)
    return json_reply(_describe(repo, repo.discussion(int(request.args["num"]))))


def comment(store: Store, request: Request) -> Reply:
    """Add a comment."""
    user, discussion = contributor(request), _discussion(store, request)
    return json_reply({"newMessage": discussion.comment(user.name, request.json["comment"])})


def change_title(store: Store, request: Request) -> Reply:
    """Change the title."""
    user, discussion = signed_in(request), _editable(store, request)
    title = request.json["title"]
    event = discussion.record("title-change", user.name, {"from": discussion.title, "to": title})
    discussion.title = title
    return json_reply({"newTitle": event})


def change_status(store: Store, request: Request) -> Reply:
    """Open or close."""
    user, discussion = signed_in(request), _editable(store, request)
    return json_reply({"newStatus": _set_status(discussion, user.name, request.json["status"])})


def merge(store: Store, request: Request) -> Reply:
    """Merge a pull request into main."""
    repo, user = writable(store, request), signed_in(request)
    discussion = _discussion(store, request)
    if discussion.head is None or discussion.status != "open":
        raise HubError(400, f"{discussion.num} is {discussion.status}, not an open pull request")
    if conflicts := _conflicts(repo, discussion):
        raise HubError(409, f"Cannot merge: both sides changed {conflicts}")
    proposed, tree = repo.commits[discussion.head].tree, dict(repo.main.tree)
    for path in _changes(repo, discussion):
        if path in proposed:
            tree[path] = proposed[path]
        else:
            tree.pop(path, None)
    title = f"{discussion.title} (#{discussion.num})"
    discussion.merge_commit = repo.commit("main", tree, title, user.name).oid
    _set_status(discussion, user.name, "merged")
    return json_reply({})


def _discussion(store: Store, request: Request) -> Discussion:
    return readable(store, request).discussion(int(request.args["num"]))


def _editable(store: Store, request: Request) -> Discussion:
    """The discussion, if it is the user's own or in a repo of theirs."""
    discussion = _discussion(store, request)
    if discussion.author != contributor(request).name:
        writable(store, request)
    return discussion


def _set_status(discussion: Discussion, author: str, status: str) -> dict[str, Any]:
    discussion.status = status
    return discussion.record("status-change", author, {"status": status})


def _describe(repo: Repo, discussion: Discussion) -> dict[str, Any]:
    described = {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.created,
        "status": discussion.status,
        "isPullRequest": discussion.head is not None,
        "repo": {"name": repo.id, "type": repo.type},
        "events": discussion.events,
    }
    if discussion.head is not None:
        described["changes"] = {
            "base": "refs/heads/main",
            "mergeCommitId": discussion.merge_commit,
        }
        described["filesWithConflicts"] = _conflicts(repo, discussion)
        described["diff"] = ""
    return described


def _fits(discussion: Discussion, request: Request) -> bool:
    kind = "pull_request" if discussion.head is not None else "discussion"
    status = "open" if discussion.status in {"open", "draft"} else "closed"
    return (
        request.option("type", "all") in {"all", kind}
        and request.option("status", "all") in {"all", status}
        and request.option("author", discussion.author) == discussion.author
    )


def _changes(repo: Repo, discussion: Discussion) -> list[str]:
    """The paths that a pull request changes."""
    base = repo.commits[discussion.base].tree
    head = repo.commits[discussion.head or discussion.base].tree
    return sorted(path for path in base.keys() | head.keys() if base.get(path) != head.get(path))


def _conflicts(repo: Repo, discussion: Discussion) -> list[str]:
    """The paths that a pull request and main have changed differently since it began."""
    if discussion.merge_commit:
        return []
    base = repo.commits[discussion.base].tree
    head = repo.commits[discussion.head or discussion.base].tree
    main = repo.main.tree
    return [
        path
        for path in _changes(repo, discussion)
        if main.get(path) not in (base.get(path), head.get(path))
    ]
