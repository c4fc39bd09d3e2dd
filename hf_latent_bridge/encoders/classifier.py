"""Splits transformers classifiers into an encoder and a head."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_latent_bridge.encoders.modality import (
    MODALITIES,
    Modality,
    choose_modality,
    find_modality,
    modality_of_classifier,
)
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.strict_load import LoadOptions, quiet_load
from hf_latent_bridge.errors import DecoderError, EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def split_model(model: "PreTrainedModel", inputs: Mapping[str, Any]) -> nn.Linear:
    """Takes the head out of a transformers classification model, in place.

    The head is the linear layer, outside the base model, that gives one output per label. With an
    identity in its place the model's `logits` are the latents, however the model pools.

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


class ClassifierEncoder(ModelEncoder):
    """A classification model up to its head, pooled as the head reads it.

    Attributes:
        head: The linear layer that gave the logits; in the model an identity replaces it.
    """

    model: "PreTrainedModel"

    def __init__(
        self, model: "PreTrainedModel", preparer: Preparer, space: SpaceSpec, options: LoadOptions
    ) -> None:
        """Splits the model in place, and checks on two items that it gives the same logits.

        Raises:
            DecoderError: No single linear layer gives the logits; names the architecture.
        """
        super().__init__(model, preparer, space, options)
        examples = find_modality(str(space.modality)).examples()
        self.head = split_model(model, self._inputs(examples))
        self._space = replace(space, dim=self.head.in_features)

    @classmethod
    def load(cls, options: LoadOptions) -> "ClassifierEncoder":
        """Loads a classifier and splits it.

        Raises:
            EncoderError: Not a classifier of a registered modality, or one with random weights.
            DecoderError: One that cannot be split.
        """
        import transformers

        with quiet_load(options.name):
            config = transformers.AutoConfig.from_pretrained(options.name, **options.common)
            modality = _modality(options, config.architectures)
            model, info = getattr(transformers, str(modality.classifier)).from_pretrained(
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
            preparer = modality.preparer(options, config)
        space = options.space(modality.name, POOLING, preparer.max_length)
        return cls(model.to(options.device).eval(), preparer, space, options)

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        latents: Tensor = self.model(**inputs).logits
        return latents


def _modality(options: LoadOptions, architectures: Any) -> Modality:
    modality = modality_of_classifier(architectures)
    if modality is None:
        raise EncoderError(
            f"{options.name!r} is not a classifier of {' or '.join(MODALITIES)} items: its "
            f"architecture is {architectures}"
        )
    return choose_modality(options, {modality.name})
