"""One way to save, push and load whatever is no translator: decoders, encoders, stitched models."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import CommitInfo, hf_hub_download
from torch import Tensor

from hf_latent_bridge import hub
from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import ConfigError, FormatVersionError, RepoNotFoundError
from hf_latent_bridge.hub_errors import clear_errors
from hf_latent_bridge.model_card import merge_card
from hf_latent_bridge.published_card import render_card
from hf_latent_bridge.serialization import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    read_config,
    read_tensors,
    read_text,
    save_files,
    to_files,
)
from hf_latent_bridge.spaces import SpaceSpec

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Fetched:
    """Files of a repo, all of one commit, or of a folder.

    Attributes:
        paths: Where each file lies.
        commit: The commit they were downloaded at; None for a folder.
        card: Text of a folder's `README.md`; None for a repo or where there is none.
    """

    paths: dict[str, Path]
    commit: str | None
    card: str | None = None


def fetch_files(
    name_or_path: str | Path,
    names: Sequence[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Fetched:
    """Finds files in a folder or downloads them, all at one resolved commit.

    Raises:
        RepoNotFoundError: No such folder, repo, revision or file.
        RepoAccessError: The repo is gated for this token.
        HubUnavailableError: The Hub cannot be reached and the files are not cached.
    """
    if Path(name_or_path).is_dir():
        return _find_files(Path(name_or_path), names, revision)
    repo_id = str(name_or_path)
    where: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    commit = hub.resolve_commit(repo_id, revision=revision, token=token, **where)
    with clear_errors(repo_id, revision=revision, token=token):
        paths = {
            name: Path(
                hf_hub_download(
                    repo_id,
                    name,
                    revision=commit,
                    token=token,
                    force_download=force_download,
                    library_name=hub.LIBRARY_NAME,
                    library_version=__version__,
                    **where,
                )
            )
            for name in names
        }
    return Fetched(paths, commit)


class Published(abc.ABC):
    """What can be saved into a folder and pushed to a repo.

    Attributes:
        repo_id: The Hub repo that it came from or was pushed to, else None.
        commit: The commit there, else None.
    """

    kind_key: ClassVar[str]
    kind: ClassVar[str]
    repo_id: str | None = None
    commit: str | None = None
    _card: str | None = None

    @abc.abstractmethod
    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The config, and the files that hold everything."""

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes the files and a card into a folder; your own text in its README.md is kept.

        Raises:
            ConfigError: Something to be saved is no JSON value.
        """
        folder = Path(save_directory)
        config, files = self._content()
        existing = read_text(folder / CARD_NAME) or self._card
        text = merge_card(existing, render_card(self, config, repo_id=None, tags=()))
        save_files(folder, {**files, CARD_NAME: text.encode()})

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

        Args:
            repo_id: Such as "me/news-head"; created if it is not there.
            private: Visibility of a new repo; None for the account's default.
            revision: Branch to commit to, created if it is not there.
            commit_message: Title of the commit.
            create_pr: Open a pull request instead of committing.
            token: Hub token; None for the one that is logged in.
            tags: Further tags for the card.

        Raises:
            ConfigError: Something to be saved is no JSON value.
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
        card = render_card(self, config, repo_id=repo_id, tags=tags)
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

    def _came_from(self, repo_id: str, commit: str) -> None:
        self.repo_id, self.commit = repo_id, commit


class Part(Published):
    """A published encoder or decoder half: a config, tensors, and the latent space they belong to.

    Attributes:
        space: Which latents it reads or gives.
        extra_names: Files besides config and weights.
    """

    space: SpaceSpec
    extra_names: ClassVar[tuple[str, ...]] = ()

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
        cls, space: SpaceSpec, params: dict[str, Any], tensors: dict[str, Tensor], fetched: Fetched
    ) -> Self:
        """The part again, from what `_params`, `_tensors` and `_extras` gave."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Loads it from a Hub repo or a folder.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            revision: Branch, tag, PR (`refs/pr/1`) or commit; resolved to a commit once.
            token: Hub token; None for the one that is logged in, False for none.
            cache_dir: Where downloads are kept.
            force_download: Download even if cached.
            local_files_only: Use the cache alone.
            device: Where to put the tensors.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file.
            RepoAccessError: The repo is gated.
            HubUnavailableError: The Hub cannot be reached and nothing is cached.
            ConfigError: The config does not parse, is of a newer format or of another kind.
            WeightsError: The weights are not exactly what the config describes.
        """
        fetched = fetch_files(
            pretrained_model_name_or_path,
            (CONFIG_NAME, WEIGHTS_NAME, *cls.extra_names),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        config = read_published_config(fetched.paths[CONFIG_NAME], cls, _PART_FIELDS)
        space = SpaceSpec.from_dict(config["space"])
        shapes = cls._shapes(space, config["params"])
        tensors = read_tensors(fetched.paths[WEIGHTS_NAME], shapes, config["weights_sha256"])
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        part = cls._build(space, config["params"], tensors, fetched)
        part._card = fetched.card
        if fetched.commit is not None:
            part._came_from(str(pretrained_model_name_or_path), fetched.commit)
        return part

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            self.kind_key: self.kind,
            "space": self._stated_space().to_dict(),
            "params": self._params(),
        }
        return config, {**to_files(config, self._tensors()), **self._extras()}


def read_published_config(
    path: Path, cls: type[Published], further: Mapping[str, type]
) -> dict[str, Any]:
    """A config that says exactly what it must.

    Args:
        path: Its `config.json`.
        cls: What it should describe.
        further: Fields besides version and kind, and their types.

    Raises:
        FormatVersionError: Written by a newer library.
        ConfigError: Another kind, or a field is missing, unknown or of the wrong type.
    """
    config = read_config(path)
    if config.get(cls.kind_key) != cls.kind:
        stated = {k: v for k, v in config.items() if k.endswith("_type")}
        raise ConfigError(
            f"{path} must state {cls.kind_key} {cls.kind!r} to hold a {cls.__name__}, "
            f"got {stated or 'none'}"
        )
    fields = {"format_version": int, "library_version": str, cls.kind_key: str, **further}
    version = config.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format_version {version}, this library reads up to {FORMAT_VERSION}: "
            "pip install -U hf-latent-bridge"
        )
    missing, unknown = sorted(fields.keys() - config.keys()), sorted(config.keys() - fields.keys())
    if missing or unknown:
        raise ConfigError(f"{path}: missing fields {missing}, unknown fields {unknown}")
    wrong = [name for name, kind in fields.items() if type(config[name]) is not kind]
    if wrong or config["format_version"] < 1:
        name = wrong[0] if wrong else "format_version"
        raise ConfigError(f"{path}: {name} must be {fields[name].__name__}, got {config[name]!r}")
    return config


def check_params(params: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Refuses params that are not exactly these, of these types.

    Raises:
        ConfigError: One is missing, unknown or of the wrong type.
    """
    if params.keys() != kinds.keys():
        raise ConfigError(f"params must be exactly {sorted(kinds)}, got {sorted(params)}")
    for name, kind in kinds.items():
        if type(params[name]) is not kind:
            raise ConfigError(f"params: {name} must be {kind.__name__}, got {params[name]!r}")


def check_sizes(name: str, values: Sequence[Any]) -> None:
    """Refuses sizes that are not positive integers.

    Raises:
        ConfigError: One is not.
    """
    if not values or not all(type(value) is int and value > 0 for value in values):
        raise ConfigError(f"params: {name} must hold positive integers, got {values!r}")


_PART_FIELDS = {"space": dict, "params": dict, "weights_sha256": str}


def _find_files(folder: Path, names: Sequence[str], revision: str | None) -> Fetched:
    if revision is not None:
        raise RepoNotFoundError(
            f"{folder} is a folder here and has no revision {revision!r}: leave revision out, or "
            "run elsewhere to load a repo of this name"
        )
    paths = {name: folder / name for name in names}
    for name, path in paths.items():
        if not path.is_file():
            raise RepoNotFoundError(f"{folder} has no {name}, and must hold {', '.join(names)}")
    return Fetched(paths, None, read_text(folder / CARD_NAME))
