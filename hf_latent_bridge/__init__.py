"""Carry one encoder's latents into another's space, and share the map on the Hugging Face Hub."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_latent_bridge._version import __version__ as __version__

if TYPE_CHECKING:
    from hf_latent_bridge.autoencoder import ConvDecoder as ConvDecoder
    from hf_latent_bridge.autoencoder import ConvEncoder as ConvEncoder
    from hf_latent_bridge.autoencoder import fit_autoencoder as fit_autoencoder
    from hf_latent_bridge.data.load import load_pairs as load_pairs
    from hf_latent_bridge.data.pairs import Pairs as Pairs
    from hf_latent_bridge.decoders.base import Decoder as Decoder
    from hf_latent_bridge.decoders.base import as_decoder as as_decoder
    from hf_latent_bridge.decoders.head import Head as Head
    from hf_latent_bridge.decoders.head import fit_head as fit_head
    from hf_latent_bridge.decoders.index import LatentIndex as LatentIndex
    from hf_latent_bridge.decoders.labels import LabelDecoder as LabelDecoder
    from hf_latent_bridge.decoders.load import load_decoder as load_decoder
    from hf_latent_bridge.decoders.load import split_classifier as split_classifier
    from hf_latent_bridge.encoders.base import Encoder as Encoder
    from hf_latent_bridge.encoders.cache import CachedEncoder as CachedEncoder
    from hf_latent_bridge.encoders.cache import CacheEntry as CacheEntry
    from hf_latent_bridge.encoders.cache import cache_info as cache_info
    from hf_latent_bridge.encoders.cache import clear_cache as clear_cache
    from hf_latent_bridge.encoders.classifier import split_model as split_model
    from hf_latent_bridge.encoders.load import load_encoder as load_encoder
    from hf_latent_bridge.evaluation import Report as Report
    from hf_latent_bridge.evaluation import evaluate as evaluate
    from hf_latent_bridge.evaluation import evaluate_latents as evaluate_latents
    from hf_latent_bridge.fitting.anchors import choose_anchors as choose_anchors
    from hf_latent_bridge.fitting.fit import fit_translator as fit_translator
    from hf_latent_bridge.integrations.sentence_transformers import (
        to_sentence_transformer as to_sentence_transformer,
    )
    from hf_latent_bridge.moments import PairedMoments as PairedMoments
    from hf_latent_bridge.spaces import SpaceSpec as SpaceSpec
    from hf_latent_bridge.stitching import StitchedModel as StitchedModel
    from hf_latent_bridge.stitching import stitch as stitch
    from hf_latent_bridge.stitching import zero_shot as zero_shot
    from hf_latent_bridge.translators import AffineTranslator as AffineTranslator
    from hf_latent_bridge.translators import LinearTranslator as LinearTranslator
    from hf_latent_bridge.translators import LOrthoTranslator as LOrthoTranslator
    from hf_latent_bridge.translators import OrthoTranslator as OrthoTranslator
    from hf_latent_bridge.translators import Translator as Translator
    from hf_latent_bridge.translators.base import AutoTranslator as AutoTranslator
    from hf_latent_bridge.translators.composed import ComposedTranslator as ComposedTranslator
    from hf_latent_bridge.translators.composed import compose as compose
    from hf_latent_bridge.translators.latent_map import LatentMap as LatentMap

_HOMES = {
    "AffineTranslator": "translators",
    "AutoTranslator": "translators.base",
    "CacheEntry": "encoders.cache",
    "CachedEncoder": "encoders.cache",
    "ComposedTranslator": "translators.composed",
    "ConvDecoder": "autoencoder",
    "ConvEncoder": "autoencoder",
    "Decoder": "decoders.base",
    "Encoder": "encoders.base",
    "Head": "decoders.head",
    "LOrthoTranslator": "translators",
    "LabelDecoder": "decoders.labels",
    "LatentIndex": "decoders.index",
    "LatentMap": "translators.latent_map",
    "LinearTranslator": "translators",
    "OrthoTranslator": "translators",
    "PairedMoments": "moments",
    "Pairs": "data.pairs",
    "Report": "evaluation",
    "SpaceSpec": "spaces",
    "StitchedModel": "stitching",
    "Translator": "translators",
    "as_decoder": "decoders.base",
    "cache_info": "encoders.cache",
    "choose_anchors": "fitting.anchors",
    "clear_cache": "encoders.cache",
    "compose": "translators.composed",
    "evaluate": "evaluation",
    "evaluate_latents": "evaluation",
    "fit_autoencoder": "autoencoder",
    "fit_head": "decoders.head",
    "fit_translator": "fitting.fit",
    "load_decoder": "decoders.load",
    "load_encoder": "encoders.load",
    "load_pairs": "data.load",
    "split_classifier": "decoders.load",
    "split_model": "encoders.classifier",
    "stitch": "stitching",
    "to_sentence_transformer": "integrations.sentence_transformers",
    "zero_shot": "stitching",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562): importing the package stays cheap."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
