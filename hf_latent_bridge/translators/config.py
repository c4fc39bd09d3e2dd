"""What `config.json` of a translator repo says, checked strictly on the way in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from hf_latent_bridge._version import __version__
from hf_latent_bridge.config_checks import FORMAT_VERSION, check_config
from hf_latent_bridge.errors import ConfigError
from hf_latent_bridge.serialization import CONFIG_NAME
from hf_latent_bridge.spaces import SpaceSpec


@dataclass(frozen=True)
class TranslatorConfig:
    """The content of `config.json`; docs/format.md describes each field."""

    translator_type: str
    params: dict[str, Any]
    source: SpaceSpec
    target: SpaceSpec
    n_pairs: int
    dataset: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    library_version: str = __version__
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = CONFIG_NAME) -> Self:
        """Reads what `to_dict` wrote; `where` it stood is for the error.

        Raises:
            FormatVersionError: Written by a newer library.
            ConfigError: A field is missing, unknown or of the wrong type.
        """
        check_config(content, _KINDS, owner="translator", where=where)
        if content["n_pairs"] < 1:
            raise ConfigError(f"{where}: n_pairs must be at least 1, got {content['n_pairs']}")
        spaces = {side: SpaceSpec.from_dict(content[side]) for side in ("source", "target")}
        return cls(**{**content, **spaces})

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, without the hash of the weights, which only a save knows."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        del plain["weights_sha256"]
        return {**plain, "source": self.source.to_dict(), "target": self.target.to_dict()}


_KINDS: dict[str, type] = {
    "translator_type": str,
    "params": dict,
    "source": dict,
    "target": dict,
    "dataset": dict,
    "n_pairs": int,
    "metrics": dict,
    "weights_sha256": str,
}
