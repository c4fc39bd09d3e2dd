"""Encoder, translator and decoder as one model, called like a transformers pipeline."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.composition import (
    AnyTranslator,
    ComposedTranslator,
    check_meet,
    check_translator,
    compose,
    ends_of,
)
from hf_latent_bridge.config_checks import check_kind
from hf_latent_bridge.decoders.base import Decoder, as_decoder
from hf_latent_bridge.encoders import Encoder, EncoderLike, encode
from hf_latent_bridge.encoders.base import check_encoder
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.hub import HubOptions, fetch
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.published import Published
from hf_latent_bridge.serialization import CONFIG_NAME
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.stitched_repo import FIELDS, KIND, open_parts, to_config
from hf_latent_bridge.translators import Translator

TranslatorLike = AnyTranslator | Callable[[Tensor], Latents]


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

    def __call__(self, items: Any, *, batch_size: int = 32, top_k: int | None = None) -> Any:
        """Encodes, translates and decodes one item or many.

        Args:
            items: One item (a text, an image, ...), or a sequence, array or tensor of them.
            batch_size: Items per forward pass of the encoder.
            top_k: How many ranked answers to give for each item; None for the best alone.

        Returns:
            For many items one result each, in their order. For one item its result; a label
            without `top_k` comes as a list of one, as from a text-classification pipeline.

        Raises:
            InvalidPairsError: An item that the encoder cannot take.
            DecoderError: `top_k` is less than 1, or the decoder does not rank.
        """
        if is_many(items):
            return self.decoder(self.transform(items, batch_size=batch_size), top_k=top_k)
        result = self.decoder(self.transform([items]), top_k=top_k)[0]
        return [result] if isinstance(result, Mapping) else result

    def transform(self, items: Sequence[Any], *, batch_size: int = 32) -> Tensor:
        """The items' latents in the decoder's space, (n, d)."""
        latents = encode(self.encoder, items, batch_size=batch_size)
        if self.translator is None:
            return latents
        if len(latents) == 0 and isinstance(self.translator, AnyTranslator):
            return latents.new_empty(0, self.translator.target_width)
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
        device: torch.device | str = "cpu",
        trust_remote_code: bool = False,
        allow_mismatch: bool = False,
        **options: Unpack[HubOptions],
    ) -> "StitchedModel":
        """Loads a stitched model, with all its parts at the commits that its config pins.

        Args:
            pretrained_model_name_or_path: Repo id or folder.
            device: Where to put the parts.
            trust_remote_code: Run Python code that an encoder's or classifier's repo brings.
            allow_mismatch: Accept parts whose spaces do not meet.
            options: `revision` (resolved to a commit once), `subfolder`, `token` (for the parts
                too), `cache_dir`, `force_download`, `local_files_only`, as huggingface_hub takes
                them; encoders and classifiers are kept where transformers keeps its downloads.

        Raises:
            RepoNotFoundError: No such folder, repo, revision or file, here or of a part.
            RepoAccessError: A repo is gated.
            HubUnavailableError: The Hub cannot be reached and something is not cached.
            ConfigError: The config does not parse, is of a newer format, or no stitched model's.
            SpaceMismatchError: The parts do not meet.
        """
        fetched = fetch(pretrained_model_name_or_path, (CONFIG_NAME,), **options)
        config = fetched.config
        check_kind(config, *KIND, FIELDS, where=str(fetched.paths[CONFIG_NAME]))
        parts = open_parts(config, device, options, trust_remote_code=trust_remote_code)
        return stitch(*parts, allow_mismatch=allow_mismatch)._loaded_from(fetched)

    def _content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return to_config(self.encoder, self.translator, self.decoder)

    def __repr__(self) -> str:
        return f"StitchedModel({self.encoder!r}, {self.translator!r}, {self.decoder!r})"


def stitch(
    encoder: EncoderLike,
    translator: TranslatorLike | Sequence[AnyTranslator] | None,
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
        EncoderError: `encoder` is none.
        DecoderError: `decoder` is none.
        TypeError: A translator is none.
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


def is_many(items: Any) -> bool:
    """Whether these are several items; a text, bytes, a path or a picture is one."""
    one = str | bytes | bytearray | memoryview
    return isinstance(items, Sequence | Tensor | np.ndarray) and not isinstance(items, one)


def _chain(translators: Sequence[AnyTranslator], allow_mismatch: bool) -> AnyTranslator | None:
    for translator in translators:
        check_translator(translator)
    if len(translators) < 2:
        return next(iter(translators), None)
    if not allow_mismatch:
        return compose(*translators)
    parts = [part for translator in translators for part in compose(translator).translators]
    return ComposedTranslator(tuple(parts))


def _check_spaces(
    encoder: EncoderLike, translator: TranslatorLike | None, decoder: Decoder
) -> None:
    """Walks along the chain; what says nothing about its space meets anything."""
    giver: tuple[str, SpaceSpec] | None = None
    if isinstance(encoder, Encoder):
        giver = ("encoder", encoder.space)
    if isinstance(translator, Translator | ComposedTranslator):
        source, target = ends_of(translator)
        if giver is not None:
            check_meet(giver, ("translator", source))
        giver = ("translator", target)
    elif translator is not None:
        giver = None
    if giver is not None and decoder.space is not None:
        check_meet(giver, ("decoder", decoder.space))
