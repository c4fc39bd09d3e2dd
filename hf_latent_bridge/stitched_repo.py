"""The config of a stitched model: pointers to the repos of its parts, at pinned commits."""

import json
import re
from collections.abc import Mapping
from typing import Any

from hf_latent_bridge._version import __version__
from hf_latent_bridge.composition import AnyTranslator, ComposedTranslator, compose
from hf_latent_bridge.decoders import ConvEncoder, Decoder, load_decoder, split_classifier
from hf_latent_bridge.decoders.autoencoder import POOLING as AUTOENCODER
from hf_latent_bridge.decoders.classifier import POOLING as CLASSIFIER
from hf_latent_bridge.encoders import Encoder, load_encoder
from hf_latent_bridge.errors import ConfigError, DecoderError
from hf_latent_bridge.published import FORMAT_VERSION
from hf_latent_bridge.serialization import CONFIG_NAME
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators import Translator

FIELDS = {"encoder": dict, "translators": list, "decoder": dict}
_COMMIT = re.compile("[0-9a-f]{40}")


def to_config(
    named: Mapping[str, str], encoder: Any, translator: Any, decoder: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The config that points to the parts, and the one file that holds it.

    Args:
        named: What kind of config it is.
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
        **named,
        "encoder": _encoder_pointer(encoder),
        "translators": [_pointer("translator", part) for part in parts if part is not None],
        "decoder": _pointer("decoder", decoder),
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    return config, {CONFIG_NAME: text.encode()}


def open_parts(
    config: Mapping[str, Any], *, token: str | bool | None, device: Any, trust_remote_code: bool
) -> tuple[Encoder, AnyTranslator | None, Decoder]:
    """Encoder, translator and decoder, each at the commit that the config pins.

    Args:
        config: What `to_config` gave.
        token: Hub token.
        device: Where to put them.
        trust_remote_code: Run Python code that an encoder's or classifier's repo brings.

    Raises:
        ConfigError: A part is not named by repo and commit.
        RepoNotFoundError: A part is not there.
    """
    space = SpaceSpec.from_dict(config["encoder"])
    _check_pin({"repo_id": space.repo_id, "revision": space.revision})
    for pointer in (*config["translators"], config["decoder"]):
        _check_pin(pointer)
    options: dict[str, Any] = {"token": token, "device": device}
    trusted = {**options, "trust_remote_code": trust_remote_code}
    translators = [_open(Translator.from_pretrained, p, options) for p in config["translators"]]
    translator = compose(*translators) if len(translators) > 1 else next(iter(translators), None)
    return (
        _open_encoder(space, trusted),
        translator,
        _open(load_decoder, config["decoder"], trusted),
    )


def _open(load: Any, pointer: Mapping[str, str], options: Mapping[str, Any]) -> Any:
    return load(pointer["repo_id"], revision=pointer["revision"], **options)


def _open_encoder(space: SpaceSpec, options: Mapping[str, Any]) -> Encoder:
    pin = {"repo_id": str(space.repo_id), "revision": str(space.revision)}
    if space.pooling == CLASSIFIER:
        encoder: Encoder = _open(split_classifier, pin, options).encoder
        return encoder
    if space.pooling == AUTOENCODER:
        return ConvEncoder.from_pretrained(
            pin["repo_id"],
            revision=pin["revision"],
            token=options["token"],
            device=options["device"],
        )
    return load_encoder(space, **options)


def _encoder_pointer(encoder: Any) -> dict[str, Any]:
    space = encoder.space if isinstance(encoder, Encoder) else None
    if space is None or space.repo_id is None or space.revision is None:
        raise _unnamed("encoder", encoder)
    return space.to_dict()


def _pointer(side: str, part: Any) -> dict[str, str]:
    repo_id, commit = getattr(part, "repo_id", None), getattr(part, "commit", None)
    if repo_id is None or commit is None:
        raise _unnamed(side, part)
    return {"repo_id": repo_id, "revision": commit}


def _unnamed(side: str, part: Any) -> DecoderError:
    return DecoderError(
        "a stitched model is saved as pointers to the repos of its parts, at their commits, but "
        f"the {side} {part!r:.80} has none: push it to the Hub, or load it from there"
    )


def _check_pin(pointer: Any) -> None:
    good = isinstance(pointer, dict) and pointer.keys() == {"repo_id", "revision"}
    if not good or not isinstance(pointer["repo_id"], str) or not _is_commit(pointer["revision"]):
        raise ConfigError(
            "each part must be named by a repo_id and, as its revision, a whole commit hash: "
            f"got {pointer!r}"
        )


def _is_commit(revision: Any) -> bool:
    return isinstance(revision, str) and _COMMIT.fullmatch(revision) is not None
