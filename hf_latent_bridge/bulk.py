"""Translates files of latents that need not fit in memory."""

import os
from pathlib import Path

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.translators import Translator

_ROWS = 16384


def translate_file(
    translator: Translator, source: str | Path, target: str | Path, *, progress: bool = False
) -> tuple[int, int]:
    """Translates a `.npy` file of latents into another, chunk by chunk.

    The result appears at `target` only when it is whole, in the floating dtype of the input.

    Args:
        translator: A fitted translator.
        source: `.npy` file, (n, d_source).
        target: `.npy` file to write, (n, d_target).
        progress: Show a bar.

    Returns:
        The shape of the result.

    Raises:
        InvalidLatentsError: Not a floating matrix of the source's width, NaN or infinity, or a
            file that only pickle could read.
    """
    from tqdm.auto import trange

    path, temporary = Path(target), Path(f"{target}.{os.getpid()}.tmp")
    latents = _open(Path(source))
    shape = (len(latents), translator.target_width)
    try:
        result = np.lib.format.open_memmap(temporary, "w+", dtype=latents.dtype, shape=shape)
        for start in trange(0, len(latents), _ROWS, disable=not progress, desc="translate"):
            rows = slice(start, start + _ROWS)
            result[rows] = translator.transform(latents[rows])
        result.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return shape


def _open(path: Path) -> "np.typing.NDArray[np.floating]":
    try:
        latents = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidLatentsError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if not isinstance(latents, np.ndarray) or latents.ndim != 2 or latents.dtype.kind != "f":
        raise InvalidLatentsError(f"{path} must hold one floating matrix (n, d)")
    return latents
