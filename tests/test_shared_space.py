"""A shared space of two or more encoders: the closed form, its penalty, one repo for all views."""

import itertools
import json
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from hf_latent_bridge import (
    AutoTranslator,
    LatentIndex,
    OrthoTranslator,
    PairedMoments,
    SharedSpace,
    SpaceSpec,
    compose,
    evaluate,
)
from hf_latent_bridge.canonical import CanonicalProblem, held_out_information
from hf_latent_bridge.errors import (
    ConfigError,
    InvalidLatentsError,
    NotFittedError,
    RankWarning,
    RepoNotFoundError,
    SolverError,
    SpaceMismatchError,
    UnknownNameError,
    UnrelatedPairsWarning,
    WeightsError,
)
from hf_latent_bridge.files import read_config

WIDTHS = {"a": 40, "b": 60, "c": 52}


def views(n=600, names="ab", signal=20, noise=1.0, seed=0, rows=None):
    """Views of one signal, each with noise of its own, mixed and far from the origin."""
    draw = np.random.default_rng(seed)
    common = draw.normal(size=(n, signal))
    found = {}
    for name in names:
        width = WIDTHS[name]
        own = noise * draw.normal(size=(n, width - signal))
        mixing = draw.normal(size=(width, width)) / width**0.5
        found[name] = np.concatenate([common, own], axis=1) @ mixing + 3 * draw.normal(size=width)
    return found if rows is None else {name: x[rows] for name, x in found.items()}


def moments(latents):
    return {
        (a, b): PairedMoments.from_batch(
            torch.from_numpy(latents[a]), torch.from_numpy(latents[b]), full_syy=True
        )
        for a, b in itertools.combinations(latents, 2)
    }


def whitened(x, alpha):
    """Centred, of mean variance 1, times (C + alpha I)^(-1/2), the symmetric root."""
    z = (x - x.mean(0)) / np.sqrt(x.var(0).mean())
    return z @ scipy.linalg.inv(scipy.linalg.sqrtm(z.T @ z / len(z) + alpha * np.eye(z.shape[1])))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(space, x, y):
    return space.translator("a").transform(x) @ space.translator("b").transform(y).T


def recall(queries, items):
    return ((unit(queries) @ unit(items).T).argmax(1) == np.arange(len(items))).mean()


# The closed form -----------------------------------------------------------------------------


def wide_views():
    """Few items with many columns."""
    draw = np.random.default_rng(0)
    common = draw.normal(size=(24, 20))
    return [common @ draw.normal(size=(20, d)) + draw.normal(size=(24, d)) for d in (150, 180)]


@pytest.mark.parametrize("latents", [views().values(), wide_views()], ids=["many", "few items"])
def test_two_views_compare_as_by_canonical_correlation_of_the_arrays(latents):
    x, y = latents
    a, b = whitened(x, 0.5), whitened(y, 0.5)
    u, rho, vh = np.linalg.svd(a.T @ b / len(a))
    weight = np.sqrt(0.9 * rho / (1 - (0.9 * rho) ** 2))[:16]
    wanted = unit(a @ u[:, :16] * weight) @ unit(b @ vh[:16].T * weight).T
    space = SharedSpace(16, alpha=0.5).fit({"a": x, "b": y})
    np.testing.assert_allclose(cosines(space, x, y), wanted, atol=1e-9)


def test_more_views_take_the_leading_axes_of_the_whitened_block_moment():
    latents = views(names="abc")
    white = {name: whitened(x, 0.3) for name, x in latents.items()}
    joint = np.concatenate(list(white.values()), axis=1)
    moment = joint.T @ joint / len(joint)
    vectors = np.linalg.eigh(moment)[1][:, ::-1][:, :8]
    ends = np.cumsum([0, *(x.shape[1] for x in latents.values())])
    apart = scipy.linalg.block_diag(*(z.T @ z / len(z) for z in white.values()))
    alone, together = ((vectors * (m @ vectors)).sum(0) for m in (apart, moment - apart))
    wanted = {}
    for name, start, stop in zip(latents, ends, ends[1:], strict=False):
        block = vectors[start:stop]
        share = np.sqrt(3 * (block**2).sum(0))
        rho = 0.9 * alone * together / 2 * share
        wanted[name] = unit(white[name] @ (block / share) * np.sqrt(rho / (1 - rho**2)))
    space = SharedSpace(8, alpha=0.3).fit(latents)
    for one, other in itertools.combinations(latents, 2):
        found = space.translator(one).transform(latents[one])
        cosines = found @ space.translator(other).transform(latents[other]).T
        np.testing.assert_allclose(cosines, wanted[one] @ wanted[other].T, atol=1e-9)


@pytest.mark.parametrize("alpha", [3.0, 10.0])
def test_a_strong_penalty_leaves_several_views_their_axes(alpha):
    draw = np.random.default_rng(0)
    common = draw.normal(size=(500, 20))
    latents = {}
    for name, width in WIDTHS.items():
        rotation = np.linalg.qr(draw.normal(size=(width, width)))[0]
        own = draw.normal(size=(500, width - 20))
        latents[name] = np.concatenate([common, own], axis=1) @ rotation
    space = SharedSpace(16, alpha=alpha).fit({name: x[:200] for name, x in latents.items()})
    a, b = (space.translator(name).transform(latents[name][200:]) for name in "ab")
    assert recall(a, b) > 0.75


