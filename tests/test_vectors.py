"""Readers of vectors: the column that is meant, the rows asked for, and the other columns."""

import gzip
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy
import vector_files
import warm
from vector_files import X

from hf_latent_bridge import OrthoTranslator, VectorSource, load_pairs, translate_file
from hf_latent_bridge.data.items import Unreadable
from hf_latent_bridge.errors import (
    DatasetError,
    InvalidLatentsError,
    InvalidPairsError,
    MissingExtraError,
)
from hf_latent_bridge.vectors.fields import find_field, natural
from hf_latent_bridge.vectors.formats import open_vectors
from hf_latent_bridge.vectors.numbers import parse_vector
from hf_latent_bridge.vectors.reader import whole

NEW = np.arange(12, dtype=np.float32).reshape(3, 4)


def written(tmp_path, name, write):
    write(tmp_path / name)
    return tmp_path / name


def all_rows(path, **how):
    reader = open_vectors(VectorSource(str(path), **how))
    return np.concatenate([block.vectors for block in reader.blocks()])


def first_payload(path, n=3, **how):
    """What stands beside the first rows."""
    return next(open_vectors(VectorSource(str(path), **how)).blocks(0, n, payload=True)).payload


# Which column ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vectors", "numbers", "wanted", "columns"),
    [
        (["v"], [], None, ["v"]),
        (["embedding", "logits"], [], None, ["embedding"]),
        (["a.vector", "a.other"], [], None, ["a.vector"]),
        (["a", "b"], [], "b", ["b"]),
        (["v"], ["x0", "x1"], None, ["v"]),
        ([], ["id", "x0", "x1", "x2"], None, ["x0", "x1", "x2"]),
        ([], ["x2", "x03", "x1"], None, ["x1", "x2", "x03"]),
        ([], ["a0", "a1", "b0", "b1"], "b*", ["b0", "b1"]),
        ([], ["a_0", "a_1", "b_0", "b_1"], "b", ["b_0", "b_1"]),
        ([], ["x", "y"], "*", ["x", "y"]),
        ([], ["0", "1"], None, ["0", "1"]),
    ],
)  # fmt: skip
def test_the_column_that_can_be_meant_is_found(vectors, numbers, wanted, columns):
    assert find_field("f", wanted, vectors, numbers).columns == tuple(columns)


@pytest.mark.parametrize(
    ("vectors", "numbers", "wanted", "telling"),
    [
        (["a", "b"], [], None, r"holds \['a', 'b'\]: name one as column, got none"),
        (["embedding", "vector"], [], None, "name one as column"),
        (["a"], [], "b", r"holds \['a'\].* got 'b'"),
        ([], ["a0", "a1", "b0", "b1"], None, r"holds \['a\*', 'b\*'\]"),
        ([], ["x0", "x2"], None, r"no column of vectors.*\['x0', 'x2'\]"),
        ([], ["year_2019", "year_2020"], None, "no column of vectors"),
        ([], ["x"], "y*", "no column of vectors 'y"),
    ],
)
def test_a_column_that_could_be_another_is_refused_with_those_there_are(
    vectors, numbers, wanted, telling
):
    with pytest.raises(InvalidLatentsError, match=telling):
        find_field("f", wanted, vectors, numbers)


