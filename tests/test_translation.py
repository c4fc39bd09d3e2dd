"""Files of latents are translated in pieces, and the result appears only when it is whole."""

import contextlib
import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import vector_files
import warm
from processes import PATIENCE, finished, hang, torchrun
from warm import Warm

import hf_latent_bridge
from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    OrthoTranslator,
    compose,
    translate_file,
)
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import (
    CheckpointError,
    InUseError,
    InvalidLatentsError,
    ProcessError,
)
from hf_latent_bridge.translation.pipeline import ahead, overlapped
from hf_latent_bridge.vectors.formats import FORMATS, open_vectors, writer_of


@pytest.fixture
def translator():
    """From width 4 to width 3, float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4), dtype=np.float32)
    return OrthoTranslator(scaling="center").fit(x, x[:, [2, 0, 1]] + 5)


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
def test_the_result_equals_transform_row_by_row(translator, save, tmp_path, dtype):
    x = rows(10, dtype)
    written = translate_file(translator, save(x), tmp_path / "out.npy", chunk_size=3)
    result = np.load(tmp_path / "out.npy")
    assert written.shape == result.shape == (10, 3)
    assert written.dtype == result.dtype == x.dtype.newbyteorder("=")
    one_by_one = np.stack([translator.transform(row) for row in x])
    np.testing.assert_allclose(
        result.astype(float), one_by_one, rtol=2e-3 if dtype == "float16" else 1e-5
    )


@pytest.mark.parametrize("n", [0, 1, 3, 4])
def test_any_number_of_rows_is_taken(translator, save, tmp_path, n):
    translate_file(translator, save(rows(n)), tmp_path / "out.npy", chunk_size=3)
    assert np.load(tmp_path / "out.npy").shape == (n, 3)


def test_a_column_major_file_is_read_as_it_is_meant(translator, save, tmp_path):
    x = rows(7)
    translate_file(translator, save(np.asfortranarray(x)), tmp_path / "out.npy", chunk_size=3)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), translator.transform(x), rtol=1e-5)


def test_the_result_can_be_mapped_into_memory(translator, save, tmp_path):
    translate_file(translator, save(rows(7)), tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy", mmap_mode="r")[2].shape == (3,)


def test_the_name_of_a_translator_is_refused(save, tmp_path):
    with pytest.raises(TypeError, match=r"got 'me/a-to-b': load one with AutoTranslator"):
        translate_file("me/a-to-b", save(rows(2)), tmp_path / "out.npy")


def test_names_may_be_text(translator, save, tmp_path):
    written = translate_file(translator, str(save(rows(2))), str(tmp_path / "out.npy"))
    assert written.path == str(tmp_path / "out.npy")


def test_an_existing_result_is_replaced(translator, save, tmp_path):
    (tmp_path / "out.npy").write_text("old")
    translate_file(translator, save(rows(2)), tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (2, 3)


def refused(translator, source, target, error=InvalidLatentsError, **options):
    """The message of the refusal, after which nothing new is in the folder."""
    before = {path: path.read_bytes() for path in target.parent.glob("*") if path.is_file()}
    with pytest.raises(error) as refusal:
        translate_file(translator, source, target, **options)
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
        (np.ones((2, 4), np.int64), "in.npy holds int64: say what the integers are"),
        (np.ones((2, 4), np.complex64), "got complex64 of (2, 4)"),
        (np.ones((2, 5), np.float32), "5 features"),
        (np.ones((0, 5), np.float32), "5 features"),
    ],
)
def test_anything_but_a_matrix_of_the_right_width_is_refused(
    translator, save, tmp_path, array, telling
):
    assert telling in refused(translator, save(array), tmp_path / "out.npy")


def test_nan_is_found_and_its_place_told(translator, save, tmp_path):
    x = rows(8)
    x[7, 1] = np.nan
    message = refused(translator, save(x), tmp_path / "out.npy", chunk_size=3)
    assert "rows from 6 on" in message
    assert "first in row 1" in message


@pytest.mark.parametrize("keep", [0, 5, 100, 150])
def test_a_truncated_file_is_refused(translator, save, tmp_path, keep):
    source = save(rows(2))
    source.write_bytes(source.read_bytes()[:keep])
    assert "whole .npy" in refused(translator, source, tmp_path / "out.npy")


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


@pytest.mark.slow
def test_an_output_among_the_files_that_are_read_is_refused(translator, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "part-0.npy", rows(3))
    with pytest.raises(ValueError, match=r"part-1\.npy would be one more file of the input"):
        translate_file(translator, tmp_path / "in", tmp_path / "in" / "part-1.npy")
    assert translate_file(translator, tmp_path / "in", tmp_path / "out.npy").n == 3


def test_a_killed_run_leaves_no_output(translator, tmp_path):
    """Killed while it writes: the hidden part is there, the result is not."""
    translator.save_pretrained(tmp_path / "translator")
    np.lib.format.open_memmap(tmp_path / "in.npy", "w+", "float32", (6_000_000, 4))
    names = [tmp_path / name for name in ("translator", "in.npy", "out.npy")]
    with Warm("-m", "hf_latent_bridge", "translate", *names) as run:
        while run.poll() is None and not list(tmp_path.glob(".out.npy.*")):
            time.sleep(0.01)
        run.kill()
        assert run.wait(PATIENCE) == -signal.SIGKILL
    assert not (tmp_path / "out.npy").exists()


# Kinds of file ------------------------------------------------------------------------------


def write(folder, kind, x, **options):
    """Latents as a file, or dataset, of a kind; returns its name."""
    path = folder / f"in.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "safetensors":
        safetensors.numpy.save_file({"x": x, "other": x[:, :2]} | options, path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in x.tolist()))
    elif kind == "parquet":
        table = pyarrow.table({"x": list(x), "other": list(x), "number": np.arange(len(x))})
        pyarrow.parquet.write_table(table, path, row_group_size=max(4, len(x) // 9))
    else:
        path = folder / "data"
        datasets.DatasetDict({"train": datasets.Dataset.from_dict({"x": x})}).save_to_disk(path)
    return path


def read(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)["latents"]
    if path.suffix == ".jsonl":
        return np.array([json.loads(line) for line in path.read_text().splitlines()], np.float32)
    return np.stack(pyarrow.parquet.read_table(path)["latents"].to_numpy())


COLUMNS = {"safetensors": {"column": "x"}, "parquet": {"column": "x"}}
COLUMNS["dataset"] = {"column": "x", "split": "train"}
KINDS = ("npy", "safetensors", "jsonl", "parquet")


@pytest.mark.parametrize("kind", [*KINDS, "dataset"])
def test_every_kind_of_input_gives_the_same_result(translator, tmp_path, kind):
    x = rows(10)
    options = COLUMNS.get(kind, {})
    assert translate_file(
        translator, write(tmp_path, kind, x), tmp_path / "out.npy", **options, chunk_size=3
    ).shape == (10, 3)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), translator.transform(x), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 10])
def test_every_kind_of_output_holds_the_same_rows(translator, tmp_path, kind, n):
    translate_file(
        translator, write(tmp_path, "npy", rows(n)), tmp_path / f"out.{kind}", chunk_size=3
    )
    if n:
        expected = translator.transform(rows(n))
        np.testing.assert_allclose(read(tmp_path / f"out.{kind}"), expected, rtol=1e-5)
    assert not list(tmp_path.glob(".*"))


def test_a_column_of_a_hub_dataset_is_read_at_one_commit(translator, tmp_path, repo_id, api):
    x = rows(6)
    datasets.Dataset.from_dict({"x": x}).push_to_hub(repo_id, token="hf_alice")
    translate_file(translator, repo_id, tmp_path / "out.npy", column="x", split="train")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), translator.transform(x), rtol=1e-5)
    source = manifest(tmp_path / "out.npy")["source"]
    assert (source["repo_id"], source["split"], source["column"]) == (repo_id, "train", "x")
    assert source["revision"] == api.repo_info(repo_id, repo_type="dataset").sha


@pytest.mark.parametrize("kind", ["safetensors", "parquet"])
def test_one_of_several_columns_must_be_named(translator, tmp_path, kind):
    message = refused(translator, write(tmp_path, kind, rows(2)), tmp_path / "out.npy")
    assert "name one as column" in message


@pytest.mark.parametrize("kind", ["safetensors", "parquet"])
def test_any_truncated_file_is_refused(translator, tmp_path, kind):
    source = write(tmp_path, kind, rows(50))
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(InvalidLatentsError, match="is not a whole"):
        translate_file(translator, source, tmp_path / "out.npy", column="x")


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        ("[1, 2, 3, 4]\n[1, 2, 3]\n", "row 1 has 3 numbers, it must have 4"),
        ('[1, 2, 3, 4]\n[1, 2, 3, "a"]\n', "row 1 is not a vector"),
        ("[1, 2, 3, 4]\n\n[1, 2, 3, 4]\n", "row 1 is an empty line"),
        ("[1, 2, 3, 4]\n[1, 2, 3, NaN]\n", "row 1 is bad"),
        ('{"y": "text"}\n', "no column of vectors"),
        ("[1, 2]\n", "2 features"),
    ],
)
def test_a_bad_line_is_named_by_its_row(translator, tmp_path, lines, telling):
    (tmp_path / "in.jsonl").write_text(lines)
    assert telling in refused(translator, tmp_path / "in.jsonl", tmp_path / "out.npy")


def test_ragged_and_missing_rows_of_a_table_are_named(translator, tmp_path):
    latents = [[1.0] * 4, [1.0] * 4, [1.0] * 3]
    for values, row in ((latents, "row 2 has"), ([*latents[:1], None], "row 1 has no vector")):
        pyarrow.parquet.write_table(pyarrow.table({"x": values}), tmp_path / "in.parquet")
        message = refused(translator, tmp_path / "in.parquet", tmp_path / "out.npy")
        assert row in message


def test_a_bad_row_is_named_by_its_number_in_the_file(translator, save, tmp_path):
    x = rows(8)
    x[7, 1] = np.inf
    assert "row 7 is bad" in refused(translator, save(x), tmp_path / "out.npy", chunk_size=3)


def test_names_that_are_not_utf_8_are_read_written_and_noted(translator, tmp_path, capsys):
    source, output = (os.fsencode(tmp_path) + name for name in (b"/x\xff.npy", b"/y\xff.jsonl"))
    try:
        np.save(os.fsdecode(source), rows(5))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    translator.save_pretrained(tmp_path / "map")
    names = [os.fsdecode(name) for name in (source, output)]
    assert main(["translate", str(tmp_path / "map"), *names]) == 0
    assert len(Path(names[1]).read_text().splitlines()) == 5
    told = json.loads(Path(names[1] + ".manifest.json").read_text())
    assert (told["source"]["name"], told["output"]) == (r"x\xff.npy", r"y\xff.jsonl")
    assert r"y\udcff.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["b\0c", "b\0"])
def test_a_text_that_hdf5_does_not_have_is_named_by_its_row(translator, tmp_path, text):
    pytest.importorskip("h5py")
    texts = ["a", text]
    lines = [json.dumps({"text": t, "v": v}) for t, v in zip(texts, rows(2).tolist(), strict=True)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    with pytest.raises(InvalidLatentsError, match="NUL in them, and row 1 has one in 'text'"):
        translate_file(translator, tmp_path / "in.jsonl", tmp_path / "out.h5")
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_a_text_that_numpy_would_cut_is_refused(translator, tmp_path):
    vector_files.lines([{"text": "a\0", "v": rows(1).tolist()[0]}])(tmp_path / "in.jsonl")
    with pytest.raises(InvalidLatentsError, match=r"no texts that end in NUL, and 'a\\x00' does"):
        translate_file(translator, tmp_path / "in.jsonl", tmp_path / "out.npz")
    assert os.listdir(tmp_path) == ["in.jsonl"]


@pytest.mark.slow
def test_one_long_text_among_short_ones_takes_neither_memory_nor_disk(translator, tmp_path):
    texts = ["short"] * 199 + ["long" * 60_000]  # 192 MB where all are as long
    lines = zip(texts, rows(200).tolist(), strict=True)
    vector_files.lines([{"text": t, "v": v} for t, v in lines])(tmp_path / "in.jsonl")
    translate_file(translator, tmp_path / "in.jsonl", tmp_path / "warm.npz")
    tracemalloc.start()
    translate_file(translator, tmp_path / "in.jsonl", tmp_path / "out.npz")
    _, objects = rows_read(tmp_path / "out.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert os.path.getsize(tmp_path / "out.npz") < 10e6
    assert [row["text"] for row in objects] == texts


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_that_is_written_has_null_for_nan(translator, tmp_path, suffix):
    vectors = pyarrow.array(rows(2).tolist())
    table = pyarrow.table({"vector": vectors, "x": [np.nan, 2.5], "y": [[np.inf, 1.5], [3.5]]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    translate_file(translator, tmp_path / "in.parquet", tmp_path / f"out{suffix}")

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / f"out{suffix}").read_text()
    text = text if suffix == ".json" else f"[{','.join(text.splitlines())}]"
    found = json.loads(text, parse_constant=refuse)
    assert [(row["x"], row["y"]) for row in found] == [(None, [None, 1.5]), (2.5, [3.5])]


def test_a_system_that_cannot_sync_data_alone_syncs_the_file(
    translator, save, tmp_path, monkeypatch
):
    monkeypatch.delattr(os, "fdatasync", raising=False)
    assert translate_file(translator, save(rows(9)), tmp_path / "out.npy").n == 9


def test_an_unknown_kind_of_output_is_refused(translator, save, tmp_path):
    message = refused(translator, save(rows(2)), tmp_path / "out.pkl", ValueError)
    assert ".npy" in message


# Precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_output_has_the_dtype_that_was_asked_for(translator, save, tmp_path, kind, dtype):
    x = rows(5, "float64")
    translate_file(translator, save(x), tmp_path / f"out.{kind}", dtype=dtype)
    result = read(tmp_path / f"out.{kind}")
    assert result.dtype == dtype
    np.testing.assert_allclose(result, translator.transform(x), rtol=2e-3, atol=1e-3)


def test_a_row_that_overflows_float16_is_refused(translator, save, tmp_path):
    x = rows(8)
    x[4] = 1e6
    source = save(x)
    with pytest.raises(InvalidLatentsError, match=r"rows from 3 on: .* float16.* row 1"):
        translate_file(translator, source, tmp_path / "out.npy", dtype="float16", chunk_size=3)
    assert not (tmp_path / "out.npy").exists()
    translate_file(translator, source, tmp_path / "out.npy", dtype="float32", chunk_size=3)


# The manifest -------------------------------------------------------------------------------


def manifest(path):
    return json.loads(path.with_name(f"{path.name}.manifest.json").read_text())


def test_the_manifest_says_what_was_made_from_what(translator, save, tmp_path, repo_id):
    commit = translator.push_to_hub(repo_id).oid
    source = save(rows(5))
    translate_file(translator, source, tmp_path / "out.npy", dtype="float16")
    content = manifest(tmp_path / "out.npy")
    told = content.pop("translator")
    assert content == {
        "output": "out.npy",
        "rows": 5,
        "width": 3,
        "dtype": "float16",
        "kept": [],
        "dropped": [],
        "source": {
            "name": "in.npy",
            "size": source.stat().st_size,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "library_version": hf_latent_bridge.__version__,
    }
    assert (told["repo_id"], told["commit"]) == (repo_id, commit)
    weights = huggingface_hub.hf_hub_download(repo_id, "model.safetensors")
    with open(weights, "rb") as file:
        assert told["weights_sha256"] == hashlib.sha256(file.read()).hexdigest()


@pytest.mark.slow
def test_a_composition_is_translated_and_the_manifest_names_its_translators(
    translator, save, tmp_path, repo_id
):
    commit = translator.push_to_hub(repo_id).oid
    y = np.random.default_rng(3).standard_normal((50, 3)).astype(np.float32)
    second = AffineTranslator(alpha=0.1, unit_norm="both").fit(y, y @ np.ones((3, 2), "f4"))
    both = compose(translator, second)
    source = save(rows(7))
    for processes in (1, 2):
        target = tmp_path / f"{processes}.npy"
        assert translate_file(both, source, target, processes=processes).shape == (7, 2)
        np.testing.assert_allclose(np.load(target), both.transform(rows(7)), rtol=1e-5)
    told = manifest(tmp_path / "1.npy")["translator"]
    assert told["translator_type"] == "composed"
    first, last = told["params"]["translators"]
    assert (first["translator_type"], first["repo_id"]) == ("ortho", repo_id)
    assert first["revision"] == commit
    assert (last["translator_type"], last["params"]["alpha"]) == ("affine", 0.1)
    assert len(told["weights_sha256"]) == 64


# Killed and resumed -------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a signal in the middle of a run."""


