"""Tokens straight from a fast tokenizer into tensors, a tenth of the Python of the usual way."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokenize = Callable[[list[str]], Mapping[str, Any]]
# spaces at the ends, capitals, accents, no spaces between words, and a short one
_WORDS = ("one sentence, and Another\tone ", " \u00dcber caf\u00e9s", "\u65e5\u672c\u8a9e 12", "a")
_CHARACTERS = 6  # to a token; most texts have fewer


def faster(tokenize: Tokenize, tokenizer: "PreTrainedTokenizerBase", limit: int | None) -> Tokenize:
    """The same function, faster where the tokenizer can do it; else `tokenize` itself.

    Both are tried on a few texts, and must agree on them.

    Args:
        tokenize: From texts to padded tensors (n, tokens), among them `input_ids` and
            `attention_mask`, beside values that are equal for all texts.
        tokenizer: What it uses.
        limit: Number of tokens at which it cuts texts; None for nowhere.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    long = "one more " * min(limit or 0, 10_000)
    texts = [*_WORDS, " ".join(tokenizer.all_special_tokens), long, long.replace(" ", "")]
    wanted = tokenize([text for text in texts if text])
    if backend is None or not {"input_ids", "attention_mask"} <= set(wanted):
        return tokenize
    try:
        fast = _FastTokens(tokenizer, limit, wanted)
    except Exception:  # Rust's own: a part of it is written in Python and cannot be copied
        return tokenize
    found = fast([text for text in texts if text])
    return fast if all(_same(found[name], value) for name, value in wanted.items()) else tokenize


class _FastTokens:
    """Tokenizes with a copy of the tokenizer's Rust half, and pads on the right."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", limit: int | None, example: Mapping[str, Any]
    ) -> None:
        backend: Any = tokenizer.backend_tokenizer
        self._backend = type(backend).from_str(backend.to_str())
        self._backend.encode_special_tokens = backend.encode_special_tokens
        self._backend.no_padding()
        if limit is None:
            self._backend.no_truncation()
        else:
            self._backend.enable_truncation(limit, direction=tokenizer.truncation_side)
        self._limit = limit or 0
        self._enough = _CHARACTERS * self._limit if tokenizer.truncation_side == "right" else 0
        self._padding = tokenizer.pad_token_id or 0
        self._example = example

    def __call__(self, texts: list[str]) -> dict[str, Any]:
        ids = self._ids(texts)
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]
        input_ids = np.full(mask.shape, self._padding)
        input_ids[mask] = np.fromiter(chain.from_iterable(ids), np.int64, lengths.sum())
        known = {"input_ids": input_ids, "attention_mask": mask.astype(np.int64)}
        return {
            name: torch.from_numpy(known.get(name, np.zeros_like(input_ids)))
            if isinstance(value, Tensor)
            else value
            for name, value in self._example.items()
        }

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Tokens of texts; of a long text's beginning alone where that fills the limit."""
        starts = [self._start(text) for text in texts]
        found = self._encoded(starts)
        again = [
            row
            for row, ids in enumerate(found)
            if len(starts[row]) < len(texts[row]) and len(ids) < self._limit
        ]
        for row, ids in zip(again, self._encoded([texts[row] for row in again]), strict=True):
            found[row] = ids
        return found

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        return [one.ids for one in self._backend.encode_batch_fast(texts)]

    def _start(self, text: str) -> str:
        end = text.rfind(" ", 0, self._enough) if 0 < self._enough < len(text) else -1
        return text if end < self._enough // 2 else text[:end]


def _same(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Tensor):
        return bool(found == wanted)
    return found.dtype == wanted.dtype and torch.equal(found, wanted)
