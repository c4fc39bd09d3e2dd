"""A live store is moved to a new model beside the old one, killed, gone on with and rolled back."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import warm
from processes import PATIENCE
from store_places import content, filled, rows

from hf_latent_bridge import (
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    fit_translator,
    load_pairs,
    migrate,
    plan_migration,
    roll_back_migration,
)
from hf_latent_bridge.errors import (
    CheckpointError,
    InUseError,
    InvalidLatentsError,
    InvalidNameError,
    StoreError,
    StoreUnavailableError,
)
from hf_latent_bridge.files import seal_json
from hf_latent_bridge.hubness import fold_items
from hf_latent_bridge.translation.journal import Journal
from hf_latent_bridge.vectors.formats import open_vectors
from hf_latent_bridge.vectors.stores.base import Layout, Records
from hf_latent_bridge.vectors.stores.registry import open_collection
from hf_latent_bridge.vectors.stores.url import StoreUrl, parse_url

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def translator():
    return OrthoTranslator().fit(rows(40, seed=1).vectors, rows(40, 6, seed=2).vectors)


@pytest.fixture
def url(tmp_path):
    return filled(f"qdrant:{tmp_path}/db/docs", rows(25))


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def named(url, vectors, records):
    """Makes a collection in which each row has several named vectors."""
    with open_collection(f"{url}?vector={next(iter(vectors))}", create=True) as first:
        first.create(Layout(4, "cosine"), first)
        first.write(records)
        for name in list(vectors)[1:]:
            with open_collection(f"{url}?vector={name}") as other:
                other.create(Layout(4, "cosine"), first)
                other.write(records._replace(payloads=None))
    return url


# Where the new vectors go -----------------------------------------------------------------


def test_new_vectors_can_stand_beside_the_old_ones_in_the_same_rows(tmp_path, translator, state):
    url = named(f"qdrant:{tmp_path}/db/docs", ["text"], rows(25))
    old, new = f"{url}?vector=text", f"{url}?vector=mpnet"
    assert migrate(translator, old, new, state_dir=state).written == 25
    before, after = content(old), content(new)
    assert {k: p for k, (_, p) in after.items()} == {k: p for k, (_, p) in before.items()}
    np.testing.assert_allclose([before[i][0] for i in range(25)], rows(25).vectors, atol=1e-6)
    assert after[0][0].shape == (6,)
    roll_back_migration(old, new, state_dir=state)
    with open_collection(old) as one, open_collection(new) as other:
        assert one.count() == 25
        assert not other.exists()


@pytest.mark.parametrize("target", ["docs?vector=new", "copy?vector=new"])
def test_a_column_of_blobs_becomes_one_of_the_same_or_of_another_table(
    target, tmp_path, translator, state
):
    url, vectors = f"sqlite:{tmp_path}/file.db", rows(25).vectors
    with sqlite3.connect(tmp_path / "file.db") as database:
        database.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, emb BLOB, text TEXT)")
        made = [(i, v.astype("<f4").tobytes(), f"t{i}") for i, v in enumerate(vectors)]
        database.executemany("INSERT INTO docs VALUES (?, ?, ?)", made[:-1])
    old, new = f"{url}/docs?vector=emb", f"{url}/{target}"
    assert migrate(translator, old, new, state_dir=state).written == 24
    with sqlite3.connect(tmp_path / "file.db") as database:
        database.execute("INSERT INTO docs (id, emb, text) VALUES (?, ?, ?)", made[-1])
    assert migrate(translator, old, new, state_dir=state).written == 1
    expected, found = translator.transform(vectors), content(new)
    np.testing.assert_allclose([found[i][0] for i in range(25)], expected, atol=1e-5)
    assert found[7][1]["text"] == "t7"
    assert content(old)[7][1]["text"] == "t7"


def test_other_vectors_of_the_rows_are_not_left_behind(tmp_path, translator, state):
    url = named(f"qdrant:{tmp_path}/db/docs", ["text", "title"], rows(5))
    with pytest.raises(StoreError, match=r"other vectors too.*title.*\?vector=NEW"):
        migrate(translator, f"{url}?vector=text", f"{url}-new", state_dir=state)
    with open_collection(f"{url}-new") as target:
        assert not target.exists()


def test_ids_that_are_uuids_are_kept(tmp_path, translator, state):
    ids = [str(uuid.UUID(int=i)) for i in range(9)]
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(9)._replace(ids=ids))
    migrate(translator, url, f"{url}-new", batch_size=2, state_dir=state)
    assert sorted(content(f"{url}-new")) == ids


@pytest.mark.parametrize("ids", [["doc-1", "doc-2"], [str(uuid.UUID(int=10)).upper()], [-1]])
def test_ids_that_the_target_cannot_hold_are_told_before_anything_is_made(
    ids, tmp_path, translator, state
):
    url, vectors = f"sqlite:{tmp_path}/old.db/docs", rows(len(ids)).vectors
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as made, made:
        made.execute("CREATE TABLE docs (id PRIMARY KEY, embedding BLOB)")
        lines = zip(ids, map(np.ndarray.tobytes, vectors), strict=True)
        made.executemany("INSERT INTO docs VALUES (?, ?)", lines)
    target = f"qdrant:{tmp_path}/new/docs"
    told = "qdrant takes whole numbers from 0 on and UUIDs .*others: .*" + re.escape(str(ids[0]))
    with pytest.raises(StoreError, match=told):
        plan_migration(translator, url, target)
    assert not (tmp_path / "new").exists()
    with pytest.raises(StoreError, match=told):
        migrate(translator, url, target, state_dir=state)
    with open_collection(target) as new:
        assert not new.exists()
    migrate(translator, url, f"sqlite:{tmp_path}/old.db/new", state_dir=state)
    assert sorted(content(f"sqlite:{tmp_path}/old.db/new")) == ids


def test_a_number_that_only_qdrant_can_hold_stays_there(tmp_path, translator, state):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(1)._replace(ids=[2**63]))
    with pytest.raises(StoreError, match=f"sqlite takes whole numbers or texts .*{2**63}"):
        migrate(translator, url, f"sqlite:{tmp_path}/new.db/docs", state_dir=state)
    migrate(translator, url, f"{url}-new", state_dir=state)
    assert list(content(f"{url}-new")) == [2**63]


def test_a_text_behind_many_numbers_is_told_before_anything_is_made(tmp_path, translator, state):
    uuid_ = str(uuid.UUID(int=10))
    given = rows(1500)._replace(ids=[*range(1499), uuid_])
    url, target = filled(f"qdrant:{tmp_path}/db/docs", given), f"sqlite:{tmp_path}/new.db/docs"
    told = f"sqlite keeps either numbers or texts as ids, .* both, .* and '{uuid_}'"
    with pytest.raises(StoreError, match=told):
        plan_migration(translator, url, target)
    with pytest.raises(StoreError, match=told):
        migrate(translator, url, target, state_dir=state)
    with open_collection(target, create=True) as new:
        assert not new.exists()


SQLITE = """
import ast, sqlite3, sys
made = sqlite3.connect(sys.argv[1], timeout=30)
made.executemany(sys.argv[2], ast.literal_eval(sys.argv[3]))
made.commit()
"""


def test_an_id_of_another_kind_that_comes_meanwhile_is_named_and_the_rest_goes_on(
    tmp_path, translator, state
):
    url, target = f"sqlite:{tmp_path}/old.db/docs", f"qdrant:{tmp_path}/new/docs"
    vector = rows(1).vectors[0].tobytes()

    def run(
        sql, *values
    ):  # elsewhere: closed here, it would end the locks of the migration's client
        asked = [sys.executable, "-c", SQLITE, tmp_path / "old.db", sql, repr(values)]
        subprocess.run(asked, check=True, timeout=PATIENCE)

    run("CREATE TABLE docs (id PRIMARY KEY, embedding BLOB)", ())
    run("INSERT INTO docs VALUES (?, ?)", *((i, vector) for i in range(9)))
    transform = translator.transform

    def comes_meanwhile(vectors):
        run("INSERT OR IGNORE INTO docs VALUES (?, ?)", ("doc-9", vector))
        return transform(vectors)

    translator.transform = comes_meanwhile
    with pytest.raises(StoreError, match=r"others: \['doc-9'\].*stay: .*start again, or .*--roll"):
        migrate(translator, url, target, batch_size=3, state_dir=state)
    translator.transform = transform
    assert sorted(content(target)) == list(range(9))
    run("UPDATE docs SET id = 9 WHERE id = ?", ("doc-9",))
    assert migrate(translator, url, target, state_dir=state).written == 1
    assert sorted(content(target)) == list(range(10))
    roll_back_migration(url, target, state_dir=state)


def test_an_empty_collection_gives_an_empty_one(tmp_path, translator, state):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(1))
    with open_collection(url) as collection:
        collection.delete([0])
    assert migrate(translator, url, f"{url}-new", state_dir=state).rows == 0
    assert content(f"{url}-new") == {}


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_a_store_that_keeps_lengths_gets_the_translation_itself(
    tmp_path, translator, state, metric
):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(9), metric)
    migrate(translator, url, f"{url}-new", state_dir=state)
    found = content(f"{url}-new")
    wanted = translator.transform(rows(9).vectors)
    np.testing.assert_allclose([found[i][0] for i in range(9)], wanted, rtol=1e-5)


def test_a_store_is_fitted_from_with_no_other_source(tmp_path, url):
    np.save(tmp_path / "target.npy", rows(25, 6, seed=3).vectors)
    pairs = load_pairs([url, tmp_path / "target.npy"])
    fitted = fit_translator(LinearTranslator(), None, None, pairs)
    in_memory = LinearTranslator().fit(rows(25).vectors, rows(25, 6, seed=3).vectors)
    x = rows(5, seed=8).vectors
    np.testing.assert_allclose(fitted.transform(x), in_memory.transform(x), atol=1e-4)


# Aliases ----------------------------------------------------------------------------------


def test_the_alias_is_switched_at_the_end_and_given_back(url, translator, state):
    with open_collection(url) as collection:
        collection.point("search", "docs")
    migrate(translator, url, f"{url}-new", alias="search", state_dir=state)
    with open_collection(url) as collection:
        assert collection.alias("search") == "docs-new"
    assert "names docs again" in roll_back_migration(url, f"{url}-new", state_dir=state)
    with open_collection(url) as collection:
        assert collection.alias("search") == "docs"


def test_an_alias_of_something_else_is_not_taken(url, translator, state):
    filled(f"{url}-other", rows(1))
    with open_collection(url) as collection:
        collection.point("search", "docs-other")
    with pytest.raises(StoreError, match="names docs-other, not docs"):
        migrate(translator, url, f"{url}-new", alias="search", state_dir=state)
    with open_collection(f"{url}-new") as target:
        assert not target.exists()


# Folded, for a store that corrects for hubs ----------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_folded_form_is_written_for_the_metric_of_the_store(
    tmp_path, translator, state, metric
):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(25), metric)
    bank = rows(30, 6, seed=4).vectors
    moved = migrate(translator, url, f"{url}-new", hubness="csls", bank=bank, state_dir=state)
    assert moved.checked == 25
    wanted = fold_items(translator.transform(rows(25).vectors), bank, metric=metric)
    found = content(f"{url}-new")
    with open_collection(f"{url}-new") as new:
        assert new.layout().dim == wanted.shape[1] == (7 if metric == "dot" else 8)
    for i in range(25):
        assert cosine(found[i][0], wanted[i]) == pytest.approx(1, abs=1e-5)


def test_a_run_with_another_folding_does_not_go_on(url, translator, state):
    translator.keep_bank(rows(30, seed=4).vectors)
    migrate(translator, url, f"{url}-new", hubness="csls", state_dir=state)
    with pytest.raises(CheckpointError, match="another folding"):
        migrate(translator, url, f"{url}-new", state_dir=state)
    with pytest.raises(CheckpointError, match="another folding"):
        migrate(translator, url, f"{url}-new", hubness="csls", n_neighbors=5, state_dir=state)


def test_folding_needs_a_bank_of_queries_that_fits(url, translator, state):
    for bank, error, wanted in (
        (None, ValueError, "the translator keeps none"),
        (rows(30, 5).vectors, InvalidLatentsError, r"\(m, 6\) of .* got shape \(30, 5\)"),
        (rows(3, 6).vectors, ValueError, "n_neighbors must be an integer from 1 to 3"),
    ):
        with pytest.raises(error, match=wanted):
            migrate(translator, url, f"{url}-new", hubness="csls", bank=bank, state_dir=state)
    with pytest.raises(ValueError, match="--hubness csls"):
        migrate(translator, url, f"{url}-new", bank=rows(30, 6).vectors, state_dir=state)
    with open_collection(f"{url}-new") as target:
        assert not target.exists()


# Before, in between and after a kill --------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(url, tmp_path, translator):
    before = {p: p.read_bytes() for p in (tmp_path / "db").rglob("*") if p.is_file()}
    plan = plan_migration(
        translator, url, f"{url}-new", text_field="text", price_per_million_tokens=2e6
    )
    assert (plan.rows, plan.dim, plan.target_dim, plan.target_bytes) == (25, 4, 6, 600)
    assert plan.tokens == sum(len(p["text"]) for p in rows(25).payloads) // 4
    assert plan.price == pytest.approx(2 * plan.tokens)
    assert "nothing was written" in str(plan)
    assert {p: p.read_bytes() for p in (tmp_path / "db").rglob("*") if p.is_file()} == before


def test_a_dry_run_names_rows_without_the_text(url, translator):
    with pytest.raises(StoreError, match="25 of the first 25 rows have no text in 'body'"):
        plan_migration(translator, url, f"{url}-new", text_field="body")


# a migration that hangs after 160 rows
HANGING = """
import sys, time
from pathlib import Path
from hf_latent_bridge import AutoTranslator, migrate

