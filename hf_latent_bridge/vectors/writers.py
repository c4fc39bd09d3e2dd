"""One writer for each format of vectors: in chunks, with the rows' ids and other columns."""

import io
import json
import math
import struct
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]
Shape = tuple[int, int]

_HEADER = 256
_SAFETENSORS = {2: "F16", 4: "F32", 8: "F64"}
_DIGITS = {2: 5, 4: 9, 8: 17}  # as many as tell any two floats of that many bytes apart
_FLOATS = ("float16", "float32", "float64")
COLUMN = "latents"


# Plain matrices: a header, then the rows' bytes ---------------------------------------------


def npy_header(shape: Shape, dtype: np.dtype[np.floating]) -> bytes:
    """The header of a `.npy` file; equally long for any number of rows."""
    stream = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def safetensors_header(shape: Shape, dtype: np.dtype[np.floating]) -> bytes:
    """The header of a safetensors file with one tensor, `latents`."""
    entry = {
        "dtype": _SAFETENSORS[dtype.itemsize],
        "shape": list(shape),
        "data_offsets": [0, math.prod(shape) * dtype.itemsize],
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, COLUMN: entry}).encode()
    return _HEADER.to_bytes(8, "little") + text.ljust(_HEADER)


def fbin_header(shape: Shape, dtype: np.dtype[np.floating]) -> bytes:
    """The header of a `.fbin` file: number of rows and width."""
    return struct.pack("<II", *shape)


def faiss_header(shape: Shape, dtype: np.dtype[np.floating]) -> bytes:
    """The header of a FAISS `IndexFlatIP`, as `faiss.write_index` writes it."""
    n, dim = shape
    unused = 1 << 20
    return b"IxFI" + struct.pack("<iqqq?iQ", dim, n, unused, unused, True, 0, n * dim)
