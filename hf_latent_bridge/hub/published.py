"""Saves, publishes and loads whatever is a config with tensors, and the results of evaluations."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, Self, TypedDict, Unpack

import torch
from huggingface_hub import CommitInfo
from torch import Tensor

from hf_latent_bridge._version import LIBRARY_NAME, __version__
from hf_latent_bridge.atomic import exclusive, read_files
from hf_latent_bridge.devices import as_device
from hf_latent_bridge.errors import ForeignFileError, HubUnavailableError, SpaceMismatchError
from hf_latent_bridge.files import (
    CARD_NAME,
    CONFIG_NAME,
    FORMAT_VERSION,
    WEIGHTS_NAME,
    check_kind,
    is_our_config,
    parse_config,
    parse_tensors,
    parse_text,
    stated_types,
    to_files,
    to_json,
)
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.cards import is_foreign, library_of, merge_card, render_card
from hf_latent_bridge.names import check_name
from hf_latent_bridge.spaces import SpaceSpec


class PushOptions(TypedDict, total=False):
    """How every `push_to_hub` publishes, spelled as by huggingface_hub.

    Attributes:
        private: Visibility of a new repo; None for the account's default.
        revision: Branch to commit to, created if it is not there.
        commit_message: Title of the commit.
        create_pr: Open a pull request instead of committing.
        token: Hub token; None for the one that is logged in.
        tags: Further tags for the card.
    """

    private: bool | None
    revision: str | None
    commit_message: str | None
    create_pr: bool
    token: str | bool | None
    tags: Sequence[str]


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
    _when_saved: Callable[[], None] | None = None

    @abc.abstractmethod
    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The config, and the files that hold everything."""

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes the files and a card into a folder; your own text in an earlier card is kept.

        The folder holds the old files or the new ones, also for those who load it meanwhile, and
        after a kill at any moment.

        Args:
            save_directory: The folder, made if it is not there.

        Raises:
            InvalidNameError: The name is empty, or not a text or path.
            ForeignFileError: The folder holds a README.md that is not a card of this library, or
                another file of someone else where one would be written.
            NotFittedError: There is nothing to save yet.
            ConfigError: Something to be saved is not a JSON value.
            OSError: The folder cannot be written; says what to do.
            InUseError: Another process has been saving there for a minute.
        """
        check_save_directory(save_directory)
        config, files = self._content()
        with exclusive(Path(save_directory)) as save:
            existing = check_save_directory(save_directory, files, config)
            card = merge_card(existing or self._card, render_card(config, owner=type(self)))
            save({**files, CARD_NAME: card.encode()})
        self._let_go()

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
            InvalidNameError: The name is empty or not a text.
            RepoNotFoundError: The name is not a repo id.
            ForeignFileError: The repo holds a model of another library.
            NotFittedError: There is nothing to publish yet.
            ConfigError: Something to be published is not a JSON value.
            RepoAccessError: The token may not write there.
            HubUnavailableError: The Hub cannot be reached, or someone else pushed meanwhile. A repo
                or branch that was made for this push is deleted again.
        """
        if isinstance(tags, str):
            raise ValueError(f"tags must be a list of texts, got one text: tags=[{tags!r}]")
        config, files = self._content()
        branch = None if create_pr else revision
        with client.prepared_repo(repo_id, private=private, branch=branch, token=token) as full_id:
            head = client.read_head(full_id, revision=revision, token=token)
            _check_ours(full_id, head, files, token)
            card = render_card(config, owner=type(self), repo_id=full_id, tags=tags)
            commit = client.commit_files(
                full_id,
                {**files, CARD_NAME: merge_card(head.card or self._card, card).encode()},
                commit_message=commit_message or f"Upload {type(self).__name__}",
                parent_commit=head.commit,
                revision=revision,
                create_pr=create_pr,
                token=token,
            )
        self._came_from(full_id, commit.oid)
        self._let_go()
        return commit

    def _let_go(self) -> None:
        """Lets go of the checkpoint of the fit, now that the result is safe."""
        if self._when_saved is not None:
            self._when_saved()
            self._when_saved = None

    def _came_from(self, repo_id: str | None, commit: str | None, subfolder: str = "") -> None:
        self.repo_id, self.commit, self.subfolder = repo_id, commit, subfolder

    def _loaded_from(self, fetched: client.Fetched) -> Self:
        """Remembers where it was loaded from."""
        self._card = fetched.card
        if fetched.commit is not None:
            self._came_from(fetched.repo_id, fetched.commit, fetched.subfolder)
        return self


