"""fit_shared_space: the space of all latents at once, streamed, shared out, resumed."""

import functools
import json

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from tiny_images import clip_repo, pictures
from tiny_models import DE, EN, sentence_repo, sentences, text_dataset_repo

from hf_latent_bridge import (
    AutoTranslator,
    SharedSpace,
    SpaceSpec,
    fit_shared_space,
    load_encoder,
    load_pairs,
    load_views,
)
from hf_latent_bridge.errors import (
    CheckpointError,
    InvalidLatentsError,
    InvalidPairsError,
)

# encoders with random weights tell little about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
WIDTHS = {"a": 6, "b": 9, "c": 7}


def latents(n=203, names="abc"):
    """Views of one signal, each with noise of its own."""
    draw = np.random.default_rng(0)
    signal = draw.normal(size=(n, 4))
    return {
        name: signal @ draw.normal(size=(4, WIDTHS[name])) + draw.normal(size=(n, WIDTHS[name]))
        for name in names
    }


@functools.cache
def encoders():
    return {
        name: load_encoder(sentence_repo(normalize=True, seed=seed), device="cpu")
        for seed, name in enumerate(("one", "two", "three"))
    }


def assert_same(found, expected, views):
    assert found.alpha_ == expected.alpha_
    first, *others = views
    for name in others:
        cosines = [
            np.asarray(space.translator(first).transform(views[first]))
            @ np.asarray(space.translator(name).transform(views[name])).T
            for space in (found, expected)
        ]
        np.testing.assert_allclose(*cosines, atol=1e-4)


@pytest.mark.parametrize("names", ["ab", "abc"])
@pytest.mark.parametrize("chunk_size", [17, 1024])
def test_the_space_equals_a_fit_on_all_latents_at_once(names, chunk_size):
    views = latents(names=names)
    found = fit_shared_space(dict.fromkeys(names), views, 4, chunk_size=chunk_size)
    assert_same(found, SharedSpace(4).fit(views), views)
    assert (list(found.views_), found.n_pairs_) == (list(names), 203)
    assert found.fit_summary_.n_pairs == 203


def test_encoders_of_one_text_column_meet_and_are_recorded(tmp_path):
    data = load_views(text_dataset_repo(), dict.fromkeys(encoders(), "text"), split="train")
    found = fit_shared_space(encoders(), data, 8, alpha=1.0)
    texts = [text for chunk in data.chunks(1024) for text in chunk.columns["one"]]
    views = {name: encoder.encode(texts) for name, encoder in encoders().items()}
    assert_same(found, SharedSpace(8, alpha=1.0).fit(views), views)
    assert {n: v.source_ for n, v in found.views_.items()} == {
        n: e.space for n, e in encoders().items()
    }
    found.save_pretrained(tmp_path)
    again = SharedSpace.from_pretrained(tmp_path)
    assert again.dataset_["views"] == dict.fromkeys(encoders(), "text")
    assert again.dataset_["repo_id"] == text_dataset_repo()
    alone = AutoTranslator.from_pretrained(tmp_path, subfolder="two")
    assert alone.dataset_ == again.dataset_
    card = (tmp_path / "README.md").read_text()
    assert f"items of `{text_dataset_repo()}`" in card
    assert "columns text for one, text for two, text for three" in card
    assert ModelCard(card).data.datasets == [text_dataset_repo()]


def test_the_card_says_how_much_the_encoders_share(tmp_path):
    space = fit_shared_space(dict.fromkeys("abc"), latents(), 4)
    space.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    curve = space.information_
    assert f"the encoders tell {max(curve.bits):.1f} bits about each other" in card
    assert f"{curve.bits[3]:.1f} with alpha=1, " in card


def test_a_list_of_texts_is_read_by_all_encoders():
    texts = sentences(40, EN)
    found = fit_shared_space(encoders(), texts, 4, alpha=1.0)
    views = {name: encoder.encode(texts) for name, encoder in encoders().items()}
    assert_same(found, SharedSpace(4, alpha=1.0).fit(views), views)


def test_two_encoders_take_pairs_in_their_order():
    one, two, _ = encoders().values()
    english, german = sentences(40, EN), sentences(40, DE)
    pairs = load_pairs((english, german))
    found = fit_shared_space({"en": one, "de": two}, pairs, 4, alpha=1.0)
    views = {"en": one.encode(english), "de": two.encode(german)}
    assert_same(found, SharedSpace(4, alpha=1.0).fit(views), views)


