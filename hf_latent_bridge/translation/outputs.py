"""What kinds of file a translation can become, all made from one matrix of plain bytes."""

import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hf_latent_bridge.files import open_atomic
from hf_latent_bridge.translation.lines import to_lines
from hf_latent_bridge.translation.matrix_file import MatrixFile

COLUMN = "latents"
_SAFETENSORS = {2: "F16", 4: "F32", 8: "F64"}
_HEADER = 256


def check_output(source: str, target: str) -> None:
    """Refuses what could not be written or would overwrite the input.

    Raises:
        FileNotFoundError: No folder to write into.
        IsADirectoryError: The output is a folder.
        ValueError: Both are one file, or a kind of file that is not written.
    """
    path = Path(target)
    if target == "-":
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file to write, such as out.npy")
    if path.exists() and source != "-" and Path(source).exists() and path.samefile(source):
        raise ValueError(f"input and output are the same file, {source}: name another output")
    if path.suffix not in _KINDS:
        raise ValueError(f"the output must end in one of {sorted(_KINDS)}, got {path.name}")


def header(kind: str, shape: tuple[int, int], dtype: np.dtype[np.floating]) -> bytes:
    """What stands before the bytes of the matrix; as long for any number of rows.

    Empty for kinds that are no plain matrix.
    """
    return _KINDS[kind][0](shape, dtype)


def finish(part: Path, target: Path, shape: tuple[int, int], dtype: np.dtype[np.floating]) -> None:
    """Turns the whole matrix in `part` into the file `target`, in one step; `part` is gone."""
    head, write = header(target.suffix, shape, dtype), _KINDS[target.suffix][1]
    with part.open("r+b") as stream:
        stream.write(head)
        stream.truncate(len(head) + math.prod(shape) * dtype.itemsize)
        stream.flush()
        os.fsync(stream.fileno())
    if write is None:
        part.replace(target)
        return
    with open_atomic(target) as stream:
        write(MatrixFile(part, shape, dtype, 0), stream)
    part.unlink()


def _npy_header(shape: tuple[int, int], dtype: np.dtype[np.floating]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _safetensors_header(shape: tuple[int, int], dtype: np.dtype[np.floating]) -> bytes:
    entry = {
        "dtype": _SAFETENSORS[dtype.itemsize],
        "shape": list(shape),
        "data_offsets": [0, math.prod(shape) * dtype.itemsize],
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, COLUMN: entry}).encode()
    return _HEADER.to_bytes(8, "little") + text.ljust(_HEADER)


def _no_header(shape: tuple[int, int], dtype: np.dtype[np.floating]) -> bytes:
    return b""


def _write_lines(matrix: MatrixFile, stream: BinaryIO) -> None:
    for rows in matrix.blocks(0, None, 1024):
        stream.write(to_lines(rows))


def _write_parquet(matrix: MatrixFile, stream: BinaryIO) -> None:
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.from_numpy_dtype(matrix.dtype)
    schema = pyarrow.schema({COLUMN: pyarrow.list_(values, matrix.width)})
    options = {"compression": "none", "use_dictionary": False}
    with pyarrow.parquet.ParquetWriter(stream, schema, **options) as writer:
        for rows in matrix.blocks(0, None, 16384):
            column = pyarrow.FixedSizeListArray.from_arrays(rows.reshape(-1), type=schema[0].type)
            writer.write_table(pyarrow.Table.from_arrays([column], schema=schema))


Header = Callable[[tuple[int, int], np.dtype[np.floating]], bytes]
Writer = Callable[[MatrixFile, BinaryIO], None]
_KINDS: dict[str, tuple[Header, Writer | None]] = {
    ".npy": (_npy_header, None),
    ".safetensors": (_safetensors_header, None),
    ".jsonl": (_no_header, _write_lines),
    ".parquet": (_no_header, _write_parquet),
}
