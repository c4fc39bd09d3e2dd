"""Splits transformers classifiers into an encoder and a head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_latent_bridge.encoders.base import LoadOptions, check_texts, choose_modality
from hf_latent_bridge.encoders.batching import Batch, chunks, text_batches, token_budget
from hf_latent_bridge.encoders.image import image_batches, load_processor
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.pictures import check_images
from hf_latent_bridge.encoders.strict_load import check_vocabulary, quiet_load, token_limit
from hf_latent_bridge.errors import DecoderError, EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def split_model(model: "PreTrainedModel", inputs: Mapping[str, Any]) -> nn.Linear:
    """Takes the head out of a transformers classification model, in place.

    The head is the linear layer, outside the base model, that gives one output per label. With an
    identity in its stead the model's `logits` are the latents, however the model pools.

    Args:
        model: An AutoModelForSequenceClassification or AutoModelForImageClassification.
        inputs: What its tokenizer or image processor gives for a few items; on these,
            `head(model(**inputs).logits)` is compared with the logits before.

    Returns:
        The head; `model(**inputs).logits` are latents from now on.

    Raises:
        DecoderError: No single linear layer gives the logits; the model is as it was.
    """
    model.train(False)
    expected = _logits(model, inputs)
    for name, head in _candidates(model):
        model.set_submodule(name, nn.Identity())
        if _gives(model, head, inputs, expected):
            return head
        model.set_submodule(name, head)
    raise DecoderError(
        f"{type(model).__name__} cannot be split: no single linear layer at its end gives its "
        f"{model.config.num_labels} logits"
    )


def _candidates(model: "PreTrainedModel") -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers that may be the head, last first: where widths tie, the output comes last."""
    base = getattr(model, model.base_model_prefix or "", None)
    inside = {id(module) for module in base.modules()} if isinstance(base, nn.Module) else set()
    for name, module in reversed(list(model.named_modules())):
        is_head = isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
        if is_head and id(module) not in inside:
            yield name, module


def _gives(
    model: "PreTrainedModel", head: nn.Linear, inputs: Mapping[str, Any], expected: Tensor
) -> bool:
    try:
        latents = _logits(model, inputs)
    except (RuntimeError, ValueError):  # not the last layer: what follows finds another shape
        return False
    if latents.ndim != 2 or latents.shape[1] != head.in_features:
        return False
    precision = 16 * torch.finfo(expected.dtype).eps * float(expected.abs().max())
    return torch.allclose(head(latents), expected, rtol=0.0, atol=precision)


def _logits(model: "PreTrainedModel", inputs: Mapping[str, Any]) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits


POOLING = "classifier"
_SUFFIXES = {"ForSequenceClassification": "text", "ForImageClassification": "image"}


class ClassifierEncoder(ModelEncoder):
    """A classification model up to its head, pooled as the head reads it.

    Attributes:
        space: The space of its latents; its pooling is "classifier".
        model: The transformers model, with an identity in place of its head.
        preparer: The tokenizer or the image processor.
        head: The linear layer that was there.
    """

    model: "PreTrainedModel"

    def __init__(
        self, model: "PreTrainedModel", preparer: Any, space: SpaceSpec, options: LoadOptions
    ) -> None:
        """Splits the model in place, and proves on a few items that nothing is lost.

        Raises:
            DecoderError: No single linear layer gives the logits; names the architecture.
        """
        super().__init__(model, options)
        self.preparer = preparer
        self.space = space
        samples = _sample_texts() if space.modality == "text" else _sample_images()
        _, inputs = next(self._batches(samples, len(samples)))
        self.head = split_model(model, {k: v.to(self.device) for k, v in inputs.items()})
        self.space = replace(space, dim=self.head.in_features)

    @classmethod
    def load(cls, options: LoadOptions) -> "ClassifierEncoder":
        """Loads a classifier and splits it.

        Raises:
            EncoderError: No classifier of texts or images, or one with random weights.
            DecoderError: One that cannot be split.
        """
        import transformers

        with quiet_load(options.name):
            config = transformers.AutoConfig.from_pretrained(options.name, **options.common)
            modality = _choose_modality(options, config.architectures)
            of_texts = modality == "text"
            kind = "Sequence" if of_texts else "Image"
            model, info = getattr(
                transformers, f"AutoModelFor{kind}Classification"
            ).from_pretrained(
                options.name,
                dtype=options.dtype or "auto",
                output_loading_info=True,
                **options.common,
            )
            if missing := sorted(info["missing_keys"]):
                raise EncoderError(
                    f"{options.name!r} lacks weights of {type(model).__name__}, which would be "
                    f"random: {', '.join(missing[:3])}"
                )
            preparer: Any = _load_tokenizer(options) if of_texts else load_processor(options)
        limit = None
        if of_texts:
            positions = getattr(config.get_text_config(), "max_position_embeddings", None)
            limit = token_limit(options.name, preparer, options.max_length, positions)
        space = options.space(modality, POOLING, limit)
        return cls(model.to(options.device).eval(), preparer, space, options)

    def _check(self, items: Sequence[Any]) -> list[Any]:
        return check_texts(items) if self.space.modality == "text" else check_images(items)

    def _batches(self, items: list[Any], batch_size: int) -> Iterator[Batch]:
        if self.space.modality == "image":
            for rows, images in image_batches(items, batch_size):
                yield rows, dict(self.preparer(images, return_tensors="pt").to(self.dtype))
        elif self._pads():
            yield from text_batches(items, self._tokenize, token_budget(batch_size, self.device))
        else:
            for part in chunks(len(items), 1):
                yield list(part), dict(self._tokenize(items[part.start : part.stop]))

    def _pads(self) -> bool:
        """Whether texts can share a batch: the tokenizer pads, and the model knows the padding."""
        config = self.model.config.get_text_config()
        return None not in (self.preparer.pad_token_id, config.pad_token_id)

    def _tokenize(self, texts: list[str]) -> Mapping[str, Any]:
        tokens: Mapping[str, Any] = self.preparer(
            texts,
            padding=self._pads(),
            truncation=self.space.max_length is not None,
            max_length=self.space.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return tokens

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        latents: Tensor = self.model(**inputs).logits
        return latents


def modality_of(architectures: Any) -> str | None:
    """What the first of a config's architectures classifies, "text" or "image"; else None."""
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    return next((kind for suffix, kind in _SUFFIXES.items() if suffix in name), None)


def _choose_modality(options: LoadOptions, architectures: Any) -> str:
    modality = modality_of(architectures)
    if modality is None:
        raise EncoderError(
            f"{options.name!r} is no sequence or image classifier: its architecture is "
            f"{architectures}"
        )
    return choose_modality(options.name, options.modality, {modality})


def _load_tokenizer(options: LoadOptions) -> Any:
    """The tokenizer as the model knows it, with its own padding or none."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.name, **options.common)
    check_vocabulary(options.name, tokenizer)
    return tokenizer


def _sample_texts() -> list[Any]:
    return ["one sentence, and another one", "a"]


def _sample_images() -> list[Any]:
    from PIL import Image

    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 48, 64, 3), dtype=torch.uint8, generator=draw).numpy()
    return [Image.fromarray(image) for image in pixels]
