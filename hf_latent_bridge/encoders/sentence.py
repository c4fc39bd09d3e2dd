"""sentence-transformers repos as encoders, with their own modules, of any modality they read."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.modality import MODALITIES, Prepare, choose_modality
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.strict_load import (
    LoadOptions,
    check_vocabulary,
    quiet_load,
    token_limit,
)
from hf_latent_bridge.encoders.tokens import faster
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.hub import client

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# weights for other frameworks
_NOT_NEEDED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot"]


class SentenceTransformerEncoder(ModelEncoder):
    """A sentence-transformers model as an encoder."""

    model: "SentenceTransformer"

    @classmethod
    def load(cls, options: LoadOptions) -> "SentenceTransformerEncoder":
        """Loads the model with its own modules, and tries it on an item.

        Raises:
            EncoderError: No vocabulary, missing weights, `max_length` beyond the model's, several
                modalities but no `modality`, or `normalize=False` where the repo normalises.
        """
        from sentence_transformers.sentence_transformer.modules import Normalize

        with quiet_load(options.name):
            model = _open(options).eval()
        normalizes = isinstance(model[-1], Normalize)
        if normalizes and options.normalize is False:
            raise EncoderError(
                f"{options.name!r} normalises its latents itself: pass pooling='mean' (or what it "
                "uses) to load it without its own modules, or leave normalize=None"
            )
        has = MODALITIES.keys() & {str(name) for name in model.modalities}
        modality = choose_modality(options, has)
        limit = _limit_tokens(model, options) if modality.tokenized else None
        space = options.space(modality.name, _pooling_of(model), limit)
        if options.normalize and not normalizes:
            model.append(Normalize())
        space = replace(space, normalize=bool(normalizes or space.normalize))

        prepare: Prepare = partial(_prepare, model)
        if limit is not None:
            prepare = faster(prepare, model.tokenizer, limit)

        def batches(items: list[Any], batch_size: int, device: torch.device) -> Any:
            return modality.batches(items, prepare, batch_size, device)

        preparer = Preparer(modality.check, batches, max_length=limit)
        return cls(model, preparer, space, options)._measured(modality.examples()[0])

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        latents: Tensor = self.model(dict(inputs))["sentence_embedding"]
        return latents


def _open(options: LoadOptions) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    name, hub = options.name, options.hub
    if hub.get("subfolder") or hub.get("force_download"):  # it knows neither
        name = _download(options)
    return SentenceTransformer(
        name,
        device=str(options.device),
        revision=options.commit,
        token=hub.get("token"),
        cache_folder=None if hub.get("cache_dir") is None else str(hub["cache_dir"]),
        local_files_only=hub.get("local_files_only", False),
        trust_remote_code=options.trust_remote_code,
        model_kwargs={} if options.dtype is None else {"dtype": options.dtype},
    )


def _download(options: LoadOptions) -> str:
    """The folder in the cache that holds the model's files, all of one commit."""
    from huggingface_hub import snapshot_download

    hub: Any = {**options.hub, "revision": options.commit}
    subfolder = hub.pop("subfolder")
    hub["allow_patterns"] = f"{subfolder}/*" if subfolder else None
    with client.clear_errors(options.name, revision=options.commit, token=hub["token"]):
        folder: str = snapshot_download(options.name, ignore_patterns=_NOT_NEEDED, **hub)
    return f"{folder}/{subfolder}"


def _prepare(model: "SentenceTransformer", items: list[Any]) -> Mapping[str, Any]:
    name = model.default_prompt_name
    prompt = model.prompts[name] if name else None
    return dict(model.preprocess(items, prompt=prompt))


def _limit_tokens(model: "SentenceTransformer", options: LoadOptions) -> int | None:
    from transformers import PreTrainedTokenizerBase

    tokenizer = model.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None
    check_vocabulary(options.name, tokenizer)
    config = getattr(model.transformers_model, "config", None)
    config = getattr(config, "text_config", config)
    positions = getattr(config, "max_position_embeddings", None)
    limit = token_limit(options.name, tokenizer, options.max_length, positions)
    tokenizer.model_max_length = limit or tokenizer.model_max_length
    return limit


def _pooling_of(model: "SentenceTransformer") -> str | None:
    """What follows the token states, such as "mean" or "mean+dense"; None for no pooling."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    names = [
        module.pooling_mode if isinstance(module, Pooling) else type(module).__name__.lower()
        for module in list(model)[1:]
        if not isinstance(module, Normalize)
    ]
    return "+".join(names) or None
