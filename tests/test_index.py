"""An index finds what a full comparison finds, in bounded memory, and survives the Hub."""

import copy
import json
import sys

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
import warm
from comparing import alike, same

from hf_latent_bridge import LatentIndex, SpaceSpec, load_decoder, load_encoder, stitch
from hf_latent_bridge.decoders.search import METRICS, SEARCHES, register_search, search_exactly
from hf_latent_bridge.errors import (
    ConfigError,
    DecoderError,
    InvalidLatentsError,
    InvalidPairsError,
    WeightsError,
)
from hf_latent_bridge.files import read_config

draw = np.random.default_rng(0)
VECTORS = draw.normal(size=(300, 8)).astype(np.float32) * draw.uniform(0.5, 2, size=(300, 1))
QUERIES = draw.normal(size=(20, 8)).astype(np.float32)


ITEMS = [f"item {row}" for row in range(300)]


def faiss(factory, **params):
    return {"search": "faiss", "search_params": {"factory": factory, **params}}


def full_scores(metric):
    if metric == "euclidean":
        return -np.linalg.norm(QUERIES[:, None] - VECTORS[None], axis=2)
    scale = (
        (lambda m: m / np.linalg.norm(m, axis=1, keepdims=True)) if metric == "cosine" else np.array
    )
    return scale(QUERIES) @ scale(VECTORS).T


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("search", ["exact", "faiss"])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_the_best_items_come_first_with_their_scores_and_rows(metric, search, convert):
    index = LatentIndex.from_latents(convert(VECTORS), ITEMS, metric=metric, search=search)
    scores = full_scores(metric)
    best = np.argsort(-scores, axis=1)[:, :5]
    found = index.search(convert(QUERIES), top_k=5)
    assert [[hit["row"] for hit in hits] for hits in found] == best.tolist()
    assert [[hit["item"] for hit in hits] for hits in found] == [
        [ITEMS[r] for r in b] for b in best
    ]
    got = np.array([[hit["score"] for hit in hits] for hits in found])
    np.testing.assert_allclose(got, np.take_along_axis(scores, best, axis=1), atol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e19, 1e30])
@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_cosines_do_not_depend_on_the_size_of_the_latents(size, search):
    vectors, queries = (latents.astype(np.float32) for latents in (VECTORS, QUERIES))
    scores = full_scores("cosine")
    index = LatentIndex.from_latents(vectors * np.float32(size), ITEMS, search=search)
    for hits, expected in zip(index.search(queries * np.float32(size)), scores, strict=True):
        assert hits[0]["row"] == expected.argmax()
        assert hits[0]["score"] == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_products_that_leave_float32_are_refused(size, metric):
    with pytest.raises(InvalidLatentsError, match=f"by '{metric}' needs latents up to"):
        LatentIndex.from_latents(VECTORS * size, ITEMS, metric=metric)
    index = LatentIndex.from_latents(VECTORS, ITEMS, metric=metric)
    with pytest.raises(InvalidLatentsError, match="multiply all of them by one constant"):
        index.search(QUERIES * size)


def test_items_of_any_kind_are_found_as_plain_values():
    shuffled = pd.Series(range(100, 100 + len(VECTORS)), index=range(len(VECTORS))[::-1])
    for items in (shuffled, shuffled.to_numpy(), torch.tensor(shuffled.to_numpy()), iter(shuffled)):
        index = LatentIndex.from_latents(VECTORS, items)
        assert [found["item"] for found in index(VECTORS[:3])] == [100, 101, 102]
        assert type(index.items[0]) is int
    assert len(index.search(VECTORS[:1], np.int64(2))[0]) == 2
    with pytest.raises(DecoderError, match="and 1 items"):
        LatentIndex.from_latents(VECTORS, pd.DataFrame({"name": shuffled}))


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_any_size_find_the_same(metric):
    queries, vectors = torch.tensor(QUERIES), torch.tensor(VECTORS, dtype=torch.float32)
    scores, rows = search_exactly(queries, vectors, 9, metric)
    small_scores, small_rows = search_exactly(queries, vectors, 9, metric, block=(3, 7))
    assert torch.equal(small_rows, rows)
    torch.testing.assert_close(small_scores, scores)


def test_where_there_are_fewer_vectors_than_asked_for_all_are_found():
    queries, vectors = torch.tensor(QUERIES), torch.tensor(VECTORS[:3], dtype=torch.float32)
    for found in search_exactly(queries, vectors, 9, "cosine"):
        assert found.shape == (len(queries), 3)


