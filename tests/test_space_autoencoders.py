"""The tab "Autoencoders": draws as the library does, and refuses other files than pictures."""

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from limits import Refusal, check_picture
from methods import methods
from PIL import Image, ImageOps
from tabs.autoencoders import tab as autoencoders
from tabs.autoencoders.reconstruction import as_the_networks_know, choose_items, reconstruct_by_each
from tiny_images import huge_png

from hf_latent_bridge import AffineTranslator, AutoTranslator, ConvEncoder, load_decoder, stitch

pytestmark = pytest.mark.slow

CHAINS = ("A itself", "B itself", "translated", "untranslated")


@pytest.fixture(scope="module")
def picture(repos):
    return repos.latents("demo-fashion", "test").rows[0]["image"]


@pytest.fixture(scope="module")
def halves(repos):
    """Translator, both encoders and both decoders, loaded without the Space."""
    repos = [repos.settings.repo_id(f"autoencoder-{name}") for name in ("a", "b", "a-to-b")]
    translator = AutoTranslator.from_pretrained(repos[2])
    encoders = [
        ConvEncoder.from_pretrained(space.repo_id, revision=space.revision)
        for space in (translator.source_, translator.target_)
    ]
    return translator, encoders, [load_decoder(repo) for repo in repos[:2]]


def drawn_by_the_library(picture, translator, encoders, decoders):
    chains = (
        stitch(encoders[0], None, decoders[0]),
        stitch(encoders[1], None, decoders[1]),
        stitch(encoders[0], translator, decoders[1]),
        stitch(encoders[0], None, decoders[1], allow_mismatch=True),
    )
    return [chain([picture])[0, 0].cpu().numpy() for chain in chains]


def shown_pixels(picture, size):
    """The pixels of an enlarged picture, which must be squares of one value."""
    pixels = np.asarray(picture)
    times = len(pixels) // size
    np.testing.assert_array_equal(
        pixels, np.kron(pixels[::times, ::times], np.ones((times, times)))
    )
    return pixels[::times, ::times]


def test_each_chain_draws_what_the_library_draws_and_states_its_error(repos, picture, halves):
    shown, facts = reconstruct_by_each(repos, picture, "published", 500)
    expected = drawn_by_the_library(picture, *halves)
    seen = np.asarray(picture) / 255
    np.testing.assert_array_equal(shown_pixels(shown[0][0], 8), np.asarray(picture))
    values = {fact["name"]: fact["value"] for fact in facts}
    for name, drawn, (image, caption) in zip(CHAINS, expected, shown[1:], strict=True):
        assert np.abs(shown_pixels(image, 8) - 255 * drawn).max() <= 0.51
        error = f"{np.mean((drawn - seen) ** 2):.4f}"
        assert caption == f"{name}: {error}"
        assert values[f"MSE, {name}"] == error


def test_a_translator_that_is_fitted_now_learns_from_the_published_latents(repos, picture, halves):
    train = repos.latents("demo-fashion", "train")
    translator = AffineTranslator(alpha=0.01).fit(train.source, train.target)
    (drawn,) = drawn_by_the_library(picture, translator, *halves[1:])[2:3]
    shown, facts = reconstruct_by_each(repos, picture, "affine", 100)
    assert np.abs(shown_pixels(shown[3][0], 8) - 255 * drawn).max() <= 0.51
    assert "affine fitted on 80 pictures in" in [fact["name"] for fact in facts]


def test_pictures_to_pick_are_the_first_of_each_class_that_nothing_was_fitted_on(repos):
    rows = repos.latents("demo-fashion", "test").rows
    assert rows["label"][:4] == [0, 1, 0, 1]
    chosen = [rows[row]["image"].tobytes() for row in (0, 2, 1, 3)]
    assert [item.tobytes() for item in choose_items(repos)] == chosen


def test_dark_on_light_is_inverted_and_what_is_transparent_is_black(picture):
    assert as_the_networks_know(picture, 8).tobytes() == picture.tobytes()
    assert as_the_networks_know(ImageOps.invert(picture), 8).tobytes() == picture.tobytes()
    clear = Image.new("RGBA", (30, 20))
    assert as_the_networks_know(clear, 8).getextrema() == (0, 0)


def test_a_picture_of_another_shape_is_not_distorted():
    wide = Image.new("L", (80, 40), 0)
    wide.paste(255, (20, 0, 60, 40))
    known = np.asarray(as_the_networks_know(wide, 8))
    assert known[2:6, 2:6].min() > 200
    assert known[:2].max() == known[6:].max() == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello", "This file is not a picture"),
        (b"", "This file is not a picture"),
        (huge_png(20_000, 20_000), "up to 16.8 million pixels"),
        (huge_png(5_000, 5_000), "up to 16.8 million pixels"),
        (huge_png(50, 50), "This file is not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This file is not a picture"),
    ],
    ids=["text", "empty", "bomb", "large", "truncated", "svg"],
)
def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path, content, sentence):
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(Refusal, match=sentence):
        check_picture(str(tmp_path / "picture.png"))


def test_no_picture_is_asked_for():
    with pytest.raises(Refusal, match="choose a picture"):
        check_picture(None)


@pytest.mark.parametrize(
    ("method", "anchors", "sentence"),
    [
        ("magic", 500, f"The translator must be one of published, {', '.join(methods())}"),
        ("ortho", 99, "from 100 to 1,000"),
        ("ortho", 100.5, "whole number"),
        ("ortho", None, "whole number"),
    ],
)
def test_settings_out_of_range_are_refused(repos, picture, method, anchors, sentence):
    with pytest.raises(Refusal, match=sentence):
        reconstruct_by_each(repos, picture, method, anchors)


def test_the_endpoint_gives_five_pictures_and_their_errors(space, repos, picture, tmp_path):
    picture.save(tmp_path / "shirt.png")
    file = handle_file(str(tmp_path / "shirt.png"))
    shown, facts = space.predict(file, "published", 500, api_name="/reconstruct")
    expected, expected_facts = reconstruct_by_each(repos, picture, "published", 500)
    assert [each["caption"] for each in shown] == [caption for _, caption in expected]
    assert facts[:4] == expected_facts[:4]
    for each, (image, _) in zip(shown, expected, strict=True):
        assert Image.open(each["image"]).convert("L").tobytes() == image.tobytes()


def test_the_endpoint_refuses_a_text_that_is_named_like_a_picture(space, tmp_path):
    (tmp_path / "picture.png").write_text("hello")
    with pytest.raises(AppError, match="This file is not a picture") as caught:
        space.predict(
            handle_file(str(tmp_path / "picture.png")), "published", 500, api_name="/reconstruct"
        )
    assert "/" not in str(caught.value)


def test_the_code_that_is_shown_runs(repos, capsys):
    exec(autoencoders.CODE.format(namespace=repos.settings.namespace), {})
    assert capsys.readouterr().out == "torch.Size([8, 1, 8, 8])\n"
