"""Encodes columns, and fits and scores translators on the latents that were published."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from demo_parts.inputs import MAX_LENGTH, Inputs
from hf_latent_bridge import (
    CachedEncoder,
    Pairs,
    SpaceSpec,
    Translator,
    evaluate_latents,
    fit_translator,
    load_encoder,
    load_pairs,
)

AnyTranslator = TypeVar("AnyTranslator", bound=Translator)
Matrix = npt.NDArray[np.float32]


def text_encoder(name: str, inputs: Inputs) -> CachedEncoder:
    """An encoder of texts, all of one length."""
    return CachedEncoder(load_encoder(name, max_length=MAX_LENGTH), inputs.cache)


def rows_of(encoder: CachedEncoder, items: Sequence[Any]) -> list[Matrix]:
    """One latent for each item, as a column of a dataset takes them."""
    return list(encoder.encode(items).float().numpy())


def fit_and_score(
    translator: AnyTranslator, spaces: tuple[SpaceSpec, SpaceSpec], splits: tuple[Pairs, Pairs]
) -> AnyTranslator:
    """Fits on the first split and puts the report on the second into `metrics_`."""
    train, test = splits
    fit_translator(translator, *spaces, train)
    report = evaluate_latents(
        translator, stack(test.source), stack(test.target), dataset=test.dataset
    )
    translator.metrics_ = report.to_dict()
    return translator


def published_pairs(
    repo_id: str, commit: str, source: str = "source", target: str = "target"
) -> tuple[Pairs, Pairs]:
    """Latents of the splits train and test of a published dataset."""
    train, test = (
        load_pairs(repo_id, split=split, source=source, target=target, revision=commit)
        for split in ("train", "test")
    )
    return train, test


def stack(rows: Sequence[Any]) -> Matrix:
    """Latents (n, d) of rows."""
    return np.stack(list(rows)).astype(np.float32)
