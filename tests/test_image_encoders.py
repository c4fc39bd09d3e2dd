"""Image encoders: pooled as by hand, whatever an image comes as; anything else is refused."""

import io
import json
import shutil

import pytest
import tiny_images as tiny
import torch
from PIL import Image
from tiny_models import TEXTS, bert_repo, sentence_repo

from hf_latent_bridge import OrthoTranslator, load_encoder
from hf_latent_bridge.encoders.pictures import decode_image, to_rgb
from hf_latent_bridge.errors import EncoderError, InvalidPairsError, NoTokensError

CLOSE = {"atol": 1e-4, "rtol": 1e-3}


def states(kind, images):
    """What the model itself gives for the processor's pixels."""
    from transformers import AutoImageProcessor, AutoModel

    folder = tiny.image_folder(kind)
    pixels = AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(**pixels)


def read(item):
    return to_rgb(decode_image(item))


# Pooling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_pooler_and_mean_are_what_the_model_itself_gives(kind):
    images, output = tiny.pictures(5), states(kind, tiny.pictures(5))
    hidden = output.last_hidden_state
    mean = hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)
    pooled = load_encoder(tiny.image_repo(kind), pooling="pooler").encode(images, batch_size=2)
    torch.testing.assert_close(pooled, output.pooler_output.flatten(1), **CLOSE)
    averaged = load_encoder(tiny.image_repo(kind), pooling="mean").encode(images, batch_size=2)
    torch.testing.assert_close(averaged, mean, **CLOSE)


def test_cls_is_the_class_token_and_the_default_where_there_is_one():
    encoder = load_encoder(tiny.image_repo("vit"))
    expected = states("vit", tiny.pictures(3)).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode(tiny.pictures(3)), expected, **CLOSE)
    assert (encoder.space.modality, encoder.space.pooling) == ("image", "cls")
    assert load_encoder(tiny.image_repo("resnet")).space.pooling == "pooler"


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_cls_is_refused_where_the_model_has_no_class_token(kind):
    with pytest.raises(EncoderError, match=r"no class token; use one of \['mean', 'pooler'\]"):
        load_encoder(tiny.image_repo(kind), pooling="cls")


def test_a_pooler_without_weights_is_refused_because_it_would_be_random(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny.image_folder("vit"), tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="lacks the weights of the pooler, which would be rand"):
        load_encoder(folder, pooling="pooler")
    assert load_encoder(folder).space.pooling == "cls"


def test_order_and_values_do_not_depend_on_the_batch_size():
    encoder = load_encoder(tiny.image_repo("convnext"))
    images = [*tiny.pictures(5), *tiny.pictures(2, size=(9, 70))]
    one, many = encoder.encode(images, batch_size=1), encoder.encode(images, batch_size=4)
    torch.testing.assert_close(one, many, **CLOSE)


def test_no_images_give_no_rows_and_a_norm_is_applied_when_asked():
    encoder = load_encoder(tiny.image_repo("resnet"), normalize=True)
    assert encoder.encode([]).shape == (0, 20)
    torch.testing.assert_close(encoder.encode(tiny.pictures(3)).norm(dim=1), torch.ones(3))


# Dual encoders ------------------------------------------------------------------------------


