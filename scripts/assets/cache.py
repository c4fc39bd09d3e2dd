"""Keeps downloaded and converted files, each made once and never left half-written."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

BLOCK = 1 << 20


class AssetError(RuntimeError):
    """An asset could not be downloaded, or differs from the expected one."""


class AssetUnavailableError(AssetError):
    """This machine cannot get the asset; everything else goes on without it."""


def cache_root() -> Path:
    """Return the folder of everything that is kept, `LATENT_BRIDGE_CACHE` where that is set."""
    return Path(os.environ.get("LATENT_BRIDGE_CACHE") or "~/.cache/hf-latent-bridge").expanduser()


def cache_folder() -> Path:
    """Return the folder for all assets."""
    return cache_root() / "assets"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` against other threads and processes."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock", timeout=3600):
        yield


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Yield an empty folder next to `beside`; the caller holds the lock that guards it."""
    folder = beside.with_name(beside.name + ".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Return the folder `target`, made by `build(empty folder)` where it is not there yet."""
    if target.is_dir():
        return target
    with locked(target.name):
        if not target.is_dir():
            with scratch(target) as folder:
                build(folder)
                folder.rename(target)
    return target


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_of(path: Path) -> str:
    """Return the id that git gives to the file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
