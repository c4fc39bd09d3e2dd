"""Loads a translator of whatever type a repo holds."""

from hf_latent_bridge.translators.base import Translator


class AutoTranslator:
    """The one entry point for loading: `AutoTranslator.from_pretrained("me/minilm-to-mpnet")`."""

    from_pretrained = Translator.from_pretrained

    def __init__(self) -> None:
        raise OSError("AutoTranslator is not built directly: use AutoTranslator.from_pretrained")