@pytest.mark.parametrize("names", ["ac", "abc"])
def test_a_view_that_is_correlated_with_no_other_is_refused(names):
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=4)))
    latents = {"a": signs[:, :2], "b": signs[:, :2] @ [[1, 2], [3, 1]], "c": signs[:, 2:]}
    with pytest.raises(SolverError, match=r"'[ac]' has nothing in common with the others: along"):
        SharedSpace(2, alpha=1.0).fit({name: latents[name] for name in names})


def test_shifting_scaling_and_rotating_a_view_changes_nothing():
    x, y = views().values()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))[0]
    plain = SharedSpace(16, alpha=1.0).fit({"a": x, "b": y})
    moved = SharedSpace(16, alpha=1.0).fit({"a": 7 * x @ rotation - 2, "b": y})
    again = cosines(moved, 7 * x @ rotation - 2, y)
    np.testing.assert_allclose(again, cosines(plain, x, y), atol=1e-8)


def test_latents_too_large_to_be_scaled_to_unit_norm_are_refused():
    view = SharedSpace(dim=3).fit(views(200)).translator("a")
    x = views(4)["a"].astype(np.float32)
    x[2] *= 1e30
    with pytest.raises(InvalidLatentsError, match=r"row 2 is too large .* pass a wider dtype"):
        view.transform(x)
    assert np.linalg.norm(view.transform(x.astype(float)), axis=1) == pytest.approx(1)


def test_a_row_without_a_direction_in_the_space_is_refused_in_any_precision():
    latents = views()
    space = SharedSpace(16).fit(latents)
    with pytest.raises(
        InvalidLatentsError, match=r"row 1 is too small .*float64: it has no direction"
    ):
        space.translator("a").transform(np.stack([latents["a"][0], latents["a"].mean(0)]))


def test_the_order_of_two_views_does_not_matter():
    x, y = views().values()
    one, other = (SharedSpace(16, alpha=1.0).fit(v) for v in ({"a": x, "b": y}, {"b": y, "a": x}))
    for name, latents in (("a", x), ("b", y)):
        moved = [space.translator(name).transform(latents) for space in (one, other)]
        np.testing.assert_allclose(*moved, atol=1e-8)


def test_constant_columns_get_no_weight():
    latents = views()
    latents["a"][:, 5] = 2.5
    weight = SharedSpace(16, alpha=1.0).fit(latents).translator("a").map_.weight
    assert weight[5].abs().max() < 1e-6 * weight.abs().max()


def test_held_out_counterparts_are_found_better_than_by_a_rotation():
    train, test = (views(800, rows=part, noise=2.0) for part in (slice(0, 300), slice(300, None)))
    space = SharedSpace(20).fit(train)
    shared = [space.translator(name).transform(test[name]) for name in "ab"]
    rotated = OrthoTranslator().fit(train["a"], train["b"]).transform(test["a"])
    mean = train["b"].mean(0)
    assert recall(*shared) > recall(rotated - mean, test["b"] - mean) + 0.05


# The penalty ---------------------------------------------------------------------------------


def test_the_penalty_has_the_most_held_out_information_of_the_grid():
    space = SharedSpace(16).fit(views(noise=3.0))
    curve = space.information_
    assert space.alpha_ == curve.alphas[int(np.argmax(curve.bits))]


def test_views_that_are_nearly_equal_are_not_shrunk_apart():
    draw = np.random.default_rng(1)
    x = draw.normal(size=(600, 20)) * np.linspace(0.2, 2, 20)
    y = x + 1e-3 * draw.normal(size=x.shape)
    given, (a, b) = {"a": x[:400], "b": y[:400]}, (x[400:], y[400:])
    space, strongest = SharedSpace().fit(given), SharedSpace(alpha=10.0).fit(given)
    assert len(set(space.information_.bits)) == 1
    assert space.alpha_ == 1.0
    found = space.fold_queries(a, "a", items="b") @ space.fold_items(b, "b", queries="a").T
    assert (found.argmax(1) == np.arange(200)).mean() > 0.95
    kept, lost = (one.translator("a", to="b").score(a, b) for one in (space, strongest))
    assert kept > lost + 0.2


def test_of_penalties_that_few_items_do_not_tell_apart_the_one_nearest_1_is_taken():
    x, y = views(60, noise=2.0).values()
    folds = [moments({"a": x[k::5], "b": y[k::5]}) for k in range(5)]
    found, alpha = held_out_information(folds)
    curve = dict(zip(found.alphas, found.bits, strict=True))
    assert max(curve, key=curve.get) == 3.0
    assert alpha == 1.0
    nats_lost = 60 * np.log(2) * (curve[3.0] - curve[1.0])
    assert 0 < nats_lost < 1.92


