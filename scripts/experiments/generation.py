"""Stitches the encoder of one autoencoder to the decoder of another, and prints the error.

Convolutional autoencoders of two sizes and several seeds learn Fashion-MNIST; then each encoder is
stitched to the decoder of each other one by every method.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING

from common import ROOT, Table, embedded_hub, positive

from experiments.methods import fit_all
from experiments.picture_grid import draw_grid
from experiments.results_page import Section, add_shared_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from hf_latent_bridge.autoencoder import Autoencoder

Key = tuple[str, int]  # size and seed of an autoencoder
Errors = dict[str, dict[str, list[float]]]  # of the ordered pairs, by row and column

DATASET = "local/fashion-mnist"
PICTURE = ROOT / "docs" / "images" / "autoencoders.png"
SIZES = {"narrow": (8, 16), "wide": (16, 32)}
SHOWN = 12
ALT = "Rows of clothes: the input, then what each method gives"


@dataclass(frozen=True)
class Images:
    """Grey pictures (n, 1, side, side) with values between 0 and 1.

    Attributes:
        train: The autoencoders' training set.
        anchors: The translators' training set; no autoencoder has seen it.
        test: The pictures to reconstruct.
    """

    train: "Tensor"
    anchors: "Tensor"
    test: "Tensor"


def reconstruct(autoencoder: "Autoencoder", images: Images) -> "Tensor":
    """The test pictures by an autoencoder's own two halves."""
    return autoencoder.decoder(autoencoder.encoder.encode(images.test))


def stitch_all(source: "Autoencoder", target: "Autoencoder", images: Images) -> "dict[str, Tensor]":
    """The test pictures by the source's encoder, each method, and the target's decoder."""
    from hf_latent_bridge import stitch

    x, y = source.encoder.encode(images.anchors), target.encoder.encode(images.anchors)
    chains = {**fit_all(x, y), "untranslated": None}
    return {
        name: stitch(source.encoder, translator, target.decoder)(images.test)
        for name, translator in chains.items()
    }


def measure(trained: "Mapping[Key, Autoencoder]", images: Images) -> Errors:
    """Mean squared errors of all ordered pairs, by row and by the two sizes that meet."""
    baseline = images.train.mean(0, keepdim=True).expand_as(images.test)
    native = {key: reconstruct(autoencoder, images) for key, autoencoder in trained.items()}
    errors: Errors = {}
    for source, target in permutations(trained, 2):
        made = stitch_all(trained[source], trained[target], images)
        rows = {"native": native[target], **made, "mean image": baseline}
        for row, pictures in rows.items():
            error = float((pictures - images.test).square().mean())
            column = f"{source[0]} → {target[0]}"
            errors.setdefault(row, {}).setdefault(column, []).append(error)
    return errors


def to_table(errors: Errors) -> Table:
    """One row per method, one column per pair of sizes."""
    columns = sorted(errors["native"])
    table = Table(["", *columns])
    for row, cells in errors.items():
        table.add(row, [[1000 * error for error in cells[column]] for column in columns])
    return table


def train(images: Images, *, seeds: int, epochs: int, latent_dim: int) -> "dict[Key, Autoencoder]":
    """One autoencoder for each seed and size; no two start from the same weights."""
    from hf_latent_bridge import fit_autoencoder

    trained = {}
    for number, (seed, size) in enumerate(product(range(seeds), SIZES)):
        trained[size, seed] = fit_autoencoder(
            images.train, latent_dim=latent_dim, widths=SIZES[size], epochs=epochs, seed=number
        )
        print(f"trained: {size}, {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    return trained


def draw(source: "Autoencoder", target: "Autoencoder", images: Images) -> None:
    """Saves a picture of a few test images and their reconstructions."""
    few = Images(images.train, images.anchors, images.test[:SHOWN])
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    first = {"input": few.test, "native": reconstruct(target, few)}
    draw_grid({**first, **stitch_all(source, target, few)}).save(PICTURE, optimize=True)


def fashion(n_train: int, n_anchors: int, n_test: int) -> Images:
    """Fashion-MNIST from the embedded Hub."""
    known = read_pictures("train", n_train + n_anchors)
    return Images(known[:n_train], known[n_train:], read_pictures("test", n_test))


def read_pictures(split: str, n: int) -> "Tensor":
    """A sample of a split, (n, 1, 28, 28)."""
    import numpy as np
    import torch

    from hf_latent_bridge import load_pairs

    pairs = load_pairs(DATASET, split=split, source="image", max_pairs=n)
    pixels = np.stack([np.asarray(picture) for picture in pairs.source])
    return torch.from_numpy(pixels)[:, None].float() / 255


def digits() -> Images:
    """scikit-learn's 1,797 digits, eight by eight."""
    import torch
    from sklearn.datasets import load_digits

    pictures = torch.from_numpy(load_digits().images).float()[:, None] / 16
    return Images(pictures[:1000], pictures[1000:1400], pictures[1400:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_shared_arguments(parser)
    for name, default, text in (
        ("images", 5000, "to train on"),
        ("anchors", 1000, "pairs to fit on"),
        ("test", 1000, "images to reconstruct"),
        ("epochs", 8, "passes over the images"),
    ):
        parser.add_argument(
            f"--{name}", type=positive, default=default, help=f"{text} (default {default})"
        )


def run(options: argparse.Namespace) -> int:
    """Trains, stitches and prints; draws the picture if the tables are to be written."""
    section = Section("generation")
    if options.quick:
        images, latent_dim = digits(), 16
    else:
        with embedded_hub(["fashion-mnist"]):
            images = fashion(options.images, options.anchors, options.test)
        latent_dim = 64
    trained = train(images, seeds=options.seeds, epochs=options.epochs, latent_dim=latent_dim)
    sizes = (
        f"{len(images.train):,} images and {options.epochs} epochs to train, {latent_dim} wide "
        f"latents, {len(images.anchors):,} anchors, {len(images.test):,} test images"
    )
    section.add(
        "Mean squared error in thousandths, encoder → decoder; mean ± deviation over the ordered "
        f"pairs, {options.seeds} autoencoders of each size: {sizes}",
        to_table(measure(trained, images)),
    )
    if options.write:
        draw(trained["narrow", 0], trained["wide", 0], images)
        section.add("A narrow encoder and a wide decoder", f"![{ALT}](images/{PICTURE.name})")
        section.write(options.command_line)
    return 0
