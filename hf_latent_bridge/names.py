"""Refuses what cannot name a file, folder or repo: an empty text, or an address with secrets."""

import os
import re

from hf_latent_bridge.errors import InvalidNameError

_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?<=://)([^?\s'\"]*)\?[^\s'\")]*")


def check_name(name: object, *, wanted: str, optional: bool = False, urls: bool = False) -> None:
    """Refuses a name that is empty, an address on the web, or neither a text nor a path.

    Args:
        name: What the user passed.
        wanted: What it should be, such as "a folder", for the error.
        optional: Whether None is a choice.
        urls: Whether it may be a URL, which is checked later.

    Raises:
        InvalidNameError: Says what came.
    """
    if optional and name is None:
        return
    if not isinstance(name, str | os.PathLike):
        raise InvalidNameError(f"{wanted} is needed, got {type(name).__name__} {name!r:.60}")
    if not os.fspath(name).strip():
        raise InvalidNameError(f"{wanted} is needed, got an empty text {name!r}")
    if isinstance(name, str) and "://" in name and not urls:
        raise InvalidNameError(f"{wanted} is needed, got the URL {without_secrets(name)}")


def without_secrets(text: str) -> str:
    """The text without the users, passwords and queries of its URLs, which may be secret."""
    return _USER.sub("", _QUERY.sub(r"\1", text))
