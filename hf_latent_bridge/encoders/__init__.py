"""Turns items into latents: encoders of texts and images from the Hub, and the user's callables."""

from hf_latent_bridge.encoders.base import Encoder, EncoderLike, encode, space_of
from hf_latent_bridge.encoders.cache_report import CacheEntry, cache_info, clear_cache
from hf_latent_bridge.encoders.cached import CachedEncoder
from hf_latent_bridge.encoders.load import load_encoder
from hf_latent_bridge.encoders.options import default_device

__all__ = [
    "CacheEntry",
    "CachedEncoder",
    "Encoder",
    "EncoderLike",
    "cache_info",
    "clear_cache",
    "default_device",
    "encode",
    "load_encoder",
    "space_of",
]
