"""A migrated collection is asked by either encoder, by the calls that people know, as recorded."""

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny_models
import torch
from processes import PATIENCE
from store_places import filled, rows

from hf_latent_bridge import (
    LinearTranslator,
    OrthoTranslator,
    SharedTranslator,
    SpaceSpec,
    TranslatedEncoder,
    load_encoder,
    migrate,
)
from hf_latent_bridge.encoders.base import Encoder, encode
from hf_latent_bridge.errors import (
    ConfigError,
    EncoderError,
    ForeignFileError,
    InvalidLatentsError,
    InvalidPairsError,
    NotFittedError,
    SpaceMismatchError,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hubness import csls_scores, fold_queries, neighbor_similarity
from hf_latent_bridge.translation.serving import Route, Serving
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]
TEXTS = list(tiny_models.TEXTS)


def letters(texts):
    """An encoder that is a plain function: how often some letters are in a text."""
    return np.array([[text.count(letter) for letter in "aeio"] for text in texts], np.float32)


def backwards(texts):
    """A column whose labels are not positions."""
    return pd.Series(texts, index=range(len(texts))[::-1])


@pytest.fixture
def translator():
    return OrthoTranslator().fit(rows(40, seed=1).vectors, rows(40, 6, seed=2).vectors)


def sentence_model():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_models.sentence_folder()), device="cpu")


def fitted_on(space, out=4):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, space.dim, generator=draw)
    y = x @ torch.randn(space.dim, out, generator=draw)
    return LinearTranslator().fit(x, y, source=space)


# encode -----------------------------------------------------------------------------------


def test_it_answers_as_a_sentence_transformer_does():
    model = sentence_model()
    translator = fitted_on(SpaceSpec(16))
    encoder = TranslatedEncoder(model, translator)
    wanted = translator.transform(model.encode(TEXTS))
    got = encoder.encode(TEXTS, batch_size=2, show_progress_bar=False)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[0]), wanted[0], atol=1e-5)
    tensor = encoder.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    unit = encoder.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


