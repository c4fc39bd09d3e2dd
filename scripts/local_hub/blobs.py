"""Stores file contents under the name of their hash, so equal files are stored once."""

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A file in a commit: its git object id and size, and its SHA-256 if it is an LFS file."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def content(self) -> str:
        """The name of the blob that holds the file."""
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        """Length of the text that git stores in place of an LFS file."""
        return len(lfs_pointer(self.content, self.size))


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git stores in place of an LFS file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def git_oid(data: bytes) -> str:
    """The id that git gives to a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Upload:
    """A file being received: hashed as it arrives, gone when discarded."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(8)
        self.size = 0
        self._file = self.path.open("wb")
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The hash of what has arrived so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Appends a chunk."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def discard(self) -> None:
        """Closes the file, and removes it unless it was moved into place."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Puts the complete file into place in one step."""
        self._file.close()
        os.replace(self.path, target)


class Blobs:
    """A folder of blobs, and one of files that are still arriving."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "blobs"
        self._incoming = root / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)
        self._folder.mkdir(exist_ok=True)

    def path(self, name: str) -> Path:
        """The path of the blob with this hash, whether it exists or not."""
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
            raise ValueError(f"A blob is named by 40 or 64 hexadecimal digits, not {name!r}")
        return self._folder / name

    def read(self, entry: Entry) -> bytes:
        """The whole content of a file."""
        return self.path(entry.content).read_bytes()

    def receive(self) -> Upload:
        """Begins to receive a file."""
        return Upload(self._incoming)

    def add(self, data: bytes) -> Entry:
        """Stores the content of a regular (not LFS) file."""
        entry = Entry(git_oid(data), len(data))
        target = self.path(entry.oid)
        if not target.exists():
            upload = self.receive()
            upload.write(data)
            upload.move_to(target)
        return entry

    def lfs_entry(self, sha256: str) -> Entry | None:
        """The tree entry for an LFS file that has been uploaded."""
        path = self.path(sha256)
        if not path.exists():
            return None
        size = path.stat().st_size
        return Entry(git_oid(lfs_pointer(sha256, size)), size, sha256)
