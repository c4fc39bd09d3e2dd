"""Pairs: the right columns of the right commit, sampled fairly, with errors that say where."""

import json

import numpy as np
import pandas
import pytest
import torch
import warm
from tiny_models import commit_of, text_dataset, text_dataset_repo

from hf_latent_bridge import VectorSource, load_pairs, load_views
from hf_latent_bridge.data.pairs import Pairs, as_pairs
from hf_latent_bridge.errors import (
    HubUnavailableError,
    InvalidPairsError,
    RepoAccessError,
    RepoNotFoundError,
)


@pytest.fixture(autouse=True)
def _no_bars():
    import datasets

    datasets.disable_progress_bars()


def numbered(n):
    return [f"s{i}" for i in range(n)], [f"t{i}" for i in range(n)]


def all_of(pairs, size=7):
    """The pairs as tuples, read in batches."""
    return [pair for batch in pairs.batches(size) for pair in zip(*batch, strict=True)]


def rows_of(pairs):
    return [(int(a[1:]), int(b[1:])) for a, b in all_of(pairs)]


# Where pairs come from ----------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_hub_dataset_gives_the_columns_of_the_split_and_records_its_commit(split):
    pairs = load_pairs(text_dataset_repo(), split=split, source="text", target="de")
    expected = text_dataset()[split]
    assert all_of(pairs) == list(zip(expected["text"], expected["de"], strict=True))
    assert json.loads(json.dumps(pairs.dataset)) == {
        "repo_id": text_dataset_repo(),
        "revision": commit_of(text_dataset_repo(), "dataset"),
        "split": split,
        "source": "text",
        "target": "de",
    }


def test_no_target_means_the_same_column_for_both():
    pairs = load_pairs(text_dataset_repo(), split="test", source="text")
    assert all(a == b for a, b in all_of(pairs))
    assert pairs.dataset["target"] == "text"


def test_a_revision_gives_the_rows_of_its_time(repo_id, api):
    text_dataset().push_to_hub(repo_id)
    api.create_tag(repo_id, tag="v1", repo_type="dataset")
    old = commit_of(repo_id, "dataset")
    shorter = text_dataset()
    shorter["test"] = shorter["test"].select(range(5))
    shorter.push_to_hub(repo_id)
    options = {"split": "test", "source": "text"}
    assert len(load_pairs(repo_id, **options)) == 5
    for revision in ("v1", old):
        pairs = load_pairs(repo_id, revision=revision, **options)
        assert (len(pairs), pairs.dataset["revision"]) == (60, old)


def test_a_configuration_is_picked_by_name_and_recorded(repo_id):
    data = text_dataset()
    data["test"].push_to_hub(repo_id, "small", split="test")
    data["train"].push_to_hub(repo_id, "large", split="test")
    options = {"split": "test", "source": "text"}
    assert [len(load_pairs(repo_id, n, **options)) for n in ("small", "large")] == [60, 200]
    assert load_pairs(repo_id, "small", **options).dataset["name"] == "small"
    with pytest.raises(InvalidPairsError, match="Please pick one among the available configs"):
        load_pairs(repo_id, **options)
    with pytest.raises(InvalidPairsError, match="'huge' not found"):
        load_pairs(repo_id, "huge", **options)


@pytest.mark.parametrize("kind", ["parquet", "json", "splits on disk", "one split on disk"])
def test_a_folder_gives_the_same_pairs(kind, tmp_path):
    data = text_dataset()
    if kind == "splits on disk":
        data.save_to_disk(tmp_path)
    elif kind == "one split on disk":
        data["test"].save_to_disk(tmp_path)
    else:
        for split, rows in data.items():
            getattr(rows, f"to_{kind}")(tmp_path / f"{split}.{kind}")
    pairs = load_pairs(tmp_path, split="test", source="text", target="de")
    assert all_of(pairs) == list(zip(data["test"]["text"], data["test"]["de"], strict=True))
    assert pairs.dataset == {"split": "test", "source": "text", "target": "de"}


def test_a_dataset_and_its_dict_give_the_same_pairs():
    data = text_dataset()
    columns = {"source": "text", "target": "de"}
    expected = list(zip(data["test"]["text"], data["test"]["de"], strict=True))
    assert all_of(load_pairs(data["test"], **columns)) == expected
    of_dict = load_pairs(data, split="test", **columns)
    assert all_of(of_dict) == expected
    assert of_dict.dataset == {"split": "test", **columns}


@pytest.mark.parametrize("form", [tuple, list])
def test_two_lists_are_pairs_without_any_provenance(form):
    pairs = load_pairs(form(numbered(3)), max_pairs=2)
    assert len(pairs) == 2
    assert pairs.dataset == {}


