"""Files and folders are the old ones or the new ones, with the modes that the umask allows."""

import os
import stat
from pathlib import Path

import pytest
from meanwhile import meanwhile

from hf_latent_bridge.atomic import (
    check_writable,
    exclusive,
    locked,
    open_atomic,
    read_files,
    write_atomic,
)
from hf_latent_bridge.errors import ConfigError, InUseError


@pytest.fixture
def crash(monkeypatch):
    """The file system fails at the very last step."""

    def replace(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    """One of the usual masks, for the length of a test."""
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def test_the_content_is_written_byte_for_byte(tmp_path):
    write_atomic(tmp_path / "file", b"\x00line\r\n")
    assert (tmp_path / "file").read_bytes() == b"\x00line\r\n"


def test_an_existing_file_is_replaced(tmp_path):
    (tmp_path / "file").write_text("a longer old text")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_nothing_else_stays_in_the_folder(tmp_path):
    write_atomic(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_mode_follows_the_umask(tmp_path, umask):
    write_atomic(tmp_path / "file", b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_the_umask_itself_is_left_alone(tmp_path, umask):
    write_atomic(tmp_path / "file", b"new")
    assert os.umask(umask) == umask


def test_a_crash_leaves_the_old_file(tmp_path, crash):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_inside_the_block_writes_nothing(tmp_path):
    def write_half():
        with open_atomic(tmp_path / "file") as stream:
            stream.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_not_there_before_the_block_ends(tmp_path):
    with open_atomic(tmp_path / "file") as stream:
        stream.write(b"half")
        stream.flush()
        assert not (tmp_path / "file").exists()


def test_a_linked_file_keeps_what_it_pointed_to(tmp_path):
    """As in the Hub's cache, where a snapshot's files are links to shared blobs."""
    (tmp_path / "blob").write_text("shared")
    (tmp_path / "file").symlink_to(tmp_path / "blob")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "blob").read_text() == "shared"
    assert (tmp_path / "file").read_text() == "new"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomic(tmp_path / "nowhere" / "file", b"new")


def test_an_error_of_the_disk_names_the_file_and_what_to_do(tmp_path, crash):
    with pytest.raises(OSError, match=r"cannot write .*/file: No space left.*free some space"):
        write_atomic(tmp_path / "file", b"new")


def test_what_a_killed_writer_left_is_gone_after_the_next_write(tmp_path):
    (tmp_path / ".file.partial").write_text("half")
    (tmp_path / ".file.lock").touch()
    write_atomic(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="cannot write /proc/self/x: "):
        check_writable(Path("/proc/self/x"))


def test_a_lock_that_is_held_is_refused_and_one_that_is_left_is_taken(tmp_path):
    lock = tmp_path / ".lock"
    with locked(lock, "the output"):
        with pytest.raises(InUseError, match="another process is writing the output"):
            locked(lock, "the output", patience=0).__enter__()
        assert lock.exists()
    assert not lock.exists()
    lock.touch()
    with locked(lock, "the output", patience=0):
        pass


OLD = {"a.json": b"old a", "sub/b.json": b"old b"}
NEW = {"a.json": b"new a", "sub/b.json": b"new b"}


@pytest.fixture
def folder(tmp_path):
    with exclusive(tmp_path / "folder") as save:
        save(OLD)
    return tmp_path / "folder"


@pytest.fixture
def killed(folder, monkeypatch):
    """A folder whose save was killed after its journal was there and one file was moved."""
    original, done = Path.replace, []

    def replace(self, target):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(target)
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt), exclusive(folder) as save:
            save(NEW)
    return folder


def test_files_are_saved_together_and_nothing_else_stays(folder):
    assert read_files(folder, [*OLD, "missing"]) == OLD
    assert {path.name for path in folder.rglob("*")} == {"a.json", "sub", "b.json"}


def test_a_save_that_was_killed_after_its_journal_reads_as_the_new_one(killed):
    assert (killed / "sub/b.json").read_bytes() == b"old b"
    assert read_files(killed, NEW) == NEW
    assert read_files(killed / "sub", ["b.json"]) == {"b.json": b"new b"}


def test_the_next_save_does_what_a_killed_one_has_left(killed):
    with exclusive(killed) as save:
        assert (killed / "sub/b.json").read_bytes() == b"new b"
        save({"a.json": b"newest"})
    assert read_files(killed, NEW) == {**NEW, "a.json": b"newest"}
    assert {path.name for path in killed.rglob("*")} == {"a.json", "sub", "b.json"}


def test_a_damaged_journal_is_refused_and_names_the_cure(killed):
    journal = killed / ".save" / "journal"
    journal.write_bytes(journal.read_bytes().replace(b"a.json", b"b.json"))
    with pytest.raises(ConfigError, match=r"delete the folder .*\.save and save again"):
        read_files(killed, NEW)


@pytest.mark.parametrize("bit", [0, 2, 39])
def test_a_damaged_file_that_waits_for_its_place_is_neither_read_nor_moved(killed, bit):
    waiting = killed / ".save" / "1"
    damaged = bytearray(waiting.read_bytes())
    damaged[bit // 8] ^= 1 << bit % 8
    waiting.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"delete the folder .*\.save and save again"):
        read_files(killed, NEW)
    with pytest.raises(ConfigError, match="is damaged"), exclusive(killed):
        pytest.fail("a save begins over a damaged one")
    assert (killed / "sub/b.json").read_bytes() == b"old b"
    assert read_files(killed, ["a.json"]) == {"a.json": b"new a"}


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    with exclusive(tmp_path / "new" / "folder"):
        pass
    assert not list(tmp_path.iterdir())


# Another process at the worst moment ------------------------------------------------------------


def save_all(folder, files):
    with exclusive(folder) as save:
        save(files)


def test_files_that_are_saved_again_while_they_are_read_are_of_one_save(folder):
    with meanwhile(lambda: save_all(folder, NEW), "sub/b.json"):
        assert read_files(folder, OLD) == NEW


def test_files_that_take_their_places_while_they_are_read_are_found_there(killed):
    with meanwhile(lambda: save_all(killed, {}), ".save/1"):
        assert read_files(killed, NEW) == NEW


def test_a_new_folder_that_another_process_removes_is_made_again(tmp_path):
    with meanwhile((tmp_path / "folder").rmdir, ".save.lock"):
        save_all(tmp_path / "folder", NEW)
    assert read_files(tmp_path / "folder", NEW) == NEW
