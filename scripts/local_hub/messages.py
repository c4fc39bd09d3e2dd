"""Requests and replies as the handlers see them, free of sockets."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .blobs import Upload
from .errors import HubError
from .store import User


@dataclass
class Request:
    """An HTTP request; `args` are the named parts of the route that matched its path."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    upload: Upload | None = None
    user: User | None = None
    args: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> dict[str, Any]:
        """The body, decoded."""
        return dict(json.loads(self.body)) if self.body else {}

    @property
    def base_url(self) -> str:
        """The address under which the client knows this server."""
        return f"http://{self.headers['host']}"

    @property
    def files_url(self) -> str:
        """The same server under another host name, in place of the Hub's content network.

        The client must not send its token there, and must not look there for repo headers.
        """
        name, _, port = self.headers["host"].partition(":")
        return f"http://{'127.0.0.1' if name == 'localhost' else 'localhost'}:{port}"

    def option(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set to a true value."""
        return self.option(name).lower() in {"1", "true"}


@dataclass
class FileRange:
    """Bytes of a file on disk, to be sent piece by piece."""

    path: Path
    start: int
    length: int


@dataclass
class Reply:
    """An HTTP reply."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileRange = b""

    @property
    def length(self) -> int:
        """How many bytes the body has."""
        return self.body.length if isinstance(self.body, FileRange) else len(self.body)


def json_reply(
    value: object, headers: Mapping[str, str] | None = None, *, status: int = 200
) -> Reply:
    """A reply that carries JSON."""
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Reply(status, {**content_type, **(headers or {})}, json.dumps(value).encode())


def error_reply(error: HubError) -> Reply:
    """A refusal, with the headers from which huggingface_hub builds its exceptions."""
    one_line = " ".join(error.message.split()).encode("ascii", "replace").decode()
    headers = {"X-Error-Message": one_line, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    body = {"error": error.message, **error.details}
    return json_reply(body, headers, status=error.status)


def page_reply(request: Request, items: Sequence[Any], limit: int) -> Reply:
    """One page of a list, with a link to the next."""
    start = int(request.option("cursor", "0"))
    headers = {}
    if start + limit < len(items):
        query = urlencode(request.query | {"cursor": [str(start + limit)]}, doseq=True)
        headers["Link"] = f'<{request.base_url}{request.path}?{query}>; rel="next"'
    return json_reply(items[start : start + limit], headers)


def file_reply(request: Request, path: Path, headers: Mapping[str, str]) -> Reply:
    """A file, or the range of it that the request asks for."""
    size = path.stat().st_size
    headers = {"Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or not any(match.groups()):
        return Reply(200, headers, FileRange(path, 0, size))
    first, last = _range(match[1], match[2], size)
    if first > last:
        return Reply(416, {**headers, "Content-Range": f"bytes */{size}"})
    content_range = {"Content-Range": f"bytes {first}-{last}/{size}"}
    return Reply(206, {**headers, **content_range}, FileRange(path, first, last - first + 1))


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last or size), size - 1)
