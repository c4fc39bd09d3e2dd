"""The closed forms against scipy, scikit-learn, NumPy and the paper's algorithm written out."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
    PairedMoments,
    SpectralTranslator,
)
from hf_latent_bridge.errors import RankWarning, SolverError
from hf_latent_bridge.solvers import (
    SCALINGS,
    Decomposed,
    Problem,
    RidgePath,
    rotation,
    solve_l_ortho,
    solve_least_squares,
    solve_ortho,
    svd,
)

RNG = np.random.default_rng(0)
WIDTHS = [(5, 5), (4, 7), (7, 4)]


def pairs(d_x: int, d_y: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    x = RNG.normal(size=(n, d_x)) @ RNG.normal(size=(d_x, d_x)) + RNG.normal(size=d_x) * 3
    y = x @ RNG.normal(size=(d_x, d_y)) + RNG.normal(size=(n, d_y)) + 5
    return x, y


def paper(x: np.ndarray, y: np.ndarray, test: np.ndarray, method: str) -> np.ndarray:
    """Maiorca et al. (2023), section 3: scale by the anchors, pad, solve, map, scale back."""
    width = max(x.shape[1], y.shape[1])
    scale_x, scale_y = StandardScaler().fit(x), StandardScaler().fit(y)

    def pad(latents: np.ndarray) -> np.ndarray:
        return np.pad(latents, ((0, 0), (0, width - latents.shape[1])))

    a, b, c = pad(scale_x.transform(x)), pad(scale_y.transform(y)), pad(scale_x.transform(test))
    if method == "ortho":
        u, _, vt = np.linalg.svd(a.T @ b)
        r = u @ vt
    else:
        r = np.linalg.lstsq(a, b, rcond=None)[0]
    if method == "l_ortho":
        u, _, vt = np.linalg.svd(r)
        r = u @ vt
    return scale_y.inverse_transform((c @ r)[:, : y.shape[1]])


@pytest.mark.parametrize(("d_x", "d_y"), WIDTHS)
@pytest.mark.parametrize(
    ("method", "translator"),
    [
        ("linear", LinearTranslator()),
        ("linear", AffineTranslator()),
        ("l_ortho", LOrthoTranslator()),
        ("ortho", OrthoTranslator()),
    ],
)
def test_translations_are_those_of_the_paper_with_zero_padding(d_x, d_y, method, translator):
    x, y = pairs(d_x, d_y)
    test, _ = pairs(d_x, d_y, n=20)
    expected = paper(x, y, test, method)
    np.testing.assert_allclose(translator.fit(x, y).transform(test), expected, rtol=1e-9, atol=1e-9)


def test_plain_ortho_is_scipys_orthogonal_procrustes():
    x, y = pairs(6, 6)
    rotation, _ = scipy.linalg.orthogonal_procrustes(x, y)
    fitted = OrthoTranslator(scaling="none").fit(x, y).map_
    np.testing.assert_allclose(fitted.weight, rotation, atol=1e-12)
    assert not fitted.bias.any()


def test_the_scale_of_ortho_is_the_least_squares_scalar():
    x, y = pairs(6, 6)
    rotation, total = scipy.linalg.orthogonal_procrustes(x, y)
    fitted = OrthoTranslator(scaling="none", scale=True).fit(x, y).map_
    np.testing.assert_allclose(fitted.weight, rotation * total / np.square(x).sum(), atol=1e-12)


@pytest.mark.parametrize(("d_x", "d_y"), WIDTHS)
def test_the_scales_of_columns_are_each_columns_own_least_squares(d_x, d_y):
    x, y = pairs(d_x, d_y)
    turned = OrthoTranslator(scaling="center").fit(x, y).transform(x) - y.mean(0)
    slopes = [
        LinearRegression(fit_intercept=False).fit(a[:, None], b).coef_[0]
        for a, b in zip(turned.T, (y - y.mean(0)).T, strict=True)
    ]
    scaled = OrthoTranslator(scaling="center", scale="columns").fit(x, y)
    np.testing.assert_allclose(scaled.transform(x), turned * slopes + y.mean(0))
    whole = OrthoTranslator(scaling="center", scale=True).fit(x, y)
    assert scaled.score(x, y) >= whole.score(x, y)


@pytest.mark.parametrize(("d_x", "d_y"), WIDTHS)
@pytest.mark.parametrize("scaling", ["standard", "center"])
@pytest.mark.parametrize("kind", [LinearTranslator, AffineTranslator])
def test_linear_and_affine_are_scikit_learns_linear_regression(d_x, d_y, scaling, kind):
    x, y = pairs(d_x, d_y)
    reference = LinearRegression().fit(x, y)
    fitted = kind(scaling=scaling).fit(x, y).map_
    np.testing.assert_allclose(fitted.weight, reference.coef_.T, atol=1e-9)
    np.testing.assert_allclose(fitted.bias, reference.intercept_, atol=1e-8)


def test_linear_without_scaling_goes_through_the_origin():
    x, y = pairs(5, 3)
    fitted = LinearTranslator(scaling="none").fit(x, y).map_
    np.testing.assert_allclose(fitted.weight, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-9)
    assert not fitted.bias.any()


def test_affine_without_scaling_still_has_an_intercept():
    x, y = pairs(5, 3)
    reference = LinearRegression().fit(x, y)
    fitted = AffineTranslator(scaling="none").fit(x, y).map_
    np.testing.assert_allclose(fitted.bias, reference.intercept_, atol=1e-8)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10.0])
def test_affine_with_alpha_is_scikit_learns_ridge(alpha):
    x, y = pairs(5, 3)
    scale_x, scale_y = StandardScaler().fit(x), StandardScaler().fit(y)
    ridge = Ridge(alpha=len(x) * alpha).fit(scale_x.transform(x), scale_y.transform(y))
    expected = scale_y.inverse_transform(ridge.predict(scale_x.transform(x)))
    np.testing.assert_allclose(
        AffineTranslator(alpha=alpha).fit(x, y).transform(x), expected, atol=1e-10
    )


def test_l_ortho_has_singular_values_of_one_in_scaled_coordinates():
    x, y = pairs(5, 7)
    weight = LOrthoTranslator(scaling="center").fit(x, y).map_.weight
    np.testing.assert_allclose(torch.linalg.svdvals(weight), np.ones(5), atol=1e-12)


@pytest.mark.parametrize("scaling", ["standard", "center", "none"])
def test_linear_with_fewer_pairs_than_dimensions_is_the_minimum_norm_solution(scaling):
    x, y = pairs(9, 4, n=5)
    with pytest.warns(RankWarning, match="5 pairs determine .* of 9 directions"):
        fitted = LinearTranslator(scaling=scaling).fit(x, y)
    shift, scale = (x.mean(0), x.std(0)) if scaling == "standard" else (x.mean(0), np.ones(9))
    if scaling == "none":
        shift = np.zeros(9)
    z = (x - shift) / scale
    target = y - (0 if scaling == "none" else y.mean(0))
    expected = np.linalg.pinv(z, rcond=1e-10) @ target / scale[:, None]
    np.testing.assert_allclose(fitted.map_.weight, expected, atol=1e-9)


@pytest.mark.parametrize(("roundings", "rank"), [(4, 63), (16, 64)])
def test_noise_is_what_lies_below_the_root_of_d_roundings(roundings, rank):
    d, eps = 64, 2.0**-23
    moments = PairedMoments.from_batch(torch.eye(d).double(), torch.eye(d).double())
    c = torch.eye(d, dtype=torch.float64)
    c[-1, -1] = roundings * eps
    problem = replace(Problem.from_moments(moments, "none"), c=c, k=c.clone(), eps=eps)
    assert solve_least_squares(problem).rank == rank
    assert solve_ortho(problem).rank == rank


def test_float32_pairs_hide_no_rank_deficiency_behind_rounding():
    x, y = pairs(40, 10, n=15)
    exact = np.linalg.pinv(x - x.mean(0), rcond=1e-10) @ (y - y.mean(0))
    with pytest.warns(RankWarning, match="15 pairs determine 14 of 40 directions"):
        fitted = LinearTranslator(scaling="center").fit(x.astype("f4"), y.astype("f4"))
    np.testing.assert_allclose(fitted.map_.weight, exact, atol=1e-3)


def test_ortho_maps_directions_that_no_pair_shows_to_zero():
    x, y = pairs(9, 9, n=5)
    with pytest.warns(RankWarning, match="5 pairs determine 4 of 9 directions"):
        weight = OrthoTranslator(scaling="center").fit(x, y).map_.weight
    np.testing.assert_allclose(torch.linalg.svdvals(weight), [1] * 4 + [0] * 5, atol=1e-10)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
@pytest.mark.parametrize("scaling", ["standard", "pareto", "center", "none"])
@pytest.mark.parametrize(
    "kind", [LinearTranslator, AffineTranslator, LOrthoTranslator, OrthoTranslator]
)
def test_constant_duplicate_and_zero_columns_give_finite_maps(kind, scaling):
    x, y = pairs(6, 6)
    x[:, 1], x[:, 2], x[:, 3] = 0.1, 0.0, x[:, 4]
    y[:, 0], y[:, 5] = -7.3, 0.0
    fitted = kind(scaling=scaling).fit(x, y)
    translated = fitted.transform(x)
    assert fitted.map_.weight.isfinite().all()
    np.testing.assert_allclose(translated[:, 5], 0.0, atol=1e-9)
    if scaling != "none":
        np.testing.assert_allclose(translated[:, 0], -7.3, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_dead_column_full_of_rounding_noise_is_not_scaled_up(dtype):
    x, y = pairs(6, 4)
    live = LinearTranslator().fit(x[:, 1:], y).map_.weight
    x[:, 0] = 1e-33 * RNG.normal(size=len(x))
    with pytest.warns(RankWarning, match="5 of 6"):
        fitted = LinearTranslator().fit(x.astype(dtype), y.astype(dtype)).map_
    assert abs(fitted.weight[0]).max() < 1e-6
    np.testing.assert_allclose(fitted.weight[1:], live, atol=5e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 60])
def test_equal_source_latents_determine_nothing_and_translate_to_the_mean(dtype, n):
    x, y = (latents.astype(dtype) for latents in pairs(3, 4, n=n))
    x[:] = x[0]
    with pytest.warns(RankWarning, match=f"{n} pairs determine 0 of 3"):
        fitted = OrthoTranslator().fit(x, y)
    np.testing.assert_allclose(fitted.transform(x[:1]), [y.mean(0)], rtol=1e-5)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
@pytest.mark.parametrize("alpha", [0.0, 1.0, "inf"])
def test_the_spectral_family_maps_identical_source_latents_to_the_mean(alpha):
    x, y = np.ones((5, 3)), RNG.normal(size=(5, 4))
    translated = SpectralTranslator(alpha=alpha).fit(x, y).transform(x)
    np.testing.assert_allclose(translated, np.tile(y.mean(0), (5, 1)))


def test_scaling_identical_source_latents_is_refused():
    with pytest.raises(SolverError, match="vary"):
        OrthoTranslator(scale=True).fit(np.ones((5, 3)), RNG.normal(size=(5, 3)))


@pytest.mark.parametrize("kind", [LinearTranslator, AffineTranslator])
def test_an_exactly_affine_relation_is_recovered(kind):
    x = RNG.normal(size=(50, 5))
    weight, bias = RNG.normal(size=(5, 8)), RNG.normal(size=8)
    fitted = kind().fit(x, x @ weight + bias).map_
    np.testing.assert_allclose(fitted.weight, weight, atol=1e-10)
    np.testing.assert_allclose(fitted.bias, bias, atol=1e-10)


@pytest.mark.parametrize("kind", [OrthoTranslator, LOrthoTranslator])
def test_a_rotation_and_shift_are_recovered(kind):
    x = RNG.normal(size=(50, 5))
    rotation = scipy.stats.ortho_group.rvs(5, random_state=0)
    fitted = kind(scaling="center").fit(x, x @ rotation + 2).map_
    np.testing.assert_allclose(fitted.weight, rotation, atol=1e-10)
    np.testing.assert_allclose(fitted.bias, np.full(5, 2.0), atol=1e-10)


@pytest.mark.parametrize("kind", [LinearTranslator, OrthoTranslator, LOrthoTranslator])
def test_rotating_the_source_before_the_fit_changes_no_translation(kind):
    x, y = pairs(5, 7)
    rotation = scipy.stats.ortho_group.rvs(5, random_state=0)
    plain = kind(scaling="center").fit(x, y).transform(x)
    rotated = kind(scaling="center").fit(x @ rotation, y).transform(x @ rotation)
    np.testing.assert_allclose(rotated, plain, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_few_pairs_of_wide_latents_give_the_maps_that_numpy_gives(dtype):
    x, y = (side.astype(dtype) for side in pairs(300, 200, n=40))
    a, b = (side[:30].astype(np.float64) - side[:30].mean(0, dtype=np.float64) for side in (x, y))
    c, k = a.T @ a / 30, a.T @ b / 30
    ridge = np.linalg.solve(c + 0.1 * np.trace(c) / 300 * np.eye(300), k)
    u, s, vt = (part[..., :29] if part.ndim < 2 else part for part in np.linalg.svd(ridge))
    flattened = (u[:, :29] * s**0.25) @ vt[:29]
    u, _, vt = np.linalg.svd(k)
    expected = {
        LinearTranslator(scaling="center"): np.linalg.pinv(a, rcond=1e-10) @ b,
        OrthoTranslator(scaling="center"): u[:, :29] @ vt[:29],
        SpectralTranslator(alpha=0.1, gamma=1, scale=False, scaling="center"): ridge,
        SpectralTranslator(alpha=0.1, scaling="center"): flattened
        * ((flattened * k).sum() / (flattened * (c @ flattened)).sum()),
    }
    test = x[30:] - x[:30].mean(0, dtype=np.float64)
    for translator, weight in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RankWarning)
            found = translator.fit(x[:30], y[:30]).transform(x[30:])
        target = test @ weight + y[:30].mean(0, dtype=np.float64)
        atol = np.abs(target).max() * (1e-12 if dtype is np.float64 else 1e-4)
        np.testing.assert_allclose(found, target, rtol=0, atol=atol, err_msg=repr(translator))


def test_noise_of_products_grows_with_the_root_of_the_width():
    eps, d = torch.finfo(torch.float32).eps, 100
    values = torch.tensor([1.0] * 50 + [5 * eps] * 50, dtype=torch.float64)
    x = torch.eye(d).double()
    ones, none = torch.ones(d).double(), torch.zeros(d, dtype=torch.bool)
    problem = Problem(torch.diag(values), x, 0 * ones, 0 * ones, ones, ones, none, none, d, eps)
    for solve in (solve_least_squares, solve_l_ortho):
        solution = solve(problem)
        assert (solution.rank, solution.full_rank) == (50, d)
        assert (solution.weight[50:] == 0).all()


@pytest.mark.parametrize("kind", [OrthoTranslator, LinearTranslator, SpectralTranslator])
def test_pareto_scaling_is_the_fit_on_latents_divided_by_the_roots_of_their_deviations(kind):
    x, y = pairs(d_x=6, d_y=5)
    root_x, root_y = np.sqrt(x.std(0)), np.sqrt(y.std(0))
    by_hand = kind(scaling="center").fit(x / root_x, y / root_y).transform(x / root_x) * root_y
    np.testing.assert_allclose(kind(scaling="pareto").fit(x, y).transform(x), by_hand, rtol=1e-9)


def test_standard_scaling_makes_the_units_of_a_column_irrelevant():
    x, y = pairs(5, 5)
    units = np.array([1.0, 100.0, 0.01, 3.0, 1.0])
    plain = OrthoTranslator().fit(x, y).transform(x)
    np.testing.assert_allclose(OrthoTranslator().fit(x * units, y).transform(x * units), plain)


def with_values(d_x, d_y, values):
    """A matrix with given singular values, and its singular vectors."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(d_x, d_y, dtype=torch.float64, generator=generator)
    u, _, vh = torch.linalg.svd(a, full_matrices=False)
    return u * values @ vh, u, vh


