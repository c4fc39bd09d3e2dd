"""What every registered modality does, whatever its items are; sounds of a toy file are one."""

import functools

import pytest
import tiny_images
import torch
import toy_audio
from tiny_models import TEXTS, bert_repo

from hf_latent_bridge import CachedEncoder, load_encoder
from hf_latent_bridge.data.items import Screen, Unreadable, digest
from hf_latent_bridge.encoders.modality import MODALITIES, find_modality, modality_of_item, register
from hf_latent_bridge.errors import EncoderError, InvalidPairsError

REPOS = {
    "text": (bert_repo, list(TEXTS)),
    "image": (functools.partial(tiny_images.image_repo, "vit"), tiny_images.pictures(7)),
    "audio": (toy_audio.repo, [toy_audio.sound(900 + 50 * n, seed=n) for n in range(7)]),
}
CLOSE = {"atol": 1e-4, "rtol": 1e-3}


@pytest.fixture(autouse=True)
def audio():
    yield register(toy_audio.Audio())
    del MODALITIES["audio"]


@pytest.fixture(params=REPOS)
def modality(request):
    return find_modality(request.param)


@pytest.fixture
def items(modality):
    return REPOS[modality.name][1]


@pytest.fixture
def encoder(modality):
    return load_encoder(REPOS[modality.name][0]())


def test_every_registered_modality_is_tested():
    assert MODALITIES.keys() == REPOS.keys()


def test_its_name_is_the_one_that_its_models_state(modality, encoder):
    assert encoder.space.modality == modality.name
    assert encoder.model.main_input_name in modality.main_inputs
    assert encoder.space.pooling in modality.poolings


def test_it_alone_recognises_its_items(modality, items):
    assert {modality_of_item(item) for item in [*items, *modality.examples()]} == {modality}


def test_a_digest_tells_items_apart_and_is_the_one_of_deduplication(modality, items):
    digests = [modality.digest(item) for item in items]
    assert len(set(digests)) == len(items)
    assert {len(each) for each in digests} == {16}
    assert digests == [digest(item) for item in items]


def test_its_sizes_are_positive_and_its_examples_are_fine(modality, items):
    for item in [*items, *modality.examples()]:
        assert modality.size(item) > 0
        assert modality.flaw(item) is None
    assert Screen(latents=False).reasons(items) == {}
    assert Screen(latents=False).reasons([None, Unreadable("is damaged")]).keys() == {0, 1}


def test_items_of_another_kind_are_refused_by_their_row(encoder, items):
    with pytest.raises(InvalidPairsError, match="item 1 "):
        encoder.encode([items[0], 5])


def test_latents_do_not_depend_on_batches_or_order(encoder, items):
    latents = encoder.encode(items)
    assert latents.shape == (7, encoder.space.dim)
    torch.testing.assert_close(encoder.encode(items, batch_size=1), latents, **CLOSE)
    torch.testing.assert_close(encoder.encode(items[::-1], batch_size=3).flip(0), latents, **CLOSE)
    assert encoder.encode([]).shape == (0, encoder.space.dim)
    with pytest.raises(AttributeError, match="space"):
        encoder.space = None


def test_the_cache_gives_the_same_latents_again(encoder, items, tmp_path):
    expected = encoder.encode(items)
    first = CachedEncoder(encoder, tmp_path)
    torch.testing.assert_close(first.encode(items), expected, **CLOSE)
    encoder.encode = None
    again = CachedEncoder(encoder, tmp_path).encode(items[::-1])
    torch.testing.assert_close(again.flip(0), expected, **CLOSE)


def test_its_space_brings_the_encoder_back_with_a_norm(modality, items):
    encoder = load_encoder(REPOS[modality.name][0](), normalize=True)
    torch.testing.assert_close(encoder.encode(items).norm(dim=1).cpu(), torch.ones(7))
    again = load_encoder(encoder.space)
    assert again.space == encoder.space
    torch.testing.assert_close(again.encode(items), encoder.encode(items))


def test_it_is_not_mistaken_for_another(modality, encoder):
    (other, *_) = MODALITIES.keys() - {modality.name}
    with pytest.raises(EncoderError, match=f"encodes {modality.name}; not {other}"):
        load_encoder(REPOS[modality.name][0](), modality=other)
