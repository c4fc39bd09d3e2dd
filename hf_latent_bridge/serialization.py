"""A config and tensors as files, and back: strict on the way in, equal bytes on the way out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
from torch import Tensor

from hf_latent_bridge.errors import ConfigError, WeightsError
from hf_latent_bridge.files import write_atomic

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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
