"""Paired items: which columns, files or streams say the same thing to two encoders."""

from hf_latent_bridge.data.chunks import Chunk, PairSource, Place, Share
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.data.load import load_pairs
from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.data.streams import StreamedPairs

__all__ = [
    "BadRow",
    "Chunk",
    "PairSource",
    "Pairs",
    "Place",
    "Share",
    "StreamedPairs",
    "load_pairs",
]