@pytest.mark.slow
def test_a_search_never_holds_all_scores_at_once():
    code = """
import resource, torch
from hf_latent_bridge import LatentIndex
index = LatentIndex.from_latents(torch.randn(200_000, 4), range(200_000))
index.search(torch.randn(8, 4))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
index.search(torch.randn(1_000, 4))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    assert int(warm.finished("-c", code).stdout) < 300  # all scores would take 763 MiB


def test_near_neighbours_far_from_the_origin_are_told_apart_by_distance():
    vectors = 1000 + np.array([[0.0, 0.0], [0.01, 0.0], [0.03, 0.0]], dtype=np.float32)
    index = LatentIndex.from_latents(vectors, list("abc"), metric="euclidean")
    assert [hits[0]["item"] for hits in index.search(vectors, top_k=1)] == ["a", "b", "c"]


def test_a_zero_vector_or_query_has_no_direction_and_scores_zero():
    index = LatentIndex.from_latents(np.array([[0.0, 0.0], [-1.0, 0.0]]), ["zero", "minus"])
    assert index.search(np.array([[1.0, 0.0]])) == [
        [{"item": "zero", "score": 0.0, "row": 0}, {"item": "minus", "score": -1.0, "row": 1}]
    ]
    assert {hit["score"] for hit in index.search(np.zeros((1, 2)))[0]} == {0.0}


def test_as_a_decoder_it_gives_the_nearest_item_or_a_list_of_them():
    index = LatentIndex.from_latents(VECTORS, ITEMS)
    assert [hit["item"] for hit in index(VECTORS)] == ITEMS
    assert index(QUERIES, top_k=3) == index.search(QUERIES, top_k=3)
    assert index(QUERIES[:0]) == index.search(QUERIES[:0]) == []


def test_each_of_two_equal_vectors_is_found():
    index = LatentIndex.from_latents(VECTORS[[0, 1, 1, 2]], ["a", "b", "b again", "c"])
    hits = index.search(VECTORS[1:2], top_k=2)[0]
    assert {hit["item"] for hit in hits} == {"b", "b again"}
    assert {hit["row"] for hit in hits} == {1, 2}
    assert hits[0]["score"] == pytest.approx(hits[1]["score"]) == pytest.approx(1)


def test_queries_beyond_float32_are_refused_instead_of_ranked_by_nothing():
    index = LatentIndex.from_latents(VECTORS, ITEMS, metric="dot")
    with pytest.raises(InvalidLatentsError, match="NaN or infinity in 1 of 1 rows"):
        index.search(np.full((1, 8), 1e300))


def test_vectors_added_to_a_published_index_are_not_passed_off_as_what_lies_there(repo_id):
    index = LatentIndex.from_latents(VECTORS[:3], ITEMS[:3], space=SPACE)
    index.push_to_hub(repo_id, token="hf_alice")
    index.add(VECTORS[3:4], ITEMS[3:4])
    assert (index.repo_id, index.commit) == (None, None)


def test_more_than_there_are_cannot_be_found():
    index = LatentIndex.from_latents(VECTORS[:3], ITEMS[:3])
    assert [len(hits) for hits in index.search(QUERIES, top_k=50)] == [3] * 20
    for bad in (0, -1, 2.0, True):
        with pytest.raises(DecoderError, match="top_k must be an integer of at least 1"):
            index.search(QUERIES, top_k=bad)


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_added_vectors_are_found_under_the_next_rows(search):
    index = LatentIndex.from_latents(VECTORS[:200], ITEMS[:200], search=search)
    assert index.add(VECTORS[200:], ITEMS[200:]) is index
    assert len(index) == 300
    assert [hit["row"] for hit in index(VECTORS)] == list(range(300))
    index.add(VECTORS[:0], [])
    assert len(index) == 300


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, faiss("Flat"), faiss("L2norm,Flat")])
def test_an_index_that_grew_finds_what_one_built_at_once_finds(options, metric, tmp_path):
    grown = LatentIndex.from_latents(VECTORS[:7], ITEMS[:7], metric=metric, **options)
    for start in range(7, 300, 19):
        grown.add(VECTORS[start : start + 19], ITEMS[start : start + 19])
    whole = LatentIndex.from_latents(VECTORS, ITEMS, metric=metric, **options)
    assert grown.search(QUERIES) == whole.search(QUERIES)
    assert same(grown.vectors, whole.vectors)
    assert grown.items == whole.items
    grown.save_pretrained(tmp_path)
    assert alike(load_decoder(tmp_path).search(QUERIES), whole.search(QUERIES))


@pytest.mark.parametrize("factory", ["HNSW16", "IVF10,Flat", "PCA6,Flat", "NSG16", "SQ8"])
def test_approximate_indexes_that_grew_find_nearly_as_many_as_those_built_at_once(factory):
    exact = [
        [hit["row"] for hit in hits] for hits in LatentIndex(VECTORS, ITEMS, SPACE).search(QUERIES)
    ]

    def recall(index):
        found = index.search(QUERIES)
        pairs = zip(exact, ([hit["row"] for hit in hits] for hits in found), strict=True)
        return sum(len(set(a) & set(b)) for a, b in pairs) / 200

    grown = LatentIndex.from_latents(VECTORS[:120], ITEMS[:120], **faiss(factory))
    for start in range(120, 300, 15):
        grown.add(VECTORS[start : start + 15], ITEMS[start : start + 15])
    whole = LatentIndex.from_latents(VECTORS, ITEMS, **faiss(factory))
    assert recall(grown) >= recall(whole) - 0.1


def test_as_many_lists_are_read_as_its_parameters_say_also_when_it_is_loaded(tmp_path):
    exact = LatentIndex(VECTORS, ITEMS, SPACE).search(QUERIES)
    index = LatentIndex.from_latents(
        VECTORS, ITEMS, space=SPACE, **faiss("IVF10,Flat", parameters="nprobe=10")
    )
    index.save_pretrained(tmp_path)
    assert alike(index.search(QUERIES), exact)
    assert alike(load_decoder(tmp_path).search(QUERIES), exact)
    few = LatentIndex.from_latents(VECTORS, ITEMS, space=SPACE, **faiss("IVF10,Flat"))
    assert not alike(few.search(QUERIES), exact)


@pytest.mark.parametrize("parameters", ["nprob=3", "nprobe=x", "efSearch=3", "nprobe=0", 3])
def test_parameters_that_faiss_cannot_search_with_are_refused_at_once(parameters):
    with pytest.raises(DecoderError, match="parameters"):
        LatentIndex.from_latents(VECTORS, ITEMS, **faiss("IVF10,Flat", parameters=parameters))


@pytest.mark.parametrize("n_neighbors", [0, 2.5, "3", True])
def test_neighbours_are_counted_in_whole_numbers_also_without_a_bank(n_neighbors):
    with pytest.raises(DecoderError, match="n_neighbors must be an integer"):
        LatentIndex(VECTORS, ITEMS, SPACE, n_neighbors=n_neighbors)


@pytest.mark.parametrize(("factory", "builds"), [("Flat", 1), ("HNSW16", 1), ("IVF2,Flat", 3)])
def test_faiss_is_appended_to_and_trained_again_when_the_vectors_have_doubled(
    factory, builds, monkeypatch
):
    import faiss as library

    made, build = [], library.index_factory
    monkeypatch.setattr(library, "index_factory", lambda *a: made.append(a) or build(*a))
    index = LatentIndex.from_latents(VECTORS[:40], ITEMS[:40], **faiss(factory))
    for row in range(40, 300):
        index.add(VECTORS[row : row + 1], ITEMS[row : row + 1])
    assert len(made) == builds  # of 40, then of 81 and of 163 vectors
    assert len(index(VECTORS)) == 300


@pytest.mark.parametrize("options", [{}, faiss("Flat")])
def test_a_copy_and_its_original_grow_apart(options):
    first = LatentIndex.from_latents(VECTORS[:200], ITEMS[:200], **options)
    first.add(VECTORS[200:205], ITEMS[200:205])  # room for more is made
    second = copy.copy(first)
    first.add(VECTORS[205:210], ITEMS[205:210])
    second.add(VECTORS[290:], ITEMS[290:])
    for index, rows in ((first, [*range(210)]), (second, [*range(205), *range(290, 300)])):
        assert [hit["item"] for hit in index(VECTORS[rows])] == [ITEMS[row] for row in rows]
        assert torch.equal(index.vectors.cpu(), torch.from_numpy(VECTORS[rows]).float())


@pytest.mark.parametrize("factory", ["IVF10,Flat", "HNSW8", "IVF4,PQ2x4np"])
def test_a_copy_answers_as_an_index_that_has_grown(factory):
    data = np.random.default_rng(3).normal(size=(900, 8))
    first = LatentIndex.from_latents(data[:500], range(500), **faiss(factory))
    for start in range(500, 900, 100):
        first.add(data[start : start + 100], range(start, start + 100))
    assert copy.copy(first).search(QUERIES, top_k=30) == first.search(QUERIES, top_k=30)


def test_an_approximate_index_finds_nearly_the_same():
    exact = LatentIndex.from_latents(VECTORS, ITEMS)
    rough = LatentIndex.from_latents(
        VECTORS, ITEMS, search="faiss", search_params={"factory": "HNSW16"}
    )
    pairs = zip(exact(QUERIES), rough(QUERIES), strict=True)
    assert sum(a["item"] == b["item"] for a, b in pairs) >= 18


def test_an_approximate_index_that_finds_fewer_gives_fewer():
    index = LatentIndex.from_latents(
        VECTORS, ITEMS, search="faiss", search_params={"factory": "IVF30,Flat"}
    )
    hits = index.search(QUERIES, top_k=100)
    assert all(0 < len(found) < 100 for found in hits)
    assert all(hit["row"] >= 0 for found in hits for hit in found)


@pytest.mark.parametrize("factory", ["Nonsense", "IVF9999,Flat"])
def test_what_faiss_does_not_take_is_refused(factory):
    with pytest.raises(DecoderError, match=f"FAISS builds no index '{factory}' of"):
        LatentIndex.from_latents(VECTORS, ITEMS, **faiss(factory))


def test_without_faiss_the_pip_command_is_named_and_exact_search_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "hf-latent-bridge\[index\]"'):
        LatentIndex.from_latents(VECTORS, ITEMS, search="faiss")
    assert LatentIndex.from_latents(VECTORS, ITEMS)(VECTORS[:1])[0]["row"] == 0


@pytest.mark.parametrize(
    ("vectors", "items", "error", "message"),
    [
        (VECTORS[:0], [], DecoderError, "at least one vector"),
        (VECTORS, ITEMS[:5], DecoderError, "got 300 vectors and 5 items"),
        (VECTORS[:3], "abc", DecoderError, "a list of items, one per vector, got str 'abc'"),
        (VECTORS[:1], {0: "a"}, DecoderError, "a list of items, one per vector, got dict"),
        (VECTORS, None, DecoderError, "a list of items, one per vector, got NoneType"),
        (VECTORS[0], ITEMS, InvalidLatentsError, r"got \(8,\)"),
        (VECTORS * np.nan, ITEMS, InvalidLatentsError, "NaN or infinity"),
        (np.full((1, 8), 1e300), ["a"], InvalidLatentsError, "NaN or infinity"),
        (VECTORS[:, :7], ITEMS, InvalidLatentsError, r"\(n, 8\), got \(300, 7\)"),
    ],
)
def test_what_cannot_be_indexed_is_refused(vectors, items, error, message):
    with pytest.raises(error, match=message):
        LatentIndex.from_latents(vectors, items, space=SpaceSpec(8) if len(vectors) else None)


def test_an_unknown_metric_and_queries_of_another_width_are_refused():
    with pytest.raises(DecoderError, match="metric must be one of"):
        LatentIndex.from_latents(VECTORS, ITEMS, metric="manhattan")
    with pytest.raises(InvalidLatentsError, match=r"\(n, 8\), got \(20, 5\)"):
        LatentIndex.from_latents(VECTORS, ITEMS).search(QUERIES[:, :5])
    with pytest.raises(InvalidLatentsError, match="NaN"):
        LatentIndex.from_latents(VECTORS, ITEMS).search(QUERIES * np.nan)


def test_a_column_of_a_hub_dataset_becomes_an_index_of_its_texts():
    encoder = load_encoder(tiny_models.sentence_repo())
    index = LatentIndex.from_dataset(encoder, tiny_models.text_dataset_repo(), "text", split="test")
    texts = list(tiny_models.text_dataset()["test"]["text"])
    assert list(index.items) == texts
    assert index.space == encoder.space
    found = stitch(encoder, None, index)(texts)
    assert [hit["item"] for hit in found] == texts


def test_another_column_can_be_what_is_found():
    index = LatentIndex.from_dataset(
        load_encoder(tiny_models.bert_folder()),
        tiny_models.text_dataset()["test"],
        "text",
        item="de",
        metric="dot",
    )
    assert list(index.items) == list(tiny_models.text_dataset()["test"]["de"])
    with pytest.raises(InvalidPairsError, match="got 'nope'"):
        LatentIndex.from_dataset(lambda texts: VECTORS, {"text": ["a"]}, "nope")


SPACE = SpaceSpec(8, repo_id="alice/encoder", revision="b" * 40)
JSON_ITEMS = ["zwölf\u2028\n", {"a": [1, None]}, 3.5, True, None, ""]


@pytest.mark.parametrize("search", ["exact", "faiss"])
def test_an_index_comes_back_from_the_hub_bit_by_bit(search, repo_id):
    index = LatentIndex.from_latents(
        VECTORS[:6], JSON_ITEMS, space=SPACE, metric="euclidean", search=search
    )
    commit = index.push_to_hub(repo_id, token="hf_alice").oid
    loaded = load_decoder(repo_id, device="cpu")
    assert isinstance(loaded, LatentIndex)
    assert list(loaded.items) == JSON_ITEMS
    assert same(loaded.vectors, index.vectors)
    assert (loaded.space, loaded.metric, loaded.search_type) == (SPACE, "euclidean", search)
    assert alike(loaded.search(QUERIES, top_k=6), index.search(QUERIES, top_k=6))
    assert loaded.push_to_hub(repo_id, token="hf_alice").oid == commit


def nested(levels):
    item = "deep"
    for _ in range(levels):
        item = [item]
    return item


NO_JSON = {
    "object": object(),
    "bytes": b"bytes",
    "NaN": float("nan"),
    "surrogate": "\ud800",
    "70 levels": nested(70),
    "3000 levels": nested(3000),
    "5001 digits": 10**5000,
    "5001 digits within": {"size": 10**5000},
}


@pytest.mark.parametrize("item", NO_JSON.values(), ids=NO_JSON.keys())
def test_items_that_are_no_json_are_found_but_not_saved(item, tmp_path):
    index = LatentIndex.from_latents(VECTORS[:2], ["a", item])
    assert index(VECTORS[1:2])[0]["item"] is item
    with pytest.raises(ConfigError, match="items are saved as JSON, but item 1 is"):
        index.save_pretrained(tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_an_item_of_64_levels_is_saved_and_loaded(tmp_path):
    items = ["a", nested(64)]
    LatentIndex.from_latents(VECTORS[:2], items).save_pretrained(tmp_path)
    assert list(load_decoder(tmp_path).items) == items


@pytest.mark.parametrize(
    "content",
    [b"", b'"a"\n', b'"a"\n"b"', b'"a"\n"b"\n"c"\n', b"NaN\n1\n", b'"a"\nnot json\n', b"\xff\n1\n"],
)
def test_damaged_items_are_refused(content, tmp_path):
    LatentIndex.from_latents(VECTORS[:2], ["a", "b"]).save_pretrained(tmp_path)
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        load_decoder(tmp_path)
    import hashlib

    config = read_config(tmp_path / "config.json")
    config["params"]["items_sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((WeightsError, ConfigError), match=r"must hold 2 items|not valid JSON"):
        load_decoder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must hold positive"),
        ({"metric": "x"}, "metric must be"),
        ({"n": "2"}, "n must be int"),
        ({"search": "telepathy"}, r"search must be one of \['exact', 'faiss'\], got 'telepathy'"),
        ({"search_params": {"speed": 9}}, "search_params of 'exact': .*'speed'"),
        ({"search_params": []}, "search_params must be dict"),
        ({"faiss": 5}, "missing|unknown"),
    ],
)
def test_a_config_that_says_something_else_is_refused(change, message, tmp_path):
    LatentIndex.from_latents(VECTORS[:2], ["a", "b"]).save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    config["params"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        load_decoder(tmp_path)


# Search backends ----------------------------------------------------------------------------


@pytest.fixture
def backwards():
    """A backend that ranks the vectors from the last to the first, from `start` on."""

    @register_search("backwards")
    class Backwards:
        def __init__(self, vectors, metric, *, start=0):
            self.rows = range(start, len(vectors))[::-1]

        def search(self, queries, k):
            rows = torch.tensor([*self.rows][:k]).expand(len(queries), -1)
            return rows.double(), rows

    yield "backwards"
    del SEARCHES["backwards"]


def test_a_backend_of_ones_own_is_one_entry_and_travels_by_its_name(backwards, repo_id):
    options = {"search": backwards, "search_params": {"start": 290}}
    index = LatentIndex.from_latents(VECTORS, ITEMS, **options)
    assert [hit["row"] for hit in index.search(QUERIES[:1], top_k=3)[0]] == [299, 298, 297]
    assert len(index.search(QUERIES[:1], top_k=50)[0]) == 10
    index.push_to_hub(repo_id, token="hf_alice")
    loaded = load_decoder(repo_id, device="cpu")
    assert (loaded.search_type, loaded.search_params) == (backwards, {"start": 290})
    assert loaded.search(QUERIES) == index.search(QUERIES)
    with pytest.raises(DecoderError, match=r"search_params of 'backwards': .*'end'"):
        LatentIndex.from_latents(VECTORS, ITEMS, search=backwards, search_params={"end": 2})
    with pytest.raises(ValueError, match="'backwards' is taken by"):
        register_search(backwards)(dict)


def test_a_backend_that_can_grow_is_given_the_new_vectors_alone(backwards):
    build, added = SEARCHES[backwards].build, []

    @register_search(backwards)
    class Growing(build):
        __qualname__ = build.__qualname__

        def add(self, vectors):
            added.append(len(vectors))
            self.rows = range(len(self.rows) + len(vectors))[::-1]
            return len(vectors) < 50

    index = LatentIndex.from_latents(VECTORS[:100], ITEMS[:100], search=backwards)
    for end in (105, 180, 181):
        index.add(VECTORS[len(index) : end], ITEMS[len(index) : end])
        assert index(QUERIES[:1])[0]["row"] == end - 1
    assert added == [5, 75, 1]


def test_a_backend_that_is_defined_again_takes_its_own_place(backwards):
    """As by a cell of a notebook that is run twice."""
    first = SEARCHES[backwards].build

    @register_search(backwards)
    class Again(first):
        __qualname__ = first.__qualname__

    assert SEARCHES[backwards].build is Again


def test_a_backend_that_finds_nothing_is_named(backwards):
    options = {"search": backwards, "search_params": {"start": len(VECTORS)}}
    index = LatentIndex.from_latents(VECTORS, ITEMS, **options)
    assert index(QUERIES[:2], top_k=3) == [[], []]
    with pytest.raises(DecoderError, match=r"'backwards' .* finds nothing for row 0"):
        index(QUERIES[:2])


@pytest.mark.parametrize("name", ["metric", "items", "vectors", "search_type", "search_params"])
def test_what_an_index_was_built_from_cannot_be_replaced(name):
    index = LatentIndex.from_latents(VECTORS, ITEMS)
    with pytest.raises(AttributeError, match=name):
        setattr(index, name, None)


def test_parameters_changed_later_do_not_reach_an_index():
    params = {"factory": "Flat"}
    index = LatentIndex.from_latents(VECTORS, ITEMS, search="faiss", search_params=params)
    params["factory"] = index.search_params["factory"] = "HNSW32"
    assert index.search_params == {"factory": "Flat"}


def test_an_addition_that_the_backend_refuses_leaves_the_index_as_it_was():
    index = LatentIndex.from_latents(VECTORS, ITEMS)
    with pytest.raises(InvalidLatentsError):
        index.add(VECTORS[:2] * np.nan, ["a", "b"])
    assert (len(index), len(index.vectors)) == (300, 300)


def test_numbers_of_numpy_are_saved_as_numbers_and_keys_that_would_become_texts_are_not(tmp_path):
    vectors, ids = VECTORS[:3], list(np.arange(3))
    LatentIndex.from_latents(vectors, ids).save_pretrained(tmp_path)
    loaded = load_decoder(tmp_path, device="cpu").items
    assert loaded == (0, 1, 2)
    assert {type(item) for item in loaded} == {int}
    for last in ({3: "id"}, {"of": {3: "id"}}, (3, "id"), ["of", (3, "id")]):
        index = LatentIndex.from_latents(vectors, [{"id": 1}, [2, "id"], last])
        assert index(vectors[2:])[0]["item"] is last
        with pytest.raises(ConfigError, match=r"but item 2 is .* \(it would come back as [\[{]"):
            index.save_pretrained(tmp_path)
    assert load_decoder(tmp_path, device="cpu").items == loaded


@pytest.mark.parametrize("vectors", [VECTORS[0], VECTORS[:, :0], VECTORS[None]])
def test_what_is_not_rows_of_vectors_is_refused(vectors):
    with pytest.raises(InvalidLatentsError, match=r"shape \(n, d\), got \("):
        LatentIndex.from_latents(vectors, ITEMS)


def test_parameters_of_a_search_are_named():
    with pytest.raises(DecoderError, match=r"search_params must be a mapping, got \['Flat'\]"):
        LatentIndex.from_latents(VECTORS, ITEMS, search="faiss", search_params=["Flat"])
