"""A published part of a model: tensors that belong to one latent space, and a config."""

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import torch
from torch import Tensor

from hf_latent_bridge import hub
from hf_latent_bridge._version import __version__
from hf_latent_bridge.config_checks import FORMAT_VERSION, check_kind
from hf_latent_bridge.published import Published
from hf_latent_bridge.serialization import CONFIG_NAME, WEIGHTS_NAME, read_tensors, to_files
from hf_latent_bridge.spaces import SpaceSpec

_FIELDS = {"space": dict, "params": dict, "weights_sha256": str}


class Part(Published):
    """A published decoder or encoder half: a config, tensors, and the latent space they belong to.

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
        """The part again, from what `_params`, `_tensors` and `_extras` gave."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str = "cpu",
        **options: Unpack[hub.HubOptions],
    ) -> Self:
        """Loads it from a Hub repo or a folder.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the tensors.
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
        fetched = hub.fetch(pretrained_model_name_or_path, names, **options)
        config = fetched.config
        check_kind(config, cls.kind_key, cls.kind, _FIELDS, where=str(fetched.paths[CONFIG_NAME]))
        space = SpaceSpec.from_dict(config["space"])
        shapes = cls._shapes(space, config["params"])
        tensors = read_tensors(fetched.paths[WEIGHTS_NAME], shapes, config["weights_sha256"])
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        part = cls._build(space, config["params"], tensors, fetched.paths)
        return part._loaded_from(fetched)

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            self.kind_key: self.kind,
            "space": self._stated_space().to_dict(),
            "params": self._params(),
        }
        return config, {**to_files(config, self._tensors()), **self._extras()}
