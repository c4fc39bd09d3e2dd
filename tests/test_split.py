"""A classifier is split where its head is, whatever its architecture, and answers as before."""

import copy
import json
import shutil

import numpy as np
import pytest
import tiny_classifiers as tiny
import tiny_images
import tiny_models
import torch
from PIL import Image

from hf_latent_bridge import LatentIndex, load_decoder, load_encoder, split_classifier, split_model
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.errors import (
    DecoderError,
    EncoderError,
    InvalidPairsError,
    RepoNotFoundError,
    SpaceMismatchError,
)

ARCHITECTURES = [
    *((name, "text", *spec) for name, spec in tiny.TEXT.items()),
    *((name, "image", *spec) for name, spec in tiny.IMAGE.items()),
]
TEXTS = list(tiny_models.TEXTS)


def pictures(n=3):
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize(
    ("modality", "kind", "config"),
    [a[1:] for a in ARCHITECTURES],
    ids=[a[0] for a in ARCHITECTURES],
)
@torch.no_grad()
def test_head_of_encoder_gives_the_models_own_logits(modality, kind, config):
    model = tiny.build(kind, modality, config)
    inputs = tiny.text_inputs() if modality == "text" else tiny.image_inputs()
    expected = copy.deepcopy(model)(**inputs).logits
    head = split_model(model, inputs)
    latents = model(**inputs).logits
    assert head.out_features == 3
    assert latents.shape == (3, head.in_features)
    tolerance = 1e-6 if kind == "gpt2" else 0
    torch.testing.assert_close(head(latents), expected, rtol=0, atol=tolerance)


@torch.no_grad()
def test_the_output_layer_is_the_head_where_an_inner_layer_is_as_wide():
    model = tiny.build("roberta", "text", {**tiny.SMALL, "hidden_size": 4}, num_labels=4)
    inputs = tiny.text_inputs()
    expected = copy.deepcopy(model)(**inputs).logits
    head = split_model(model, inputs)
    assert torch.equal(head(model(**inputs).logits), expected)
    assert isinstance(model.classifier.out_proj, torch.nn.Identity)
    assert isinstance(model.classifier.dense, torch.nn.Linear)


@torch.no_grad()
def test_two_averaged_heads_are_refused_by_name_and_the_model_stays_whole():
    model = tiny.build(tiny.SWIFTFORMER[0], "image", tiny.SWIFTFORMER[1])
    inputs = tiny.image_inputs()
    expected = copy.deepcopy(model)(**inputs).logits
    with pytest.raises(DecoderError, match="SwiftFormerForImageClassification cannot be split"):
        split_model(model, inputs)
    assert torch.equal(model(**inputs).logits, expected)


