"""A fit whose pairs explain no more than shuffled ones warns; a fit on related pairs does not."""

import warnings

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    PairedMoments,
    compose,
    fit_translator,
)
from hf_latent_bridge.errors import RankWarning, UnrelatedPairsWarning
from hf_latent_bridge.metrics import look_shuffled

SEEDS = 40
WIDTHS = [(3, 2), (32, 48), (48, 24)]


def latents(draw, z, decay):
    """Latents as encoders give them: a spectrum that falls off, turned, with a common mean."""
    d = z.shape[1]
    deviations = np.arange(1, d + 1.0) ** (-decay / 2)
    turn = np.linalg.qr(draw.normal(size=(d, d)))[0]
    return (z * deviations) @ turn + 3 * draw.normal(size=d)


def pairs(seed, n, widths, r2, decay=1.0, shape="normal"):
    """Pairs whose principal axes share a part `r2` of their variance; 0 for unrelated ones."""
    draw = np.random.default_rng(seed)

    def values(d):
        return draw.normal(size=(n, d)) if shape == "normal" else draw.standard_t(4, size=(n, d))

    x, y = values(widths[0]), values(widths[1])
    shared = min(widths)
    y[:, :shared] = np.sqrt(r2) * x[:, :shared] + np.sqrt(1 - r2) * y[:, :shared]
    return latents(draw, x, decay), latents(draw, y, decay)


def share_that_looks_shuffled(**settings):
    found = [
        look_shuffled(PairedMoments.from_batch(*map(torch.from_numpy, pairs(seed, **settings))))
        for seed in range(SEEDS)
    ]
    return np.mean(found)


@pytest.mark.parametrize("n", [50, 500])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("decay", [0.5, 1.5])
@pytest.mark.parametrize("shape", ["normal", "heavy tails"])
def test_unrelated_pairs_are_nearly_always_found(n, widths, decay, shape):
    found = share_that_looks_shuffled(n=n, widths=widths, r2=0, decay=decay, shape=shape)
    assert found >= 0.9


@pytest.mark.parametrize(("n", "r2"), [(10, 0.3), (40, 0.6), (50, 0.5), (100, 0.3), (500, 0.05)])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_related_pairs_are_not_taken_for_unrelated_ones(n, r2, widths, decay):
    assert share_that_looks_shuffled(n=n, widths=widths, r2=r2, decay=decay) == 0


@pytest.mark.parametrize("n", [1, 2, 5, 30])
@pytest.mark.parametrize("widths", WIDTHS)
def test_a_handful_of_pairs_is_too_few_to_tell(n, widths):
    assert share_that_looks_shuffled(n=n, widths=widths, r2=0) == 0


def test_few_pairs_of_unrelated_directions_in_wide_spaces_are_found():
    x, y = pairs(0, 100, (200, 300), 0)
    assert look_shuffled(PairedMoments.from_batch(torch.from_numpy(x), torch.from_numpy(y)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_columns_and_precision_do_not_matter(dtype):
    for r2 in (0, 0.5):
        x, y = (torch.from_numpy(side).to(dtype) for side in pairs(0, 300, (32, 48), r2))
        x[:, 3], y[:, :5], x[:, 7] = 4, 1e-9 * torch.randn(300, 5), x[:, 8]
        assert look_shuffled(PairedMoments.from_batch(x, y)) == (r2 == 0)
    x[:], y[:] = 1, 2
    assert not look_shuffled(PairedMoments.from_batch(x, y))


# What a fit does with it

X, RELATED = pairs(0, 200, (8, 6), 0.5)
SHUFFLED = RELATED[np.random.default_rng(1).permutation(200)]


def caught(work):
    """The warnings about unrelated pairs that a call gives."""
    with warnings.catch_warnings(record=True) as all_of_them:
        warnings.simplefilter("always")
        result = work()
    return result, [w for w in all_of_them if w.category is UnrelatedPairsWarning]


FITS = {
    "fit": lambda y: OrthoTranslator().fit(X, y),
    "fit_moments": lambda y: OrthoTranslator().fit_moments(
        PairedMoments.from_batch(torch.from_numpy(X), torch.from_numpy(y))
    ),
    "fit_translator": lambda y: fit_translator(OrthoTranslator(), None, None, (X, y)),
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_every_fit_warns_once_and_says_what_to_check(fit):
    translator, told = caught(lambda: fit(SHUFFLED))
    assert len(told) == 1
    assert "these 200 pairs explain no more" in str(told[0].message)
    assert "check that row i of both sides is the same item" in str(told[0].message)
    assert translator.unrelated_pairs_
    translator, told = caught(lambda: fit(RELATED))
    assert not told
    assert not translator.unrelated_pairs_


def test_a_partial_fit_decides_when_the_map_is_needed():
    translator, told = caught(lambda: OrthoTranslator().partial_fit(X, SHUFFLED))
    assert not told
    _, told = caught(lambda: translator.transform(X))
    assert len(told) == 1
    _, told = caught(lambda: translator.transform(X))
    assert not told


def test_pairs_too_few_to_tell_warn_of_their_number_alone():
    with pytest.warns(RankWarning) as told:
        LinearTranslator().fit(X[:5], SHUFFLED[:5])
    assert {w.category for w in told} == {RankWarning}


def test_the_config_and_the_card_keep_the_warning(tmp_path):
    with pytest.warns(UnrelatedPairsWarning):
        bad = OrthoTranslator().fit(X, SHUFFLED)
    good = OrthoTranslator().fit(X, RELATED)
    chain = compose(OrthoTranslator().fit(RELATED, X), bad)
    for name, translator, expected in (
        ("bad", bad, True),
        ("good", good, False),
        ("c", chain, True),
    ):
        translator.save_pretrained(tmp_path / name)
        config = (tmp_path / name / "config.json").read_text()
        card = (tmp_path / name / "README.md").read_text()
        assert ('"unrelated_pairs": true' in config) == expected
        assert ("explain no more than shuffled pairs" in card) == expected
        assert AutoTranslator.from_pretrained(tmp_path / name).unrelated_pairs_ == expected
