"""The address of vectors in a store, such as `qdrant://localhost:6333/docs?vector=text`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hf_latent_bridge.errors import InvalidNameError

_YES, _NO = ("1", "true"), ("0", "false")
_SYNONYMS = {"column": "vector"}


@dataclass(frozen=True)
class StoreUrl:
    """Where a store keeps one set of vectors.

    A server is `scheme://host:port/…/name`, a file or folder `scheme:path/name`. No part of it is
    secret: a URL with a password is refused, so that URLs can be shown, logged and stored.

    Attributes:
        scheme: Which store, `qdrant` for example.
        host: `host:port` of a server; empty for a file or folder.
        path: Database on the server, or file or folder on this machine.
        name: Collection or table; empty where the file holds only one.
        vector: Named vector or column; empty where the collection has one only.
        params: What else stands behind the `?`.
        local: Whether the path is of this machine.
    """

    scheme: str
    host: str
    path: str
    name: str
    vector: str = ""
    params: Mapping[str, str] = field(default_factory=dict, compare=False)
    local: bool = False

    @property
    def place(self) -> tuple[str, ...]:
        """The store itself: two URLs with one place share a connection."""
        path = str(Path(self.path).resolve()) if self.local else self.path
        return self.scheme, self.host, path, *(f"{k}={v}" for k, v in sorted(self.params.items()))

    @property
    def container(self) -> tuple[str, ...]:
        """The collection or table, whatever the vector."""
        return (*self.place, self.name)

    @property
    def server(self) -> tuple[str, int | None]:
        """Name or address of the server, one of IPv6 in brackets, and its port if it is stated."""
        host = self.host.rpartition("@")[2]
        address, _, port = host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "")
        return address, int(port) if port else None

    @property
    def secure(self) -> bool:
        """Whether the server is asked by HTTPS."""
        return self.params.get("https", "") in _YES

    def __str__(self) -> str:
        where = "" if self.local else f"//{self.host}/"
        parts = _escaped(self.path, "%?#"), _escaped(self.name, "%?#/")
        chosen = {"vector": self.vector} if self.vector else {}
        pairs = {**chosen, **self.params}.items()
        query = "&".join(f"{key}={_escaped(value, '%&#+')}" for key, value in pairs)
        whole = f"{self.scheme}:{where}{'/'.join(filter(None, parts))}"
        return f"{whole}?{query}" if query else whole


def _escaped(text: str, special: str) -> str:
    """A part of a URL, in which what has a meaning of its own is written by its number."""
    return "".join(f"%{ord(c):02X}" if c in special else c for c in text)


def _check_server(parts: SplitResult, scheme: str) -> None:
    """Refuses a port that is not a number, and what stands behind a #, which is of no use here.

    Raises:
        InvalidNameError: Says what.
    """
    try:
        _ = parts.port
    except ValueError:  # which quotes it, and it may be the beginning of a password
        raise InvalidNameError(f"the port of a {scheme} URL must be a number") from None
    if parts.fragment:
        raise InvalidNameError(f"a {scheme} URL ends before a #: write %23 for one in a name")


def scheme_of(text: str) -> str | None:
    """The scheme of a URL, in lower case; None for a plain path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)
    return found[1].lower() if found else None


def parse_url(
    text: str, *, params: tuple[str, ...] = (), embedded: bool = True, users: bool = False
) -> StoreUrl:
    """Takes a URL apart.

    Args:
        text: The URL.
        params: What may stand behind the `?` besides `vector`.
        embedded: Whether a URL without a host names a file or folder.
        users: Whether a user may be named before an @; elsewhere it could be a token.

    Raises:
        InvalidNameError: No collection is named, a parameter is unknown, or a password or token is
            in it.
    """
    scheme = scheme_of(text)
    if scheme is None:
        raise InvalidNameError(f"a store's URL begins with its kind, as in qdrant:…, got {text!r}")
    parts = urlsplit(text)
    if parts.password is not None or (parts.username is not None and not users):
        raise InvalidNameError(
            f"the {scheme} URL has a password or token in it, which would end up in histories and "
            "logs: leave it out and put it where the store's client looks for it (an environment "
            "variable such as PGPASSWORD or QDRANT_API_KEY)"
        )
    _check_server(parts, scheme)
    pairs = [(_SYNONYMS.get(k, k), v) for k, v in parse_qsl(parts.query, keep_blank_values=True)]
    query = dict(pairs)
    if len(query) < len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidNameError(f"a {scheme} URL names each parameter once, got {names}")
    if query.get("https", "1") not in (*_YES, *_NO):
        raise InvalidNameError(f"https= must be 1 or 0, got {query['https']!r}")
    vector = query.pop("vector", "")
    if unknown := sorted(query.keys() - set(params)):
        known = ["vector", *params]
        raise InvalidNameError(f"a {scheme} URL may have {known} behind the ?, got {unknown}")
    path = parts.path
    if parts.netloc or not embedded:
        path = path.removeprefix("/")
    path, name = (unquote(part) for part in path.rpartition("/")[::2])
    if not name:
        raise InvalidNameError(f"{scheme} URL without a collection: it must end in /name")
    if embedded and not parts.netloc and not path:
        raise InvalidNameError(
            f"{scheme} URL without a place: a file or folder ({scheme}:./folder/name) or a server "
            f"({scheme}://host:port/name) must be named"
        )
    local = embedded and not parts.netloc
    return StoreUrl(scheme, parts.netloc, path, name, vector, query, local)
