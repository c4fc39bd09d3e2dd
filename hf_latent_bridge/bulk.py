"""Translates files of latents that need not fit in memory."""

from pathlib import Path

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.files import open_atomic
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
        FileNotFoundError: No such file to read, or no folder to write into.
        InvalidLatentsError: Not a floating matrix of the source's width, NaN or infinity, or a
            file that only pickle could read.
        ValueError: Both names are of one file.
    """
    from tqdm.auto import trange

    latents = _open(Path(source))
    path = _check_target(Path(source), Path(target))
    shape = (len(latents), translator.target_width)
    header = {"descr": latents.dtype.str, "fortran_order": False, "shape": shape}
    with open_atomic(path) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in trange(0, max(1, len(latents)), _ROWS, disable=not progress, desc="translate"):
            rows = latents[start : start + _ROWS]
            try:
                translated = translator.transform(rows)
            except InvalidLatentsError as error:
                raise InvalidLatentsError(f"{source}, rows from {start:,} on: {error}") from error
            stream.write(np.ascontiguousarray(translated, dtype=latents.dtype).data)
    return shape


def _open(path: Path) -> "np.typing.NDArray[np.floating]":
    try:
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
        latents: np.typing.NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidLatentsError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if latents.ndim != 2 or latents.dtype.kind != "f":
        raise InvalidLatentsError(
            f"{path} must hold one floating matrix (n, d), got {latents.dtype} of {latents.shape}"
        )
    return latents


def _check_target(source: Path, target: Path) -> Path:
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} into")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: name a file to write, such as out.npy")
    if target.exists() and target.samefile(source):
        raise ValueError(f"input and output are the same file, {source}: name another output")
    return target
