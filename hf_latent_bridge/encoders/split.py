"""Splits a classification model into its encoder and its head, and proves that nothing changed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_latent_bridge.errors import DecoderError

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
