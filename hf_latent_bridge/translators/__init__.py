"""The registered translator types; importing a type's file enters it into the registry."""

from hf_latent_bridge.translators.base import TRANSLATORS, Translator
from hf_latent_bridge.translators.composed import ComposedTranslator
from hf_latent_bridge.translators.kernel import KernelTranslator
from hf_latent_bridge.translators.methods import (
    AffineTranslator,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
)
from hf_latent_bridge.translators.shared import SharedTranslator
from hf_latent_bridge.translators.shared_space import SharedSpace, SharedViewTranslator
from hf_latent_bridge.translators.spectral import SpectralTranslator

__all__ = [
    "TRANSLATORS",
    "AffineTranslator",
    "ComposedTranslator",
    "KernelTranslator",
    "LOrthoTranslator",
    "LinearTranslator",
    "OrthoTranslator",
    "SharedSpace",
    "SharedTranslator",
    "SharedViewTranslator",
    "SpectralTranslator",
    "Translator",
]
