"""One file per translator type; importing a file here enters it into the registry."""

from hf_latent_bridge.translators.affine import AffineTranslator
from hf_latent_bridge.translators.base import TRANSLATORS, Translator
from hf_latent_bridge.translators.l_ortho import LOrthoTranslator
from hf_latent_bridge.translators.linear import LinearTranslator
from hf_latent_bridge.translators.ortho import OrthoTranslator

__all__ = [
    "TRANSLATORS",
    "AffineTranslator",
    "LOrthoTranslator",
    "LinearTranslator",
    "OrthoTranslator",
    "Translator",
]
