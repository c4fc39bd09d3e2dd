"""Turns items into latents: text encoders from the Hub, and any callable of the user's."""

from hf_latent_bridge.encoders.base import Encoder, EncoderLike, encode, space_of
from hf_latent_bridge.encoders.cached import CachedEncoder
from hf_latent_bridge.encoders.load import load_encoder

__all__ = ["CachedEncoder", "Encoder", "EncoderLike", "encode", "load_encoder", "space_of"]
