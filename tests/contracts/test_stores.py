"""Every registered vector store whose client is installed keeps the same promises."""

import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context

import numpy as np
import pytest
import warm
from store_places import INSTALLED, content, filled, key, rows, url_in

from hf_latent_bridge import (
    DualSearch,
    OrthoTranslator,
    SharedSpace,
    load_matched_pairs,
    load_stored_pairs,
    migrate,
    migrate_gradually,
    re_encode,
    roll_back_migration,
    translate_file,
)
from hf_latent_bridge.errors import InvalidPairsError, StoreError
from hf_latent_bridge.hubness import csls_scores, fold_queries, neighbor_similarity
from hf_latent_bridge.translation.moving import VIEW
from hf_latent_bridge.vectors.formats import open_vectors
from hf_latent_bridge.vectors.stores.base import Layout, Place, Records
from hf_latent_bridge.vectors.stores.registry import address, kind_of, open_collection

pytestmark = pytest.mark.parametrize("scheme", INSTALLED)


@pytest.fixture
def url(scheme, tmp_path):
    return filled(url_in(scheme, tmp_path), rows(25, scheme=scheme))


@pytest.fixture
def translator():
    x, y = rows(40, seed=1).vectors, rows(40, 6, seed=1).vectors
    return OrthoTranslator().fit(x, y @ np.eye(6, dtype=np.float32))


