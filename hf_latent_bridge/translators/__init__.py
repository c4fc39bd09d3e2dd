"""One file per translator type; importing a file here enters it into the registry."""

from hf_latent_bridge.translators.base import TRANSLATORS, Translator
from hf_latent_bridge.translators.methods import (
    AffineTranslator,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
)

__all__ = [
    "TRANSLATORS",
    "AffineTranslator",
    "LOrthoTranslator",
    "LinearTranslator",
    "OrthoTranslator",
    "Translator",
]