QUANTISED = (X * 64).astype(np.int8)
BOXES = np.full((len(X), 4), 0.5, np.float32)
BESIDE = {
    "x.npz": lambda path: np.savez(path, embeddings=QUANTISED, boxes=BOXES),
    "x.safetensors": lambda path: safetensors.numpy.save_file(
        {"embeddings": QUANTISED, "boxes": BOXES}, path
    ),
    "x.h5": vector_files.hdf5(embeddings=QUANTISED, boxes=BOXES),
    "x.parquet": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"boxes": BOXES.tolist(), "embeddings": list(QUANTISED)}), path
    ),
    "x.jsonl": vector_files.lines(
        {"boxes": box, "embeddings": row}
        for box, row in zip(BOXES.tolist(), QUANTISED.tolist(), strict=True)
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_quantised_vectors_are_found_beside_other_lists_of_floats(name, tmp_path):
    path = written(tmp_path, name, BESIDE[name])
    np.testing.assert_array_equal(all_rows(path, scale=1 / 64), X)
    assert all_rows(path, column="boxes").shape == BOXES.shape


def test_numbers_in_names_count():
    assert sorted(["s-10", "s-2", "s-1b", "s-1"], key=natural) == ["s-1", "s-1b", "s-2", "s-10"]


def test_a_column_named_for_one_file_is_that_of_the_other_where_it_has_it(tmp_path):
    two = written(tmp_path, "two.npz", lambda path: np.savez(path, old=X, new=X * 2))
    one = written(tmp_path, "one.npz", lambda path: np.savez(path, embeddings=X * 3))
    pairs = load_pairs((two, two), source="old")
    np.testing.assert_array_equal(pairs.target[:], X)
    pairs = load_pairs((two, one), source="old")
    np.testing.assert_array_equal(pairs.target[:], X * 3)
    pairs = load_pairs((VectorSource(str(two), "new"), VectorSource(str(two), "old")))
    np.testing.assert_array_equal(pairs.source[:] / 2, pairs.target[:])


@pytest.mark.parametrize("name", ["x.npy", "x.fbin", "x.txt", "x.jsonl", "x.json"])
def test_a_column_of_a_file_that_has_vectors_alone_is_refused(name, tmp_path):
    write = {
        "x.npy": lambda path: np.save(path, X),
        "x.fbin": vector_files.content(np.array(X.shape, "<u4").tobytes() + X.tobytes()),
        "x.txt": lambda path: np.savetxt(path, X),
        "x.jsonl": vector_files.lines(X.tolist()),
        "x.json": vector_files.content(json.dumps(X.tolist())),
    }
    path = written(tmp_path, name, write[name])
    assert open_vectors(path).n == len(X)
    with pytest.raises(InvalidLatentsError, match="vectors alone, and no column 'embedding'"):
        open_vectors(path, "embedding")
    assert len(load_pairs((path, X), target="embedding")) == len(X)


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [
        pyarrow.array(X.tolist()),
        pyarrow.array(range(len(X))),
        pyarrow.array(range(len(X))),
    ]
    rows = pyarrow.table(columns, names=["v", "id", "id"])
    pyarrow.parquet.write_table(rows, tmp_path / "x.parquet")
    with pytest.raises(InvalidLatentsError, match=r"several columns are named \['id'\]: rename"):
        open_vectors(tmp_path / "x.parquet")


def test_a_revision_of_a_folder_of_shards_is_refused(tmp_path):
    np.save(tmp_path / "part-0.npy", X)
    with pytest.raises(InvalidLatentsError, match="revision are of a dataset"):
        open_vectors(VectorSource(str(tmp_path), revision="v1"))


def test_ids_in_front_of_the_numbers_of_a_csv_file_without_a_header_are_no_dimension(tmp_path):
    rows = [[100 + 7 * i, *row] for i, row in enumerate(X.tolist())]
    path = written(tmp_path, "x.csv", vector_files.cells(rows))
    np.testing.assert_array_equal(all_rows(path), X)


# How numbers are spelled ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[1, -2.5, 3e-2]",
        " [1,-2.5,0.03]\n",
        "{1,-2.5,0.03}",
        "(1, -2.5, 0.03)",
        "[ 1.   -2.5\n  0.03]",
        "[[1, -2.5, 0.03]]",
        "array([ 1.  , -2.5 ,  0.03], dtype=float32)",
        "tensor([1.0000, -2.5000, 0.0300])",
        "tensor([1.0000, -2.5000, 0.0300], device='cuda:0', dtype=torch.float16)",
        "[np.float32(1.0), np.float32(-2.5), np.float32(0.03)]",
        vector_files.in_base64([1, -2.5, 0.03]),
    ],
)
def test_a_vector_is_read_from_any_spelling(text):
    np.testing.assert_array_equal(parse_vector(text), np.array([1, -2.5, 0.03], np.float32))


@pytest.mark.parametrize("text", ["", " ", "null", "None", "NaN", r"\N"])
def test_a_text_that_says_null_is_a_missing_row(text):
    assert parse_vector(text) is None