def test_held_out_information_equals_that_of_the_arrays():
    x, y = views(300, noise=2.0).values()
    folds = [moments({"a": x[k::3], "b": y[k::3]}) for k in range(3)]
    parts = []
    for k in range(3):
        rest = np.arange(300) % 3 != k
        solved = CanonicalProblem.from_moments(moments({"a": x[rest], "b": y[rest]})).solve(
            alpha=0.7, dim=100
        )
        p, q = (
            (z[k::3] - solved[v].mean.numpy()) @ solved[v].axes.numpy()
            for v, z in (("a", x), ("b", y))
        )
        parts.append([(p * q).mean(0), (p * p).mean(0), (q * q).mean(0)])
    cross, var_a, var_b = np.mean(parts, axis=0)
    rho = np.clip(cross / np.sqrt(var_a * var_b), 0, 0.999)
    (bits,) = held_out_information(folds, [0.7])[0].bits
    np.testing.assert_allclose(bits, -0.5 * np.log2(1 - rho**2).sum())


def test_the_width_follows_from_the_axes_that_hold_up_on_held_out_items():
    space = SharedSpace("auto").fit(views(1500, signal=20, noise=2.0))
    rho = np.array(space.information_.correlations)
    nats = np.cumsum(-0.5 * np.log(1 - np.clip(rho, 0, 0.999) ** 2))
    assert space.space_.dim == int((nats < 0.99 * nats[-1]).sum()) + 1
    assert space.params_["dim"] == space.space_.dim
    assert rho[:20].min() > 0.2 > 0.1 > np.abs(rho[20:]).max()


def test_a_width_is_chosen_for_a_given_penalty():
    space = SharedSpace("auto", alpha=0.3).fit(views())
    assert (space.alpha_, space.information_.alphas) == (0.3, (0.3,))
    assert space.space_.dim < 40


def test_fewer_items_than_dimensions_give_as_many_axes_as_the_items_span():
    space = SharedSpace(64).fit(views(23))
    assert space.space_.dim == 22
    assert all(view.map_.weight.isfinite().all() for view in space.views_.values())


@pytest.mark.parametrize(("dim", "possible"), [(16, 16), ("auto", 52)])
def test_a_narrow_view_that_takes_axes_from_the_others_is_named(dim, possible):
    latents = views(names="abc")
    latents["a"] = latents["a"][:, :2]
    told = f"view 'a' varies in 2 directions.* could have {possible}"
    with pytest.warns(RankWarning, match=told):
        space = SharedSpace(dim).fit(latents)
    assert space.space_.dim == 2


def test_views_that_share_nothing_have_hardly_any_information():
    draw = np.random.default_rng(0)
    latents = {"a": draw.normal(size=(2000, 10)), "b": draw.normal(size=(2000, 12))}
    with pytest.warns(UnrelatedPairsWarning, match="views 'a' and 'b' agree on these 2,000 items"):
        space = SharedSpace().fit(latents)
    assert max(space.information_.bits) < 0.1


