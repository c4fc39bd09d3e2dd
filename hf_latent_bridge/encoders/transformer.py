"""Text encoders that are plain transformers models, pooled over their tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import check_texts
from hf_latent_bridge.encoders.batching import Batch, text_batches, token_budget
from hf_latent_bridge.encoders.loading import check_vocabulary, quiet_load, token_limit
from hf_latent_bridge.encoders.model_encoder import ModelEncoder
from hf_latent_bridge.encoders.options import LoadOptions
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXT_POOLINGS = ("mean", "cls", "last")


class TransformerEncoder(ModelEncoder):
    """A transformers model with token pooling as an encoder.

    Attributes:
        space: The space of its latents.
        model: The transformers model.
        tokenizer: Its tokenizer.
    """

    model: "PreTrainedModel"

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        space: SpaceSpec,
        options: LoadOptions,
    ) -> None:
        super().__init__(model, options)
        self.tokenizer = tokenizer
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "TransformerEncoder":
        """Loads model and tokenizer, and tries them on a text.

        Raises:
            EncoderError: No vocabulary, missing weights, or `max_length` beyond the model's.
        """
        from transformers import AutoModel

        with quiet_load(options.name):
            tokenizer = load_tokenizer(options)
            model = AutoModel.from_pretrained(
                options.name, dtype=options.dtype or "auto", **options.common
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        positions = getattr(model.config, "max_position_embeddings", None)
        limit = token_limit(options.name, tokenizer, options.max_length, positions)
        space = options.space("text", options.pooling or "mean", limit)
        encoder = cls(model.to(options.device).eval(), tokenizer, space, options)
        encoder.space = replace(space, dim=encoder._width("a"))
        return encoder

    def _check(self, items: Sequence[str]) -> list[str]:
        return check_texts(items)

    def _batches(self, items: list[str], batch_size: int) -> Iterator[Batch]:
        return text_batches(items, self._tokenize, token_budget(batch_size, self.device))

    def _tokenize(self, texts: list[str]) -> Mapping[str, Any]:
        tokens: Mapping[str, Any] = self.tokenizer(
            texts,
            padding=True,
            truncation=self.space.max_length is not None,
            max_length=self.space.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return tokens

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        states = self.model(**inputs).last_hidden_state
        return pool(states, inputs["attention_mask"], self.space.pooling or "mean")


def load_tokenizer(options: LoadOptions) -> "PreTrainedTokenizerBase":
    """A tokenizer that knows words and can pad.

    Raises:
        EncoderError: It has no vocabulary.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        options.name, **options.common
    )
    check_vocabulary(options.name, tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"  # absolute positions would count padding on the left
    return tokenizer


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector per text from its token states, whichever side is padded.

    Args:
        states: (n, tokens, d).
        mask: (n, tokens), 1 for real tokens.
        pooling: "mean", "cls" or "last".
    """
    if pooling == "mean":
        weights = mask[:, :, None].float()  # float16 overflows, bfloat16 cannot count to 257
        return ((states * weights).sum(1) / weights.sum(1)).to(states.dtype)
    positions = torch.arange(mask.shape[1], device=mask.device) * mask
    first_real = mask.argmax(1)
    chosen = first_real if pooling == "cls" else positions.argmax(1)
    return states[torch.arange(len(states), device=states.device), chosen]