@pytest.mark.parametrize(
    "text",
    ["hello", "[a, b]", "[1, null]", "[true, false]", "[]", "{}", '{"a": 1}', "[[1], [2]]", "0.5",
     "[1. ... 2.]", "{1:0.5,3:0.2}/6", "[0.25, 0.1", "[0.25 0.1", "{0.25,0.1", "(0.25, 0.1]",
     "()", "array([])"],
)  # fmt: skip
def test_other_texts_are_no_vectors(text):
    assert isinstance(parse_vector(text), Unreadable)


@pytest.mark.parametrize("scale", [0, float("nan"), float("inf"), "half"])
def test_a_scale_that_leaves_nothing_is_refused(scale):
    with pytest.raises(ValueError, match="finite number other than 0"):
        VectorSource("x.npy", scale=scale)


def test_text_has_no_packed_bits(tmp_path):
    path = written(tmp_path, "x.jsonl", vector_files.lines([[1, 2], [3, 4]]))
    with pytest.raises(InvalidLatentsError, match=r"x\.jsonl: row 0 is text: packed bits"):
        all_rows(path, scale="binary")


def test_a_scale_leaves_floats_as_they_are(tmp_path):
    path = written(tmp_path, "x.npy", lambda path: np.save(path, X))
    np.testing.assert_array_equal(all_rows(path, scale=0.5), X)


# Rows by number -------------------------------------------------------------------------------


MANY = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
LONG = {
    "x.npy": lambda path: np.save(path, MANY),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(MANY)),
    "x.npz": lambda path: np.savez_compressed(path, MANY),
    "x.jsonl": vector_files.lines({"text": "é", "v": row} for row in MANY.tolist()),
    "x.jsonl.gz": vector_files.gzipped(vector_files.lines(MANY.tolist())),
    "x.json": vector_files.content(json.dumps(MANY.tolist())),
    "x.csv": vector_files.cells(
        [["v", "text"], *([str(row), 'é "quoted"\nand\n\nmore'] for row in MANY.tolist())]
    ),
    "x.txt": lambda path: np.savetxt(path, MANY),
    "x.arrow": lambda path: _batches(path, 100),
    "x.parquet": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"v": MANY.tolist()}), path, row_group_size=150
    ),
}


def _batches(path, size):
    rows = pyarrow.table({"id": range(len(MANY)), "v": MANY.tolist()})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, rows.schema) as file:
        file.write_table(rows, max_chunksize=size)


@pytest.mark.parametrize("name", LONG)
def test_any_rows_of_a_long_file_are_found(name, tmp_path):
    reader = open_vectors(written(tmp_path, name, LONG[name]))
    rng = np.random.default_rng(1)
    asked = [np.sort(rng.choice(700, n, replace=False)) for n in (5, 60, 400)]
    asked += [rng.permutation(700)[:50], np.arange(600, 650), np.arange(10), np.array([699, 0])]
    for rows in asked:
        read = np.array(list(reader.read(rows)))
        np.testing.assert_allclose(read, MANY[rows], rtol=1e-6)
    starts = [next(reader.blocks(start, start + 9, 9)).vectors for start in (63, 64, 65, 640, 691)]
    np.testing.assert_allclose(starts[1], MANY[64:73], rtol=1e-6)
    np.testing.assert_allclose(starts[4], MANY[691:], rtol=1e-6)


@pytest.mark.slow
def test_memory_holds_a_block_and_not_the_file(tmp_path):
    """A sparse file of 400 MB is read whole, by blocks and by number, in 100 MB at most."""
    with (tmp_path / "x.npy").open("wb") as file:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (200_000, 500)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.truncate(file.tell() + 200_000 * 500 * 4)
    code = (
        "import resource, sys\nimport numpy as np\n"
        "from hf_latent_bridge.vectors.formats import open_vectors\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "reader, before = open_vectors(sys.argv[1]), peak()\n"
        "print(sum(len(block.vectors) for block in reader.blocks()))\n"
        "print(len(reader.read(np.arange(0, 200_000, 400))), (peak() - before) / 1024)\n"
    )
    out = warm.finished("-c", code, tmp_path / "x.npy").stdout.split()
    assert out[:2] == ["200000", "500"]
    assert float(out[2]) < 100