@pytest.mark.parametrize(("d_x", "d_y"), [(260, 300), (300, 260), (256, 256)])
@pytest.mark.parametrize("eps", [1.2e-7, 2.2e-16])
@pytest.mark.parametrize("rank", [256, 250])
def test_a_wide_rotation_without_an_svd_is_that_of_the_svd(monkeypatch, d_x, d_y, eps, rank):
    values = torch.logspace(2, -1, min(d_x, d_y), dtype=torch.float64)
    values[rank:] *= eps / 100
    k, u, vh = with_values(d_x, d_y, values)
    monkeypatch.delattr(torch.linalg, "svd")
    found, kept = rotation(k, eps, by_products=True)
    assert kept == (rank if rank == 250 else int((values > values[0] * eps * 16).sum()))
    torch.testing.assert_close(found, u[:, :kept] @ vh[:kept], atol=1e-11, rtol=0)


@pytest.mark.parametrize(("d_x", "d_y"), [(30, 40), (40, 30), (30, 30)])
@pytest.mark.parametrize("rank", [30, 20])
def test_a_rotation_of_float32_products_is_that_of_the_svd_far_above_their_rounding(d_x, d_y, rank):
    values = torch.logspace(3, -1, 30, dtype=torch.float64)
    values[rank:] = 0
    k, u, vh = with_values(d_x, d_y, values)
    found, kept = rotation(k, 1.2e-7)
    assert kept == rank
    torch.testing.assert_close(found, u[:, :rank] @ vh[:rank], atol=1e-8, rtol=0)
    exact, kept = rotation(k, 2.2e-16)
    assert kept == rank
    torch.testing.assert_close(exact, u[:, :rank] @ vh[:rank], atol=1e-11, rtol=0)
    found, kept = rotation(k, 1.2e-7, most=5)
    assert kept == 5
    torch.testing.assert_close(found, u[:, :5] @ vh[:5], atol=1e-8, rtol=0)


