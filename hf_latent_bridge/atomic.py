"""Files and folders on disk that are the old ones or the new ones, never in between, and locks."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from hf_latent_bridge.errors import ConfigError, InUseError, LatentBridgeError

PATIENCE = 60.0  # seconds; a save takes a few
_LOCK = ".save.lock"
_SAVE = ".save"  # a hidden folder: files of a save that is not finished
_JOURNAL = "journal"
_TRIES = 100
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    **dict.fromkeys(NO_ROOM, "free some space, or name another place"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "name a place that can be written"),
    errno.EFBIG: "files may not become so large here: raise the limit, or name another place",
    errno.ENOENT: "make its folder first",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block, an error of the file system names the file and says what to do.

    Args:
        path: The file or folder that is written, as the user knows it.

    Raises:
        OSError: The same error, of the same class and number, with another text.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, LatentBridgeError):
            raise
        remedy = _REMEDIES.get(error.errno or 0, "check the disk, and try again")
        text = f"cannot write {path}: {error.strerror or error}; {remedy}"
        raise (OSError(error.errno, text) if error.errno else OSError(text)) from error


def check_writable(folder: Path) -> None:
    """Writes a nameless file into a folder, or into its nearest parent if it is not there yet.

    Raises:
        OSError: Nothing can be written there; names the folder.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with writing(folder), tempfile.TemporaryFile(dir=there, buffering=0) as stream:
        stream.write(b"\0" * 4096)


@contextlib.contextmanager
def locked(path: Path, what: object, *, patience: float = PATIENCE) -> Iterator[None]:
    """Keeps other processes and threads out of the block.

    Args:
        path: A hidden file, which is there for as long as the block runs; a killed process may
            leave it behind, but does not hold it any longer.
        what: What nobody else may write meanwhile, for the error.
        patience: Seconds to wait for another process.

    Raises:
        InUseError: Another process is in its block still.
        FileNotFoundError: There is no folder for the hidden file.
    """
    from filelock import FileLock, Timeout

    if not path.parent.is_dir():  # the lock would make it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        waited = f" and was not done after {patience:g} seconds" if patience else ""
        raise InUseError(
            f"another process is writing {what}{waited}: wait for its end, or name another place"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: who waits for it sees that it is gone
        lock.release()


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content appears at `path` in one step, when the block ends without an error.

    A reader or a crash sees the old file or the new one, never a part. Writers take turns.

    Args:
        path: The file to write; its folder must exist.

    Raises:
        OSError: It cannot be written; names it.
        InUseError: Another process has been writing it for too long.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path), locked(path.with_name(f".{path.name}.lock"), path):
        try:
            with partial.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def clear_atomic(path: Path) -> None:
    """Removes what a killed `open_atomic` has left beside a file.

    Raises:
        OSError: Nothing can be written there; names the file.
        InUseError: Another process has been writing it for too long.
    """
    with writing(path), locked(path.with_name(f".{path.name}.lock"), path):
        path.with_name(f".{path.name}.partial").unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Puts `content` at `path` in one step.

    Args:
        path: The file to write; its folder must exist.
        content: All of its bytes.

    Raises:
        OSError: It cannot be written; names it.
        InUseError: Another process has been writing it for too long.
    """
    with open_atomic(path) as stream:
        stream.write(content)


# Several files in one step --------------------------------------------------------------------

Save = Callable[[Mapping[str, bytes]], None]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[Save]:
    """Gives a function that saves files into a folder, which no other process does meanwhile.

    It writes them into a hidden folder and then a journal that lists them. From that moment on
    `read_files` reads the new files, before it the old ones. Then each takes its place. The next
    save does what a killed one has left to do.

    Args:
        folder: The folder; made if it is not there, and removed again if nothing was saved.

    Raises:
        OSError: Nothing can be written there; names the folder.
        InUseError: Another process has been saving there for too long.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with contextlib.ExitStack() as held:
        held.callback(_remove_empty, new)
        with writing(folder):
            _make_and_lock(folder, held)
            _finish(folder)
        held.callback(_clear, folder)
        yield lambda files: _save(folder, files)


