"""The Hub face of all that is a config and tensors: translators, decoders, stitched models."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from huggingface_hub import CommitInfo

from hf_latent_bridge import hub
from hf_latent_bridge.model_card import merge_card
from hf_latent_bridge.published_card import render_card
from hf_latent_bridge.serialization import CARD_NAME, read_text, save_files


class Published(abc.ABC):
    """What can be saved into a folder and pushed to a repo.

    Attributes:
        repo_id: The Hub repo that it came from or was pushed to, else None.
        commit: The commit there, else None.
        subfolder: The folder in that repo; empty for its root.
    """

    repo_id: str | None = None
    commit: str | None = None
    subfolder: str = ""
    _card: str | None = None

    @abc.abstractmethod
    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The config, and the files that hold everything."""

    def _render_card(
        self, config: Mapping[str, Any], *, repo_id: str | None, tags: Sequence[str]
    ) -> str:
        """The card for this config, pushed to a repo or saved into a folder."""
        return render_card(self, config, repo_id=repo_id, tags=tags)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes the files and a card into a folder; your own text in its README.md is kept.

        Raises:
            NotFittedError: There is nothing to save yet.
            ConfigError: Something to be saved is no JSON value.
        """
        folder = Path(save_directory)
        config, files = self._content()
        existing = read_text(folder / CARD_NAME) or self._card
        card = merge_card(existing, self._render_card(config, repo_id=None, tags=()))
        save_files(folder, {**files, CARD_NAME: card.encode()})

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        tags: Sequence[str] = (),
    ) -> CommitInfo:
        """Publishes it as a model repo, in one commit; none if nothing changed.

        What people wrote into the README.md of the repo (or, if it has none, of the folder that
        this was loaded from) is kept.

        Args:
            repo_id: Such as "me/minilm-to-mpnet"; created if it is not there.
            private: Visibility of a new repo; None for the account's default.
            revision: Branch to commit to, created if it is not there.
            commit_message: Title of the commit.
            create_pr: Open a pull request instead of committing.
            token: Hub token; None for the one that is logged in.
            tags: Further tags for the card.

        Raises:
            NotFittedError: There is nothing to publish yet.
            ConfigError: Something to be published is no JSON value.
            RepoAccessError: The token may not write there.
            HubUnavailableError: The Hub cannot be reached, or someone else pushed meanwhile.
        """
        if isinstance(tags, str):
            raise ValueError(f"tags must be a list of texts, got one text: tags=[{tags!r}]")
        config, files = self._content()
        repo_id = hub.prepare_repo(
            repo_id, private=private, branch=None if create_pr else revision, token=token
        )
        parent, existing = hub.read_card(repo_id, revision=revision, token=token)
        card = self._render_card(config, repo_id=repo_id, tags=tags)
        commit = hub.commit_files(
            repo_id,
            {**files, CARD_NAME: merge_card(existing or self._card, card).encode()},
            commit_message=commit_message or f"Upload {type(self).__name__}",
            parent_commit=parent,
            revision=revision,
            create_pr=create_pr,
            token=token,
        )
        self._came_from(repo_id, commit.oid)
        return commit

    def _came_from(self, repo_id: str | None, commit: str | None, subfolder: str = "") -> None:
        self.repo_id, self.commit, self.subfolder = repo_id, commit, subfolder

    def _loaded_from(self, fetched: hub.Fetched) -> Self:
        """Remembers where it was loaded from."""
        self._card = fetched.card
        if fetched.commit is not None:
            self._came_from(fetched.repo_id, fetched.commit, fetched.subfolder)
        return self
