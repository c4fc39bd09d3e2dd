"""Where models and tensors are put: one default for everything that loads."""

import os

import torch

from hf_latent_bridge.errors import EncoderError


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU; every loader's `device=None`.

    Under torchrun or `accelerate launch` it is the process's own GPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", rank % torch.cuda.device_count())


def as_device(device: torch.device | str | None) -> torch.device:
    """A loader's `device` argument as a device; None is the default."""
    return default_device() if device is None else torch.device(device)


def check_autocast(dtype: torch.dtype | None, device: torch.device) -> None:
    """Refuses an autocast dtype that the device lacks; torch would ignore or emulate it.

    Raises:
        EncoderError: The dtype is not float16 or bfloat16, or the device does not have it.
    """
    if dtype is None:
        return
    if dtype not in (torch.float16, torch.bfloat16):
        raise EncoderError(f"autocast must be torch.float16 or torch.bfloat16, got {dtype}")
    has = torch.amp.autocast_mode.is_autocast_available(device.type)
    if has and device.type == "cuda" and dtype == torch.bfloat16:
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    if not has:
        raise EncoderError(f"{device} has no autocast to {dtype}: leave autocast out")
