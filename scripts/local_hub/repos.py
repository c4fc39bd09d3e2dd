"""Creating, deleting and configuring repos, their branches and their tags."""

import re
from typing import Any

from .access import check_namespace, find, readable, signed_in, visible, writable
from .errors import HubError
from .messages import Reply, Request, json_reply, page_reply
from .repository import Repo, Tree
from .store import Store
from .uploads import DEFAULT_ATTRIBUTES

_COMMITS_PER_PAGE = 50
_SPACE_CARD = """---
title: {name}
emoji: 🚀
colorFrom: blue
colorTo: green
sdk: {sdk}
app_file: app.py
---
"""


def create(store: Store, request: Request) -> Reply:
    """Creates a repo with its first commit."""
    wanted = request.json
    kind, repo_id = _kind(wanted), _repo_id(request)
    _check_name(wanted["name"])
    existing = store.repos.get(f"{kind}/{repo_id}")
    if existing is not None and visible(existing, request.user):
        url = f"{request.base_url}/{existing.web_path}"
        message = f"You already created this {existing.type} repo: {repo_id}"
        raise HubError(409, message, details={"url": url})
    user = check_namespace(request, repo_id.split("/")[0])
    repo = Repo(kind, repo_id, private=_private(wanted), sdk=wanted.get("sdk"))
    repo.commit("main", _first_tree(store, repo), "initial commit", user.name)
    store.add(repo)
    return json_reply({"url": f"{request.base_url}/{repo.web_path}", "name": repo_id})


def delete(store: Store, request: Request) -> Reply:
    """Deletes a repo."""
    repo = find(store, request, _kind(request.json), _repo_id(request))
    check_namespace(request, repo.namespace)
    store.remove(repo)
    return json_reply({})


def update_settings(store: Store, request: Request) -> Reply:
    """Makes a repo public, private or gated."""
    repo, wanted = writable(store, request), request.json
    repo.gated = wanted.get("gated", repo.gated)
    if "visibility" in wanted:
        repo.private = _private(wanted)
    return json_reply({})


def list_commits(store: Store, request: Request) -> Reply:
    """Lists a revision's commits, newest first."""
    repo = readable(store, request)
    commits = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.history(repo.at(request.args["revision"]))
    ]
    return page_reply(request, commits, _COMMITS_PER_PAGE)


def create_branch(store: Store, request: Request) -> Reply:
    """Creates a branch at a revision."""
    repo, branch = writable(store, request), request.args["branch"]
    if branch.startswith("refs/"):
        raise HubError(400, f"Invalid reference for a branch: {branch}")
    if branch in repo.branches and not request.json.get("overwrite"):
        raise HubError(409, f"Reference already exists: {branch}")
    repo.branches[branch] = repo.at(request.json.get("startingPoint") or "main").oid
    return json_reply({})


def delete_branch(store: Store, request: Request) -> Reply:
    """Deletes a branch other than main."""
    repo, branch = writable(store, request), request.args["branch"]
    if branch == "main":
        raise HubError(403, "Cannot delete the main branch")
    if repo.branches.pop(branch, None) is None:
        raise HubError(404, f"Reference does not exist: {branch}", code="RevisionNotFound")
    return json_reply({})


def create_tag(store: Store, request: Request) -> Reply:
    """Names a revision."""
    repo, tag = writable(store, request), request.json["tag"]
    if tag in repo.tags:
        raise HubError(409, f"Tag already exists: {tag}")
    repo.tags[tag] = repo.at(request.args["revision"]).oid
    return json_reply({})


def _kind(wanted: dict[str, Any]) -> str:
    kind = f"{wanted.get('type') or 'model'}s"
    if kind not in {"models", "datasets", "spaces"}:
        raise HubError(404, f"not implemented in the local Hub: repos of type {wanted['type']}")
    return kind


def _repo_id(request: Request) -> str:
    namespace = request.json.get("organization") or signed_in(request).name
    return f"{namespace}/{request.json['name']}"


def _private(wanted: dict[str, Any]) -> bool:
    return wanted.get("visibility") == "private"


def _check_name(name: str) -> None:
    legal = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9])?", name)
    if not legal or "--" in name or ".." in name:
        raise HubError(400, f"Invalid repo name: {name}")


def _first_tree(store: Store, repo: Repo) -> Tree:
    tree = {".gitattributes": store.blobs.add(DEFAULT_ATTRIBUTES.encode())}
    if repo.kind == "spaces":
        card = _SPACE_CARD.format(name=repo.id.split("/")[1], sdk=repo.sdk)
        tree["README.md"] = store.blobs.add(card.encode())
    return tree
