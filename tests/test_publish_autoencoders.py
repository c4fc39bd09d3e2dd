"""Published autoencoders: whatever a user needs follows from the three repos' names."""

import numpy as np
import pytest
from demo_repos.autoencoders import publish
from PIL import Image
from sklearn.datasets import load_digits

from hf_latent_bridge import AutoTranslator, ConvEncoder, load_decoder, load_pairs, stitch

pytestmark = pytest.mark.slow

REPOS = "alice/autoencoder-a", "alice/autoencoder-b", "alice/autoencoder-a-to-b"
PIXELS = (load_digits().images * 15.9375).astype("uint8")


@pytest.fixture(scope="module")
def dataset():
    from datasets import Dataset, DatasetDict, Features, disable_progress_bars
    from datasets import Image as Picture

    disable_progress_bars()
    features = Features({"image": Picture()})
    rows = {"train": PIXELS[:1200], "test": PIXELS[1200:]}
    parts = {
        split: Dataset.from_dict({"image": [Image.fromarray(p) for p in pixels]}, features)
        for split, pixels in rows.items()
    }
    DatasetDict(parts).push_to_hub("alice/tiny-digits", token="hf_alice")
    return "alice/tiny-digits"


@pytest.fixture(scope="module")
def published(dataset):
    return publish("alice", dataset, images=1200, epochs=20, anchors=600)


def error(images, pictures):
    return float(np.mean((images.numpy()[:, 0] * 255 - [np.array(p) for p in pictures]) ** 2))


def encoder_of(space):
    return ConvEncoder.from_pretrained(space.repo_id, revision=space.revision)


def test_one_encoder_meets_the_others_decoder_by_the_published_translator(published, dataset):
    assert published
    pictures = list(load_pairs(dataset, split="test", source="image").source)
    translator, decoder = AutoTranslator.from_pretrained(REPOS[2]), load_decoder(REPOS[1])
    encoder, own = encoder_of(translator.source_), encoder_of(decoder.space)
    native = error(stitch(own, None, decoder)(pictures), pictures)
    translated = error(stitch(encoder, translator, decoder)(pictures), pictures)
    raw = error(stitch(encoder, None, decoder, allow_mismatch=True)(pictures), pictures)
    assert native < translated < 0.5 * raw
    assert translator.metrics_["translated"]["recall@1"] > 0.5


def test_the_branch_encoder_is_the_commit_that_the_decoder_names(published):
    for repo_id in REPOS[:2]:
        encoder = ConvEncoder.from_pretrained(repo_id, revision="encoder")
        assert encoder.space == load_decoder(repo_id).space


def test_a_second_run_finds_everything_there(published, dataset):
    assert not publish("alice", dataset)


def test_the_published_latents_are_those_of_the_published_encoders(published):
    from datasets import load_dataset

    translator = AutoTranslator.from_pretrained(REPOS[2])
    for split, n in (("train", 600), ("test", 597)):
        rows = load_dataset("alice/demo-fashion", split=split)
        assert len(rows) == n
        for column, space in (("source", translator.source_), ("target", translator.target_)):
            latents = encoder_of(space).encode(list(rows["image"]))
            np.testing.assert_allclose(rows[column][:], latents.numpy(), atol=1e-6)