def expected_towers(folder, **padding):
    """What the two towers themselves give for three pictures and for each text alone."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder)(tiny.pictures(3), return_tensors="pt")
    with torch.no_grad():
        seen = model.get_image_features(**pixels).pooler_output
        rows = [tokenizer(t, return_tensors="pt", truncation=True, **padding) for t in TEXTS]
        rows = [{k: v for k, v in row.items() if k != "token_type_ids"} for row in rows]
        read = torch.cat([model.get_text_features(**row).pooler_output for row in rows])
    return {"image": seen, "text": read}


def test_both_towers_of_clip_give_its_projected_features():
    expected = expected_towers(tiny.clip_folder())
    for modality, items in (("image", tiny.pictures(3)), ("text", TEXTS)):
        encoder = load_encoder(tiny.clip_repo(), modality=modality)
        torch.testing.assert_close(encoder.encode(items, batch_size=2), expected[modality], **CLOSE)
        assert (encoder.space.modality, encoder.space.pooling) == (modality, "projection")


def test_both_towers_of_siglip_give_its_features_with_texts_padded_whole():
    """SigLIP reads the last position, padding or not, and is trained without a mask."""
    whole = {"padding": "max_length", "return_attention_mask": False}
    expected = expected_towers(tiny.siglip_folder(), **whole)
    for modality, items in (("image", tiny.pictures(3)), ("text", TEXTS)):
        encoder = load_encoder(tiny.siglip_repo(), modality=modality)
        torch.testing.assert_close(encoder.encode(items, batch_size=2), expected[modality], **CLOSE)
        assert (encoder.space.dim, encoder.space.pooling) == (8, "projection")


@pytest.mark.parametrize("modality", ["image", "text"])
def test_sentence_transformers_reads_images_and_texts_with_one_model(modality):
    from sentence_transformers import SentenceTransformer

    items = tiny.pictures(3) if modality == "image" else list(TEXTS)
    reference = SentenceTransformer(tiny.sentence_clip_repo(), device="cpu")
    expected = reference.encode(items, convert_to_tensor=True)
    encoder = load_encoder(tiny.sentence_clip_repo(), modality=modality)
    torch.testing.assert_close(encoder.encode(items), expected, **CLOSE)


@pytest.mark.parametrize("repo", [tiny.clip_repo, tiny.siglip_repo, tiny.sentence_clip_repo])
def test_a_model_of_texts_and_images_asks_which_is_meant(repo):
    with pytest.raises(EncoderError, match="image and text; say which: pass modality='text'"):
        load_encoder(repo())


@pytest.mark.parametrize(
    ("repo", "modality"),
    [
        (lambda: tiny.image_repo("vit"), None),
        (tiny.clip_repo, "image"),
        (tiny.sentence_clip_repo, "image"),
    ],
)
def test_a_number_of_tokens_is_refused_for_images(repo, modality):
    with pytest.raises(NoTokensError, match=r"max_length=9 is the number of tokens .* leave max_"):
        load_encoder(repo(), modality=modality, max_length=9)


@pytest.mark.parametrize("repo", [bert_repo, sentence_repo])
def test_a_text_model_is_no_image_encoder(repo):
    with pytest.raises(EncoderError, match="encodes text; not image"):
        load_encoder(repo(), modality="image")


@pytest.mark.parametrize(
    ("repo", "options"),
    [
        (lambda: tiny.image_repo("vit"), {"pooling": "mean"}),
        (lambda: tiny.image_repo("resnet"), {"normalize": True}),
        (tiny.clip_repo, {"modality": "image"}),
        (tiny.clip_repo, {"modality": "text", "max_length": 6}),
        (tiny.siglip_repo, {"modality": "text"}),
        (tiny.sentence_clip_repo, {"modality": "image"}),
    ],
)
def test_a_translators_space_brings_back_the_very_encoder(repo, options):
    encoder = load_encoder(repo(), **options)
    items = TEXTS if encoder.space.modality == "text" else tiny.pictures(3)
    pairs = torch.randn(40, encoder.space.dim, generator=torch.Generator().manual_seed(0))
    again = load_encoder(OrthoTranslator().fit(pairs, pairs, source=encoder.space).source_)
    assert again.space == encoder.space
    torch.testing.assert_close(again.encode(items), encoder.encode(items))


# What an image may come as ------------------------------------------------------------------


def test_image_path_bytes_and_a_datasets_row_are_the_same_item(tmp_path):
    (image,) = tiny.pictures(1)
    (tmp_path / "a.png").write_bytes(tiny.png(image))
    forms = [image, tmp_path / "a.png", str(tmp_path / "a.png"), tiny.png(image)]
    forms += [{"bytes": tiny.png(image), "path": None}, {"bytes": None, "path": tmp_path / "a.png"}]
    latents = load_encoder(tiny.image_repo("vit")).encode(forms)
    torch.testing.assert_close(latents, latents[:1].expand(6, -1), **CLOSE)


def test_an_image_column_of_datasets_is_encoded():
    from datasets import Dataset, Features
    from datasets import Image as ImageColumn

    images = tiny.pictures(3)
    column = Dataset.from_dict({"image": images}, features=Features({"image": ImageColumn()}))
    encoder = load_encoder(tiny.image_repo("vit"))
    torch.testing.assert_close(encoder.encode(column["image"]), encoder.encode(images), **CLOSE)


def test_what_is_transparent_lies_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    expected = [(255, 255, 255), (255, 0, 0)]
    for item in (image, tiny.png(image), tiny.png(image.quantize(4))):
        assert [read(item).getpixel((x, 0)) for x in (0, 1)] == expected
    gray = Image.new("L", (1, 1), 9)
    assert read(tiny.png(gray, transparency=9)).getpixel((0, 0)) == (255, 255, 255)
    assert read(gray).getpixel((0, 0)) == (9, 9, 9)


def test_sixteen_bits_are_cut_to_eight_instead_of_saturating():
    import numpy as np

    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    image = read(tiny.png(Image.fromarray(values)))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_exif_orientation_is_honoured():
    image = Image.new("RGB", (4, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    assert read(stream.getvalue()).size == (2, 4)


DAMAGED = tiny.png(tiny.pictures(1)[0])
BAD = {
    "truncated": (DAMAGED[: len(DAMAGED) // 2], "truncated"),
    "no image": (b"GIF or so", "no known image format"),
    "no bytes": (b"", "no bytes"),
    "huge": (tiny.huge_png(20_000, 20_000), "exceeds|pixels"),
    "over the limit": (tiny.huge_png(8193, 8192), "8,193 by 8,192 pixels, needed at most"),
    "thread": (Image.new("1", (1, 1001)), "1 by 1,001 pixels, needed sides that differ at most"),
    "empty": (Image.new("RGB", (0, 5)), "0 by 5"),
    "float": (Image.new("F", (2, 2)), "mode F: convert it"),
    "URL": ("https://example.org/a.png", "is a URL: download it first"),
    "data URL": ("data:image/png;base64,AA", "is a URL"),
    "no file": ("/nowhere/a.png", "No such file"),
    "None": (None, "got NoneType"),
    "nothing in a row": ({"bytes": None, "path": None}, "got NoneType"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_with_row_and_reason(name):
    item, reason = BAD[name]
    encoder = load_encoder(tiny.image_repo("vit"))
    with pytest.raises(InvalidPairsError, match=f"(?s)item 2 cannot be used .*({reason})"):
        encoder.encode([*tiny.pictures(2), item], batch_size=2)


def test_a_flipped_byte_in_a_png_is_refused():
    damaged = bytearray(DAMAGED)
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(InvalidPairsError, match="item 0 cannot be used as an image"):
        read(bytes(damaged))


@pytest.mark.parametrize("item", ["a.png", b"png", {"bytes": b"png"}, tiny.pictures(1)[0]])
def test_one_bare_image_is_refused(item):
    with pytest.raises(InvalidPairsError, match="wrap it in a list"):
        load_encoder(tiny.image_repo("vit")).encode(item)


def test_no_torchvision_is_needed(tmp_path):
    config = json.loads((tiny.image_folder("vit") / "preprocessor_config.json").read_text())
    folder = shutil.copytree(tiny.image_folder("vit"), tmp_path / "copy")
    config["image_processor_type"] += "Fast"
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    latents = load_encoder(folder).encode(tiny.pictures(2))
    expected = load_encoder(tiny.image_folder("vit")).encode(tiny.pictures(2))
    torch.testing.assert_close(latents, expected, **CLOSE)
