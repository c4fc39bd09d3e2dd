"""Configs and tensors as files: strict to read, equal bytes when written."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hf_latent_bridge.atomic import write_atomic
from hf_latent_bridge.errors import ConfigError, FormatVersionError, WeightsError
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.names import check_name

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
CONFIG_SEAL = "config_sha256"  # the field that holds the hash of all others; 0.1.0 wrote none
_MOST_LEVELS = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


def to_files(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Config and weights as file contents; equal input gives equal bytes.

    Raises:
        ConfigError: The config holds what JSON has no value for.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = safetensors.torch.save(plain, metadata={"format": "pt"})
    stated = {**config, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    return {CONFIG_NAME: to_json(stated), WEIGHTS_NAME: weights}


def to_json(config: Mapping[str, Any]) -> bytes:
    """A config as text; equal input gives equal bytes, and `read_config` reads all that is given.

    Raises:
        ConfigError: The config holds a value that JSON does not have, or keys that are not texts.
    """
    try:
        plain = json.loads(json.dumps(config, allow_nan=False))
        sealed = {**plain, CONFIG_SEAL: _hash_of_json(plain)}
        content = json.dumps(sealed, indent=2, sort_keys=True).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{CONFIG_NAME} holds JSON values only, so params, dataset and metrics must be "
            f"texts, finite numbers, lists and dicts: {error}"
        ) from error
    parse_config(content, f"the {CONFIG_NAME} to be written")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file, read by the rules of `parse_json`.

    Raises:
        ConfigError: The file does not hold a JSON object, or holds an integer of more than 64 bits.
    """
    return parse_config(path.read_bytes(), str(path))


def is_our_config(content: bytes) -> bool:
    """Whether this is a config that some version of this library wrote."""
    try:
        config = parse_config(content, CONFIG_NAME)
    except ConfigError:
        return False
    return {"format_version", "library_version"} <= config.keys()


def parse_config(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object of a text, read by the rules of `parse_json`.

    Args:
        content: The text.
        where: The file, for the error.

    Raises:
        ConfigError: It is not a JSON object, holds an integer of more than 64 bits, or has not the
            hash that it states.
    """
    config = parse_json(content, where)
    if not isinstance(config, dict):
        raise ConfigError(f"{where} must hold a JSON object, got {type(config).__name__}")
    for key, value in _leaves(config):
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise ConfigError(f"{where}: {key} must fit in 64 bits, got an integer beyond that")
    stated = config.pop(CONFIG_SEAL, None)
    if stated is not None and stated != _hash_of_json(config):
        raise ConfigError(
            f"{where} was damaged or changed after it was saved: save or download it again, or, if "
            f"the change was meant, delete the field {CONFIG_SEAL}"
        )
    return config


def parse_json(content: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8, more strictly than Python's own parser reads it.

    Args:
        content: The text.
        where: The file, for the error.

    Raises:
        ConfigError: The text is not JSON, starts with a byte order mark, holds a key twice in one
            object, a number that is not finite or half of a surrogate pair, or has more than 64
            levels; the message names the file and the key.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_distinct)
        for key, leaf in _leaves(value):
            if isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError(f"{key} must be a finite number")
            if isinstance(leaf, str) and _SURROGATE.search(key + leaf):
                raise ValueError(f"{key!a} holds half of a surrogate pair")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return content


def _leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Every value that is not an object or a list, with its place, such as `metrics.cka[0]`."""
    left = [("", 0, content)]
    while left:
        key, level, value = left.pop()
        if level > _MOST_LEVELS:
            raise ValueError(f"{key:.60}... is nested deeper than {_MOST_LEVELS} levels")
        if isinstance(value, dict):
            left += [(f"{key}.{k}".lstrip("."), level + 1, v) for k, v in value.items()]
        elif isinstance(value, list):
            left += [(f"{key}[{number}]", level + 1, v) for number, v in enumerate(value)]
        else:
            yield key or "the value", value


def read_text(path: Path) -> str | None:
    """The text of a card; None if there is no such file.

    Raises:
        ConfigError: The file is not UTF-8.
    """
    return parse_text(path.read_bytes(), str(path)) if path.is_file() else None


def parse_text(content: bytes, where: str) -> str:
    """The text of a card.

    Args:
        content: Its bytes.
        where: The file, for the error.

    Raises:
        ConfigError: They are not UTF-8.
    """
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} must be UTF-8, save it again as such: {error}") from error


def parse_tensors(
    content: bytes, shapes: Mapping[str, tuple[int, ...]], sha256: str, where: str
) -> dict[str, Tensor]:
    """The tensors of a safetensors file: exactly the expected ones, or an error.

    Args:
        content: The file.
        shapes: Name and shape of every tensor that must be there.
        sha256: Hash of the whole file, as the config states it.
        where: The file, for the error.

    Raises:
        WeightsError: Truncated file, missing, unexpected, misshapen or non-finite tensors, or
            weights that belong to another config.
    """
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{where} is truncated or is not a safetensors file: {error}") from error
    _check_tensors(where, tensors, shapes)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{where} is not the file that {CONFIG_NAME} describes (SHA-256 differs): "
            "the two come from different saves; save or download the translator again"
        )
    return tensors


