"""What the Space loads, made of tiny encoders and data on the embedded Hub."""

import functools
import json
from dataclasses import replace

import numpy as np
import publish
import pytest
import torch
from datasets import Dataset, Image, List, Value, load_dataset
from demo_repos.inputs import Inputs
from demo_repos.latents import choose_method
from demo_repos.pictures import held_out
from demo_repos.publish import GROUPS, Record
from huggingface_hub import HfApi
from tiny_images import image_repo, pictures
from tiny_models import EN, commit_of, sentence_repo, sentences, text_dataset_repo

from hf_latent_bridge import (
    AutoTranslator,
    Pairs,
    SharedSpace,
    evaluate_latents,
    load_decoder,
    load_encoder,
)

# tiny random encoders agree hardly more than by chance, and the one of images has channels that
# never vary
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
    pytest.mark.filterwarnings("ignore:.* pairs determine .* directions"),
]

TITLES = 120
FOLDERS = 60


@functools.cache
def picture_dataset():
    """Pictures with titles, two to a folder; returns the repo's id."""
    rows = {
        "image": pictures(TITLES, size=(300, 200)),
        "title": sentences(TITLES, EN, seed=5),
        "folder": [f"things/{row % FOLDERS}" for row in range(TITLES)],
    }
    data = Dataset.from_dict(rows).cast_column("image", Image())
    data.push_to_hub("alice/tiny-pictures", token="hf_alice")
    return "alice/tiny-pictures"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(
        cache=tmp_path_factory.mktemp("latents"),
        namespace="acme",
        news=text_dataset_repo(),
        pictures=picture_dataset(),
        small_encoder=sentence_repo(hidden=16),
        text_encoder=sentence_repo(hidden=24, seed=1),
        image_encoder=image_repo("resnet"),
        train_texts=150,
        test_pictures=40,
    )


@pytest.fixture(scope="module")
def published(inputs):
    for name in ("news", "pictures"):
        GROUPS[name].publish(HfApi(), inputs)
    return inputs


def all_heads():
    api = HfApi()
    listed = {"dataset": api.list_datasets, "model": api.list_models}
    return {
        (kind, info.id): info.sha for kind, repos in listed.items() for info in repos(author="acme")
    }


def config_of(repo_id):
    with open(HfApi().hf_hub_download(repo_id, "config.json")) as file:
        return json.load(file)


def load(part, split):
    return load_dataset(f"acme/{part}", split=split)


def latents(data, side):
    return torch.from_numpy(np.stack(data.with_format("numpy")[side][:]))


def test_the_news_have_the_columns_that_the_space_reads(published):
    strings = {name: Value("string") for name in ("text", "title", "label")}
    vectors = {name: List(Value("float32")) for name in ("source", "target")}
    train, test = load("demo-news", "train"), load("demo-news", "test")
    assert dict(train.features) == dict(test.features) == strings | vectors
    assert (len(train), len(test)) == (150, 60)
    assert set(train["label"]) == {"cat", "dog"}


def test_the_latents_of_the_news_are_those_of_their_text(published):
    test = load("demo-news", "test")
    for side, name in (("source", published.small_encoder), ("target", published.text_encoder)):
        expected = load_encoder(name, max_length=64).encode(test["text"][:])
        torch.testing.assert_close(latents(test, side), expected, atol=1e-5, rtol=1e-4)


def test_an_article_finds_itself_in_the_index(published):
    test, index = load("demo-news", "test"), load_decoder("acme/news-index")
    found = index(latents(test, "target"))
    rows = [hit["item"]["row"] for hit in found]
    same = [test["text"][row] == text for row, text in zip(rows, test["text"], strict=True)]
    assert np.mean(same) > 0.95  # short random sentences may repeat
    assert found[3]["item"] == {
        "title": test[3]["title"],
        "label": test[3]["label"],
        "row": 3,
    }


def test_the_head_was_trained_on_the_train_split(published):
    train, head = load("demo-news", "train"), load_decoder("acme/news-head")
    answers = [answer["label"] for answer in head(latents(train, "target"))]
    assert set(head.labels) == {"cat", "dog"}
    assert np.mean([a == b for a, b in zip(answers, train["label"], strict=True)]) > 0.5


@pytest.mark.parametrize(
    ("part", "data", "sides"),
    [
        ("minilm-to-mpnet", "demo-news", ("source", "target")),
        ("title-to-picture", "demo-pictures", ("source", "target")),
        ("picture-to-title", "demo-pictures", ("target", "source")),
    ],
)
def test_a_translator_states_how_it_does_on_the_test_split(published, part, data, sides):
    translator, test = AutoTranslator.from_pretrained(f"acme/{part}"), load(data, "test")
    report = evaluate_latents(translator, *(latents(test, side) for side in sides))
    stated = translator.metrics_["translated"]
    assert stated == pytest.approx(report.to_dict()["translated"], abs=1e-6)
    assert translator.dataset_["repo_id"] == f"acme/{data}"
    assert translator.dataset_["split"] == "train"


