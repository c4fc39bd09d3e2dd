"""Tiny random classifiers of many transformers architectures, and repos of some of them."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models
import torch

LABELS = {0: "sport", 1: "business", 2: "tech"}
SMALL = {
    "vocab_size": 99,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
    "pad_token_id": 1,
}
VIT = {k: SMALL[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
VIT |= {"intermediate_size": 24, "image_size": 32, "patch_size": 8}

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", SMALL),
    "RoBERTa": ("roberta", SMALL),
    "DistilBERT": (
        "distilbert",
        {"vocab_size": 99, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    ),
    "DeBERTa": ("deberta", SMALL),
    "DeBERTa-v2": ("deberta-v2", SMALL),
    "ELECTRA": ("electra", {**SMALL, "embedding_size": 16}),
    "MPNet": ("mpnet", SMALL),
    "ALBERT": ("albert", {**SMALL, "embedding_size": 8}),
    "T5": (
        "t5",
        {"vocab_size": 99, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        | {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0},
    ),
    "BART": (
        "bart",
        {"vocab_size": 99, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24}
        | {"decoder_ffn_dim": 24, "max_position_embeddings": 64, "pad_token_id": 1},
    ),
    "Llama": ("llama", {**SMALL, "num_key_value_heads": 2}),
    "GPT-2": (
        "gpt2",
        {"vocab_size": 99, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
        | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    ),
}
IMAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("vit", VIT),
    "DeiT": ("deit", {**VIT, "architectures": ["DeiTForImageClassification"]}),
    "MobileNetV2": ("mobilenet_v2", {"image_size": 32, "depth_multiplier": 0.25}),
    "ConvNeXt": ("convnext", {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}),
    "ResNet": (
        "resnet",
        {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    ),
    "Swin": (
        "swin",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
        | {"window_size": 4},
    ),
}
SWIFTFORMER = ("swiftformer", {"embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]})


def build(kind: str, modality: str, config: dict[str, Any], **options: Any) -> Any:
    """A random classifier of one architecture."""
    import transformers

    torch.manual_seed(0)
    options = {"num_labels": 3, **options}
    made = transformers.AutoConfig.for_model(kind, **config, **options)
    loader = {
        "text": transformers.AutoModelForSequenceClassification,
        "image": transformers.AutoModelForImageClassification,
    }[modality]
    return loader.from_config(made).eval()


def text_inputs() -> dict[str, torch.Tensor]:
    """Three padded rows of random tokens; each real row ends with the end token 2."""
    ids = torch.randint(3, 99, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, length in enumerate((12, 7, 4)):
        ids[row, length - 1] = 2
        ids[row, length:], mask[row, length:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


def image_inputs() -> dict[str, torch.Tensor]:
    """Three random images."""
    return {"pixel_values": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))}


@functools.cache
def text_folder(kind: str = "bert", **options: Any) -> Path:
    """A folder with a classifier of texts and its tokenizer."""
    tokenizer = tiny_models.word_tokenizer()
    config = {**SMALL, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return _save(build(kind, "text", config, id2label=LABELS, **options), tokenizer)


@functools.cache
def gpt2_folder() -> Path:
    """A folder with a classifier whose tokenizer cannot pad."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_models.gpt2_folder())
    config = {"vocab_size": len(tokenizer), "n_positions": 32, "n_embd": 12, "n_layer": 2}
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return _save(build("gpt2", "text", {**config, "n_head": 2, **ends}, id2label=LABELS), tokenizer)


@functools.cache
def image_folder(kind: str = "vit") -> Path:
    """A folder with a classifier of images and its processor."""
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    configs: dict[str, dict[str, Any]] = dict([*IMAGE.values(), SWIFTFORMER])
    return _save(build(kind, "image", configs[kind], id2label=LABELS), processor)


@functools.cache
def classifier_repo(make: Callable[..., Path], kind: str) -> str:
    """One of the folders as a repo; returns its id."""
    return tiny_models.push_folder(make(kind), f"alice/tiny-{kind}-classifier")


def _save(*parts: Any) -> Path:
    _folders.append(tempfile.TemporaryDirectory(prefix="tiny-classifier-"))
    for part in parts:
        part.save_pretrained(_folders[-1].name)
    return Path(_folders[-1].name)


_folders: list[tempfile.TemporaryDirectory[str]] = []
