"""Carry one encoder's latents into another's space, and share the map on the Hugging Face Hub."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_latent_bridge._version import __version__ as __version__

if TYPE_CHECKING:
    from hf_latent_bridge.data import Pairs as Pairs
    from hf_latent_bridge.data import load_pairs as load_pairs
    from hf_latent_bridge.encoders import CachedEncoder as CachedEncoder
    from hf_latent_bridge.encoders import Encoder as Encoder
    from hf_latent_bridge.encoders import load_encoder as load_encoder
    from hf_latent_bridge.evaluation import Report as Report
    from hf_latent_bridge.evaluation import evaluate as evaluate
    from hf_latent_bridge.evaluation import evaluate_latents as evaluate_latents
    from hf_latent_bridge.fitting import fit_translator as fit_translator
    from hf_latent_bridge.moments import PairedMoments as PairedMoments
    from hf_latent_bridge.solvers import AffineMap as AffineMap
    from hf_latent_bridge.spaces import SpaceSpec as SpaceSpec
    from hf_latent_bridge.translators import AffineTranslator as AffineTranslator
    from hf_latent_bridge.translators import LinearTranslator as LinearTranslator
    from hf_latent_bridge.translators import LOrthoTranslator as LOrthoTranslator
    from hf_latent_bridge.translators import OrthoTranslator as OrthoTranslator
    from hf_latent_bridge.translators import Translator as Translator
    from hf_latent_bridge.translators.auto import AutoTranslator as AutoTranslator

_HOMES = {
    "AffineMap": "solvers",
    "AffineTranslator": "translators",
    "AutoTranslator": "translators.auto",
    "CachedEncoder": "encoders",
    "Encoder": "encoders",
    "LOrthoTranslator": "translators",
    "LinearTranslator": "translators",
    "OrthoTranslator": "translators",
    "PairedMoments": "moments",
    "Pairs": "data",
    "Report": "evaluation",
    "SpaceSpec": "spaces",
    "Translator": "translators",
    "evaluate": "evaluation",
    "evaluate_latents": "evaluation",
    "fit_translator": "fitting",
    "load_encoder": "encoders",
    "load_pairs": "data",
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