def test_the_view_whose_rows_are_shuffled_is_named():
    latents = views(names="abc")
    latents["c"] = latents["c"][::-1].copy()
    with pytest.warns(UnrelatedPairsWarning) as caught:
        SharedSpace(8, alpha=1.0).fit(latents)
    assert sorted(str(warning.message)[:21] for warning in caught) == [
        "views 'a' and 'c' agr",
        "views 'b' and 'c' agr",
    ]


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_narrow_view_of_which_held_out_items_tell_is_not_taken_for_shuffled(shuffled):
    draw = np.random.default_rng(0)
    wide = draw.normal(size=(200, 300))
    narrow = wide[:, :2] @ draw.normal(size=(2, 2)) + 0.3 * draw.normal(size=(200, 2))
    narrow += wide[:, 2:12] @ (0.5 * draw.normal(size=(10, 2)))
    if shuffled:
        narrow = narrow[draw.permutation(200)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        space = SharedSpace(2).fit({"narrow": narrow, "wide": wide})
    assert [one.category for one in caught] == [UnrelatedPairsWarning] * shuffled
    assert (max(space.information_.bits) > 0.5) != shuffled


def test_items_need_not_be_seen_by_all_views():
    latents = views(900, names="abc")
    parts = [("ab", slice(0, 300)), ("cb", slice(300, 500)), ("abc", slice(500, 700))]
    seen = [{name: latents[name][rows] for name in names} for names, rows in parts]
    space = SharedSpace(20).fit(seen)
    assert (list(space.views_), space.n_pairs_) == (["a", "b", "c"], 200)
    few = SharedSpace(20).fit(seen[2])
    test = {name: x[700:] for name, x in latents.items()}

    def found(space):
        shared = {name: space.translator(name).transform(test[name]) for name in test}
        return np.mean([recall(shared[a], shared[b]) for a, b in itertools.permutations("abc", 2)])

    assert found(space) > found(few)


def test_a_view_that_saw_other_items_with_each_other_view_varies_about_one_mean():
    """Items of one set lie elsewhere than those of another: the moments are those of all."""
    met = {("a", "b"): (0, 0), ("b", "c"): (1, 5), ("a", "c"): (2, -3)}
    latents = {p: views(60, p, seed=seed) for p, (seed, _) in met.items()}
    moved = {p: {n: x + met[p][1] for n, x in latents[p].items()} for p in met}
    sums = {p: moments(moved[p])[p] for p in met}
    spectra = CanonicalProblem.from_moments(sums).spectra
    for name, spectrum in spectra.items():
        rows = np.concatenate([moved[p][name] for p in met if name in p])
        np.testing.assert_allclose(spectrum.mean.cpu(), rows.mean(0))
        covariance = (spectrum.back.mT * spectrum.values) @ spectrum.back
        np.testing.assert_allclose(covariance.cpu(), np.cov(rows.T, bias=True), atol=1e-10)


@pytest.mark.parametrize(("names", "most"), [("ab", 0.999), ("abc", 0.97)])
def test_equal_views_are_not_taken_for_perfectly_correlated(names, most):
    """Or the weight of an axis, r / (1 - r²), would have no end."""
    x = views(400, "a")["a"]
    solved = CanonicalProblem.from_moments(moments(dict.fromkeys(names, x))).solve(
        alpha=1e-9, dim=3
    )
    assert solved["a"].correlations.tolist() == pytest.approx([most] * 3)


def test_sets_of_items_that_all_have_seen_are_one_set():
    latents = views(names="abc")
    halves = [
        {name: x[rows] for name, x in latents.items()} for rows in (slice(300), slice(300, None))
    ]
    space, whole = SharedSpace(8).fit(halves), SharedSpace(8).fit(latents)
    np.testing.assert_allclose(space.information_.bits, whole.information_.bits)
    wanted = cosines(whole, latents["a"], latents["b"])
    np.testing.assert_allclose(cosines(space, latents["a"], latents["b"]), wanted, atol=1e-7)


def test_two_views_that_no_item_has_met_are_refused():
    latents = views(names="abc")
    with pytest.raises(InvalidLatentsError, match="every two"):
        SharedSpace().fit([{k: latents[k] for k in pair} for pair in ("ab", "bc")])


def test_batches_give_the_space_of_all_items_at_once():
    latents = views(603)
    space = SharedSpace(16)
    folds = [{} for _ in range(5)]
    for start in range(0, 603, 100):
        batch = {name: x[start : start + 100] for name, x in latents.items()}
        for fold, part in zip(folds, space.fold_moments(batch, start=start), strict=True):
            for pair, m in (part or {}).items():
                fold[pair] = fold[pair] + m if pair in fold else m
    streamed = SharedSpace(16).fit_moments(folds)
    whole = SharedSpace(16).fit(latents)
    assert streamed.alpha_ == whole.alpha_
    np.testing.assert_allclose(streamed.information_.bits, whole.information_.bits)
    for name, x in latents.items():
        moved = [space.translator(name).transform(x) for space in (streamed, whole)]
        np.testing.assert_allclose(*moved, atol=1e-5)


# As translators, in an index, in a repo ------------------------------------------------------


def test_two_views_are_evaluated_where_they_meet():
    latents = views(900, names="abc")
    held_out = {name: x[600:] for name, x in latents.items()}
    space, other = (
        SharedSpace(16, alpha=alpha).fit({name: x[:600] for name, x in latents.items()})
        for alpha in (1.0, 2.0)
    )
    a, b = space.translator("a"), space.translator("b")
    pairs, draws = (held_out["a"], held_out["b"]), {"n_bootstrap": 20, "n_permutations": 20}
    report = evaluate(a, None, None, pairs, target_translator=b, **draws)
    found = cosines(space, *pairs).argmax(1)
    assert report.translated.recall_at_1 == pytest.approx((found == np.arange(300)).mean())
    with pytest.raises(SpaceMismatchError, match="both translators must lead into one space"):
        evaluate(a, None, None, pairs, target_translator=other.translator("b"), **draws)
    with pytest.raises(InvalidLatentsError, match="by their own view of the shared space"):
        evaluate(a, None, None, pairs, **draws)


def test_one_index_takes_items_of_all_views_and_any_of_them_asks():
    latents = views(900, names="abc")
    space = SharedSpace(20).fit({name: x[:400] for name, x in latents.items()})
    items = [
        space.translator("abc"[row % 3]).transform(latents["abc"[row % 3]][row])
        for row in range(400, 900)
    ]
    index = LatentIndex(np.stack(items), list(range(400, 900)), space.space_)
    for name in "abc":
        found = index(space.translator(name).transform(latents[name][400:]))
        assert (
            np.mean([one["item"] == row for one, row in zip(found, range(400, 900), strict=True)])
            > 0.8
        )


def test_a_view_is_a_translator_that_composes_after_others():
    latents = views(400, names="abc")
    spec = SpaceSpec(40, repo_id="me/a")
    space = SharedSpace(16).fit({k: latents[k] for k in "ab"}, spaces={"a": spec})
    first = OrthoTranslator().fit(latents["c"], latents["a"], target=spec)
    both = compose(first, space.translator("a"))
    wanted = space.translator("a").transform(first.transform(latents["c"]))
    np.testing.assert_allclose(both.transform(latents["c"]), wanted, atol=1e-6)


def test_two_shared_spaces_do_not_meet():
    one, other = SharedSpace(16).fit(views()), SharedSpace(16).fit(views(seed=1))
    assert one.space_.mismatches(other.space_)


def test_a_saved_space_loads_with_all_its_views(tmp_path):
    latents = views(names="abc")
    space = SharedSpace(16).fit(latents, spaces={"a": SpaceSpec(40, repo_id="me/a")})
    space.save_pretrained(tmp_path / "space")
    again = SharedSpace.from_pretrained(tmp_path / "space", device="cpu")
    alone = AutoTranslator.from_pretrained(tmp_path / "space", subfolder="b", device="cpu")
    assert (again.space_, again.alpha_, again.n_pairs_) == (space.space_, space.alpha_, 600)
    assert again.translator("a").source_.repo_id == "me/a"
    np.testing.assert_array_equal(
        alone.transform(latents["b"]), space.translator("b").transform(latents["b"])
    )


@pytest.mark.parametrize("alpha", ["auto", 1.0])
def test_a_loaded_space_is_saved_as_it_was(tmp_path, alpha):
    latents = views()
    space = SharedSpace(8, alpha=alpha).fit({"text": latents["b"], "image": latents["a"]})
    space.save_pretrained(tmp_path / "one")
    again = SharedSpace.from_pretrained(tmp_path / "one")
    assert (list(again.views_), again.information_) == (["text", "image"], space.information_)
    again.save_pretrained(tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("views", {}),
        ("views", {"a": {"dim": 40}}),
        ("information", {"alphas": [1.0], "bits": []}),
        ("information", {"alphas": [1.0], "bits": ["1"]}),
    ],
)
def test_a_config_of_a_space_that_does_not_add_up_is_refused(tmp_path, field, value):
    SharedSpace(8).fit(views()).save_pretrained(tmp_path)
    config = read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(ConfigError, match=field):
        SharedSpace.from_pretrained(tmp_path)


