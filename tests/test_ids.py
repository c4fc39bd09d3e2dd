"""Two files of vectors whose ids differ in a row are not paired."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_latent_bridge import OrthoTranslator, fit_translator, load_pairs, translate_file
from hf_latent_bridge.errors import BadRowError, InvalidPairsError

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


FORMATS = {"jsonl": json_lines, "parquet": parquet, "csv": csv, "npz": npz}
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
