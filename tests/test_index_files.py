"""A FAISS file is moved into a new one beside it: same ids, same metric, same kind of index."""

import os
import sys

import faiss
import numpy as np
import pytest
from meanwhile import meanwhile

from hf_latent_bridge import LinearTranslator, migrate, plan_migration
from hf_latent_bridge.errors import CheckpointError, InUseError, InvalidLatentsError, StoreError
from hf_latent_bridge.vectors.formats import open_vectors

N, OLD, NEW = 500, 8, 12
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")


@pytest.fixture(scope="module")
def old():
    rows = np.random.default_rng(0).normal(size=(N, OLD)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def translator(old):
    weight = np.random.default_rng(1).normal(size=(OLD, NEW)).astype(np.float32)
    return LinearTranslator().fit(old, np.tanh(old @ weight))


def saved(path, vectors, factory="Flat", metric=faiss.METRIC_INNER_PRODUCT, ids=None):
    index = faiss.index_factory(vectors.shape[1], factory, metric)
    index.train(vectors)
    if ids is None:
        index.add(vectors)
    else:
        index = faiss.IndexIDMap2(index)
        index.add_with_ids(vectors, ids)
    faiss.write_index(index, str(path))
    return str(path)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF4,Flat"])
@pytest.mark.parametrize("scheme", ["", "faiss:", "FAISS:"])
def test_the_new_index_is_of_the_same_kind_and_finds_what_the_translations_say(
    factory, scheme, old, translator, tmp_path
):
    source, target = saved(tmp_path / "old.faiss", old, factory), tmp_path / "new.faiss"
    before = (tmp_path / "old.faiss").read_bytes()
    moved = migrate(translator, f"{scheme}{source}", f"{scheme}{target}", batch_size=64)
    assert (moved.rows, moved.checked) == (N, N)
    index = faiss.read_index(str(target))
    assert type(index) is type(faiss.read_index(source))
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    wanted = translator.transform(old)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(open_vectors(str(target)).read(np.arange(N)), wanted, atol=1e-5)
    if factory == "Flat":
        _, found = index.search(wanted[:50], 5)
        np.testing.assert_array_equal(found, np.argsort(-wanted[:50] @ wanted.T)[:, :5])
    assert (tmp_path / "old.faiss").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"old.faiss", "new.faiss"}


@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_an_index_without_rows_gives_an_empty_one(factory, translator, tmp_path):
    source = tmp_path / "old.faiss"
    faiss.write_index(faiss.index_factory(OLD, factory), str(source))
    assert migrate(translator, str(source), str(tmp_path / "new.faiss")).rows == 0
    index = faiss.read_index(str(tmp_path / "new.faiss"))
    assert (index.ntotal, index.d) == (0, NEW)


def test_an_inverted_file_without_rows_is_refused(old, translator, tmp_path):
    index = faiss.index_factory(OLD, "IVF4,Flat")
    index.train(old)
    faiss.write_index(index, str(tmp_path / "old.faiss"))
    with pytest.raises(StoreError, match="inverted file without rows"):
        migrate(translator, str(tmp_path / "old.faiss"), str(tmp_path / "new.faiss"))


def test_ids_and_euclidean_distances_stay(old, translator, tmp_path):
    ids = np.arange(N, dtype=np.int64)[::-1] * 7
    source = saved(tmp_path / "old.index", old * 3, metric=faiss.METRIC_L2, ids=ids)
    migrate(translator, source, str(tmp_path / "new.index"))
    index = faiss.read_index(str(tmp_path / "new.index"))
    wanted = translator.transform(old * 3)
    assert index.metric_type == faiss.METRIC_L2
    np.testing.assert_array_equal(index.search(wanted, 1)[1][:, 0], ids)
    np.testing.assert_allclose(index.reconstruct(int(ids[3])), wanted[3], atol=1e-5)


def test_products_of_vectors_that_are_not_unit_are_left_as_they_are(old, translator, tmp_path):
    source = saved(tmp_path / "old.faiss", old * 3)
    migrate(translator, source, str(tmp_path / "new.faiss"))
    found = open_vectors(str(tmp_path / "new.faiss")).read(np.arange(N))
    np.testing.assert_allclose(found, translator.transform(old * 3), atol=1e-5)


def test_a_dry_run_says_sizes_and_writes_nothing(old, translator, tmp_path):
    source = saved(tmp_path / "old.faiss", old)
    plan = plan_migration(translator, source, str(tmp_path / "new.faiss"))
    assert (plan.rows, plan.dim, plan.target_dim, plan.target_bytes) == (N, OLD, NEW, N * NEW * 4)
    assert [path.name for path in tmp_path.iterdir()] == ["old.faiss"]