def test_a_saved_space_states_the_parameters_of_its_fit(tmp_path):
    space = SharedSpace(16, alpha=1.0).fit(views())
    space.dim, space.alpha, space.shrink, space.n_folds = 2, 5.0, 0.1, 9
    space.save_pretrained(tmp_path)
    again = SharedSpace.from_pretrained(tmp_path)
    assert again.params_ == {"dim": 16, "alpha": 1.0, "shrink": 0.9, "n_folds": 5}
    assert again.space_ == space.space_


def test_numbers_of_any_kind_make_a_space_that_loads(tmp_path):
    space = SharedSpace(8, alpha=np.float32(1), shrink=1).fit(views())
    space.save_pretrained(tmp_path)
    assert SharedSpace.from_pretrained(tmp_path).space_ == space.space_


def test_a_fit_that_is_refused_leaves_the_space_as_it_was():
    latents = views()
    space = SharedSpace(16, alpha=1.0).fit(latents)
    before = dict(vars(space))
    space.alpha = 3.0
    with pytest.raises(InvalidLatentsError, match="'a' is 40 wide"):
        space.fit(views(300), spaces={"a": SpaceSpec(41)})
    with pytest.raises(UnknownNameError, match=r"spaces names 'A', which is not a view: these are"):
        space.fit(views(300), spaces={"A": SpaceSpec(40)})
    with pytest.raises(InvalidLatentsError, match="spaces must be by view"):
        space.fit(views(300), spaces=[SpaceSpec(40)])
    assert vars(space) == before | {"alpha": 3.0}


def test_a_pushed_space_is_one_commit_with_a_card(api, repo_id, tmp_path):
    space = SharedSpace(16).fit(views())
    space.push_to_hub(repo_id, token="hf_alice")
    assert len(api.list_repo_commits(repo_id)) == 2
    again = SharedSpace.from_pretrained(repo_id)
    assert again.space_ == space.space_
    files = set(api.list_repo_files(repo_id))
    assert {"README.md", "config.json", "a/config.json", "b/model.safetensors"} <= files
    assert AutoTranslator.from_pretrained(repo_id, subfolder="a").target_ == space.space_
    space.save_pretrained(tmp_path)
    for place in (repo_id, tmp_path):
        advice = r"load it with SharedSpace\.from_pretrained, or name a subfolder, such as 'a'$"
        with pytest.raises(RepoNotFoundError, match=f"states space_type 'shared': {advice}"):
            AutoTranslator.from_pretrained(place)


def test_a_view_of_another_save_is_refused(tmp_path):
    for seed, name in enumerate(("one", "other")):
        SharedSpace(16).fit(views(seed=seed)).save_pretrained(tmp_path / name)
    (tmp_path / "one/a").rename(tmp_path / "old")
    (tmp_path / "other/a").rename(tmp_path / "one/a")
    with pytest.raises(WeightsError, match="another space's view"):
        SharedSpace.from_pretrained(tmp_path / "one")


