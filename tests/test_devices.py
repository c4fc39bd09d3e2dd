"""The library and its tests take no device for granted: they run on a second one, in software."""

import os
import sys
from contextlib import nullcontext

import pytest
import torch
import warm
from processes import finished

from hf_latent_bridge.devices import check_autocast, default_device
from hf_latent_bridge.errors import EncoderError

TESTS = ["test_autoencoder.py", "test_compatibility.py", "test_decoders.py", "test_fitting.py"]
TESTS += ["test_mixed_devices.py", "test_stitching.py"]
SPACE = ["test_space_across.py", "test_space_autoencoders.py"]


def test_processes_of_one_machine_share_out_its_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for rank, index in ((None, 0), ("0", 0), ("1", 1), ("3", 1)):
        if rank is not None:
            monkeypatch.setenv("LOCAL_RANK", rank)
        assert default_device() == torch.device("cuda", index)


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_that_a_gpu_only_emulates_is_refused(monkeypatch, has):
    autocast = torch.amp.autocast_mode
    monkeypatch.setattr(autocast, "is_autocast_available", lambda kind: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    with nullcontext() if has else pytest.raises(EncoderError, match="has no autocast"):
        check_autocast(torch.bfloat16, torch.device("cuda"))
    check_autocast(torch.float16, torch.device("cuda"))
    with pytest.raises(EncoderError, match="autocast must be"):
        check_autocast(torch.float64, torch.device("cuda"))


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
