"""Publishes what the Space loads: datasets with latents, translators, decoders and indexes.

The Hub is the one at HF_ENDPOINT, as the user of HF_TOKEN. Repos that are already there, made from
the same inputs, stay as they are.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.cache import cache_root
from common import QUIET

from demo_repos import autoencoders
from demo_repos.inputs import FLAGS, Inputs

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DATA = {"news": "news", "autoencoders": "clothes", "pictures": "pictures"}
NAMES = tuple(DATA)
NAMESPACE = "LATENT_BRIDGE_NAMESPACE"
PUBLIC_HUB = "https://huggingface.co"
RECORD = "made_from.json"
RECIPE = 2  # count up where the same inputs would give other repos

EPILOG = """\
The defaults name what `python scripts/publish.py assets` publishes on an embedded Hub. BBC News is
for research only, so for the public Hub you name the dataset of news yourself; what you publish
there keeps the license that its card states.

example:
  python scripts/publish.py demo --only news --namespace me \\
    --news me/articles --news-text body --news-label topic
"""


@dataclass(frozen=True)
class Record:
    """The file `made_from.json` of a group's dataset: the inputs, and the commit of each repo.

    Attributes:
        api: Client of the Hub.
        dataset: The dataset that holds the record.
        inputs: The inputs of the repos; JSON values.
    """

    api: "HfApi"
    dataset: str
    inputs: Mapping[str, Any]

    def holds(self) -> bool:
        """Whether the repos are there, made from these inputs and unchanged since."""
        content = self._read()
        return content.get("inputs") == self._expected() and all(
            head(self.api, repo_id) == commit for repo_id, commit in content["commits"].items()
        )

    def write(self, repo_ids: Sequence[str]) -> None:
        """Records these repos, at their current commits, as made from the inputs."""
        from huggingface_hub import CommitOperationAdd

        commits = {repo_id: head(self.api, repo_id) for repo_id in repo_ids}
        text = json.dumps({"inputs": self._expected(), "commits": commits}, indent=2) + "\n"
        self.api.create_commit(
            self.dataset,
            repo_type="dataset",
            operations=[CommitOperationAdd(RECORD, text.encode())],
            commit_message="Record what the repos are made from",
        )

    def _expected(self) -> dict[str, Any]:
        return {"recipe": RECIPE, **self.inputs}

    def _read(self) -> dict[str, Any]:
        from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

        try:
            path = self.api.hf_hub_download(self.dataset, RECORD, repo_type="dataset")
        except (RepositoryNotFoundError, RemoteEntryNotFoundError):
            return {}
        content: dict[str, Any] = json.loads(Path(path).read_text())
        return content


@dataclass(frozen=True)
class Group:
    """Repos that are made from the same inputs.

    Attributes:
        name: Name of the group, and of the file here with the `publish` that makes it.
        dataset: The dataset among the repos, which keeps the record.
        data: The field of `Inputs` that names the dataset they are made from.
        encoders: The fields that name encoders.
        options: The other fields that they depend on.
    """

    name: str
    dataset: str
    data: str
    encoders: tuple[str, ...]
    options: tuple[str, ...]

    def publish(self, api: "HfApi", inputs: Inputs) -> None:
        """Makes the repos unless they are there; prints a line for each."""
        start = time.perf_counter()
        record = self.record(api, inputs)
        if lacking := [name for name, commit in record.inputs["commits"].items() if not commit]:
            print(f"  {self.name} skipped: this Hub has no {' and no '.join(lacking)}", flush=True)
            return
        if record.holds():
            _say(f"{self.name}: already published", start)
            return
        made = importlib.import_module(f"demo_repos.{self.name}").publish(api, inputs)
        repo_ids = list(_timed(made))
        record.write([repo_id for repo_id in repo_ids if repo_id != record.dataset])

    def record(self, api: "HfApi", inputs: Inputs) -> Record:
        """The record of these inputs at their current commits."""
        fields = (self.data, *self.encoders, *self.options)
        commits = {
            getattr(inputs, name): head(api, getattr(inputs, name)) for name in self.encoders
        }
        data = getattr(inputs, self.data)
        commits[data] = head(api, data, "dataset")
        values = {name: getattr(inputs, name) for name in fields}
        return Record(api, inputs.repo_id(self.dataset), {"commits": commits, **values})


class Autoencoders:
    """Two autoencoders, the map between them, and latents; their dataset comes last."""

    def publish(self, api: "HfApi", inputs: Inputs) -> None:
        """Makes the repos unless they are there; prints a line."""
        start = time.perf_counter()
        if head(api, inputs.repo_id(autoencoders.LATENTS), "dataset"):
            _say("autoencoders: already published", start)
        elif head(api, inputs.clothes, "dataset") is None:
            print(f"  autoencoders skipped: this Hub has no {inputs.clothes}", flush=True)
        else:
            progress = inputs.progress
            autoencoders.publish(inputs.namespace, inputs.clothes, progress=progress)
            _say(inputs.repo_id("{autoencoder-{a,b,a-to-b},demo-fashion}"), start)


GROUPS: dict[str, Group | Autoencoders] = {
    "news": Group(
        "news",
        "demo-news",
        data="news",
        encoders=("small_encoder", "text_encoder"),
        options=("news_text", "news_label", "train_texts"),
    ),
    "pictures": Group(
        "pictures",
        "demo-pictures",
        data="pictures",
        encoders=("text_encoder", "image_encoder"),
        options=("picture_image", "picture_title", "picture_folder", "test_pictures"),
    ),
    "autoencoders": Autoencoders(),
}


def publish(inputs: Inputs, only: Sequence[str] = NAMES) -> None:
    """Publishes the named groups of repos where the Hub lacks them."""
    from huggingface_hub import HfApi

    api = HfApi()
    for name in only:
        GROUPS[name].publish(api, inputs)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options: each input is a flag."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, help="publish these groups only"
    )
    parser.add_argument(
        "--cache", type=Path, default=cache_root() / "latents", help="folder of cached latents"
    )
    environment = {"namespace": os.environ.get(NAMESPACE)}
    for flag in FLAGS:
        parser.add_argument(
            f"--{flag.name.replace('_', '-')}",
            type=type(flag.default),
            default=environment.get(flag.name),
            help=f"{flag.metadata['help']} (default: {flag.default})",
        )


def run(options: argparse.Namespace) -> int:
    """Publishes; returns the exit code."""
    if problem := refusal(options):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    os.environ.update(QUIET)
    values = {flag.name: getattr(options, flag.name) for flag in FLAGS}
    given = {name: value for name, value in values.items() if value is not None}
    publish(Inputs(options.cache, **given), options.only)
    return 0


def refusal(options: argparse.Namespace) -> str | None:
    """Why these options must not be published to this Hub."""
    public = os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/") == PUBLIC_HUB
    unnamed = [
        f"--{DATA[name]}"
        for name in options.only
        if public and getattr(options, DATA[name]) is None
    ]
    if unnamed:
        return (
            f"on the public Hub name the datasets yourself, needed {' and '.join(unnamed)}: the "
            "default news are for research only and must not be published there; or set "
            "HF_ENDPOINT to a Hub of your own (python scripts/local_hub)"
        )
    return None


def head(api: "HfApi", repo_id: str, repo_type: str = "model") -> str | None:
    """The newest commit of a repo; None if there is no such repo."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(repo_id, repo_type=repo_type).sha
    except RepositoryNotFoundError:
        return None


def _timed(made: Iterator[str]) -> Iterator[str]:
    start = time.perf_counter()
    for repo_id in made:
        _say(repo_id, start)
        yield repo_id
        start = time.perf_counter()


def _say(what: str, start: float) -> None:
    print(f"  {what:52} {time.perf_counter() - start:6.1f} s", flush=True)