def test_values_near_rounding_are_told_apart_by_a_decomposition():
    limit = 1.2e-7 * 300**0.5
    values = torch.logspace(0, -3, 260, dtype=torch.float64)
    values[-4:] = torch.tensor([4, 2, 0.9, 0.1]) * limit
    k, u, vh = with_values(260, 300, values)
    found, kept = rotation(k, 1.2e-7, by_products=True)
    assert kept == 258
    torch.testing.assert_close(found, u[:, :258] @ vh[:258], atol=1e-6, rtol=0)
    assert not rotation(torch.zeros(260, 300, dtype=torch.float64), 1.2e-7, by_products=True)[
        0
    ].any()


def test_an_svd_that_does_not_converge_is_tried_again_by_qr_iteration(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise torch.linalg.LinAlgError("did not converge")

    matrix = torch.randn(6, 4).double()
    monkeypatch.setattr(torch.linalg, "svd", fail)
    u, s, vh = svd(matrix)
    torch.testing.assert_close(u @ torch.diag(s) @ vh, matrix)


def test_an_svd_that_never_converges_is_refused_with_advice(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise scipy.linalg.LinAlgError("did not converge")

    matrix = torch.full((3, 3), float("nan")).double()
    monkeypatch.setattr(scipy.linalg, "svd", fail)
    with pytest.raises(SolverError, match=r"\(3, 3\) matrix does not converge.*alpha"):
        svd(matrix)


def test_moments_summed_in_parts_give_the_same_map():
    x, y = (torch.from_numpy(side) for side in pairs(5, 7))
    whole = PairedMoments.from_batch(x, y)
    parts = PairedMoments.from_batch(x[:77], y[:77]) + PairedMoments.from_batch(x[77:], y[77:])
    weights = [solve_ortho(Problem.from_moments(m, "standard")).weight for m in (whole, parts)]
    torch.testing.assert_close(*weights, rtol=1e-10, atol=1e-12)


def test_a_scale_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(ValueError, match=r"True, False or 'columns', got 'yes'"):
        OrthoTranslator(scale="yes").fit(*pairs(3, 3))


# The family between ridge and rotation


def scaled_moments(scaling: str, d_x: int = 4, d_y: int = 7, n: int = 300) -> Problem:
    x, y = (torch.from_numpy(side) for side in pairs(d_x, d_y, n))
    return Problem.from_moments(PairedMoments.from_batch(x, y), scaling)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("d_x", "d_y"), WIDTHS)
def test_the_corners_of_the_spectral_family_are_the_other_methods(d_x, d_y, scaling):
    x, y = pairs(d_x, d_y)
    corners = {
        (0, 1): LinearTranslator(scaling=scaling),
        (0, 0): LOrthoTranslator(scaling=scaling),
        ("inf", 0): OrthoTranslator(scaling=scaling),
    }
    for (alpha, gamma), corner in corners.items():
        spectral = SpectralTranslator(alpha=alpha, gamma=gamma, scale=False, scaling=scaling)
        expected, found = corner.fit(x, y).map_, spectral.fit(x, y).map_
        torch.testing.assert_close(found.weight, expected.weight, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.bias, expected.bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10.0])
