"""Paired moments: exact sums, whatever the batches, and files that are whole or refused."""

import contextlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from hf_latent_bridge import (
    AffineTranslator,
    LinearTranslator,
    OrthoTranslator,
    PairedMoments,
    load_moments,
    save_moments,
)
from hf_latent_bridge.errors import InvalidLatentsError, UnrelatedPairsWarning, WeightsError

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(3.0, 2.0, (500, 5)))
Y = torch.from_numpy(RNG.normal(-1.0, 1.0, (500, 4))) + X[:, :4]


def assert_close(a: PairedMoments, b: PairedMoments, rtol: float = 1e-12) -> None:
    assert a.n == b.n
    for name, tensor in a.to_tensors().items():
        torch.testing.assert_close(tensor, b.to_tensors()[name], rtol=rtol, atol=1e-10)


def test_moments_are_those_that_numpy_computes():
    moments = PairedMoments.from_batch(X, Y, full_syy=True)
    joint = np.cov(np.hstack([X, Y]).T, bias=True) * len(X)
    assert moments.n == 500
    np.testing.assert_allclose(moments.mean_x, X.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.mean_y, Y.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.sxx, joint[:5, :5], rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(moments.sxy, joint[:5, 5:], rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(moments.syy, joint[5:, 5:], rtol=1e-11, atol=1e-9)


def test_the_diagonal_form_holds_the_diagonal_of_the_full_form():
    full = PairedMoments.from_batch(X, Y, full_syy=True)
    diagonal = PairedMoments.from_batch(X, Y)
    torch.testing.assert_close(diagonal.syy, full.syy.diagonal())
    torch.testing.assert_close(full.syy_diagonal, diagonal.syy_diagonal)


@pytest.mark.parametrize("full_syy", [False, True])
@pytest.mark.parametrize("size", [1, 7, 250, 499])
def test_batches_of_any_size_add_up_to_the_whole(size, full_syy):
    whole = PairedMoments.from_batch(X, Y, full_syy=full_syy)
    parts = [
        PairedMoments.from_batch(x, y, full_syy=full_syy)
        for x, y in zip(X.split(size), Y.split(size), strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert_close(total, whole)


def test_the_order_of_pairs_does_not_matter():
    order = torch.from_numpy(RNG.permutation(len(X)))
    assert_close(PairedMoments.from_batch(X[order], Y[order]), PairedMoments.from_batch(X, Y))


def test_a_batch_of_any_size_is_summed_whole():
    x = torch.from_numpy(RNG.normal(3.0, 2.0, (9_001, 2)))  # more than the sums take at a time
    moments = PairedMoments.from_batch(x, x.square())
    joint = np.cov(np.hstack([x, x.square()]).T, bias=True) * len(x)
    np.testing.assert_allclose(moments.sxx, joint[:2, :2], rtol=1e-11, atol=1e-7)
    np.testing.assert_allclose(moments.sxy, joint[:2, 2:], rtol=1e-11, atol=1e-7)
    np.testing.assert_allclose(moments.syy, joint[2:, 2:].diagonal(), rtol=1e-11)


@pytest.mark.parametrize("full_syy", [False, True])
def test_the_total_less_a_fold_is_the_rest(full_syy):
    total = PairedMoments.from_batch(X, Y, full_syy=full_syy)
    fold = PairedMoments.from_batch(X[:120], Y[:120], full_syy=full_syy)
    rest = PairedMoments.from_batch(X[120:], Y[120:], full_syy=full_syy)
    assert_close(total - fold, rest)


def test_swapped_moments_are_those_of_the_swapped_pairs():
    swapped = PairedMoments.from_batch(X, Y, full_syy=True).swap()
    assert_close(swapped, PairedMoments.from_batch(Y, X, full_syy=True))


def test_swapping_without_all_of_syy_is_refused():
    with pytest.raises(InvalidLatentsError, match="full_syy=True"):
        PairedMoments.from_batch(X, Y).swap()


def test_float32_latents_far_from_zero_keep_their_variance():
    x = torch.from_numpy(RNG.normal(size=(20_000, 3))).float() + 1000.0
    moments = PairedMoments.from_batch(x, x)
    expected = torch.cov(x.double().T, correction=0) * len(x)
    torch.testing.assert_close(moments.sxx, expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_latents_are_multiplied_in_float32(dtype):
    x, y = X.to(dtype), Y.to(dtype)
    moments = PairedMoments.from_batch(x, y)
    assert moments.sxx.dtype == torch.float64
    assert moments.eps == torch.finfo(torch.float32).eps
    assert_close(moments, PairedMoments.from_batch(x.double(), y.double()), rtol=1e-4)


def test_the_global_matmul_precision_neither_matters_nor_changes():
    before = PairedMoments.from_batch(X.float(), Y.float())
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = PairedMoments.from_batch(X.float(), Y.float())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(inside.sxx, before.sxx)


def test_latents_that_require_gradients_leave_no_graph():
    moments = PairedMoments.from_batch(X.clone().requires_grad_(), Y)
    assert not moments.sxx.requires_grad


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, 0], Y, "must be a matrix"),
        (X[:0], Y[:0], "minimum of 1"),
        (X, Y[:-1], "500 and 499"),
        (X.long(), Y, "floating point"),
    ],
)
def test_latents_that_do_not_pair_are_refused(x, y, message):
    with pytest.raises(InvalidLatentsError, match=message):
        PairedMoments.from_batch(x, y)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_value_is_refused_with_side_and_row(bad):
    y = Y.clone()
    y[17, 2] = bad
    with pytest.raises(InvalidLatentsError, match=r"1 of 500 target latents.* row 17"):
        PairedMoments.from_batch(X, y)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("size", [1e-13, 1e-38, 1e-160])
def test_values_whose_products_are_lost_are_refused(side, size):
    x, y = torch.randn(2, 30, 4, dtype=torch.float64)
    small, normal = size * x / x.abs().max(), y
    pairs = (small, normal) if side == "source" else (normal, small)
    with pytest.raises(InvalidLatentsError, match=f"the {side} latents are at most {size:.0e}"):
        PairedMoments.from_batch(*pairs)
    small[0] = 1e-12  # one value that is large enough
    PairedMoments.from_batch(*pairs)
    PairedMoments.from_batch(*(0 * rows for rows in pairs))


def test_values_whose_products_overflow_are_refused():
    with pytest.raises(InvalidLatentsError, match="divide them"):
        PairedMoments.from_batch(X.float() * 1e30, Y.float())


def test_taking_all_pairs_away_is_refused():
    moments = PairedMoments.from_batch(X, Y)
    with pytest.raises(InvalidLatentsError, match="500 pairs out of 500"):
        moments - moments


def test_taking_pairs_away_that_are_not_among_them_is_refused():
    moments, others = PairedMoments.from_batch(X, Y), PairedMoments.from_batch(3 * X[:99], Y[:99])
    with pytest.raises(InvalidLatentsError, match="99 pairs out of 500: they are not among them"):
        moments - others


def test_moments_of_other_widths_or_forms_do_not_add():
    moments = PairedMoments.from_batch(X, Y)
    for other in (PairedMoments.from_batch(Y, X), PairedMoments.from_batch(X, Y, full_syy=True)):
        with pytest.raises(InvalidLatentsError, match="equal widths"):
            moments + other


def test_sums_keep_the_coarser_precision():
    fine, coarse = PairedMoments.from_batch(X, Y), PairedMoments.from_batch(X.float(), Y.float())
    assert (fine + coarse).eps == (coarse + fine).eps == coarse.eps > fine.eps


@pytest.mark.parametrize("full_syy", [False, True])
def test_saved_moments_come_back_bit_for_bit(tmp_path, full_syy):
    moments = PairedMoments.from_batch(X, Y, full_syy=full_syy)
    save_moments(moments, tmp_path / "moments.safetensors")
    loaded = load_moments(tmp_path / "moments.safetensors")
    assert (loaded.n, loaded.eps) == (moments.n, moments.eps)
    for name, tensor in moments.to_tensors().items():
        assert torch.equal(tensor, loaded.to_tensors()[name])


def test_a_truncated_file_of_moments_is_refused(tmp_path):
    path = tmp_path / "moments.safetensors"
    save_moments(PairedMoments.from_batch(X, Y), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_moments(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sxy": torch.ones(5, 5, dtype=torch.float64)}, "sxy must be"),
        ({"sxx": torch.ones(5, 5)}, "sxx must be float64"),
        ({"extra": torch.ones(1)}, "exactly the tensors"),
        ({"n": torch.tensor(0)}, "moments need"),
        ({"n": torch.tensor([1, 2])}, "does not hold moments"),
        ({"eps": torch.ones(0)}, "does not hold moments"),
        ({"mean_x": torch.full((5,), float("nan"), dtype=torch.float64)}, "moments need"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, change, message):
    path = tmp_path / "moments.safetensors"
    save_moments(PairedMoments.from_batch(X, Y), path)
    save_file(load_file(path) | change, path)
    with pytest.raises(WeightsError, match=message):
        load_moments(path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_moments_on_a_gpu_are_those_on_the_cpu():
    moments = PairedMoments.from_batch(X.cuda(), Y.cuda())
    assert moments.sxx.is_cuda
    assert_close(moments.to("cpu"), PairedMoments.from_batch(X, Y))


class Precision(TorchDispatchMode):
    """Notes under which settings products are taken."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.default:
            self.seen.add((torch.get_float32_matmul_precision(), args[0].dtype))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_products_are_taken_in_full_precision_whatever_the_caller_set(precision):
    x, y = torch.randn(50, 3), torch.randn(50, 2)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with Precision() as noted, torch.autocast("cpu", torch.bfloat16):
            PairedMoments.from_batch(x, y, full_syy=True)
    finally:
        torch.set_float32_matmul_precision(before)
    assert noted.seen == {("highest", torch.float32)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_takes_products_in_full_precision_whatever_the_caller_set():
    x, y = (torch.randn(2000, d).cuda() for d in (64, 32))
    exact = PairedMoments.from_batch(x.double(), y.double())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        moments = PairedMoments.from_batch(x, y)
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(moments.sxx, exact.sxx, rtol=1e-5, atol=1e-2)


class TestWhatIsNotLatents:
    def test_arrays_are_taken(self):
        x, y = np.arange(8.0).reshape(4, 2), np.arange(12.0).reshape(4, 3)
        expected = PairedMoments.from_batch(torch.tensor(x), torch.tensor(y))
        for pair in ((x, y), (torch.tensor(x), y)):
            found = PairedMoments.from_batch(*pair)
            assert torch.equal(found.sxy.cpu(), expected.sxy.cpu())

    @pytest.mark.parametrize("wrong", [np.array([["a"]]), torch.eye(3).to_sparse(), np.array(1)])
    def test_anything_else_is_refused_in_our_words(self, wrong):
        for pair in ((wrong, torch.eye(3)), (torch.eye(3), wrong)):
            with pytest.raises(InvalidLatentsError):
                PairedMoments.from_batch(*pair)

    def test_only_moments_are_added_and_taken_out(self):
        moments = PairedMoments.from_batch(torch.eye(3), torch.eye(3))
        with pytest.raises(TypeError, match="unsupported operand"):
            moments + 1
        with pytest.raises(TypeError, match="unsupported operand"):
            moments - torch.eye(3)


class TestTheNormOfThePairs:
    X = np.random.default_rng(0).standard_normal((20, 3))
    Y = X[:, ::-1].copy()

    def test_it_must_be_that_of_the_translator(self, tmp_path):
        moments = OrthoTranslator(unit_norm="both").pair_moments(self.X, self.Y)
        assert moments.unit_norm == "both"
        save_moments(moments, tmp_path / "moments")
        for given in (moments, load_moments(tmp_path / "moments"), moments + moments):
            with pytest.raises(InvalidLatentsError, match="unit_norm='both', and this Ortho"):
                OrthoTranslator().fit_moments(given)
            OrthoTranslator(unit_norm="both").fit_moments(given)

    def test_sides_swap(self):
        moments = OrthoTranslator(unit_norm="source").pair_moments(self.X, self.Y, full_syy=True)
        assert moments.swap().unit_norm == "target"

    def test_moments_of_other_norms_do_not_add(self):
        a, b = (OrthoTranslator(unit_norm=n).pair_moments(self.X, self.Y) for n in ("none", "both"))
        with pytest.raises(InvalidLatentsError, match="combine only with one unit_norm"):
            a + b

    def test_moments_summed_by_hand_are_taken_as_they_are(self):
        moments = PairedMoments.from_batch(self.X, self.Y)
        assert moments.unit_norm is None
        OrthoTranslator(unit_norm="both").fit_moments(moments)


@pytest.mark.parametrize("given", [None, "moments", {"fold 0": 1}, [1]])
def test_something_else_than_moments_is_refused(given):
    with pytest.raises(InvalidLatentsError, match="a fit takes PairedMoments"):
        LinearTranslator().fit_moments(given)


def test_folds_without_a_single_pair_are_refused():
    with pytest.raises(InvalidLatentsError, match=r"at least one pair, got \[None, None\]"):
        LinearTranslator().fit_moments([None, None])


class TestHugeLatents:
    """Finite values near the top of float32."""

    X = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    HUGE = X / np.abs(X).max() * np.float32(1e38)

    def test_a_fit_refuses_them(self):
        for pair in ((self.HUGE, self.X), (self.X, self.HUGE)):
            with pytest.raises(InvalidLatentsError, match="divide"):
                OrthoTranslator().fit(*pair)

    def test_a_translation_is_never_infinite_or_zero_in_silence(self):
        translator = AffineTranslator().fit(self.X, self.X * 100)
        with pytest.raises(InvalidLatentsError, match="divide the latents by a constant"):
            translator.transform(self.HUGE)
        assert np.isfinite(translator.transform(self.HUGE.astype(np.float64) / 1e30)).all()

    def test_their_directions_are_fitted_and_translated_as_those_of_small_ones(self):
        y = self.X[:, ::-1].copy()
        plain = AffineTranslator(unit_norm="both").fit(self.X, y)
        huge = AffineTranslator(unit_norm="both").fit(self.HUGE, y)
        np.testing.assert_allclose(huge.transform(self.HUGE), plain.transform(self.X), atol=1e-5)


class TestOnlyTheDiagonalOfSxx:
    """A rotation needs no more, and its `fit` sums no more where the pairs clearly match."""

    X = np.random.default_rng(0).standard_normal((3000, 6)) + 1.0
    Y = np.tanh(X @ np.random.default_rng(1).standard_normal((6, 4)))

    def test_the_rest_is_as_without(self):
        whole = PairedMoments.from_batch(self.X, self.Y)
        found = PairedMoments.from_batch(self.X, self.Y, full_sxx=False)
        torch.testing.assert_close(found.sxx, whole.sxx.diagonal())
        for name in ("mean_x", "mean_y", "sxy", "syy"):
            torch.testing.assert_close(getattr(found, name), getattr(whole, name))

    @pytest.mark.parametrize("scaling", ["standard", "center", "none"])
    @pytest.mark.parametrize("scale", [False, True])
    def test_a_rotation_is_the_same(self, scaling, scale):
        fitted = OrthoTranslator(scaling=scaling, scale=scale).fit(self.X, self.Y)
        whole = OrthoTranslator(scaling=scaling, scale=scale)
        whole.fit_moments(whole.pair_moments(self.X, self.Y))
        assert not fitted.moments_.has_full_sxx
        assert whole.moments_.has_full_sxx
        np.testing.assert_allclose(fitted.transform(self.X), whole.transform(self.X), rtol=1e-9)

    def test_pairs_can_be_added(self):
        fitted = OrthoTranslator().fit(self.X[:2000], self.Y[:2000])
        fitted.partial_fit(self.X[2000:], self.Y[2000:])
        whole = OrthoTranslator().fit(self.X, self.Y)
        np.testing.assert_allclose(fitted.transform(self.X), whole.transform(self.X), rtol=1e-9)

    @pytest.mark.parametrize("types", [("f4", "f4"), ("f4", "f8"), ("f8", "f8")])
    @pytest.mark.parametrize("unit_norm", ["none", "both"])
    def test_pairs_that_may_be_shuffled_have_the_rest_of_it_summed_to_tell(self, types, unit_norm):
        x, y = self.X.astype(types[0]), self.Y[::-1].astype(types[1])
        with pytest.warns(UnrelatedPairsWarning):
            fitted = OrthoTranslator(unit_norm=unit_norm).fit(x, y)
        whole = OrthoTranslator(unit_norm=unit_norm).pair_moments(x, y)
        near = {"rtol": 20 * whole.eps, "atol": 20 * whole.eps * whole.n}
        torch.testing.assert_close(fitted.moments_.to_tensors(), whole.to_tensors(), **near)

    def test_other_methods_say_what_they_need(self):
        moments = OrthoTranslator().fit(self.X, self.Y).moments_
        with pytest.raises(InvalidLatentsError, match=r"all of Sxx.*pair_moments\(X, y\)"):
            LinearTranslator().fit_moments(moments)
        with pytest.raises(InvalidLatentsError, match="same form of Sxx"):
            moments + PairedMoments.from_batch(self.X, self.Y)

    def test_they_are_saved_as_they_are(self, tmp_path):
        moments = OrthoTranslator().fit(self.X, self.Y).moments_
        save_moments(moments, tmp_path / "moments")
        assert torch.equal(load_moments(tmp_path / "moments").sxx, moments.sxx)


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(9_000, 5, 3), (5_000, 600, 2), (4_096, 2, 1)])
@pytest.mark.parametrize("full_syy", [False, True])
def test_blocks_and_panels_of_all_sizes_give_the_same_sums(n, d_x, d_y, full_syy):
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((n, d_x)) + 3, draw.standard_normal((n, d_y))
    moments = PairedMoments.from_batch(x, y, full_syy=full_syy)
    a, b = x - x.mean(0), y - y.mean(0)
    syy = b.T @ b if full_syy else (b * b).sum(0)
    for name, expected in {"sxx": a.T @ a, "sxy": a.T @ b, "syy": syy}.items():
        found = getattr(moments, name).cpu().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)
    assert torch.equal(moments.sxx, moments.sxx.mT)


@pytest.mark.parametrize("n", [100, 20_000])
def test_the_number_of_threads_is_afterwards_what_it_was(n):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for y in (torch.randn(n, 200), torch.full((n, 200), torch.nan)):
            with contextlib.suppress(InvalidLatentsError):
                PairedMoments.from_batch(torch.randn(n, 200), y)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
