"""Two files of vectors whose ids differ in a row are not paired."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vector_files

from hf_latent_bridge import (
    OrthoTranslator,
    VectorSource,
    fit_translator,
    load_matched_pairs,
    load_pairs,
    load_views,
    translate_file,
)
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import BadRowError, InvalidLatentsError, InvalidPairsError

X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def json_lines(path, ids):
    rows = [{"id": i, "vector": v.tolist()} for i, v in zip(ids, X, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))


def parquet(path, ids):
    pq.write_table(pa.table({"id": list(ids), "vector": X.tolist()}), path)


def csv(path, ids):
    rows = [f"{i},{a},{b},{c}" for i, (a, b, c) in zip(ids, X, strict=True)]
    path.write_text("\n".join(["id,dim_0,dim_1,dim_2", *rows]))


def npz(path, ids):
    np.savez(path, id=np.array(list(ids)), vectors=X)


def safetensors(path, ids):
    vector_files.arrays(id=np.array(list(ids)), vectors=X)(path)


FORMATS = {
    "jsonl": json_lines,
    "parquet": parquet,
    "csv": csv,
    "npz": npz,
    "safetensors": safetensors,
}
EVERY_FORMAT = pytest.mark.parametrize("suffix", FORMATS)


@EVERY_FORMAT
def test_equal_ids_pair_whatever_the_format(tmp_path, suffix):
    FORMATS[suffix](tmp_path / f"a.{suffix}", range(5))
    parquet(tmp_path / "b.parquet", range(5))
    pairs = load_pairs((tmp_path / f"a.{suffix}", tmp_path / "b.parquet"))
    np.testing.assert_allclose(pairs.source[3], pairs.target[3], rtol=1e-6)


@EVERY_FORMAT
def test_the_first_row_with_two_ids_is_named(tmp_path, suffix):
    FORMATS[suffix](tmp_path / f"a.{suffix}", range(5))
    parquet(tmp_path / "b.parquet", [0, 1, 3, 2, 4])
    with pytest.raises(InvalidPairsError, match=r"row 2 has the id '2' in .* and '3' in .*sort"):
        load_pairs((tmp_path / f"a.{suffix}", tmp_path / "b.parquet"))


APART = pytest.mark.parametrize("name", ["x.npz", "x.hdf5", "x.safetensors", "x.json"])


@APART
@pytest.mark.parametrize("n", [0, 4, 6])
def test_ids_of_another_number_than_the_rows_are_refused_though_nobody_asks_for_them(
    name, n, tmp_path
):
    vector_files.arrays(ids=np.arange(n), v=X)(tmp_path / name)
    np.save(tmp_path / "y.npy", X)
    told = rf"{name}: 'ids' must have 5 values, one for each row of 'v', got {n}: save"
    with pytest.raises(InvalidLatentsError, match=told):
        load_pairs((tmp_path / "y.npy", tmp_path / name))
    with pytest.raises(InvalidLatentsError, match=told):
        translate_file(OrthoTranslator().fit(X, X), tmp_path / name, tmp_path / "new.npy")
    assert not (tmp_path / "new.npy").exists()


@APART
def test_ids_of_another_matrix_in_the_file_are_its_own(name, tmp_path):
    vector_files.arrays(ids=np.arange(4), train=X, test=X[:4])(tmp_path / name)
    assert len(load_pairs((VectorSource(tmp_path / name, "train"), X))) == 5


@pytest.mark.parametrize("name", ["x.npz", "x.hdf5", "x.safetensors"])
def test_ids_in_a_matrix_of_one_column_are_ids(name, tmp_path):
    vector_files.arrays(id=np.arange(5)[:, None], v=X)(tmp_path / name)
    parquet(tmp_path / "b.parquet", [0, 1, 3, 2, 4])
    with pytest.raises(InvalidPairsError, match="row 2 has the id '2' in"):
        load_pairs((tmp_path / name, tmp_path / "b.parquet"))


def test_ids_that_only_pickle_could_read_are_not_passed_over(tmp_path):
    np.savez(tmp_path / "x.npz", ids=np.array(list("abcde"), object), v=X)
    with pytest.raises(InvalidLatentsError, match=r"'ids' holds object .*such as ids\.astype\(str"):
        load_pairs((tmp_path / "x.npz", X))


def test_views_whose_ids_differ_are_refused_too(tmp_path):
    npz(tmp_path / "a.npz", range(5))
    np.save(tmp_path / "b.npy", X)
    parquet(tmp_path / "c.parquet", [0, 1, 3, 2, 4])
    views = {name: tmp_path / name for name in ("b.npy", "a.npz", "c.parquet")}
    with pytest.raises(
        InvalidPairsError, match=r"row 2 has the id '2' in .*a\.npz and '3' in .*c\."
    ):
        load_views(views)


def test_the_answers_of_a_batch_are_known_by_their_custom_ids(tmp_path):
    for name, ids in (("a", "vwxyz"), ("b", "vwyxz")):
        rows = zip(ids, X.tolist(), strict=True)
        lines = [json.dumps({"custom_id": i, "body": {"embedding": row}}) for i, row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    with pytest.raises(InvalidPairsError, match="row 2 has the custom_id 'x' in"):
        load_pairs((tmp_path / "a.jsonl", tmp_path / "b.jsonl"))
    assert len(load_matched_pairs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")) == 5


def test_queries_and_items_whose_ids_differ_are_not_judged(tmp_path, capsys):
    OrthoTranslator().fit(X, X).save_pretrained(tmp_path / "map")
    parquet(tmp_path / "a.parquet", range(5))
    parquet(tmp_path / "b.parquet", [1, 0, 2, 3, 4])
    command = ["gate", "--translator", f"{tmp_path}/map"]
    for part in ("queries", "corpus"):
        command += [f"--{part}-source-vectors", f"{tmp_path}/a.parquet"]
        command += [f"--{part}-target-vectors", f"{tmp_path}/b.parquet"]
    assert main(command) == 1
    assert "row 0 has the id '0' in" in capsys.readouterr().err


def test_files_of_which_one_has_no_ids_pair_by_row(tmp_path):
    np.save(tmp_path / "a.npy", X)
    parquet(tmp_path / "b.parquet", [4, 3, 2, 1, 0])
    assert len(load_pairs((tmp_path / "a.npy", tmp_path / "b.parquet"))) == 5


def test_a_null_row_is_one_kind_of_error_in_a_fit_and_in_a_translation(tmp_path):
    rows = [*X.tolist()[:2], None, *X.tolist()[2:]]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    y = np.vstack([X, X[:1]])
    np.save(tmp_path / "b.npy", y)
    with pytest.raises(BadRowError, match="row 2 of the source column"):
        fit_translator(
            OrthoTranslator(), None, None, load_pairs((tmp_path / "a.jsonl", tmp_path / "b.npy"))
        )
    with pytest.raises(BadRowError, match="row 2 has no vector"):
        translate_file(OrthoTranslator().fit(y, y), tmp_path / "a.jsonl", tmp_path / "c.npy")


@pytest.mark.parametrize("bad", ["null", "{broken", '{"id": 2}', "[0.5]"])
def test_a_row_that_cannot_be_read_is_left_to_the_fit(bad, tmp_path):
    json_lines(tmp_path / "a.jsonl", range(5))
    parquet(tmp_path / "b.parquet", range(5))
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:2], bad, *lines[3:]]))
    pairs = load_pairs((tmp_path / "a.jsonl", tmp_path / "b.parquet"))
    with pytest.raises(BadRowError, match="row 2 of the source column"):
        fit_translator(OrthoTranslator(), None, None, pairs)
    fitted = fit_translator(OrthoTranslator(), None, None, pairs, on_bad_row="skip")
    assert fitted.n_pairs_ == 4
