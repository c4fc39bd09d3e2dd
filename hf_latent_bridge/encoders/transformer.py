"""Text encoders that are plain transformers models, pooled over their tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import check_texts
from hf_latent_bridge.encoders.loading import check_vocabulary, quiet_load, token_limit
from hf_latent_bridge.encoders.options import LoadOptions
from hf_latent_bridge.errors import InvalidPairsError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last")


class TransformerEncoder:
    """A transformers model with token pooling as an encoder.

    Attributes:
        space: The space of its latents.
        model: The transformers model.
        tokenizer: Its tokenizer.
    """

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", space: SpaceSpec
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "TransformerEncoder":
        """Loads model and tokenizer, and tries them on a text.

        Raises:
            EncoderError: No vocabulary, missing weights, or `max_length` beyond the model's.
        """
        from transformers import AutoModel, AutoTokenizer

        common = {
            "revision": options.commit or "main",
            "token": options.token,
            "trust_remote_code": options.trust_remote_code,
        }
        with quiet_load(options.name):
            tokenizer = AutoTokenizer.from_pretrained(options.name, **common)
            model = AutoModel.from_pretrained(options.name, dtype=options.dtype or "auto", **common)
        check_vocabulary(options.name, tokenizer)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
        tokenizer.padding_side = "right"  # absolute positions would count padding on the left
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        positions = getattr(model.config, "max_position_embeddings", None)
        space = SpaceSpec(
            dim=1,
            repo_id=options.repo_id,
            revision=options.commit,
            modality="text",
            pooling=options.pooling,
            normalize=bool(options.normalize),
            max_length=token_limit(options.name, tokenizer, options.max_length, positions),
        )
        encoder = cls(model.to(options.device).eval(), tokenizer, space)
        encoder.space = replace(space, dim=encoder._encode_batch(["a"]).shape[1])
        return encoder

    def encode(
        self, items: Sequence[str], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts, in input order; batches hold texts of like length.

        Raises:
            InvalidPairsError: Not a list of strings, or a text without a single token.
        """
        from tqdm.auto import trange

        texts = check_texts(items)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        parts = [torch.empty(0, self.space.dim, device=self.model.device, dtype=self.model.dtype)]
        for start in trange(0, len(texts), batch_size, disable=not progress, desc="encode"):
            parts.append(self._encode_batch([texts[i] for i in order[start : start + batch_size]]))
        latents = torch.cat(parts)
        return torch.empty_like(latents).index_copy_(
            0, torch.tensor(order, dtype=torch.long, device=latents.device), latents
        )

    @torch.inference_mode()
    def _encode_batch(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=self.space.max_length is not None,
            max_length=self.space.max_length,
            return_tensors="pt",
        ).to(self.model.device)
        if not (lengths := tokens["attention_mask"].sum(1)).all():
            raise InvalidPairsError(f"{texts[int(lengths.argmin())]!r} holds nothing to encode")
        states = self.model(**tokens).last_hidden_state
        latents = pool(states, tokens["attention_mask"], self.space.pooling or "mean")
        return torch.nn.functional.normalize(latents, dim=1) if self.space.normalize else latents


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