folder, url, state, hanging = sys.argv[1:]
translator, done = AutoTranslator.from_pretrained(folder), []
transform = translator.transform


def hang_after_160_rows(vectors):
    if sum(done) >= 160:
        Path(hanging).touch()
        time.sleep(600)
    done.append(len(vectors))
    return transform(vectors)


translator.transform = hang_after_160_rows
migrate(translator, url, f"{url}-new", batch_size=20, state_dir=state)
"""


@pytest.mark.slow
def test_a_killed_migration_goes_on_and_equals_one_that_was_not(tmp_path, translator, state):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(400))
    translator.save_pretrained(tmp_path / "map")
    with warm.Warm("-c", HANGING, tmp_path / "map", url, state, tmp_path / "hanging") as running:
        limit = time.monotonic() + PATIENCE
        while not (tmp_path / "hanging").exists():
            assert running.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        running.kill()
    command = ["migrate", url, f"{url}-new", "--translator", tmp_path / "map"]
    command += ["--state-dir", state, "--batch-size", 20, "--json"]
    moved = json.loads(warm.finished("-m", "hf_latent_bridge", *command).stdout)
    assert moved["rows"] == 400
    assert 0 < moved["written"] < 400
    migrate(translator, url, f"{url}-whole", state_dir=state)
    found, whole = content(f"{url}-new"), content(f"{url}-whole")
    assert found.keys() == whole.keys()
    for key, (vector, payload) in whole.items():
        np.testing.assert_array_equal(found[key][0], vector)
        assert found[key][1] == payload


def test_a_second_migration_is_told_at_once_that_one_is_running(url, translator, state):
    with open_collection(url) as old, open_collection(f"{url}-new") as new:
        with Journal.of(old, new, state), pytest.raises(InUseError, match="docs-new"):
            migrate(translator, url, f"{url}-new", state_dir=state)
        assert not new.exists()


def test_a_migration_with_another_translator_does_not_go_on(url, translator, state):
    migrate(translator, url, f"{url}-new", state_dir=state)
    other = OrthoTranslator().fit(rows(40, seed=5).vectors, rows(40, 6, seed=2).vectors)
    with pytest.raises(CheckpointError, match="another translator"):
        migrate(other, url, f"{url}-new", state_dir=state)


def test_a_vector_or_payload_that_was_replaced_is_written_again(url, translator, state):
    migrate(translator, url, f"{url}-new", state_dir=state)
    with open_collection(url) as collection:
        collection.write(rows(1, seed=7, first=3))
        other = rows(25)
        collection.write(Records([9], other.vectors[9:10], [{"text": "another"}]))
    moved = migrate(translator, url, f"{url}-new", state_dir=state)
    assert (moved.written, moved.replaced, moved.checked) == (0, 2, 25)
    assert "2 had changed in the source" in str(moved)
    found, wanted = content(f"{url}-new"), translator.transform(rows(1, seed=7).vectors)[0]
    assert cosine(found[3][0], wanted) == pytest.approx(1, abs=1e-6)
    assert found[9][1] == {"text": "another"}


def test_a_row_that_is_replaced_while_the_others_are_moved_is_found(url, translator, state):
    def replaced_meanwhile():
        while not replaced.is_set():
            with open_collection(f"{url}-new") as new:
                if new.exists() and new.count() >= 5:
                    with open_collection(url) as old:
                        old.write(rows(1, seed=7, first=0))
                    replaced.set()
            time.sleep(0.001)
            if time.monotonic() > limit:
                return

    replaced, limit = threading.Event(), time.monotonic() + PATIENCE
    with open_collection(url):  # one connection for both threads
        other = threading.Thread(target=replaced_meanwhile)
        other.start()
        migrate(translator, url, f"{url}-new", batch_size=1, state_dir=state)
        other.join(PATIENCE)
    assert replaced.is_set()
    migrate(translator, url, f"{url}-new", state_dir=state)  # where it came after the last pass
    wanted = translator.transform(content(url)[0][0])
    assert cosine(content(f"{url}-new")[0][0], wanted) == pytest.approx(1, abs=1e-6)


def test_a_flipped_bit_in_the_journal_is_noticed(url, translator, state):
    migrate(translator, url, f"{url}-new", state_dir=state)
    (journal,) = state.glob("*.json")
    whole = journal.read_bytes()
    for bit in np.random.default_rng(0).integers(len(whole) * 8, size=20).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        journal.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"delete .*docs-new"):
            migrate(translator, url, f"{url}-new", state_dir=state)
    journal.write_bytes(whole)
    assert migrate(translator, url, f"{url}-new", state_dir=state).written == 0


@pytest.mark.parametrize(
    "facts", [{}, {"conversion": {}}, {"conversion": 1}, {"alias": "docs"}, {"another": 1}]
)
def test_a_journal_that_holds_something_else_is_refused(facts, url, translator, state):
    migrate(translator, url, f"{url}-new", state_dir=state)
    (journal,) = state.glob("*.json")
    content = json.loads(journal.read_text())
    del content["sha256"]
    journal.write_bytes(seal_json({**content, "facts": facts}))
    with pytest.raises(CheckpointError, match=r"does not hold the facts .*delete .*docs-new"):
        migrate(translator, url, f"{url}-new", state_dir=state)


# Bad input --------------------------------------------------------------------------------


def test_the_old_and_the_new_vectors_must_differ(url, translator, state):
    with pytest.raises(StoreError, match="are the same"):
        migrate(translator, url, url, state_dir=state)


def test_a_collection_of_another_width_is_refused(tmp_path, url, translator, state):
    wide = filled(f"qdrant:{tmp_path}/db/wide", rows(3, 5))
    with pytest.raises(InvalidLatentsError, match=r"wide is 5 wide.*dim=4"):
        migrate(translator, wide, f"{url}-new", state_dir=state)
    other_way = filled(f"qdrant:{tmp_path}/db/other", rows(3, translator.target_.dim))
    with pytest.raises(InvalidLatentsError, match="one is needed that leads from the stored"):
        migrate(translator, other_way, f"{url}-new", state_dir=state)
    with open_collection(f"{url}-new") as target:
        assert not target.exists()


def test_rows_without_a_vector_are_named_and_the_rest_can_go_on(tmp_path, translator, state):
    url = f"qdrant:{tmp_path}/db/docs"
    named(url, ["text", "title"], rows(5))
    with open_collection(f"{url}?vector=title") as collection:
        collection.write(Records([77], rows(1).vectors, [{}]))
    with pytest.raises(StoreError, match="such as 77, whose vector is missing"):
        migrate(translator, f"{url}?vector=text", f"{url}?vector=new", state_dir=state)


def test_a_vector_that_is_not_named_is_asked_for(tmp_path, translator, state):
    url = named(f"qdrant:{tmp_path}/db/docs", ["text", "title"], rows(5))
    with pytest.raises(StoreError, match=r"'text', 'title'.*name one as \?vector="):
        migrate(translator, url, f"{url}-new", state_dir=state)


def test_a_server_that_is_away_is_named_at_once(translator, state):
    with pytest.raises(StoreUnavailableError, match=r"127.0.0.1:9/docs did not answer"):
        migrate(translator, "qdrant://127.0.0.1:9/docs", "qdrant://127.0.0.1:9/new")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("qdrant://user:hunter2@host/docs", "has a password or token in it"),
        ("qdrant://hunter2@host/docs", "has a password or token in it"),
        ("qdrant://host/docs?api_key=hunter2", "may have .*vector.*got .*api_key"),
        ("qdrant:./folder/docs?vektor=a", "may have .*vector.*got .*vektor"),
        ("qdrant://host:6333", "must end in /name"),
        ("qdrant:docs", "without a place"),
        ("./folder/docs", "begins with its kind"),
        ("qdrant://host:hunter2/docs", "port of a qdrant URL must be a number"),
        ("qdrant:./folder/docs#hunter2", "write %23"),
        ("qdrant:./folder/docs?vector=a&column=b", "each parameter once"),
        ("qdrant://host/docs?https=yes", "https= must be 1 or 0, got 'yes'"),
    ],
)
def test_a_url_that_is_wrong_says_how(text, wanted):
    with pytest.raises(InvalidNameError, match=wanted) as refusal:
        parse_url(text, params=("https",))
    assert "hunter2" not in str(refusal.value)


def test_a_url_names_store_collection_and_vector():
    url = parse_url("qdrant://localhost:6333/docs?vector=text")
    assert (url.host, url.path, url.name, url.vector) == ("localhost:6333", "", "docs", "text")
    assert str(url) == "qdrant://localhost:6333/docs?vector=text"
    url = parse_url("qdrant:./a/b/docs")
    assert (url.host, url.path, url.name, str(url)) == ("", "./a/b", "docs", "qdrant:./a/b/docs")
    url = parse_url("postgresql://me@db/news/articles?column=embedding", users=True)
    assert (url.host, url.path, url.name, url.vector) == ("me@db", "news", "articles", "embedding")


@pytest.mark.parametrize("host", ["localhost", "[::1]", "me@host"])
@pytest.mark.parametrize("port", [None, 6333])
def test_a_url_names_server_and_port(host, port):
    url = parse_url(f"postgresql://{host}{f':{port}' if port else ''}/db/docs", users=True)
    assert url.server == (host.removeprefix("me@"), port)


@pytest.mark.parametrize("name", ["a/b", "a?b", "50% #1", "a+b&c=d", "ä \"b'"])
def test_a_url_that_is_shown_names_the_same_place(name):
    url = StoreUrl("qdrant", "", "./f?#", name, name, {"id": name}, local=True)
    again = parse_url(str(url), params=("id",))
    assert (again, again.params) == (url, url.params)


@pytest.mark.parametrize("text", ["postgres://me:hunter2@h/docs", "https://h/docs?token=hunter2"])
def test_the_url_of_an_unknown_store_is_told_without_its_password(text):
    for call in (open_vectors, open_collection, AutoTranslator.from_pretrained):
        with pytest.raises(InvalidNameError, match="//h/docs") as refusal:
            call(text)
        assert "hunter2" not in str(refusal.value)


# The command ------------------------------------------------------------------------------


def test_the_command_plans_moves_and_rolls_back(url, translator, tmp_path, state, capsys):
    from hf_latent_bridge.cli import main

    translator.save_pretrained(tmp_path / "map")
    command = ["migrate", url, f"{url}-new", "--state-dir", str(state)]
    with_map = [*command, "--translator", str(tmp_path / "map")]
    assert main([*with_map, "--dry-run"]) == 0
    assert "25 rows of" in capsys.readouterr().out
    assert main(with_map) == 0
    assert "25 read back and compared" in capsys.readouterr().out
    assert main([*command, "--rollback"]) == 0
    assert "was removed" in capsys.readouterr().out
    assert main(command) == 1
    assert "--translator is needed" in capsys.readouterr().err
    assert Path(tmp_path / "db").is_dir()


def test_the_page_names_every_store_with_its_extra():
    from hf_latent_bridge.vectors.stores.registry import STORES

    page = (Path(__file__).parent.parent / "docs/migrating.md").read_text(encoding="utf-8")
    for store in STORES.values():
        assert f"`{store.example}`" in page
        assert f"| `{store.extra}` |" in page
