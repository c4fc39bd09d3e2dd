"""Encoders of texts: transformers models and sentence-transformers repos."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import LoadOptions, check_texts, choose_modality
from hf_latent_bridge.encoders.batching import Batch, chunks, text_batches, token_budget
from hf_latent_bridge.encoders.image import blank_image, image_batches
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.pictures import check_images
from hf_latent_bridge.encoders.strict_load import check_vocabulary, quiet_load, token_limit
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
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


class SentenceTransformerEncoder(ModelEncoder):
    """A sentence-transformers model as an encoder.

    Attributes:
        space: The space of its latents.
        model: The sentence-transformers model.
    """

    model: "SentenceTransformer"

    def __init__(
        self, model: "SentenceTransformer", space: SpaceSpec, options: LoadOptions
    ) -> None:
        super().__init__(model, options)
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "SentenceTransformerEncoder":
        """Loads the model with its own modules, and tries it on an item.

        Raises:
            EncoderError: No vocabulary, missing weights, `max_length` beyond the model's, both
                texts and images but no `modality`, or `normalize=False` where the repo normalises.
        """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize

        with quiet_load(options.name):
            model = SentenceTransformer(
                options.name,
                device=str(options.device),
                token=options.token,
                revision=options.commit,
                trust_remote_code=options.trust_remote_code,
                model_kwargs={} if options.dtype is None else {"dtype": options.dtype},
            )
        model.eval()
        normalizes = isinstance(model[-1], Normalize)
        if normalizes and options.normalize is False:
            raise EncoderError(
                f"{options.name!r} normalises its latents itself: pass pooling='mean' (or what it "
                "uses) to load it without its own modules, or leave normalize=None"
            )
        modality = choose_modality(
            options.name, options.modality, {"text", "image"} & {str(m) for m in model.modalities}
        )
        limit = _limit_tokens(model, options) if modality == "text" else None
        space = options.space(modality, _pooling_of(model), limit)
        if options.normalize and not normalizes:
            model.append(Normalize())
        encoder = cls(model, replace(space, normalize=bool(normalizes or space.normalize)), options)
        example = "a" if modality == "text" else blank_image()
        encoder.space = replace(encoder.space, dim=encoder._width(example))
        return encoder

    def _check(self, items: Sequence[Any]) -> list[Any]:
        return check_texts(items) if self.space.modality == "text" else check_images(items)

    def _batches(self, items: list[Any], batch_size: int) -> Iterator[Batch]:
        if self.space.modality == "image":
            for rows, images in image_batches(items, batch_size):
                yield rows, dict(self._prepare(images))
        elif "attention_mask" in self._prepare(["a"]):
            yield from text_batches(items, self._prepare, token_budget(batch_size, self.device))
        else:  # such as a bag of words, which needs no padding
            for part in chunks(len(items), batch_size):
                yield list(part), dict(self._prepare(items[part.start : part.stop]))

    def _prepare(self, items: list[Any]) -> Mapping[str, Any]:
        prompts, name = self.model.prompts, self.model.default_prompt_name
        prompt = prompts[name] if name else None
        inputs = self.model.preprocess(items, prompt=prompt)
        return {k: _in(v, self.dtype) for k, v in inputs.items()}

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        latents: Tensor = self.model(dict(inputs))["sentence_embedding"]
        return latents


def _in(value: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value


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
