"""Cuts items into batches, and prepares the next batch while the model works."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.encoders.base import BatchSize
from hf_latent_bridge.errors import InvalidPairsError

# Tokens that a forward pass takes for each item of `batch_size`: a CPU is fastest while its
# activations stay in its cache, a GPU while it is filled.
_TOKENS_PER_ITEM = {"cpu": 64}
_TOKENS_PER_ITEM_ELSEWHERE = 256
_ITEMS, _ITEMS_ELSEWHERE = 32, 256  # for "auto"
_TEXTS_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 1 << 20

Batch = tuple[list[int], dict[str, Any]]
Tokenize = Callable[[list[str]], Mapping[str, Any]]
T = TypeVar("T")


def items_per_pass(batch_size: BatchSize, device: torch.device) -> int:
    """The batch size as a number; "auto" is 32 on a CPU, and 256 elsewhere.

    Raises:
        ValueError: It is less than 1, or another text.
    """
    if batch_size == "auto":
        return _ITEMS if device.type == "cpu" else _ITEMS_ELSEWHERE
    return check_count("batch_size", batch_size, also=' or "auto"')


def token_budget(batch_size: int, device: torch.device) -> int:
    """The number of tokens, padding included, that a forward pass takes at most.

    Raises:
        ValueError: `batch_size` is less than 1.
    """
    return check_count("batch_size", batch_size) * _TOKENS_PER_ITEM.get(
        device.type, _TOKENS_PER_ITEM_ELSEWHERE
    )


def text_batches(texts: Sequence[str], tokenize: Tokenize, budget: int) -> Iterator[Batch]:
    """Batches of all texts, the longest first.

    Args:
        texts: The texts.
        tokenize: From texts to padded tensors (n, tokens), with `attention_mask` among them; any
            other value is handed on as it is.
        budget: Most tokens of a batch, padding included; a longer text comes alone.

    Yields:
        The positions of some texts, and the model's inputs for them.

    Raises:
        InvalidPairsError: A text without a single token.
    """
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
    lengths = [len(texts[row]) for row in order]
    for window in cut(lengths, _CHARACTERS_AT_ONCE, most=_TEXTS_AT_ONCE):
        rows = order[window.start : window.stop]
        inputs = tokenize([texts[row] for row in rows])
        mask = inputs["attention_mask"]
        if not mask.any(1).all():
            row = rows[int(mask.any(1).int().argmin())]
            raise InvalidPairsError(f"item {row}: {texts[row]!r} holds nothing to encode")
        yield from _token_batches(rows, inputs, mask, budget)


def chunks(n: int, size: int) -> Iterator[range]:
    """Consecutive parts of `n` rows.

    Raises:
        ValueError: `size` is less than 1.
    """
    check_count("batch_size", size)
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def cut(lengths: Sequence[int], budget: int, *, most: int) -> Iterator[range]:
    """Cuts a descending list of lengths where padding to the longest would exceed the budget.

    Args:
        lengths: The lengths, longest first.
        budget: Most of length times number; what is longer comes alone.
        most: Most items of a part.
    """
    start = 0
    while start < len(lengths):
        stop = start + max(1, min(budget // max(lengths[start], 1), most))
        yield range(start, min(stop, len(lengths)))
        start = stop


def prefetch(items: Iterator[T], *, ahead: int = 2) -> Iterator[T]:
    """Yields what `items` yields; a thread makes the next ones while the last one is used.

    Tokenizers and image decoders release Python's lock, so both sides do run at once. On an error
    or Ctrl-C the thread is not waited for.

    Args:
        items: The iterator; only the thread uses it.
        ahead: How many are made before they are asked for.
    """
    end: Any = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, items, end) for _ in range(ahead))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _token_batches(
    rows: list[int], inputs: Mapping[str, Any], mask: Tensor, budget: int
) -> Iterator[Batch]:
    """Cuts a window of padded texts into batches without the columns that are all padding.

    NumPy does it on one core, and leaves the others to the tokenizer.
    """
    real = mask.numpy().astype(bool)
    lengths = real.sum(1)
    order = np.argsort(-lengths, kind="stable")
    for part in cut(lengths[order].tolist(), budget, most=len(rows)):
        chosen = order[part.start : part.stop]
        grid = np.ix_(chosen, np.flatnonzero(real[chosen].any(0)))
        batch = {
            name: torch.from_numpy(value.numpy()[grid]) if _per_token(value, mask) else value
            for name, value in inputs.items()
        }
        yield [rows[position] for position in chosen.tolist()], batch


def _per_token(value: Any, mask: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == mask.shape
