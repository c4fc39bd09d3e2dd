"""The one list of public names, which type checkers and `__init__.py` read."""

from hf_latent_bridge._version import __version__ as __version__
from hf_latent_bridge.autoencoder import Autoencoder as Autoencoder
from hf_latent_bridge.autoencoder import ConvDecoder as ConvDecoder
from hf_latent_bridge.autoencoder import ConvEncoder as ConvEncoder
from hf_latent_bridge.autoencoder import fit_autoencoder as fit_autoencoder
from hf_latent_bridge.data.chunks import Chunk as Chunk
from hf_latent_bridge.data.items import BadRow as BadRow
from hf_latent_bridge.data.load import load_pairs as load_pairs
from hf_latent_bridge.data.pairs import Pairs as Pairs
from hf_latent_bridge.data.streams import StreamedPairs as StreamedPairs
from hf_latent_bridge.decoders.base import Decoder as Decoder
from hf_latent_bridge.decoders.base import as_decoder as as_decoder
from hf_latent_bridge.decoders.head import Head as Head
from hf_latent_bridge.decoders.head import fit_head as fit_head
from hf_latent_bridge.decoders.index import LatentIndex as LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder as LabelDecoder
from hf_latent_bridge.decoders.load import SplitClassifier as SplitClassifier
from hf_latent_bridge.decoders.load import load_decoder as load_decoder
from hf_latent_bridge.decoders.load import split_classifier as split_classifier
from hf_latent_bridge.encoders.base import Encoder as Encoder
from hf_latent_bridge.encoders.cache import CachedEncoder as CachedEncoder
from hf_latent_bridge.encoders.cache import CacheEntry as CacheEntry
from hf_latent_bridge.encoders.cache import cache_info as cache_info
from hf_latent_bridge.encoders.cache import clear_cache as clear_cache
from hf_latent_bridge.encoders.classifier import split_model as split_model
from hf_latent_bridge.encoders.load import load_encoder as load_encoder
from hf_latent_bridge.encoders.model import ModelEncoder as ModelEncoder
from hf_latent_bridge.evaluation import Report as Report
from hf_latent_bridge.evaluation import evaluate as evaluate
from hf_latent_bridge.evaluation import evaluate_latents as evaluate_latents
from hf_latent_bridge.files import load_moments as load_moments
from hf_latent_bridge.files import save_moments as save_moments
from hf_latent_bridge.fitting.anchors import choose_anchors as choose_anchors
from hf_latent_bridge.fitting.fit import FitSummary as FitSummary
from hf_latent_bridge.fitting.fit import fit_translator as fit_translator
from hf_latent_bridge.integrations.sentence_transformers import (
    to_sentence_transformer as to_sentence_transformer,
)
from hf_latent_bridge.moments import PairedMoments as PairedMoments
from hf_latent_bridge.spaces import SpaceSpec as SpaceSpec
from hf_latent_bridge.stitching import StitchedModel as StitchedModel
from hf_latent_bridge.stitching import stitch as stitch
from hf_latent_bridge.stitching import zero_shot as zero_shot
from hf_latent_bridge.translators.base import AutoTranslator as AutoTranslator
from hf_latent_bridge.translators.base import Translator as Translator
from hf_latent_bridge.translators.composed import ComposedTranslator as ComposedTranslator
from hf_latent_bridge.translators.composed import compose as compose
from hf_latent_bridge.translators.latent_map import LatentMap as LatentMap
from hf_latent_bridge.translators.latent_map import Map as Map
from hf_latent_bridge.translators.latent_map import MapChain as MapChain
from hf_latent_bridge.translators.methods import AffineTranslator as AffineTranslator
from hf_latent_bridge.translators.methods import LinearTranslator as LinearTranslator
from hf_latent_bridge.translators.methods import LOrthoTranslator as LOrthoTranslator
from hf_latent_bridge.translators.methods import OrthoTranslator as OrthoTranslator
