"""Numbers of things are whole and in range, whatever the function that takes them."""

import numpy as np
import pytest

from hf_latent_bridge import LatentIndex, OrthoTranslator, fit_head, load_pairs
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.evaluation import evaluate_latents
from hf_latent_bridge.hubness import neighbor_similarity, rescore

X = np.random.default_rng(0).normal(size=(30, 4))
FITTED = OrthoTranslator().fit(X, X[:, ::-1].copy())


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(2)])
def test_whole_numbers_within_bounds_are_taken(value):
    assert check_count("k", value, most=7) == value
    assert type(check_count("k", value)) is int


@pytest.mark.parametrize("value", [0, 8, -1, 2.0, 2.5, "3", None, True, float("nan"), [1]])
def test_others_are_refused_with_bounds_and_value(value):
    with pytest.raises(DecoderError) as refusal:
        check_count("k", value, most=7, also=" or None", error=DecoderError)
    assert str(refusal.value) == f"k must be an integer from 1 to 7 or None, got {value!r}"


@pytest.mark.parametrize("value", [2.5, "3", None])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n_bootstrap", lambda n: evaluate_latents(FITTED, X, X, n_bootstrap=n)),
        ("seed", lambda n: evaluate_latents(FITTED, X, X, seed=n)),
        ("n_permutations", lambda n: evaluate_latents(FITTED, X, X, n_permutations=n)),
        ("n_neighbors", lambda n: neighbor_similarity(X, X, n_neighbors=n)),
        (
            "n_neighbors",
            lambda n: LatentIndex.from_latents(X, range(30), hubness="csls", bank=X, n_neighbors=n),
        ),
        ("top_k", lambda n: rescore(X, np.zeros(X.shape, int), np.zeros(3), top_k=n)),
        ("size", lambda n: FITTED.keep_bank(X, size=n)),
        ("hidden", lambda n: fit_head(X, [0, 1] * 15, hidden=n or "none")),
        ("max_pairs", lambda n: load_pairs((X, X), max_pairs=n or "none")),
    ],
)
def test_functions_name_the_number_that_they_refuse(name, call, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer"):
        call(value)
