"""Encoder, translator and decoder as one model, called like a transformers pipeline."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.decoders.base import Decoder, as_decoder
from hf_latent_bridge.decoders.labels import LabelDecoder, check_labels
from hf_latent_bridge.decoders.load import load_decoder
from hf_latent_bridge.encoders.base import (
    BatchSize,
    Encoder,
    EncoderLike,
    as_items,
    check_encoder,
    encode,
    space_of,
)
from hf_latent_bridge.encoders.load import load_encoder
from hf_latent_bridge.errors import ConfigError, DecoderError, InvalidLatentsError
from hf_latent_bridge.files import CONFIG_NAME, FORMAT_VERSION, check_kind, to_json
from hf_latent_bridge.hub.client import HubOptions, fetch
from hf_latent_bridge.hub.published import Published
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec, check_meet
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import ComposedTranslator, check_translator, compose

KIND = ("model_type", "stitched")
FIELDS = {"encoder": dict, "translators": list, "decoder": dict}
_PIN = {"repo_id", "revision", "subfolder"}
_COMMIT = re.compile("[0-9a-f]{40}")


TranslatorLike = Translator | Callable[[Tensor], Latents]


class StitchedModel(Published):
    """An encoder whose latents a translator carries to a decoder of another encoder's latents.

    Attributes:
        encoder: From items to latents.
        translator: From these to the decoder's latents; None if they are the same.
        decoder: From latents to results.
    """

    def __init__(
        self, encoder: EncoderLike, translator: TranslatorLike | None, decoder: Decoder
    ) -> None:
        self.encoder = encoder
        self.translator = translator
        self.decoder = decoder

    def __call__(
        self, items: Any, *, batch_size: BatchSize = "auto", top_k: int | None = None
    ) -> Any:
        """Encodes, translates and decodes one item or many.

        Args:
            items: One item (a text, an image, ...), or a sequence, array or tensor of them.
            batch_size: Items per forward pass of the encoder; "auto" for as many as suit it.
            top_k: How many ranked answers to give for each item; None for the best alone.

        Returns:
            For many items one result each, in their order. For one item its result; a label
            without `top_k` comes as a list of one, as from a text-classification pipeline.

        Raises:
            InvalidPairsError: An item that the encoder cannot take, or an iterator of items.
            DecoderError: `top_k` is less than 1, or the decoder does not rank.
        """
        given, single = as_items(items)
        results = self.decoder(self.transform(given, batch_size=batch_size), top_k=top_k)
        if not single:
            return results
        return [results[0]] if isinstance(results[0], Mapping) else results[0]

    def transform(self, items: Sequence[Any], *, batch_size: BatchSize = "auto") -> Tensor:
        """The items' latents in the decoder's space, (n, d).

        Raises:
            InvalidPairsError: An item that the encoder cannot take.
            InvalidLatentsError: A callable translator does not give one row per latent.
        """
        latents = encode(self.encoder, items, batch_size=batch_size)
        if self.translator is None:
            return latents
        if isinstance(self.translator, Translator):
            return self.translator.transform(latents)
        with torch.no_grad():
            translated = as_tensor(self.translator(latents))
        if translated.ndim != 2 or len(translated) != len(latents):
            raise InvalidLatentsError(
                f"a translator must give one row per latent, ({len(latents)}, d), "
                f"got shape {tuple(translated.shape)} from {self.translator!r:.60}"
            )
        return translated

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        trust_remote_code: bool = False,
        allow_mismatch: bool = False,
        **options: Unpack[HubOptions],
    ) -> "StitchedModel":
        """Loads a stitched model, with all its parts at the commits that its config pins.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the parts; None for a GPU if there is one.
            trust_remote_code: Run Python code that an encoder's or classifier's repo brings.
            allow_mismatch: Accept parts whose spaces do not meet.
            options: `revision` (resolved to a commit once), `subfolder`, `token` (for the parts
                too), `cache_dir`, `force_download`, `local_files_only`, as huggingface_hub takes
                them.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file, here or of a part.
            RepoAccessError: A repo is gated.
            HubUnavailableError: The Hub cannot be reached and something is not cached.
            ConfigError: The config does not parse, is of a newer format, or is not a stitched
                model's.
            SpaceMismatchError: The parts do not meet.
        """
        fetched = fetch(pretrained_model_name_or_path, (CONFIG_NAME,), **options)
        check_kind(fetched.config, *KIND, FIELDS, where=str(fetched.paths[CONFIG_NAME]))
        own = ("revision", "subfolder")  # of the config's repo; each part has its own
        how: dict[str, Any] = {name: value for name, value in options.items() if name not in own}
        how["device"] = device
        parts = _open_parts(fetched.config, how, trust_remote_code=trust_remote_code)
        return stitch(*parts, allow_mismatch=allow_mismatch)._loaded_from(fetched)

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        config = {
            "format_version": FORMAT_VERSION,
            "library_version": __version__,
            KIND[0]: KIND[1],
            "encoder": _encoder_pointer(self.encoder),
            "translators": _translator_pointers(self.translator),
            "decoder": _pointer("decoder", self.decoder),
        }
        return config, {CONFIG_NAME: to_json(config)}

    def __repr__(self) -> str:
        return f"StitchedModel({self.encoder!r}, {self.translator!r}, {self.decoder!r})"


def stitch(
    encoder: EncoderLike,
    translator: TranslatorLike | Sequence[Translator] | None,
    decoder: Any,
    *,
    allow_mismatch: bool = False,
) -> StitchedModel:
    """Puts an encoder, a translator and a decoder together; nothing is trained.

    Args:
        encoder: From `load_encoder`, one of your own, or a callable from items to latents.
        translator: A translator, a list of them to apply in a row, a callable from latents to
            latents, or None where encoder and decoder share a space.
        decoder: From `load_decoder`, a `LatentIndex`, a fitted scikit-learn estimator, or a
            callable from latents to results.
        allow_mismatch: Accept parts whose spaces do not meet.

    Raises:
        SpaceMismatchError: Two neighbours' spaces differ in a field that both know.
        EncoderError: `encoder` is not an encoder.
        DecoderError: `decoder` is not a decoder.
        TypeError: A translator is not a translator.
        NotFittedError: A translator is not fitted.
    """
    check_encoder(encoder)
    decoder = as_decoder(decoder)
    if isinstance(translator, str) or not isinstance(translator, Sequence | Callable | None):
        check_translator(translator)
    if isinstance(translator, Sequence):
        translator = _chain(translator, allow_mismatch)
    if not allow_mismatch:
        _check_spaces(encoder, translator, decoder)
    return StitchedModel(encoder, translator, decoder)


def zero_shot(
    encoder: EncoderLike,
    translator: TranslatorLike | Sequence[Translator] | None,
    text_encoder: EncoderLike,
    labels: Sequence[str],
    *,
    template: str = "{}",
    allow_mismatch: bool = False,
) -> StitchedModel:
    """A classifier of whatever `encoder` encodes, from nothing but the names of the classes.

    Args:
        encoder: Encodes the items, such as images.
        translator: Carries its latents into the text encoder's space, as `stitch` takes it.
        text_encoder: Encodes the label sentences.
        labels: Names of the classes, distinct texts.
        template: The sentence for a label, such as "a photo of a {}".
        allow_mismatch: Accept parts whose spaces do not meet.

    Returns:
        A model that ranks the labels by cosine; push its decoder, and it can be pushed itself.

    Raises:
        DecoderError: A template without {}, no labels, or labels that are not distinct texts.
        SpaceMismatchError: The spaces do not meet.
    """
    if not isinstance(template, str) or "{}" not in template:
        raise DecoderError(f"template must hold {{}} where the label goes, got {template!r}")
    names = check_labels(labels)
    vectors = encode(text_encoder, [template.replace("{}", name) for name in names])
    decoder = LabelDecoder(vectors, names, space_of(text_encoder, vectors.shape[1]))
    return stitch(encoder, translator, decoder, allow_mismatch=allow_mismatch)


def _chain(translators: Sequence[Translator], allow_mismatch: bool) -> Translator | None:
    for translator in translators:
        check_translator(translator)
    if len(translators) < 2:
        return next(iter(translators), None)
    return compose(*translators, allow_mismatch=allow_mismatch)


def _check_spaces(
    encoder: EncoderLike, translator: TranslatorLike | None, decoder: Decoder
) -> None:
    """Checks each pair of neighbours; a part whose space is not known meets any other."""
    giver: tuple[str, SpaceSpec] | None = None
    if isinstance(encoder, Encoder):
        giver = ("encoder", encoder.space)
    if isinstance(translator, Translator):
        check_translator(translator)
        if giver is not None:
            check_meet(giver, ("translator", translator.source_))
        giver = ("translator", translator.target_)
    elif translator is not None:
        giver = None
    if giver is not None and decoder.space is not None:
        check_meet(giver, ("decoder", decoder.space))


def _open_parts(
    config: Mapping[str, Any], how: Mapping[str, Any], *, trust_remote_code: bool
) -> tuple[Encoder, list[Translator], Decoder]:
    """Encoder, translators and decoder, each at the commit that the config pins."""
    space = SpaceSpec.from_dict(config["encoder"])
    _check_pin({"repo_id": space.repo_id, "revision": space.revision})
    for pointer in (*config["translators"], config["decoder"]):
        _check_pin(pointer)
    trusted = {**how, "trust_remote_code": trust_remote_code}
    translators = [_open(Translator.from_pretrained, p, how) for p in config["translators"]]
    decoder: Decoder = _open(load_decoder, config["decoder"], trusted)
    return load_encoder(space, **trusted), translators, decoder


def _open(load: Any, pointer: Mapping[str, str], how: Mapping[str, Any]) -> Any:
    where = {"revision": pointer["revision"], "subfolder": pointer.get("subfolder", "")}
    return load(pointer["repo_id"], **how, **where)


def _encoder_pointer(encoder: Any) -> dict[str, Any]:
    space = encoder.space if isinstance(encoder, Encoder) else None
    if space is None or space.repo_id is None or space.revision is None:
        raise _unnamed("encoder", encoder)
    return space.to_dict()


def _translator_pointers(translator: Any) -> list[dict[str, str]]:
    """Points to a composition itself if it has a repo, else to the translators it was made of."""
    if translator is None:
        return []
    if not isinstance(translator, ComposedTranslator) or translator.repo_id is not None:
        return [_pointer("translator", translator)]
    records = translator.translators_
    if not all(record.keys() >= {"repo_id", "revision"} for record in records):
        raise _unnamed("translator", translator)
    return [{name: record[name] for name in sorted(_PIN & record.keys())} for record in records]


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
