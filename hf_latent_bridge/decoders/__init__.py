"""From latents to what was built on them: heads, indexes, image decoders, and any callable."""

from hf_latent_bridge.decoders.autoencoder import (
    Autoencoder,
    ConvDecoder,
    ConvEncoder,
    fit_autoencoder,
)
from hf_latent_bridge.decoders.base import Decoder, as_decoder
from hf_latent_bridge.decoders.classifier import ClassifierEncoder, split_classifier
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.head_fitting import fit_head
from hf_latent_bridge.decoders.index import LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.decoders.load import load_decoder
from hf_latent_bridge.decoders.split import split_model

__all__ = [
    "Autoencoder",
    "ClassifierEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Head",
    "LabelDecoder",
    "LatentIndex",
    "as_decoder",
    "fit_autoencoder",
    "fit_head",
    "load_decoder",
    "split_classifier",
    "split_model",
]
