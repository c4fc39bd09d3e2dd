"""Images as an autoencoder takes them: one tensor of one size, with values between 0 and 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.encoders.image_items import check_images, decode_image, to_rgb
from hf_latent_bridge.errors import InvalidPairsError

_MODES = {1: "L", 3: "RGB"}


def read_images(
    items: Sequence[Any] | Tensor, channels: int | None = None, size: int | None = None
) -> Tensor:
    """Images as a float tensor (n, channels, size, size) with values between 0 and 1.

    Pictures are converted and resized; arrays and tensors must have the size already.

    Args:
        items: Pictures as `load_encoder`'s image encoders take them, arrays or tensors
            (channels, size, size), or an array or tensor of all.
        channels: How many colours; None for what the first image has, of which there must be one.
        size: Height and width; None likewise.

    Raises:
        InvalidPairsError: Something else, of another size, or values beyond 0 and 1.
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
