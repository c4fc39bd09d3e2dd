"""The classification tasks: datasets as several encoders see them, and digits for `--quick`."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from assets.cache import cache_root
from common import MAX_LENGTH, MINILM, MPNET
from torch import Tensor

SAMPLE_SEED = 0
TRAIN_DIGITS = 1200
NARROW, WIDE = "narrow", "wide"
_ITEMS_AT_ONCE = 256


@dataclass(frozen=True)
class Views:
    """Rows of a dataset as several encoders see them.

    Attributes:
        latents: By the encoder's name, (n, d) each, row by row of the same items.
        labels: (n,), the classes.
    """

    latents: Mapping[str, Tensor]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)


def load_views(
    dataset: str, split: str, column: str, encoders: Mapping[str, Any], *, size: int
) -> Views:
    """Encodes a sample of a dataset, the same at every run, by each encoder.

    Args:
        dataset: Repo id of a dataset with a column "label".
        split: Its split.
        column: The column to encode.
        encoders: By name, from `hf_latent_bridge.load_encoder`.
        size: Rows to draw; all where there are fewer.
    """
    from hf_latent_bridge import load_pairs

    pairs = load_pairs(
        dataset, split=split, source=column, target="label", max_pairs=size, seed=SAMPLE_SEED
    )
    items = list(pairs.source)
    latents = {name: encode(encoder, items) for name, encoder in encoders.items()}
    return Views(latents, [int(label) for label in pairs.target])


def encode(encoder: Any, items: Sequence[Any]) -> Tensor:
    """Latents (n, d) of texts or pictures, from the cache if they were encoded before.

    The cache is written every 256 items, so that an interrupted run continues from there.

    Args:
        encoder: From `hf_latent_bridge.load_encoder`.
        items: Texts or pictures.
    """
    from hf_latent_bridge import CachedEncoder

    cached = CachedEncoder(encoder, cache_root() / "latents")
    start = time.perf_counter()
    chunks = [
        cached.encode(items[first : first + _ITEMS_AT_ONCE])
        for first in range(0, len(items), _ITEMS_AT_ONCE)
    ]
    took = time.perf_counter() - start
    print(f"{len(items):,} items by {encoder.space.repo_id}: {took:.1f} s", file=sys.stderr)
    return torch.cat(chunks).cpu()


@dataclass(frozen=True)
class Task:
    """A dataset on the embedded Hub, and the encoders that read it.

    Attributes:
        title: Its name in tables.
        dataset: Its repo id; it has the splits "train" and "test" and a column "label".
        column: The column to encode.
        encoders: Repo ids by the names that tables use.
        assets: Names in `assets.CATALOGUE` that the Hub must hold.
        anchors: How many to draw from the train split.
        options: Keywords for `load_encoder`.
    """

    title: str
    dataset: str
    column: str
    encoders: Mapping[str, str]
    assets: tuple[str, ...]
    anchors: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, *, train: int, test: int) -> tuple[Views, Views]:
        """Latents of samples of the train and the test split, by each encoder.

        Args:
            train: Rows of the train split.
            test: Rows of the test split.
        """
        from hf_latent_bridge import load_encoder

        encoders = {
            name: load_encoder(repo_id, **self.options) for name, repo_id in self.encoders.items()
        }
        first, second = (
            load_views(self.dataset, split, self.column, encoders, size=size)
            for split, size in (("train", train), ("test", test))
        )
        return first, second


_TEXT: dict[str, Any] = {
    "column": "text",
    "encoders": {
        "MiniLM": MINILM,
        "MPNet": MPNET,
    },
    "options": {"max_length": MAX_LENGTH},
    "anchors": 1000,
}
TASKS = {
    "bbc-news": Task("BBC News", "local/bbc-news", assets=("minilm", "mpnet", "bbc-news"), **_TEXT),
    "20newsgroups": Task(
        "20 newsgroups", "local/20newsgroups", assets=("minilm", "mpnet", "20newsgroups"), **_TEXT
    ),
    "fashion-mnist": Task(
        "Fashion-MNIST",
        "local/fashion-mnist",
        column="image",
        encoders={
            "MobileNetV2": "local/mobilenet-v2",
            "EfficientNet-Lite0": "local/efficientnet-lite0",
        },
        assets=("mobilenet-v2", "efficientnet-lite0", "fashion-mnist"),
        anchors=500,
    ),
}


@cache
def digit_views() -> tuple[Views, Views]:
    """1,200 digits to train and 597 to test, as two small autoencoders see them."""
    from sklearn.datasets import load_digits

    from hf_latent_bridge import fit_autoencoder

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / 16)[:, None]
    labels = digits.target.tolist()
    encoders = {
        NARROW: fit_autoencoder(images[:TRAIN_DIGITS], latent_dim=24, epochs=8, seed=0).encoder,
        WIDE: fit_autoencoder(images[:TRAIN_DIGITS], latent_dim=32, epochs=8, seed=1).encoder,
    }
    train, test = (
        Views({name: encoder.encode(images[rows]) for name, encoder in encoders.items()}, some)
        for rows, some in (
            (slice(TRAIN_DIGITS), labels[:TRAIN_DIGITS]),
            (slice(TRAIN_DIGITS, None), labels[TRAIN_DIGITS:]),
        )
    )
    return train, test
