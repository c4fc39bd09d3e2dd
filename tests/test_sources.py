"""Streams, vectors, pictures and several datasets give the same pairs; bad rows are named."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from safetensors.numpy import save_file
from test_data import all_of, numbered, rows_of
from tiny_models import text_dataset, text_dataset_repo

from hf_latent_bridge import LinearTranslator, OrthoTranslator, SpaceSpec, fit_translator
from hf_latent_bridge.data.load import load_pairs
from hf_latent_bridge.data.streams import StreamedPairs
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError

# encoders with random weights tell nothing about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(40, 4)).astype(np.float32)
ENDS = {"source": "text", "target": "de"}


def fitted(pairs, **options):
    return fit_translator(LinearTranslator(), None, None, pairs, **options)


def items_of(stream, size=7):
    return [pair for c in stream.chunks(size) for pair in zip(c.source, c.target, strict=True)]


@pytest.fixture
def expected():
    return fitted((X, Y)).map_.weight


# Streams --------------------------------------------------------------------------------------


def test_a_stream_gives_the_pairs_of_the_dataset_in_order():
    streamed = load_pairs(text_dataset_repo(), split="test", **ENDS, streaming=True)
    loaded = load_pairs(text_dataset_repo(), split="test", **ENDS)
    assert isinstance(streamed, StreamedPairs)
    assert items_of(streamed) == all_of(loaded)
    assert streamed.dataset == loaded.dataset


def test_the_first_rows_of_a_sharded_stream_stay_the_first_rows():
    stream = text_dataset()["train"].to_iterable_dataset(num_shards=4).take(7)
    expected = text_dataset()["train"]["text"][:7]
    assert [a for a, _ in items_of(load_pairs(stream, source="text"))] == list(expected)


def test_a_stream_that_is_split_by_node_already_is_refused():
    half = split_dataset_by_node(text_dataset()["train"].to_iterable_dataset(), 0, 2)
    with pytest.raises(InvalidPairsError, match=r"split by node already.*pass the whole"):
        load_pairs(half, source="text")


@pytest.mark.parametrize("deduplicate", [False, True])
@pytest.mark.parametrize("n", [1, 30, 10**6])
def test_a_sample_of_a_stream_is_that_of_the_dataset(n, deduplicate):
    options = {**ENDS, "max_pairs": n, "seed": 5, "deduplicate": deduplicate}
    loaded = load_pairs(text_dataset_repo(), split="train", **options)
    streamed = load_pairs(text_dataset_repo(), split="train", **options, streaming=True)
    assert all_of(streamed) == all_of(loaded)
    assert streamed.dataset == loaded.dataset


def test_each_pair_comes_once_when_duplicates_are_left_out():
    columns = {"a": ["x", "y", "x", "x"], "b": ["1", "1", "1", "2"]}
    pairs = load_pairs(columns, source="a", target="b", deduplicate=True)
    assert all_of(pairs) == [("x", "1"), ("y", "1"), ("x", "2")]
    assert pairs.dataset["deduplicated"] is True


def test_every_pair_is_as_likely_as_any_other():
    counts = np.zeros(20)
    for seed in range(2000):
        for row, _ in rows_of(load_pairs(numbered(20), max_pairs=5, seed=seed)):
            counts[row] += 1
    assert np.abs(counts / 500 - 1).max() < 0.2


# Several datasets -----------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_several_splits_and_datasets_are_read_one_behind_the_other(streaming):
    options = {**ENDS, "streaming": streaming}
    both = load_pairs(text_dataset_repo(), split=["test", "train"], **options)
    parts = [load_pairs(text_dataset_repo(), split=s, **options) for s in ("test", "train")]
    expected = [pair for part in parts for pair in items_of(part)]
    assert items_of(both) == items_of(parts[0] + parts[1]) == expected
    assert [part["split"] for part in both.dataset["parts"]] == ["test", "train"]


def test_a_stream_and_a_dataset_are_not_added():
    stream = load_pairs(text_dataset_repo(), split="test", **ENDS, streaming=True)
    with pytest.raises(InvalidPairsError, match="pairs of one kind"):
        load_pairs(text_dataset_repo(), split="test", **ENDS) + stream


# Vectors --------------------------------------------------------------------------------------


def as_dataset():
    return Dataset.from_dict({"x": X.tolist(), "y": Y.tolist()})


def in_files(kind, folder):
    for name, array in (("x", X), ("y", Y)):
        if kind == "npy":
            np.save(folder / "x.npy" if name == "x" else folder / "y.npy", array)
        elif kind == "safetensors":
            save_file({"latents": array}, folder / f"{name}.safetensors")
        else:
            as_dataset().select_columns([name]).to_parquet(folder / f"{name}.parquet")
    return folder / f"x.{kind}", folder / f"y.{kind}"


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet"])
def test_files_of_vectors_give_the_fit_of_the_arrays(kind, tmp_path, expected):
    pairs = load_pairs(in_files(kind, tmp_path))
    assert torch.allclose(fitted(pairs).map_.weight, expected, atol=1e-6)
    sampled, rows = pairs.sample(9, seed=2), load_pairs((X, Y), max_pairs=9, seed=2).rows
    np.testing.assert_allclose(sampled.source[:], X[rows])


def test_a_bfloat16_tensor_is_read_as_the_numbers_it_holds(tmp_path):
    from safetensors.torch import save_file

    x = torch.tensor(X).bfloat16()
    save_file({"latents": x}, tmp_path / "x.safetensors")
    column = load_pairs((tmp_path / "x.safetensors", Y)).source
    assert torch.equal(torch.tensor(column[3:9]), x[3:9].float())


@pytest.mark.parametrize("streamed", [False, True])
def test_columns_of_embeddings_flow_as_arrays(streamed, expected):
    data = as_dataset().to_iterable_dataset() if streamed else as_dataset()
    pairs = load_pairs(data, source="x", target="y")
    assert all(isinstance(chunk.source, np.ndarray) for chunk in pairs.chunks(7))
    assert torch.allclose(fitted(pairs).map_.weight, expected, atol=1e-6)


def test_the_space_of_given_latents_is_recorded_and_its_width_is_checked():
    space = SpaceSpec(3, repo_id="me/old")
    translator = fit_translator(LinearTranslator(), space, lambda rows: Y[rows], (X, range(40)))
    assert translator.source_ == space
    with pytest.raises(InvalidLatentsError, match=r"latents of me/old .* vectors of dim 3"):
        fit_translator(LinearTranslator(), SpaceSpec(5, repo_id="me/old"), None, (X, Y))


def test_a_file_that_was_cut_short_or_is_none_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-40])
    (tmp_path / "y.npy").write_bytes(b"no array")
    (tmp_path / "z.safetensors").write_bytes(struct.pack("<Q", 9) + b"not JSON.")
    for name, what in (
        ("x.npy", r"not a whole .*announces 608 bytes, the file has 568"),
        ("y.npy", "is not a whole .npy"),
        ("z.safetensors", "not a whole safetensors"),
    ):
        with pytest.raises(InvalidLatentsError, match=what):
            load_pairs((tmp_path / name, Y))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy"):
        load_pairs(("nowhere.npy", Y))


def test_a_stream_of_several_files_gives_the_sample_of_the_dataset(tmp_path):
    rows = {"x": X.tolist(), "y": Y.tolist()}
    for number in range(4):
        part = Dataset.from_dict(rows).select(range(number, 40, 4))
        part.to_parquet(str(tmp_path / f"train-{number:05}-of-00004.parquet"))
    way = {"split": "train", "source": "x", "target": "y"}
    table, stream = (load_pairs(tmp_path, **way, streaming=s) for s in (False, True))
    assert len(stream.shards) == 4
    for pairs, streamed in ((table, stream), (table + table, stream + stream)):
        expected, found = pairs.sample(15, seed=2), streamed.sample(15, seed=2)
        np.testing.assert_array_equal(expected.rows, found.rows)
        np.testing.assert_array_equal(expected.source[:], found.source[:])


# Bad rows -------------------------------------------------------------------------------------


BAD = {
    "is missing": lambda rows: rows.__setitem__(11, None),
    "holds NaN or infinity": lambda rows: rows.__setitem__(11, [0.0, np.nan, 1.0]),
    "has dim 2, others have 3": lambda rows: rows.__setitem__(11, [0.0, 1.0]),
}


def values_of(data):
    """A stream that gives each row as Python values, as those of generators and `map` do."""
    return IterableDataset.from_generator(lambda: iter(data))


WAYS = {"table": lambda data: data, "stream": Dataset.to_iterable_dataset, "values": values_of}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", BAD)
def test_a_bad_vector_stops_the_fit_with_its_row_or_is_skipped(what, way, tmp_path):
    rows = X.tolist()
    BAD[what](rows)
    data = WAYS[way](Dataset.from_dict({"x": rows, "y": Y.tolist()}))
    pairs = load_pairs(data, source="x", target="y")
    assert sum(row is None for row in pairs.sample(40).source[:]) == rows.count(None)
    with pytest.raises(InvalidPairsError, match=f"row 11 of the source column {what}"):
        fitted(pairs)
    report = tmp_path / "bad.jsonl"
    translator = fitted(pairs, on_bad_row="skip", bad_rows_file=report)
    good = np.delete(np.arange(40), 11)
    assert torch.allclose(translator.map_.weight, fitted((X[good], Y[good])).map_.weight, atol=1e-6)
    assert translator.dataset_["bad_rows_skipped"] == translator.fit_summary_.n_skipped == 1
    assert json.loads(report.read_text()) == {"row": 11, "side": "source", "reason": what}


def test_a_picture_that_cannot_be_read_is_named_and_skipped():
    import io

    from datasets import Features, Image, Value
    from PIL import Image as Picture

    files = []
    for shade in range(12):
        stream = io.BytesIO()
        Picture.new("L", (2, 2), shade).save(stream, "png")
        files.append({"bytes": stream.getvalue(), "path": None})
    files[5]["bytes"] = b"no picture"
    features = Features({"image": Image(), "shade": Value("int64")})
    data = Dataset.from_dict({"image": files, "shade": list(range(12))}, features=features)

    def of_pictures(pictures):
        return of_numbers([picture.getpixel((0, 0)) for picture in pictures])

    def of_numbers(numbers):
        return np.array([[number, number**2 / 10] for number in numbers])

    for source in (data, data.to_iterable_dataset()):
        pairs = load_pairs(source, source="image", target="shade")
        translator = OrthoTranslator(scaling="center")
        with pytest.raises(InvalidPairsError, match="row 5 of the source column is not a readable"):
            fit_translator(translator, of_pictures, of_numbers, pairs)
        fit_translator(translator, of_pictures, of_numbers, pairs, on_bad_row="skip")
        assert translator.n_pairs_ == 11
        assert translator.moments_.mean_x[0] == translator.moments_.mean_y[0]


def test_latents_that_an_encoder_spoils_are_skipped_too():
    def encoder(rows):
        latents = X[rows]
        latents[[row == 7 for row in rows]] = np.inf
        return latents

    pairs = (range(40), Y)
    translator = fit_translator(LinearTranslator(), encoder, None, pairs, on_bad_row="skip")
    assert (translator.n_pairs_, translator.dataset_) == (39, {"bad_rows_skipped": 1})


def test_the_summary_says_where_the_time_went():
    summary = fitted((X, Y)).fit_summary_
    assert (summary.n_pairs, summary.n_read, summary.processes) == (40, 40, 1)
    assert sum(summary.seconds.values()) <= summary.total_seconds
    assert "40 pairs in" in str(summary)
    told = str(replace(summary, seconds={"reading": 1.26, "source encode": 0.01, "solve": 0.05}))
    assert told.splitlines()[-1] == "reading 1.3 s, solve 0.1 s"