SMALL = {"chunk_size": 3, "checkpoint_every": 3}


@pytest.fixture
def interrupted(translator, save, tmp_path, monkeypatch):
    """Stop a run after row 15 of 20, after checkpoints; returns the input and the output."""
    source, target = save(rows(20)), tmp_path / "out.npy"
    transform, seen = type(translator).transform, []

    def stop(self, chunk):
        seen.extend(chunk)
        if len(seen) > 15:
            raise Killed
        return transform(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(type(translator), "transform", stop)
        with pytest.raises(Killed):
            translate_file(translator, source, target, **SMALL)
    assert not target.exists()
    return source, target


def test_a_resumed_run_translates_only_the_rest_and_ends_with_the_same_bytes(
    translator, interrupted, monkeypatch, tmp_path
):
    source, target = interrupted
    seen = []
    transform = type(translator).transform

    def count(self, block):
        seen.append(len(block))
        return transform(self, block)

    monkeypatch.setattr(type(translator), "transform", count)
    assert translate_file(translator, source, target, **SMALL).shape == (20, 3)
    assert sum(seen) == 5
    translate_file(translator, source, tmp_path / "whole.npy", **SMALL)
    assert target.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(tmp_path.glob(".out.npy.*"))


def test_another_run_that_writes_the_same_output_is_refused(translator, save, monkeypatch):
    source = save(rows(20))
    target, transform = source.with_name("out.npy"), type(translator).transform
    refusals = []

    def meet(self, chunk):
        if len(chunk) == 0:  # only the width is checked
            return transform(self, chunk)
        with monkeypatch.context() as patch:
            patch.setattr(type(translator), "transform", transform)
            with pytest.raises(InUseError) as error:
                translate_file(translator, source, target)
        refusals.append(str(error.value))
        return transform(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(type(translator), "transform", meet)
        translate_file(translator, source, target)
    (refusal,) = refusals
    assert f"another process is writing {target}: wait" in refusal
    np.testing.assert_array_equal(np.load(target), translator.transform(np.load(source)))
    names = {path.name for path in source.parent.iterdir()}
    assert names == {source.name, "out.npy", "out.npy.manifest.json"}


def test_a_changed_input_is_not_resumed(translator, interrupted, save):
    _, target = interrupted
    source = save(rows(20) + 1)
    with pytest.raises(CheckpointError, match="another input"):
        translate_file(translator, source, target, **SMALL)
    translate_file(translator, source, target, resume=False)
    np.testing.assert_allclose(np.load(target), translator.transform(rows(20) + 1), rtol=1e-4)


def change_in_place(path, row):
    """Adds 1 to a row of a .npy file, and puts the time of its last change back."""
    before = path.stat()
    array = np.load(path, mmap_mode="r+")
    array[row] += 1
    array.flush()
    del array
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("row", [0, 14])
def test_what_was_read_of_an_input_and_changed_in_secret_is_not_resumed(
    translator, interrupted, row
):
    source, target = interrupted
    change_in_place(source, row)
    with pytest.raises(CheckpointError, match=r"the first 15 rows .* were changed since"):
        translate_file(translator, source, target, **SMALL)
    translate_file(translator, source, target, resume=False)
    np.testing.assert_array_equal(np.load(target), translator.transform(np.load(source)))


def test_a_change_of_what_was_not_read_yet_mixes_nothing(translator, interrupted):
    source, target = interrupted
    change_in_place(source, 15)
    translate_file(translator, source, target, **SMALL)
    np.testing.assert_allclose(
        np.load(target), translator.transform(np.load(source)), rtol=1e-4, atol=1e-6
    )


def test_an_input_that_was_copied_elsewhere_and_back_is_resumed(
    translator, interrupted, monkeypatch, tmp_path
):
    source, target = interrupted
    shutil.copy2(source, tmp_path / "copy.npy")
    os.replace(tmp_path / "copy.npy", source)
    seen, transform = [], type(translator).transform

    def count(self, block):
        seen.append(len(block))
        return transform(self, block)

    monkeypatch.setattr(type(translator), "transform", count)
    translate_file(translator, source, target, **SMALL)
    assert sum(seen) == 5
    translate_file(translator, source, tmp_path / "whole.npy", **SMALL)
    assert target.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_change_in_secret_while_it_is_read_is_noticed(translator, save, tmp_path, monkeypatch):
    source = save(rows(20))
    transform = type(translator).transform

    def change(self, chunk):
        if len(chunk):
            change_in_place(source, 0)
        return transform(self, chunk)

    monkeypatch.setattr(type(translator), "transform", change)
    with pytest.raises(InvalidLatentsError, match="changed while it was read"):
        translate_file(translator, source, tmp_path / "out.npy")
    assert not list(tmp_path.glob("*out.npy*"))


def test_a_saved_dataset_that_is_changed_while_it_is_read_is_noticed(
    translator, tmp_path, monkeypatch
):
    datasets.Dataset.from_dict({"v": rows(20)}).save_to_disk(tmp_path / "saved")
    (path,) = (tmp_path / "saved").glob("*.arrow")
    transform = type(translator).transform

    def change(self, chunk):
        if len(chunk):
            path.write_bytes(path.read_bytes())
        return transform(self, chunk)

    monkeypatch.setattr(type(translator), "transform", change)
    with pytest.raises(InvalidLatentsError, match=f"{path.name} was changed while it was read"):
        translate_file(translator, tmp_path / "saved", tmp_path / "out.npy")
    assert not list(tmp_path.glob("*out.npy*"))


def test_another_translator_is_not_resumed(translator, interrupted):
    x = rows(50)
    other = OrthoTranslator().fit(x, x[:, :3])
    with pytest.raises(CheckpointError, match="another translator"):
        translate_file(other, *interrupted, **SMALL)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"dtype": "float16"}, "dtype"), ({"processes": 2}, "processes"), ({"chunk_size": 4}, "size")],
)
def test_another_option_is_not_resumed(translator, interrupted, options, name):
    with pytest.raises(CheckpointError, match=f"another .*{name}.* then, .* now"):
        translate_file(translator, *interrupted, **SMALL | options)


