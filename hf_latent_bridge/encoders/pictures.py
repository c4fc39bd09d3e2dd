"""Decodes images, from any form in which an item may come."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import as_list
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 1 << 26  # 8192 by 8192; PIL itself would warn a little later
MAX_RATIO = 1000  # of its sides; a processor that enlarges the short one would need gigabytes
_ALPHA = {"LA", "PA", "La", "RGBA", "RGBa"}
_WIDE = {"I", "F"}
_MODES = {1: "L", 3: "RGB"}


def check_images(items: Sequence[Any]) -> list[Any]:
    """The items as a list, if they are not a single image; they are not opened.

    Raises:
        InvalidPairsError: One image, path or row instead of a list.
    """
    if isinstance(items, str | bytes | Path | Mapping) or hasattr(items, "convert"):
        raise InvalidPairsError(
            f"encode takes a list of images, got one {type(items).__name__}: wrap it in a list"
        )
    return as_list(items)


def decode_image(item: Any, row: int = 0) -> "Image":
    """The whole image, upright as its EXIF data says, in its own mode but without a palette.

    Args:
        item: A PIL image, a path, the bytes of a file, or a mapping with "bytes" or "path".
        row: Its position in its list, for the error.

    Raises:
        InvalidPairsError: Not one of these, a URL, a missing or damaged file, an empty image, one
            of more pixels than 8192 by 8192, or one with a side over 1,000 times the other (read
            from the header, before decoding).
        MissingExtraError: Pillow is not installed.
    """
    require("encoders", "PIL", purpose="reading pictures")
    with _named(row):
        image = _open(item)
        _check_shape(image.width, image.height)
        return _upright(image)


def count_pixels(item: Any, row: int = 0) -> int:
    """Width times height of an image, read from its header alone.

    Args:
        item: As for `decode_image`.
        row: Its position in its list, for the error.

    Raises:
        InvalidPairsError: As for `decode_image`, save for a file that is damaged further down.
    """
    with _named(row):
        if hasattr(item, "getexif"):
            return int(item.width * item.height)
        with _open(item) as image:
            return image.width * image.height


@contextmanager
def _named(row: int) -> Iterator[None]:
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:  # whose text is the address of an object
        raise InvalidPairsError(
            f"item {row} cannot be used as an image: its bytes are of no known image format"
        ) from error
    except Exception as error:  # decoders of broken files raise anything
        reason = str(error) or type(error).__name__
        raise InvalidPairsError(f"item {row} cannot be used as an image: {reason}") from error


def _check_shape(width: int, height: int) -> None:
    size = f"{width:,} by {height:,} pixels"
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {size}, needed at most 2^26 in all")
    if width * height == 0:
        raise ValueError(f"it is empty: {size}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"it has {size}, needed sides that differ at most {MAX_RATIO:,}-fold")


def to_rgb(image: "Image") -> "Image":
    """The image in RGB: transparent pixels on white, the upper 8 of 16 bits."""
    from PIL import Image as pil

    if image.mode in _ALPHA:
        ground = pil.new("RGBA", image.size, "white")
        return pil.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert("RGB")


def read_images(
    items: Sequence[Any] | Tensor, channels: int | None = None, size: int | None = None
) -> Tensor:
    """Images as a float tensor (n, channels, size, size) with values between 0 and 1.

    Pictures are converted and resized; arrays and tensors must have the size already.

    Args:
        items: Pictures as `load_encoder`'s image encoders take them, arrays or tensors
            (channels, size, size), or an array or tensor of all.
        channels: How many colours; None for those of the first image.
        size: Height and width; None for those of the first image.

    Raises:
        InvalidPairsError: Not an image, another size, values beyond 0 and 1, or no image where
            the first one should give channels or size.
    """
    if isinstance(items, Tensor | np.ndarray):
        images = _scaled(torch.as_tensor(items))
    else:
        parts = [
            _read_one(row, item, channels, size) for row, item in enumerate(check_images(items))
        ]
        if len({part.shape for part in parts}) > 1:
            raise InvalidPairsError(
                f"images must be of one size, got {sorted({tuple(p.shape) for p in parts})}"
            )
        none = torch.empty(0, channels or 1, size or 1, size or 1)
        images = torch.stack(parts) if parts else none
    if len(images) == 0 and (channels is None or size is None):
        raise InvalidPairsError("an autoencoder needs at least one image, got none")
    _check(images, channels, size)
    return images


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


def _read_one(row: int, item: Any, channels: int | None, size: int | None) -> Tensor:
    if isinstance(item, Tensor | np.ndarray):
        return _scaled(torch.as_tensor(item))
    image = decode_image(item, row)
    grey = image.mode in ("1", "L") or image.mode.startswith("I;16")
    mode = _MODES.get(channels or (1 if grey else 3))
    if mode is None:
        raise InvalidPairsError(f"pictures have 1 or 3 channels, not the {channels} needed")
    image = to_rgb(image).convert(mode)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size))
    pixels = torch.from_numpy(np.array(image))
    return _scaled(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))


def _scaled(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    if not pixels.is_floating_point():
        raise InvalidPairsError(f"images must be uint8 or floating point, got {pixels.dtype}")
    return pixels.float()


def _check(images: Tensor, channels: int | None, size: int | None) -> None:
    square = images.ndim == 4 and images.shape[2] == images.shape[3]
    expected = (channels or images.shape[1], size or images.shape[2]) if square else ()
    if not square or tuple(images.shape[1:3]) != expected:
        raise InvalidPairsError(
            f"images must be of shape (n, {channels or 'channels'}, {size or 'size'}, "
            f"{size or 'size'}), got {tuple(images.shape)}"
        )
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise InvalidPairsError("images must have values between 0 and 1 (or be uint8)")