def test_the_spectral_family_with_exponent_one_is_ridge(alpha):
    x, y = pairs(5, 3)
    spectral = SpectralTranslator(alpha=alpha, gamma=1, scale=False).fit(x, y).map_
    ridge = AffineTranslator(alpha=alpha).fit(x, y).map_
    torch.testing.assert_close(spectral.weight, ridge.weight, rtol=1e-9, atol=1e-11)


def test_a_large_penalty_tends_to_an_infinite_one():
    x, y = pairs(5, 3)
    for gamma in (0, 0.5, 1):
        large, infinite = (
            SpectralTranslator(alpha=alpha, gamma=gamma).fit(x, y).map_.weight
            for alpha in (1e9, float("inf"))
        )
        torch.testing.assert_close(large, infinite, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_between_the_corners_it_is_the_definition_written_out_in_numpy(scaling):
    problem = scaled_moments(scaling)
    c, k = problem.c.numpy(), problem.k.numpy()
    alpha = 0.3 * np.trace(c) / len(c)
    u, s, vt = np.linalg.svd(np.linalg.solve(c + alpha * np.eye(len(c)), k), full_matrices=False)
    expected = u @ np.diag(s**0.4) @ vt
    path = RidgePath.of(problem)
    spectrum = path.spectrum(0.3 * path.spread)
    np.testing.assert_allclose(spectrum.weight(0.4), expected, atol=1e-10)
    expected *= (expected * k).sum() / (expected * (c @ expected)).sum()
    np.testing.assert_allclose(spectrum.weight(0.4, scale=True), expected, atol=1e-10)


def test_the_scale_of_the_spectral_family_is_the_least_squares_scalar():
    x, y = pairs(6, 6)
    fitted = SpectralTranslator(alpha=2, gamma=0.5, scaling="none", scale=False).fit(x, y)
    free, *_ = np.linalg.lstsq(fitted.transform(x).reshape(-1, 1), y.reshape(-1), rcond=None)
    scaled = SpectralTranslator(alpha=2, gamma=0.5, scaling="none").fit(x, y)
    np.testing.assert_allclose(scaled.map_.weight, free * fitted.map_.weight.numpy(), atol=1e-12)


def test_the_penalty_of_the_spectral_family_does_not_depend_on_the_units():
    x, y = pairs(5, 3)
    for scaling in SCALINGS:
        translator = SpectralTranslator(scaling=scaling)
        expected = translator.fit(x, y).transform(x)
        np.testing.assert_allclose(translator.fit(100 * x, y).transform(100 * x), expected)


def test_one_decomposition_serves_all_penalties():
    problem = scaled_moments("standard")
    path = RidgePath.of(problem)
    for alpha in (0.0, 0.1, 10.0):
        expected = solve_least_squares(problem, alpha=alpha)
        torch.testing.assert_close(path.ridge(alpha).weight, expected.weight)


def test_a_rotation_that_few_pairs_leave_open_is_told_under_any_penalty():
    x, y = pairs(20, 20, n=10)
    for alpha in (0, 1, "inf"):
        with pytest.warns(RankWarning, match="10 pairs determine 9 of 20 directions"):
            SpectralTranslator(alpha=alpha, gamma=0).fit(x, y).map_  # noqa: B018


@pytest.mark.parametrize(
    "params", [{"alpha": -1}, {"alpha": "1"}, {"alpha": float("nan")}, {"gamma": 2}, {"scale": 1}]
)
def test_a_spectral_parameter_out_of_range_is_refused(params):
    with pytest.raises(ValueError, match=f"{next(iter(params))} must be"):
        SpectralTranslator(**params).fit(*pairs(3, 3))


def test_an_exponent_can_follow_from_a_chosen_penalty_alone():
    with pytest.raises(ValueError, match="gamma='auto' needs alpha='auto', got alpha=1"):
        SpectralTranslator(alpha=1, gamma="auto").fit(*pairs(3, 3))


@pytest.mark.parametrize("alpha", [0.01, 0.5, 20.0])
def test_degrees_of_freedom_are_the_trace_of_the_hat_matrix(alpha):
    x, y = pairs(6, 3, n=50)
    x[:, 2] = 1.0
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    hat = z @ np.linalg.solve(z.T @ z + len(z) * alpha * np.eye(6), z.T)
    moments = PairedMoments.from_batch(torch.from_numpy(x), torch.from_numpy(y))
    path = Decomposed(moments).path("standard")
    assert path.freedom(alpha) == pytest.approx(np.trace(hat) / 5)


def test_an_infinite_penalty_is_saved_as_a_text(tmp_path):
    x, y = pairs(4, 4)
    fitted = SpectralTranslator(alpha=float("inf")).fit(x, y)
    fitted.save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path, device="cpu")
    assert loaded.alpha == "inf"
    np.testing.assert_array_equal(loaded.transform(x), fitted.transform(x))


