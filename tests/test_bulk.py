"""Files of latents are translated in pieces, and the result appears only when it is whole."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hf_latent_bridge import OrthoTranslator, bulk
from hf_latent_bridge.bulk import translate_file
from hf_latent_bridge.errors import InvalidLatentsError


@pytest.fixture
def translator():
    """From width 4 to width 3, float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4), dtype=np.float32)
    return OrthoTranslator(scaling="center").fit(x, x[:, [2, 0, 1]] + 5)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(bulk, "_ROWS", 3)


@pytest.fixture
def save(tmp_path):
    """Write an array to in.npy."""

    def save(array):
        np.save(tmp_path / "in.npy", array)
        return tmp_path / "in.npy"

    return save


def rows(n, dtype="float32"):
    return np.random.default_rng(1).standard_normal((n, 4)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_the_result_equals_transform_row_by_row(translator, save, tmp_path, small_chunks, dtype):
    x = rows(10, dtype)
    shape = translate_file(translator, save(x), tmp_path / "out.npy")
    result = np.load(tmp_path / "out.npy")
    assert shape == result.shape == (10, 3)
    assert result.dtype == x.dtype
    one_by_one = np.stack([translator.transform(row) for row in x])
    np.testing.assert_allclose(
        result.astype(float), one_by_one, rtol=2e-3 if dtype == "float16" else 1e-5
    )


@pytest.mark.parametrize("n", [0, 1, 3, 4])
def test_any_number_of_rows_is_taken(translator, save, tmp_path, small_chunks, n):
    assert translate_file(translator, save(rows(n)), tmp_path / "out.npy") == (n, 3)
    assert np.load(tmp_path / "out.npy").shape == (n, 3)


def test_a_column_major_file_is_read_as_it_is_meant(translator, save, tmp_path, small_chunks):
    x = rows(7)
    translate_file(translator, save(np.asfortranarray(x)), tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), translator.transform(x), rtol=1e-5)


def test_the_result_can_be_mapped_into_memory(translator, save, tmp_path):
    translate_file(translator, save(rows(7)), tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy", mmap_mode="r")[2].shape == (3,)


def test_names_may_be_text(translator, save, tmp_path):
    assert translate_file(translator, str(save(rows(2))), str(tmp_path / "out.npy")) == (2, 3)


def test_an_existing_result_is_replaced(translator, save, tmp_path):
    (tmp_path / "out.npy").write_text("old")
    translate_file(translator, save(rows(2)), tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (2, 3)


def refused(translator, source, target, error=InvalidLatentsError):
    """The message of the refusal, after which nothing new is in the folder."""
    before = {path: path.read_bytes() for path in target.parent.glob("*") if path.is_file()}
    with pytest.raises(error) as refusal:
        translate_file(translator, source, target)
    after = {path: path.read_bytes() for path in target.parent.glob("*") if path.is_file()}
    assert after == before
    return str(refusal.value)


def test_a_pickle_is_never_opened(translator, save, tmp_path):
    source = save(np.array([{"a": 1}], dtype=object))
    assert "not a whole .npy file of numbers" in refused(translator, source, tmp_path / "out.npy")


@pytest.mark.parametrize(
    ("array", "telling"),
    [
        (np.ones(4, np.float32), "got float32 of (4,)"),
        (np.ones((2, 2, 4), np.float32), "got float32 of (2, 2, 4)"),
        (np.ones((2, 4), np.int64), "got int64 of (2, 4)"),
        (np.ones((2, 4), np.complex64), "got complex64 of (2, 4)"),
        (np.ones((2, 5), np.float32), "5 features"),
        (np.ones((0, 5), np.float32), "5 features"),
    ],
)
def test_anything_but_a_matrix_of_the_right_width_is_refused(
    translator, save, tmp_path, array, telling
):
    assert telling in refused(translator, save(array), tmp_path / "out.npy")


def test_nan_is_found_and_its_place_told(translator, save, tmp_path, small_chunks):
    x = rows(8)
    x[7, 1] = np.nan
    message = refused(translator, save(x), tmp_path / "out.npy")
    assert "rows from 6 on" in message
    assert "first in row 1" in message


@pytest.mark.parametrize("keep", [0, 5, 100, 150])
def test_a_truncated_file_is_refused(translator, save, tmp_path, keep):
    source = save(rows(2))
    source.write_bytes(source.read_bytes()[:keep])
    assert "whole .npy" in refused(translator, source, tmp_path / "out.npy")


def test_an_archive_is_refused(translator, tmp_path):
    np.savez(tmp_path / "in.npz", x=rows(2))
    assert "whole .npy" in refused(translator, tmp_path / "in.npz", tmp_path / "out.npy")


def test_a_missing_input_is_named(translator, tmp_path):
    message = refused(translator, tmp_path / "no.npy", tmp_path / "out.npy", FileNotFoundError)
    assert "no.npy" in message


def test_a_missing_output_folder_is_named(translator, save, tmp_path):
    message = refused(translator, save(rows(2)), tmp_path / "no" / "out.npy", FileNotFoundError)
    assert f"no folder {tmp_path / 'no'}" in message


def test_a_folder_as_output_is_refused(translator, save, tmp_path):
    assert "is a folder" in refused(translator, save(rows(2)), tmp_path, IsADirectoryError)


@pytest.mark.parametrize("how", ["name", "other spelling", "link"])
def test_the_input_is_never_overwritten(translator, save, tmp_path, how):
    source = save(rows(2))
    (tmp_path / "link.npy").symlink_to(source)
    (tmp_path / "sub").mkdir()
    names = {
        "name": source,
        "other spelling": tmp_path / "sub/../in.npy",
        "link": tmp_path / "link.npy",
    }
    assert "same file" in refused(translator, source, names[how], ValueError)


def test_a_killed_run_leaves_no_output(translator, tmp_path):
    """Killed while it writes: the hidden part is there, the result is not."""
    translator.save_pretrained(tmp_path / "translator")
    np.lib.format.open_memmap(tmp_path / "in.npy", "w+", "float32", (6_000_000, 4))
    command = [sys.executable, "-m", "hf_latent_bridge.cli", "translate"]
    names = [str(tmp_path / name) for name in ("translator", "in.npy", "out.npy")]
    with subprocess.Popen([*command, *names]) as run:
        while run.poll() is None and not list(tmp_path.glob(".out.npy.*")):
            time.sleep(0.01)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.npy").exists()
