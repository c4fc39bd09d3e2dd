"""Describing repos and searching for them."""

from typing import Any

from . import cards
from .access import readable, visible
from .blobs import Blobs
from .errors import HubError
from .messages import Reply, Request, json_reply, page_reply
from .repository import Commit, Repo
from .store import Store

_SEARCHABLE = {"author", "filter", "gated", "pipeline_tag", "search"}
_DISPLAY = {"cardData", "config", "cursor", "direction", "expand", "full", "limit", "sort"}
_ONLY_IN_FULL = {"cardData", "model-index", "siblings", "usedStorage"}


def repo_info(store: Store, request: Request) -> Reply:
    """Describes one repo at a revision."""
    repo = readable(store, request)
    commit = repo.at(request.args.get("revision") or "main")
    info = describe(store.blobs, repo, commit, file_sizes=request.flag("blobs"))
    return json_reply(_only(info, request.query.get("expand")))


def list_repos(store: Store, request: Request) -> Reply:
    """Lists the repos that fit the query."""
    if unknown := set(request.query) - _SEARCHABLE - _DISPLAY:
        message = f"not implemented in the local Hub: {request.path} with {sorted(unknown)}"
        raise HubError(404, message)
    kind = request.args["kind"]
    repos = [r for r in store.repos.values() if r.kind == kind and visible(r, request.user)]
    infos = [describe(store.blobs, repo, repo.main) for repo in repos]
    infos = [info for info in infos if _matches(info, request)]
    order = request.option("sort")
    infos.sort(key=lambda info: info.get(order, info["lastModified"]), reverse=True)
    size = int(request.option("limit", str(store.page_size)))
    return page_reply(request, [_shown(info, request) for info in infos], size)


def _shown(info: dict[str, Any], request: Request) -> dict[str, Any]:
    if expand := request.query.get("expand"):
        return _only(info, expand)
    if any(request.flag(name) for name in ("full", "cardData", "config")):
        return info
    return {key: value for key, value in info.items() if key not in _ONLY_IN_FULL}


def describe(
    blobs: Blobs, repo: Repo, commit: Commit, *, file_sizes: bool = False
) -> dict[str, Any]:
    """Everything the Hub says about a repo."""
    card = cards.metadata(blobs, commit)
    info = {
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "createdAt": repo.created,
        "lastModified": commit.date,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": repo.downloads,
        "likes": 0,
        "tags": cards.tags(repo, commit, card),
        "cardData": card or None,
        "siblings": _siblings(commit, file_sizes),
        "usedStorage": sum(entry.size for entry in commit.tree.values()),
    }
    if repo.kind == "models":
        info |= {key: card.get(key) for key in ("pipeline_tag", "library_name", "model-index")}
    if repo.kind == "spaces":
        info |= {"sdk": repo.sdk, "subdomain": repo.id.replace("/", "-")}
    return info


def _siblings(commit: Commit, file_sizes: bool) -> list[dict[str, Any]]:
    if not file_sizes:
        return [{"rfilename": path} for path in sorted(commit.tree)]
    siblings = []
    for path, entry in sorted(commit.tree.items()):
        sibling: dict[str, Any] = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            sibling["lfs"] = {"sha256": entry.sha256, "pointerSize": entry.pointer_size}
            sibling["lfs"]["size"] = entry.size
        siblings.append(sibling)
    return siblings


def _only(info: dict[str, Any], fields: list[str] | None) -> dict[str, Any]:
    if fields is None:
        return info
    return {key: value for key, value in info.items() if key == "id" or key in fields}


def _matches(info: dict[str, Any], request: Request) -> bool:
    tags = info["tags"]
    wanted = [tag for value in request.query.get("filter", []) for tag in value.split(",")]
    wanted += request.query.get("pipeline_tag", [])
    if "gated" in request.query and bool(info["gated"]) != request.flag("gated"):
        return False
    return (
        all(tag in tags for tag in wanted)
        and request.option("author", info["author"]).lower() == info["author"].lower()
        and request.option("search").lower() in info["id"].lower()
    )
