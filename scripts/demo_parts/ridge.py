"""Chooses a ridge map by how well it finds the counterparts of held-out groups."""

import itertools
from typing import Literal

import numpy as np
import numpy.typing as npt
from assets.tables import shuffle_key

from demo_parts.latents import stack
from hf_latent_bridge import AffineTranslator, Pairs, evaluate_latents

ALPHAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SCALINGS: tuple[Literal["standard", "center"], ...] = ("standard", "center")
SHARE = 0.2


def choose_ridge(pairs: Pairs, groups: npt.NDArray[np.str_]) -> AffineTranslator:
    """The ridge map, yet to be fitted, with the best mean reciprocal rank on held-out groups.

    Args:
        pairs: Latents to choose on; nothing else is looked at.
        groups: The group of each pair, (n,); a fifth of the pairs is held out, groups undivided.
    """
    x, y = stack(pairs.source), stack(pairs.target)
    held = _held_out(groups)
    moments = AffineTranslator().pair_moments(x[~held], y[~held])

    def score(translator: AffineTranslator) -> float:
        fitted = AffineTranslator.from_params(translator.get_params()).fit_moments(moments)
        report = evaluate_latents(fitted, x[held], y[held], n_bootstrap=1, n_permutations=1)
        return report.translated.mrr

    settings = itertools.product(ALPHAS, SCALINGS)
    choices = [AffineTranslator(alpha=alpha, scaling=scaling) for alpha, scaling in settings]
    return max(choices, key=score)


def _held_out(groups: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    names, sizes = np.unique(groups, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: shuffle_key(str(names[i])))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(groups, names[order][before < SHARE * len(groups)])
