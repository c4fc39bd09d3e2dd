"""Which handler answers which request."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from . import access, cards, discussions, files, info, repos, revisions, uploads
from .errors import HubError
from .messages import Reply, Request
from .store import Store

Handler = Callable[[Store, Request], Reply]


def no_content(store: Store, request: Request) -> Reply:
    """Take note of nothing."""
    return Reply(204)


def no_xet(store: Store, request: Request) -> Reply:
    """Say how to do without Xet."""
    raise HubError(404, "The local Hub has no Xet storage: set HF_HUB_DISABLE_XET=1")


def no_such_repo(store: Store, request: Request) -> Reply:
    """Answer for repos without a namespace, of which there are none."""
    raise access.repo_not_found(request)


_ALL = "/api/(?P<kind>models|datasets|spaces)"
_REPO = "(?P<repo>[^/]+/[^/]+)"
_API = f"{_ALL}/{_REPO}"
_AT = "(?P<revision>[^/]+)"
_WEB = f"/((?P<kind>datasets|spaces)/)?{_REPO}"
_DISCUSSION = rf"{_API}/discussions/(?P<num>\d+)"
_LFS = "/_lfs/(?P<sha256>[0-9a-f]{64})"

_TABLE: list[tuple[str, str, Handler]] = [
    ("GET", "/api/whoami-v2", access.whoami),
    ("POST", "/api/validate-yaml", cards.validate_yaml),
    ("GET", "/api/telemetry/.*", no_content),
    ("POST", "/api/repos/create", repos.create),
    ("DELETE", "/api/repos/delete", repos.delete),
    ("POST", "/api/repos/move", repos.move),
    ("GET", _ALL, info.list_repos),
    ("GET", f"{_ALL}/[^/]+", no_such_repo),
    ("GET", _API, info.repo_info),
    ("GET", f"{_API}/revision/{_AT}", info.repo_info),
    ("PUT", f"{_API}/settings", repos.update_settings),
    ("GET", f"{_API}/auth-check", access.auth_check),
    ("GET", f"{_API}/auth-check/write", access.auth_check_write),
    ("POST", f"{_API}/user-access-request/grant", access.grant_access),
    ("POST", f"{_API}/user-access-request/handle", access.handle_access),
    ("GET", f"{_API}/user-access-request/(?P<status>[^/]+)", access.list_access),
    ("GET", f"{_API}/tree/{_AT}(/(?P<path>.*))?", files.tree),
    ("POST", f"{_API}/paths-info/{_AT}", files.paths_info),
    ("GET", f"{_API}/refs", revisions.list_refs),
    ("GET", f"{_API}/commits/{_AT}", revisions.list_commits),
    ("POST", f"{_API}/branch/(?P<branch>.+)", revisions.create_branch),
    ("DELETE", f"{_API}/branch/(?P<branch>.+)", revisions.delete_branch),
    ("POST", f"{_API}/tag/{_AT}", revisions.create_tag),
    ("DELETE", f"{_API}/tag/{_AT}", revisions.delete_tag),
    ("POST", f"{_API}/super-squash/{_AT}", revisions.super_squash),
    ("POST", f"{_API}/preupload/{_AT}", uploads.preupload),
    ("POST", f"{_API}/commit/{_AT}", uploads.commit),
    ("GET", f"{_API}/xet-(read|write)-token/.*", no_xet),
    ("GET", f"{_API}/discussions", discussions.list_discussions),
    ("POST", f"{_API}/discussions", discussions.start),
    ("GET", _DISCUSSION, discussions.details),
    ("POST", f"{_DISCUSSION}/comment", discussions.comment),
    ("POST", f"{_DISCUSSION}/title", discussions.change_title),
    ("POST", f"{_DISCUSSION}/status", discussions.change_status),
    ("POST", f"{_DISCUSSION}/merge", discussions.merge),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", uploads.lfs_batch),
    ("PUT", _LFS, uploads.receive_lfs),
    ("POST", f"{_LFS}/verify", uploads.verify_lfs),
    ("GET", _LFS, files.download_lfs),
    ("POST", f"{_WEB}/ask-access", access.ask_access),
    ("GET", f"{_WEB}/resolve/{_AT}/(?P<path>.+)", files.resolve),
    ("GET", f"/[^/]+/resolve/{_AT}/.+", no_such_repo),
]
_ROUTES = [(method, re.compile(pattern), handler) for method, pattern, handler in _TABLE]


def dispatch(store: Store, request: Request) -> Reply:
    """Answer a request, and save what it changed."""
    request.user = access.authenticate(store, request)
    asked = "GET" if request.method == "HEAD" else request.method
    for method, pattern, handler in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and method == asked:
            request.args = {name: unquote(text or "") for name, text in match.groupdict().items()}
            reply = handler(store, request)
            if asked != "GET":
                store.save()
            return reply
    message = f"not implemented in the local Hub: {request.method} {request.path}"
    raise HubError(404, message)
