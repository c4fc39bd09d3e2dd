"""The classification tasks: a dataset, and encoders whose latents a head can be trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.latents import Views, load_views

MAX_LENGTH = 64  # tokens, for all text encoders alike


@dataclass(frozen=True)
class Task:
    """A dataset on the embedded Hub, and who reads it.

    Attributes:
        title: What a table calls it.
        dataset: Its repo id; it has the splits "train" and "test" and a column "label".
        column: What is encoded.
        encoders: Repo ids by the names that tables use.
        options: What `load_encoder` is told.
        assets: What the Hub has to be filled with.
        anchors: How many are drawn from the train split.
    """

    title: str
    dataset: str
    column: str
    encoders: Mapping[str, str]
    assets: tuple[str, ...]
    anchors: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, *, train: int, test: int) -> tuple[Views, Views]:
        """Latents of samples of the train and the test split, by each encoder.

        Args:
            train: Rows of the train split.
            test: Rows of the test split.
        """
        from hf_latent_bridge import load_encoder

        encoders = {
            name: load_encoder(repo_id, **self.options) for name, repo_id in self.encoders.items()
        }
        first, second = (
            load_views(self.dataset, split, self.column, encoders, size=size)
            for split, size in (("train", train), ("test", test))
        )
        return first, second


_TEXT: dict[str, Any] = {
    "column": "text",
    "encoders": {
        "MiniLM": "sentence-transformers/all-MiniLM-L6-v2",
        "MPNet": "sentence-transformers/all-mpnet-base-v2",
    },
    "options": {"max_length": MAX_LENGTH},
    "anchors": 1000,
}
TASKS = {
    "bbc-news": Task("BBC News", "local/bbc-news", assets=("minilm", "mpnet", "bbc-news"), **_TEXT),
    "20newsgroups": Task(
        "20 newsgroups", "local/20newsgroups", assets=("minilm", "mpnet", "20newsgroups"), **_TEXT
    ),
    "fashion-mnist": Task(
        "Fashion-MNIST",
        "local/fashion-mnist",
        column="image",
        encoders={
            "MobileNetV2": "local/mobilenet-v2",
            "EfficientNet-Lite0": "local/efficientnet-lite0",
        },
        assets=("mobilenet-v2", "efficientnet-lite0", "fashion-mnist"),
        anchors=500,
    ),
}
