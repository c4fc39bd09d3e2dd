"""Every format of vectors is fitted, evaluated and translated alike."""

import os
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import toy_format
import vector_files
from vector_files import MORE, REFUSED, SHARED, Case, X, expected

from hf_latent_bridge import LinearTranslator, evaluate, fit_translator, load_pairs, translate_file
from hf_latent_bridge.cli import build_parser
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.vectors.formats import FORMATS, format_of, open_vectors, register
from hf_latent_bridge.vectors.reader import VectorSource

CASES = [*SHARED, *MORE, *REFUSED]
READ = [case for case in CASES if case.refused is None]
NOT_READ = [case for case in CASES if case.refused is not None]
DRAWS = {"n_bootstrap": 10, "n_permutations": 10}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return vector_files.in_folder(tmp_path_factory.mktemp("vectors"), CASES)


def counterparts(x):
    """Rows of another space, 4 wide, that a linear map finds but for some noise."""
    rng = np.random.default_rng(1)
    y = x @ rng.normal(size=(x.shape[1], 4)) + rng.normal(size=(len(x), 4)) / 100
    return y.astype(np.float32)


def fitted(source, y, **options):
    return fit_translator(LinearTranslator(), None, None, load_pairs((source, y)), **options)


def weights(translator):
    return translator.map_.weight.cpu().numpy()


def source_of(folder, case):
    return VectorSource(str(folder / case.name), **case.args)


# What is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", READ, ids=str)
def test_a_file_gives_the_fit_evaluation_and_translation_of_its_rows(case, folder, tmp_path):
    x = expected(case).astype(np.float32)
    y = counterparts(x)
    source = source_of(folder, case)
    translator = fitted(source, y)
    plain = fitted(x, y)
    np.testing.assert_allclose(weights(translator), weights(plain), rtol=1e-4, atol=1e-6)
    report = evaluate(plain, None, None, load_pairs((source, y)), **DRAWS)
    assert report.to_dict() == evaluate(plain, None, None, load_pairs((x, y)), **DRAWS).to_dict()
    translate_file(plain, folder / case.name, tmp_path / "y.npy", dtype="float32", **case.args)
    near = 4e-3 if open_vectors(source).dtype == np.float16 else 1e-4
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), plain.transform(x), atol=near)


@pytest.mark.parametrize("case", READ, ids=str)
def test_a_file_that_is_written_while_a_fit_reads_it_is_noticed(case, folder, tmp_path):
    """Though its size, inode and time are as before."""
    path = tmp_path / case.name
    copy = shutil.copytree if (folder / case.name).is_dir() else shutil.copy
    copy(folder / case.name, path)

    def encode(items):
        file = max(path.rglob("*")) if path.is_dir() else path
        before = file.stat()
        file.write_bytes(file.read_bytes())
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        return np.stack(items)

    y = list(counterparts(expected(case).astype(np.float32)))
    pairs = load_pairs((VectorSource(str(path), **case.args), y))
    with pytest.raises(InvalidLatentsError, match="was changed while it was read"):
        fit_translator(LinearTranslator(), None, encode, pairs, chunk_size=16)


@pytest.mark.parametrize("case", READ, ids=str)
def test_rows_are_the_same_in_blocks_of_any_size_and_by_number(case, folder):
    x, reader = expected(case), open_vectors(source_of(folder, case))
    assert (reader.n, reader.dim) == x.shape
    for size in (1, 7, 60, 100):
        blocks = list(reader.blocks(3, 59, size, payload=True))
        assert {len(block.vectors) for block in blocks[:-1]} <= {size}
        assert [block.first for block in blocks] == list(range(3, 59, size))
        np.testing.assert_array_equal(np.concatenate([b.vectors for b in blocks]), x[3:59])
        assert {block.vectors.dtype for block in blocks} == {reader.dtype}
    for rows in ([59, 0, 0, 17], [1, 2, 3], [58], list(range(0, 60, 7))):
        np.testing.assert_array_equal(np.array(list(reader.read(np.array(rows)))), x[rows])


def test_every_format_has_a_file_in_this_table():
    assert {format_of(case.name).name for case in READ if format_of(case.name)} == set(FORMATS)


FLOATS = ("float16", "float32", "float64")
TYPED = {
    "npy": np.save,
    "npz": np.savez,
    "safetensors": lambda path, x: safetensors.torch.save_file({"x": torch.tensor(x)}, path),
    "parquet": lambda path, x: vector_files.table(x=list(x))(path),
    "hdf5": lambda path, x: vector_files.hdf5(x=x)(path),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", TYPED)
def test_a_dtype_is_kept_from_the_file_to_the_translation(kind, dtype, tmp_path):
    path, y = tmp_path / f"x.{kind}", counterparts(X)
    TYPED[kind](path, X.astype(dtype))
    assert open_vectors(path).dtype == dtype
    plain = fitted(X, y)
    np.testing.assert_allclose(weights(fitted(path, y)), weights(plain), rtol=1e-4)
    translate_file(plain, path, tmp_path / "y.npy")
    translated = np.load(tmp_path / "y.npy")
    assert translated.dtype == dtype
    np.testing.assert_allclose(translated, plain.transform(X), rtol=2e-3, atol=2e-3)


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NOT_READ, ids=str)
def test_what_cannot_be_read_is_refused_alike_and_nothing_is_written(case, folder, tmp_path):
    source, y = source_of(folder, case), counterparts(X)
    plain = fitted(X, y)
    for use in (
        lambda: fitted(source, y),
        lambda: evaluate(plain, None, None, load_pairs((source, y)), **DRAWS),
    ):
        with pytest.raises((InvalidLatentsError, InvalidPairsError)) as refusal:
            use()
        if case.bad_row is None:
            assert type(refusal.value) is InvalidLatentsError
            assert re.search(case.refused, str(refusal.value))
        else:
            assert f"row {case.bad_row} of the source column" in str(refusal.value)
    with pytest.raises(InvalidLatentsError, match=case.refused) as refusal:
        translate_file(plain, folder / case.name, tmp_path / "y.npy", **case.args)
    assert str(folder / case.name) in str(refusal.value)
    assert not list(tmp_path.iterdir())