def read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of a folder that are there, all of one save, though one may go on meanwhile.

    Args:
        folder: The folder, or one inside it that holds part of a save.
        names: The files, relative to it.

    Raises:
        ConfigError: The journal of a save that was killed is damaged, or a file that it lists.
        InUseError: The files have been changed again and again while they were read.
    """
    names, end = list(names), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = _places(folder, names)
        try:
            contents = {name: place.path.read_bytes() for name, place in before.items()}
        except FileNotFoundError:  # moved since
            continue
        if _places(folder, names) == before:
            for name, place in before.items():
                place.check(contents[name])
            return contents
    raise InUseError(f"{folder} was changed all the time for {PATIENCE:g} seconds: read it later")


@dataclass(frozen=True)
class _Place:
    """Where a file is now; equal for the same file, be it moved or not.

    Attributes:
        path: The file.
        facts: What tells it from others.
        sha256: Of a file that waits for its place, as the journal states it; "" of others.
    """

    path: Path = field(compare=False)
    facts: tuple[int, ...] = ()
    sha256: str = field(default="", compare=False)

    def check(self, content: bytes) -> None:
        """Refuses content that the journal does not describe.

        Raises:
            ConfigError: Names the file.
        """
        if self.sha256 and hashlib.sha256(content).hexdigest() != self.sha256:
            raise _damaged(self.path)


def _places(folder: Path, names: Sequence[str]) -> dict[str, _Place]:
    """Where each file is that is there: in its place, or with a save that is not finished."""
    folder = folder.absolute()
    waiting = _waiting(folder)
    for name, path in _waiting(folder.parent).items():
        inside, slash, rest = name.partition("/")
        if slash and inside == folder.name:
            waiting[rest] = path
    found = {}
    for name in names:
        for place in filter(None, (waiting.get(name), _Place(folder / name))):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                facts = place.path.stat()
                if not stat.S_ISDIR(facts.st_mode):
                    key = facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
                    found[name] = replace(place, facts=key)
                    break
    return found


def _waiting(folder: Path) -> dict[str, _Place]:
    """The files of a save into a folder that may not have taken their places yet."""
    journal = folder / _SAVE / _JOURNAL
    try:
        content = journal.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    listed, _, digest = content.rpartition(b"\n")
    if hashlib.sha256(listed).hexdigest().encode() != digest:
        raise _damaged(journal)
    lines = (line.partition(" ") for line in listed.decode().split("\n"))
    return {
        name: _Place(journal.with_name(str(number)), sha256=sha256)
        for number, (sha256, _, name) in enumerate(lines)
    }


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}, which is of a save that was killed, is damaged: delete the folder {path.parent} "
        "and save again"
    )


def _save(folder: Path, files: Mapping[str, bytes]) -> None:
    with writing(folder):
        hidden = folder / _SAVE
        hidden.mkdir()
        for number, (name, content) in enumerate(files.items()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _write(hidden / str(number), content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        listed = "\n".join(f"{sha256} {name}" for name, sha256 in hashes.items()).encode()
        _write(hidden / "partial", listed + b"\n" + hashlib.sha256(listed).hexdigest().encode())
        _sync(hidden)
        (hidden / "partial").replace(hidden / _JOURNAL)
        _sync(hidden)
        _move(folder)


def _finish(folder: Path) -> None:
    """Does what a killed save has left to do.

    Raises:
        ConfigError: What it has written is damaged.
    """
    for place in _waiting(folder).values():
        with contextlib.suppress(FileNotFoundError):  # it has taken its place
            place.check(place.path.read_bytes())
    _move(folder)


def _move(folder: Path) -> None:
    """Moves what a save has written to its places."""
    for name, place in _waiting(folder).items():
        if place.path.exists():
            place.path.replace(folder / name)
            _sync((folder / name).parent)
    (folder / _SAVE / _JOURNAL).unlink(missing_ok=True)
    _clear(folder)


def _clear(folder: Path) -> None:
    """Removes what is left of a save, unless its files wait for their places."""
    if not (folder / _SAVE / _JOURNAL).exists():
        shutil.rmtree(folder / _SAVE, ignore_errors=True)


def _make_and_lock(folder: Path, held: contextlib.ExitStack) -> None:
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process has removed its new folder
            held.enter_context(locked(folder / _LOCK, folder))
            return
    raise FileNotFoundError(errno.ENOENT, "the folder is removed again and again")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Makes renames in a folder last through a loss of power, where its file system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
