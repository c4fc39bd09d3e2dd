"""Refuses a `config.json` that does not say exactly what it must."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_latent_bridge.errors import ConfigError, FormatVersionError
from hf_latent_bridge.serialization import CONFIG_NAME

FORMAT_VERSION = 1


def check_config(
    config: Mapping[str, Any], kinds: Mapping[str, type], *, owner: str, where: str = CONFIG_NAME
) -> None:
    """Refuses a config of another format, or with other fields than these and the two versions.

    Args:
        config: The parsed `config.json`.
        kinds: Its fields and their types, besides `format_version` and `library_version`.
        owner: What it should describe, such as "translator".
        where: The file, for the error.

    Raises:
        FormatVersionError: Written by a newer library.
        ConfigError: No config of this library, or a field is missing, unknown or of another type.
    """
    version = config.get("format_version")
    if version is None:
        raise ConfigError(f"{where} has no format_version: it is not a {owner}'s")
    if type(version) is not int or version < 1:
        raise ConfigError(f"{where}: format_version must be 1 or more, got {version!r}")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{where} has format_version {version}, this library reads up to {FORMAT_VERSION}: "
            "pip install -U hf-latent-bridge"
        )
    check_fields(config, {"format_version": int, "library_version": str, **kinds}, where)


def check_kind(
    config: Mapping[str, Any], key: str, kind: str, fields: Mapping[str, type], *, where: str
) -> None:
    """Refuses a config that is not of this kind, or has other fields.

    Args:
        config: The parsed `config.json`.
        key: The field that says what the repo holds.
        kind: What it must say.
        fields: The further fields and their types.
        where: The file, for the error.

    Raises:
        FormatVersionError: Written by a newer library.
        ConfigError: Another kind, or a field is missing, unknown or of another type.
    """
    if config.get(key) != kind:
        stated = {name: value for name, value in config.items() if name.endswith("_type")}
        raise ConfigError(f"{where} must state {key} {kind!r}, got {stated or 'none'}")
    check_config(config, {key: str, **fields}, owner=kind, where=where)


def check_fields(content: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Refuses a JSON object whose fields are not exactly these, of these types.

    Raises:
        ConfigError: One is missing, unknown or of another type.
    """
    missing, unknown = sorted(kinds.keys() - content.keys()), sorted(content.keys() - kinds.keys())
    if missing or unknown:
        raise ConfigError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    for name, kind in kinds.items():
        if type(content[name]) is not kind:
            raise ConfigError(f"{where}: {name} must be {kind.__name__}, got {content[name]!r}")


def check_sizes(name: str, values: Sequence[Any]) -> None:
    """Refuses sizes that are not positive integers.

    Raises:
        ConfigError: One is not, or there is none.
    """
    if not values or not all(type(value) is int and value > 0 for value in values):
        raise ConfigError(f"params: {name} must hold positive integers, got {values!r}")