def test_the_prompt_that_the_model_has_for_queries_is_used():
    model = sentence_model()
    model.prompts["query"] = "find: "
    encoder = TranslatedEncoder(model, fitted_on(SpaceSpec(16)))
    prompted = encoder.encode([f"find: {text}" for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_query(TEXTS), prompted, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, prompt_name="query"), prompted, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_it_is_an_encoder_of_the_space_that_it_answers_in():
    inner = load_encoder(tiny_models.bert_repo(), device="cpu")
    translator = fitted_on(inner.space)
    encoder = TranslatedEncoder(inner, translator)
    assert isinstance(encoder, Encoder)
    assert encoder.space == translator.target_
    wanted = translator.transform(inner.encode(TEXTS))
    torch.testing.assert_close(encode(encoder, TEXTS), wanted.float(), check_device=False)


@pytest.mark.parametrize("fold", ["dot", "cosine", "euclidean"])
def test_of_folded_vectors_only_the_width_is_known(fold):
    encoder = TranslatedEncoder(letters, fitted_on(SpaceSpec(4, "me/letters")), fold=fold)
    assert encoder.space == SpaceSpec(encoder.encode(TEXTS).shape[1])


def test_without_a_translator_it_only_folds():
    encoder = TranslatedEncoder(letters, fold="cosine")
    wanted = fold_queries(letters(TEXTS), metric="cosine")
    np.testing.assert_allclose(encoder.encode(TEXTS), wanted, atol=1e-6)
    with pytest.raises(EncoderError, match="fold_items"):
        encoder.encode_document(TEXTS)


@pytest.mark.parametrize("column", [backwards, pd.Index, np.array, tuple, pa.array])
def test_texts_in_any_column_are_several_and_bytes_are_one(column):
    model = sentence_model()
    encoder = TranslatedEncoder(model, fitted_on(SpaceSpec(16)))
    np.testing.assert_allclose(encoder.encode(column(TEXTS)), encoder.encode(TEXTS), atol=1e-5)
    inner = TranslatedEncoder(lambda items: np.ones((len(items), 4)))
    assert inner.encode(b"bytes of a picture").shape == (4,)
    with pytest.raises(InvalidPairsError, match=r"got generator: pass list\(items\)"):
        inner.encode(text for text in TEXTS)
    with pytest.raises(InvalidPairsError, match="got a table"):
        inner.encode(pd.DataFrame({"text": TEXTS}))


@pytest.mark.parametrize(
    ("given", "error"),
    [("me/a-to-b", TypeError), (LinearTranslator, TypeError), (OrthoTranslator(), NotFittedError)],
)
def test_what_is_not_a_fitted_translator_is_refused_at_once(given, error):
    with pytest.raises(error, match=r"a translator comes from|is not fitted"):
        TranslatedEncoder(letters, given)


def test_what_would_give_other_vectors_is_refused():
    encoder = TranslatedEncoder(sentence_model(), fitted_on(SpaceSpec(16)))
    with pytest.raises(ValueError, match="precision, truncate_dim would give other vectors"):
        encoder.encode(TEXTS, precision="int8", truncate_dim=8)
    with pytest.raises(TypeError, match="takes no prompt_name"):
        TranslatedEncoder(letters).encode(TEXTS, prompt_name="query")
    with pytest.raises(EncoderError, match="comes from load_encoder, or is a callable"):
        TranslatedEncoder("all-MiniLM-L6-v2")
    with pytest.raises(ValueError, match="fold must be None or one of"):
        TranslatedEncoder(letters, fold="hamming")
    with pytest.raises(InvalidLatentsError, match="4"):
        TranslatedEncoder(letters, fitted_on(SpaceSpec(16))).encode(TEXTS)


def test_an_encoder_that_the_translator_was_not_fitted_on_is_refused():
    inner = load_encoder(tiny_models.bert_repo(), device="cpu")
    with pytest.raises(SpaceMismatchError, match="someone/else"):
        TranslatedEncoder(inner, fitted_on(SpaceSpec(16, repo_id="someone/else")))


# What migrate records -----------------------------------------------------------------------


@pytest.mark.parametrize("hubness", [None, "csls"])
def test_both_encoders_find_in_the_new_vectors_what_the_record_says(tmp_path, translator, hubness):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(25))
    translator.keep_bank(rows(30, seed=4).vectors)
    migrate(
        translator,
        url,
        f"{url}-new",
        hubness=hubness,
        serve_dir=tmp_path / "serve",
        state_dir=tmp_path / "state",
    )
    items = translator.transform(rows(25).vectors)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    similarity = neighbor_similarity(items, translator.query_bank_.cpu())
    new_model = rows(5, 6, seed=9).vectors
    for asks, inner, queries in (
        ("new", lambda texts: new_model, new_model),
        ("old", letters, translator.transform(letters(TEXTS))),
    ):
        encoder = TranslatedEncoder.from_pretrained(tmp_path / "serve", inner, asks=asks)
        assert encoder.fold == (hubness and "cosine")
        asked = encoder.encode(TEXTS[:5] if asks == "new" else TEXTS)
        assert encoder.space.dim == asked.shape[1]
        cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ items.T
        scores = csls_scores(cosines, similarity) if hubness else cosines
        with open_collection(f"{url}-new") as new:
            for vector, row in zip(asked, scores, strict=True):
                best = np.argsort(-row, kind="stable")[:5].tolist()
                assert new.nearest(vector, 5) == best


def test_both_encoders_answer_from_the_rows_that_are_there_while_the_others_are_moved(
    tmp_path, translator
):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(25))
    slow, goes_on, done = copy.copy(translator), threading.Event(), list[int]()

    def wait_after_10_rows(vectors):
        done.append(len(vectors))
        assert sum(done) <= 10 or goes_on.wait(PATIENCE)
        return translator.transform(vectors)

    slow.transform = wait_after_10_rows
    items, new_model = translator.transform(rows(25).vectors), rows(3, 6, seed=9).vectors
    items /= np.linalg.norm(items, axis=1, keepdims=True)

    def check_answers(n):
        asked = (TranslatedEncoder(lambda texts: new_model), new_model)
        translated = (TranslatedEncoder(letters, translator), translator.transform(letters(TEXTS)))
        for encoder, queries in (asked, translated):
            for vector, query in zip(encoder.encode(TEXTS[: len(queries)]), queries, strict=True):
                best = np.argsort(-items[:n] @ query, kind="stable")[:5].tolist()
                assert new.nearest(vector, 5) == best

    with ThreadPoolExecutor(1) as other, open_collection(f"{url}-new", create=True) as new:
        state = tmp_path / "state"
        moved = other.submit(migrate, slow, url, f"{url}-new", batch_size=5, state_dir=state)
        limit = time.monotonic() + PATIENCE
        while not (new.exists() and new.count() == 10):
            assert time.monotonic() < limit
            time.sleep(0.01)
        check_answers(10)
        goes_on.set()
        assert moved.result(PATIENCE).rows == 25
        check_answers(25)


