"""Remembers on the Hub what a group of parts was made of, so that nothing is made twice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

NAME = "parts.json"
RECIPE = 1  # count up where the same inputs would give other parts


@dataclass(frozen=True)
class Record:
    """The file `parts.json` of a group's dataset: the inputs, and the commit of each part.

    Attributes:
        api: Client of the Hub.
        dataset: The dataset that holds the record.
        inputs: What the parts are made of; JSON values.
    """

    api: HfApi
    dataset: str
    inputs: Mapping[str, Any]

    def holds(self) -> bool:
        """Whether the parts are there, made of these inputs and unchanged since."""
        content = self._read()
        return content.get("inputs") == self._expected() and all(
            head(self.api, repo_id) == commit for repo_id, commit in content["commits"].items()
        )

    def write(self, repo_ids: Sequence[str]) -> None:
        """Records these parts as made of the inputs, at the commits that they have now."""
        commits = {repo_id: head(self.api, repo_id) for repo_id in repo_ids}
        text = json.dumps({"inputs": self._expected(), "commits": commits}, indent=2) + "\n"
        self.api.create_commit(
            self.dataset,
            repo_type="dataset",
            operations=[CommitOperationAdd(NAME, text.encode())],
            commit_message="Record what the parts are made of",
        )

    def _expected(self) -> dict[str, Any]:
        return {"recipe": RECIPE, **self.inputs}

    def _read(self) -> dict[str, Any]:
        try:
            path = self.api.hf_hub_download(self.dataset, NAME, repo_type="dataset")
        except (RepositoryNotFoundError, RemoteEntryNotFoundError):
            return {}
        content: dict[str, Any] = json.loads(Path(path).read_text())
        return content


def head(api: HfApi, repo_id: str, repo_type: str = "model") -> str | None:
    """The newest commit of a repo; None where there is no such repo."""
    try:
        return api.repo_info(repo_id, repo_type=repo_type).sha
    except RepositoryNotFoundError:
        return None
