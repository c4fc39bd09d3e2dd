"""Pairs from stores and files: sampled in one pass, bad rows named or counted, matched by id."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import store_places
import vector_files

from hf_latent_bridge import (
    AffineTranslator,
    VectorSource,
    fit_translator,
    load_matched_pairs,
    load_stored_pairs,
)
from hf_latent_bridge.data.stored import read_field
from hf_latent_bridge.errors import BadRowError, InvalidLatentsError, InvalidPairsError, StoreError
from hf_latent_bridge.vectors.formats import open_vectors

LIGHT = [scheme for scheme in ("qdrant", "sqlite") if scheme in store_places.INSTALLED]
X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
TEXTS = [f"item {i}" for i in range(40)]


def json_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def objects(n=40):
    return [{"id": i, "text": TEXTS[i], "vector": X[i].tolist()} for i in range(n)]


def parquet(path):
    pq.write_table(pa.table({"id": range(40), "text": TEXTS, "vector": X.tolist()}), path)
    return path


def csv(path):
    rows = [f"{i},{TEXTS[i]},{','.join(map(str, row.tolist()))}" for i, row in enumerate(X)]
    path.write_text("\n".join(["id,text,dim_0,dim_1,dim_2,dim_3", *rows]))
    return path


@pytest.mark.parametrize("scheme", LIGHT)
def test_a_store_is_sampled_as_vectors_and_texts(scheme, tmp_path):
    records = store_places.rows(300, scheme=scheme)
    url = store_places.filled(store_places.url_in(scheme, tmp_path), records)
    pairs = load_stored_pairs(url, max_pairs=50, seed=3)
    assert len(pairs) == 50
    assert pairs.dataset == {"text_field": "text", "rows": 300, "max_pairs": 50, "seed": 3}
    numbers = [int(text.removeprefix("item ")) for text in pairs.target]
    assert numbers == sorted(numbers) == pairs.rows.tolist()
    np.testing.assert_allclose(pairs.source, records.vectors[numbers], rtol=1e-5)
    assert list(load_stored_pairs(url, max_pairs=50, seed=3).target) == list(pairs.target)
    assert list(load_stored_pairs(url, max_pairs=50, seed=4).target) != list(pairs.target)


@pytest.mark.skipif("qdrant" not in LIGHT, reason="needs Qdrant")
def test_fields_that_are_called_as_the_key_and_the_vector_are_kept(tmp_path):
    records = store_places.rows(3)
    named = [{"id": f"a{i}", "vector": f"b{i}", "payload_id": f"c{i}"} for i in range(3)]
    url = store_places.url_in("qdrant", tmp_path)
    store_places.filled(url, records._replace(payloads=named))
    (block,) = open_vectors(url).blocks(payload=True)
    rows = block.payload.objects(block.vectors)
    np.testing.assert_array_equal([row.pop("vector") for row in rows], block.vectors.tolist())
    names = ("payload_payload_id", "payload_vector", "payload_id")
    assert rows[1] == {"id": 1} | dict(zip(names, ("a1", "b1", "c1"), strict=True))


@pytest.mark.parametrize("scheme", LIGHT)
def test_a_translator_is_fitted_from_a_store_and_only_sampled_texts_are_encoded(scheme, tmp_path):
    records = store_places.rows(300, scheme=scheme)
    url = store_places.filled(store_places.url_in(scheme, tmp_path), records)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 4)))[0].T
    encoded = []

    def encoder(texts):
        encoded.extend(texts)
        return records.vectors[[int(text.removeprefix("item ")) for text in texts]] @ turn

    pairs = load_stored_pairs(url, max_pairs=60)
    fitted = fit_translator(AffineTranslator(alpha=1e-6), None, encoder, pairs)
    assert sorted(encoded) == sorted(pairs.target)
    np.testing.assert_allclose(fitted.transform(records.vectors), records.vectors @ turn, atol=1e-3)
    assert fitted.dataset_["text_field"] == "text"
    back = load_stored_pairs(url, side="target", max_pairs=60)
    reverse = fit_translator(AffineTranslator(alpha=1e-6), encoder, None, back)
    np.testing.assert_allclose(
        reverse.transform(records.vectors @ turn), records.vectors, atol=1e-3
    )


@pytest.mark.parametrize("scheme", LIGHT)
def test_a_field_that_is_not_there_is_named_with_those_that_are(scheme, tmp_path):
    url = store_places.filled(
        store_places.url_in(scheme, tmp_path), store_places.rows(9, scheme=scheme)
    )
    with pytest.raises(InvalidPairsError, match=r"'body'; they have \[.*'text'"):
        load_stored_pairs(url, "body")
    with pytest.raises(StoreError):
        load_stored_pairs(store_places.url_in(scheme, tmp_path, "other"))


@pytest.mark.parametrize("write", [parquet, csv, lambda p: json_lines(p, objects())])
def test_files_that_hold_texts_beside_vectors_are_read(write, tmp_path):
    suffix = {parquet: "parquet", csv: "csv"}.get(write, "jsonl")
    pairs = load_stored_pairs(write(tmp_path / f"rows.{suffix}"), max_pairs=10)
    np.testing.assert_allclose(pairs.source, X[pairs.rows], rtol=1e-6)
    assert list(pairs.target) == [TEXTS[row] for row in pairs.rows]


def test_a_text_may_be_deep_inside(tmp_path):
    rows = [{"vector": X[i].tolist(), "meta": {"parts": [{"body": TEXTS[i]}]}} for i in range(5)]
    pairs = load_stored_pairs(json_lines(tmp_path / "rows.jsonl", rows), "meta.parts[0].body")
    assert list(pairs.target) == TEXTS[:5]


BAD = {
    "missing": ({"text": None}, "text that is missing"),
    "empty": ({"text": "  "}, "text that is an empty text"),
    "no text": ({"text": 5}, "text that is not a text, but int 5"),
    "no vector": ({"vector": None}, "vector that is missing"),
    "ragged": ({"vector": [1.0, 2.0]}, "vector that has dim 2, others have 4"),
    "infinite": ({"vector": [1e400, 0.0, 0.0, 0.0]}, "vector that holds NaN or infinity"),
    "again": ({"id": 3}, "has the id of an earlier row"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_or_skipped_and_counted(kind, tmp_path):
    change, told = BAD[kind]
    rows = objects()
    rows[7] |= change
    path = json_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(BadRowError, match=rf"row 7 \(id {change.get('id', 7)}\) .*{told}"):
        load_stored_pairs(path, max_pairs=40)
    pairs = load_stored_pairs(path, max_pairs=40, on_bad_row="skip")
    assert len(pairs) == 39
    assert pairs.dataset["rows_skipped"] == 1
    assert 7 not in pairs.rows
    assert len(load_stored_pairs(path, max_pairs=39, on_bad_row="skip")) == 39


@pytest.mark.parametrize("bad", ["null", "{broken", '{"id": 2, "text": "a"}'])
def test_a_line_without_a_row_or_vector_is_named_or_skipped(bad, tmp_path):
    path = json_lines(tmp_path / "rows.jsonl", objects(6))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], bad, *lines[3:]]))
    with pytest.raises(BadRowError, match="row 2 "):
        load_stored_pairs(path)
    assert load_stored_pairs(path, on_bad_row="skip").rows.tolist() == [0, 1, 3, 4, 5]
    whole = json_lines(tmp_path / "whole.jsonl", objects(6))
    assert len(load_matched_pairs(path, whole, on_bad_row="skip")) >= 5


def test_a_struct_that_is_null_has_no_vector(tmp_path):
    vectors = [{"body": X[0].tolist()}, None, {"body": X[2].tolist()}]
    rows = pa.table({"text": TEXTS[:3], "v": pa.array(vectors)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    with pytest.raises(BadRowError, match="row 1 has a vector that is missing"):
        load_stored_pairs(tmp_path / "rows.parquet")
    assert len(load_stored_pairs(tmp_path / "rows.parquet", on_bad_row="skip")) == 2


def test_no_usable_row_is_refused(tmp_path):
    rows = [{"text": "", "vector": X[i].tolist()} for i in range(4)]
    path = json_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InvalidPairsError, match="no usable row: 4 were read"):
        load_stored_pairs(path, on_bad_row="skip")
    with pytest.raises(ValueError, match="side must be"):
        load_stored_pairs(path, side="both")


def test_two_stores_are_matched_by_id_in_any_order(tmp_path):
    order = np.random.default_rng(2).permutation(40)[:30]
    old = json_lines(tmp_path / "old.jsonl", objects())
    new = [{"id": int(i), "vector": (2 * X[i]).tolist()} for i in order]
    new.append({"id": 99, "vector": X[0].tolist()})
    pairs = load_matched_pairs(old, json_lines(tmp_path / "new.jsonl", new))
    assert len(pairs) == 30
    assert pairs.dataset == {"matched_by": "id", "only_in_source": 10, "only_in_target": 1}
    np.testing.assert_allclose(2 * np.asarray(pairs.source[:]), pairs.target[:], rtol=1e-6)
    some = load_matched_pairs(old, tmp_path / "new.jsonl", max_pairs=8, seed=1)
    assert len(some) == 8
    np.testing.assert_allclose(2 * np.asarray(some.source[:]), some.target[:], rtol=1e-6)


@pytest.mark.skipif(len(LIGHT) < 2, reason="needs Qdrant and SQLite")
def test_a_store_and_a_file_are_matched(tmp_path):
    records = store_places.rows(40)
    url = store_places.filled(store_places.url_in("qdrant", tmp_path), records)
    other = store_places.filled(
        store_places.url_in("sqlite", tmp_path), store_places.rows(20, seed=5, scheme="sqlite")
    )
    pairs = load_matched_pairs(url, other)
    assert (len(pairs), pairs.dataset["only_in_source"]) == (20, 20)
    np.testing.assert_allclose(pairs.source[:], records.vectors[:20], rtol=1e-5)
    np.testing.assert_allclose(pairs.target[:], store_places.rows(20, seed=5).vectors, rtol=1e-5)


def test_missing_and_repeated_ids_are_named_or_skipped(tmp_path):
    rows = objects(6)
    rows[2]["id"], rows[4]["id"] = None, 3
    path, whole = (
        json_lines(tmp_path / "a.jsonl", rows),
        json_lines(tmp_path / "b.jsonl", objects()),
    )
    with pytest.raises(BadRowError, match="row 2 has no id"):
        load_matched_pairs(path, whole)
    pairs = load_matched_pairs(whole, path, on_bad_row="skip")
    assert pairs.rows.tolist() == [0, 1, 3, 5]
    assert pairs.dataset["rows_skipped"] == 2


@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
def test_a_file_without_the_field_of_the_ids_is_told_from_one_with_a_bad_row(on_bad_row, tmp_path):
    a = json_lines(tmp_path / "a.jsonl", objects(3))
    np.save(tmp_path / "c.npy", X[:3])
    with pytest.raises(InvalidPairsError, match=r"c\.npy has no field 'id' .* nothing beside"):
        load_matched_pairs(a, tmp_path / "c.npy", id_field="id", on_bad_row=on_bad_row)
    with pytest.raises(InvalidPairsError, match=r"a\.jsonl has no field 'key' .*'id'"):
        load_matched_pairs(a, a, id_field="key", on_bad_row=on_bad_row)


@pytest.mark.parametrize("named", [{}, {"id_field": "id"}])
def test_an_array_of_ids_that_is_too_short_is_told_with_its_length(named, tmp_path):
    np.savez(tmp_path / "short.npz", id=np.arange(5), v=X[:6])
    whole = json_lines(tmp_path / "b.jsonl", objects(6))
    told = r"short\.npz: 'id' must have 6 values, one for each row of 'v', got 5"
    with pytest.raises(InvalidLatentsError, match=told):
        load_matched_pairs(whole, tmp_path / "short.npz", **named)


@pytest.mark.parametrize("name", ["x.npz", "x.hdf5", "x.safetensors"])
def test_an_array_that_is_too_short_to_be_a_field_is_told_with_its_length(name, tmp_path):
    vector_files.arrays(v=X[:6], group=np.arange(5))(tmp_path / name)
    told = rf"{name}: 'group' must have 6 values, one for each row of 'v', got 5"
    with pytest.raises(InvalidPairsError, match=told):
        read_field(tmp_path / name, "group")


@pytest.mark.parametrize("scheme", LIGHT)
def test_the_key_of_a_stores_row_is_matched_by_the_name_that_a_file_has(scheme, tmp_path):
    url = store_places.filled(
        store_places.url_in(scheme, tmp_path), store_places.rows(9, scheme=scheme)
    )
    rows = [{"doc_id": i, "vector": X[i].tolist()} for i in (5, 2, 7)]
    pairs = load_matched_pairs(url, json_lines(tmp_path / "a.jsonl", rows), id_field="doc_id")
    np.testing.assert_array_equal(pairs.target, X[[2, 5, 7]])
    assert pairs.dataset["matched_by"] == "doc_id"


def test_ids_may_be_inside(tmp_path):
    rows = [{"meta": {"id": i}, "vector": X[i].tolist()} for i in (2, 0, 1)]
    path = json_lines(tmp_path / "a.jsonl", rows)
    assert len(load_matched_pairs(path, path, id_field="meta.id")) == 3


def test_stdin_is_not_matched(tmp_path):
    a = json_lines(tmp_path / "a.jsonl", objects(3))
    with pytest.raises(InvalidPairsError, match="stdin is read once"):
        load_matched_pairs(a, "-", id_field="id")


def test_ids_that_nobody_shares_or_names_are_refused(tmp_path):
    a = json_lines(tmp_path / "a.jsonl", objects(3))
    b = [{"id": f"x{i}", "vector": X[i].tolist()} for i in range(3)]
    with pytest.raises(InvalidPairsError, match=r"no id is in both: .*'0'.* and .*'x0'"):
        load_matched_pairs(a, json_lines(tmp_path / "b.jsonl", b))
    np.save(tmp_path / "c.npy", X)
    with pytest.raises(InvalidPairsError, match="name it by id_field"):
        load_matched_pairs(a, VectorSource(tmp_path / "c.npy"))