@pytest.mark.parametrize(
    ("options", "unread"),
    [
        ({"split": "train"}, "split"),
        ({"name": "plain"}, "name"),
        ({"streaming": True}, "streaming"),
        ({"revision": "v1", "force_download": True}, "revision, force_download"),
    ],
)
def test_options_of_a_hub_dataset_are_refused_for_two_lists(options, unread):
    with pytest.raises(InvalidPairsError, match=rf"^{unread}: only for a dataset .* got tuple"):
        load_pairs(numbered(3), **options)
    with pytest.raises(InvalidPairsError, match=rf"^{unread}: only for a dataset"):
        load_views({"a": numbered(3)[0]}, **options)


def test_a_revision_of_a_dataset_in_memory_or_in_a_folder_is_refused(tmp_path):
    data = text_dataset()["test"]
    with pytest.raises(InvalidPairsError, match="revision: only for a dataset that is named"):
        load_pairs(data, source="text", revision="v1")
    data.save_to_disk(tmp_path)
    with pytest.raises(RepoNotFoundError, match="is a folder here and has no revision 'v1'"):
        load_pairs(tmp_path, source="text", revision="v1")


def test_a_mapping_of_columns_gives_the_named_ones():
    pairs = load_pairs({"a": ["x"], "b": ["y"], "c": ["z"]}, source="c", target="a")
    assert all_of(pairs) == [("z", "x")]
    assert pairs.dataset == {"source": "c", "target": "a"}


@pytest.mark.slow
def test_lists_and_mappings_need_no_datasets_package():
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from hf_latent_bridge import load_pairs\n"
        "print(len(load_pairs((['a'], ['b']))), len(load_pairs({'t': ['a']}, source='t')))"
    )
    done = warm.finished("-c", code, loaded=warm.BASE)
    assert done.stdout == "1 1\n"


# Sampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 10, 99])
def test_a_sample_has_exactly_so_many_pairs_without_repeats_in_their_order(n):
    rows = rows_of(load_pairs(numbered(100), max_pairs=n))
    assert all(a == b for a, b in rows)
    assert len(rows) == len(set(rows)) == n
    assert rows == sorted(rows)


def test_the_seed_decides_the_sample():
    samples = [rows_of(load_pairs(numbered(100), max_pairs=10, seed=s)) for s in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]


def test_every_row_can_be_sampled():
    seen = {r for s in range(60) for r in rows_of(load_pairs(numbered(20), max_pairs=5, seed=s))}
    assert len(seen) == 20


@pytest.mark.parametrize("n", [20, 21, 10**9])
def test_a_sample_as_large_as_the_dataset_is_all_of_it(n):
    pairs = load_pairs({"a": numbered(20)[0]}, source="a", max_pairs=n)
    assert rows_of(pairs) == [(i, i) for i in range(20)]
    assert "seed" not in pairs.dataset


def test_a_sample_of_a_hub_dataset_is_recorded_with_its_seed():
    pairs = load_pairs(text_dataset_repo(), split="train", source="text", max_pairs=9, seed=3)
    assert json.loads(json.dumps(pairs.dataset)).items() >= {"max_pairs": 9, "seed": 3}.items()
    train = list(text_dataset()["train"]["text"])
    assert [a for a, _ in all_of(pairs)] == [t for t in train if t in set(pairs.source[:])]


@pytest.mark.parametrize("n", [0, -1, 2.5, "3"])
def test_a_sample_of_nothing_is_refused(n):
    with pytest.raises(
        InvalidPairsError, match=f"max_pairs must be an integer of at least 1, got {n!r}"
    ):
        load_pairs(numbered(5), max_pairs=n)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_rows_that_differ_in_one_late_digit_are_no_duplicates(kind):
    rows = np.ones((3, 2000), np.float32)
    rows[1, 1000] += 1e-6
    pairs = load_pairs(([kind(row) for row in rows], ["a", "a", "a"]), deduplicate=True)
    assert pairs.rows.tolist() == [0, 1]


def test_arrays_of_texts_have_the_fingerprint_of_their_content():
    def made(last):
        texts = np.array(["".join(["a", str(i)]) for i in range(5)] + [last], object)
        return load_pairs((texts, list(range(6)))).fingerprint()

    assert made("b") == made("b") != made("c")


@pytest.mark.parametrize("size", [1, 3, 10, 11])
def test_batches_hold_every_pair_once_in_order(size):
    pairs = load_pairs(numbered(10))
    assert all_of(pairs, size) == list(zip(*numbered(10), strict=True))
    assert max(len(items) for items, _ in pairs.batches(size)) == min(size, 10)


# Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_pairs", [None, 1, 2])
@pytest.mark.parametrize("lengths", [(3, 2), (2, 3)])
def test_lists_of_unequal_length_are_refused_sampled_or_not(lengths, max_pairs):
    a, b = lengths
    with pytest.raises(InvalidPairsError, match=f"got {a} and {b}"):
        load_pairs((["x"] * a, ["y"] * b), max_pairs=max_pairs)


@pytest.mark.parametrize("max_pairs", [None, 5])
def test_a_dataset_without_rows_is_refused(max_pairs):
    with pytest.raises(InvalidPairsError, match="at least one item"):
        load_pairs(text_dataset()["test"].select([]), source="text", max_pairs=max_pairs)


@pytest.mark.parametrize("source", ["texts", None])
def test_a_missing_column_is_refused_with_those_there_are(source):
    expected = rf"column names out of \['text', 'de', 'label'\], got {source!r}"
    with pytest.raises(InvalidPairsError, match=expected):
        load_pairs(text_dataset_repo(), split="test", source=source)
    with pytest.raises(InvalidPairsError, match=r"out of \['text', 'de', 'label'\], got 'fr'"):
        load_pairs(text_dataset()["test"], source="text", target="fr")


def test_one_side_alone_is_refused_in_a_short_sentence(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(300))
    one = (np.eye(300), tmp_path / "x.npy", str(tmp_path / "x.npy"), VectorSource("x.npy"))
    for data in one:
        with pytest.raises(
            InvalidPairsError, match=r"load_pairs\(\(source, target\)\), got"
        ) as told:
            load_pairs(data)
        assert len(str(told.value)) < 400


def test_a_data_frame_gives_its_columns():
    frame = pandas.DataFrame({"a": ["x", "y"], "b": ["u", "v"]})
    assert all_of(load_pairs(frame, source="a", target="b")) == [("x", "u"), ("y", "v")]


@pytest.mark.parametrize("max_pairs", [None, 7])
def test_rows_of_pandas_are_told_by_their_place_and_not_by_their_labels(max_pairs):
    frame = pandas.DataFrame({"text": numbered(20)[0], "vector": list(np.eye(20))})
    shuffled = frame.sample(frac=1, random_state=0)
    places, vectors = np.array([int(text[1:]) for text in shuffled.text]), shuffled.vector
    for target in (vectors, pandas.DataFrame(np.stack(vectors)), np.stack(vectors)):
        pairs = load_pairs((shuffled.text, target), max_pairs=max_pairs)
        found = all_of(pairs, size=3)
        assert [int(text[1:]) for text, _ in found] == [row.argmax() for _, row in found]
        rows = slice(None) if pairs.rows is None else pairs.rows
        assert [int(text[1:]) for text, _ in found] == places[rows].tolist()


def test_pairs_print_as_one_line():
    pairs = load_pairs((np.eye(1200), np.eye(1200)))
    assert repr(pairs) == "1,200 Pairs of ndarray and ndarray, dataset={}"


@pytest.mark.parametrize("split", ["validation", None])
def test_a_missing_split_is_refused_with_those_there_are(split, tmp_path):
    text_dataset().save_to_disk(tmp_path)
    for data in (text_dataset_repo(), text_dataset(), tmp_path):
        with pytest.raises(InvalidPairsError, match=r"the splits \['test', 'train'\], got split="):
            load_pairs(data, split=split, source="text")


def test_a_configuration_of_a_dataset_that_was_saved_without_any_is_refused(tmp_path):
    text_dataset().save_to_disk(tmp_path)
    with pytest.raises(InvalidPairsError, match=r"leave the name of a .* out, got 'plain'"):
        load_pairs(tmp_path, "plain", split="train", source="text")


def test_a_dataset_of_another_split_than_the_named_one_is_refused():
    from datasets import load_dataset

    train = load_dataset(text_dataset_repo(), split="train")
    assert len(load_pairs(train, split="train", source="text")) == 200
    with pytest.raises(InvalidPairsError, match="is the split 'train', got split='test'"):
        load_pairs(train, split="test", source="text")