def test_a_blank_line_is_a_bad_row_but_at_the_end(tmp_path):
    for name, text in (
        ("x.jsonl", "[1, 2]\n\n[3, 4]\n\n \n"),
        ("x.tsv", "v\n[1, 2]\n\n[3, 4]\n\n"),
        ("x.txt", "1 2\n\n3 4\n\n"),
        ("x.vec", "a 1 2\n\nb 3 4\n"),
        ("printed.txt", "[1 2]\n\n[3 4]\n"),
    ):
        path = written(tmp_path, name, vector_files.content(text))
        assert open_vectors(path).n == 3
        with pytest.raises(InvalidLatentsError, match="row 1 is an empty line"):
            all_rows(path)
        first, blank, last = open_vectors(path).read(np.arange(3))
        assert (list(first), blank.reason, list(last)) == ([1, 2], "is an empty line", [3, 4])


def test_truths_and_times_stand_beside_a_matrix_of_an_archive(tmp_path):
    beside = {"new": np.arange(3) > 0, "day": np.array(["2024-02-29"] * 3, "M8[D]")}
    path = written(tmp_path, "x.npz", lambda path: np.savez(path, v=NEW, **beside))
    rows = first_payload(path).objects(NEW)
    assert [row["new"] for row in rows] == [False, True, True]
    assert rows[0]["day"] == "2024-02-29"


@pytest.mark.parametrize("name", ["x.npy", "x.fvecs", "x.parquet", "x.arrow", "x.csv", "x.jsonl"])
def test_a_file_without_rows_has_none(name, tmp_path):
    none = pyarrow.table({"v": pyarrow.array([], pyarrow.list_(pyarrow.float32()))})
    write = {
        "x.npy": lambda path: np.save(path, X[:0]),
        "x.fvecs": vector_files.content(b""),
        "x.parquet": lambda path: pyarrow.parquet.write_table(none, path),
        "x.arrow": lambda path: pyarrow.feather.write_feather(none, str(path)),
        "x.csv": vector_files.content("id,v\n"),
        "x.jsonl": vector_files.content("\n"),
    }
    path = written(tmp_path, name, write[name])
    reader = open_vectors(path)
    assert (reader.n, reader.dim) == (0, 6 if name == "x.npy" else None)
    with pytest.raises(InvalidPairsError, match="at least one item"):
        load_pairs((path, path))


def changed(write, old, new):
    """What another way writes, with some bytes replaced by as many others."""

    def write_changed(path):
        write(path)
        assert len(old) == len(new)
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))

    return write_changed


DAMAGED = {
    "brace.npy": changed(lambda path: np.save(path, X), b"}", b" "),
    "quote.npy": changed(lambda path: np.save(path, X), b"'<f4'", b"'<f4("),
    "text.arrow": changed(vector_files.arrow(pyarrow.ipc.new_file), b"doc-004", b"doc\xff004"),
    "text_stream.arrow": changed(
        vector_files.arrow(pyarrow.ipc.new_stream), b"doc-004", b"doc\xff004"
    ),
    "encrypted.npz": changed(
        lambda path: np.savez(path, x=X),
        b"PK\x01\x02\x2d\x03\x2d\x00\x00",
        b"PK\x01\x02\x2d\x03\x2d\x00\x01",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_of_any_kind_is_refused_by_the_name_of_the_file(name, tmp_path):
    DAMAGED[name](tmp_path / name)

    def read():
        for block in open_vectors(tmp_path / name).blocks(payload=True):
            block.payload.objects(block.vectors)

    with pytest.raises(InvalidLatentsError, match=f"{name} is not a whole .* or is damaged"):
        read()


def test_a_file_that_needs_more_memory_than_there_is_is_refused(tmp_path):
    with pytest.raises(InvalidLatentsError, match="x does not fit in memory"), whole("x"):
        np.empty((2**40, 2**10))


def test_the_number_of_rows_that_a_text_file_announces_is_checked(tmp_path):
    path = written(tmp_path, "x.txt", vector_files.content("3 2\na 0.5 1\nb 1.5 2\n"))
    with pytest.raises(InvalidLatentsError, match="its header announces 3 rows, it has 2"):
        open_vectors(path)


def test_a_token_may_look_like_the_beginning_of_a_comment(tmp_path):
    path = written(tmp_path, "x.txt", vector_files.content("# 0.5 1\nb 1.5 2\n"))
    np.testing.assert_array_equal(all_rows(path), [[0.5, 1], [1.5, 2]])


def test_a_struct_that_is_null_stays_null_beside_other_rows(tmp_path):
    rows = pyarrow.table({"v": [{"a": [0.5, 1.5], "b": 1}, None]})
    pyarrow.parquet.write_table(rows, tmp_path / "x.parquet")
    part = next(open_vectors(tmp_path / "x.parquet").parts(0, 2, 2, payload=True))
    found = part.payload.objects(np.zeros((2, 0)))
    assert found == [{"v": {"a": [], "b": 1}}, {"v": None}]


def test_a_folder_of_folders_is_refused(tmp_path):
    for year in ("year=2020", "year=2021"):
        (tmp_path / year).mkdir()
        np.save(tmp_path / year / "part-0.npy", X)
    np.save(tmp_path / "part-0.npy", X)
    with pytest.raises(InvalidLatentsError, match=r"holds folders, \['year=2020', 'year=2021'\]"):
        open_vectors(tmp_path)
    assert open_vectors(tmp_path / "year=2020").n == len(X)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(InvalidLatentsError, match=r"x\.jsonl is a pipe or a device, .* named -"):
        open_vectors(tmp_path / "x.jsonl")


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs a file that fails to be read"
)
def test_an_error_of_the_disk_is_not_called_damage(tmp_path):
    (tmp_path / "x.npy").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=r"cannot read .*x\.npy: Input/output error") as refusal:
        open_vectors(tmp_path / "x.npy")
    assert not isinstance(refusal.value, InvalidLatentsError)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".jsonl", ".arrow", ".h5", ".csv"])
