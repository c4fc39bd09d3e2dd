"""Texts as a modality, and transformers text models pooled over their tokens."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import as_list
from hf_latent_bridge.encoders.batching import Batch, text_batches, token_budget
from hf_latent_bridge.encoders.modality import Modality, Prepare, register
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.strict_load import (
    LoadOptions,
    check_vocabulary,
    quiet_load,
    token_limit,
)
from hf_latent_bridge.encoders.tokens import faster
from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PADDED_WHOLE = ("siglip", "siglip2")  # they read the last position, padding or not


class TransformerEncoder(ModelEncoder):
    """A transformers text model as an encoder, pooled over its tokens."""

    model: "PreTrainedModel"

    @classmethod
    def load(cls, options: LoadOptions) -> "TransformerEncoder":
        """Loads model and tokenizer, and tries them on a text.

        Raises:
            EncoderError: No vocabulary, missing weights, or `max_length` beyond the model's.
        """
        from transformers import AutoModel

        with quiet_load(options.name):
            model = AutoModel.from_pretrained(
                options.name, dtype=options.dtype or "auto", **options.common
            )
            if model.config.is_encoder_decoder:
                model = model.get_encoder()
            preparer = TEXT.preparer(options, model.config)
        space = options.space(TEXT.name, options.pooling or "mean", preparer.max_length)
        encoder = cls(model.to(options.device).eval(), preparer, space, options)
        return encoder._measured(TEXT.examples()[0])

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        states = self.model(**inputs).last_hidden_state
        return pool(states, inputs["attention_mask"], self.space.pooling or "mean")


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


_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF = "holds half of a surrogate pair, so it is not Unicode text"


def _is_half(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


class Text(Modality):
    """Texts: strings that a tokenizer splits."""

    name = "text"
    poolings = ("mean", "cls", "last")
    main_inputs = ("input_ids",)
    files = ("tokenizer.json", "tokenizer_config.json")
    classifier = "AutoModelForSequenceClassification"
    tokenized = True
    suffixes = (".txt",)

    def recognises(self, item: Any) -> bool:
        """Whether it is a string."""
        return isinstance(item, str)

    def check(self, items: Sequence[Any]) -> list[Any]:
        """The items as a list, if they are strings.

        Raises:
            InvalidPairsError: One text instead of a list, an item that is not a text, or one that
                holds half of a surrogate pair.
        """
        if isinstance(items, str):
            raise InvalidPairsError("encode takes a list of texts, got one text: wrap it in a list")
        texts = as_list(items)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidPairsError(f"item {row} must be a text, got {type(text).__name__}")
            if _is_half(text):
                raise InvalidPairsError(f"item {row} {_HALF}")
        return texts

    def digest(self, item: Any) -> bytes:
        """16 bytes of the text's hash."""
        content = b"text\0" + item.encode(errors="surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()

    def examples(self) -> list[Any]:
        """A longer text and a short one."""
        return ["one sentence, and another one", "a"]

    def read_file(self, path: Path) -> list[Any]:
        """The lines of a UTF-8 file that are not empty.

        Raises:
            InvalidPairsError: Another suffix or encoding.
        """
        if path.suffix.lower() not in self.suffixes:
            return super().read_file(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise InvalidPairsError(f"{path.name} is not UTF-8 text: save it in UTF-8") from error
        return [line.strip() for line in lines if line.strip()]

    def size(self, item: Any, row: int = 0) -> int:
        """Number of characters."""
        return len(item)

    def flaw(self, item: Any) -> str | None:
        """An empty text cannot be encoded, nor one that holds half of a surrogate pair."""
        if _is_half(item):
            return _HALF
        return None if item.strip() else "is an empty text"

    def batches(
        self, items: list[Any], prepare: Prepare, batch_size: int, device: torch.device
    ) -> Iterator[Batch]:
        """Batches of like length, the longest first, with as many tokens as suit the device."""
        if "attention_mask" in prepare(self.examples()[:1]):
            yield from text_batches(items, prepare, token_budget(batch_size, device))
        else:  # such as a bag of words, which needs no padding
            yield from super().batches(items, prepare, batch_size, device)

    def preparer(self, options: LoadOptions, config: Any) -> Preparer:
        """The tokenizer; for a classifier with its own padding, which the head may rely on.

        Raises:
            EncoderError: No vocabulary, or `max_length` beyond the model's.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.name, **options.common)
        check_vocabulary(options.name, tokenizer)
        text_config = config.get_text_config()
        positions = getattr(text_config, "max_position_embeddings", None)
        limit = token_limit(options.name, tokenizer, options.max_length, positions)
        if options.pooling != "classifier":
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
            tokenizer.padding_side = "right"  # absolute positions would count padding on the left
        elif None in (tokenizer.pad_token_id, text_config.pad_token_id):
            return Preparer(self.check, _one_by_one(tokenizer, limit), tokenizer, limit)
        padding = "max_length" if config.model_type in _PADDED_WHOLE else True
        return Preparer(self.check, _together(tokenizer, limit, padding), tokenizer, limit)

    def load(self, options: LoadOptions) -> ModelEncoder:
        """As `TransformerEncoder.load`."""
        return TransformerEncoder.load(options)


def _together(
    tokenizer: "PreTrainedTokenizerBase", limit: int | None, padding: bool | str
) -> Callable[[list[Any], int, torch.device], Iterator[Batch]]:
    """Batches of texts that are padded to one length."""

    def tokenize(texts: list[str]) -> Mapping[str, Any]:
        tokens = _tokens(tokenizer, texts, limit, padding)
        if padding == "max_length":
            tokens["attention_mask"] = torch.ones_like(tokens["input_ids"])
        return tokens

    chosen = faster(tokenize, tokenizer, limit)
    return lambda texts, batch_size, device: text_batches(
        texts, chosen, token_budget(batch_size, device)
    )


def _one_by_one(
    tokenizer: "PreTrainedTokenizerBase", limit: int | None
) -> Callable[[list[Any], int, torch.device], Iterator[Batch]]:
    """Texts one at a time, for a tokenizer or a model that knows no padding."""

    def batches(texts: list[Any], batch_size: int, device: torch.device) -> Iterator[Batch]:
        for row, text in enumerate(texts):
            yield [row], _tokens(tokenizer, [text], limit, padding=False)

    return batches


def _tokens(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], limit: int | None, padding: bool | str
) -> dict[str, Any]:
    return dict(
        tokenizer(
            texts,
            padding=padding,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=True,
            return_tensors="pt",
        )
    )


TEXT = register(Text())
