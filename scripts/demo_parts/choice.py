"""Chooses a method by how well it finds the counterparts of held-out groups."""

import numpy as np
import numpy.typing as npt
from assets.tables import shuffle_key

from demo_parts.latents import stack
from hf_latent_bridge import AffineTranslator, OrthoTranslator, Pairs, Translator, evaluate_latents

ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SHARE = 0.2


def candidates() -> list[Translator]:
    """A rotation, and ridge maps from hardly to strongly penalised."""
    return [OrthoTranslator(), *(AffineTranslator(alpha=alpha) for alpha in ALPHAS)]


def choose_method(pairs: Pairs, groups: npt.NDArray[np.str_]) -> Translator:
    """The candidate, yet to be fitted on all pairs, with the best mean reciprocal rank.

    Args:
        pairs: Latents to choose on; nothing else is looked at.
        groups: The group of each pair, (n,); a fifth of the pairs is held out, groups undivided.
    """
    x, y = stack(pairs.source), stack(pairs.target)
    held = _held_out(groups)
    moments = OrthoTranslator().pair_moments(x[~held], y[~held])

    def score(translator: Translator) -> float:
        fitted = translator.fit_moments(moments)
        report = evaluate_latents(fitted, x[held], y[held], n_bootstrap=1, n_permutations=1)
        return report.translated.mrr

    return max(candidates(), key=score)


def _held_out(groups: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    names, sizes = np.unique(groups, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: shuffle_key(str(names[i])))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(groups, names[order][before < SHARE * len(groups)])