def test_a_folder_of_shards_holds_no_file_open(suffix, tmp_path):
    translator = OrthoTranslator(scaling="none").fit(X, X)
    np.save(tmp_path / "x.npy", X[:2])
    (tmp_path / "shards").mkdir()
    translate_file(translator, tmp_path / "x.npy", tmp_path / f"shards/0{suffix}")
    for number in range(1, 20):
        shutil.copy(tmp_path / f"shards/0{suffix}", tmp_path / f"shards/{number}{suffix}")
    (tmp_path / f"shards/0{suffix}.manifest.json").unlink()
    before = len(os.listdir("/proc/self/fd"))
    reader = open_vectors(tmp_path / "shards")
    assert len(reader.read(np.array([3, 30]))) == 2
    assert reader.n == 40
    assert len(os.listdir("/proc/self/fd")) < before + 10


def test_a_stream_is_no_side_of_pairs():
    with pytest.raises(InvalidPairsError, match="stdin has none: name a file"):
        load_pairs((VectorSource("-"), X))


# What stands beside the vectors ---------------------------------------------------------------


def test_objects_keep_all_but_the_vector_at_its_path(tmp_path):
    answer = {"id": 7, "response": {"data": [{"index": 0, "embedding": [0.5]}], "model": "m"}}
    path = written(tmp_path, "x.jsonl", vector_files.lines([answer] * 3))
    rows = first_payload(path).objects(NEW)
    assert rows[1] == {
        "id": 7,
        "response": {"data": [{"index": 0, "embedding": [4.0, 5.0, 6.0, 7.0]}], "model": "m"},
    }


WIDE = {
    "x.parquet": lambda path, rows: pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), path
    ),
    "x.jsonl": lambda path, rows: vector_files.lines(rows)(path),
    "x.csv": lambda path, rows: vector_files.cells(
        [list(rows[0]), *(list(row.values()) for row in rows)]
    )(path),
}


@pytest.mark.parametrize("out", ["y.parquet", "y.jsonl", "y.csv", "y.npz"])
@pytest.mark.parametrize("name", WIDE)
def test_a_column_named_as_the_dimensions_are_is_kept_beside_the_vectors(name, out, tmp_path):
    rows = [{"e": f"m{i}", **{f"e_{k}": x for k, x in enumerate(row)}} for i, row in enumerate(X)]
    rows = [{key: getattr(x, "item", lambda x=x: x)() for key, x in row.items()} for row in rows]
    WIDE[name](tmp_path / name, rows)
    translator = OrthoTranslator(scaling="none").fit(X, X)
    assert translate_file(translator, tmp_path / name, tmp_path / out).kept == ("e",)
    found = first_payload(tmp_path / out).objects(NEW)
    assert [row["e"] for row in found] == ["m0", "m1", "m2"]
    np.testing.assert_allclose(all_rows(tmp_path / out), X, atol=1e-5)


