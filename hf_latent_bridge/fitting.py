"""Fits a translator on paired items: encode both sides, sum moments, solve."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, TypeVar

import torch
from torch import Tensor

from hf_latent_bridge.data import Pairs
from hf_latent_bridge.encoders import EncoderLike, encode, space_of
from hf_latent_bridge.errors import EncoderError, LatentBridgeError
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.translators import Translator

_CHUNK = 1024
# Share of variance that is a network's rounding, not a direction: mean-pooled layer norms, for
# one, leave all latents in a hyperplane, and float64 products would take its noise for signal.
_NOISE = (16 * torch.finfo(torch.float32).eps) ** 2

AnyTranslator = TypeVar("AnyTranslator", bound=Translator)


def fit_translator(
    translator: AnyTranslator,
    source: EncoderLike,
    target: EncoderLike,
    pairs: Pairs | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> AnyTranslator:
    """Fits `translator` on the pairs as the two encoders see them, in one pass.

    Latents are summed into float64 moments chunk by chunk, so memory does not grow with the
    pairs; the map is kept in float32.

    Args:
        translator: What to fit; earlier pairs are forgotten.
        source: Encoder of the source side, or a callable from a list of items to (n, d).
        target: The same for the target side.
        pairs: From `load_pairs`, or two lists of equal length.
        batch_size: Items per forward pass.
        progress: Show a bar.

    Returns:
        `translator`, with both spaces and the dataset recorded.

    Raises:
        InvalidPairsError: A missing or empty item.
        InvalidLatentsError: An encoder gave NaN or infinity.
        EncoderError: An encoder gave another number of rows or another width than before.

    Warns:
        RankWarning: The latents do not determine the map; the minimum-norm one is taken.
    """
    pairs = pairs if isinstance(pairs, Pairs) else Pairs(*pairs)
    parts = _encoded(translator, source, target, pairs, batch_size=batch_size, progress=progress)
    moments = reduce(add, parts)
    moments = replace(moments, eps=max(moments.eps, _NOISE))
    d_source, d_target = moments.sxy.shape
    translator.fit_moments(
        moments, source=space_of(source, d_source), target=space_of(target, d_target)
    )
    translator.to(dtype=torch.float32)
    translator.dataset_ = dict(pairs.dataset)
    return translator


def _encoded(
    translator: Translator,
    source: EncoderLike,
    target: EncoderLike,
    pairs: Pairs,
    *,
    batch_size: int,
    progress: bool,
) -> Iterator[PairedMoments]:
    from tqdm.auto import tqdm

    starts, widths = range(0, len(pairs), _CHUNK), set[tuple[int, int]]()
    with tqdm(total=len(pairs), unit="pair", desc="fit", disable=not progress) as bar:
        for start, (items, counterparts) in zip(starts, pairs.batches(_CHUNK), strict=True):
            with _located(start, len(items)):
                x = encode(source, items, batch_size=batch_size)
                y = encode(target, counterparts, batch_size=batch_size).to(x.device)
                widths.add((x.shape[1], y.shape[1]))
                if len(widths) > 1:
                    raise EncoderError(f"the encoders changed their widths: {sorted(widths)}")
                moments = translator.pair_moments(x.to(_precise(x)), y.to(_precise(y)))
            yield moments
            bar.update(len(items))


@contextlib.contextmanager
def _located(start: int, n: int) -> Iterator[None]:
    """Says which pairs an error is about; rows in its text count from the first of them."""
    try:
        yield
    except LatentBridgeError as error:
        raise type(error)(f"among pairs {start} to {start + n - 1}: {error}") from error


def _precise(latents: Tensor) -> torch.dtype:
    """Beside encoding, float64 products cost nothing; Apple's GPU has none."""
    return torch.float32 if latents.device.type == "mps" else torch.float64
