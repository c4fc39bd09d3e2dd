"""What two autoencoders, and chains of one's encoder and the other's decoder, draw of a picture."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import look
import numpy as np
import torch
from limits import check_choice, check_number
from parts import Parts
from PIL import Image, ImageOps, ImageStat

from hf_latent_bridge import (
    AffineTranslator,
    ConvEncoder,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
    SpaceSpec,
    Translator,
)

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = "published"
METHODS: dict[str, Callable[[], Translator]] = {
    "ortho": OrthoTranslator,
    "linear": LinearTranslator,
    "l_ortho": LOrthoTranslator,
    "affine": partial(AffineTranslator, alpha=0.01),
}
ANCHORS = (100, 1000)
PER_CLASS = 2
SIDE = 160  # pixels of a shown picture, at least

Shown = list[tuple[Image.Image, str]]
Facts = list[dict[str, str]]


def choose_items(parts: Parts) -> Shown:
    """The first pictures of each class that nothing was fitted on, with the name of the class."""

    def load() -> Shown:
        rows = parts.latents("demo-fashion", "test").rows
        labels, names = rows["label"][:], rows.features["label"].names
        chosen = [
            (row, name)
            for label, name in enumerate(names)
            for row in [row for row, value in enumerate(labels) if value == label][:PER_CLASS]
        ]
        return [(rows[row]["image"], name) for row, name in chosen]

    return parts.once("items of demo-fashion", load)


def reconstruct_by_each(
    parts: Parts, picture: Image.Image, method: str, anchors: float
) -> tuple[Shown, Facts]:
    """What the decoders draw from the encoders' latents of a picture.

    Args:
        parts: What the Space has loaded.
        picture: Of any size; one on a light ground is inverted, as the networks know black ones.
        method: "published", or the method of a translator to fit now.
        anchors: How many pictures to fit it on.

    Returns:
        Five pictures with captions, and the errors and times as facts.
    """
    published = parts.translator("autoencoder-a-to-b")
    translator, fitting = _translator(parts, published, method, anchors)
    a, b = _encoder(parts, published.source_), _encoder(parts, published.target_)
    draw_a, draw_b = parts.decoder("autoencoder-a"), parts.decoder("autoencoder-b")
    small = as_the_networks_know(picture, a.shape.image_size)
    seen = torch.from_numpy(np.array(small, dtype=np.float32) / 255)[None]
    start = time.perf_counter()
    latents = a.encode([small])
    stitched = draw_b(translator.transform(latents))
    took = look.milliseconds(time.perf_counter() - start)
    drawn = {
        "A itself": draw_a(latents),
        "B itself": draw_b(b.encode([small])),
        "A to B, translated": stitched,
        "A to B, untranslated": draw_b(parts.untranslated(a.space.dim, b.space.dim)(latents)),
    }
    errors = {name: float(torch.nn.functional.mse_loss(d[0], seen)) for name, d in drawn.items()}
    shown = [(_enlarged(seen), "Input")]
    shown += [(_enlarged(d[0]), f"{name}: {errors[name]:.4f}") for name, d in drawn.items()]
    facts = [{"name": f"MSE, {name}", "value": f"{error:.4f}"} for name, error in errors.items()]
    done = {"name": "encoded, translated and drawn in", "value": took}
    return shown, [*facts, *fitting, done]


def as_the_networks_know(picture: Image.Image, size: int) -> Image.Image:
    """The picture in grey, light on black, as a square of `size` pixels a side."""
    clear = picture.convert("RGBA")
    ground = Image.new("RGBA", clear.size, "black")
    grey = Image.alpha_composite(ground, clear).convert("L")
    width, height = grey.size
    corners = [grey.crop((x, y, x + 1, y + 1)) for x in (0, width - 1) for y in (0, height - 1)]
    if sum(ImageStat.Stat(corner).mean[0] > 127 for corner in corners) > 2:
        grey = ImageOps.invert(grey)
    return grey if grey.size == (size, size) else ImageOps.pad(grey, (size, size))


def _translator(
    parts: Parts, published: Translator, method: str, anchors: float
) -> tuple[Translator, Facts]:
    """The published translator, or one fitted now and how long that took."""
    check_choice(method, (PUBLISHED, *METHODS), "The translator")
    n = check_number(anchors, *ANCHORS, "The number of anchors")
    if method == PUBLISHED:
        return published, []
    latents = parts.latents("demo-fashion", "train")
    x, y = latents.source[:n], latents.target[:n]
    start = time.perf_counter()
    fitted = METHODS[method]().fit(x, y, source=published.source_, target=published.target_)
    took = look.milliseconds(time.perf_counter() - start)
    return fitted, [{"name": f"{method} fitted on {len(x):,} pictures in", "value": took}]


def _encoder(parts: Parts, space: SpaceSpec) -> ConvEncoder:
    def load() -> ConvEncoder:
        return ConvEncoder.from_pretrained(str(space.repo_id), revision=space.revision)

    return parts.once(space, load)


def _enlarged(drawn: "Tensor") -> Image.Image:
    """A drawn picture (1, size, size), each of its pixels a square of several."""
    pixels = (drawn[0] * 255).round().to(torch.uint8).numpy()
    side = -(-SIDE // len(pixels)) * len(pixels)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
