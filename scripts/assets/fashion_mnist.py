"""Turns Debian's IDX files of Fashion-MNIST into an image data set."""

import gzip
import io
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import FASHION_MNIST
from assets.cache import AssetError, scratch
from assets.download import unpack_debian
from assets.repo_files import copy_card, png_cell, write_split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "usr/share/datasets/fashion-mnist"
SPLITS = {"train": ("train", 60000), "test": ("t10k", 10000)}
UNSIGNED_BYTE = 8
LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def build(repo: Path) -> None:
    """Write the data set repo of Fashion-MNIST."""
    from datasets import ClassLabel, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=list(LABELS))})
    with scratch(repo / "unpacked") as folder:
        unpack_debian(FASHION_MNIST, folder)
        for split, (prefix, count) in SPLITS.items():
            pixels = read_idx(folder / FOLDER / f"{prefix}-images-idx3-ubyte.gz")
            labels = read_idx(folder / FOLDER / f"{prefix}-labels-idx1-ubyte.gz")
            if not len(pixels) == len(labels) == count:
                raise AssetError(
                    f"Fashion-MNIST {split}: needed {count} pictures and labels, "
                    f"found {len(pixels)} and {len(labels)}"
                )
            images = [png_cell(_png(picture)) for picture in pixels]
            write_split(repo, split, {"image": images, "label": labels.tolist()}, features)
    copy_card("fashion-mnist", repo)


def read_idx(path: Path) -> "NDArray[np.uint8]":
    """Read a gzipped IDX file of unsigned bytes."""
    import numpy as np

    data = gzip.decompress(path.read_bytes())
    zero, kind, dimensions = struct.unpack_from(">HBB", data)
    if zero != 0 or kind != UNSIGNED_BYTE:
        raise AssetError(f"{path.name}: needed an IDX file of unsigned bytes, found {data[:4]!r}")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    start = 4 + 4 * dimensions
    if len(data) - start != math.prod(shape):
        raise AssetError(
            f"{path.name}: needed {math.prod(shape)} bytes for {shape}, found {len(data) - start}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _png(picture: "NDArray[np.uint8]") -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