SKIPPED = [case for case in NOT_READ if case in SHARED and case.bad_row is not None]


@pytest.mark.parametrize("case", SKIPPED, ids=str)
def test_a_bad_row_of_a_file_can_be_skipped(case, folder):
    y, good = counterparts(X), np.delete(np.arange(len(X)), case.bad_row)
    translator = fitted(source_of(folder, case), y, on_bad_row="skip")
    assert translator.n_pairs_ == len(good)
    np.testing.assert_allclose(weights(translator), weights(fitted(X[good], y[good])), rtol=1e-4)


CUT = [c for c in READ if format_of(c.name) and format_of(c.name).name not in ("text", "json")]


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("case", CUT, ids=str)
def test_a_file_that_was_cut_short_never_passes_for_a_whole_one(case, keep, folder, tmp_path):
    content = (folder / case.name).read_bytes()
    path = tmp_path / case.name
    path.write_bytes(content[: int(len(content) * keep)])
    source = VectorSource(str(path), **case.args)
    rows, told = 0, None
    try:
        rows = sum(len(block.vectors) for block in open_vectors(source).blocks())
    except InvalidLatentsError as error:
        told = str(error)
    if told is None:  # these may end after any row
        assert format_of(path).name in ("jsonl", "csv", "tsv", "vecs")
        assert rows < len(X)
    else:
        assert str(path) in told


# The command line -----------------------------------------------------------------------------


NAMED = ["int8.npy", "two_tensors.safetensors", "wide.parquet", "batch_api.jsonl", "strings.csv"]


@pytest.mark.parametrize("name", NAMED)
def test_flags_say_how_a_file_is_read(name, facts, folder, tmp_path):
    (case,) = [case for case in SHARED if case.name == name]
    y = counterparts(X)
    np.save(tmp_path / "y.npy", y)
    files = ["--source-vectors", folder / name, "--target-vectors", tmp_path / "y.npy"]
    files += [part for key, value in case.args.items() for part in (f"--source-{key}", value)]
    told = facts("fit", *files, "--type", "linear", "--output", tmp_path / "out")
    assert (told["n_pairs"], told["source"]) == (len(X), {"dim": X.shape[1]})
    assert facts("evaluate", tmp_path / "out", *files)["n_pairs"] == len(X)
    flags = [part for key, value in case.args.items() for part in (f"--{key}", value)]
    facts("translate", tmp_path / "out", folder / name, tmp_path / "t.npy", *flags)
    expected_rows = fitted(X, y).transform(X)
    np.testing.assert_allclose(np.load(tmp_path / "t.npy"), expected_rows, atol=1e-4)


def test_help_names_every_suffix(capsys):
    for command in ("fit", "evaluate", "translate"):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        for known in FORMATS.values():
            assert all(suffix in told for suffix in known.suffixes), known.name


# A new format ---------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path):
    """The toy format, registered, and a file of it."""
    register(toy_format.TOY)
    digits = np.random.default_rng(0).integers(0, 10, (40, 3))
    text = "\n".join(" ".join(toy_format.DIGITS[x] for x in row) for row in digits)
    (tmp_path / "x.toy").write_text(text)
    yield tmp_path / "x.toy", digits.astype(np.float32)
    del FORMATS["toy"]


def test_a_new_format_is_one_file_and_seen_by_all(toy, facts, capsys, tmp_path):
    path, x = toy
    np.save(tmp_path / "y.npy", counterparts(x))
    files = ["--source-vectors", path, "--target-vectors", tmp_path / "y.npy"]
    facts("fit", *files, "--type", "linear", "--output", tmp_path / "out")
    assert facts("evaluate", tmp_path / "out", *files)["n_pairs"] == len(x)
    facts("translate", tmp_path / "out", path, tmp_path / "t.npy")
    expected_rows = fitted(x, counterparts(x)).transform(x)
    np.testing.assert_allclose(np.load(tmp_path / "t.npy"), expected_rows, rtol=1e-4, atol=1e-4)
    facts("translate", tmp_path / "out", path, tmp_path / "t.toy")
    assert open_vectors(tmp_path / "t.toy").n == len(x)
    test_help_names_every_suffix(capsys)


def test_a_new_format_stands_in_the_generated_page_of_commands(toy):
    import write_docs

    assert "`.toy` | digits in words" in write_docs.formats()
    assert ".toy" in write_docs.cli_page()


def test_a_suffix_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="one of its suffixes is taken"):
        register(toy_format.VectorFormat("other", (".npy",), "x", open_vectors))


def test_cases_are_told_apart():
    assert len({case.name for case in CASES}) == len(CASES)
    assert isinstance(CASES[0], Case)