def test_a_folder_for_serving_says_how_the_file_is_asked(old, translator, tmp_path):
    source, target = saved(tmp_path / "old.faiss", old), str(tmp_path / "new.faiss")
    migrate(translator, source, target, serve_dir=tmp_path / "serve")
    assert (tmp_path / "serve" / "config.json").exists()


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF4,Flat"])
def test_a_migration_that_was_killed_before_its_last_step_is_finished(
    factory, old, translator, tmp_path
):
    source, target = saved(tmp_path / "old.faiss", old, factory), tmp_path / "new.faiss"
    migrate(translator, source, str(target))
    before = target.read_bytes()
    migrate(translator, source, str(target), serve_dir=tmp_path / "serve")
    assert (tmp_path / "serve" / "config.json").exists()
    assert target.read_bytes() == before


@pytest.fixture
def translated(monkeypatch):
    """Says how many rows were translated; from then on at most so many are, and then no more."""
    transform, counts, most = LinearTranslator.transform, [], [N * 9]

    def counting(self, X):
        if sum(counts) + len(X) > most[0]:
            raise KeyboardInterrupt
        counts.append(len(X))
        return transform(self, X)

    def until(rows=N * 9):
        most[0], before = rows, sum(counts)
        counts.clear()
        return before

    monkeypatch.setattr(LinearTranslator, "transform", counting)
    return until


def interrupted(translator, source, target, translated):
    translated(400)
    with pytest.raises(KeyboardInterrupt):
        migrate(translator, source, target, batch_size=20)
    translated()


@pytest.mark.parametrize(
    ("factory", "ids"),
    [
        ("Flat", None),
        ("Flat", np.arange(N)[::-1] + 5),
        ("HNSW16", None),
        ("HNSW16", np.arange(N)[::-1] + 5),
        ("IVF4,Flat", None),
    ],
)
def test_a_migration_that_was_interrupted_goes_on_and_writes_the_same_bytes(
    factory, ids, old, translator, tmp_path, translated
):
    source = saved(tmp_path / "old.faiss", old, factory, ids=ids)
    target = tmp_path / "new.faiss"
    interrupted(translator, source, str(target), translated)
    assert not target.exists()
    migrate(translator, source, str(target), batch_size=20)
    assert translated() <= N - 400 + 4 * 20
    migrate(translator, source, str(tmp_path / "whole.faiss"), batch_size=20)
    assert target.read_bytes() == (tmp_path / "whole.faiss").read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["new.faiss", "old.faiss", "whole.faiss"]


def test_rows_are_known_again_in_other_batches(old, translator, tmp_path):
    source, target = saved(tmp_path / "old.faiss", old), str(tmp_path / "new.faiss")
    migrate(translator, source, target, batch_size=20)
    moved = migrate(translator, source, target, batch_size=7, serve_dir=tmp_path / "serve")
    assert moved.rows == N


@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_rows_that_were_damaged_since_an_interrupted_migration_are_noticed(
    factory, old, translator, tmp_path, translated
):
    source, target = saved(tmp_path / "old.faiss", old, factory), tmp_path / "new.faiss"
    interrupted(translator, source, str(target), translated)
    with open(tmp_path / ".new.faiss.part", "r+b") as stream:
        stream.seek(2000)
        stream.write(b"\x7f\x7f\x7f\x7f")
    with pytest.raises(StoreError, match="does not give back what was written"):
        migrate(translator, source, str(target), batch_size=20)
    assert [path.name for path in tmp_path.iterdir()] == ["old.faiss"]
    migrate(translator, source, str(target), batch_size=20)


def test_an_unfinished_migration_is_not_gone_on_with_by_another_translator(
    old, translator, tmp_path, translated
):
    source, target = saved(tmp_path / "old.faiss", old), tmp_path / "new.faiss"
    interrupted(translator, source, str(target), translated)
    other = LinearTranslator().fit(old, old @ np.ones((OLD, NEW), np.float32))
    with pytest.raises(CheckpointError, match=r"another translator .* remove the files .*\.part"):
        migrate(other, source, str(target), batch_size=20)
    for path in tmp_path.glob(".new.faiss.part*"):
        path.unlink()
    migrate(other, source, str(target), batch_size=20)
    with pytest.raises(StoreError, match="holds other rows"):
        migrate(translator, source, str(target))


def test_rows_that_were_replaced_since_an_interrupted_migration_are_noticed(
    old, translator, tmp_path, translated
):
    source, target = saved(tmp_path / "old.faiss", old), tmp_path / "new.faiss"
    interrupted(translator, source, str(target), translated)
    before = os.stat(source)
    saved(source, old[::-1].copy())
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CheckpointError, match=r"rows that it read of .* were changed since"):
        migrate(translator, source, str(target), batch_size=20)
    assert not target.exists()


