"""Uploading files and committing them."""

import base64
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from . import cards
from .access import check_namespace, contributor, readable, signed_in
from .blobs import Blobs, Entry
from .errors import HubError
from .messages import Reply, Request, json_reply
from .repository import Repo, Tree
from .store import Store

_LFS_PATTERNS = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.gz *.h5 *.joblib *.model *.msgpack *.npy *.npz *.onnx *.pb "
    "*.parquet *.pickle *.pkl *.pt *.pth *.safetensors *.tar *.tgz *.zip *.zst "
    "*.jpg *.jpeg *.png *.mp3 *.wav"
)
DEFAULT_ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS.split()
)
_MAX_REGULAR_SIZE = 10 * 1024 * 1024


def preupload(store: Store, request: Request) -> Reply:
    """Says for each file whether it goes to LFS, and whether it is to be left out."""
    repo = _committable(store, request)
    committed = repo.at(request.args["revision"]).tree
    attributes = _text(store.blobs, committed.get(".gitattributes"))
    ignored = request.json.get("gitIgnore") or _text(store.blobs, committed.get(".gitignore"))
    answers = []
    for file in request.json["files"]:
        path = file["path"]
        lfs = file["size"] > _MAX_REGULAR_SIZE or _lfs_by_name(attributes, path)
        answer = {"path": path, "uploadMode": "lfs" if lfs else "regular"}
        answer["shouldIgnore"] = any(_matches(path, line) for line in _lines(ignored))
        if path in committed:
            answer["oid"] = committed[path].content
        answers.append(answer)
    return json_reply({"files": answers})


def lfs_batch(store: Store, request: Request) -> Reply:
    """Says where to upload the LFS files that are not here yet."""
    contributor(request)
    readable(store, request)
    if request.json["operation"] != "upload":
        raise HubError(404, "not implemented in the local Hub: LFS batch download")
    answers = []
    for wanted in request.json["objects"]:
        sha256 = wanted["oid"]
        answer = {"oid": sha256, "size": wanted["size"], "authenticated": True}
        if store.blobs.lfs_entry(sha256) is None:
            upload = {"href": f"{request.files_url}/_lfs/{sha256}", "header": {}}
            verify = {"href": f"{request.base_url}/_lfs/{sha256}/verify", "header": {}}
            answer["actions"] = {"upload": upload, "verify": verify}
        answers.append(answer)
    content_type = {"Content-Type": "application/vnd.git-lfs+json"}
    return json_reply({"transfer": "basic", "objects": answers}, content_type)


def receive_lfs(store: Store, request: Request) -> Reply:
    """Keeps an LFS file if its content has the hash in its name."""
    sha256, upload = request.args["sha256"], request.upload
    if upload is None or upload.sha256 != sha256:
        raise HubError(400, f"The content does not have the SHA-256 {sha256}")
    upload.move_to(store.blobs.path(sha256))
    return Reply()


def verify_lfs(store: Store, request: Request) -> Reply:
    """Confirms that an LFS file has arrived."""
    entry = store.blobs.lfs_entry(request.args["sha256"])
    if entry is None or entry.size != request.json["size"]:
        raise HubError(404, f"No LFS object {request.args['sha256']}")
    return json_reply({})


def commit(store: Store, request: Request) -> Reply:
    """Makes a commit on a branch, on a pull request or as a new pull request."""
    repo, revision = _committable(store, request), request.args["revision"]
    user, head = signed_in(request), repo.at(revision)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if not head.oid.startswith(header.get("parentCommit") or ""):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    tree = dict(head.tree)
    for line in lines:
        _apply(store.blobs, tree, line["key"], line["value"])
    title, message = header["summary"], header.get("description") or ""
    reply: dict[str, Any] = {"success": True}
    if request.flag("create_pr"):
        revision = repo.propose(user.name)
        number = len(repo.pull_requests)
        reply["pullRequestUrl"] = f"{request.base_url}/{repo.web_path}/discussions/{number}"
    made = repo.commit(revision, tree, title, user.name, message)
    reply["commitOid"] = made.oid
    reply["commitUrl"] = f"{request.base_url}/{repo.web_path}/commit/{made.oid}"
    return json_reply(reply)


def _committable(store: Store, request: Request) -> Repo:
    """The repo, if the user may commit there or propose to."""
    repo, user = readable(store, request), contributor(request)
    revision = request.args["revision"]
    pull_request = repo.pull_request(revision)
    if request.flag("create_pr") or (pull_request and pull_request.author == user.name):
        return repo
    check_namespace(request, repo.namespace)
    if repo.at(revision) and pull_request is None and revision not in repo.branches:
        raise HubError(400, f"Cannot commit to {revision}: it is not a branch")
    return repo


def _apply(blobs: Blobs, tree: Tree, operation: str, value: dict[str, Any]) -> None:
    match operation:
        case "header":
            pass
        case "file":
            tree[value["path"]] = _regular_file(blobs, value)
        case "lfsFile":
            tree[value["path"]] = _lfs_file(blobs, value["oid"])
        case "deletedFile":
            _delete(tree, [path for path in tree if path == value["path"]])
        case "deletedFolder":
            folder = value["path"].strip("/")
            _delete(tree, [path for path in tree if not folder or path.startswith(f"{folder}/")])
        case _:
            raise HubError(404, f"not implemented in the local Hub: commit with {operation}")


def _regular_file(blobs: Blobs, value: dict[str, Any]) -> Entry:
    content = value["content"]
    data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
    if value["path"] == "README.md":
        cards.check_header(data.decode("utf-8", "replace"))
    return blobs.add(data)


def _lfs_file(blobs: Blobs, sha256: str) -> Entry:
    entry = blobs.lfs_entry(sha256)
    if entry is None:
        raise HubError(404, f"LFS object {sha256} was not uploaded")
    return entry


def _delete(tree: Tree, paths: list[str]) -> None:
    if not paths:
        message = "A file or folder with this name doesn't exist"
        raise HubError(404, message, code="EntryNotFound")
    for path in paths:
        del tree[path]


def _text(blobs: Blobs, entry: Entry | None) -> str:
    return blobs.read(entry).decode() if entry else ""


def _lines(text: str) -> Iterator[str]:
    """The lines of a .gitignore or .gitattributes, without comments and blank lines."""
    return (line.strip() for line in text.splitlines() if line.strip() and line[0] != "#")


def _lfs_by_name(attributes: str, path: str) -> bool:
    rules = [line.split() for line in _lines(attributes)]
    fitting = [settings for pattern, *settings in rules if _matches(path, pattern)]
    return bool(fitting) and "filter=lfs" in fitting[-1]


def _matches(path: str, pattern: str) -> bool:
    """Whether a git pattern matches a path; a folder's pattern matches everything below it."""
    name = path if "/" in pattern.rstrip("/") else path.rsplit("/", 1)[-1]
    pattern = pattern.replace("**/", "*").strip("/")
    return fnmatch(name, pattern) or fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*")
