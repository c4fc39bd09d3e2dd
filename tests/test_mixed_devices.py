"""Latents of which some come from an encoder on a GPU and others from a file, in one call.

Without a second device these tests compare a call with itself: `test_devices.py` runs them on one
in software.
"""

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    OrthoTranslator,
    SharedSpace,
    compare_directions,
    gate_gradual,
    gate_latents,
    grow_pairs,
)
from hf_latent_bridge.devices import default_device
from hf_latent_bridge.hubness import append_similarity, neighbor_similarity

MIXED = [(1, 0, 0, 0), (0, 1, 0, 1), (0, 0, 1, 0), (0, 0, 0, 1)]
QUERIES, ITEMS = slice(0, 20), slice(20, 80)


def latents():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 12))
    y = x @ draw.normal(size=(12, 9)) + 0.3 * draw.normal(size=(80, 9))
    return torch.tensor(x).float(), torch.tensor(y).float()


def placed(mask):
    """Queries and items of both sides, those that the mask names on the default device."""
    parts = [side[rows] for rows in (QUERIES, ITEMS) for side in latents()]
    where = (default_device() if moved else "cpu" for moved in mask)
    a, b, c, d = (part.to(device) for part, device in zip(parts, where, strict=True))
    return {"queries": (a, b), "corpus": (c, d)}


def space():
    x, y = latents()
    return SharedSpace(5, alpha=1.0).fit({"a": x, "b": y})


def gated(**given):
    return gate_latents(OrthoTranslator().fit(*latents()), n_bootstrap=9, **given)


def compared(**given):
    x, y = latents()
    there, back = OrthoTranslator().fit(x, y), OrthoTranslator().fit(y, x)
    return compare_directions(there, back, n_bootstrap=9, **given)


def gradual(**given):
    return gate_gradual(space(), old="a", new="b", n_bootstrap=9, **given)


def grown(queries, corpus):
    return grow_pairs(*queries, *corpus, max_rounds=2)


def in_one_space(queries, corpus):
    return SharedSpace(5).fit_growing(
        *(dict(zip("ab", side, strict=True)) for side in (queries, corpus))
    )


@pytest.mark.parametrize("mask", MIXED)
@pytest.mark.parametrize("call", [gated, compared, gradual, grown])
def test_what_is_found_does_not_depend_on_where_latents_are(call, mask):
    assert str(call(**placed(mask))) == str(call(**placed([0] * 4)))


@pytest.mark.parametrize("mask", MIXED[1:2])
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.GrowthWarning")
def test_a_space_grows_from_latents_wherever_they_are(mask):
    found = in_one_space(**placed(mask)).translator("a").transform(latents()[0])
    wanted = in_one_space(**placed([0] * 4)).translator("a").transform(latents()[0])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_moments_add_wherever_they_are():
    x, y = latents()
    wanted = OrthoTranslator().fit(x, y)
    found = OrthoTranslator().partial_fit(x[:50], y[:50])
    found.partial_fit(x[50:].to(default_device()), y[50:].to(default_device()))
    torch.testing.assert_close(found.transform(x), wanted.transform(x), atol=1e-4, rtol=1e-4)


def test_items_are_folded_with_numbers_from_elsewhere():
    _, y = latents()
    similarity = neighbor_similarity(y, y[:40])
    found = append_similarity(y.to(default_device()), similarity)
    torch.testing.assert_close(found.cpu(), append_similarity(y, similarity))