def test_where_both_sides_move_the_new_encoder_is_translated_too(tmp_path):
    both = rows(90, seed=1).vectors, rows(90, 6, seed=2).vectors
    translator = SharedTranslator(dim=3).fit(*both)
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(25))
    places = {"serve_dir": tmp_path / "serve", "state_dir": tmp_path / "state"}
    migrate(translator, url, f"{url}-new", **places)
    asked = rows(3, 6, seed=9).vectors
    encoder = TranslatedEncoder.from_pretrained(tmp_path / "serve", lambda texts: asked)
    wanted = translator.target_translator_.transform(asked)
    np.testing.assert_allclose(encoder.encode(TEXTS[:3]), wanted, atol=1e-5)


def test_a_record_that_is_damaged_or_of_something_else_is_refused(tmp_path, translator):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(9))
    places = {"serve_dir": tmp_path / "serve", "state_dir": tmp_path / "state"}
    migrate(translator, url, f"{url}-new", **places)
    with pytest.raises(KeyError, match="asks must be one of"):
        TranslatedEncoder.from_pretrained(tmp_path / "serve", letters, asks="newer")
    config = tmp_path / "serve" / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"cosine"', '"dot"'))
    with pytest.raises(ConfigError, match="damaged"):
        TranslatedEncoder.from_pretrained(tmp_path / "serve", letters)
    translator.save_pretrained(tmp_path / "map")
    with pytest.raises(ConfigError, match="serving_type"):
        TranslatedEncoder.from_pretrained(tmp_path / "map", letters)


def test_a_record_that_is_saved_again_while_it_is_read_is_read_as_it_is_then(
    tmp_path, translator, monkeypatch
):
    first, second = (
        Serving("gradual", "qdrant:db/docs", "cosine", {}, {name: Route(SpaceSpec(4), translator)})
        for name in ("first", "second")
    )
    first.save(tmp_path)
    fetch = client.fetch

    def then_save(*arguments, **options):
        found = fetch(*arguments, **options)
        monkeypatch.setattr(client, "fetch", fetch)
        second.save(tmp_path)
        return found

    monkeypatch.setattr(client, "fetch", then_save)
    assert Serving.load(tmp_path).routes["second"].translator.n_pairs_ == translator.n_pairs_


@pytest.mark.parametrize("name", ["../docs", "a/b", "config.json", ""])
def test_a_record_does_not_name_folders_beyond_its_own(tmp_path, translator, name):
    routes = {name: Route(SpaceSpec(4), translator)}
    with pytest.raises(ValueError, match="name is also its folder"):
        Serving("items", "qdrant:db/docs", "cosine", {}, routes).save(tmp_path / "serve")
    assert not list(tmp_path.rglob("*"))


def test_a_folder_of_someone_else_is_refused_before_a_row_is_moved(tmp_path, translator):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(9))
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "config.json").write_text("{}")
    with pytest.raises(ForeignFileError, match=r"config.json was not written"):
        migrate(
            translator,
            url,
            f"{url}-new",
            serve_dir=tmp_path / "serve",
            state_dir=tmp_path / "state",
        )
    with open_collection(f"{url}-new") as new:
        assert not new.exists()


def test_a_translator_is_not_written_over_by_the_record_nor_the_record_by_it(tmp_path, translator):
    url = filled(f"qdrant:{tmp_path}/db/docs", rows(9))
    translator.save_pretrained(tmp_path / "map")
    before = (tmp_path / "map" / "config.json").read_bytes()
    given = {"state_dir": tmp_path / "state"}
    with pytest.raises(ForeignFileError, match="states translator_type"):
        migrate(translator, url, f"{url}-new", serve_dir=tmp_path / "map", **given)
    assert (tmp_path / "map" / "config.json").read_bytes() == before
    migrate(translator, url, f"{url}-new", serve_dir=tmp_path / "serve", **given)
    with pytest.raises(ForeignFileError, match="states serving_type"):
        translator.save_pretrained(tmp_path / "serve")
