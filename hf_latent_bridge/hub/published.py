"""What is published as a config and tensors: save_pretrained, push_to_hub, from_pretrained."""

import abc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import torch
from huggingface_hub import CommitInfo
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.devices import as_device
from hf_latent_bridge.errors import HubUnavailableError
from hf_latent_bridge.files import (
    CARD_NAME,
    CONFIG_NAME,
    FORMAT_VERSION,
    WEIGHTS_NAME,
    check_kind,
    read_tensors,
    read_text,
    save_files,
    to_files,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.cards import merge_card, render_card, render_component_card
from hf_latent_bridge.spaces import SpaceSpec


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
        return render_component_card(self, config, repo_id=repo_id, tags=tags)

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
        repo_id = client.prepare_repo(
            repo_id, private=private, branch=None if create_pr else revision, token=token
        )
        parent, existing = client.read_card(repo_id, revision=revision, token=token)
        card = self._render_card(config, repo_id=repo_id, tags=tags)
        commit = client.commit_files(
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

    def _loaded_from(self, fetched: client.Fetched) -> Self:
        """Remembers where it was loaded from."""
        self._card = fetched.card
        if fetched.commit is not None:
            self._came_from(fetched.repo_id, fetched.commit, fetched.subfolder)
        return self


_FIELDS = {"space": dict, "params": dict, "weights_sha256": str}


class Component(Published):
    """A decoder or encoder that is published beside translators: config, tensors and their space.

    Attributes:
        kind_key: The field of the config that says what it holds.
        kind: What that field says.
        extra_names: Files besides config and weights.
        space: Which latents it reads or gives.
    """

    kind_key: ClassVar[str]
    kind: ClassVar[str]
    extra_names: ClassVar[tuple[str, ...]] = ()
    space: SpaceSpec

    @abc.abstractmethod
    def _params(self) -> dict[str, Any]:
        """What the config records, as JSON values."""

    @abc.abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """What the weights hold."""

    def _extras(self) -> dict[str, bytes]:
        """The files of `extra_names`."""
        return {}

    def _stated_space(self) -> SpaceSpec:
        """The space as the config states it."""
        return self.space

    @classmethod
    @abc.abstractmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor; raises ConfigError where the params are wrong."""

    @classmethod
    @abc.abstractmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        paths: Mapping[str, Path],
    ) -> Self:
        """The component again, from what `_params`, `_tensors` and `_extras` gave."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        **options: Unpack[client.HubOptions],
    ) -> Self:
        """Loads it from a Hub repo or a folder.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the tensors; None for a GPU if there is one.
            options: `revision` (resolved to a commit once), `subfolder`, `token`, `cache_dir`,
                `force_download`, `local_files_only`, as huggingface_hub takes them.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file.
            RepoAccessError: The repo is gated.
            HubUnavailableError: The Hub cannot be reached and nothing is cached.
            ConfigError: The config does not parse, is of a newer format or of another kind.
            WeightsError: The weights are not exactly what the config describes.
        """
        names = (CONFIG_NAME, WEIGHTS_NAME, *cls.extra_names)
        fetched = client.fetch(pretrained_model_name_or_path, names, **options)
        config = fetched.config
        check_kind(config, cls.kind_key, cls.kind, _FIELDS, where=str(fetched.paths[CONFIG_NAME]))
        space = SpaceSpec.from_dict(config["space"])
        shapes = cls._shapes(space, config["params"])
        tensors = read_tensors(fetched.paths[WEIGHTS_NAME], shapes, config["weights_sha256"])
        tensors = {name: tensor.to(as_device(device)) for name, tensor in tensors.items()}
        component = cls._build(space, config["params"], tensors, fetched.paths)
        return component._loaded_from(fetched)

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            self.kind_key: self.kind,
            "space": self._stated_space().to_dict(),
            "params": self._params(),
        }
        return config, {**to_files(config, self._tensors()), **self._extras()}


def save_results(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Replaces the metrics in a translator folder's config and card.

    Args:
        folder: What `save_pretrained` wrote.
        metrics: `Report.to_dict()`.

    Raises:
        RepoNotFoundError: No such folder, or it holds no translator.
    """
    files = client.fetch(folder)
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
    head, card = client.read_card(repo_id, revision=revision, token=token)
    if head != commit:
        raise HubUnavailableError(
            f"the results are of commit {commit[:12]}, but {repo_id} ({revision or 'main'}) now "
            f"stands at {head[:12]}: evaluate that one"
        )
    config = client.fetch(repo_id, revision=commit, token=token).config
    return client.commit_files(
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
