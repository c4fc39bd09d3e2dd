"""Draws a picture by two autoencoders, and by one's encoder and the other's decoder."""

import time
from typing import TYPE_CHECKING

import look
import numpy as np
import torch
from limits import check_choice, check_number
from methods import methods
from PIL import Image, ImageOps, ImageStat
from repos import DEVICE, Repos

from hf_latent_bridge import ConvEncoder, SpaceSpec, Translator

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = "published"
ANCHORS = (100, 1000)
PER_CLASS = 2
SIDE = 160  # pixels of a shown picture, at least

Shown = list[tuple[Image.Image, str]]
Facts = list[dict[str, str]]


def choose_items(repos: Repos) -> list[Image.Image]:
    """The first pictures of each class, of those that nothing was trained or fitted on."""

    def load() -> list[Image.Image]:
        rows = repos.latents("demo-fashion", "test").rows
        labels = rows["label"][:]
        of_each = (
            [row for row, value in enumerate(labels) if value == label][:PER_CLASS]
            for label in sorted(set(labels))
        )
        return [rows[row]["image"] for chosen in of_each for row in chosen]

    return repos.once("items of demo-fashion", load)


def reconstruct_by_each(
    repos: Repos, picture: Image.Image, method: str, anchors: float
) -> tuple[Shown, Facts]:
    """Draws a picture by each decoder, from the latents of each encoder.

    Args:
        repos: The repos of the Space.
        picture: Of any size; one on a light ground is inverted, as the networks know black ones.
        method: "published", or the method of a translator to fit now.
        anchors: How many pictures to fit it on.

    Returns:
        Five pictures with captions, and the errors and times as facts.
    """
    published = repos.translator("autoencoder-a-to-b")
    translator, fitting = _translator(repos, published, method, anchors)
    a, b = _encoder(repos, published.source_), _encoder(repos, published.target_)
    draw_a, draw_b = repos.decoder("autoencoder-a"), repos.decoder("autoencoder-b")
    small = as_the_networks_know(picture, a.shape.image_size)
    seen = torch.from_numpy(np.array(small, dtype=np.float32) / 255)[None]
    start = time.perf_counter()
    latents = a.encode([small])
    stitched = draw_b(translator.transform(latents))
    took = look.milliseconds(time.perf_counter() - start)
    drawn = {
        "A itself": draw_a(latents),
        "B itself": draw_b(b.encode([small])),
        "translated": stitched,
        "untranslated": draw_b(repos.untranslated(a.space.dim, b.space.dim)(latents)),
    }
    errors = {name: float(torch.nn.functional.mse_loss(d[0], seen)) for name, d in drawn.items()}
    shown = [(_enlarged(seen), "input")]
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
    repos: Repos, published: Translator, method: str, anchors: float
) -> tuple[Translator, Facts]:
    """The published translator, or one fitted now and how long that took."""
    check_choice(method, (PUBLISHED, *methods()), "The translator")
    n = check_number(anchors, *ANCHORS, "The number of anchors")
    if method == PUBLISHED:
        return published, []
    latents = repos.latents("demo-fashion", "train")
    x, y = latents.source[:n], latents.target[:n]
    start = time.perf_counter()
    translator = methods()[method]
    if method == published.translator_type:
        translator.set_params(**published.get_params())
    fitted = translator.fit(x, y, source=published.source_, target=published.target_)
    took = look.milliseconds(time.perf_counter() - start)
    return fitted, [{"name": f"{method} fitted on {len(x):,} pictures in", "value": took}]


def _encoder(repos: Repos, space: SpaceSpec) -> ConvEncoder:
    def load() -> ConvEncoder:
        name, revision = str(space.repo_id), space.revision
        return ConvEncoder.from_pretrained(name, revision=revision, device=DEVICE)

    return repos.once(space, load)


def _enlarged(drawn: "Tensor") -> Image.Image:
    """A drawn picture (1, size, size), each of its pixels a square of several."""
    pixels = (drawn[0] * 255).round().to(torch.uint8).numpy()
    side = -(-SIDE // len(pixels)) * len(pixels)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
