"""Configs and tensors as files: strict to read, equal bytes when written, whole or not at all."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hf_latent_bridge.errors import ConfigError, FormatVersionError, WeightsError
from hf_latent_bridge.moments import PairedMoments


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content appears at `path` in one step, when the block ends without an error.

    A reader or a crash sees the old file or the new one, never a part.

    Args:
        path: The file to write; its folder must exist.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Puts `content` at `path` in one step.

    Args:
        path: The file to write; its folder must exist.
        content: All of its bytes.
    """
    with open_atomic(path) as stream:
        stream.write(content)


CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"


def to_files(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Config and weights as file contents; equal input gives equal bytes.

    Raises:
        ConfigError: The config holds what JSON has no value for.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = safetensors.torch.save(plain, metadata={"format": "pt"})
    stated = {**config, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    try:
        text = json.dumps(stated, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{CONFIG_NAME} holds JSON values only, so params, dataset_ and metrics_ must be "
            f"text, finite numbers, lists and dicts: {error}"
        ) from error
    return {CONFIG_NAME: text.encode(), WEIGHTS_NAME: weights}


def save_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes each file whole or not at all, weights before the config that states their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, reverse=True):
        write_atomic(folder / name, files[name])


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ConfigError: Not JSON, or JSON of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def read_text(path: Path) -> str | None:
    """The text of a card; None if there is no such file.

    Raises:
        ConfigError: The file is not UTF-8.
    """
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be UTF-8, save it again as such: {error}") from error


def read_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], sha256: str
) -> dict[str, Tensor]:
    """Reads exactly the expected tensors, or nothing.

    Args:
        path: A safetensors file.
        shapes: Name and shape of every tensor that must be there.
        sha256: Hash of the whole file, as the config states it.

    Raises:
        WeightsError: Truncated file, missing, unexpected, misshapen or non-finite tensors, or
            weights that belong to another config.
    """
    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is truncated or no safetensors file: {error}") from error
    _check_tensors(path, tensors, shapes)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{path} is not the file that {CONFIG_NAME} describes (SHA-256 differs): "
            "the two come from different saves; save or download the translator again"
        )
    return tensors


def _check_tensors(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    missing = sorted(shapes.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - shapes.keys())
    if missing or unexpected:
        raise WeightsError(
            f"{path} must hold exactly {sorted(shapes)}: missing {missing}, unexpected {unexpected}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise WeightsError(
                f"{path}: {name} must be floating point of shape {shape}, "
                f"got {tensor.dtype} of {tuple(tensor.shape)}"
            )
        if not tensor.double().isfinite().all():
            raise WeightsError(f"{path}: {name} holds NaN or infinity")
    if len(dtypes := {tensor.dtype for tensor in tensors.values()}) > 1:
        raise WeightsError(f"{path}: tensors must share one dtype, got {sorted(map(str, dtypes))}")


def save_moments(moments: PairedMoments, path: str | Path) -> None:
    """Writes moments to a safetensors file, in one step.

    The file reveals means and correlations of the data, though no single row.

    Args:
        moments: The moments of any number of pairs.
        path: The file to write; its folder must exist.
    """
    tensors = {k: t.cpu().contiguous() for k, t in moments.to_tensors().items()}
    tensors["n"] = torch.tensor(moments.n)
    tensors["eps"] = torch.tensor(moments.eps, dtype=torch.float64)
    write_atomic(Path(path), safetensors.torch.save(tensors, metadata={"format": "pt"}))


def load_moments(path: str | Path, *, device: torch.device | str = "cpu") -> PairedMoments:
    """Reads what `save_moments` wrote.

    Args:
        path: The safetensors file.
        device: Where to put the tensors.

    Raises:
        WeightsError: The file is truncated or does not hold valid moments.
    """
    try:
        tensors = safetensors.torch.load_file(path, device=str(device))
        n, eps = int(tensors.pop("n")), float(tensors.pop("eps"))
        return PairedMoments.from_tensors(tensors, n=n, eps=eps)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    except KeyError as error:
        raise WeightsError(f"{path} does not hold moments: {error} is missing") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


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
