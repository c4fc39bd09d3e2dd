"""Fits a translator on paired items: encode both sides, sum moments, solve."""

from collections.abc import Sequence
from typing import Any, TypeVar

from hf_latent_bridge.data import Pairs
from hf_latent_bridge.encoders import EncoderLike, encode, space_of
from hf_latent_bridge.translators import Translator

_CHUNK = 1024

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

    Latents are summed into moments chunk by chunk, so memory does not grow with the pairs.

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
        InvalidLatentsError: An encoder gave NaN, infinity or changing widths.
    """
    from tqdm.auto import tqdm

    pairs = pairs if isinstance(pairs, Pairs) else Pairs(*pairs)
    moments = None
    with tqdm(total=len(pairs), unit="pair", desc="fit", disable=not progress) as bar:
        for items, counterparts in pairs.batches(_CHUNK):
            x = encode(source, items, batch_size=batch_size)
            y = encode(target, counterparts, batch_size=batch_size).to(x.device)
            part = translator.pair_moments(x, y)
            moments = part if moments is None else moments + part
            bar.update(len(items))
    assert moments is not None  # noqa: S101 - Pairs holds at least one
    d_source, d_target = moments.sxy.shape
    translator.fit_moments(
        moments, source=space_of(source, d_source), target=space_of(target, d_target)
    )
    translator.dataset_ = dict(pairs.dataset)
    return translator