def check_save_directory(
    save_directory: str | Path,
    names: Iterable[str] = (CONFIG_NAME, WEIGHTS_NAME),
    config: Mapping[str, Any] | None = None,
) -> str | None:
    """The text of the earlier card in a folder that can be saved into; None if there is none.

    Args:
        save_directory: The folder.
        names: Files that will be written there, besides the card.
        config: The config that will be written, of which the fields that state a type count; None
            for one that is not known yet.

    Raises:
        InvalidNameError: The name is empty, or not a text or path.
        NotADirectoryError: A file has this name.
        ForeignFileError: The folder holds a README.md that is not a card of this library, one of
            the files without a config of this library beside it, or something of another type,
            such as a head where a translator is to be saved.
        ConfigError: The README.md is not UTF-8.
    """
    check_name(save_directory, wanted="a folder to save into")
    folder = Path(save_directory)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"a folder to save into is needed, and {folder} is a file")
    config_of = {name: str(PurePosixPath(name).with_name(CONFIG_NAME)) for name in names}
    found = read_files(folder, {*config_of, *config_of.values(), CARD_NAME})
    content = found.get(CARD_NAME)
    card = None if content is None else parse_text(content, str(folder / CARD_NAME))
    if (folder / CARD_NAME).is_dir() or (card is not None and is_foreign(card)):
        raise ForeignFileError(
            f"{folder / CARD_NAME} is not a card of {LIBRARY_NAME}, so nothing was saved: choose "
            "another folder, or move that file away"
        )
    _check_type(folder, found.get(CONFIG_NAME, b""), config)
    for name, beside in config_of.items():
        there = name in found or (folder / name).is_dir()
        if there and not is_our_config(found.get(beside, b"")):
            raise ForeignFileError(
                f"{folder / name} was not written by {LIBRARY_NAME}, so nothing was saved: choose "
                "another folder, or move that file away"
            )
    return card


def _check_type(folder: Path, there: bytes, config: Mapping[str, Any] | None) -> None:
    """Refuses to write over something of another type, such as a head over a translator.

    Raises:
        ForeignFileError: Says what is there.
    """
    if config is None or not is_our_config(there):
        return
    before = parse_config(there, CONFIG_NAME)
    kinds, kinds_before = (
        {key for key in each if key.endswith("_type")} for each in (config, before)
    )
    if kinds and kinds_before and not kinds & kinds_before:
        raise ForeignFileError(
            f"{folder / CONFIG_NAME} states {stated_types(before)}, so nothing was saved: choose "
            "another folder"
        )


def _check_ours(
    repo_id: str, head: client.Head, names: Iterable[str], token: str | bool | None
) -> None:
    """Refuses a repo of another library, or one that holds files of someone else with these names.

    Raises:
        ForeignFileError: Says which.
    """
    library = None if head.card is None else library_of(head.card)
    if library not in (None, LIBRARY_NAME):
        raise ForeignFileError(
            f"the card of {repo_id!r} says that it holds a model of {library}, so nothing was "
            "pushed: choose another repo"
        )
    taken = sorted(head.files & set(names))
    if not taken or library == LIBRARY_NAME:
        return
    if CONFIG_NAME in taken:
        fetched = client.fetch(repo_id, (CONFIG_NAME,), revision=head.commit, token=token)
        if is_our_config(fetched.read(CONFIG_NAME)):
            return
    raise ForeignFileError(
        f"{', '.join(taken)} in {repo_id!r} was not written by {LIBRARY_NAME}, so nothing was "
        "pushed: choose another repo, or delete what is there"
    )


_FIELDS = {"space": dict, "params": dict, "weights_sha256": str}


