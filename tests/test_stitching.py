"""Parts that meet become one model, parts that do not are refused, and the model travels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny_classifiers
import tiny_images
import tiny_models
import torch
from comparing import alike, close

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    ComposedTranslator,
    LatentIndex,
    LinearTranslator,
    OrthoTranslator,
    SpaceSpec,
    StitchedModel,
    compose,
    fit_autoencoder,
    fit_head,
    load_decoder,
    load_encoder,
    split_classifier,
    stitch,
    zero_shot,
)
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.errors import (
    ConfigError,
    DecoderError,
    EncoderError,
    InvalidLatentsError,
    InvalidPairsError,
    NotFittedError,
    RepoNotFoundError,
    SpaceMismatchError,
)
from hf_latent_bridge.files import read_config

TEXTS = tiny_models.sentences(200, tiny_models.EN)
LABELS = ["long" if len(text.split()) > 5 else "short" for text in TEXTS]


@pytest.fixture(scope="module")
def source():
    return load_encoder(tiny_models.sentence_repo())


@pytest.fixture(scope="module")
def target():
    return load_encoder(tiny_models.bert_repo(hidden=12, seed=1))


@pytest.fixture(scope="module")
def translator(source, target):
    made = AffineTranslator(alpha=0.01)
    return made.fit(
        source.encode(TEXTS), target.encode(TEXTS), source=source.space, target=target.space
    )


@pytest.fixture(scope="module")
def head(target):
    return fit_head(target.encode(TEXTS), LABELS, space=target.space)


@pytest.fixture(scope="module")
def published(source, translator, head):
    """A model whose parts all have a repo and a commit."""
    translator.push_to_hub("alice/stitch-translator", token="hf_alice")
    head.push_to_hub("alice/stitch-head", token="hf_alice")
    return stitch(source, translator, head)


def random_translator(a, b, *, seed=0, source=None, target=None, unit_norm="none"):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(100, a, generator=draw, dtype=torch.float64)
    y = x @ torch.randn(a, b, generator=draw, dtype=torch.float64)
    y += torch.randn(100, b, generator=draw, dtype=torch.float64)
    return LinearTranslator(unit_norm=unit_norm).fit(x, y, source=source, target=target)


def test_a_head_works_behind_another_encoder(source, target, translator, head):
    answers = stitch(source, translator, head)(TEXTS)
    expected = head(translator.transform(source.encode(TEXTS)))
    assert answers == expected


def rotated(encoder):
    """A second encoder that arranges meaning just as the first, but for a rotation and a shift."""
    draw = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(encoder.space.dim, encoder.space.dim, generator=draw)).Q
    return lambda texts: encoder.encode(texts).cpu() @ rotation + 3


def rotate_back(encoder):
    # a least-squares fit: mean-pooled layer norms leave one direction without variance
    x, y = rotated(encoder)(TEXTS).double(), encoder.encode(TEXTS).double().cpu()
    return AffineTranslator(alpha=1e-6).fit(x, y)


def test_nothing_is_lost_between_encoders_of_one_geometry(target, head):
    native, translated, untranslated = (
        [answer["label"] for answer in model(TEXTS)]
        for model in (
            stitch(target, None, head),
            stitch(rotated(target), rotate_back(target), head),
            stitch(rotated(target), None, head),
        )
    )
    assert translated == native
    assert untranslated != native


def test_it_is_called_as_a_pipeline(source, translator, head):
    model = stitch(source, translator, head)
    many = model(TEXTS[:3])
    assert [set(answer) for answer in many] == [{"label", "score"}] * 3
    (one,) = model(TEXTS[0])
    assert one["label"] == many[0]["label"]
    assert one["score"] == pytest.approx(many[0]["score"], rel=1e-4)
    assert [len(row) for row in model(TEXTS[:3], top_k=2)] == [2, 2, 2]
    assert model(tuple(TEXTS[:3])) == many
    assert [a["label"] for a in model(TEXTS[0], top_k=5)] == [
        a["label"] for a in model([TEXTS[0]], top_k=5)[0]
    ]
    column = tiny_models.text_dataset()["test"]["text"]
    assert len(model(column, batch_size=7)) == 60
    for column in (pd.Series(TEXTS[:3], index=[7, 8, 9]), pd.Index(TEXTS[:3]), pa.array(TEXTS[:3])):
        assert model(column) == many
    assert model(np.array(TEXTS[0])[()]) == model(TEXTS[0])
    assert model([]) == []


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_the_batch_size_changes_nothing_but_reaches_the_encoder(
    batch_size, translator, head, source
):
    expected = [a["score"] for a in stitch(source, translator, head)(TEXTS)]
    got = [a["score"] for a in stitch(source, translator, head)(TEXTS, batch_size=batch_size)]
    assert got == pytest.approx(expected, abs=1e-5)


def test_items_that_the_encoder_cannot_take_are_refused(source, translator, head):
    model = stitch(source, translator, head)
    with pytest.raises(InvalidPairsError, match="item 0 must be a text, got int"):
        model(5)
    with pytest.raises(InvalidPairsError, match="item 1 must be a text, got NoneType"):
        model(["a", None])
    with pytest.raises(InvalidPairsError, match=r"got generator: pass list\(items\)"):
        model(text for text in TEXTS)
    for table in (pd.DataFrame({"text": TEXTS}), pa.table({"text": TEXTS})):
        with pytest.raises(InvalidPairsError, match=r"got a table .*: pass its column"):
            model(table)
        with pytest.raises(InvalidPairsError, match=r"got a table .*: pass its column"):
            source.encode(table)
    with pytest.raises(DecoderError, match="top_k must be"):
        model("a", top_k=0)


def test_an_estimator_or_a_callable_can_be_any_part(source, target, translator):
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier().fit(target.encode(TEXTS).cpu().numpy(), LABELS)
    answers = stitch(source, translator, neighbours)(TEXTS)
    assert {answer["label"] for answer in answers} == {"long", "short"}
    lengths = stitch(
        lambda texts: np.array([[len(t), 1.0] for t in texts]),
        lambda latents: latents * 2,
        lambda latents: [row[0].item() for row in latents],
    )
    assert lengths(["ab", "abc"]) == [4.0, 6.0]
    assert lengths("abcd") == 8.0


def test_an_encoder_that_the_translator_was_not_fitted_on_is_refused(target, translator, head):
    with pytest.raises(SpaceMismatchError) as caught:
        stitch(target, translator, head)
    text = str(caught.value)
    assert "the encoder gives latents of alice/tiny-bert-12-1" in text
    assert "the translator reads latents of alice/tiny-sbert-16-0" in text
    assert "repo_id: 'alice/tiny-bert-12-1' and 'alice/tiny-sbert-16-0'" in text
    assert "search_translators('alice/tiny-bert-12-1', 'alice/tiny-sbert-16-0') finds" in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"repo_id": "alice/other"}, "repo_id"),
        ({"revision": "c" * 40}, "revision"),
        ({"pooling": "cls"}, "pooling"),
        ({"normalize": True}, "normalize"),
        ({"dim": 13}, "dim"),
    ],
)
def test_a_decoder_of_another_space_is_refused_unless_it_is_said_to_be_fine(
    source, target, translator, change, field
):
    space = SpaceSpec(**{**target.space.to_dict(), **change})
    head = fit_head(np.random.default_rng(0).normal(size=(20, space.dim)), [0, 1] * 10, space=space)
    with pytest.raises(SpaceMismatchError, match=rf"translator gives.*decoder reads.*in {field}"):
        stitch(source, translator, head)
    with pytest.raises(SpaceMismatchError, match=rf"encoder gives.*decoder reads.*{field}"):
        stitch(target, None, head)
    model = stitch(source, translator, head, allow_mismatch=True)
    if field == "dim":
        with pytest.raises(InvalidLatentsError, match=r"\(n, 13\), got \(2, 12\)"):
            model(TEXTS[:2])
    else:
        assert len(model(TEXTS[:2])) == 2


def test_a_translator_that_is_not_fitted_is_refused(source, head):
    with pytest.raises(NotFittedError):
        stitch(source, OrthoTranslator(), head)
    with pytest.raises(NotFittedError):
        compose(OrthoTranslator())
    with pytest.raises(DecoderError, match="comes from load_decoder"):
        stitch(source, None, "alice/head")


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        ("alice/translator", TypeError, "AutoTranslator.from_pretrained, .* got str 'alice/"),
        (["alice/translator"], TypeError, "got str 'alice/translator'"),
        (7, TypeError, "got int 7"),
        ([OrthoTranslator()], NotFittedError, "fit"),
    ],
)
def test_what_is_no_translator_is_refused_with_advice(source, head, part, error, message):
    for allow_mismatch in (False, True):
        with pytest.raises(error, match=message):
            stitch(source, part, head, allow_mismatch=allow_mismatch)


@pytest.mark.parametrize("encoder", ["alice/encoder", None, 5])
def test_what_is_no_encoder_is_refused_before_it_is_called(encoder, translator, head):
    with pytest.raises(EncoderError, match="an encoder comes from load_encoder"):
        stitch(encoder, translator, head)


def test_a_callable_translator_that_drops_rows_is_refused(source, head):
    model = stitch(source, lambda latents: latents[:1, :12], head)
    with pytest.raises(InvalidLatentsError, match=r"one row per latent, \(3, d\), got shape \(1,"):
        model(TEXTS[:3])


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, lambda png: {"bytes": png}])
def test_the_bytes_of_one_picture_are_one_item(convert):
    encoder = load_encoder(tiny_images.image_repo("vit"))
    png = tiny_images.png(tiny_images.pictures(1)[0])
    model = stitch(encoder, None, lambda latents: [len(latents)] * len(latents))
    assert model(convert(png)) == 1
    assert model([convert(png)] * 2) == [2, 2]


def test_more_answers_than_labels_cannot_be_given(source, translator, head):
    model = stitch(source, translator, head)
    assert [len(row) for row in model(TEXTS[:2], top_k=99)] == [2, 2]
    assert len(model(TEXTS[0], top_k=99)) == 2


# Chains


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_without_a_norm_between_fold_into_one(dtype):
    parts = [random_translator(a, b, seed=a) for a, b in ((8, 6), (6, 9), (9, 4))]
    chain = compose(*parts)
    x = torch.randn(5, 8, dtype=dtype)
    expected = parts[2].transform(parts[1].transform(parts[0].transform(x)))
    assert len(chain.map_.steps) == 1
    assert chain.transform(x).dtype == dtype
    torch.testing.assert_close(chain.transform(x), expected, rtol=1e-4, atol=1e-5)
    assert (chain.source_.dim, chain.target_.dim) == (8, 4)


@pytest.mark.parametrize("first", ["none", "source", "target", "both"])
@pytest.mark.parametrize("second", ["none", "source", "target", "both"])
def test_a_norm_between_two_maps_is_kept(first, second):
    parts = [
        random_translator(8, 6, unit_norm=first),
        random_translator(6, 5, seed=1, unit_norm=second),
    ]
    chain = compose(*parts)
    x = torch.randn(5, 8, dtype=torch.float64) * 3
    torch.testing.assert_close(chain.transform(x), parts[1].transform(parts[0].transform(x)))
    between = first in ("target", "both") or second in ("source", "both")
    assert len(chain.map_.steps) == (2 if between else 1)


def test_a_chain_takes_and_gives_what_a_translator_takes_and_gives():
    chain = compose(random_translator(8, 6), random_translator(6, 5, seed=1))
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert isinstance(chain.transform(x), np.ndarray)
    assert chain.transform(x).dtype == np.float32
    np.testing.assert_allclose(chain.transform(x[0]), chain.transform(x)[0], rtol=1e-5)
    assert chain.transform(torch.from_numpy(x).half()).dtype == torch.float16
    with pytest.raises(InvalidLatentsError, match=r"5 features.*expecting 8"):
        chain.transform(x[:, :5])
    with pytest.raises(InvalidLatentsError, match="NaN"):
        chain.transform(x * np.nan)


def test_neighbours_in_a_chain_must_meet():
    middle, other = SpaceSpec(6, repo_id="me/b"), SpaceSpec(6, repo_id="me/c")
    first = random_translator(8, 6, target=middle)
    with pytest.raises(SpaceMismatchError, match=r"of me/b .*but the .* reads latents of me/c"):
        compose(first, random_translator(6, 4, source=other))
    with pytest.raises(SpaceMismatchError, match="dim: 6 and 7"):
        compose(first, random_translator(7, 4))
    last = random_translator(4, 3)
    nested = compose(compose(first, random_translator(6, 4, source=middle)), last)
    assert len(nested.translators_) == 3
    assert nested.target_ == last.target_


def test_a_model_takes_a_chain_as_a_list_or_composed(source, target, translator, head):
    there = random_translator(16, 16, source=source.space, target=SpaceSpec(16, repo_id="me/mid"))
    back = random_translator(16, 16, seed=1, source=there.target_, target=source.space)
    expected = head(translator.transform(back.transform(there.transform(source.encode(TEXTS[:4])))))
    listed = stitch(source, [there, back, translator], head)
    composed = stitch(source, compose(there, compose(back, translator)), head)
    assert isinstance(listed.translator, ComposedTranslator)
    for model in (listed, composed):
        got = model(TEXTS[:4])
        assert [a["label"] for a in got] == [a["label"] for a in expected]
    with pytest.raises(SpaceMismatchError, match="translator LinearTranslator gives"):
        stitch(source, [there, translator], head)
    assert len(stitch(source, [there, translator], head, allow_mismatch=True)("a dog")) == 1
    with pytest.raises(InvalidLatentsError, match="gives width 12, the second expects 16"):
        stitch(source, [translator, there], head, allow_mismatch=True)
    assert stitch(source, [translator], head).translator is translator
    assert stitch(target, [], head).translator is None


# Retrieval and zero-shot


def test_an_index_of_one_encoder_is_searched_with_the_other_in_both_directions(target):
    texts = list(dict.fromkeys(TEXTS))
    other, translator = rotated(target), rotate_back(target)
    of_target = LatentIndex.from_dataset(target, {"text": texts}, "text", metric="euclidean")
    there = stitch(other, translator, of_target)(texts)
    assert [hit["item"] for hit in there] == texts
    carried = translator.transform(other(texts))
    of_other = LatentIndex.from_latents(carried, texts, metric="euclidean")
    back = stitch(target, None, of_other)(texts, top_k=2)
    assert [hits[0]["item"] for hits in back] == texts
    assert all(len(hits) == 2 for hits in back)


def test_labels_alone_classify_behind_a_translator(source, target, translator):
    model = zero_shot(source, translator, target, ["a dog", "a house"], template="the {} sings")
    vectors = target.encode(["the a dog sings", "the a house sings"])
    x = translator.transform(source.encode(TEXTS[:5]))
    expected = torch.nn.functional.cosine_similarity(x[:, None], vectors[None], dim=2)
    answers = model(TEXTS[:5], top_k=2)
    got = torch.tensor([[a["score"] for a in row] for row in answers])
    torch.testing.assert_close(got, expected.sort(dim=1, descending=True).values)
    best = [model.decoder.labels[i] for i in expected.argmax(1)]
    assert [row[0]["label"] for row in answers] == best
    native = zero_shot(target, None, target, ["red dog", "tree"])
    assert native("tree")[0] == {"label": "tree", "score": pytest.approx(1, abs=1e-5)}


@pytest.mark.parametrize(
    ("labels", "template", "message"),
    [
        (["a", "a"], "{}", "distinct texts"),
        ([], "{}", "at least one"),
        ("dog", "{}", "a list of texts, got 'dog'"),
        (["a", 5], "{}", "distinct texts"),
        (["a"], "a photo", r"must hold \{\} where the label goes, got 'a photo'"),
    ],
)
def test_labels_that_name_no_classes_are_refused(target, labels, template, message):
    with pytest.raises(DecoderError, match=message):
        zero_shot(target, None, target, labels, template=template)


# The Hub


def test_a_model_is_one_small_config_that_pins_its_parts(
    published, translator, head, source, repo_id, api
):
    commit = published.push_to_hub(repo_id, token="hf_alice").oid
    assert set(api.list_repo_files(repo_id)) == {".gitattributes", "README.md", "config.json"}
    config = json.loads(Path(api.hf_hub_download(repo_id, "config.json")).read_text())
    assert config["translators"] == [{"repo_id": translator.repo_id, "revision": translator.commit}]
    assert config["decoder"] == {"repo_id": head.repo_id, "revision": head.commit}
    assert config["encoder"] == source.space.to_dict()
    card = Path(api.hf_hub_download(repo_id, "README.md")).read_text()
    for part in (source.space.repo_id, translator.repo_id, head.repo_id):
        assert f"`{part}`" in card
    loaded = StitchedModel.from_pretrained(repo_id)
    assert (loaded.repo_id, loaded.commit) == (repo_id, commit)
    assert alike(loaded(TEXTS), published(TEXTS))
    assert loaded.push_to_hub(repo_id, token="hf_alice").oid == commit


@pytest.mark.parametrize("device", ["cpu", default_device()], ids=["cpu", "default"])
def test_all_parts_are_put_where_they_are_wanted(published, tmp_path, device):
    """On a machine with a second device the default is not the CPU."""
    published.save_pretrained(tmp_path)
    loaded = StitchedModel.from_pretrained(tmp_path, device=device)
    head = loaded.decoder.layers[0].weight
    places = {loaded.encoder.device.type, loaded.translator.map_.device.type, head.device.type}
    assert places == {torch.device(device).type}


def test_parts_that_changed_since_are_loaded_as_they_were(published, target, repo_id, tmp_path):
    published.save_pretrained(tmp_path)
    expected = published(TEXTS)
    newer = fit_head(target.encode(TEXTS), LABELS, space=target.space, C=1e-4)
    newer.push_to_hub("alice/stitch-head", token="hf_alice")
    assert alike(StitchedModel.from_pretrained(tmp_path)(TEXTS), expected)


def test_a_chain_a_zero_shot_decoder_and_a_split_encoder_travel_too(
    source, translator, target, repo_id
):
    back = random_translator(12, 16, source=target.space, target=source.space)
    back.push_to_hub(f"{repo_id}-back", token="hf_alice")
    translator.push_to_hub("alice/stitch-translator", token="hf_alice")
    model = zero_shot(source, [translator, back, translator], target, ["a dog", "a house"])
    with pytest.raises(DecoderError, match="the decoder LabelDecoder"):
        model.push_to_hub(repo_id, token="hf_alice")
    model.decoder.push_to_hub(f"{repo_id}-labels", token="hf_alice")
    model.push_to_hub(repo_id, token="hf_alice")
    assert alike(StitchedModel.from_pretrained(repo_id)(TEXTS[:9]), model(TEXTS[:9]))

    whole = tiny_classifiers.classifier_repo(tiny_classifiers.text_folder, "bert")
    halves = stitch(split_classifier(whole).encoder, None, split_classifier(whole).head)
    halves.push_to_hub(f"{repo_id}-halves", token="hf_alice")
    assert StitchedModel.from_pretrained(f"{repo_id}-halves")(TEXTS[:9]) == halves(TEXTS[:9])


def test_a_stitched_autoencoder_travels_too(repo_id):
    images = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    encoder, decoder = fit_autoencoder(images, latent_dim=4, widths=(4,), epochs=1)
    encoder.push_to_hub(f"{repo_id}-encoder", token="hf_alice")
    decoder.space = encoder.space
    decoder.push_to_hub(f"{repo_id}-decoder", token="hf_alice")
    model = stitch(encoder, None, decoder)
    model.push_to_hub(repo_id, token="hf_alice")
    loaded = StitchedModel.from_pretrained(repo_id)
    assert close(loaded(images), model(images), atol=1e-5)
    assert loaded(images).shape == (32, 1, 8, 8)


def test_parts_without_a_repo_and_commit_cannot_be_pointed_to(published, source, target, tmp_path):
    unnamed = load_encoder(tiny_models.bert_folder(hidden=12, seed=1))
    head = fit_head(target.encode(TEXTS), LABELS)
    for model, part in (
        (stitch(unnamed, None, published.decoder), "encoder"),
        (stitch(published.encoder, random_translator(16, 12), published.decoder), "translator"),
        (stitch(published.encoder, published.translator, head), "decoder"),
        (stitch(len, lambda x: x, published.decoder), "encoder"),
    ):
        with pytest.raises(DecoderError, match=f"the {part} .* has none: push it to the Hub"):
            model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "bert"}, ConfigError, "must state model_type 'stitched'"),
        ({"decoder": {"repo_id": "a/b"}}, ConfigError, "whole commit hash"),
        ({"decoder": {"repo_id": "a/b", "revision": "main"}}, ConfigError, "whole commit hash"),
        ({"translators": ["a/b"]}, ConfigError, "whole commit hash"),
        ({"translators": {}}, ConfigError, "translators must be list"),
        ({"encoder": {"dim": 16}}, ConfigError, "whole commit hash"),
        ({"encoder": {"dim": 16, "code": "x"}}, ConfigError, "unknown fields"),
        ({"auto_map": {}}, ConfigError, r"unknown fields \['auto_map'\]"),
        ({"decoder": {"repo_id": "alice/gone", "revision": "a" * 40}}, RepoNotFoundError, "gone"),
    ],
)
def test_a_config_that_says_something_else_is_refused(published, change, error, message, tmp_path):
    published.save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=message):
        StitchedModel.from_pretrained(tmp_path)


def test_parts_that_do_not_meet_are_refused_when_loaded_unless_it_is_said_to_be_fine(
    published, target, tmp_path
):
    space = SpaceSpec(12, repo_id="alice/another")
    head = fit_head(target.encode(TEXTS), LABELS, space=space)
    head.push_to_hub("alice/stitch-mismatch", token="hf_alice")
    model = stitch(published.encoder, published.translator, head, allow_mismatch=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(SpaceMismatchError, match="alice/another"):
        StitchedModel.from_pretrained(tmp_path)
    loaded = StitchedModel.from_pretrained(tmp_path, allow_mismatch=True)
    assert alike(loaded(TEXTS[:3]), model(TEXTS[:3]))


def test_translators_that_do_not_meet_are_loaded_too_if_it_is_said_to_be_fine(
    published, repo_id, tmp_path
):
    astray = random_translator(12, 12, source=SpaceSpec(12, repo_id="alice/another"))
    astray.push_to_hub(repo_id, token="hf_alice")
    chain = [published.translator, astray]
    model = stitch(published.encoder, chain, published.decoder, allow_mismatch=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(SpaceMismatchError, match="alice/another"):
        StitchedModel.from_pretrained(tmp_path)
    loaded = StitchedModel.from_pretrained(tmp_path, allow_mismatch=True)
    assert alike(loaded(TEXTS[:3]), model(TEXTS[:3]))


def test_parts_in_subfolders_are_pointed_to_and_found(published, repo_id, api, tmp_path):
    published.translator.save_pretrained(tmp_path / "maps" / "a")
    published.decoder.save_pretrained(tmp_path / "head")
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=tmp_path)
    translator = AutoTranslator.from_pretrained(repo_id, subfolder="maps/a")
    model = stitch(published.encoder, translator, load_decoder(repo_id, subfolder="head"))
    model.save_pretrained(tmp_path / "model")
    api.upload_folder(
        repo_id=repo_id, folder_path=tmp_path / "model", path_in_repo="models/stitched"
    )
    loaded = StitchedModel.from_pretrained(repo_id, subfolder="models/stitched")
    assert (loaded.translator.subfolder, loaded.decoder.subfolder) == ("maps/a", "head")
    assert alike(loaded(TEXTS[:9]), published(TEXTS[:9]))
    config = read_config(tmp_path / "model" / "config.json")
    assert config["decoder"] == {
        "repo_id": repo_id,
        "revision": translator.commit,
        "subfolder": "head",
    }


@pytest.mark.parametrize("part", ["encoder", "translators", "decoder"])
def test_a_part_that_is_gone_or_at_another_commit_is_named(published, part, tmp_path):
    published.save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    pointer = config[part][0] if part == "translators" else config[part]
    for change in ({"revision": "a" * 40}, {"repo_id": "alice/gone"}):
        changed = {**pointer, **change}
        changed = [changed] if part == "translators" else changed
        (tmp_path / "config.json").write_text(json.dumps({**config, part: changed}))
        with pytest.raises(RepoNotFoundError, match=next(iter(change.values()))):
            StitchedModel.from_pretrained(tmp_path)