def test_an_input_that_changes_while_it_is_read_is_refused(translator, save, tmp_path, monkeypatch):
    source = save(rows(20))
    transform = type(translator).transform

    def touch(self, chunk):
        if len(chunk):
            os.utime(source, (1, 1))
        return transform(self, chunk)

    monkeypatch.setattr(type(translator), "transform", touch)
    with pytest.raises(InvalidLatentsError, match="changed while it was read"):
        translate_file(translator, source, tmp_path / "out.npy")
    assert not list(tmp_path.glob("*out.npy*"))


TRANSLATE = ["-m", "hf_latent_bridge", "translate"]
COMMAND = [*TRANSLATE, "--checkpoint-every", "8192"]


def run_command(*arguments, **options):
    return Warm(*COMMAND, *arguments, **options)


@pytest.fixture
def large(tmp_path):
    """A saved translator, rows that take it a while, and where they go; all as names."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80_000, 32), dtype=np.float32)
    np.save(tmp_path / "in.npy", x)
    y = x[:500] @ rng.standard_normal((32, 512), dtype=np.float32)
    OrthoTranslator().fit(x[:500], y).save_pretrained(tmp_path / "translator")
    return [tmp_path / name for name in ("translator", "in.npy", "out.npy")]


def whole(names):
    """The bytes of the same translation by one process."""
    target = names[2].with_name("whole.npy")
    translate_file(AutoTranslator.from_pretrained(names[0]), names[1], target)
    return target.read_bytes()


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_stood(large, tmp_path):
    """SIGKILL after the first checkpoint; the second run ends with the bytes of a whole one."""
    state = tmp_path / ".out.npy.part.0-of-1"
    with run_command(*large) as run:
        while run.poll() is None:
            if state.exists() and json.loads(state.read_text())["done"]:
                run.kill()
                break
            time.sleep(0.001)
        assert run.wait(PATIENCE) == -signal.SIGKILL
    assert not large[2].exists()
    assert 0 < json.loads(state.read_text())["done"] < 80_000
    with run_command(*large) as run:
        assert run.wait(PATIENCE) == 0
    assert large[2].read_bytes() == whole(large)
    assert not list(tmp_path.glob(".out.npy.*"))


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_puts_the_result_together_only_does_that_again(tmp_path):
    """SIGKILL in the second half of a run, where rows become lines."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30_000, 8), dtype=np.float32)
    np.save(tmp_path / "in.npy", x)
    OrthoTranslator().fit(
        x[:500], x[:500] @ rng.standard_normal((8, 64), dtype=np.float32)
    ).save_pretrained(tmp_path / "translator")
    names = [tmp_path / name for name in ("translator", "in.npy", "out.jsonl")]
    with run_command(*names) as run:
        while run.poll() is None and not (tmp_path / ".out.jsonl.part.whole").exists():
            time.sleep(0.001)
        run.kill()
        assert run.wait(PATIENCE) == -signal.SIGKILL
    assert not names[2].exists()
    assert json.loads((tmp_path / ".out.jsonl.part.0-of-1").read_text())["done"] == 30_000
    with run_command(*names) as run:
        assert run.wait(PATIENCE) == 0
    translator = AutoTranslator.from_pretrained(names[0])
    np.testing.assert_allclose(read(names[2]), translator.transform(x), rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".out*"))


