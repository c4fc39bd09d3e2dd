"""What translators learn: an affine map between two optional norms, and chains of such maps."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hf_latent_bridge import LatentMap
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.translators.latent_map import UNIT_NORMS, MapChain

DRAW = torch.Generator().manual_seed(0)


def random_map(d_source, d_target, unit_norm="none"):
    weight = torch.randn(d_source, d_target, generator=DRAW, dtype=torch.float64)
    bias = torch.randn(d_target, generator=DRAW, dtype=torch.float64)
    return LatentMap(weight, bias, unit_norm=unit_norm)


def latents(*shape):
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64) * 3


@pytest.mark.parametrize("unit_norm", UNIT_NORMS)
def test_it_is_an_affine_map_between_two_norms(unit_norm):
    affine, x = random_map(3, 5, unit_norm), latents(10, 3)
    before = normalize(x, dim=1) if unit_norm in ("source", "both") else x
    expected = before @ affine.weight + affine.bias
    expected = normalize(expected, dim=1) if unit_norm in ("target", "both") else expected
    torch.testing.assert_close(affine(x), expected)
    assert affine.unit_norm == unit_norm


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,), (2, 0, 3)])
def test_any_leading_shape_is_translated_row_by_row(shape):
    for module in (random_map(3, 5, "both"), random_map(3, 4, "target").then(random_map(4, 5))):
        x = latents(*shape, 3)
        rows = [module(row) for row in x.reshape(-1, 3)]
        expected = torch.stack(rows).reshape(*shape, 5) if rows else x.new_empty(*shape, 5)
        torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_results_have_the_dtype_of_the_input_and_are_rounded_once(dtype):
    chain = random_map(3, 4, "target").then(random_map(4, 5))
    x = latents(10, 3).to(dtype)
    assert torch.equal(chain(x), chain(x.double()).to(dtype))


def test_it_has_buffers_and_nothing_to_train():
    affine = random_map(3, 5)
    assert list(affine.parameters()) == []
    assert sorted(affine.state_dict()) == ["bias", "weight"]
    assert (affine.source_dim, affine.target_dim) == (3, 5)
    assert repr(affine) == "LatentMap(source_dim=3, target_dim=5, unit_norm='none')"
    trained = torch.ones(2, 2, requires_grad=True)
    assert not LatentMap(trained * 2, torch.zeros(2)).weight.requires_grad


@pytest.mark.parametrize("first", UNIT_NORMS)
@pytest.mark.parametrize("second", UNIT_NORMS)
def test_two_maps_become_one_unless_a_norm_lies_between(first, second):
    a, b, x = random_map(3, 5, first), random_map(5, 4, second), latents(10, 3)
    both = a.then(b)
    torch.testing.assert_close(both(x), b(a(x)))
    between = first in ("target", "both") or second in ("source", "both")
    assert len(both.steps) == (2 if between else 1)
    assert isinstance(both, MapChain if between else LatentMap)
    assert (both.source_dim, both.target_dim) == (3, 4)


@pytest.mark.parametrize("norms", list(itertools.product(["none", "target"], repeat=3)))
def test_maps_compose_in_any_grouping(norms):
    a, b, c = (random_map(4, 4, norm) for norm in norms)
    x, left, right = latents(10, 4), a.then(b).then(c), a.then(b.then(c))
    torch.testing.assert_close(left(x), c(b(a(x))))
    torch.testing.assert_close(right(x), c(b(a(x))))
    assert len(left.steps) == len(right.steps) == 1 + norms[:2].count("target")


def test_maps_of_widths_that_do_not_meet_are_refused():
    for first in (random_map(3, 5), random_map(3, 4, "both").then(random_map(4, 5))):
        for second in (random_map(3, 5), random_map(3, 5, "source")):
            with pytest.raises(InvalidLatentsError, match=r"width 5.*expects 3"):
                first.then(second)


@pytest.mark.parametrize(("d_x", "d_y"), [(5, 5), (4, 7), (7, 4)])
def test_the_inverse_is_exact_when_square_and_the_pseudo_inverse_otherwise(d_x, d_y):
    affine = random_map(d_x, d_y)
    inverse = affine.inverse()
    torch.testing.assert_close(inverse.weight, torch.linalg.pinv(affine.weight))
    if d_x <= d_y:
        x = latents(10, d_x)
        torch.testing.assert_close(inverse(affine(x)), x)
    else:
        y = latents(10, d_y)
        torch.testing.assert_close(affine(inverse(y)), y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_inverse_of_a_wide_map_in_half_precision_is_that_of_its_weight(dtype):
    turn = torch.linalg.qr(torch.randn(256, 256, generator=DRAW)).Q
    weight = (turn * torch.linspace(0.1, 1, 256)) @ turn.mT
    half = LatentMap(weight, torch.zeros(256)).moved(dtype=dtype)
    back = half.inverse().weight.double()
    torch.testing.assert_close(
        half.weight.double() @ back, torch.eye(256).double(), atol=0.1, rtol=0
    )
    flat = LatentMap(weight - 0.1 * turn[:, :1] @ turn[:, :1].mT, torch.zeros(256))
    largest = torch.linalg.matrix_norm(flat.moved(dtype=dtype).inverse().weight.double(), 2)
    assert largest < 11  # the direction that it loses does not come back as noise


def test_the_inverse_swaps_the_norms():
    assert [random_map(3, 3, n).inverse().unit_norm for n in ("source", "target", "both")] == [
        "target",
        "source",
        "both",
    ]


def test_the_inverse_of_a_chain_leads_back_where_norms_took_nothing_away():
    x = normalize(latents(10, 4), dim=1)
    rotation = torch.linalg.qr(latents(4, 4)).Q
    turn = LatentMap(rotation, torch.zeros(4).double(), unit_norm="both")
    chain = turn.then(turn).then(turn)
    assert len(chain.steps) == 3
    torch.testing.assert_close(chain.inverse()(chain(x)), x)


@pytest.mark.parametrize(
    "module", [random_map(3, 5), random_map(3, 4, "both").then(random_map(4, 5))]
)
def test_a_moved_copy_leaves_the_map_where_it_is(module):
    x, expected = latents(10, 3), copy.deepcopy(module.state_dict())
    moved = module.moved(dtype=torch.float32)
    assert (moved.dtype, module.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(moved(x), module(x), rtol=1e-4, atol=1e-4)
    assert type(moved) is type(module)
    assert all(torch.equal(t, expected[name]) for name, t in module.state_dict().items())
    assert module.moved("meta").state_dict().popitem()[1].device.type == "meta"


def test_weights_that_would_all_be_lost_are_not_moved():
    small = LatentMap(1e-50 * random_map(3, 4).weight, torch.full((4,), 1e-50).double())
    with pytest.raises(InvalidLatentsError, match=r"at most .*e-50, too small for torch.float32"):
        small.moved(dtype=torch.float32)
    assert small.moved(dtype=torch.float64).weight.any()
    near_zero_bias = LatentMap(random_map(3, 4).weight, small.bias)
    assert not near_zero_bias.moved(dtype=torch.float32).bias.any()


def test_it_is_a_module_among_others():
    chain = random_map(3, 4, "both").then(random_map(4, 5))
    model = torch.nn.Sequential(torch.nn.Linear(2, 3).double(), chain).float()
    assert model(torch.ones(6, 2)).dtype == torch.float32
    assert {name for name, _ in model.named_buffers()} == {
        f"1.{number}.{name}" for number in (0, 1) for name in ("weight", "bias")
    }


def test_it_exports_as_a_graph():
    chain = random_map(3, 4, "both").then(random_map(4, 5)).moved(dtype=torch.float32)
    x = torch.randn(7, 3)
    exported = torch.export.export(chain, (x,)).module()
    np.testing.assert_allclose(exported(x), chain(x))


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (torch.ones(3), torch.ones(3)),
        (torch.ones(3, 2), torch.ones(3)),
        (torch.ones(3, 2), 0 * torch.ones(2, 1)),
    ],
)
def test_tensors_that_make_no_map_are_refused(weight, bias):
    with pytest.raises(InvalidLatentsError, match=r"weight .* and a bias"):
        LatentMap(weight, bias)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"unit_norm must be one of .*got 'l2'"):
        random_map(2, 2, "l2")


# Two thin steps


@pytest.mark.parametrize("unit_norm", UNIT_NORMS)
def test_a_map_of_low_rank_is_two_thin_steps_that_do_the_same(unit_norm):
    weight = random_map(12, 3).weight @ random_map(3, 10).weight
    whole = LatentMap(weight, random_map(1, 10).bias, unit_norm=unit_norm)
    thin, x = whole.factored(3), latents(20, 12)
    assert [tuple(step.weight.shape) for step in thin.steps] == [(12, 3), (3, 10)]
    torch.testing.assert_close(thin(x), whole(x))
    torch.testing.assert_close(thin.inverse()(thin(x)), whole.inverse()(whole(x)))


def test_a_map_stays_one_where_two_steps_would_be_larger():
    whole = random_map(6, 6)
    assert whole.factored(3) is whole
    assert len(whole.factored(2).steps) == 2


def test_the_factors_leave_dead_columns_at_exactly_zero():
    weight = random_map(12, 2).weight @ random_map(2, 12).weight
    weight[4], weight[:, 7] = 0, 0
    first, last = LatentMap(weight, torch.zeros(12).double()).factored(2).steps
    assert not first.weight[4].any()
    assert not last.weight[:, 7].any()


def test_maps_by_way_of_a_bottleneck_stay_two():
    a, b, c, x = random_map(9, 2), random_map(2, 9), random_map(9, 3), latents(10, 9)
    assert len(a.then(b).steps) == 2
    whole = a.then(b).then(c)
    assert [(s.source_dim, s.target_dim) for s in whole.steps] == [(9, 2), (2, 3)]
    torch.testing.assert_close(whole(x), c(b(a(x))))