def test_two_encoders_take_two_arrays_as_fit_translator_does():
    columns = latents(names="ab")
    space = fit_shared_space(dict.fromkeys("ab"), (columns["a"], columns["b"]), 4)
    assert_same(space, SharedSpace(4).fit(columns), columns)


def test_a_picture_meets_its_title():
    images, titles = pictures(24), sentences(24, EN)
    see = load_encoder(clip_repo(), modality="image", device="cpu")
    read = encoders()["one"]
    data = datasets.Dataset.from_dict({"image": images, "title": titles}).cast_column(
        "image", datasets.Image()
    )
    views = load_views(data, {"see": "image", "read": "title"})
    found = fit_shared_space({"see": see, "read": read}, views, 4, alpha=1.0)
    assert [view.source_.modality for view in found.views_.values()] == ["image", "text"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stream_gives_the_same_space(streaming):
    columns = {"one": "text", "two": "de", "three": "text"}
    data = load_views(text_dataset_repo(), columns, split="train", streaming=streaming)
    found = fit_shared_space(encoders(), data, 4, alpha=1.0)
    whole = {
        name: encoders()[name].encode(
            [text for chunk in data.chunks(1024) for text in chunk.columns[name]]
        )
        for name in columns
    }
    assert_same(found, SharedSpace(4, alpha=1.0).fit(whole), whole)


def test_the_sample_and_the_first_copies_of_a_stream_are_those_of_the_dataset():
    columns = {"one": "text", "two": "de"}
    whole, streamed = (
        load_views(
            text_dataset_repo(), columns, split="train", streaming=s, deduplicate=True, max_pairs=20
        )
        for s in (False, True)
    )
    assert whole.names == streamed.names == ("one", "two")
    read = [[c.columns["two"] for c in data.chunks(1024)] for data in (whole, streamed)]
    assert read[0] == read[1]
    assert len(read[0][0]) == 20


def test_files_of_vectors_are_views(tmp_path):
    views = latents()
    for name, x in views.items():
        np.save(tmp_path / f"{name}.npy", x)
    data = load_views({name: tmp_path / f"{name}.npy" for name in views})
    spaces = {"a": SpaceSpec(6, repo_id="me/a"), "b": None, "c": None}
    found = fit_shared_space(spaces, data, 4, chunk_size=50)
    assert_same(found, SharedSpace(4).fit(views), views)
    assert found.views_["a"].source_.repo_id == "me/a"


def test_items_need_not_be_seen_by_all_encoders(tmp_path):
    whole = latents(400)
    parts = [("ab", slice(0, 150)), ("cb", slice(150, 250)), ("abc", slice(250, 400))]
    sets = [{name: whole[name][rows] for name in names} for names, rows in parts]
    data = [load_views(sets[0]), sets[1], sets[2]]
    options = {"chunk_size": 16, "checkpoint_dir": tmp_path / "checkpoint"}
    found = fit_shared_space(dict.fromkeys("abc"), data, 4, **options)
    assert_same(found, SharedSpace(4).fit(sets), whole)
    assert (list(found.views_), found.fit_summary_.n_read) == (["a", "b", "c"], 400)
    again = fit_shared_space(dict.fromkeys("abc"), data, 4, **options)
    assert again.fit_summary_.n_resumed == 400
    again.save_pretrained(tmp_path / "space")
    assert not list((tmp_path / "checkpoint").rglob("fit-*"))


def test_two_encoders_that_no_item_has_met_are_refused():
    sets = [latents(names="ab"), latents(names="bc")]
    with pytest.raises(InvalidLatentsError, match="every two"):
        fit_shared_space(dict.fromkeys("abc"), sets, 4)
    with pytest.raises(ValueError, match="for one set of items, got 2"):
        fit_shared_space(dict.fromkeys("abc"), sets, 4, bad_rows_file="bad.jsonl")


def test_an_item_that_one_view_cannot_use_is_skipped_for_all_and_recorded(tmp_path):
    views = latents(names="ab")
    views["a"][5], views["b"][100] = np.nan, np.inf
    bad = tmp_path / "bad.jsonl"
    found = fit_shared_space(
        dict.fromkeys("ab"), views, 4, on_bad_row="skip", bad_rows_file=bad, chunk_size=20
    )
    assert (found.n_pairs_, found.dataset_) == (201, {"bad_rows_skipped": 2})
    sides = [json.loads(line)["side"] for line in bad.read_text().splitlines()]
    assert sides == ["a", "b"]
    with pytest.raises(InvalidPairsError, match="row 5 of the a column holds NaN"):
        fit_shared_space(dict.fromkeys("ab"), views, 4)


def test_a_fit_that_stopped_goes_on_and_ends_as_an_uninterrupted_one(tmp_path):
    views = latents()
    spoiled = {**views, "c": views["c"].copy()}
    spoiled["c"][150] = np.nan

    def fit(columns, **options):
        def encode(rows):
            return torch.from_numpy(columns["c"][rows])

        items = {"a": views["a"], "b": views["b"], "c": range(203)}
        spaces = {"a": None, "b": None, "c": encode}
        return fit_shared_space(
            spaces,
            items,
            4,
            chunk_size=16,
            checkpoint_dir=tmp_path / "checkpoint",
            checkpoint_every=32,
            **options,
        )

    with pytest.raises(InvalidLatentsError, match="row 150 of the c column is encoded as NaN"):
        fit(spoiled)
    with pytest.raises(CheckpointError, match="gemm_dtype was"):
        fit(views, gemm_dtype=torch.float32)
    found = fit(views)
    assert found.fit_summary_.n_resumed > 0
    assert_same(found, SharedSpace(4).fit(views), views)
    found.save_pretrained(tmp_path / "space")
    assert not (tmp_path / "checkpoint").exists()


def test_latents_whose_map_float32_cannot_hold_are_refused():
    items = latents(60, "ab")
    with pytest.raises(InvalidLatentsError, match="too small for torch"):
        fit_shared_space({"a": None, "b": None}, {**items, "a": 1e50 * items["a"]}, 2)


def test_fewer_items_than_folds_are_refused_as_by_a_fit_on_all_at_once():
    items = latents(3)
    for fit in (SharedSpace(2).fit, lambda items: fit_shared_space(dict.fromkeys("abc"), items, 2)):
        with pytest.raises(InvalidLatentsError, match=r"5 folds need at least as many items .* 3:"):
            fit(items)


@pytest.mark.parametrize(
    ("views", "items", "message"),
    [
        ("abc", {"a": [[1.0]], "b": [[1.0]]}, r"views \['a', 'b', 'c'\] needs a column of items"),
        ("abc", (np.ones((9, 2)), np.ones((9, 2))), "needs a column of items"),
        ("ab", {"a": np.ones((9, 2)), "b": np.ones((8, 2))}, "as many a as b items, got 9 and 8"),
        ("ab", {}, "at least one column of items"),
        ("abc", [latents(9, "ab"), latents(9, "ab")], r"'c'\], .* got columns \['a', 'b'\]$"),
        ("ab", [latents(9, "ab"), latents(9, "bc")], r"'b'\], .* got columns \['a', 'b', 'c'\]$"),
    ],
)
def test_items_that_do_not_fit_the_views_are_refused(views, items, message):
    pairs = load_pairs(items) if isinstance(items, tuple) else items
    with pytest.raises(InvalidPairsError, match=message):
        fit_shared_space(dict.fromkeys(views), pairs)


def test_one_encoder_or_a_name_with_a_slash_is_refused_before_anything_is_read():
    with pytest.raises(InvalidLatentsError, match="2 views or more"):
        fit_shared_space({"a": None}, latents(names="a"))
    with pytest.raises(InvalidLatentsError, match="encoders by the name of their view, got list"):
        fit_shared_space([None, None], latents(names="ab"))
    with pytest.raises(ValueError, match="also its folder"):
        fit_shared_space({"a/b": None, "c": None}, {"a/b": [[1.0]], "c": [[1.0]]})


def test_a_dataset_without_the_columns_of_its_views_is_refused():
    with pytest.raises(InvalidPairsError, match="views need a dataset and the column for each"):
        load_views(text_dataset_repo(), split="train")
    with pytest.raises(InvalidPairsError, match="got 'picture'"):
        load_views(text_dataset_repo(), {"a": "text", "b": "picture"}, split="train")
