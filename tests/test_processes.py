"""Several real processes give what one gives, and an error in one is an error in all."""

import contextlib
import functools
import json
import sys

import fit_cases
import numpy as np
import pytest
import torch
import warm
from processes import PATIENCE
from tiny_models import sentence_repo, text_dataset

from hf_latent_bridge.fitting.processes import Processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]
FITS = list(fit_cases.FITS)
COUNTS = [2, 3]
outcome = functools.cache(fit_cases.outcome)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each process of a launch reports, case by case."""
    texts = text_dataset()["train"].select(range(fit_cases.N_TEXTS))
    texts.push_to_hub(fit_cases.TEXTS, split="train", num_shards=6, token="hf_alice")
    assert tuple(sentence_repo(normalize=True, seed=s) for s in (0, 1)) == fit_cases.ENCODERS

    @functools.cache
    def launch(count):
        folder = tmp_path_factory.mktemp(f"of-{count}")
        with contextlib.ExitStack() as stack:
            runs = warm.group(count, fit_cases.__file__, folder)
            for run in map(stack.enter_context, runs):
                _, error = run.communicate(timeout=PATIENCE)
                assert run.returncode == 0, error[-3000:]
        return {
            name: [
                json.loads((folder / f"{number}-{rank}.json").read_text()) for rank in range(count)
            ]
            for number, name in enumerate(fit_cases.CASES)
        }

    return launch


@pytest.fixture
def alone():
    """A case in this process, with one thread as in the others: float32 encoders round by it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield outcome
    torch.set_num_threads(threads)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FITS)
def test_several_processes_sum_the_same_moments_as_one(name, count, outcomes, alone):
    expected, got = alone(name), outcomes(count)[name]
    assert expected["processes"] == 1
    assert [one["processes"] for one in got] == [count] * count
    for moments in (one["moments"] for one in got):
        for key, values in expected["moments"].items():
            scale = np.abs(values).max()
            np.testing.assert_allclose(moments[key], values, rtol=1e-10, atol=1e-10 * scale)
    assert {one["n"] for one in got} == {expected["n"]}
    assert all(one["dataset"] == expected["dataset"] for one in got)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FITS)
def test_all_processes_end_with_one_translator(name, count, outcomes):
    maps = [one["weight"] for one in outcomes(count)[name]]
    assert all(weight == maps[0] for weight in maps)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", fit_cases.SPACES)
def test_several_processes_fit_the_shared_space_that_one_fits(name, count, outcomes, alone):
    expected, got = alone(name), outcomes(count)[name]
    assert [(one["n"], one["processes"]) for one in got] == [(expected["n"], count)] * count
    for one in got:
        np.testing.assert_allclose(one["bits"], expected["bits"])
        for found, weight in zip(one["weights"], expected["weights"], strict=True):
            np.testing.assert_allclose(found, weight, atol=1e-5)
        assert one["weights"] == got[0]["weights"]


def test_every_row_is_counted_once_where_no_number_of_processes_divides_them(outcomes):
    rows = [outcomes(2)[name][0]["n"] for name in FITS]
    assert rows == [199, 199, 197, 77, 1001, 1001, 151, 151, 20, 151, 30, 147]
    assert all(n % count for n in (199, 1001) for count in COUNTS)


def test_the_sample_of_a_stream_is_that_of_the_dataset(alone):
    sample = fit_cases.of_texts(fit_cases.TEXTS, max_pairs=77, seed=3)
    streamed = alone("a sample of a stream")
    assert sample.map_.weight.tolist() == streamed["weight"]


@pytest.mark.parametrize("count", COUNTS)
def test_the_number_of_skipped_rows_of_all_processes_is_recorded(count, outcomes):
    assert outcomes(count)["bad rows skipped"][count - 1]["dataset"] == {"bad_rows_skipped": 4}


@pytest.mark.parametrize("count", COUNTS)
def test_a_bad_row_in_one_process_is_the_same_error_in_all(count, outcomes, alone):
    error = alone("a bad row in one process")["error"]
    assert "BadRowError: row 20 of the source column holds NaN or infinity" in error
    assert [one["error"] for one in outcomes(count)["a bad row in one process"]] == [error] * count


@pytest.mark.parametrize("count", COUNTS)
def test_no_good_row_in_any_process_is_an_error_in_all(count, outcomes):
    errors = {one["error"] for one in outcomes(count)["only bad rows"]}
    assert len(errors) == 1
    assert "none of 10 is usable" in errors.pop()


@pytest.mark.parametrize("count", COUNTS)
def test_an_encoder_that_fails_in_one_process_stops_all_with_its_error(count, outcomes):
    first, second, *rest = (
        one["error"] for one in outcomes(count)["a failing encoder in one process"]
    )
    assert second == "RuntimeError: out of memory"
    expected = f"ProcessError: process 1 of {count} failed: RuntimeError: out of memory"
    assert {first, *rest} == {expected}


def test_processes_that_accelerate_has_not_joined_are_refused():
    code = (
        "import os; from accelerate import PartialState; PartialState(cpu=True)\n"
        "os.environ['WORLD_SIZE'] = '2'\n"
        "from hf_latent_bridge.fitting.processes import Processes; Processes.current()"
    )
    done = warm.finished("-c", code, check=False)
    assert "ProcessError: 2 processes were started, but Accelerate joined 1" in done.stderr


def test_a_process_that_gives_no_sign_of_life_is_not_waited_for(tmp_path):
    """The second of two is stopped, as on a machine that hangs; its connections stay open."""
    code = (
        "import os, signal, sys\n"
        "from hf_latent_bridge.fitting.processes import Processes\n"
        "me = Processes.current(patience=3)\n"
        "stop_me = lambda failed: me.is_first or os.kill(os.getpid(), signal.SIGSTOP)\n"
        "me.run(stop_me)"
    )
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(one) for one in warm.group(2, "-c", code))
        stack.callback(second.kill)
        _, error = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1
    assert "ProcessError: process 1 of 2 gave no sign of life for 3 seconds" in error


def test_a_process_that_never_comes_is_not_waited_for():
    code = (
        "from hf_latent_bridge.fitting.processes import Processes\n"
        "Processes.current(start_timeout=3)"
    )
    (second,) = warm.group(2, "-c", code, ranks=[1])
    with second:
        _, error = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert "ProcessError: not all of 2 processes came within 3 seconds" in error


def test_one_process_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert Processes.current().run(lambda stop: 3) == [3]