# Reduced rank


def reduced_rank_in_numpy(x, y, rank, alpha=0.0):
    """Izenman (1975) on scaled pairs: fitted values are projected on their principal axes."""
    n, width = x.shape
    tall_x = np.vstack([x, np.sqrt(n * alpha) * np.eye(width)])
    tall_y = np.vstack([y, np.zeros((width, y.shape[1]))])
    full = np.linalg.lstsq(tall_x, tall_y, rcond=None)[0]
    axes = np.linalg.svd(tall_x @ full, full_matrices=False)[2][:rank]
    return full @ axes.T @ axes


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize(("d_x", "d_y"), [(12, 12), (9, 14), (14, 9)])
def test_a_map_of_low_rank_is_reduced_rank_regression(d_x, d_y, alpha):
    x, y = pairs(d_x, d_y)
    scale_x, scale_y = StandardScaler().fit(x), StandardScaler().fit(y)
    weight = reduced_rank_in_numpy(scale_x.transform(x), scale_y.transform(y), 3, alpha)
    expected = scale_y.inverse_transform(scale_x.transform(x) @ weight)
    fitted = AffineTranslator(alpha=alpha, rank=3).fit(x, y)
    np.testing.assert_allclose(fitted.transform(x), expected, rtol=1e-8, atol=1e-8)


