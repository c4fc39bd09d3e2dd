"""The config of a stitched model: pointers to the repos of its parts, at pinned commits."""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch

from hf_latent_bridge._version import __version__
from hf_latent_bridge.composition import ComposedTranslator
from hf_latent_bridge.config_checks import FORMAT_VERSION
from hf_latent_bridge.decoders import Decoder, load_decoder
from hf_latent_bridge.encoders import Encoder, load_encoder
from hf_latent_bridge.errors import ConfigError, DecoderError
from hf_latent_bridge.hub import HubOptions
from hf_latent_bridge.serialization import CONFIG_NAME
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators import Translator

KIND = ("model_type", "stitched")
FIELDS = {"encoder": dict, "translators": list, "decoder": dict}
_PIN = {"repo_id", "revision", "subfolder"}
_COMMIT = re.compile("[0-9a-f]{40}")


def to_config(
    encoder: Any, translator: Any, decoder: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The config that points to the parts, and the one file that holds it.

    Args:
        encoder: An encoder whose space names its repo and commit.
        translator: One from the Hub, several composed, or None.
        decoder: One from the Hub.

    Raises:
        DecoderError: A part has no repo and commit; says which.
    """
    parts = translator.translators if isinstance(translator, ComposedTranslator) else [translator]
    config = {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        KIND[0]: KIND[1],
        "encoder": _encoder_pointer(encoder),
        "translators": [_pointer("translator", part) for part in parts if part is not None],
        "decoder": _pointer("decoder", decoder),
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    return config, {CONFIG_NAME: text.encode()}


def open_parts(
    config: Mapping[str, Any],
    device: torch.device | str,
    options: HubOptions,
    *,
    trust_remote_code: bool,
) -> tuple[Encoder, list[Translator], Decoder]:
    """Encoder, translators and decoder, each at the commit that the config pins.

    Args:
        config: What `to_config` gave.
        device: Where to put them.
        options: How the config itself was looked for.
        trust_remote_code: Run Python code that an encoder's or classifier's repo brings.

    Raises:
        ConfigError: A part is not named by repo and commit.
        RepoNotFoundError: A part is not there.
    """
    space = SpaceSpec.from_dict(config["encoder"])
    _check_pin({"repo_id": space.repo_id, "revision": space.revision})
    for pointer in (*config["translators"], config["decoder"]):
        _check_pin(pointer)
    how: dict[str, Any] = {**options, "device": device}
    trusted = {**how, "trust_remote_code": trust_remote_code}
    translators = [_open(Translator.from_pretrained, p, how) for p in config["translators"]]
    encoder = load_encoder(
        space, device=device, token=options.get("token"), trust_remote_code=trust_remote_code
    )
    return encoder, translators, _open(load_decoder, config["decoder"], trusted)


def _open(load: Any, pointer: Mapping[str, str], options: Mapping[str, Any]) -> Any:
    place = {"revision": pointer["revision"], "subfolder": pointer.get("subfolder", "")}
    return load(pointer["repo_id"], **{**options, **place})


def _encoder_pointer(encoder: Any) -> dict[str, Any]:
    space = encoder.space if isinstance(encoder, Encoder) else None
    if space is None or space.repo_id is None or space.revision is None:
        raise _unnamed("encoder", encoder)
    return space.to_dict()


def _pointer(side: str, part: Any) -> dict[str, str]:
    repo_id, commit = getattr(part, "repo_id", None), getattr(part, "commit", None)
    if repo_id is None or commit is None:
        raise _unnamed(side, part)
    pointer = {"repo_id": repo_id, "revision": commit}
    return pointer | ({"subfolder": part.subfolder} if part.subfolder else {})


def _unnamed(side: str, part: Any) -> DecoderError:
    return DecoderError(
        "a stitched model is saved as pointers to the repos of its parts, at their commits, but "
        f"the {side} {part!r:.80} has none: push it to the Hub, or load it from there"
    )


def _check_pin(pointer: Any) -> None:
    named = isinstance(pointer, dict) and {"repo_id", "revision"} <= pointer.keys() <= _PIN
    if (
        not named
        or not all(isinstance(value, str) for value in pointer.values())
        or _COMMIT.fullmatch(pointer["revision"]) is None
    ):
        raise ConfigError(
            "each part must be named by a repo_id, a whole commit hash as its revision and, if it "
            f"is not at the root, a subfolder: got {pointer!r}"
        )
