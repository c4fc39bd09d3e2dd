"""One gate says what counts as latents, and it stands before whatever reads them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from hf_latent_bridge import (
    LatentIndex,
    LinearTranslator,
    SpaceSpec,
    evaluate_latents,
    fit_head,
    fit_translator,
    load_pairs,
)
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.latents import as_targets, as_tensor, like, unit_rows

ROWS = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
with warnings.catch_warnings():  # torch's own advice against them
    warnings.simplefilter("ignore", UserWarning)
    QUANTISED = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
    NESTED = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)])
    MASKED = torch.masked.masked_tensor(torch.ones(2, 3), torch.ones(2, 3) > 0)
    COMPRESSED = torch.ones(2, 3).to_sparse_csr()
NOT_LATENTS = {
    "integer tensor": (torch.ones(2, 3, dtype=torch.long), "floating point .*got torch.int64"),
    "bool tensor": (torch.ones(2, 3, dtype=torch.bool), "floating point .*got torch.bool"),
    "complex tensor": (torch.ones(2, 3, dtype=torch.complex64), "real numbers"),
    "float8 tensor": (torch.ones(2, 3).to(torch.float8_e4m3fn), "got torch.float8_e4m3fn: convert"),
    "sparse tensor": (torch.ones(2, 3).to_sparse(), r"to_dense\(\)"),
    "compressed sparse tensor": (COMPRESSED, r"to_dense\(\)"),
    "meta tensor": (torch.ones(2, 3, device="meta"), "no values"),
    "quantised tensor": (QUANTISED, r"dequantize\(\)"),
    "nested tensor": (NESTED, "one width"),
    "sparse matrix": (scipy.sparse.eye(3).tocsr(), r"sparse.*toarray\(\)"),
    "sparse array": (scipy.sparse.eye_array(3), r"sparse.*toarray\(\)"),
    "masked tensor": (MASKED, "masked.*drop the rows"),
    "masked array": (np.ma.masked_less(np.ones((2, 3)), 2), "masked.*drop the rows"),
    "complex array": (np.ones((2, 3), complex), "Complex"),
    "texts": (np.array([["a", "b"]]), "must be numbers"),
    "numbers as text": (np.array([["1", "2"]]), "must be numbers"),
    "numbers as text in a frame": (pd.DataFrame({"a": ["1", "2"]}), "must be numbers"),
    "bools": (np.ones((2, 3), bool), "must be numbers, got an array of bool"),
    "dates": (np.ones((2, 3), "datetime64[s]"), "must be numbers"),
    "structs": (np.ones(3, [("x", float)]), "must be numbers"),
    "ragged lists": ([[1.0], [1.0, 2.0]], "rows of one width"),
    "ragged column": (pd.Series([[1.0], [1.0, 2.0]]), r"rows of \[1, 2\] values"),
    "two columns of rows": (pd.DataFrame({"a": ROWS, "b": ROWS}), "one column of rows"),
    "a column with a gap": (pd.Series([[1.0], None]), "must be numbers"),
    "rows of texts": (pd.Series([["a"], ["b"]]), "must be numbers"),
    "a frame with a gap": (pd.DataFrame({"a": [1.0, pd.NA]}), "must be numbers, got <NA>"),
    "rows of a dataset": ([{"x": 1.0}, {"x": 2.0}], "got {'x': 1.0}: pass its column of latents"),
    "a generator": ((row for row in ROWS), r"numbers in rows, got <generator .*: pass list\(X\)"),
    "nothing": (None, "numbers in rows, got None"),
    "a number": (3.0, "numbers in rows, got 3.0"),
    "a text": ("abc", "numbers in rows, got 'abc'"),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_of_any_size_become_unit_rows_in_their_direction(dtype):
    finfo, direction = torch.finfo(dtype), np.array([0.25, 0.5, 1.0])
    sizes = [finfo.smallest_normal / 8, finfo.smallest_normal * 8, 1.0, finfo.max]
    expected = torch.tensor(direction / np.linalg.norm(direction), dtype=dtype).expand(4, 3)
    for size in sizes:
        row = torch.tensor(size * direction, dtype=dtype)
        torch.testing.assert_close(unit_rows(row), expected[0])
    rows = np.outer(sizes, direction)
    torch.testing.assert_close(unit_rows(torch.tensor(rows, dtype=dtype)), expected)
    zero = torch.zeros(2, 3, dtype=dtype)
    assert torch.equal(unit_rows(zero), zero)


def test_gradients_flow_through_unit_rows_of_any_size():
    x = torch.tensor([[3.0, 4.0], [3e30, 4e30]], requires_grad=True)
    unit_rows(x)[:, 0].sum().backward()
    torch.testing.assert_close(x.grad[0], torch.tensor([0.128, -0.096]))
    torch.testing.assert_close(x.grad[1] * 1e30, x.grad[0])


def test_tensors_pass_through_untouched():
    tensor = torch.ones(2, 3, dtype=torch.bfloat16)
    assert as_tensor(tensor) is tensor


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_share_their_memory(dtype):
    array = np.zeros((2, 3), dtype)
    array_as_tensor = as_tensor(array)
    array[0, 0] = 5
    assert array_as_tensor[0, 0] == 5


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.longdouble, ">f4"])
def test_other_numbers_become_float64(dtype):
    assert as_tensor(np.ones((2, 3), dtype)).dtype == torch.float64


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(tuple(row) for row in ROWS),
        [np.array(row) for row in ROWS],
        [torch.tensor(row) for row in ROWS],
        [torch.tensor(row).bfloat16() for row in ROWS],
        pd.DataFrame(ROWS),
        pd.Series(ROWS),
        pd.Series([np.array(row, np.float32) for row in ROWS]),
        pd.DataFrame({"embedding": ROWS}),
        pd.DataFrame({"embedding": ROWS})["embedding"].to_numpy(),
        np.array(ROWS, dtype=object),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_are_read_however_they_are_held(rows):
    np.testing.assert_array_equal(as_tensor(rows), ROWS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rows_that_are_tensors_keep_their_precision(dtype):
    assert as_tensor([torch.ones(3, dtype=dtype)] * 2).dtype == dtype


def test_a_field_of_a_structured_array_is_read():
    records = np.zeros(2, [("latent", np.float32, 3), ("label", np.int16)])
    records["latent"] = [[1, 2, 3], [4, 5, 6]]
    assert as_tensor(records["latent"]).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(("latents", "message"), NOT_LATENTS.values(), ids=NOT_LATENTS)
def test_what_is_not_latents_is_refused(latents, message):
    with pytest.raises(InvalidLatentsError, match=message):
        as_tensor(latents)
    with pytest.raises(InvalidLatentsError):
        as_targets(latents)


X = np.random.default_rng(0).normal(size=(20, 3))
Y = X @ np.random.default_rng(1).normal(size=(3, 4))
FITTED = LinearTranslator().fit(X, Y)
HEAD = fit_head(X, [0, 1] * 10)
READERS = {
    "fit, X": lambda bad: LinearTranslator().fit(bad, Y),
    "fit, y": lambda bad: LinearTranslator().fit(X, bad),
    "partial_fit": lambda bad: LinearTranslator().partial_fit(bad, Y),
    "transform": FITTED.transform,
    "inverse_transform": FITTED.inverse_transform,
    "score, X": lambda bad: FITTED.score(bad, Y),
    "score, y": lambda bad: FITTED.score(X, bad),
    "evaluate, X": lambda bad: evaluate_latents(FITTED, bad, Y),
    "evaluate, y": lambda bad: evaluate_latents(FITTED, X, bad),
    "head": HEAD,
    "fit_head": lambda bad: fit_head(bad, [0, 1]),
    "index": lambda bad: LatentIndex.from_latents(bad, ["a", "b"]),
    "search": lambda bad: LatentIndex.from_latents(X, list(range(20))).search(bad, 1),
    "labels": LabelDecoder(torch.ones(2, 3), ["a", "b"], SpaceSpec(3)),
}
THROUGH_THE_GATE = ["masked array", "bools", "meta tensor", "sparse tensor", "float8 tensor"]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", THROUGH_THE_GATE)
def test_whatever_reads_latents_asks_the_gate(read, name):
    latents, message = NOT_LATENTS[name]
    labels = "|labels" if name == "bools" else ""
    with pytest.raises(InvalidLatentsError, match=message + labels):
        read(latents)


def test_masks_of_single_rows_are_not_dropped():
    rows = list(np.ma.masked_array(X, X > 0))
    for latents in (rows, pd.Series(rows)):
        with pytest.raises(InvalidLatentsError, match="masked latents"):
            as_tensor(latents)


def test_a_memoryview_of_a_matrix_is_one():
    assert as_tensor(memoryview(np.eye(3))).shape == (3, 3)


IN_PAIRS = [
    name
    for name, (latents, _) in NOT_LATENTS.items()
    if isinstance(latents, torch.Tensor | np.ndarray) or scipy.sparse.issparse(latents)
]


@pytest.mark.parametrize("name", IN_PAIRS)
def test_pairs_in_memory_pass_the_gate_too(name):
    odd = NOT_LATENTS[name][0]
    n = 2 if isinstance(odd, torch.Tensor) else odd.shape[0]
    with pytest.raises((InvalidLatentsError, InvalidPairsError), match="latents"):
        fit_translator(LinearTranslator(), None, None, load_pairs((odd, X[:n])))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones((20, 1)), r"needs target latents of shape \(20, 3\).*got \(20, 1\)"),
        (np.ones((1, 3)), r"got \(1, 3\)"),
        (np.full((20, 3), np.nan), "NaN or infinity"),
    ],
)
def test_a_score_against_latents_of_another_shape_is_refused(y, message):
    with pytest.raises(InvalidLatentsError, match=message):
        LinearTranslator().fit(X, X).score(X, y)


@pytest.mark.parametrize(
    "labels",
    [[0, 1], np.array([0.0, 1.0]), torch.tensor([0, 1]), pd.Series([0, 1]), np.eye(2, dtype=int)],
)
def test_labels_are_refused_as_target_latents(labels):
    with pytest.raises(InvalidLatentsError, match="labels"):
        as_targets(labels)


def test_results_are_a_tensor_for_a_tensor_and_an_array_for_an_array():
    result = torch.ones(2)
    assert like(result, torch.zeros(1)) is result
    assert isinstance(like(result, np.zeros(1)), np.ndarray)