def _check_tensors(
    path: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
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


_LOADERS = {
    "translator_type": "AutoTranslator.from_pretrained",
    "space_type": "SharedSpace.from_pretrained",
    "decoder_type": "load_decoder",
}
_SEAL = "sha256"  # the tensor or field that holds the hash of all others


def seal_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object as text that carries a hash of its content; `unseal_json` checks it."""
    return json.dumps({**content, _SEAL: _hash_of_json(content)}).encode()


def unseal_json(content: bytes, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """The object of a text that `seal_json` made.

    Args:
        content: The text.
        kinds: Its fields and their types.
        where: The file, for the error.

    Raises:
        ConfigError: The text is damaged, or has other fields.
    """
    found = parse_config(content, where)
    stated = found.pop(_SEAL, None)
    if stated != _hash_of_json(found):
        raise ConfigError(f"{where} is damaged: its content has not the hash that it states")
    check_fields(found, kinds, where)
    return found


def _hash_of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file that carries a hash of its tensors; `is_sealed` checks it."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save({**plain, _SEAL: _hash_of(plain)}, metadata={"format": "pt"})


def is_sealed(tensors: Mapping[str, Tensor], hash_stated: Tensor) -> bool:
    """Whether these tensors have the hash that their file states."""
    return hash_stated.dtype == torch.uint8 and torch.equal(hash_stated, _hash_of(tensors))


def unseal(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a file that `seal` made.

    Raises:
        WeightsError: The file is damaged, or has no hash.
    """
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{where} is not a whole safetensors file: {error}") from error
    hash_stated = tensors.pop(_SEAL, torch.empty(0))
    if not is_sealed(tensors, hash_stated):
        raise WeightsError(f"{where} is damaged: its content has not the hash that it states")
    return tensors


def _hash_of(tensors: Mapping[str, Tensor]) -> Tensor:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(total.digest()), dtype=torch.uint8)


_NORMS = ("none", "source", "target", "both")


def save_moments(moments: PairedMoments, path: str | Path) -> None:
    """Writes moments to a safetensors file, in one step.

    The file reveals means and correlations of the data, though no single row.

    Args:
        moments: The moments of any number of pairs.
        path: The file to write; its folder must exist.

    Raises:
        OSError: The file cannot be written; says what to do.
    """
    check_name(path, wanted="a file for the moments")
    tensors = moments.to_tensors() | {
        "n": torch.tensor(moments.n),
        "eps": torch.tensor(moments.eps, dtype=torch.float64),
    }
    if moments.unit_norm is not None:
        tensors["unit_norm"] = torch.tensor(_NORMS.index(moments.unit_norm))
    write_atomic(Path(path), seal(tensors))


def load_moments(path: str | Path, *, device: torch.device | str = "cpu") -> PairedMoments:
    """Reads what `save_moments` wrote.

    Args:
        path: The safetensors file.
        device: Where to put the tensors.

    Raises:
        WeightsError: The file is truncated or damaged, or does not hold valid moments.
    """
    check_name(path, wanted="a file of moments")
    try:
        tensors = safetensors.torch.load(Path(path).read_bytes())
        stated = tensors.pop(_SEAL, None)  # version 0.1.0 wrote none
        content = dict(tensors)
        n, eps = int(tensors.pop("n")), float(tensors.pop("eps"))
        norm = tensors.pop("unit_norm", None)
        moments = PairedMoments.from_tensors(tensors, n=n, eps=eps)
        if norm is not None:
            moments = replace(moments, unit_norm=_NORMS[int(norm) % len(_NORMS)])
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    except KeyError as error:
        raise WeightsError(f"{path} does not hold moments: {error} is missing") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, OverflowError) as error:  # n or eps is not one number
        raise WeightsError(f"{path} does not hold moments: {error}") from error
    if stated is not None and not is_sealed(content, stated):
        raise WeightsError(f"{path} is damaged: its content has not the hash that it states")
    return moments.to(device)


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
        raise ConfigError(
            f"{where} must state {key} {kind!r}, got {stated_types(config) or 'none'}"
        )
    check_config(config, {key: str, **fields}, owner=kind, where=where)


def stated_types(config: Mapping[str, Any]) -> str:
    """What a config says that its repo holds, such as "decoder_type 'index'"; may be empty."""
    return " and ".join(
        f"{key} {value!r}" for key, value in config.items() if key.endswith("_type")
    )


def loader_of(config: Mapping[str, Any]) -> str:
    """How to load what a config says that its repo holds."""
    stated = (loader for key, loader in _LOADERS.items() if key in config)
    return next(stated, "the class for that")


def check_fields(content: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Refuses a JSON object unless it has exactly these fields, of these types.

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


def check_part_names(names: Iterable[str], *, error: type[ValueError] = ValueError) -> list[str]:
    """The names of the parts that a repo holds in folders of their own, such as views.

    Raises:
        ValueError: One cannot be the name of a folder; or `error`.
    """
    for name in (checked := list(names)):
        if not isinstance(name, str) or not _PART.fullmatch(name):
            raise error(
                "a view's name is also its folder: letters, digits, '_', '-' and '.' are "
                f"possible, got {name!r}"
            )
        if len(name.encode()) > _LONGEST_NAME:
            raise error(
                f"a view's name is also its folder, of at most {_LONGEST_NAME} bytes, got "
                f"{len(name.encode())}: {name[:40]!r}..."
            )
        if name in _BESIDE or sum(name.lower() == other.lower() for other in checked) > 1:
            raise error(
                f"a view's name is also its folder, beside {', '.join(_BESIDE)}, and differs from "
                f"others in more than case: got {name!r} in {checked}"
            )
    return checked


_PART = re.compile(r"\w[\w.-]*")
_LONGEST_NAME = 255  # of a folder, on all file systems in use
_BESIDE = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)
