"""Growth of pairs: few are given, the rest are found among items of which no pair is known."""

import numpy as np
import pytest
import torch

from hf_latent_bridge import (
    AutoTranslator,
    Growth,
    SharedSpace,
    evaluate_latents,
    grow_pairs,
    match_unpaired,
)
from hf_latent_bridge.errors import GrowthWarning, InvalidLatentsError, SolverError

GIVEN, FEWER = 30, 12


def two_views(n=500, seed=0):
    """Views of one signal with a falling spectrum, each with noise of its own."""
    draw = np.random.default_rng(seed)
    signal = draw.normal(size=(n, 20)) / np.arange(1, 21) ** 0.5
    return [
        signal @ draw.normal(size=(20, width)) + 0.3 * draw.normal(size=(n, width)) + 2
        for width in (40, 56)
    ]


def unpaired(n=500, seed=0):
    """Both views of given pairs and of shuffled items, and which row is which."""
    x, y = two_views(n, seed)
    order = np.random.default_rng(seed + 1).permutation(n - GIVEN)
    return (x[:GIVEN], y[:GIVEN]), (x[GIVEN:], y[GIVEN:][order]), order


def unrelated(n=150):
    """The first view of some items, the second of others."""
    return (two_views(n)[0], two_views(n, seed=9)[1])


@pytest.fixture(scope="module")
def grown():
    """Pairs grown from a few given ones, and which row is which."""
    given, others, order = unpaired()
    return grow_pairs(*given, *others), order


def recall(space, x, y):
    a, b = space.translator("a").transform(x), space.translator("b").transform(y)
    return ((a @ b.T).argmax(1) == np.arange(len(x))).mean()


def test_nearly_all_pairs_are_found_from_a_few(grown):
    growth, order = grown
    right = order[growth.rows_y.numpy()] == growth.rows_x.numpy()
    assert growth.converged
    assert growth.confirmed
    assert len(right) > 0.9 * len(order)
    assert right.mean() > 0.97
    assert growth.n_pairs[-1] == len(right)
    assert growth.agreement[-1] >= 0.98


def test_each_item_is_in_one_pair_at_most(grown):
    growth, _ = grown
    for rows in (growth.rows_x, growth.rows_y):
        assert len(rows.unique()) == len(rows)


@pytest.mark.slow
def test_the_order_of_the_unpaired_rows_does_not_matter(grown):
    given, (x, y), _ = unpaired()
    again = np.random.default_rng(5).permutation(len(x))
    one, other = grown[0], grow_pairs(*given, x[again], y)
    assert {*zip(one.rows_x.tolist(), one.rows_y.tolist(), strict=True)} == {
        *zip(again[other.rows_x.numpy()].tolist(), other.rows_y.tolist(), strict=True)
    }
    assert one.n_pairs == other.n_pairs
    assert one.recovery == other.recovery


@pytest.mark.slow
def test_growth_from_unrelated_latents_is_not_confirmed():
    given, _, _ = unpaired()
    growth = grow_pairs(*given, *unrelated())
    assert not growth.confirmed
    assert "they are look-alikes" in str(growth)


@pytest.mark.slow
def test_growth_from_shuffled_pairs_is_not_confirmed():
    given, others, _ = unpaired(150)
    assert not grow_pairs(given[0], np.roll(given[1], 1, axis=0), *others).confirmed


