"""Files appear whole or not at all, with the modes that the umask allows."""

import os
import stat
from pathlib import Path

import pytest

from hf_latent_bridge.files import open_atomic, write_atomic


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
