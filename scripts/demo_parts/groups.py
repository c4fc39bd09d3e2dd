"""Publishes the parts group by group: says what is there already, what is missing, what is made."""

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import publish_autoencoders
from huggingface_hub import HfApi

from demo_parts.inputs import Inputs
from demo_parts.record import Record, head


@dataclass(frozen=True)
class Group:
    """Parts that are made of the same inputs.

    Attributes:
        name: Name of the group, and of the module whose `publish` makes it.
        dataset: The dataset among the parts, which keeps the record.
        data: The field of `Inputs` that names the dataset they are made of.
        encoders: The fields that name encoders.
        options: The other fields that they depend on.
    """

    name: str
    dataset: str
    data: str
    encoders: tuple[str, ...]
    options: tuple[str, ...]

    def publish(self, api: HfApi, inputs: Inputs) -> None:
        """Makes the parts unless they are there; prints a line for each."""
        start = time.perf_counter()
        record = Record(api, inputs.repo_id(self.dataset), self._made_of(api, inputs))
        if lacking := [name for name, commit in record.inputs["commits"].items() if not commit]:
            print(f"  {self.name} skipped: this Hub has no {' and no '.join(lacking)}", flush=True)
            return
        if record.holds():
            _say(f"{self.name}: already published", start)
            return
        publish = importlib.import_module(f"demo_parts.{self.name}").publish
        repo_ids = list(_timed(publish, api, inputs))
        record.write([repo_id for repo_id in repo_ids if repo_id != record.dataset])

    def _made_of(self, api: HfApi, inputs: Inputs) -> dict[str, Any]:
        fields = (self.data, *self.encoders, *self.options)
        commits = {
            getattr(inputs, name): head(api, getattr(inputs, name)) for name in self.encoders
        }
        data = getattr(inputs, self.data)
        commits[data] = head(api, data, "dataset")
        return {"commits": commits, **{name: getattr(inputs, name) for name in fields}}


NEWS = Group(
    "news",
    "demo-news",
    data="news",
    encoders=("small_encoder", "text_encoder"),
    options=("news_text", "news_label", "train_texts"),
)
PICTURES = Group(
    "pictures",
    "demo-pictures",
    data="pictures",
    encoders=("text_encoder", "image_encoder"),
    options=("picture_image", "picture_title", "picture_folder", "test_pictures"),
)


class Autoencoders:
    """Two autoencoders and the map between them, which come last and prove that all are there."""

    def publish(self, api: HfApi, inputs: Inputs) -> None:
        """Makes the parts unless they are there; prints a line."""
        start = time.perf_counter()
        if head(api, inputs.repo_id(publish_autoencoders.TRANSLATOR)):
            _say("autoencoders: already published", start)
        elif head(api, inputs.clothes, "dataset") is None:
            print(f"  autoencoders skipped: this Hub has no {inputs.clothes}", flush=True)
        else:
            publish_autoencoders.publish(inputs.namespace, inputs.clothes)
            _say(inputs.repo_id("autoencoder-{a,b,a-to-b}"), start)


GROUPS: dict[str, Group | Autoencoders] = {
    "news": NEWS,
    "pictures": PICTURES,
    "autoencoders": Autoencoders(),
}


def _timed(publish: Callable[[HfApi, Inputs], Iterator[str]], *args: Any) -> Iterator[str]:
    start = time.perf_counter()
    for repo_id in publish(*args):
        _say(repo_id, start)
        yield repo_id
        start = time.perf_counter()


def _say(what: str, start: float) -> None:
    print(f"  {what:52} {time.perf_counter() - start:6.1f} s", flush=True)
