"""Carry one encoder's latents into another's space, and share the map on the Hugging Face Hub."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_latent_bridge._version import __version__ as __version__

if TYPE_CHECKING:
    from hf_latent_bridge.anchor_choice import choose_anchors as choose_anchors
    from hf_latent_bridge.composition import ComposedTranslator as ComposedTranslator
    from hf_latent_bridge.composition import compose as compose
    from hf_latent_bridge.data import Pairs as Pairs
    from hf_latent_bridge.data import load_pairs as load_pairs
    from hf_latent_bridge.decoders import ConvDecoder as ConvDecoder
    from hf_latent_bridge.decoders import ConvEncoder as ConvEncoder
    from hf_latent_bridge.decoders import Decoder as Decoder
    from hf_latent_bridge.decoders import Head as Head
    from hf_latent_bridge.decoders import LabelDecoder as LabelDecoder
    from hf_latent_bridge.decoders import LatentIndex as LatentIndex
    from hf_latent_bridge.decoders import as_decoder as as_decoder
    from hf_latent_bridge.decoders import fit_autoencoder as fit_autoencoder
    from hf_latent_bridge.decoders import fit_head as fit_head
    from hf_latent_bridge.decoders import load_decoder as load_decoder
    from hf_latent_bridge.decoders import split_classifier as split_classifier
    from hf_latent_bridge.decoders import split_model as split_model
    from hf_latent_bridge.encoders import CachedEncoder as CachedEncoder
    from hf_latent_bridge.encoders import CacheEntry as CacheEntry
    from hf_latent_bridge.encoders import Encoder as Encoder
    from hf_latent_bridge.encoders import cache_info as cache_info
    from hf_latent_bridge.encoders import clear_cache as clear_cache
    from hf_latent_bridge.encoders import load_encoder as load_encoder
    from hf_latent_bridge.evaluation import evaluate as evaluate
    from hf_latent_bridge.evaluation import evaluate_latents as evaluate_latents
    from hf_latent_bridge.fitting import fit_translator as fit_translator
    from hf_latent_bridge.moments import PairedMoments as PairedMoments
    from hf_latent_bridge.report import Report as Report
    from hf_latent_bridge.sentence_transformer_export import (
        to_sentence_transformer as to_sentence_transformer,
    )
    from hf_latent_bridge.solvers import AffineMap as AffineMap
    from hf_latent_bridge.spaces import SpaceSpec as SpaceSpec
    from hf_latent_bridge.stitching import StitchedModel as StitchedModel
    from hf_latent_bridge.stitching import stitch as stitch
    from hf_latent_bridge.translators import AffineTranslator as AffineTranslator
    from hf_latent_bridge.translators import LinearTranslator as LinearTranslator
    from hf_latent_bridge.translators import LOrthoTranslator as LOrthoTranslator
    from hf_latent_bridge.translators import OrthoTranslator as OrthoTranslator
    from hf_latent_bridge.translators import Translator as Translator
    from hf_latent_bridge.translators.auto import AutoTranslator as AutoTranslator
    from hf_latent_bridge.zero_shot import zero_shot as zero_shot

_HOMES = {
    "AffineMap": "solvers",
    "AffineTranslator": "translators",
    "AutoTranslator": "translators.auto",
    "CacheEntry": "encoders",
    "CachedEncoder": "encoders",
    "ComposedTranslator": "composition",
    "ConvDecoder": "decoders",
    "ConvEncoder": "decoders",
    "Decoder": "decoders",
    "Encoder": "encoders",
    "Head": "decoders",
    "LOrthoTranslator": "translators",
    "LabelDecoder": "decoders",
    "LatentIndex": "decoders",
    "LinearTranslator": "translators",
    "OrthoTranslator": "translators",
    "PairedMoments": "moments",
    "Pairs": "data",
    "Report": "report",
    "SpaceSpec": "spaces",
    "StitchedModel": "stitching",
    "Translator": "translators",
    "as_decoder": "decoders",
    "cache_info": "encoders",
    "choose_anchors": "anchor_choice",
    "clear_cache": "encoders",
    "compose": "composition",
    "evaluate": "evaluation",
    "evaluate_latents": "evaluation",
    "fit_autoencoder": "decoders",
    "fit_head": "decoders",
    "fit_translator": "fitting",
    "load_decoder": "decoders",
    "load_encoder": "encoders",
    "load_pairs": "data",
    "split_classifier": "decoders",
    "split_model": "decoders",
    "stitch": "stitching",
    "to_sentence_transformer": "sentence_transformer_export",
    "zero_shot": "zero_shot",
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
