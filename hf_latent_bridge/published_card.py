"""The card of a published decoder, encoder or stitched model."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

_TEMPLATE = Path(__file__).with_name("published_card.md")
_LOCAL_PATH = "path/to/this/folder"


def render_card(
    owner: object, config: Mapping[str, Any], *, repo_id: str | None, tags: Sequence[str]
) -> str:
    """The README.md for a published object.

    Args:
        owner: What is published; the card takes its name and its first docstring lines.
        config: Content of `config.json`.
        repo_id: Where it is pushed to, for the snippet; None for a folder.
        tags: Further tags.
    """
    kind = next(f"{key.removesuffix('_type')}:{config[key]}" for key in config if "_type" in key)
    spaces = {name: config[name] for name in ("space", "encoder", "decoder") if name in config}
    named = [space.get("repo_id") for space in spaces.values()]
    base_models = list(dict.fromkeys(name for name in named if name and name != repo_id))
    about = inspect.cleandoc(type(owner).__doc__ or "").split("\n\nAttributes:")[0]
    data = ModelCardData(
        library_name="hf-latent-bridge",
        tags=["latent-translation", kind, *tags],
        base_model=base_models or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=(repo_id or type(owner).__name__).rsplit("/", 1)[-1],
        class_name=type(owner).__name__,
        repo_id=repo_id or _LOCAL_PATH,
        about=about,
        space=config.get("space"),
        parts=_parts(config),
    )
    return f"{str(card).rstrip()}\n"


def _parts(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The repos that a stitched model points to, in the order in which latents pass them."""
    if "decoder" not in config:
        return []
    translators = [("translator", step) for step in config["translators"]]
    return [("encoder", config["encoder"]), *translators, ("decoder", config["decoder"])]
