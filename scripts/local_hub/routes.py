"""Which handler answers which request."""

import re
from collections.abc import Callable
from urllib.parse import unquote

from . import access, cards, files, info, repos, uploads
from .errors import HubError
from .messages import Reply, Request
from .store import Store

Handler = Callable[[Store, Request], Reply]


def no_content(store: Store, request: Request) -> Reply:
    """Accepts telemetry and drops it."""
    return Reply(204)


def no_xet(store: Store, request: Request) -> Reply:
    """Says how to do without Xet."""
    raise HubError(404, "The local Hub has no Xet storage: set HF_HUB_DISABLE_XET=1")


def no_such_repo(store: Store, request: Request) -> Reply:
    """Answers for repos without a namespace, such as "gpt2": there are none."""
    raise access.repo_not_found(request)


_ALL = "/api/(?P<kind>models|datasets|spaces)"
_REPO = "(?P<repo>[^/]+/[^/]+)"
_API = f"{_ALL}/{_REPO}"
_AT = "(?P<revision>[^/]+)"
_WEB = f"/((?P<kind>datasets|spaces)/)?{_REPO}"
_LFS = "/_lfs/(?P<sha256>[0-9a-f]{64})"

_TABLE: list[tuple[str, str, Handler]] = [
    ("GET", "/api/whoami-v2", access.whoami),
    ("POST", "/api/validate-yaml", cards.validate_yaml),
    ("GET", "/api/telemetry/.*", no_content),
    ("POST", "/api/repos/create", repos.create),
    ("DELETE", "/api/repos/delete", repos.delete),
    ("GET", _ALL, info.list_repos),
    ("GET", f"{_ALL}/[^/]+", no_such_repo),
    ("GET", _API, info.repo_info),
    ("GET", f"{_API}/revision/{_AT}", info.repo_info),
    ("PUT", f"{_API}/settings", repos.update_settings),
    ("GET", f"{_API}/tree/{_AT}(/(?P<path>.*))?", files.tree),
    ("POST", f"{_API}/paths-info/{_AT}", files.paths_info),
    ("GET", f"{_API}/commits/{_AT}", repos.list_commits),
    ("POST", f"{_API}/branch/(?P<branch>.+)", repos.create_branch),
    ("DELETE", f"{_API}/branch/(?P<branch>.+)", repos.delete_branch),
    ("POST", f"{_API}/tag/{_AT}", repos.create_tag),
    ("POST", f"{_API}/preupload/{_AT}", uploads.preupload),
    ("POST", f"{_API}/commit/{_AT}", uploads.commit),
    ("GET", f"{_API}/xet-(read|write)-token/.*", no_xet),
    ("POST", rf"{_WEB}\.git/info/lfs/objects/batch", uploads.lfs_batch),
    ("PUT", _LFS, uploads.receive_lfs),
    ("POST", f"{_LFS}/verify", uploads.verify_lfs),
    ("GET", _LFS, files.download_lfs),
    ("GET", f"{_WEB}/resolve/{_AT}/(?P<path>.+)", files.resolve),
    ("GET", f"/[^/]+/resolve/{_AT}/.+", no_such_repo),
]
_ROUTES = [(method, re.compile(pattern), handler) for method, pattern, handler in _TABLE]


def dispatch(store: Store, request: Request) -> Reply:
    """Answers a request, and saves the changes."""
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