# Several processes --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet"])
def test_two_processes_write_the_bytes_of_one_and_a_bar_shows_what_both_have_done(
    translator, tmp_path, kind, capfd
):
    source = write(tmp_path, kind, rows(20_011))
    options = {**COLUMNS.get(kind, {}), "progress": True}
    for processes in (1, 2):
        target = tmp_path / f"{processes}.{kind}"
        written = translate_file(translator, source, target, processes=processes, **options)
        assert written.shape == (20_011, 3)
        assert "20011/20011" in capfd.readouterr().err
    assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes()


def ranks(names, count):
    """Starts the processes that torchrun would start, the first of them last."""
    environment = os.environ | {"WORLD_SIZE": str(count)}
    return [
        run_command(*names, env=environment | {"RANK": str(rank)})
        for rank in reversed(range(count))
    ]


@pytest.mark.slow
def test_under_torchrun_each_process_takes_its_share(translator, tmp_path):
    np.save(tmp_path / "in.npy", rows(20_011))
    translator.save_pretrained(tmp_path / "translator")
    names = [tmp_path / "translator", tmp_path / "in.npy", tmp_path / "out.npy"]
    for run in ranks(names, 3):
        with run:
            _, error = run.communicate(timeout=PATIENCE)
            assert (run.returncode, error) == (0, "")
    translate_file(translator, names[1], tmp_path / "whole.npy")
    assert names[2].read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(tmp_path.glob(".out.npy.*"))


