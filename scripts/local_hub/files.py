"""Listing and downloading files."""

import hashlib
from typing import Any
from urllib.parse import parse_qs

from .access import downloadable, readable
from .errors import HubError
from .messages import Reply, Request, file_reply, json_reply, page_reply
from .repository import Commit
from .store import Store


def tree(store: Store, request: Request) -> Reply:
    """Lists a folder's files and folders, or everything below it."""
    repo, folder = readable(store, request), (request.args.get("path") or "").strip("/")
    commit = repo.at(request.args["revision"])
    prefix = f"{folder}/" if folder else ""
    below = sorted(path for path in commit.tree if path.startswith(prefix))
    if folder and not below:
        raise HubError(404, f"{folder} does not exist on {commit.oid}", code="EntryNotFound")
    paths = below + sorted({parent for path in below for parent in _parents(path, prefix)})
    if not request.flag("recursive"):
        paths = [path for path in paths if "/" not in path.removeprefix(prefix)]
    nodes = [_node(commit, path) for path in paths]
    return page_reply(request, nodes, int(request.option("limit", "1000")))


def paths_info(store: Store, request: Request) -> Reply:
    """Describes the files and folders of a list, leaving out those that do not exist."""
    repo = readable(store, request)
    commit = repo.at(request.args["revision"])
    form = parse_qs(request.body.decode())
    paths = [path.strip("/") for path in form.get("paths", [])]
    folders = {parent for path in commit.tree for parent in _parents(path, "")}
    found = [path for path in paths if path in commit.tree or path in folders]
    return json_reply([_node(commit, path) for path in found])


def resolve(store: Store, request: Request) -> Reply:
    """Hands out a file: a regular one directly, an LFS file by its address elsewhere."""
    repo, path = downloadable(store, request), request.args["path"]
    revision = request.args["revision"]
    commit = repo.at(revision)
    headers = {"X-Repo-Commit": commit.oid}
    entry = commit.tree.get(path)
    if entry is None:
        raise HubError(404, "Entry not found", code="EntryNotFound", headers=headers)
    if request.method == "GET" and path == "config.json":
        repo.downloads += 1  # reaches the disk with the next change
    if entry.sha256 is None:
        headers |= {"ETag": f'"{entry.oid}"', "Content-Type": "text/plain; charset=utf-8"}
        return file_reply(request, store.blobs.path(entry.oid), headers)
    headers |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": f'"{entry.sha256}"'}
    return Reply(302, {**headers, "Location": f"{request.files_url}/_lfs/{entry.sha256}"})


def download_lfs(store: Store, request: Request) -> Reply:
    """Sends the content of an LFS file."""
    sha256 = request.args["sha256"]
    path = store.blobs.path(sha256)
    if not path.exists():
        raise HubError(404, f"No LFS object {sha256}")
    headers = {"ETag": f'"{sha256}"', "Content-Type": "application/octet-stream"}
    return file_reply(request, path, headers)


def _parents(path: str, prefix: str) -> list[str]:
    names = path.removeprefix(prefix).split("/")[:-1]
    return [prefix + "/".join(names[: i + 1]) for i in range(len(names))]


def _node(commit: Commit, path: str) -> dict[str, Any]:
    entry = commit.tree.get(path)
    if entry is None:
        oid = hashlib.sha1(f"{commit.oid} {path}".encode()).hexdigest()
        return {"type": "directory", "oid": oid, "size": 0, "path": path}
    node: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.sha256:
        node["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return node