def test_columns_keep_their_place_and_type(tmp_path):
    table = pyarrow.table(
        {
            "id": pyarrow.array([1, 2, 3], pyarrow.int8()),
            "v": [[0.5]] * 3,
            "label": ["a", None, "c"],
        }
    )
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(table, path)
    kept = first_payload(path).table(NEW)
    assert kept.schema.names == ["id", "v", "label"]
    assert kept.schema.field("id").type == pyarrow.int8()
    assert kept.column("v").to_pylist() == NEW.tolist()
    assert first_payload(path).objects(NEW)[1] == {"id": 2, "v": NEW[1].tolist(), "label": None}


def test_a_named_vector_is_replaced_among_the_others(tmp_path):
    rows = [{"title": [0.25], "body": [0.5, 1.0]}, None, {"title": None, "body": [1.0, 2.0]}]
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"vectors": rows}), path)
    reader = open_vectors(VectorSource(str(path), "vectors.body"))
    assert list(map(type, reader.read(np.arange(3)))) == [np.ndarray, type(None), np.ndarray]
    part = next(reader.parts(0, 1, 9, payload=True))
    assert part.payload.table(NEW[:1]).to_pylist() == [
        {"vectors": {"title": [0.25], "body": NEW[0].tolist()}}
    ]


@pytest.mark.parametrize("name", ["x.tsv", "x.parquet"])
def test_one_column_per_dimension_becomes_one_of_vectors(name, tmp_path):
    columns = {"id": ["a", "b", "c"], "dim_0": [0.5, 1, 2], "dim_1": [0.5, 1, 2]}
    write = {
        "x.tsv": vector_files.cells([columns, *zip(*columns.values(), strict=True)], "\t"),
        "x.parquet": vector_files.table(**columns),
    }
    payload = first_payload(written(tmp_path, name, write[name]))
    assert payload.objects(NEW)[0] == {"id": "a", "dim": NEW[0].tolist()}
    assert payload.table(NEW).column_names == ["id", "dim"]


@pytest.mark.parametrize("name", ["x.npz", "x.hdf5", "x.safetensors", "x.faiss", "x.txt"])
def test_ids_stand_beside_matrices_too(name, tmp_path):
    ids = np.arange(len(X)) + 7
    write = {
        "x.npz": lambda path: np.savez(path, id=ids, v=X, scalar=np.array(3.0)),
        "x.hdf5": vector_files.hdf5(id=ids, v=X),
        "x.safetensors": vector_files.arrays(id=ids, v=X),
        "x.faiss": vector_files.faiss_index(vector_files.with_ids),
        "x.txt": vector_files.content(
            "".join(f"{i} {vector_files.text_of(row)}\n" for i, row in zip(ids, X, strict=True))
        ),
    }
    path = written(tmp_path, name, write[name])
    first, *_ = open_vectors(path).blocks(5, 8, payload=True)
    (key, given), (_, vector) = first.payload.objects(NEW)[0].items()
    assert (key in ("id", "token"), str(given), vector) == (True, "12", NEW[0].tolist())


@pytest.mark.parametrize("offsets", [[-400, -160], [0, 59]])
def test_a_tensor_beside_the_vectors_that_is_not_where_it_is_said_to_be_is_refused(
    offsets, tmp_path
):
    whole = safetensors.numpy.save({"id": np.arange(len(X), dtype=np.int32), "v": X})
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    header["id"]["data_offsets"] = offsets
    told = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(
        len(told).to_bytes(8, "little") + told + whole[8 + size :]
    )
    with pytest.raises(InvalidLatentsError, match=r"'id' of shape \[60\] does not fill its bytes"):
        open_vectors(tmp_path / "x.safetensors")


# Datasets, folders, files of other kinds ------------------------------------------------------


