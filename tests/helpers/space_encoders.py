"""Random encoders that see which words a text or a picture holds, so that maps between them work.

Their layers are all but idle: a latent is about the mean of what stands for each word, a word's
embedding in a text and a tile of its own texture in a picture.
"""

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tiny_models
import torch

SIDE, TILES = 8, 4  # pixels of a tile, tiles of a side


def calm(model: Any, keep: str) -> Any:
    """The model with small weights everywhere but in the layer that reads words."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if keep not in name and "orm" not in name:
                weight.mul_(0.02)
    return model


@functools.cache
def text_encoder(*, hidden: int, seed: int) -> Any:
    """An encoder of texts, a sentence-transformers repo."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from hf_latent_bridge import load_encoder

    inner = Path(tiny_models.new_folder())
    calm(tiny_models.bert_model(hidden=hidden, seed=seed), "word_embeddings").save_pretrained(inner)
    tiny_models.word_tokenizer().save_pretrained(inner)
    modules = [Transformer(str(inner), max_seq_length=24), Pooling(hidden, pooling_mode="mean")]
    folder = tiny_models.new_folder()
    SentenceTransformer(modules=modules, device="cpu").save(folder)
    repo_id = tiny_models.push_folder(folder, f"acme/texts-{hidden}-{seed}")
    return load_encoder(repo_id, device="cpu")


@functools.cache
def picture_encoder(*, hidden: int) -> Any:
    """An encoder of pictures, a ViT whose patches are the tiles."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    from hf_latent_bridge import load_encoder

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=hidden,
        image_size=SIDE * TILES,
        patch_size=SIDE,
    )
    folder = tiny_models.new_folder()
    model = ViTModel(config, add_pooling_layer=False)
    calm(tiny_models.varied_norms(model), "patch_embeddings").save_pretrained(folder)
    square = {"height": SIDE * TILES, "width": SIDE * TILES}
    ViTImageProcessorPil(size=square).save_pretrained(folder)
    repo_id = tiny_models.push_folder(folder, f"acme/pictures-{hidden}")
    return load_encoder(repo_id, pooling="mean", device="cpu")


def draw(title: str) -> Any:
    """The picture of a title: one tile for each of its up to 16 words, over and over."""
    from PIL import Image

    words = title.split()
    tiles = [_texture(words[place % len(words)]) for place in range(TILES**2)]
    rows = [np.hstack(tiles[start : start + TILES]) for start in range(0, TILES**2, TILES)]
    return Image.fromarray(np.vstack(rows))


def _texture(word: str) -> np.ndarray:
    draw = np.random.default_rng(zlib.crc32(word.encode()))
    return draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
