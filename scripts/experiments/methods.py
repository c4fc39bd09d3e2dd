"""The methods that the tables compare, with their parameters, and the baselines beside them."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from hf_latent_bridge import Translator

RIDGE = "affine, alpha=0.1"


def translators() -> "dict[str, Translator]":
    """One unfitted translator per method, by the name of its row.

    `affine` is the paper's: Adam on the squared error, stopped after 300 steps.
    """
    from hf_latent_bridge import AffineTranslator

    made = suggested()
    ridge = made.pop("affine")
    return {"affine": AffineTranslator(solver="gradient"), **made, RIDGE: ridge}


def suggested() -> "dict[str, Translator]":
    """One unfitted translator per registered type, with its suggested parameters."""
    from hf_latent_bridge.translators import base

    return {name: kind.from_params(kind.suggested) for name, kind in base.methods().items()}


def fit_all(
    x: Tensor, y: Tensor, methods: "Mapping[str, Translator] | None" = None
) -> "dict[str, Translator]":
    """Fits every method on the same pairs.

    Args:
        x: Source latents of the anchors, (n, d_source).
        y: Target latents of the same, (n, d_target).
        methods: By name; None for `translators()`.
    """
    from hf_latent_bridge.errors import RankWarning, UnrelatedPairsWarning

    with warnings.catch_warnings():  # the tables show the cost of few anchors, and shuffled ones
        for kind in (RankWarning, UnrelatedPairsWarning):
            warnings.simplefilter("ignore", kind)
        return {
            name: method.fit(x, y)
            for name, method in (translators() if methods is None else methods).items()
        }


def draw_anchors(rows: int, anchors: int, *, seed: int) -> Tensor:
    """Numbers of `anchors` of the rows, drawn without replacement, (anchors,).

    Raises:
        ValueError: There are fewer rows.
    """
    if anchors > rows:
        raise ValueError(f"{anchors} anchors need as many rows to be drawn from, there are {rows}")
    return torch.from_numpy(np.random.default_rng(seed).permutation(rows)[:anchors])


def untranslated(x: Tensor, width: int) -> Tensor:
    """Source latents as they are, (n, width): padded with zeros or cut, as the paper's code pads.

    A decoder trained on padded target latents has no weight on the padding, so cutting the source
    to a narrower target is the same as padding the target.
    """
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))


def relative(x: Tensor, anchors: Tensor) -> Tensor:
    """Relative representation: cosine of each row with each anchor, (n, n_anchors).

    Source: Moschella et al., "Relative representations enable zero-shot latent space
    communication" (ICLR 2023), arXiv 2209.15430, equation (1).

    Args:
        x: Latents, (n, d).
        anchors: Latents of the anchors by the same encoder, (n_anchors, d).
    """
    x, anchors = (torch.nn.functional.normalize(t, dim=1) for t in (x, anchors))
    return x @ anchors.mT
