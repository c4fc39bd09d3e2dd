"""Lists the translator types that a visitor can choose, read from the library's registry."""

from hf_latent_bridge import Translator
from hf_latent_bridge.translators import base


def methods() -> dict[str, Translator]:
    """Type -> a translator with the suggested parameters, yet to be fitted."""
    return {name: kind.from_params(kind.suggested) for name, kind in base.methods().items()}


def label(translator: Translator) -> str:
    """The type and the suggested parameters: "affine (alpha 0.1)"."""
    suggested = ", ".join(f"{name} {value}" for name, value in translator.suggested.items())
    return translator.translator_type + (f" ({suggested})" if suggested else "")