def test_no_map_of_the_same_rank_fits_better():
    x, y = pairs(8, 8)
    fitted = AffineTranslator(rank=2, scaling="center").fit(x, y)
    error = np.square(fitted.transform(x) - y).sum()
    whole = AffineTranslator(scaling="center").fit(x, y).map_.weight.numpy()
    u, s, vt = np.linalg.svd(whole)
    truncated = x @ (u[:, :2] * s[:2]) @ vt[:2]
    assert error < np.square(truncated - truncated.mean(0) - y + y.mean(0)).sum()


def test_a_rank_that_is_no_limit_changes_nothing():
    x, y = pairs(5, 7)
    whole = AffineTranslator(alpha=0.1).fit(x, y).map_
    for rank in (5, 100):
        assert torch.equal(
            AffineTranslator(alpha=0.1, rank=rank).fit(x, y).map_.weight, whole.weight
        )


@pytest.mark.parametrize("rank", [0, -1, 2.5, "3"])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match="rank must be an integer of at least 1 or None"):
        AffineTranslator(rank=rank).fit(*pairs(3, 3))


def test_rank_and_gradient_do_not_go_together():
    with pytest.raises(ValueError, match="rank is for the closed form"):
        AffineTranslator(rank=2, solver="gradient").fit(*pairs(3, 3))
