"""Draws rows of small grey pictures with a label before each row."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

GAP = 4
FONT_SIZE = 15
LABEL_WIDTH = 118
SIDE = 56


def draw_grid(rows: "Mapping[str, Tensor]") -> "Image.Image":
    """One row per label, black on white.

    Args:
        rows: Label -> grey pictures (n, 1, height, width) with values between 0 and 1, as many in
            each row.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = max(map(len, rows.values()))
    step = SIDE + GAP
    size = LABEL_WIDTH + columns * step, GAP + len(rows) * step
    canvas = Image.new("L", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_SIZE)
    for row, (label, pictures) in enumerate(rows.items()):
        top = GAP + row * step
        draw.text((GAP, top + SIDE // 2), label, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(_tiles(pictures)):
            canvas.paste(picture, (LABEL_WIDTH + column * step, top))
    return canvas


def _tiles(pictures: "Tensor") -> "list[Image.Image]":
    """Ink on white, enlarged without smoothing."""
    from PIL import Image

    pixels = (255 - pictures[:, 0] * 255).round().byte().numpy()
    return [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.NEAREST) for p in pixels]
