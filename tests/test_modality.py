"""A modality is one file: registered, it is encoded, cached, paired, split and listed."""

import numpy as np
import pytest
import torch
import toy_audio
from tiny_models import EN, bert_repo, sentences
from toy_audio import RATE, Audio, sound

from hf_latent_bridge import (
    CachedEncoder,
    OrthoTranslator,
    fit_translator,
    load_decoder,
    load_encoder,
    load_pairs,
    split_classifier,
)
from hf_latent_bridge.data.items import digest
from hf_latent_bridge.encoders.modality import (
    MODALITIES,
    find_modality,
    modality_of_classifier,
    register,
)
from hf_latent_bridge.errors import EncoderError, InvalidPairsError

SOUNDS = [sound(800 + 100 * (n % 5), seed=n) for n in range(40)]


@pytest.fixture
def audio():
    """The modality of helpers/toy_audio.py, registered for one test."""
    yield register(Audio())
    del MODALITIES["audio"]


def test_a_registered_modality_is_found_in_a_repo_and_encoded(audio):
    repo, model = toy_audio.repo(), toy_audio.model()
    encoder = load_encoder(repo)
    space = encoder.space
    assert (space.modality, space.pooling, space.dim) == ("audio", "mean", 12)
    for item, latent in zip(SOUNDS[:6], encoder.encode(SOUNDS[:6]), strict=True):
        array = torch.from_numpy(item["array"])
        normal = (array - array.mean()) / (array.var(correction=0) + 1e-7).sqrt()
        with torch.no_grad():
            expected = model(normal[None]).last_hidden_state.mean(1)[0]
        torch.testing.assert_close(latent.cpu(), expected, atol=1e-4, rtol=1e-4)
    assert load_encoder(encoder.space).space == encoder.space
    with pytest.raises(ValueError, match=r"pooling must be one of \['classifier', 'cls', .*'mean'"):
        load_encoder(repo, pooling="loudest")


def test_a_modality_that_is_not_registered_is_refused_by_name():
    repo = toy_audio.repo()
    with pytest.raises(EncoderError, match=r"no modality 'audio' is registered: .*'image', 'text'"):
        load_encoder(repo)
    with pytest.raises(EncoderError, match=r"encodes text; not audio"):
        load_encoder(bert_repo(), modality="audio")


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("BertForSequenceClassification", "text"),
        ("ViTForImageClassification", "image"),
        ("CvtForImageClassification", "image"),
        ("ImageGPTForImageClassification", "image"),
        ("Gemma3ForSequenceClassification", "text"),
        ("MadeUpForImageClassification", "image"),
        ("Wav2Vec2ForSequenceClassification", None),
        ("BertForTokenClassification", None),
        ("BertModel", None),
    ],
)
def test_a_classifier_is_one_of_what_its_class_reads(architecture, expected):
    found = modality_of_classifier([architecture])
    assert (found and found.name) == expected


def test_its_latents_are_cached(audio, tmp_path):
    repo = toy_audio.repo()
    encoder = load_encoder(repo)
    expected = CachedEncoder(encoder, tmp_path).encode(SOUNDS)
    torch.testing.assert_close(expected, encoder.encode(SOUNDS))
    encoder.encode = None
    assert torch.equal(CachedEncoder(encoder, tmp_path).encode(SOUNDS[::-1]), expected.flip(0))
    with pytest.raises(InvalidPairsError, match="item 1 must be a sound, got str"):
        CachedEncoder(encoder, tmp_path).encode([SOUNDS[0], "a text"])
    slow = {**SOUNDS[0], "sampling_rate": 8000}
    with pytest.raises(InvalidPairsError, match="item 0 must be sampled at 16000 Hz"):
        CachedEncoder(encoder, tmp_path).encode([slow])


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
def test_it_is_paired_screened_and_fitted_with_texts(audio):
    repo = toy_audio.repo()
    empty = {"array": np.empty(0, np.float32), "sampling_rate": RATE}
    pairs = load_pairs([[*SOUNDS, SOUNDS[3], empty], [*(t := sentences(40, EN)), t[3], "a dog"]])
    assert digest(SOUNDS[3]) == audio.digest(SOUNDS[3]) != digest(SOUNDS[4])
    translator = fit_translator(
        OrthoTranslator(),
        load_encoder(repo),
        load_encoder(bert_repo()),
        pairs.deduplicate(),
        on_bad_row="skip",
    )
    assert translator.source_.modality == "audio"
    assert (translator.n_pairs_, translator.dataset_["bad_rows_skipped"]) == (40, 1)
    assert translator.transform(np.ones((1, 12), np.float32)).shape == (1, 16)
    with pytest.raises(InvalidPairsError, match="row 41 of the source column is an empty sound"):
        fit_translator(OrthoTranslator(), load_encoder(repo), load_encoder(bert_repo()), pairs)


def test_its_classifiers_are_split(audio, repo_id):
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    torch.manual_seed(0)
    labels = {0: "dog", 1: "cat", 2: "bird"}
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**toy_audio.CONFIG, id2label=labels))
    encoder, head = split_classifier(toy_audio.published(model, repo_id))
    assert (encoder.space.modality, encoder.space.dim) == ("audio", 6)
    assert {answer["label"] for answer in head(encoder.encode(SOUNDS))} <= set(labels.values())
    assert load_decoder(repo_id).labels == tuple(labels.values())


def test_the_command_line_lists_and_takes_it(audio, run):
    code, out, _ = run("fit", "--help")
    assert code == 0
    assert "as CLIP: audio, image, text" in " ".join(out.split())
    code, _, err = run("fit", "--source-modality", "smell")
    assert code == 2
    assert "invalid choice: 'smell' (choose from 'audio', 'image', 'text')" in err


def test_a_name_is_given_once(audio):
    class Other(Audio):
        pass

    assert register(Audio()) is audio is find_modality("audio")
    with pytest.raises(ValueError, match="modality 'audio' is taken by Audio"):
        register(Other())
    again = type(
        "Audio", (Audio,), {"__qualname__": Audio.__qualname__}
    )()  # a cell that runs twice
    assert register(again) is again is find_modality("audio")
