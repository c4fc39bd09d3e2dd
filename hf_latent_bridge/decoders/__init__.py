"""From latents to what was built on them: heads, indexes, image decoders, and any callable."""

from hf_latent_bridge.decoders.autoencoder import Autoencoder, ConvDecoder, fit_autoencoder
from hf_latent_bridge.decoders.base import Decoder, as_decoder
from hf_latent_bridge.decoders.classifier import split_classifier
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.head_fitting import fit_head
from hf_latent_bridge.decoders.index import LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.decoders.load import load_decoder
from hf_latent_bridge.encoders.classifier import ClassifierEncoder
from hf_latent_bridge.encoders.conv import ConvEncoder
from hf_latent_bridge.encoders.split import split_model

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
