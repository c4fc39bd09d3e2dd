"""Matrices in `.npy` and `.safetensors` files, read block by block and never mapped whole."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.translation.sources import Place, Rows, file_identity, only

_SAFETENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass
class MatrixFile:
    """A matrix that lies in a file as plain bytes, behind a header."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[np.floating]
    offset: int
    column_major: bool = False

    @classmethod
    def npy(cls, path: Path) -> "MatrixFile":
        """A `.npy` file.

        Raises:
            InvalidLatentsError: Truncated, a pickle, or not one floating matrix.
        """
        try:
            with path.open("rb") as stream:
                version = np.lib.format.read_magic(stream)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read is None:
                    raise ValueError(f"version {version} of the format is not known")
                shape, column_major, dtype = read(stream)
                offset = stream.tell()
            if dtype.hasobject:
                raise ValueError("it holds Python objects, which only pickle can read")
            _check_matrix(path, shape, dtype, dtype.kind == "f")
            _check_size(path, offset + shape[0] * shape[1] * dtype.itemsize)
        except InvalidLatentsError:
            raise
        except (ValueError, EOFError) as error:
            raise InvalidLatentsError(
                f"{path} is not a whole .npy file of numbers: {error}"
            ) from error
        return cls(path, (shape[0], shape[1]), dtype, offset, column_major)

    @classmethod
    def safetensors(cls, place: Place) -> "MatrixFile":
        """One tensor of a `.safetensors` file.

        Raises:
            InvalidLatentsError: Truncated, several tensors and none named, or no floating matrix.
        """
        path = Path(place.name)
        try:
            with path.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > path.stat().st_size:
                    raise ValueError("its header is cut off")
                entries = dict(json.loads(stream.read(length)))
            entries.pop("__metadata__", None)
            entry = entries[only(path, list(entries), place.column)]
            first, last = entry["data_offsets"]
            _check_size(path, 8 + length + last, exactly=False)
        except InvalidLatentsError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidLatentsError(f"{path} is not a whole safetensors file: {error}") from error
        shape, kind = tuple(entry["shape"]), entry["dtype"]
        _check_matrix(path, shape, kind, kind in _SAFETENSORS)
        return cls(path, (shape[0], shape[1]), np.dtype(_SAFETENSORS[kind]), 8 + length + first)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Width of the rows."""
        return self.shape[1]

    def identity(self) -> dict[str, Any]:
        """Name, size and time of the last change of the file."""
        return file_identity(self.path)

    def blocks(self, start: int, stop: int | None, size: int) -> Iterator[Rows]:
        """Reads rows with seek and read, so that memory holds one block and no map."""
        stop = self.n if stop is None else stop
        with self.path.open("rb", buffering=0) as stream:
            for first in range(start, stop, size):
                yield self._read(stream, first, min(first + size, stop))

    def _read(self, stream: Any, start: int, stop: int) -> Rows:
        n, width = self.shape
        item = self.dtype.itemsize
        if not self.column_major:
            stream.seek(self.offset + start * width * item)
            return np.fromfile(stream, self.dtype, (stop - start) * width).reshape(-1, width)
        block = np.empty((stop - start, width), self.dtype)
        for column in range(width):
            stream.seek(self.offset + (column * n + start) * item)
            block[:, column] = np.fromfile(stream, self.dtype, stop - start)
        return block


def _check_matrix(path: Path, shape: tuple[int, ...], dtype: Any, floating: bool) -> None:
    if len(shape) != 2 or not floating:
        raise InvalidLatentsError(
            f"{path} must hold one floating matrix (n, d), got {dtype} of {shape}"
        )


def _check_size(path: Path, needed: int, *, exactly: bool = True) -> None:
    size = path.stat().st_size
    if size < needed or (exactly and size != needed):
        raise ValueError(f"its header announces {needed:,} bytes, the file has {size:,}")
