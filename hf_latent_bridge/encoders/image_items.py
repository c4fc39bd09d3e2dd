"""Reads images as users hold them, and refuses with row and reason what is broken or huge."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 1 << 26  # 8192 by 8192; PIL itself would warn a little later
_ALPHA = {"LA", "PA", "La", "RGBA", "RGBa"}
_WIDE = {"I", "F"}


def check_images(items: Sequence[Any]) -> list[Any]:
    """The items as a list, if they are not one image alone; none of them is opened.

    Raises:
        InvalidPairsError: One image, path or row instead of a list.
    """
    if isinstance(items, str | bytes | Path | Mapping) or hasattr(items, "convert"):
        raise InvalidPairsError(
            f"encode takes a list of images, got one {type(items).__name__}: wrap it in a list"
        )
    return list(items)


def decode_image(item: Any, row: int = 0) -> "Image":
    """The whole image, upright as its EXIF data says, in its own mode but without a palette.

    Args:
        item: A PIL image, a path, the bytes of a file, or a mapping with "bytes" or "path".
        row: Where it stands in its list, for the error.

    Raises:
        InvalidPairsError: None of these, a URL, no such file, broken, empty, or of more pixels
            than 8192 by 8192, which the header tells before anything is decoded.
    """
    try:
        image = _open(item)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"it has {image.width} by {image.height} pixels, needed at most 2^26 in all"
            )
        if image.width * image.height == 0:
            raise ValueError(f"it is empty: {image.width} by {image.height} pixels")
        return _upright(image)
    except Exception as error:  # decoders of broken files raise anything
        reason = str(error) or type(error).__name__
        raise InvalidPairsError(f"item {row} is no image that can be used: {reason}") from error


def to_rgb(image: "Image") -> "Image":
    """The image in RGB: what is transparent lies on white, what has 16 bits keeps the upper 8."""
    from PIL import Image as pil

    if image.mode in _ALPHA:
        ground = pil.new("RGBA", image.size, "white")
        return pil.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert("RGB")


def _open(item: Any) -> "Image":
    from PIL import Image as pil

    if hasattr(item, "convert") and hasattr(item, "getexif"):
        image: Image = item
        return image
    if isinstance(item, Mapping):
        item = item.get("path") if item.get("bytes") is None else item["bytes"]
    if isinstance(item, bytes | bytearray | memoryview):
        if len(item) == 0:
            raise ValueError("it has no bytes")
        return pil.open(io.BytesIO(item))
    if not isinstance(item, str | Path):
        raise TypeError(
            "needed is a PIL image, a path, the bytes of a file or {'bytes', 'path'}, got "
            f"{type(item).__name__}"
        )
    if "://" in str(item) or str(item).startswith("data:"):
        raise ValueError(f"{str(item)[:60]!r} is a URL: download it first, or pass its bytes")
    return pil.open(item)


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    image.load()
    if image.mode in _WIDE:
        raise ValueError(f"its pixels are of mode {image.mode}: convert it to 8 bits first")
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    return ImageOps.exif_transpose(image)