@pytest.mark.parametrize("make", [tiny.text_folder, tiny.gpt2_folder])
def test_both_halves_together_answer_as_the_transformers_pipeline(make):
    from transformers import pipeline

    folder = make()
    encoder, head = split_classifier(folder)
    whole = pipeline("text-classification", model=str(folder), device="cpu")
    expected = [whole(text, top_k=None) for text in TEXTS]  # one by one: nothing is padded
    got = head(encoder.encode(TEXTS, batch_size=3), top_k=3)
    for ours, theirs in zip(got, expected, strict=True):
        assert [o["label"] for o in ours] == [t["label"] for t in theirs]
        assert [o["score"] for o in ours] == pytest.approx([t["score"] for t in theirs], abs=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_both_halves_of_an_image_classifier_answer_as_the_transformers_pipeline(kind):
    from transformers import pipeline

    encoder, head = split_classifier(tiny.image_folder(kind))
    whole = pipeline("image-classification", model=str(tiny.image_folder(kind)), device="cpu")
    expected = [[answer["label"] for answer in whole(image, top_k=3)] for image in pictures()]
    got = head(encoder.encode(pictures()), top_k=3)
    assert [[answer["label"] for answer in answers] for answers in got] == expected
    assert encoder.space.modality == head.space.modality == "image"


@pytest.mark.parametrize(
    ("problem_type", "scores"),
    [
        ("single_label_classification", lambda z: z.softmax(1)),
        ("multi_label_classification", torch.sigmoid),
        ("regression", lambda z: z),
    ],
)
def test_scores_follow_the_problem_type(problem_type, scores):
    encoder, head = split_classifier(tiny.text_folder(problem_type=problem_type))
    latents = encoder.encode(TEXTS)
    expected = scores(head.logits(latents)).sort(dim=1, descending=True).values
    got = torch.tensor([[a["score"] for a in answers] for answers in head(latents, top_k=3)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_a_repos_halves_name_the_repo_its_commit_and_its_own_pooling():
    repo = tiny.classifier_repo(tiny.text_folder, "bert")
    encoder, head = split_classifier(repo)
    assert encoder.space == head.space
    assert (head.space.repo_id, head.space.revision) == (repo, tiny_models.commit_of(repo))
    assert (head.space.pooling, head.space.dim) == ("classifier", 16)
    assert load_decoder(repo).labels == ("sport", "business", "tech")
    mismatches = load_encoder(repo, pooling="cls").space.mismatches(head.space)
    assert any("pooling" in text for text in mismatches)


def test_no_items_give_no_latents_and_no_answers():
    encoder, head = split_classifier(tiny.text_folder())
    assert encoder.encode([]).shape == (0, 16)
    assert head(encoder.encode([])) == []


def test_one_bare_text_or_a_number_is_refused():
    encoder, _ = split_classifier(tiny.text_folder())
    with pytest.raises(InvalidPairsError, match="wrap it in a list"):
        encoder.encode("one text")
    with pytest.raises(InvalidPairsError, match="item 1 must be a text, got int"):
        encoder.encode(["one text", 5])


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_a_space_brings_the_very_half_back(kind):
    make = tiny.text_folder if kind == "bert" else tiny.image_folder
    encoder, head = split_classifier(tiny.classifier_repo(make, kind))
    again = load_encoder(head.space)
    items = TEXTS if kind == "bert" else pictures()
    assert again.space == head.space
    torch.testing.assert_close(again.encode(items), encoder.encode(items))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_batch_gives_what_one_by_one_gives_and_in_order(kind):
    folder = tiny.text_folder() if kind == "bert" else tiny.gpt2_folder()
    encoder = load_encoder(folder, pooling="classifier")
    apart = torch.cat([encoder.encode([text]) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS, batch_size=3), apart, rtol=1e-4, atol=1e-4)
    assert (encoder.dtype, encoder.device) == (torch.float32, default_device())


def test_pictures_come_in_any_form_and_lie_on_white(tmp_path):
    encoder = load_encoder(tiny.image_folder(), pooling="classifier")
    clear = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    white = Image.new("RGB", (40, 30), "white")
    latents = encoder.encode([clear, tmp_path / "clear.png", tiny_images.png(clear), white])
    torch.testing.assert_close(latents, latents[:1].expand(4, -1))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (b"no picture", "no known image format"),
        (tiny_images.huge_png(20_000, 20_000), "exceeds|pixels"),
        ("https://example.org/a.png", "is a URL"),
        (5, "got int"),
    ],
)
def test_pictures_that_are_broken_or_huge_are_refused(item, reason):
    encoder, _ = split_classifier(tiny.image_folder())
    with pytest.raises(InvalidPairsError, match=f"(?s)item 1 cannot be used .*({reason})"):
        encoder.encode([pictures(1)[0], item])


def test_a_split_head_can_be_published_as_a_head_of_its_own(tmp_path):
    encoder, head = split_classifier(tiny.gpt2_folder())
    latents = encoder.encode(TEXTS)
    head.save_pretrained(tmp_path)
    torch.testing.assert_close(load_decoder(tmp_path).logits(latents), head.logits(latents))


def test_a_classifier_with_two_heads_is_refused_by_name():
    for load in (load_decoder, lambda folder: load_encoder(folder, pooling="classifier")):
        with pytest.raises(DecoderError, match="SwiftFormerForImageClassification cannot be split"):
            load(tiny.image_folder("swiftformer"))


def test_a_model_without_a_head_has_no_classifiers_pooling():
    with pytest.raises(EncoderError, match=r"is not a classifier of .*text.* items.*BertModel"):
        load_encoder(tiny_models.bert_folder(), pooling="classifier")
    with pytest.raises(EncoderError, match="encodes text; not image"):
        load_encoder(tiny.text_folder(), pooling="classifier", modality="image")


def test_a_checkpoint_without_a_trained_head_is_refused_instead_of_given_a_random_one(tmp_path):
    folder = shutil.copytree(tiny_models.bert_folder(), tmp_path / "bert")
    with pytest.raises(DecoderError, match=r"is not a classifier of .*text.* items.*BertModel"):
        split_classifier(folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DecoderError, match=r"lacks weights of Bert.*random: classifier\.bias"):
        load_decoder(folder)


def test_a_repo_that_is_no_decoder_is_refused_and_says_what_it_holds(tmp_path):
    with pytest.raises(DecoderError, match=r"holds no decoder.*architectures \['BertModel'\]"):
        load_decoder(tiny_models.bert_folder())
    (tmp_path / "config.json").write_text('{"decoder_type": "telepathy"}')
    with pytest.raises(DecoderError, match=r"unknown decoder_type 'telepathy'.*'head'"):
        load_decoder(tmp_path)
    (tmp_path / "config.json").write_text('{"translator_type": "ortho"}')
    with pytest.raises(DecoderError, match="it states translator_type 'ortho'"):
        load_decoder(tmp_path)


def test_a_classifier_may_stand_in_a_subfolder(repo_id, api):
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=tiny.text_folder(), path_in_repo="a/b")
    expected = load_decoder(tiny.text_folder())
    for where in (tiny.text_folder().parent, repo_id):
        subfolder = "a/b" if where == repo_id else tiny.text_folder().name
        head = load_decoder(where, subfolder=subfolder)
        latents = np.eye(16, dtype=np.float32)
        torch.testing.assert_close(head.logits(latents), expected.logits(latents))
    assert (head.repo_id, head.subfolder, head.space.subfolder) == (repo_id, "a/b", "a/b")


@pytest.mark.parametrize("name", ["alice/nowhere-at-all", "/no/such/folder"])
def test_a_missing_repo_or_folder_is_refused(name):
    with pytest.raises(RepoNotFoundError):
        load_decoder(name)


def test_code_in_a_classifiers_repo_is_refused_and_not_run(tmp_path):
    folder = shutil.copytree(tiny.text_folder(), tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DecoderError, match="cannot be split: no encoder could be loaded"):
        load_decoder(folder)
    assert not (tmp_path / "ran").exists()


def test_an_index_of_another_space_is_no_match_for_a_split_encoder():
    from hf_latent_bridge import stitch

    encoder, head = split_classifier(tiny.classifier_repo(tiny.text_folder, "bert"))
    other = LatentIndex.from_latents(
        np.eye(16), list("abcdefghijklmnop"), space=load_encoder(tiny_models.bert_repo()).space
    )
    assert stitch(encoder, None, head)("a red dog")[0]["label"] in head.labels
    with pytest.raises(SpaceMismatchError, match=r"encoder gives.*decoder reads"):
        stitch(encoder, None, other)
