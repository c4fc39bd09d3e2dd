"""Both halves of a small autoencoder: trained, published, and met by another's other half."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_images
import torch
from PIL import Image
from sklearn.datasets import load_digits

from hf_latent_bridge import (
    ConvDecoder,
    ConvEncoder,
    Encoder,
    OrthoTranslator,
    fit_autoencoder,
    load_decoder,
    load_encoder,
    stitch,
)
from hf_latent_bridge.encoders.pictures import read_images
from hf_latent_bridge.errors import (
    ConfigError,
    DecoderError,
    EncoderError,
    InvalidLatentsError,
    InvalidPairsError,
    SpaceMismatchError,
    WeightsError,
)

DIGITS = torch.from_numpy(load_digits().images).float()[:, None] / 16


@pytest.fixture(scope="module")
def pair():
    return fit_autoencoder(DIGITS[:1200], latent_dim=16, widths=(8, 16), epochs=30, seed=0)


@pytest.fixture(scope="module")
def other():
    return fit_autoencoder(DIGITS[:1200], latent_dim=16, widths=(8, 16), epochs=30, seed=1)


def error(images):
    return float((images - DIGITS[1200:]).square().mean())


@pytest.mark.slow
def test_it_reconstructs_digits_that_it_has_not_seen(pair):
    images = pair.decoder(pair.encoder.encode(DIGITS[1200:]))
    assert images.shape == (597, 1, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert error(images) < 0.4 * float(DIGITS.var(dim=0).mean())


@pytest.mark.slow
def test_one_seeds_encoder_meets_another_seeds_decoder_by_a_translator(pair, other):
    x, y = pair.encoder.encode(DIGITS[:1000]), other.encoder.encode(DIGITS[:1000])
    translator = OrthoTranslator().fit(x, y)
    translated = stitch(pair.encoder, translator, other.decoder)(DIGITS[1200:])
    untranslated = stitch(pair.encoder, None, other.decoder)(DIGITS[1200:])
    assert error(translated) < 0.5 * error(untranslated)


def test_equal_seeds_give_equal_halves_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    options = {"latent_dim": 4, "widths": (4,), "epochs": 1}
    first, second, third = (
        fit_autoencoder(DIGITS[:64], seed=seed, **options).encoder.encode(DIGITS[:2])
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_both_halves_come_back_from_the_hub_and_name_the_encoders_commit(pair, repo_id):
    latents = pair.encoder.encode(DIGITS[:5])
    encoder, decoder = pair
    commit = encoder.push_to_hub(f"{repo_id}-encoder", token="hf_alice").oid
    assert (encoder.space.repo_id, encoder.space.revision) == (f"{repo_id}-encoder", commit)
    decoder.space = encoder.space
    decoder.push_to_hub(f"{repo_id}-decoder", token="hf_alice")

    loaded = ConvEncoder.from_pretrained(f"{repo_id}-encoder", device="cpu")
    assert isinstance(loaded, Encoder)
    assert loaded.space == encoder.space
    assert torch.equal(loaded.encode(DIGITS[:5]), latents)
    back = load_decoder(f"{repo_id}-decoder", device="cpu")
    assert isinstance(back, ConvDecoder)
    assert back.space == encoder.space
    assert torch.equal(back(latents), decoder(latents))
    assert loaded.push_to_hub(f"{repo_id}-encoder", token="hf_alice").oid == commit

    by_space = load_encoder(back.space, device="cpu")
    assert by_space.space == encoder.space
    assert torch.equal(by_space.encode(DIGITS[:5]), latents)
    with pytest.raises(EncoderError, match="an autoencoder takes no dtype: leave them out"):
        load_encoder(back.space, dtype=torch.float16)


def test_a_space_that_the_repo_does_not_give_is_refused(pair, repo_id):
    pair.encoder.push_to_hub(repo_id, token="hf_alice")
    with pytest.raises(SpaceMismatchError, match=r"does not give .* dim: 17 and 16"):
        load_encoder(replace(pair.encoder.space, dim=17))


def test_the_decoder_of_another_encoders_commit_is_refused(pair, repo_id):
    pair.encoder.push_to_hub(repo_id, token="hf_alice")
    pair.decoder.space = pair.encoder.space
    again = fit_autoencoder(DIGITS[:64], latent_dim=16, widths=(4,), epochs=1)
    again.encoder.push_to_hub(repo_id, token="hf_alice")
    with pytest.raises(SpaceMismatchError, match="they differ in revision"):
        stitch(again.encoder, None, pair.decoder)


def test_pictures_arrays_and_bytes_of_pixels_mean_the_same(pair):
    pixels = (DIGITS[:3] * 255).round().to(torch.uint8)
    expected = pair.encoder.encode(pixels.float() / 255)
    pictures = [Image.fromarray(image[0].numpy()) for image in pixels]
    for same in (
        pixels,
        pixels.numpy(),
        list(pixels),
        pictures,
        [p.convert("RGB") for p in pictures],
    ):
        torch.testing.assert_close(pair.encoder.encode(same), expected)
    large = [picture.resize((32, 32), Image.Resampling.NEAREST) for picture in pictures]
    assert pair.encoder.encode(large).shape == expected.shape


def test_sixteen_bits_are_scaled_instead_of_saturating():
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]] * 4, dtype=np.uint16))
    (image,) = read_images([deep])
    assert image.shape == (1, 4, 4)
    assert (image[0, 0] * 255).tolist() == [0, 1, 128, 255]
    assert torch.equal(read_images([deep], channels=3)[0], image.expand(3, 4, 4))


def test_pictures_in_files_are_read_and_lie_on_white(pair):
    clear = Image.new("LA", (8, 8), (0, 0))
    white = Image.new("L", (8, 8), 255)
    latents = pair.encoder.encode([clear, tiny_images.png(clear), white])
    assert torch.equal(latents, latents[:1].expand(3, -1))
    with pytest.raises(InvalidPairsError, match=r"item 0 cannot be used .*pixels"):
        pair.encoder.encode([tiny_images.huge_png(20_000, 20_000)])


def test_colour_pictures_and_unequal_widths_work():
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue", "white")]
    encoder, decoder = fit_autoencoder(pictures, latent_dim=3, widths=(4, 8, 4), epochs=1)
    assert decoder(encoder.encode(pictures)).shape == (4, 3, 16, 16)


def test_no_images_give_no_latents_and_no_latents_no_images(pair):
    assert pair.encoder.encode([]).shape == (0, 16)
    assert pair.decoder(torch.empty(0, 16)).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (DIGITS[:2, :, :7], r"\(n, 1, 8, 8\), got \(2, 1, 7, 8\)"),
        (DIGITS[:2].expand(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
        (DIGITS[0], r"got \(1, 8, 8\)"),
        (DIGITS[:2] * 16, "between 0 and 1"),
        (DIGITS[:2] * torch.nan, "between 0 and 1"),
        (DIGITS[:2].int(), "uint8 or floating point, got torch.int32"),
        (["a.png"], "item 0 cannot be used as an image: .*No such file"),
        ([5], "item 0 cannot be used .* got int"),
        ("a.png", "takes a list of images, got one str"),
        ([DIGITS[0], DIGITS[0, :, :4]], "must be of one size"),
    ],
)
def test_what_is_no_image_of_its_size_is_refused(pair, images, message):
    with pytest.raises(InvalidPairsError, match=message):
        pair.encoder.encode(images)


def test_latents_that_are_not_its_own_and_top_k_are_refused(pair):
    with pytest.raises(InvalidLatentsError, match=r"\(n, 16\), got \(2, 5\)"):
        pair.decoder(np.ones((2, 5)))
    with pytest.raises(InvalidLatentsError, match="NaN"):
        pair.decoder(np.full((1, 16), np.nan))
    with pytest.raises(InvalidLatentsError, match="NaN or infinity in 1 of 1 rows"):
        pair.decoder(np.full((1, 16), 1e300))  # beyond float32
    with pytest.raises(DecoderError, match="leave top_k out"):
        pair.decoder(np.ones((1, 16)), top_k=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, "widths must hold positive integers"),
        ({"widths": (4, 0)}, "widths must hold positive integers"),
        ({"widths": (4, 4, 4, 4)}, "multiple of 16, got 8"),
        ({"latent_dim": 0}, "sizes must hold positive integers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        fit_autoencoder(DIGITS[:4], **options)
    with pytest.raises(InvalidPairsError, match="at least one image"):
        fit_autoencoder([])
    with pytest.raises(ValueError, match="epochs must be an integer of at least 1, got 0"):
        fit_autoencoder(DIGITS[:4], epochs=0)


def test_an_encoder_is_no_decoder_and_damaged_weights_are_refused(pair, tmp_path):
    pair.encoder.save_pretrained(tmp_path)
    with pytest.raises(DecoderError, match="it states encoder_type 'conv'"):
        load_decoder(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="truncated"):
        ConvEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["layers", "shape"])
def test_what_fixes_a_half_cannot_be_replaced(pair, name):
    for half in pair:
        with pytest.raises(AttributeError, match=name):
            setattr(half, name, None)


def test_a_space_may_be_renamed_but_not_widened(pair):
    with pytest.raises(SpaceMismatchError, match=r"dim=16.* cannot be one of .*dim=17"):
        pair.decoder.space = replace(pair.decoder.space, dim=17)