def test_the_shared_space_joins_both_encoders_of_the_news(published):
    space = SharedSpace.from_pretrained("acme/news-shared")
    assert {name: view.source_.repo_id for name, view in space.views_.items()} == {
        "MiniLM": published.small_encoder,
        "MPNet": published.text_encoder,
    }
    assert (space.n_pairs_, space.dataset_["repo_id"]) == (150, "acme/demo-news")


def test_the_pictures_are_small_pngs_and_only_in_the_test_split(published):
    train, test = load("demo-pictures", "train"), load("demo-pictures", "test")
    assert set(train["image"]) == {None}
    assert test[0]["image"].size == (192, 128)
    assert test[0]["image"].format == "PNG"


def test_the_latents_of_the_pictures_are_those_of_what_is_shown(published):
    test = load("demo-pictures", "test")
    expected = load_encoder(published.image_encoder).encode(test["image"][:])
    torch.testing.assert_close(latents(test, "target"), expected, atol=1e-5, rtol=1e-4)


def test_no_folder_is_in_both_splits(published):
    train, test = load("demo-pictures", "train"), load("demo-pictures", "test")
    assert len(test) == 40
    assert len(train) <= TITLES - len(test)
    assert not set(train["folder"]) & set(test["folder"])


def test_pictures_and_titles_are_found_by_their_own_latents(published):
    test = load("demo-pictures", "test")
    for part, side in (("picture-index", "target"), ("title-index", "source")):
        found = load_decoder(f"acme/{part}")(latents(test, side))
        assert [hit["item"] for hit in found] == [
            {"title": title, "row": row} for row, title in enumerate(test["title"])
        ]


def test_publishing_again_changes_nothing(published, capsys):
    before = all_heads()
    for name in ("news", "pictures"):
        GROUPS[name].publish(HfApi(), published)
    assert all_heads() == before
    assert capsys.readouterr().out.count("already published") == 2


def test_a_part_that_was_changed_is_made_again(published):
    api = HfApi()
    expected = config_of("acme/news-head")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="acme/news-head")
    GROUPS["news"].publish(api, published)
    assert config_of("acme/news-head") == expected
    before = all_heads()
    GROUPS["news"].publish(api, published)
    assert all_heads() == before


def test_what_the_hub_lacks_is_skipped_with_a_sentence(inputs, capsys):
    GROUPS["pictures"].publish(HfApi(), replace(inputs, namespace="alice", pictures="acme/none"))
    GROUPS["autoencoders"].publish(
        HfApi(), replace(inputs, namespace="alice", clothes="acme/no-clothes")
    )
    out = capsys.readouterr().out
    assert "pictures skipped: this Hub has no acme/none" in out
    assert "autoencoders skipped: this Hub has no acme/no-clothes" in out
    assert not HfApi().repo_exists("alice/demo-pictures", repo_type="dataset")


def test_held_out_rows_are_of_whole_small_folders_with_each_title_once():
    folders = ["big"] * 50 + [f"small/{row % 25}" for row in range(100)]
    titles = [f"title {row % 90}" for row in range(150)]
    rows = held_out(titles, folders, 40)
    assert len(rows) == 40
    assert len({titles[row] for row in rows}) == 40
    assert "big" not in {folders[row] for row in rows}
    with pytest.raises(ValueError, match="needed 120 titles in folders of at most 12"):
        held_out(titles, folders, 120)


@pytest.mark.parametrize("kind", ["ortho", "affine"])
def test_the_method_that_finds_most_on_held_out_groups_is_chosen(kind):
    draw = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(200, 30, generator=draw) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(30, 30, generator=draw)).Q
    stretch = torch.randn(30, 5, generator=draw) @ torch.randn(5, 30, generator=draw)
    y = x @ turn + noise if kind == "ortho" else x @ stretch + 8 * noise
    groups = np.array([str(row % 10) for row in range(200)])
    assert choose_method(Pairs(x.numpy(), y.numpy()), groups).translator_type == kind


@pytest.mark.parametrize("endpoint", [None, "https://huggingface.co/"])
def test_research_data_does_not_go_to_the_public_hub(monkeypatch, capsys, endpoint):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert publish.main(["demo", "--only", "news"]) == 1
    assert "research only" in capsys.readouterr().err


def test_the_command_takes_every_input_as_a_flag(published, capsys):
    flags = ["--namespace", "acme", "--train-texts", "150", "--cache", str(published.cache)]
    for name in ("news", "small_encoder", "text_encoder"):
        flags += [f"--{name.replace('_', '-')}", getattr(published, name)]
    assert publish.main(["demo", "--only", "news", *flags]) == 0
    assert "news: already published" in capsys.readouterr().out


def test_a_new_commit_of_an_encoder_makes_the_parts_anew(published):
    api = HfApi()
    group = GROUPS["news"]
    record = group.record(api, published)
    assert record.holds()
    assert record.inputs["commits"][published.text_encoder] == commit_of(published.text_encoder)
    commits = {**record.inputs["commits"], published.text_encoder: "another"}
    assert not Record(api, "acme/demo-news", {**record.inputs, "commits": commits}).holds()
