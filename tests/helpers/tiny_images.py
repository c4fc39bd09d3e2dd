"""Tiny random but real image models and dual encoders, and images to feed them."""

import functools
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from tiny_models import new_folder, push_folder, varied_norms, word_tokenizer

VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {**VIT, "image_size": 32, "patch_size": 8},
    "convnext": {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "mobilenet_v2": {"depth_multiplier": 0.1, "image_size": 32},
    "swin": {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1]}
    | {"num_heads": [2, 2], "window_size": 4},
}


@functools.cache
def image_folder(kind: str) -> Path:
    """A folder with a random image model and its processor."""
    from transformers import AutoConfig, AutoModel, ViTImageProcessor

    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **CONFIGS[kind]))
    folder = Path(new_folder())
    varied_norms(model).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@functools.cache
def image_repo(kind: str) -> str:
    """The same as a repo; returns its id."""
    return push_folder(image_folder(kind), f"alice/tiny-{kind}")


@functools.cache
def clip_folder() -> Path:
    """A folder with a random CLIP: both towers, tokenizer and processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 16
    torch.manual_seed(0)
    text = {**VIT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"eos_token_id": tokenizer.sep_token_id, "projection_dim": 6}
    vision = {**VIT, "image_size": 32, "patch_size": 8, "projection_dim": 6}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6))
    square = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size=square, crop_size=square)
    folder = Path(new_folder())
    varied_norms(model).save_pretrained(folder)
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


@functools.cache
def clip_repo() -> str:
    """The same as a repo; returns its id."""
    return push_folder(clip_folder(), "alice/tiny-clip")


@functools.cache
def siglip_folder() -> Path:
    """A folder with a random SigLIP: both towers, tokenizer and processor."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = word_tokenizer()
    tokenizer.model_max_length = 16
    torch.manual_seed(0)
    text = {**VIT, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    vision = {**VIT, "image_size": 32, "patch_size": 8}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    folder = Path(new_folder())
    varied_norms(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@functools.cache
def siglip_repo() -> str:
    """The same as a repo; returns its id."""
    return push_folder(siglip_folder(), "alice/tiny-siglip")


@functools.cache
def sentence_clip_repo() -> str:
    """CLIP as a sentence-transformers repo; returns its id."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    folder = new_folder()
    SentenceTransformer(modules=[Transformer(str(clip_folder()))], device="cpu").save(folder)
    return push_folder(folder, "alice/tiny-clip-sentence")


def pictures(n: int, *, size: tuple[int, int] = (40, 30)) -> list[Any]:
    """Random RGB images."""
    from PIL import Image

    draw = torch.Generator().manual_seed(7)
    shape = (n, size[1], size[0], 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw).numpy()
    return [Image.fromarray(image) for image in pixels]


def png(image: Any, **options: Any) -> bytes:
    """The bytes of an image as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes whose header claims a size that no pixels follow."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