@pytest.mark.parametrize("where", ["disk", "hub", "folder"])
def test_a_dataset_is_read_by_the_same_rules(where, tmp_path, repo_id):
    columns = {"id": vector_files.IDS, "nested": [{"v": str(row)} for row in X.tolist()]}
    data = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)})
    name = str(tmp_path / "data")
    if where == "disk":
        data.save_to_disk(name)
    elif where == "hub":
        name = repo_id
        data.push_to_hub(name, token="hf_alice")
    else:
        (tmp_path / "data").mkdir()
        data["train"].to_parquet(tmp_path / "data" / "train-00000.parquet")
    np.testing.assert_array_equal(all_rows(name, split="train"), X)
    pairs = load_pairs((VectorSource(name, split="train"), X))
    np.testing.assert_array_equal(pairs.source[3:9], X[3:9])
    with pytest.raises(DatasetError, match="train"):
        open_vectors(VectorSource(name, split="test"))


def test_a_split_of_a_file_is_refused(tmp_path):
    path = written(tmp_path, "x.npy", lambda path: np.save(path, X))
    with pytest.raises(InvalidLatentsError, match=r"of a dataset, and .*x\.npy is a file"):
        open_vectors(VectorSource(str(path), split="train"))


@pytest.mark.parametrize("name", ["nowhere.npy", "nowhere", "some/where.parquet"])
def test_a_missing_file_is_named(name):
    with pytest.raises(FileNotFoundError, match=name):
        open_vectors(name)


def test_a_format_whose_package_is_missing_names_the_extra(tmp_path, monkeypatch):
    path = written(tmp_path, "x.h5", vector_files.hdf5(x=X))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"x\.h5 needs h5py: .*hf-latent-bridge\[hdf5\]"):
        open_vectors(path)


@pytest.mark.slow
def test_a_base_install_reads_what_needs_no_package(tmp_path):
    names = ("plain.npy", "arrays.npz", "records.jsonl", "strings.csv", "word2vec.txt", "a.fvecs")
    cases = [c for c in (*vector_files.SHARED, *vector_files.MORE) if c.name in names]
    vector_files.in_folder(tmp_path, cases)
    code = (
        "import sys; sys.modules |= dict.fromkeys(('datasets', 'pyarrow', 'h5py', 'faiss'))\n"
        "from hf_latent_bridge import load_pairs\n"
        "print(*{len(load_pairs((path, path))) for path in sys.argv[1:]})"
    )
    words = ["-c", code, *(tmp_path / name for name in names)]
    assert warm.finished(*words, loaded=warm.BASE).stdout == "60\n"


def test_a_changed_file_is_another(tmp_path):
    path = written(tmp_path, "x.npy", lambda path: np.save(path, X))
    before = load_pairs((path, X)).fingerprint()
    assert load_pairs((path, X)).fingerprint() == before
    np.save(path, X[:, ::-1] + 1)
    assert load_pairs((path, X)).fingerprint() != before
    assert load_pairs((VectorSource(str(path), token="hf_x"), X)).fingerprint().find("hf_x") < 0


def test_a_data_frame_saved_with_its_names_apart_is_read_by_its_column_of_vectors(tmp_path):
    x = np.arange(12.0).reshape(3, 4) / 8
    frame = pandas.DataFrame({"id": [7, 8, 9], "embedding": list(x)})
    frame.to_json(tmp_path / "split.json", orient="split")
    reader = open_vectors(tmp_path / "split.json")
    assert reader.column == "embedding"
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in reader.blocks(0, None, 2)]), x)


def test_a_wide_data_frame_saved_with_its_names_apart_is_read_by_its_common_prefix(tmp_path):
    x = np.arange(12.0).reshape(3, 4) / 8
    frame = pandas.DataFrame(x, columns=[f"dim_{i}" for i in range(4)])
    frame.to_json(tmp_path / "split.json", orient="split")
    found = [b.vectors for b in open_vectors(tmp_path / "split.json", "dim_*").blocks(0, None, 2)]
    np.testing.assert_array_equal(np.concatenate(found), x)


def test_blanks_after_commas_are_no_part_of_a_csv_file_s_cells(tmp_path):
    (tmp_path / "a.csv").write_text('id, text, vector\n1, "so, it is", "[0.5, 1.5]"\n')
    reader = open_vectors(VectorSource(tmp_path / "a.csv"))
    (block,) = reader.blocks(payload=True)
    np.testing.assert_array_equal(block.vectors, [[0.5, 1.5]])
    (row,) = block.payload.objects(block.vectors)
    assert (row["id"], row["text"]) == ("1", "so, it is")


