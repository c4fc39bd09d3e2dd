"""The library and its tests take no device for granted: they run on a second one, in software."""

import os
import sys

import pytest
import torch
import warm
from processes import finished

TESTS = ["test_autoencoder.py", "test_compatibility.py", "test_decoders.py", "test_fitting.py"]
TESTS += ["test_mixed_devices.py", "test_stitching.py"]
SPACE = ["test_space_across.py", "test_space_autoencoders.py"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a second device in hardware")
def test_tests_of_results_are_green_on_a_second_device():
    """See second_device.py; `SECOND_DEVICE=1 pytest` runs any other test there."""
    green_on_a_second_device("-m", "not slow", *TESTS)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a second device in hardware")
def test_the_space_computes_beside_a_second_device():
    green_on_a_second_device(*SPACE, "-k", "librarys_own or the_library_draws or published_latents")


def green_on_a_second_device(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    folder = os.path.dirname(__file__)
    environment = os.environ | {"SECOND_DEVICE": "1"}
    done = finished(command, env=environment, cwd=folder, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_tensors_of_the_second_device_do_not_mix_with_others():
    code = """
import numpy, torch, second_device
x = torch.ones(2, 3, device=second_device.DEVICE)
assert (x @ x.mT).cpu().tolist() == [[3, 3], [3, 3]]
for mixed in (lambda: x + torch.ones(2, 3), lambda: torch.equal(x, x.cpu())):
    try:
        mixed()
    except RuntimeError:
        continue
    raise SystemExit("they mix")
try:
    numpy.asarray(x)
except TypeError:
    print("apart")
"""
    assert warm.finished("-c", code, loaded=warm.BASE).stdout == "apart\n"
