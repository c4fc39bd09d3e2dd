"""What `config.json` of a translator repo says, checked strictly on the way in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import ConfigError, FormatVersionError
from hf_latent_bridge.spaces import SpaceSpec

FORMAT_VERSION = 1


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
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote.

        Raises:
            FormatVersionError: Written by a newer library.
            ConfigError: A field is missing, unknown or of the wrong type.
        """
        _check_version(content.get("format_version"))
        missing = sorted(_KINDS.keys() - content.keys())
        unknown = sorted(content.keys() - {f.name for f in fields(cls)})
        if missing or unknown:
            raise ConfigError(f"config.json: missing fields {missing}, unknown fields {unknown}")
        for name, kind in _KINDS.items():
            if type(content[name]) is not kind:
                raise ConfigError(
                    f"config.json: {name} must be {kind.__name__}, got {content[name]!r}"
                )
        if content["n_pairs"] < 1:
            raise ConfigError(f"config.json: n_pairs must be at least 1, got {content['n_pairs']}")
        spaces = {side: SpaceSpec.from_dict(content[side]) for side in ("source", "target")}
        return cls(**{**content, **spaces})

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, without the hash of the weights, which only a save knows."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        del plain["weights_sha256"]
        return {**plain, "source": self.source.to_dict(), "target": self.target.to_dict()}


def _check_version(version: object) -> None:
    if version is None:
        raise ConfigError("config.json has no format_version: it is not a translator's")
    if type(version) is not int or version < 1:
        raise ConfigError(f"config.json: format_version must be 1 or more, got {version!r}")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"config.json has format_version {version}, this library reads up to "
            f"{FORMAT_VERSION}: pip install -U hf-latent-bridge"
        )


_KINDS: dict[str, type] = {
    "format_version": int,
    "library_version": str,
    "translator_type": str,
    "params": dict,
    "source": dict,
    "target": dict,
    "dataset": dict,
    "n_pairs": int,
    "metrics": dict,
    "weights_sha256": str,
}