pytestmark = [
    pytestmark,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


def test_rows_come_back_as_they_were_written(scheme, url):
    wanted = rows(25, scheme=scheme)
    found = content(url)
    assert sorted(found) == wanted.ids
    np.testing.assert_allclose([found[i][0] for i in wanted.ids], wanted.vectors, atol=1e-6)
    assert [found[i][1] for i in wanted.ids] == wanted.payloads


def test_a_scan_gives_each_row_once_whatever_the_batch(scheme, url):
    with open_collection(url) as collection:
        for size in (1, 7, 25, 100):
            batches = [batch.ids for batch in collection.scan(size)]
            assert max(map(len, batches)) <= size
            assert sorted(key for batch in batches for key in batch) == rows(25, scheme=scheme).ids


def test_a_scan_goes_on_behind_another(url):
    with open_collection(url) as collection:
        whole = [key for batch in collection.scan(25) for key in batch.ids]
        for rows_before in (1, 7, 24, 25):
            after = Place(rows_before, whole[rows_before - 1])
            rest = [key for batch in collection.scan(6, after=after) for key in batch.ids]
            assert rest == whole[rows_before:]


def test_rows_that_are_not_there_are_inserted(scheme, url):
    with open_collection(url) as collection:
        collection.insert(rows(3, seed=9, first=30, scheme=scheme))
        assert collection.count() == 28
    wanted = rows(3, seed=9, first=30, scheme=scheme)
    found = content(url)
    assert [found[i][1] for i in wanted.ids] == wanted.payloads
    np.testing.assert_allclose([found[i][0] for i in wanted.ids], wanted.vectors, atol=1e-6)


def test_the_layout_says_width_and_metric(url):
    with open_collection(url) as collection:
        assert collection.layout() == Layout(4, "cosine")
        assert collection.count() == 25


def test_some_rows_are_fetched_and_those_that_are_missing_left_out(scheme, url):
    with open_collection(url) as collection:
        here, there, missing = (key(scheme, i) for i in (3, 20, 99))
        assert sorted(collection.fetch([here, missing, there]).ids) == [here, there]
        assert collection.present([here, missing, there]) == {here, there}


def test_the_store_finds_what_is_nearest(scheme, url):
    query = rows(1, seed=3).vectors[0]
    best = np.argsort(-rows(25).vectors @ query, kind="stable")[:7]
    with open_collection(url) as collection:
        assert collection.nearest(query, 7) == [key(scheme, i) for i in best.tolist()]


def test_a_collection_like_another_can_have_further_fields(scheme, url):
    with open_collection(url) as old, open_collection(url.replace("docs", "docs_new")) as new:
        new.create(Layout(6, "cosine"), old, ["mark"])
        wanted = rows(3, 6, scheme=scheme)
        marked = [{**payload, "mark": f"m{i}"} for i, payload in enumerate(wanted.payloads)]
        new.write(wanted._replace(payloads=marked))
        found = content(url.replace("docs", "docs_new"))
        assert [found[key(scheme, i)][1] for i in range(3)] == marked


def test_writing_a_row_again_replaces_it(scheme, url):
    with open_collection(url) as collection:
        collection.write(rows(3, seed=9, first=2, scheme=scheme))
        assert collection.count() == 25
    np.testing.assert_allclose(
        content(url)[key(scheme, 4)][0],
        rows(3, seed=9, first=2, scheme=scheme).vectors[2],
        atol=1e-6,
    )


def test_a_row_that_is_written_again_has_no_field_of_before(scheme, url):
    wanted = rows(3, first=2, scheme=scheme)
    fewer = wanted._replace(payloads=[{"price": 1.5}, {"text": "ü"}, {}])
    with open_collection(url) as collection:
        collection.write(fewer)
    assert [content(url)[i][1] for i in wanted.ids] == fewer.payloads


VALUES = {
    **{"text": "ü", "no text": "", "long": "x" * 70_000, "true": True, "half": 0.5},
    **{"none": None, "deep none": {"a": [None]}, "empty list": [], "empty object": {}},
    **{"numbers": [1, 2], "mixed": [1, "x"], "int and bool": [True, 2], "lists": [[1]]},
    **{"-2**63": -(2**63), "2**63": 2**63, "2**64": 2**64, "1e22": 1e22, "1e23": 1e23},
    **{"nan": float("nan"), "infinite": float("inf"), "deep nan": [float("nan")]},
    **{"NUL": "a\0b", "surrogate": "\ud800", "deep surrogate": {"\ud800": 1}},
    **{"bytes": b"a", "date": date(2020, 1, 2), "pair": (1, 2), "numbered": {1: "a"}},
    "object": {"a": {"b": 1}},
}
NAMES = ["", "$x", "#x", "id", "vector", "$meta", "chroma:document", "a.b", "ü", 'a"b']
NO_JSON = {"bytes", "date", "pair", "numbered"}
NOT_UTF8 = {"surrogate", "deep surrogate"}
NEITHER = NO_JSON | NOT_UTF8 | {"nan", "infinite", "deep nan"}
NESTED = {"deep none", "empty object", "object", "lists", "mixed", "int and bool", "empty list"}
REFUSED = {
    "chroma": NEITHER | NESTED | {"none", "2**63", "2**64", "", "$x", "#x", "$meta"},
    "milvus": NEITHER | {"2**64", "id", "vector", "$meta"},
    "postgresql": NEITHER | {"NUL", "1e23"},
}
REFUSED["chroma"].add("chroma:document")


def refusal(url, row):
    """What the store of a URL says of a row before it is written; None where it can hold it."""
    try:
        kind_of(url).check_holds(row, target=address(url))
    except StoreError as error:
        return str(error)
    return None


def test_what_it_does_not_give_back_is_refused_before_it_is_written(scheme, tmp_path):
    url, kept, refused = url_in(scheme, tmp_path), [], set()
    fields = [(what, "field", value) for what, value in VALUES.items()]
    fields += [(name, name, "text") for name in NAMES]
    for i, (what, name, value) in enumerate(fields):
        row = rows(1, first=i, scheme=scheme)._replace(payloads=[{name: value}])
        told = refusal(url, row)
        if told is None:
            kept.append(row)
        else:
            refused.add(what)
            assert told.startswith(f"{address(url)}: row {row.ids[0]!r} cannot be kept")
            assert repr(name) in told
    assert refused == REFUSED.get(scheme, NO_JSON)
    ids, vectors, payloads = zip(*kept, strict=True)
    wanted = {i: payload for (i,), (payload,) in zip(ids, payloads, strict=True)}
    filled(url, Records([*wanted], np.concatenate(vectors), [*wanted.values()]))
    found = {i: payload for i, (_, payload) in content(url).items()}
    assert found.keys() == wanted.keys()
    others = [i for i, payload in wanted.items() if found[i] != payload]
    assert [repr(found[i]) for i in others] == [repr(wanted[i]) for i in others]  # not a number


def test_rows_with_texts_as_keys_move_into_it(scheme, url, translator, tmp_path):
    if scheme == "qdrant":
        pytest.skip("keys are numbers or UUIDs")
    apsw = pytest.importorskip("apsw")
    keys = ["a'b", 'x"y', "a\\b", "ü", "%s"]
    vectors = [row.tobytes() for row in rows(5).vectors]
    client = apsw.Connection(str(tmp_path / "texts.db"))
    client.execute("CREATE TABLE texts (name TEXT PRIMARY KEY, title TEXT, embedding BLOB)")
    lines = [(key, f"of {key}", vector) for key, vector in zip(keys, vectors, strict=True)]
    client.executemany("INSERT INTO texts VALUES (?, ?, ?)", lines)
    client.close()
    source, target = f"sqlite:{tmp_path}/texts.db/texts", url.replace("docs", "docs_texts")
    moved = migrate(translator, source, target, batch_size=2, state_dir=tmp_path / "state")
    assert (moved.rows, moved.checked) == (5, 5)
    titles = {key: row[1]["title"] for key, row in content(target).items()}
    assert titles == {key: f"of {key}" for key in keys}
    with open_collection(target) as collection:
        assert collection.present([*keys, "no"]) == set(keys)
        collection.delete(keys[:4])
        assert collection.count() == 1


def test_nothing_is_written_and_deleted(url):
    with open_collection(url) as collection:
        collection.write(rows(0))
        collection.delete([])
        assert collection.fetch([]).ids == []
        assert collection.count() == 25


def test_deleted_rows_are_gone(scheme, url):
    with open_collection(url) as collection:
        collection.delete([key(scheme, 0), key(scheme, 24)])
        assert collection.count() == 23
    assert sorted(content(url)) == [key(scheme, i) for i in range(1, 24)]


def test_a_store_that_is_not_there_is_not_made(scheme, tmp_path):
    url = url_in(scheme, tmp_path / "nowhere")
    if not address(url).local:
        pytest.skip("a server")
    with pytest.raises(StoreError, match="there is no"):
        open_collection(url)
    assert list(tmp_path.iterdir()) == []


def test_a_collection_that_is_not_there_is_named(scheme, url):
    missing = url.replace("docs", "other")
    with pytest.raises(StoreError, match="other"), open_collection(missing) as collection:
        collection.layout()


@pytest.mark.slow
def test_a_store_that_is_open_elsewhere_is_read_or_refused_in_words(
    scheme, url, translator, tmp_path
):
    translator.save_pretrained(tmp_path / "map")
    command = ["-m", "hf_latent_bridge", "translate", tmp_path / "map", url, tmp_path / "new.npy"]
    with open_collection(url):
        done = warm.finished(*command, check=False)
    if done.returncode:
        told = r"latent-bridge: error: .* (one process at a time|another instance).*\n"
        assert re.fullmatch(told, done.stderr)
    else:
        assert np.load(tmp_path / "new.npy").shape == (25, 6)


@pytest.mark.slow
def test_rows_that_another_process_has_put_there_are_read(scheme, tmp_path):
    url = url_in(scheme, tmp_path)
    fill = "from store_places import filled, rows; filled({!r}, rows(5, scheme={!r}))"
    warm.finished("-c", fill.format(url, scheme))
    assert sorted(content(url)) == rows(5, scheme=scheme).ids
    with open_collection(url) as collection:
        assert collection.count() == 5


def test_its_rows_are_read_as_those_of_a_file(scheme, url):
    reader = open_vectors(url)
    assert (reader.n, reader.dim) == (25, 4)
    blocks = list(reader.blocks(3, 21, 5))
    np.testing.assert_allclose(
        np.concatenate([block.vectors for block in blocks]),
        rows(25, scheme=scheme).vectors[3:21],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        reader.read(np.array([20, 2, 11])), rows(25, scheme=scheme).vectors[[20, 2, 11]], atol=1e-6
    )


def test_a_sample_of_it_is_vectors_and_the_texts_beside_them(scheme, url, tmp_path):
    wanted = rows(25, scheme=scheme)
    pairs = load_stored_pairs(url, max_pairs=10, seed=1)
    numbers = [int(text.removeprefix("item ")) for text in pairs.target]
    assert len(set(numbers)) == 10
    np.testing.assert_allclose(pairs.source, wanted.vectors[numbers], atol=1e-5)
    with pytest.raises(InvalidPairsError, match="'body'; they have"):
        load_stored_pairs(url, "body")
    (tmp_path / "other").mkdir()
    other = filled(url_in(scheme, tmp_path / "other"), rows(30, 6, first=10, scheme=scheme))
    matched = load_matched_pairs(url, other)
    assert (len(matched), matched.dataset["only_in_target"]) == (15, 15)
    np.testing.assert_allclose(matched.source[:], wanted.vectors[10:], atol=1e-5)


def test_translate_writes_its_rows_to_a_file_with_ids_and_payloads(
    scheme, url, translator, tmp_path
):
    output = tmp_path / "rows.jsonl"
    written = translate_file(translator, url, output)
    assert written.shape == (25, 6)
    assert {"id", "text", "price"} <= set(written.kept)
    found = open_vectors(output)
    np.testing.assert_allclose(
        next(found.blocks()).vectors,
        translator.transform(rows(25, scheme=scheme).vectors),
        atol=1e-5,
    )


def test_migrate_fills_a_new_collection_and_leaves_the_old_one(scheme, url, translator, tmp_path):
    target = url.replace("docs", "docs_new")
    before = content(url)
    moved = migrate(translator, url, target, batch_size=7, state_dir=tmp_path / "state")
    assert (moved.rows, moved.written, moved.removed, moved.checked) == (25, 25, 0, 25)
    found, wanted = content(target), translator.transform(rows(25, scheme=scheme).vectors)
    for i, (vector, payload) in enumerate(found[key(scheme, i)] for i in range(25)):
        cosine = vector @ wanted[i] / np.linalg.norm(vector) / np.linalg.norm(wanted[i])
        assert cosine == pytest.approx(1, abs=1e-5)
        assert payload == rows(25, scheme=scheme).payloads[i]
    after = content(url)
    assert {k: v[1] for k, v in before.items()} == {k: v[1] for k, v in after.items()}
    np.testing.assert_array_equal([before[i][0] for i in before], [after[i][0] for i in before])


def test_the_store_ranks_folded_queries_by_the_corrected_score(scheme, url, translator, tmp_path):
    target, bank = url.replace("docs", "docs_new"), rows(30, 6, seed=4).vectors
    migrate(translator, url, target, hubness="csls", bank=bank, state_dir=tmp_path / "state")
    items = translator.transform(rows(25).vectors)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    similarity = neighbor_similarity(items, bank)
    with open_collection(target) as new:
        for query in rows(5, 6, seed=8).vectors:
            best = np.argsort(-csls_scores(items @ query, similarity), kind="stable")[:10]
            folded = fold_queries(query[None], metric=new.layout().metric)[0]
            assert new.nearest(folded, 10) == [key(scheme, i) for i in best.tolist()]


def test_migrating_again_moves_only_what_has_come_and_removes_what_has_gone(
    scheme, url, translator, tmp_path
):
    target, state = url.replace("docs", "docs_new"), tmp_path / "state"
    migrate(translator, url, target, state_dir=state)
    with open_collection(url) as collection:
        collection.write(rows(2, seed=5, first=100, scheme=scheme))
        collection.delete([key(scheme, 7)])
    moved = migrate(translator, url, target, state_dir=state)
    assert (moved.rows, moved.written, moved.removed) == (26, 2, 1)
    assert content(target).keys() == content(url).keys()


def test_old_and_new_vectors_give_one_list_while_rows_are_moved(scheme, url):
    target, there = url.replace("docs", "docs_new"), [0, 3, 4, 8, 11, 20, 24]
    moved = rows(25, 6, seed=2, scheme=scheme)
    with open_collection(url) as old, open_collection(target) as new:
        new.create(Layout(6, "cosine"), old)
        ids = [key(scheme, i) for i in there]
        payloads = [moved.payloads[i] for i in there]
        new.write(moved._replace(ids=ids, vectors=moved.vectors[there], payloads=payloads))
    queries = rows(1, seed=5).vectors[0], rows(1, 6, seed=6).vectors[0]
    ranked = np.argsort(-(rows(25).vectors @ queries[0]), kind="stable")[:10].tolist()
    fresh = iter(sorted(there, key=lambda i: -(moved.vectors[i] @ queries[1])))
    wanted = [(next(fresh), True) if i in there else (i, False) for i in ranked]
    with DualSearch(url, target) as search:
        found = search.nearest(*queries, k=10)
    assert found == [(key(scheme, i), new) for i, new in wanted]


def test_a_row_that_was_replaced_is_written_again(scheme, url, translator, tmp_path):
    target, state = url.replace("docs", "docs_new"), tmp_path / "state"
    migrate(translator, url, target, state_dir=state)
    with open_collection(url) as collection:
        collection.write(rows(1, seed=5, first=3, scheme=scheme))
    moved = migrate(translator, url, target, state_dir=state)
    assert (moved.written, moved.replaced, moved.checked) == (0, 1, 25)
    wanted = translator.transform(rows(1, seed=5).vectors)[0]
    found = content(target)[key(scheme, 3)][0]
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine == pytest.approx(1, abs=1e-5)


def test_rows_of_a_shared_space_say_which_view_they_came_from(scheme, url, tmp_path):
    latents = {"old": rows(90, seed=1).vectors, "new": rows(90, 6, seed=1).vectors}
    space = SharedSpace(dim=4, alpha=1.0).fit(latents)
    shared, state = url.replace("docs", "shared"), tmp_path / "state"
    moved = migrate_gradually(space, url, shared, view="old", state_dir=state)
    assert (moved.rows, moved.checked) == (25, 25)
    texts = [payload["text"] for payload in rows(25).payloads]
    encode = dict(zip(texts, latents["new"], strict=False))
    chosen = [key(scheme, i) for i in (20, 3)]
    lines = [str(key) for key in chosen]  # as a file of ids has them
    again = re_encode(
        space, shared, lambda items: np.stack([encode[i] for i in items]), view="new", ids=lines
    )
    assert (again.rows, again.by_view) == (2, {"new": 2, "old": 23})
    moved = migrate_gradually(space, url, shared, view="old", state_dir=state)
    assert (moved.written, moved.replaced, moved.removed) == (0, 0, 0)
    found = content(shared)
    assert {k for k, (_, payload) in found.items() if payload[VIEW] == "new"} == set(chosen)
    for i, wanted in ((20, "new"), (3, "new"), (4, "old")):
        given = latents["new"] if wanted == "new" else rows(25).vectors
        expected = space.translator(wanted).transform(given[i])
        assert found[key(scheme, i)][0] @ expected == pytest.approx(1, abs=1e-5)
        payload = {**rows(25, scheme=scheme).payloads[i], VIEW: wanted}
        assert found[key(scheme, i)][1] == payload


def test_a_migration_is_rolled_back(url, translator, tmp_path):
    target, state = url.replace("docs", "docs_new"), tmp_path / "state"
    migrate(translator, url, target, state_dir=state)
    assert "removed" in roll_back_migration(url, target, state_dir=state)
    with open_collection(url) as old, open_collection(target) as new:
        assert old.count() == 25
        assert not new.exists()
    with pytest.raises(StoreError, match="no migration"):
        roll_back_migration(url, target, state_dir=state)


@pytest.mark.parametrize("numbers", [(2, 11, *range(17, 25)), (3, 19, 20, 21, 23, 24)])
def test_rows_that_the_target_lacks_here_and_there_are_moved_once(
    numbers, scheme, url, translator, tmp_path
):
    target, state = url.replace("docs", "docs_new"), tmp_path / "state"
    migrate(translator, url, target, state_dir=state)
    gone = [key(scheme, i) for i in numbers]
    with open_collection(target) as new:
        new.delete(gone)
    moved = migrate(translator, url, target, state_dir=state, batch_size=1)
    assert (moved.written, moved.replaced, moved.rows) == (len(gone), 0, 25)
    with open_collection(target) as new:
        found = [key for batch in new.scan(7) for key in batch.ids]
    assert sorted(found) == rows(25, scheme=scheme).ids


def test_rows_that_cannot_be_told_apart_are_refused(scheme, url, translator, tmp_path):
    if scheme not in ("lancedb", "postgresql"):
        pytest.skip("its keys are unique")
    with open_collection(url) as collection:
        if scheme == "lancedb":
            collection.insert(rows(1, seed=9, first=3))
        else:
            collection._ask("ALTER TABLE docs ADD COLUMN number int")
            collection.client.execute("UPDATE docs SET number = id % 24")
            url = f"{url}&id=number"
    with pytest.raises(StoreError, match=r"must name each row.* several rows: \["):
        migrate(translator, url, url.replace("docs", "docs_new"), state_dir=tmp_path / "state")
    with open_collection(url.replace("docs", "docs_new")) as new:
        assert not new.exists()


def apart(scheme, function, *given):
    """Calls a function, in a process of its own where that alone closes a store's files."""
    if scheme != "milvus":
        return function(*given)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *given).result(300)


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_migration_goes_on_when_there_is_room(scheme, tmp_path):
    if scheme in ("chroma", "postgresql"):
        pytest.skip("another process writes, or writes in the background")
    x, y = rows(80, 64, seed=1).vectors, rows(80, 96, seed=1).vectors
    OrthoTranslator().fit(x, y).save_pretrained(tmp_path / "map")
    url = url_in(scheme, tmp_path)
    apart(scheme, filled, url, rows(1500, 64, scheme=scheme))
    (tmp_path / "other").mkdir()
    target = url_in(scheme, tmp_path / "other", "docs_new")
    before = apart(scheme, content, url)
    command = [sys.executable, "-m", "hf_latent_bridge", "migrate", url, target, "--quiet"]
    command += ["--translator", str(tmp_path / "map"), "--state-dir", str(tmp_path / "state")]
    limited = ["bash", "-c", 'ulimit -f 150; exec "$@"', "bash", *command, "--batch-size", "500"]
    full = subprocess.run(limited, capture_output=True, text=True, timeout=300)
    assert full.returncode == 1
    assert re.fullmatch(
        r"latent-bridge: error: .*docs_new cannot be read or written.*\n", full.stderr
    )
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    after = apart(scheme, content, url)
    assert all(np.array_equal(after[i][0], before[i][0]) for i in before)
    assert apart(scheme, content, target).keys() == before.keys() == after.keys()


def test_a_target_of_someone_else_is_neither_written_nor_removed(scheme, url, translator, tmp_path):
    target = url.replace("docs", "docs_new")
    with open_collection(url) as old, open_collection(target) as other:
        other.create(Layout(6, "cosine"), old)
        other.write(rows(3, 6, scheme=scheme))
    with pytest.raises(StoreError, match="is there already"):
        migrate(translator, url, target, state_dir=tmp_path / "state")
    with pytest.raises(StoreError, match="no migration"):
        roll_back_migration(url, target, state_dir=tmp_path / "state")
    assert len(content(target)) == 3
