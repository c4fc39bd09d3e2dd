"""Lists the translator types that a visitor can choose, read from the library's registry."""

from hf_latent_bridge import Translator
from hf_latent_bridge.translators.base import TRANSLATORS

ALPHA = 0.1  # ridge penalty: without one, affine equals linear


def methods() -> dict[str, Translator]:
    """Type -> a translator of it that is yet to be fitted."""
    found = {name: kind() for name, kind in TRANSLATORS.items()}
    for translator in found.values():
        if translator.get_params().get("alpha") == 0:
            translator.set_params(alpha=ALPHA)
    return found


def label(translator: Translator) -> str:
    """The type, and the parameters that differ from their defaults: "affine (alpha 0.1)"."""
    defaults = type(translator)().get_params()
    changed = [
        f"{name} {value}"
        for name, value in translator.get_params().items()
        if value != defaults[name]
    ]
    name = translator.translator_type
    return f"{name} ({', '.join(changed)})" if changed else name