def test_blanks_are_kept_where_they_do_not_follow_every_comma(tmp_path):
    (tmp_path / "a.csv").write_text('id,text,vector\n1, so,"[0.5, 1.5]"\n')
    (block,) = open_vectors(VectorSource(tmp_path / "a.csv")).blocks(payload=True)
    assert block.payload.objects(block.vectors)[0]["text"] == " so"


def npy_header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117) + b"\n"


@pytest.mark.parametrize("shape", [(-1, 16), (1, -16), (-1, -16), (2**70, 16), (1, 2**64)])
@pytest.mark.parametrize("suffix", [".npy", ".npy.gz", ".npz", ".safetensors"])
def test_a_header_with_an_impossible_shape_is_refused(tmp_path, shape, suffix):
    file, content = tmp_path / f"x{suffix}", npy_header(shape)
    content += bytes(64)
    if suffix == ".npz":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", content)
    elif suffix == ".safetensors":
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 64]}
        header = json.dumps({"x": entry}).encode()
        file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    else:
        file.write_bytes(gzip.compress(content) if suffix == ".npy.gz" else content)
    with pytest.raises(InvalidLatentsError, match=r"is not a whole .* or is damaged"):
        open_vectors(VectorSource(str(file)))


def test_a_tensor_that_would_reach_into_the_next_one_is_refused(tmp_path):
    entries = {
        "a": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 32]},
    }
    header = json.dumps(entries).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    with pytest.raises(InvalidLatentsError, match=r"'a' of shape \[4, 2\] does not fill its bytes"):
        open_vectors(path, "a")
    assert open_vectors(path, "b").n == 2


@pytest.mark.parametrize("head", [[], ["3 2"]])
def test_a_mark_of_byte_order_is_no_part_of_a_text_file_s_first_row(head, tmp_path):
    """Some editors put one in front of UTF-8."""
    rows = ["0.5 1.5", "2.5 3.5", "4.5 5.5"]
    rows = [f"w{i} {row}" for i, row in enumerate(rows)] if head else rows
    path = tmp_path / "x.txt"
    path.write_text("\n".join([*head, *rows]), encoding="utf-8-sig")
    np.testing.assert_array_equal(all_rows(path), [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]])


def test_a_text_in_another_encoding_says_which_is_needed(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('id,text,v\n1,café,"[0.5, 1.5]"\n'.encode("latin-1"))
    with pytest.raises(InvalidLatentsError, match=r"x\.csv must be UTF-8: save it so"):
        open_vectors(path)


def test_an_index_that_has_lost_digits_is_refused(tmp_path):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexHNSWSQ(X.shape[1], faiss.ScalarQuantizer.QT_8bit, 8)
    index.train(X)
    index.add(X)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(InvalidLatentsError, match="IndexHNSWSQ: vectors are read from indexes"):
        open_vectors(tmp_path / "x.faiss")


def test_an_inverted_file_whose_rows_have_no_order_is_refused(tmp_path):
    faiss = pytest.importorskip("faiss")
    quantizer = faiss.IndexFlatL2(X.shape[1])
    index = faiss.IndexIVFFlat(quantizer, X.shape[1], 1)
    index.train(X)
    index.add_with_ids(X, np.arange(len(X)) + 100)
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    with pytest.raises(InvalidLatentsError, match="have no order: put it in an IndexIDMap"):
        open_vectors(tmp_path / "x.faiss")


@pytest.mark.parametrize("rest", [" x", "\n[[5, 6]]\n", " " * 2**21 + "]"])
def test_what_follows_the_array_of_a_json_file_is_not_lost_in_silence(rest, tmp_path):
    (tmp_path / "x.json").write_text(f"[[1, 2], [3, 4]]{rest}")
    with pytest.raises(InvalidLatentsError, match="it goes on after its array: save it as JSON"):
        open_vectors(tmp_path / "x.json")


def test_a_file_of_brackets_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InvalidLatentsError, match="recursion"):
        open_vectors(VectorSource(str(tmp_path / "deep.json")))