def look_alikes(n=300, seed=3):
    """Items in tight groups, of which either side holds other ones."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(60, 24))
    groups = draw.integers(60, size=3 * n)
    signal = centres[groups] + 0.5 * draw.normal(size=(3 * n, 24))
    x, y = (
        signal @ draw.normal(size=(24, width)) + 0.4 * draw.normal(size=(3 * n, width))
        for width in (30, 40)
    )
    return (x[:n], y[:n]), (x[n : 2 * n], y[2 * n :])


@pytest.mark.slow
def test_look_alikes_are_told_by_the_given_pairs_that_they_make_harder_to_find(grown):
    given, others = look_alikes()
    growth = grow_pairs(*given, *others)
    assert growth.hurts
    assert growth.gain < -2 * growth.gain_error
    assert not growth.confirmed
    assert "they are look-alikes" in str(growth)
    right, _ = grown
    assert right.gain > 2 * right.gain_error
    assert not right.hurts


def test_two_given_pairs_cannot_tell_whether_found_ones_help():
    given, others, _ = unpaired()
    growth = grow_pairs(given[0][:2], given[1][:2], *others)
    assert growth.gain is None
    assert not growth.hurts


def test_given_pairs_may_repeat_one():
    given, others, _ = unpaired()
    rows = [0, 0, 0, 1]  # without the last one nothing varies
    growth = grow_pairs(given[0][rows], given[1][rows], *others, max_rounds=2)
    assert growth.gain is not None


def test_latents_of_mixed_precision_grow_as_those_of_double(grown):
    given, others, _ = unpaired()
    growth = grow_pairs(given[0].astype(np.float16), given[1], *others)
    assert abs(len(growth.rows_x) - len(grown[0].rows_x)) < 0.05 * len(grown[0].rows_x)
    assert growth.confirmed


def test_growth_that_has_not_settled_says_so():
    given, others, _ = unpaired()
    growth = grow_pairs(*given, *others, max_rounds=3)
    assert not growth.converged
    assert len(growth.n_pairs) == 3
    assert "still changing" in str(growth)


# No pair at all ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_with_no_pair_given_clusters_are_a_start():
    x, y = two_views(300)
    order = np.random.default_rng(1).permutation(300)
    growth = match_unpaired(x, y[order], n_clusters=20, n_starts=5)
    right = order[growth.rows_y.numpy()] == growth.rows_x.numpy()
    assert growth.confirmed == (right.mean() > 0.9)


@pytest.mark.slow
def test_a_start_that_is_a_little_luckier_than_shuffled_ones_is_not_trusted():
    x, y = two_views()
    order = np.random.default_rng(1).permutation(500)
    growth = match_unpaired(x, y[order], n_clusters=12)
    right = order[growth.rows_y.numpy()] == growth.rows_x.numpy()
    assert growth.recovery - growth.chance > 0.1
    assert right.mean() < 0.05
    assert not growth.confirmed


@pytest.mark.slow
def test_with_no_pair_given_and_unrelated_latents_there_is_no_space():
    a, b = unrelated(80)
    assert not match_unpaired(a, b, n_starts=2).confirmed
    with pytest.raises(SolverError, match="no pair was given, and there is no space"):
        SharedSpace(16).fit_growing(None, {"a": a, "b": b})


def test_the_unsupervised_start_is_the_same_for_the_same_seed():
    x, y = two_views(120)
    one, other = (match_unpaired(x, y, n_clusters=8, n_starts=1, seed=3) for _ in range(2))
    assert one.rows_x.tolist() == other.rows_x.tolist()
    assert one.recovery == other.recovery


def test_more_clusters_than_items_are_refused():
    x, y = two_views(40)
    with pytest.raises(InvalidLatentsError, match="40 clusters need more different items"):
        match_unpaired(x, y, n_clusters=40)
    with pytest.raises(InvalidLatentsError, match=r"8 clusters need .* got 8 and 40"):
        match_unpaired(np.repeat(x[:8], 5, axis=0), y, n_clusters=8)
    with pytest.raises(ValueError, match="at least 3"):
        match_unpaired(x, y, n_clusters=2)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        match_unpaired(x, y, n_clusters=8, seed=-1)


# The space -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grown_space_finds_what_one_of_the_few_pairs_does_not(tmp_path):
    given, others, order = unpaired()
    x, y = others[0][order], others[1]
    few = SharedSpace(16).fit({"a": given[0][:FEWER], "b": given[1][:FEWER]})
    grown = SharedSpace(16).fit_growing(
        {"a": given[0][:FEWER], "b": given[1][:FEWER]}, {"a": others[0], "b": others[1]}
    )
    assert recall(grown, x, y) > recall(few, x, y) + 0.1
    assert grown.growth_.confirmed
    assert grown.dataset_ == {"given_pairs": FEWER, "found_pairs": len(grown.growth_.rows_x)}
    grown.save_pretrained(tmp_path)
    view = AutoTranslator.from_pretrained(tmp_path, subfolder="a")
    np.testing.assert_allclose(view.transform(x), grown.translator("a").transform(x))
    assert SharedSpace.from_pretrained(tmp_path).dataset_ == grown.dataset_
    report = evaluate_latents(grown.translator("a", to="b"), x, y)
    assert report.translated.mrr > 0.9


def test_given_pairs_stay_and_the_space_is_that_of_them_and_the_found_ones():
    given, others, _ = unpaired()
    grown = SharedSpace(16, alpha=1.0).fit_growing(
        {"a": given[0], "b": given[1]}, {"a": others[0], "b": others[1]}
    )
    rows_x, rows_y = grown.growth_.rows_x.numpy(), grown.growth_.rows_y.numpy()
    plain = SharedSpace(16, alpha=1.0).fit(
        {
            "a": np.concatenate([given[0], others[0][rows_x]]),
            "b": np.concatenate([given[1], others[1][rows_y]]),
        }
    )
    assert grown.space_ == plain.space_
    assert grown.n_pairs_ == GIVEN + len(rows_x)


def test_where_everything_is_paired_it_is_the_plain_fit():
    x, y = two_views()
    plain = SharedSpace(16).fit({"a": x, "b": y})
    grown = SharedSpace(16).fit_growing({"a": x, "b": y}, {"a": x[:0], "b": y[:0]})
    assert grown.space_ == plain.space_
    assert grown.dataset_ == {"given_pairs": 500, "found_pairs": 0}


@pytest.mark.slow
def test_pairs_that_cannot_be_trusted_are_left_out_with_a_warning():
    given, _, _ = unpaired()
    views = {"a": given[0], "b": given[1]}
    with pytest.warns(GrowthWarning, match="on the given pairs alone"):
        grown = SharedSpace(16).fit_growing(views, dict(zip("ab", unrelated(), strict=True)))
    assert grown.space_ == SharedSpace(16).fit(views).space_


@pytest.mark.parametrize(
    ("given", "others", "reason"),
    [
        ((1, 1), (40, 56), "at least 2 given pairs, got 1"),
        ((5, 6), (40, 56), "equal numbers of rows, got 5 and 6"),
        ((5, 5), (41, 56), "unpaired source latents must have one width, got 40 and 41"),
        ((5, 5), (40, 55), "unpaired target latents must have one width, got 56 and 55"),
    ],
)
def test_pairs_and_items_that_do_not_go_together_are_refused(given, others, reason):
    draw = np.random.default_rng(0)
    x, y = (draw.normal(size=(n, d)) for n, d in zip(given, (40, 56), strict=True))
    with pytest.raises(InvalidLatentsError, match=reason):
        grow_pairs(x, y, *(draw.normal(size=(20, d)) for d in others))


@pytest.mark.parametrize("name", ["dim", "n_neighbors", "max_rounds"])
def test_parameters_below_one_are_refused(name):
    given, others, _ = unpaired()
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        grow_pairs(*given, *others, **{name: 0})


def test_it_is_told_that_nothing_grew_where_the_given_pairs_are_too_few_for_the_folds():
    x, y = unrelated()
    few = {"a": x[:3], "b": y[:3]}
    with (
        pytest.warns(GrowthWarning, match="pairs found in"),
        pytest.raises(InvalidLatentsError, match="5 folds need at least as many items"),
    ):
        SharedSpace().fit_growing(few, {"a": x[3:60], "b": y[3:60]})


def test_growth_is_between_two_views():
    x, y = two_views(60)
    with pytest.raises(InvalidLatentsError, match="between two views"):
        SharedSpace().fit_growing({"a": x, "b": y}, {"a": x, "c": y})
    with pytest.raises(InvalidLatentsError, match="unpaired must be by view"):
        SharedSpace().fit_growing({"a": x, "b": y}, (x, y))
    with pytest.raises(InvalidLatentsError, match="views must be by view"):
        SharedSpace().fit_growing([x, y], {"a": x, "b": y})


def test_latents_that_are_not_finite_are_refused_by_the_name_of_their_view():
    x, y = two_views(60)
    given = {"a": x[:20], "b": y[:20]}
    spoiled = np.where(np.arange(40)[:, None] == 7, np.nan, y[20:])
    with pytest.raises(InvalidLatentsError, match=r"view 'b': .* NaN .* first in row 7"):
        SharedSpace().fit_growing(given, {"a": x[20:], "b": spoiled})


@pytest.mark.parametrize(("n", "reason"), [(9, "too few"), (200, "too little difference")])
def test_it_is_told_why_found_pairs_are_not_trusted(n, reason):
    rows = torch.arange(n)
    growth = Growth(rows, rows, (n,), (1.0,), converged=True, recovery=0.9, chance=0.8)
    assert str(growth).endswith(f"shuffled pairs: {reason} to trust them")