class Component(Published):
    """A decoder or encoder that is published beside translators: config, tensors and their space.

    Attributes:
        kind_key: The field of the config that states the kind, such as "decoder_type".
        kind: The value of that field.
        extra_names: Files besides config and weights.
        space: Which latents it reads or gives; may be replaced by another of the same width.
    """

    kind_key: ClassVar[str]
    kind: ClassVar[str]
    extra_names: ClassVar[tuple[str, ...]] = ()
    _space: SpaceSpec | None = None

    @property
    def space(self) -> SpaceSpec:
        """Which latents it reads or gives."""
        if self._space is None:
            raise AttributeError(f"a {type(self).__name__} must set its space when it is made")
        return self._space

    @space.setter
    def space(self, space: SpaceSpec) -> None:
        if self._space is not None and self._space.dim != space.dim:
            raise SpaceMismatchError(
                f"a {type(self).__name__} of {self._space} cannot be one of {space}: its width "
                "cannot change"
            )
        self._space = space

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
        extras: Mapping[str, bytes],
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
        content, where = fetched.read(WEIGHTS_NAME), str(fetched.paths[WEIGHTS_NAME])
        tensors = parse_tensors(content, shapes, config["weights_sha256"], where)
        tensors = {name: tensor.to(as_device(device)) for name, tensor in tensors.items()}
        extras = {name: fetched.read(name) for name in cls.extra_names}
        component = cls._build(space, config["params"], tensors, extras)
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


class Results(Protocol):
    """What `evaluate` returns: anything that gives its results as JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON values."""


def as_metrics(metrics: Results | Mapping[str, Any]) -> dict[str, Any]:
    """The results of an evaluation as the `metrics` of a config.

    Args:
        metrics: A `Report`, or a mapping of JSON values.

    Raises:
        TypeError: Anything else.
    """
    if isinstance(metrics, Mapping):
        return dict(metrics)
    if hasattr(metrics, "to_dict"):
        return metrics.to_dict()
    raise TypeError(
        "metrics must be a Report from evaluate, or a mapping of JSON values, got "
        f"{type(metrics).__name__} {metrics!r:.60}"
    )


def save_results(folder: str | Path, metrics: Results | Mapping[str, Any]) -> None:
    """Replaces the metrics in a translator folder's config and card; the map is not touched.

    Args:
        folder: A folder that `save_pretrained` wrote.
        metrics: A `Report`, or a mapping of JSON values.

    Raises:
        RepoNotFoundError: There is no such folder, or no translator in it.
        ForeignFileError: The folder holds a README.md that is not a card of this library.
    """
    check_save_directory(folder, ())
    client.fetch(folder)
    with exclusive(Path(folder)) as save:
        config = client.fetch(folder).config
        card = check_save_directory(folder)
        save(_with_metrics(config, metrics, card, repo_id=None))


def push_results(
    repo_id: str,
    metrics: Results | Mapping[str, Any],
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
        metrics: A `Report`, or a mapping of JSON values.
        commit: The commit that was evaluated, as `Translator.commit` tells.
        revision: Branch to commit to; None for main.
        commit_message: Title of the commit.
        create_pr: Open a pull request instead of committing.
        token: Hub token; None for the one that is logged in.

    Raises:
        HubUnavailableError: The branch does not stand at that commit, or no Hub was reached.
        RepoAccessError: The token may not write there.
        ForeignFileError: The repo holds a model of another library.
    """
    head = client.read_head(repo_id, revision=revision, token=token)
    if head.commit != commit:
        raise HubUnavailableError(
            f"the results are of commit {commit[:12]}, but {repo_id} ({revision or 'main'}) now "
            f"stands at {head.commit[:12]}: evaluate that one"
        )
    _check_ours(repo_id, head, (CONFIG_NAME,), token)
    config = client.fetch(repo_id, revision=commit, token=token).config
    return client.commit_files(
        repo_id,
        _with_metrics(config, metrics, head.card, repo_id=repo_id),
        commit_message=commit_message or "Add evaluation results",
        parent_commit=commit,
        revision=revision,
        create_pr=create_pr,
        token=token,
    )


def _with_metrics(
    config: Mapping[str, Any],
    metrics: Results | Mapping[str, Any],
    card: str | None,
    *,
    repo_id: str | None,
) -> dict[str, bytes]:
    config = {**config, "metrics": as_metrics(metrics)}
    generated = render_card(config, repo_id=repo_id)
    return {CONFIG_NAME: to_json(config), CARD_NAME: merge_card(card, generated).encode()}
