"""Refuses empty names, which Python would take for the current folder."""

import os

from hf_latent_bridge.errors import InvalidNameError


def check_name(name: object, *, wanted: str, optional: bool = False) -> None:
    """Refuses a name that is empty, or neither a text nor a path.

    Args:
        name: What the user passed.
        wanted: What it should be, such as "a folder", for the error.
        optional: Whether None is a choice.

    Raises:
        InvalidNameError: Says what came.
    """
    if optional and name is None:
        return
    if not isinstance(name, str | os.PathLike):
        raise InvalidNameError(f"{wanted} is needed, got {type(name).__name__} {name!r:.60}")
    if not os.fspath(name).strip():
        raise InvalidNameError(f"{wanted} is needed, got an empty text {name!r}")