def torchrun_translate(names):
    return Warm(*torchrun(2, *COMMAND, *names)[1:], env={**os.environ, "OMP_NUM_THREADS": "1"})


def process_at(names, *, rank):
    """Waits until a process has written a part of its range, and tells its id."""
    state = names[2].with_name(f".out.npy.part.{rank}-of-2")
    deadline = time.monotonic() + 120
    while not state.exists() or not json.loads(state.read_text())["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            opened = {os.readlink(link) for link in (folder / "fd").iterdir()}
            if str(names[2].with_name(".out.npy.part")) in opened and (
                f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0")
                or b"RANK=" not in (folder / "environ").read_bytes()
            ):
                return int(folder.name)
    return pytest.fail("no process writes")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux' /proc")
def test_torchrun_ends_all_when_one_is_killed_and_a_second_run_goes_on(large):
    with torchrun_translate(large) as run:
        os.kill(process_at(large, rank=1), signal.SIGKILL)
        assert run.wait(120) != 0
    assert not large[2].exists()
    printed = ""
    for run in ranks(large, 2):
        with run:
            out, error = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, error
        printed += out
    assert printed.count("80,000 latents (dim=512)") == 1
    assert large[2].read_bytes() == whole(large)
    assert not list(large[2].parent.glob(".out.npy.*"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux' /proc")
def test_a_killed_process_of_several_is_told_in_one_line_and_a_second_run_goes_on(large):
    with run_command(*large, "--processes", 2) as run:
        os.kill(process_at(large, rank=1), signal.SIGKILL)
        _, error = run.communicate(timeout=120)
    assert run.returncode == 1
    assert error.startswith("latent-bridge: error: one of 2 processes was killed")
    assert "Traceback" not in error
    with run_command(*large, "--processes", 2) as run:
        assert run.wait(120) == 0
    assert large[2].read_bytes() == whole(large)


def test_the_first_process_does_not_wait_for_ever_for_one_that_never_came(
    translator, save, tmp_path, monkeypatch
):
    source = save(rows(20_011))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ProcessError, match=r"noted no progress for 0.3 seconds .*, None\]\)"):
        translate_file(translator, source, tmp_path / "out.npy", timeout=0.3)
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        translate_file(translator, source, tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (20_011, 3)


@pytest.mark.slow
def test_a_bad_row_in_any_process_stops_them_all(translator, save, tmp_path):
    x = rows(20_000)
    x[19_000, 2] = np.nan
    with pytest.raises(InvalidLatentsError, match="row 19000 is bad"):
        translate_file(translator, save(x), tmp_path / "out.npy", processes=2)
    assert not list(tmp_path.glob("*out.npy*"))


def test_processes_of_processes_and_none_at_all_are_refused(
    translator, save, tmp_path, monkeypatch
):
    source = save(rows(2))
    with pytest.raises(ValueError, match="processes must be an integer of at least 1, got 0"):
        translate_file(translator, source, tmp_path / "out.npy", processes=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes are running already"):
        translate_file(translator, source, tmp_path / "out.npy", processes=2)


@pytest.mark.slow
def test_processes_without_progress_are_ended_when_their_time_is_up(translator, save, tmp_path):
    translator.transform = hang
    with pytest.raises(ProcessError, match=r"noted no progress for 0\.01 seconds"):
        translate_file(translator, save(rows(20)), tmp_path / "o.npy", processes=2, timeout=0.01)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux' /proc")
def test_processes_end_with_the_one_that_started_them(large):
    with run_command(*large, "--processes", 2) as run:
        process = Path("/proc", str(process_at(large, rank=0)))
        run.kill()
    deadline = time.monotonic() + PATIENCE
    while process.exists() and "zombie" not in (process / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_reading_that_hangs_is_an_error_when_its_time_is_up():
    never = threading.Event()

    def hang():
        yield 1
        never.wait(PATIENCE)

    items = ahead(hang(), timeout=0.2)
    assert next(items) == 1
    with pytest.raises(TimeoutError, match=r"no rows could be read for 0\.2 seconds"):
        next(items)
    never.set()


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_converted_in_a_thread_comes_in_order_until_an_item_is_bad(apart):
    taken_in = set()

    def items():
        for i in range(9):
            taken_in.add(threading.get_ident())
            yield i

    def convert(item):
        return 60 // (item - 7)

    found = overlapped(convert, items(), apart=apart)
    assert [next(found) for _ in range(7)] == [(i, 60 // (i - 7)) for i in range(7)]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert (threading.get_ident() in taken_in) is not apart


# Streams ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lines_stream_from_stdin_to_stdout_and_keep_their_other_fields(translator, tmp_path):
    translator.save_pretrained(tmp_path / "translator")
    x = rows(5)
    lines = "".join(json.dumps({"x": row, "id": 1}) + "\n" for row in x.tolist())
    words = *TRANSLATE, tmp_path / "translator", "-", "-", "--column", "x"
    run = finished([sys.executable, *map(str, words)], input=lines)
    result = [json.loads(line) for line in run.stdout.splitlines()]
    assert [list(value) for value in result] == [["x", "id"]] * 5
    found = [value["x"] for value in result]
    np.testing.assert_allclose(found, translator.transform(x), rtol=1e-5)
    assert "5 latents (dim=3)" in run.stderr


def test_a_stream_becomes_a_file_with_the_hash_of_what_was_read(translator, tmp_path, monkeypatch):
    lines = "".join(json.dumps(row) + "\n" for row in rows(7).tolist()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert translate_file(translator, "-", tmp_path / "out.npy", chunk_size=3).shape == (7, 3)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), translator.transform(rows(7)), rtol=1e-5
    )
    digest = hashlib.sha256(lines).hexdigest()
    source = {"name": "-", "size": len(lines), "sha256": digest}
    assert manifest(tmp_path / "out.npy")["source"] == source
    assert not list(tmp_path.glob(".*"))


def test_a_bad_row_of_stdin_is_named_and_nothing_is_left(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1, 2, 3, 4]\n[1, 2]\n")))
    with pytest.raises(InvalidLatentsError, match=r"^stdin: row 1 has 2 numbers"):
        translate_file(translator, "-", tmp_path / "out.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Measured in processes of their own, on files of 13 and 154 MB."""
    code = """
import resource, sys, numpy as np
from hf_latent_bridge import OrthoTranslator, translate_file
x = np.random.default_rng(0).standard_normal((100, 64), dtype=np.float32)
translate_file(OrthoTranslator(scaling="none").fit(x, x), sys.argv[1], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for n in (50_000, 600_000):
        np.save(tmp_path / "in.npy", np.ones((n, 64), np.float32))
        done = warm.finished("-c", code, tmp_path / "in.npy", tmp_path / "out.npy")
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 75_000  # KiB, half of the larger file


# Ids and other columns ----------------------------------------------------------------------

TEXTS = ["plain", 'with "quotes", commas\nand a line break', "ünïcödé 🌍", "", "\ud83d half"]


def written_from(kind, folder, x):
    """Latents with ids and texts in a format that holds them; the two as they are read again."""
    ids, texts = [f"doc {i}" for i in range(len(x))], (TEXTS[:4] * len(x))[: len(x)]
    path = folder / f"in.{kind}"
    columns = {"id": ids, "text": texts, "embedding": list(x)}
    table = pyarrow.table(columns)
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind == "arrow":
        pyarrow.feather.write_feather(table, path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            lines = csv.DictWriter(file, columns)
            lines.writeheader()
            lines.writerows(row | {"embedding": str(row["embedding"])} for row in table.to_pylist())
    elif kind == "vec":
        lines = [" ".join([i, *map(repr, row)]) for i, row in zip(ids, x.tolist(), strict=True)]
        path.write_text(f"{len(x)} 4\n" + "".join(f"{line}\n" for line in lines))
    return path, ids, texts


def rows_read(path):
    """All rows of a file, with `VectorReader`: vectors and objects."""
    blocks = list(open_vectors(path).blocks(payload=True))
    vectors = np.concatenate([block.vectors for block in blocks])
    objects = [row for b in blocks if b.payload for row in b.payload.objects(b.vectors)]
    return vectors, objects


SUFFIXES = [suffix for known in FORMATS.values() for suffix in known.writers]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".jsonl.gz", ".csv.xz", ".npy.bz2"])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "vec"])
def test_every_format_that_is_written_is_read_again_with_what_it_has_room_for(
    translator, tmp_path, kind, suffix
):
    source, ids, texts = written_from(kind, tmp_path, rows(7))
    target = tmp_path / f"out{suffix}"
    written = translate_file(translator, source, target, chunk_size=3)
    vectors, objects = rows_read(target)
    tolerance = 2e-3 if written.dtype == "float16" else 1e-5
    np.testing.assert_allclose(vectors, translator.transform(rows(7)), rtol=tolerance)
    id_column, *others = ["token"] if kind == "vec" else ["id", "text"]
    keeps = writer_of(target).keeps
    assert written.kept == {"nothing": (), "ids": (id_column,), "all": (id_column, *others)}[keeps]
    assert set(written.kept) | set(written.dropped) == {id_column, *others}
    assert ("dropped" in str(written)) == bool(written.dropped)
    if keeps == "all":
        assert [row[id_column] for row in objects] == ids
        assert not others or [row["text"] for row in objects] == texts
    assert manifest(target)["kept"] == list(written.kept)
    assert not list(tmp_path.glob(".*"))


NESTED = [
    {"custom_id": f"doc {i}", "response": {"model": "m", "data": [{"index": 0, "embedding": row}]}}
    for i, row in enumerate(rows(5).tolist())
]


@pytest.fixture
def nested(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in NESTED))
    return tmp_path / "in.jsonl"


def test_a_vector_inside_an_object_is_replaced_in_place(translator, nested, tmp_path):
    translate_file(translator, nested, tmp_path / "out.jsonl", chunk_size=2)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    for old, line, expected in zip(NESTED, lines, translator.transform(rows(5)), strict=True):
        new = json.loads(line)
        (entry,) = new["response"]["data"]
        np.testing.assert_allclose(entry.pop("embedding"), expected, rtol=1e-5)
        assert new["response"] == {"model": "m", "data": [{"index": 0}]}
        assert list(new) == list(old)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".hdf5", ".vec"])
def test_a_vector_inside_an_object_gets_a_column_where_rows_are_flat(
    translator, nested, tmp_path, suffix
):
    target = tmp_path / f"out{suffix}"
    written = translate_file(translator, nested, target)
    vectors, objects = rows_read(target)
    np.testing.assert_allclose(vectors, translator.transform(rows(5)), rtol=1e-5)
    assert [row.get("custom_id", row.get("token")) for row in objects] == [
        row["custom_id"] for row in NESTED
    ]
    assert written.dropped == (("response",) if suffix == ".vec" else ())
    if suffix != ".vec":
        held = objects[1]["response"]
        held = json.loads(held) if isinstance(held, str) else held
        assert held == {"model": "m", "data": [{"index": 0, "embedding": None}]}


def test_tables_keep_the_types_of_their_columns(translator, tmp_path):
    struct = [{"title": [1.0, 2.0], "body": row} for row in rows(5).tolist()]
    columns = {
        "when": pyarrow.array([0, 1, 2, 3, None], pyarrow.timestamp("us")),
        "count": pyarrow.array(range(5), pyarrow.int8()),
        "vectors": pyarrow.array(struct),
        "kind": pyarrow.array(["a", "b", "a", None, "b"]).dictionary_encode(),
        "tags": pyarrow.array([["x"], [], None, ["y", "z"], []]),
    }
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": "{}", "mine": "kept"})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    for suffix in (".parquet", ".arrow"):
        target = tmp_path / f"out{suffix}"
        options = {"column": "vectors.body", "chunk_size": 2, "dtype": "float32"}
        translate_file(translator, tmp_path / "in.parquet", target, **options)
        opened = pyarrow.parquet.read_table if suffix == ".parquet" else pyarrow.feather.read_table
        result = opened(target)
        assert result.drop_columns(["vectors"]) == table.drop_columns(["vectors"])
        assert result.schema.metadata[b"mine"] == b"kept"
        assert b"huggingface" not in result.schema.metadata
        bodies = [row["body"] for row in result["vectors"].to_pylist()]
        np.testing.assert_allclose(bodies, translator.transform(rows(5)), rtol=1e-5)
        assert [row["title"] for row in result["vectors"].to_pylist()] == [[1.0, 2.0]] * 5
        assert result.schema.field("vectors").type.field("body").type == pyarrow.list_(
            pyarrow.float32(), 3
        )


def test_fields_without_a_common_type_become_json_text_in_a_table(translator, tmp_path):
    values = [1, "a", None, {"b": 2.5}, [True]] * 500
    lines = (
        json.dumps({"id": i, "any": value, "x": row} | ({"late": 1.5} if i > 2000 else {}))
        for i, (value, row) in enumerate(zip(values, rows(2500).tolist(), strict=True))
    )
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    translate_file(translator, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    result = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert result.column_names == ["id", "any", "x", "late"]
    assert result["any"].to_pylist()[:5] == ["1", "a", None, '{"b": 2.5}', "[true]"]
    assert result["id"].to_pylist() == list(range(2500))
    assert result["late"].to_pylist()[1999:2002] == [None, None, 1.5]


def test_columns_that_only_some_shards_have_are_kept(translator, tmp_path):
    (tmp_path / "in").mkdir()
    for number, more in enumerate([{}, {"late": ["z"] * 1500}]):
        table = pyarrow.table({"id": range(1500), "v": list(rows(1500)), **more})
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"part-{number}.parquet")
    translate_file(translator, tmp_path / "in", tmp_path / "out.parquet")
    result = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert result["late"].to_pylist() == [None] * 1500 + ["z"] * 1500
    assert result["id"].to_pylist() == [*range(1500)] * 2


def test_columns_of_shards_that_have_no_type_in_common_are_refused(translator, tmp_path):
    (tmp_path / "in").mkdir()
    for number, value in enumerate([3, "three"]):
        table = pyarrow.table({"n": [value] * 1500, "v": list(rows(1500))})
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"part-{number}.parquet")
    with pytest.raises(InvalidLatentsError, match="one name and different types"):
        translate_file(translator, tmp_path / "in", tmp_path / "out.parquet")


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".csv"])
def test_a_column_that_only_some_rows_have_is_as_long_as_the_others(translator, tmp_path, suffix):
    lines = (
        json.dumps({"n": i, "x": row} | ({"late": 1.5} if i > 2000 else {}))
        for i, row in enumerate(rows(2500).tolist())
    )
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    translate_file(translator, tmp_path / "in.jsonl", tmp_path / f"out{suffix}")
    _, objects = rows_read(tmp_path / f"out{suffix}")
    assert [str(row["n"]) for row in objects] == [str(i) for i in range(2500)]
    assert [row["late"] for row in objects] == [""] * 2001 + ["1.5"] * 499


def test_other_libraries_read_what_was_written(translator, save, tmp_path):
    source, expected = save(rows(6)), translator.transform(rows(6))

    def written(suffix):
        translate_file(translator, source, tmp_path / f"out{suffix}")
        return str(tmp_path / f"out{suffix}")

    index = pytest.importorskip("faiss").read_index(written(".faiss"))
    np.testing.assert_allclose(index.reconstruct_n(0, 6), expected, rtol=1e-5)
    with pytest.importorskip("h5py").File(written(".hdf5")) as file:
        np.testing.assert_allclose(file["latents"], expected, rtol=1e-5)
    vecs = np.fromfile(written(".fvecs"), "<i4").reshape(6, 4)
    assert set(vecs[:, 0]) == {3}
    np.testing.assert_allclose(vecs[:, 1:].copy().view("<f4"), expected, rtol=1e-5)
    header = np.fromfile(written(".fbin"), "<u4", 2)
    assert header.tolist() == [6, 3]
    np.testing.assert_allclose(np.load(written(".npz"))["latents"], expected, rtol=1e-5)
    loaded = datasets.load_dataset("parquet", data_files=written(".parquet"), split="train")
    np.testing.assert_allclose(loaded["latents"][:], expected, rtol=1e-5)


def test_the_precision_is_that_of_the_output_where_it_is_wider(translator, save, tmp_path):
    x = rows(50, "float16")
    translate_file(translator, save(x), tmp_path / "out.npy", dtype="float32")
    expected = translator.transform(x.astype(np.float32))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-6)


def test_bfloat16_is_read_as_float32(translator, tmp_path):
    x = torch.from_numpy(rows(5)).bfloat16()
    safetensors.torch.save_file({"x": x}, tmp_path / "in.safetensors")
    written = translate_file(translator, tmp_path / "in.safetensors", tmp_path / "out.npy")
    assert written.dtype == "float32"
    expected = translator.transform(x.float().numpy())
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-6)


def test_a_dtype_that_the_format_does_not_have_is_refused(translator, save, tmp_path):
    with pytest.raises(ValueError, match=r"out.fvecs can hold float32, got dtype='float16'"):
        translate_file(translator, save(rows(2)), tmp_path / "out.fvecs", dtype="float16")
    assert translate_file(translator, save(rows(2, "f8")), tmp_path / "o.fvecs").dtype == "float32"


# What a kill or a damaged disk leaves --------------------------------------------------------


def test_rows_of_an_earlier_run_that_were_damaged_are_translated_again(
    translator, interrupted, tmp_path
):
    source, target = interrupted
    part = tmp_path / ".out.npy.part"
    content = bytearray(part.read_bytes())
    content[150] ^= 4
    part.write_bytes(content)
    translate_file(translator, source, target, **SMALL)
    np.testing.assert_array_equal(np.load(target), translator.transform(np.load(source)))


def test_damaged_notes_of_an_earlier_run_are_refused_and_name_the_cure(translator, interrupted):
    source, target = interrupted
    state = target.with_name(".out.npy.part.0-of-1")
    whole, draw = state.read_bytes(), np.random.default_rng(0)
    refused = []
    for position in draw.integers(0, 8 * len(whole), 300):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        state.write_bytes(damaged)
        with pytest.raises(CheckpointError) as error:
            translate_file(translator, source, target, **SMALL)
        refused.append(str(error.value))
    assert all("start over with resume=False (--restart)" in message for message in refused)
    translate_file(translator, source, target, resume=False, **SMALL)
    np.testing.assert_array_equal(np.load(target), translator.transform(np.load(source)))


def test_a_second_run_of_stdin_leaves_the_first_ones_lines_alone(
    translator, save, tmp_path, monkeypatch
):
    lines, target = b"[1.0, 2.0, 3.0, 4.0]\n", tmp_path / "out.npy"
    held = tmp_path / ".out.npy.part.stdin.jsonl"

    class Stdin:
        """Another run begins while the first reads."""

        buffer = io.BytesIO(lines)

    transform = type(translator).transform

    def meet(self, chunk):
        if len(chunk):
            before = held.read_bytes()
            with pytest.raises(InUseError):
                translate_file(translator, "-", target)
            assert held.read_bytes() == before == lines
        return transform(self, chunk)

    monkeypatch.setattr(sys, "stdin", Stdin)
    monkeypatch.setattr(type(translator), "transform", meet)
    assert translate_file(translator, "-", target).n == 1
    assert not held.exists()
