"""Files of vectors, read chunk by chunk: memory holds a chunk, never the file."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.columns import Column, as_index
from hf_latent_bridge.data.items import Array, Items
from hf_latent_bridge.errors import InvalidPairsError

SUFFIXES = (".npy", ".safetensors", ".parquet")
_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


@dataclass(frozen=True)
class VectorFile(Column):
    """A matrix that lies row by row in a file, read with seek and read.

    A memory map would count every page that was read as memory of this process.
    """

    path: Path
    offset: int
    dtype: "np.dtype[Any]"
    shape: tuple[int, int]
    bfloat16: bool = False

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: Rows) -> Items:
        """Vectors (n, d) of some rows."""
        index = as_index(rows)
        with self.path.open("rb", buffering=0) as stream:
            if isinstance(index, slice):
                block = self._read(stream.fileno(), index.start, len(rows))
            else:
                block = np.empty((len(rows), self.shape[1]), self.dtype)
                for position, row in enumerate(rows):
                    block[position] = self._read(stream.fileno(), int(row), 1)[0]
        return _widen(block) if self.bfloat16 else block

    def fingerprint(self) -> str:
        """Path, size and time of the last change."""
        state = self.path.stat()
        return f"{self.path.resolve()} {state.st_size} {state.st_mtime_ns} {self.offset}"

    def _read(self, file: int, start: int, n: int) -> Array:
        width = self.shape[1] * self.dtype.itemsize
        block = np.empty((n, self.shape[1]), self.dtype)
        view, done = memoryview(block.data).cast("B"), 0
        while done < len(view):
            count = os.preadv(file, [view[done:]], self.offset + start * width + done)
            if count == 0:
                raise InvalidPairsError(f"{self.path} ends before row {start + n - 1}: cut short?")
            done += count
        return block


def open_vectors(path: str | Path, name: str | None = None) -> Any:
    """A column of the vectors in a `.npy`, `.safetensors` or `.parquet` file.

    Args:
        path: The file.
        name: Which tensor or column of it; None for the only one. A `.npy` file has one.

    Raises:
        FileNotFoundError: No such file.
        InvalidPairsError: A file of another kind, without such vectors, or cut short.
    """
    path = Path(path)
    readers = dict(zip(SUFFIXES, (_open_npy, _open_safetensors, _open_parquet), strict=True))
    if path.suffix not in readers:
        raise InvalidPairsError(f"vectors are read from {', '.join(SUFFIXES)} files, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return readers[path.suffix](path, name)


def _open_npy(path: Path, name: str | None) -> VectorFile:
    with path.open("rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        except ValueError as error:
            raise InvalidPairsError(f"{path} is no .npy file of numbers: {error}") from error
        offset = stream.tell()
    if fortran and len(shape) == 2 and min(shape) > 1:
        raise InvalidPairsError(
            f"{path} lies column by column (Fortran order): save np.ascontiguousarray(...) of it"
        )
    return _checked(path, offset, dtype, shape)


def _open_safetensors(path: Path, name: str | None) -> VectorFile:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(stream.read(size))
        except (ValueError, OverflowError, MemoryError) as error:
            raise InvalidPairsError(f"{path} is no safetensors file: {error}") from error
    header.pop("__metadata__", None)
    entry = header[_pick(path, "tensors", list(header), name)]
    dtype = np.dtype(_DTYPES.get(entry["dtype"], "V1"))
    offset = 8 + size + entry["data_offsets"][0]
    return _checked(path, offset, dtype, tuple(entry["shape"]), bfloat16=entry["dtype"] == "BF16")


def _open_parquet(path: Path, name: str | None) -> Any:
    from datasets import Dataset

    from hf_latent_bridge.data.arrow import dataset_column, is_vectors

    dataset = Dataset.from_parquet(str(path))
    known = [name for name, feature in dataset.features.items() if is_vectors(feature)]
    return dataset_column(dataset, _pick(path, "columns of vectors", known, name))


def _pick(path: Path, what: str, known: list[str], name: str | None) -> str:
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        raise InvalidPairsError(f"{path} holds the {what} {known}, got {name!r}: name one of them")
    return name


def _checked(
    path: Path, offset: int, dtype: Any, shape: tuple[int, ...], *, bfloat16: bool = False
) -> VectorFile:
    if len(shape) != 2 or not (dtype.kind == "f" or bfloat16):
        raise InvalidPairsError(
            f"{path} must hold one floating matrix (n, d), got {dtype} of {shape}"
        )
    needed = offset + shape[0] * shape[1] * dtype.itemsize
    if path.stat().st_size < needed:
        raise InvalidPairsError(
            f"{path} should have {needed:,} bytes, has {path.stat().st_size:,}: it was cut short"
        )
    return VectorFile(path, offset, dtype, (shape[0], shape[1]), bfloat16)


def _widen(block: Array) -> Array:
    """bfloat16, of which NumPy knows nothing, as float32: the same bits and 16 zeros."""
    return (block.astype(np.uint32) << 16).view(np.float32)