def test_a_translator_is_not_taken_for_a_space(tmp_path):
    x, y = views().values()
    OrthoTranslator().fit(x, y).save_pretrained(tmp_path / "ortho")
    with pytest.raises(ConfigError, match="must state space_type 'shared'"):
        SharedSpace.from_pretrained(tmp_path / "ortho")


# Back out, and without touching the stored vectors -------------------------------------------


def by_hand(n=1_000_000):
    """Moments of x = z + e and y = z + e', all of variance 1, about the means 3 and -1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    mean = torch.tensor([3.0], dtype=torch.float64)
    return PairedMoments(n, mean, mean - 4, 2 * n * one, n * one, 2 * n * one, eps=2e-16)


def test_the_posterior_mean_is_that_of_a_model_worked_by_hand():
    space = SharedSpace(1, alpha=1e-12).fit_moments([{("a", "b"): by_hand()}])
    # E[y | x] = -1 + cov / var (x - 3) = -1 + (x - 3) / 2
    across = space.translator("a", to="b").transform(np.array([[3.0], [5.0], [-1.0]]))
    np.testing.assert_allclose(across, [[-1.0], [0.0], [-3.0]], atol=1e-9)
    # a unit vector stands for x one deviation, √2, from its mean
    one = space.translator("a").transform(np.array([[3 + 2**0.5]]))
    np.testing.assert_allclose(np.abs(one), 1)
    back = space.translator("b").inverse_transform(one)
    np.testing.assert_allclose(back, [[-1 + 2**0.5 / 2]], atol=1e-9)


def test_with_all_axes_the_way_to_another_view_is_ridge_regression():
    x, y = views().values()
    scale_x, scale_y = (np.sqrt(z.var(0).mean()) for z in (x, y))
    a, b = (x - x.mean(0)) / scale_x, (y - y.mean(0)) / scale_y
    weight = np.linalg.solve(a.T @ a / 600 + 0.7 * np.eye(40), a.T @ b / 600)
    space = SharedSpace(40, alpha=0.7).fit({"a": x, "b": y})
    found = space.translator("a", to="b").transform(x)
    np.testing.assert_allclose(found, a @ weight * scale_y + y.mean(0), atol=1e-8)


def test_the_way_to_another_of_three_views_predicts_nearly_as_well_as_ridge():
    latents = views(900, names="abc")
    train, test = (
        {name: x[part] for name, x in latents.items()} for part in (slice(600), slice(600, None))
    )
    space = SharedSpace(20, alpha=0.3).fit(train)
    two = SharedSpace(40, alpha=0.3).fit({k: train[k] for k in "ab"})
    best = two.translator("a", to="b").score(test["a"], test["b"])
    assert space.translator("a", to="b").score(test["a"], test["b"]) > best - 0.05 > 0.1


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_shared_vectors_of_any_view_go_back_into_any_other(names):
    latents = views(names=names)
    space = SharedSpace(20, alpha=0.3).fit(latents)
    for one, other in itertools.product(names, names):
        shared = space.translator(one).transform(latents[one])
        back = space.translator(other).inverse_transform(shared)
        residual = ((back - latents[other]) ** 2).sum()
        assert residual < 0.9 * ((latents[other] - latents[other].mean(0)) ** 2).sum()


def test_the_ways_back_and_across_are_saved(tmp_path):
    latents = views(names="abc")
    space = SharedSpace(16).fit(latents, spaces={"b": SpaceSpec(60, repo_id="me/b")})
    space.save_pretrained(tmp_path / "space")
    again = SharedSpace.from_pretrained(tmp_path / "space", device="cpu")
    shared = space.translator("a").transform(latents["a"])
    np.testing.assert_array_equal(
        again.translator("c").inverse_transform(shared),
        space.translator("c").inverse_transform(shared),
    )
    across = space.translator("a", to="b")
    across.save_pretrained(tmp_path / "across")
    loaded = AutoTranslator.from_pretrained(tmp_path / "across", device="cpu")
    assert (loaded.target_.repo_id, loaded.params_["to"]) == ("me/b", "b")
    for one in (again.translator("a", to="b"), loaded):
        np.testing.assert_allclose(
            one.transform(latents["a"]), across.transform(latents["a"]), atol=1e-8
        )


def test_folded_queries_and_items_score_by_pointwise_mutual_information():
    latents = views(80)
    space = SharedSpace(12, alpha=0.5, shrink=1.0).fit(latents)
    views_of = CanonicalProblem.from_moments(moments(latents)).solve(alpha=0.5, dim=12)
    a, b = ((latents[n] - v.mean.numpy()) @ v.axes.numpy() for n, v in views_of.items())
    wanted = np.zeros((80, 80))
    for axis, rho in enumerate(views_of["a"].correlations.tolist()):
        joint = scipy.stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
        pairs = np.stack(np.broadcast_arrays(a[:, None, axis], b[None, :, axis]), -1)
        alone = scipy.stats.norm.logpdf(pairs).sum(-1)
        wanted += joint.logpdf(pairs) - alone
    queries = space.fold_queries(latents["a"], "a", items="b")
    items = space.fold_items(latents["b"], "b", queries="a")
    np.testing.assert_array_equal(items[:, :-1], latents["b"])
    found = queries @ items.T
    np.testing.assert_allclose(
        found - found[:, :1], wanted - wanted[:, :1], atol=1e-6 * np.abs(wanted).max()
    )


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_untouched_vectors_are_found_about_as_well_as_translated_ones(names):
    train, test = (
        views(900, names=names, rows=part, noise=1.5) for part in (slice(500), slice(500, None))
    )
    space = SharedSpace(20).fit(train)
    cosine = recall(*(space.translator(name).transform(test[name]) for name in "ab"))
    scores = (
        space.fold_queries(test["a"], "a", items="b")
        @ space.fold_items(test["b"], "b", queries="a").T
    )
    assert (scores.argmax(1) == np.arange(400)).mean() > cosine - 0.05 > 0.4


def test_a_view_that_is_not_there_can_neither_ask_nor_be_asked():
    space = SharedSpace(8).fit(views())
    with pytest.raises(KeyError, match="no view 'z'"):
        space.translator("a", to="z")
    with pytest.raises(KeyError, match="no view 'z'"):
        space.fold_queries(views()["a"], "a", items="z")
    with pytest.raises(InvalidLatentsError, match="40 features"):
        space.fold_items(views()["b"], "a", queries="b")


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latents", "error", "message"),
    [
        ({"a": np.ones((9, 3))}, InvalidLatentsError, "needs 2 views or more"),
        (
            {"a": np.ones((9, 3)), "b": np.ones((8, 3))},
            InvalidLatentsError,
            "equal numbers of rows",
        ),
        (
            {"a": np.ones((3, 3)), "b": np.ones((3, 3))},
            InvalidLatentsError,
            "5 folds need at least",
        ),
        ({"a": np.ones((9, 3)), "b": np.eye(9)}, SolverError, "'a' are all equal"),
        ({"a": np.eye(9) + 1e9, "b": np.eye(9)}, SolverError, "'a' .* nearly so beside their mean"),
        (
            {"a": np.full((9, 3), np.nan), "b": np.eye(9)},
            InvalidLatentsError,
            r"'a': .* 9 of 9",
        ),
        ({"a": np.ones((9, 3)), "b": np.ones(9)}, InvalidLatentsError, "view 'b': latents must be"),
        ({"config.json": np.eye(9), "b": np.eye(9)}, ValueError, "beside config.json"),
        ({"b": np.eye(9), "B": np.eye(9)}, ValueError, "differs from others in more than case"),
        ({"a": np.eye(9), "b": 1e-20 * np.eye(9)}, InvalidLatentsError, "'a' .* 'b' .* so small"),
        ({"a": np.eye(9), "b": np.ones((9, 0))}, InvalidLatentsError, "'b'.* 0 feature"),
        ((np.eye(9), np.eye(9)), InvalidLatentsError, "latents by name"),
        ({"a/b": np.eye(9), "b": np.eye(9)}, ValueError, "a view's name is also its folder"),
        ({"..": np.eye(9), "b": np.eye(9)}, ValueError, "a view's name is also its folder"),
        ({"é" * 128: np.eye(9), "b": np.eye(9)}, ValueError, "at most 255 bytes, got 256: 'éé"),
    ],
)
def test_views_that_cannot_meet_are_refused(latents, error, message):
    with pytest.raises(error, match=message):
        SharedSpace().fit(latents)


def test_a_space_of_no_items_is_refused():
    none = {"a": np.ones((0, 3)), "b": np.ones((0, 4))}
    for space in (SharedSpace(), SharedSpace(2, alpha=1.0)):
        with pytest.raises(InvalidLatentsError, match=r"at least one item, got none$"):
            space.fit(none)
        with pytest.raises(InvalidLatentsError, match=r"at least one item, got none$"):
            space.fit_moments([])


def sets_of(*names, n=300):
    return [views(n, names=part) for part in names]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (sets_of("ab", "bc"), "every two views .* got none of 'a' and 'c'$"),
        ([*sets_of("ab", "bc"), *sets_of("ac", n=3)], "5 folds .* 'a' and 'c' .* got 3: add items"),
        (
            [*sets_of("ab"), {"a": np.eye(9), "b": np.eye(9)}],
            r"view 'a' .* one width, got \[9, 40\]",
        ),
    ],
)
def test_sets_of_items_that_do_not_fit_together_are_refused_by_view(sets, message):
    with pytest.raises(InvalidLatentsError, match=message):
        SharedSpace().fit(sets)


def test_a_set_of_fewer_items_than_folds_counts_as_any_other():
    latents = views(303, names="abc")
    first, more = slice(0, 300), slice(300, 303)
    sets = [
        {name: x[first] for name, x in latents.items()},
        {name: latents[name][more] for name in "ab"},
    ]
    space = SharedSpace(8).fit(sets)
    folds = SharedSpace(8).fold_moments(sets[0])
    for fold, row in zip(folds, range(300, 303), strict=False):
        one = moments({name: latents[name][row : row + 1] for name in "ab"})
        fold["a", "b"] += one["a", "b"]
    wanted = SharedSpace(8).fit_moments(folds)
    np.testing.assert_allclose(
        *(s.translator("a").transform(latents["a"]) for s in (space, wanted))
    )


def test_the_params_of_a_space_state_the_width_that_it_has():
    latents = views()
    latents["a"] = latents["a"][:, :5]
    space = SharedSpace(64, alpha=1.0).fit(latents)
    assert space.params_["dim"] == space.space_.dim == 5


@pytest.mark.parametrize(
    "params",
    [
        {"dim": 0},
        {"alpha": 0.0},
        {"alpha": float("nan")},
        {"shrink": 0},
        {"n_folds": 1},
        {"dim": True},
        {"alpha": "3"},
        {"shrink": "0.9"},
        {"n_folds": 2.0},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=f"{next(iter(params))} must be"):
        SharedSpace(**params).fit(views())


def test_whole_numbers_of_any_kind_are_taken():
    assert SharedSpace(np.int64(4), n_folds=np.int32(3)).fit(views()).space_.dim == 4


def test_moments_of_every_two_views_are_needed():
    some = moments(views(names="abc"))
    del some["a", "c"]
    with pytest.raises(InvalidLatentsError, match="every two"):
        SharedSpace(alpha=1.0).fit_moments([some])


@pytest.mark.parametrize("folds", [None, {}, moments(views()), [moments(views()), "b"], [{"a": 1}]])
def test_something_else_than_moments_of_folds_is_refused(folds):
    with pytest.raises(InvalidLatentsError, match="fit_moments takes a list of folds"):
        SharedSpace(alpha=1.0).fit_moments(folds)


def test_folds_without_an_item_count_as_empty():
    few = {name: x[:3] for name, x in views().items()}
    with pytest.raises(InvalidLatentsError, match=r"5 folds need at least as many .* got 3"):
        SharedSpace().fit_moments(SharedSpace().fold_moments(few))
    whole = SharedSpace(2, alpha=1.0)
    assert whole.fit_moments([*whole.fold_moments(few), None]).n_pairs_ == 3


def test_a_view_is_not_fitted_alone_and_a_space_not_used_before_its_fit():
    space = SharedSpace(16).fit(views())
    with pytest.raises(TypeError, match="fit its SharedSpace"):
        space.translator("a").fit(*views().values())
    with pytest.raises(NotFittedError, match="call fit"):
        SharedSpace().translator("a")
    with pytest.raises(KeyError, match="joins"):
        space.translator("z")


# Columns that vary far more than the others ----------------------------------------------------


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_columns_that_vary_far_more_than_the_others_do_not_hide_them(names):
    x = views(names=names, signal=20)
    rogue = {**x, "a": x["a"] * np.where(np.arange(40) == 7, 300.0, 1.0)}
    held_out = slice(500, None)
    found = {}
    for name, latents in (("usual", x), ("rogue", rogue)):
        space = SharedSpace(16).fit({view: z[:500] for view, z in latents.items()})
        similar = cosines(space, latents["a"][held_out], latents["b"][held_out])
        found[name] = (similar.argmax(1) == np.arange(100)).mean()
    assert found["rogue"] >= found["usual"] - 0.03


def test_a_column_counts_for_at_most_thirty_times_the_mean_variance():
    x = views(signal=20)
    others = np.arange(40) != 7
    largest = 30 * x["a"].var(0)[others].sum() / (40 - 30)
    taken_down = x["a"] * np.where(others, 1.0, np.sqrt(largest) / x["a"].std(0))
    expected = SharedSpace(16, alpha=1.0).fit({**x, "a": taken_down})
    for factor in (100.0, 1000.0):
        rogue = x["a"] * np.where(others, 1.0, factor)
        found = SharedSpace(16, alpha=1.0).fit({**x, "a": rogue})
        np.testing.assert_allclose(
            cosines(found, rogue, x["b"]), cosines(expected, taken_down, x["b"]), atol=1e-8
        )


def test_the_way_back_gives_a_column_that_was_taken_down_its_own_size():
    x = views(signal=20)
    scale = np.where(np.arange(60) == 3, 500.0, 1.0)
    rogue = {**x, "b": x["b"] * scale}
    usual, found = (
        SharedSpace(40, alpha=1.0).fit(latents).translator("a", to="b").transform(x["a"])
        for latents in (x, rogue)
    )
    np.testing.assert_allclose(found / scale, usual, atol=1e-6)


def test_columns_that_differ_less_are_left_as_they_are():
    x = views(signal=20)
    x["a"] *= np.where(np.arange(40) < 3, 4.0, 1.0)
    space = SharedSpace(16, alpha=1.0).fit(x)
    u = np.linalg.svd(whitened(x["a"], 1.0).T @ whitened(x["b"], 1.0) / len(x["a"]))[1]
    np.testing.assert_allclose(space.views_["a"].params_["correlations"], u[:16], atol=1e-6)
