"""Openclipart as encoders of titles and of pictures see it, and splits that keep folders whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from common import MAX_LENGTH, MINILM, MPNET
from torch import Tensor

from experiments.views import encode

Names = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

DATASET = "local/openclipart"
TEXT = {
    "minilm": MINILM,
    "mpnet": MPNET,
}
IMAGE = {"mobilenet-v2": "local/mobilenet-v2", "efficientnet-lite0": "local/efficientnet-lite0"}


@dataclass(frozen=True)
class Collection:
    """Items that were encoded as titles and as pictures.

    Attributes:
        titles: Latents (n, d) by the text encoder's name.
        pictures: Latents (n, d) by the image encoder's name.
        categories: (n,), the classes.
        folders: (n,), groups of items that resemble each other.
    """

    titles: Mapping[str, Tensor]
    pictures: Mapping[str, Tensor]
    categories: Names
    folders: Names

    def __len__(self) -> int:
        return len(self.folders)

    @property
    def latents(self) -> dict[str, Tensor]:
        """Latents (n, d) by the encoder's name."""
        return {**self.titles, **self.pictures}

    def directions(self) -> Iterator[tuple[str, str, str]]:
        """Every pair of encoders, both ways: the direction, and the names of source and target."""
        for title, picture in product(self.titles, self.pictures):
            yield "titles → pictures", title, picture
            yield "pictures → titles", picture, title


def openclipart(encoders: Sequence[str]) -> Collection:
    """The whole collection by the named encoders, from the embedded Hub."""
    from hf_latent_bridge import load_encoder, load_pairs

    pairs = load_pairs(DATASET, split="train", source="image", target="title")
    folders = load_pairs(DATASET, split="train", source="category", target="folder")
    pictures, titles = list(pairs.source), list(pairs.target)
    return Collection(
        {
            name: encode(load_encoder(TEXT[name], max_length=MAX_LENGTH), titles)
            for name in encoders
            if name in TEXT
        },
        {name: encode(load_encoder(IMAGE[name]), pictures) for name in encoders if name in IMAGE},
        np.array(list(folders.source)),
        np.array(list(folders.target)),
    )


def halves_of_digits() -> Collection:
    """scikit-learn's digits: the pixels of the upper half are the title of the lower half.

    Fifty digits in a row, which one writer wrote, count as a folder.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(digits.data).float()
    folders = np.arange(len(pixels)) // 50
    return Collection({"upper": pixels[:, :32]}, {"lower": pixels[:, 32:]}, digits.target, folders)


def hold_out(groups: Names, n: int, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to fit on, and at least `n` rows of other groups; both in random order.

    Args:
        groups: The group of each row, (rows,).
        n: How many rows to hold out at least.
        seed: Seeds which groups, and the order.
    """
    draw = np.random.default_rng(seed)
    names, sizes = np.unique(groups, return_counts=True)
    order = draw.permutation(len(names))
    needed = int(np.searchsorted(np.cumsum(sizes[order]), n)) + 1
    rows = draw.permutation(len(groups))
    apart = np.isin(groups[rows], names[order[:needed]])
    return rows[~apart], rows[apart]
