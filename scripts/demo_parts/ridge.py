"""Chooses a ridge map by how well it finds the counterparts of held-out groups."""

import itertools

import numpy as np
import numpy.typing as npt
from assets.tables import shuffle_key

from demo_parts.latents import Matrix, stack
from hf_latent_bridge import AffineTranslator, Pairs, evaluate_latents

ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SCALINGS = ("standard", "center")
SHARE = 0.2


def choose_ridge(pairs: Pairs, groups: npt.NDArray[np.str_]) -> AffineTranslator:
    """The ridge map, yet to be fitted, with the best mean reciprocal rank on held-out groups.

    Args:
        pairs: Latents to choose on; nothing else is looked at.
        groups: The group of each pair, (n,); a fifth of the pairs is held out, groups undivided.
    """
    x, y = stack(pairs.source), stack(pairs.target)
    held = _held_out(groups)
    settings = [
        {"alpha": alpha, "scaling": scaling}
        for alpha, scaling in itertools.product(ALPHAS, SCALINGS)
    ]
    return max(
        (AffineTranslator.from_params(params) for params in settings),
        key=lambda translator: _score(translator, (x[~held], y[~held]), (x[held], y[held])),
    )


def _score(
    translator: AffineTranslator, train: tuple[Matrix, Matrix], test: tuple[Matrix, Matrix]
) -> float:
    fitted = AffineTranslator.from_params(translator.get_params()).fit(*train)
    return evaluate_latents(fitted, *test, n_bootstrap=1, n_permutations=1).translated.mrr


def _held_out(groups: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    names, sizes = np.unique(groups, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: shuffle_key(str(names[i])))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(groups, names[order][before < SHARE * len(groups)])