@pytest.mark.parametrize("max_pairs", [None, 40])
@pytest.mark.parametrize(
    ("item", "what"), [(None, "missing"), ("", "an empty"), (" \n", "an empty")]
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_missing_or_blank_item_is_refused_with_its_row_in_the_dataset(
    side, item, what, max_pairs
):
    from datasets import Dataset

    columns = dict(zip(("source", "target"), numbered(50), strict=True))
    clean = load_pairs(columns, source="source", target="target", max_pairs=max_pairs)
    row = rows_of(clean)[-2][0]
    columns[side][row] = item
    for data in (columns, Dataset.from_dict(columns)):
        pairs = load_pairs(data, source="source", target="target", max_pairs=max_pairs)
        with pytest.raises(InvalidPairsError, match=f"row {row} of the {side} column is {what}"):
            all_of(pairs)


def test_a_bad_row_that_the_sample_leaves_out_does_not_matter():
    source, target = numbered(50)
    left_out = (
        set(range(50)) - {a for a, _ in rows_of(load_pairs((source, target), max_pairs=9))}
    ).pop()
    source[left_out] = None
    assert len(all_of(load_pairs((source, target), max_pairs=9))) == 9


@pytest.mark.parametrize("data", [("a text", "a text"), (["a"], "b"), (["a"], "b" * 5000)])
def test_a_text_in_place_of_a_list_is_refused(data):
    with pytest.raises(InvalidPairsError, match="wrap it in a list"):
        load_pairs(data)


@pytest.mark.parametrize("side", [np.array(5.0), torch.tensor(5.0), {0: "a"}, {"a"}, iter("a")])
def test_what_cannot_be_counted_and_read_by_number_is_refused(side):
    with pytest.raises(InvalidPairsError, match="pairs need lists of items, got"):
        load_pairs((side, ["b"]))


@pytest.mark.parametrize("n", [1, 3])
def test_one_or_three_lists_are_refused(n):
    with pytest.raises(InvalidPairsError, match=f"two lists, one for each side, got {n}"):
        load_pairs([["a"]] * n)


@pytest.mark.parametrize("pair", [("a", "b"), (np.ones(2), np.ones(3))])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_rows_of_pairs_are_refused_however_many(n, pair):
    for rows in ([pair] * n, (pair,) * n, [list(pair)] * n):
        for read in (load_pairs, as_pairs):
            with pytest.raises(
                InvalidPairsError, match=r"such as \(\[source for source, _ in rows"
            ):
                read(rows)


@pytest.mark.parametrize("read", [load_pairs, as_pairs])
def test_two_columns_of_two_are_pairs_where_that_is_plain(read):
    for sides in (
        (["a", "b"], ["c", "d"]),
        (["a", "b"], ("c", "d")),
        [["a", "b"], np.ones((2, 3))],
        [("a", "b", "c"), ("d", "e", "f")],
    ):
        assert len(read(sides)) == len(sides[0])


@pytest.mark.parametrize("where", ["alice/nowhere", "./nowhere", "pairs.csv"])
def test_a_missing_dataset_is_refused_by_name(where):
    with pytest.raises(RepoNotFoundError, match=where):
        load_pairs(where, split="train", source="text")


def test_a_missing_revision_of_a_dataset_is_refused_by_name():
    with pytest.raises(RepoNotFoundError, match="'v9'"):
        load_pairs(text_dataset_repo(), split="train", source="text", revision="v9")


def test_a_dataset_without_files_is_refused(repo_id, api, tmp_path):
    api.create_repo(repo_id, repo_type="dataset")
    for data in (repo_id, tmp_path):
        with pytest.raises(InvalidPairsError, match="doesn't contain any data files"):
            load_pairs(data, split="train", source="text")


def test_a_private_dataset_is_for_its_owner_only(repo_id):
    text_dataset()["test"].push_to_hub(repo_id, split="test", private=True)
    options = {"split": "test", "source": "text"}
    with pytest.raises(RepoNotFoundError, match="a private repo needs token="):
        load_pairs(repo_id, token="hf_bob", **options)
    assert len(load_pairs(repo_id, token="hf_alice", **options)) == 60


def test_a_gated_dataset_is_refused_as_gated(repo_id, api):
    text_dataset()["test"].push_to_hub(repo_id, split="test")
    api.update_repo_settings(repo_id, repo_type="dataset", gated="manual")
    with pytest.raises(RepoAccessError, match="is gated: ask for access"):
        load_pairs(repo_id, token="hf_bob", split="test", source="text")


def test_cached_rows_of_another_commit_are_refused_instead_of_passed_off_as_this_one(repo_id, api):
    test = text_dataset()["test"]
    test.push_to_hub(repo_id, split="test")
    load_pairs(repo_id, split="test", source="text")
    test.select(range(5)).push_to_hub(repo_id, split="test")
    api.update_repo_settings(repo_id, repo_type="dataset", gated="manual")
    with pytest.raises(HubUnavailableError, match="only other commits of it are cached"):
        load_pairs(repo_id, token="hf_bob", split="test", source="text")


def test_pairs_of_lists_count_and_check_alike():
    assert len(Pairs(*numbered(4))) == 4
    with pytest.raises(InvalidPairsError, match="at least one item"):
        Pairs([], [])
