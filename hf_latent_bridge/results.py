"""Writes an evaluation into a translator's repo or folder: config and card, never the weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from hf_latent_bridge import hub
from hf_latent_bridge.errors import HubUnavailableError
from hf_latent_bridge.model_card import merge_card, render_card
from hf_latent_bridge.serialization import CARD_NAME, CONFIG_NAME, save_files


def save_results(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Replaces the metrics in a translator folder's config and card.

    Args:
        folder: What `save_pretrained` wrote.
        metrics: `Report.to_dict()`.

    Raises:
        RepoNotFoundError: No such folder, or it holds no translator.
    """
    files = hub.fetch(folder)
    content = _content(files.config, metrics, files.card, repo_id=None)
    save_files(Path(folder), content)


def push_results(
    repo_id: str,
    metrics: Mapping[str, Any],
    *,
    commit: str,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> CommitInfo:
    """Replaces the metrics in a translator repo's config and model-index, in one commit.

    Args:
        repo_id: A translator's repo.
        metrics: `Report.to_dict()`.
        commit: The commit that was evaluated, as `Translator.commit` tells.
        revision: Branch to commit to; None for main.
        commit_message: Title of the commit.
        create_pr: Open a pull request instead of committing.
        token: Hub token; None for the one that is logged in.

    Raises:
        HubUnavailableError: The branch does not stand at that commit, or no Hub was reached.
        RepoAccessError: The token may not write there.
    """
    head, card = hub.read_card(repo_id, revision=revision, token=token)
    if head != commit:
        raise HubUnavailableError(
            f"the results are of commit {commit[:12]}, but {repo_id} ({revision or 'main'}) now "
            f"stands at {head[:12]}: evaluate that one"
        )
    config = hub.fetch(repo_id, revision=commit, token=token).config
    return hub.commit_files(
        repo_id,
        _content(config, metrics, card, repo_id=repo_id),
        commit_message=commit_message or "Add evaluation results",
        parent_commit=commit,
        revision=revision,
        create_pr=create_pr,
        token=token,
    )


def _content(
    config: Mapping[str, Any], metrics: Mapping[str, Any], card: str | None, *, repo_id: str | None
) -> dict[str, bytes]:
    config = {**config, "metrics": dict(metrics)}
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    generated = render_card(config, repo_id=repo_id, tags=())
    return {CONFIG_NAME: text.encode(), CARD_NAME: merge_card(card, generated).encode()}