def test_a_file_that_is_replaced_while_it_is_read_is_noticed_and_leaves_nothing(
    old, translator, tmp_path, monkeypatch
):
    source, transform = saved(tmp_path / "old.faiss", old), LinearTranslator.transform

    def replacing(self, X):
        saved(source, old[::-1].copy())
        return transform(self, X)

    with monkeypatch.context() as patch:
        patch.setattr(LinearTranslator, "transform", replacing)
        with pytest.raises(InvalidLatentsError, match="was changed while it was read"):
            migrate(translator, source, str(tmp_path / "new.faiss"), batch_size=20)
    assert [path.name for path in tmp_path.iterdir()] == ["old.faiss"]


def test_a_file_that_is_changed_after_its_last_row_was_read_is_noticed(old, translator, tmp_path):
    source = saved(tmp_path / "old.faiss", old)
    changed = pytest.raises(InvalidLatentsError, match="was changed while it was read")
    with meanwhile(lambda: os.utime(source), ".part", "r"), changed:
        migrate(translator, source, str(tmp_path / "new.faiss"))
    assert not (tmp_path / "new.faiss").exists()


@pytest.mark.parametrize(("factory", "name"), [("Flat", ".part"), ("HNSW16", ".whole")])
def test_a_disk_that_gives_back_other_bytes_is_noticed(factory, name, old, translator, tmp_path):
    source = saved(tmp_path / "old.faiss", old, factory)

    def damage():
        (path,) = tmp_path.glob(f".*{name}")
        with path.open("r+b") as stream:
            stream.seek(N * NEW * 2)
            stream.write(b"\x7f\x7f\x7f\x7f")

    lost = pytest.raises(StoreError, match="does not give back what was written")
    with meanwhile(damage, name, "r"), lost:
        migrate(translator, source, str(tmp_path / "new.faiss"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.faiss"]
    migrate(translator, source, str(tmp_path / "new.faiss"))


def test_a_flat_index_is_moved_without_faiss(old, translator, tmp_path, monkeypatch):
    ids = np.arange(N) * 3
    source = saved(tmp_path / "old.faiss", old * 2, ids=ids)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "faiss", None)
        migrate(translator, source, str(tmp_path / "new.faiss"))
    index = faiss.read_index(str(tmp_path / "new.faiss"))
    wanted = translator.transform(old * 2)
    np.testing.assert_array_equal(faiss.vector_to_array(index.id_map), ids)
    np.testing.assert_allclose(index.reconstruct(9), wanted[3], atol=1e-5)


def test_a_second_migration_into_the_same_file_is_refused_at_once(
    old, translator, tmp_path, monkeypatch
):
    source, target = saved(tmp_path / "old.faiss", old), str(tmp_path / "new.faiss")
    transform, refusals = type(translator).transform, []

    def meet(self, chunk):
        if len(chunk):
            with monkeypatch.context() as patch:
                patch.setattr(type(translator), "transform", transform)
                with pytest.raises(InUseError) as error:
                    migrate(translator, source, target)
            refusals.append(str(error.value))
        return transform(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(type(translator), "transform", meet)
        migrate(translator, source, target)
    assert "another process is writing" in refusals[0]
    assert {path.name for path in tmp_path.iterdir()} == {"old.faiss", "new.faiss"}


def test_rows_of_another_translator_are_not_taken_for_the_own_ones(old, translator, tmp_path):
    source, target = saved(tmp_path / "old.faiss", old), tmp_path / "new.faiss"
    migrate(translator, source, str(target))
    before = target.read_bytes()
    other = LinearTranslator().fit(old, old @ np.ones((OLD, NEW), np.float32))
    with pytest.raises(StoreError, match="holds other rows"):
        migrate(other, source, str(target))
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("target", "wanted", "message"),
    [
        ("old.faiss", {}, "is there already"),
        ("new.npy", {}, "a FAISS file is moved into another one"),
        ("qdrant:./store/docs", {}, "a FAISS file is moved into another one"),
        ("new.faiss", {"alias": "search"}, "no aliases"),
        ("faiss:./new.faiss.gz", {}, "not compressed"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    target, wanted, message, old, translator, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    saved("old.faiss", old)
    with pytest.raises((StoreError, ValueError), match=message):
        migrate(translator, "old.faiss", target, **wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["old.faiss"]


def test_files_that_are_missing_compressed_or_of_another_width_are_named(old, translator, tmp_path):
    target = str(tmp_path / "new.faiss")
    with pytest.raises(StoreError, match=r"no FAISS file .*old\.faiss"):
        migrate(translator, str(tmp_path / "old.faiss"), target)
    compressed = saved(tmp_path / "small.faiss", old, "SQ8")
    with pytest.raises(InvalidLatentsError, match="keep them whole"):
        migrate(translator, compressed, target)
    wide = saved(tmp_path / "wide.faiss", np.ones((9, OLD + 1), np.float32))
    with pytest.raises(InvalidLatentsError, match=f"{OLD + 1}"):
        migrate(translator, wide, target)
    assert not (tmp_path / "new.faiss").exists()
