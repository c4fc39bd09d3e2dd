"""Matrices stored as plain bytes: .npy, .npz, .safetensors, .fvecs, .fbin."""

import contextlib
import json
import math
import os
import sys
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from hf_latent_bridge.atomic import writing
from hf_latent_bridge.data.items import Array, Items
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import find_field, likely
from hf_latent_bridge.vectors.ids import NAMES, check_lengths, is_column
from hf_latent_bridge.vectors.lines import objects_beside
from hf_latent_bridge.vectors.numbers import floating, to_floats, width
from hf_latent_bridge.vectors.opening import is_compressed, open_bytes, plain_suffix
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, whole

_SAFETENSORS = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "I8": "i1", "U8": "u1",
    "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
_VECS = {".fvecs": "<f4", ".dvecs": "<f8", ".bvecs": "u1", ".ivecs": "<i4"}
_BINS = {
    ".fbin": "<f4",
    ".f16bin": "<f2",
    ".hbin": "<f2",
    ".u8bin": "u1",
    ".i8bin": "i1",
    ".ibin": "<i4",
}
_READ = "biufUSMm"  # kinds of dtype that fields may have
_SKIP = 2**22
_READERS = min(8, os.cpu_count() or 1)
_READ_AT_LEAST = 2**22  # bytes by one thread


@dataclass(frozen=True)
class Layout:
    """How a matrix is laid out in bytes.

    Attributes:
        shape: Rows and width as stored.
        dtype: Of the stored numbers.
        offset: Where the first row begins.
        column_major: Whether it is stored column by column.
        bfloat16: Whether the numbers are the upper halves of float32.
        row_header: Bytes before each row: the width as int32, in `.fvecs` and similar files.
    """

    shape: tuple[int, int]
    dtype: "np.dtype[Any]"
    offset: int = 0
    column_major: bool = False
    bfloat16: bool = False
    row_header: int = 0

    def __post_init__(self) -> None:
        counts = (*self.shape, self.offset)
        if not all(type(count) is int and count >= 0 for count in counts) or self.end > sys.maxsize:
            raise ValueError(f"its header announces a matrix of shape {self.shape}")

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        return self.row_header + self.shape[1] * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Where the last number ends."""
        return self.offset + self.shape[0] * self.row_bytes

    def rows(self, content: bytearray | memoryview, n: int) -> Array:
        """The stored numbers of `n` rows that are stored row by row."""
        lines = np.frombuffer(content, np.uint8).reshape(n, self.row_bytes)
        if self.row_header:
            widths = lines[:, : self.row_header].copy().view("<i4")
            if (widths != self.shape[1]).any():
                raise ValueError(f"a row says another width than {self.shape[1]}")
            lines = np.ascontiguousarray(lines[:, self.row_header :])
        return lines.view(self.dtype)


class MatrixReader(VectorReader):
    """A matrix in a file, read with seek and read.

    A memory map would count every page that was read as memory of this process.

    Attributes:
        layout: How the matrix is laid out in the file.
        stream: Opens the bytes where they must be read from front to end.
        turned: A temporary file that holds the matrix row by row, where the file does not.
    """

    turned: BinaryIO | None = None

    def __init__(
        self,
        source: VectorSource,
        layout: Layout,
        stream: Callable[[], BinaryIO] | None = None,
        column: str | None = None,
    ) -> None:
        """A matrix of plain bytes.

        Args:
            source: The file.
            layout: Its layout there.
            stream: Opens the bytes where they must be read from front to end.
            column: Name of the tensor or array.
        """
        super().__init__(source)
        self.layout, self.stream, self.column = layout, stream, column
        self.n, stored = layout.shape
        if self.n and not stored:
            raise InvalidLatentsError(
                f"{source.path} holds vectors without numbers, {layout.shape}"
            )
        if layout.bfloat16:
            self.dtype = np.dtype(np.float32)
        else:
            self.dtype = floating(layout.dtype, source.scale, source.path)
            self.integers = layout.dtype.kind in "iu"
        dim = stored if layout.bfloat16 else width(stored, layout.dtype, source.scale)
        self.dim = dim or None  # a file without rows need not say how wide they are
        self.hop = self.hop if stream is None else None

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Blocks of rows; memory holds one."""
        end = self.layout.shape[0] if stop is None else stop
        if self.stream is not None:
            yield from self._streamed(self.stream, start, end, size)
            return
        with self._opened() as file:
            for first in range(start, end, size):
                yield Part(self._floats(self._at(file, first, min(first + size, end))))

    def read(self, rows: npt.NDArray[np.int64]) -> Items:
        """Vectors (n, d) of some rows, each sought where they are not consecutive."""
        if self.stream is not None:
            return super().read(rows)
        if not len(rows):
            return np.empty((0, self.dim or 0), self.dtype)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        with whole(self.source.path), self._opened() as file:
            found = [self._at(file, int(run[0]), int(run[-1]) + 1) for run in runs]
        return self._floats(found[0] if len(found) == 1 else np.concatenate(found))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The number of the open file."""
        if self.turned is not None:
            yield self.turned.fileno()
            return
        with Path(self.source.path).open("rb", buffering=0) as stream:
            yield stream.fileno()

    def _streamed(
        self, stream: Callable[[], BinaryIO], start: int, end: int, size: int
    ) -> Iterator[Part]:
        with stream() as content:
            _skip(content, self.layout.offset + start * self.layout.row_bytes)
            for first in range(start, end, size):
                n = min(size, end - first)
                read = _exactly(content, n * self.layout.row_bytes)
                yield Part(self._floats(self.layout.rows(read, n)))

    def _at(self, file: int, start: int, stop: int) -> Array:
        layout = self.layout
        if not layout.column_major:
            content = _room((stop - start) * layout.row_bytes)
            _pread(file, content, layout.offset + start * layout.row_bytes)
            return layout.rows(content, stop - start)
        block, item = np.empty((stop - start, layout.shape[1]), layout.dtype), layout.dtype.itemsize
        for column in range(layout.shape[1]):
            content = _room((stop - start) * item)
            _pread(file, content, layout.offset + (column * layout.shape[0] + start) * item)
            block[:, column] = np.frombuffer(content, layout.dtype)
        return block

    def _floats(self, stored: Array) -> Array:
        if self.layout.bfloat16:  # the same bits and 16 zeros
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return to_floats(stored, self.source.scale)


class Beside(NamedTuple):
    """An array in the same file as a matrix.

    Attributes:
        stream: Opens the bytes that hold it.
        shape: Its shape.
        dtype: Of its values.
        offset: Where the first one begins.
    """

    stream: Callable[[], BinaryIO]
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    offset: int

    @property
    def is_read(self) -> bool:
        """Whether its values can be fields."""
        return self.dtype.kind in _READ


class NamedReader(MatrixReader):
    """A matrix among named arrays, with those that have one value for each of its rows.

    Attributes:
        beside: Those arrays by their names.
    """

    beside: Mapping[str, Beside] = MappingProxyType({})

    def stand_beside(self, arrays: Mapping[str, Beside]) -> None:
        """Chooses, of all arrays of the file, those that have a value for each row.

        Raises:
            InvalidLatentsError: Ids are more or fewer than the rows of any matrix, or of a kind
                that is not read.
        """
        n = self.layout.shape[0]
        beside = {name: one for name, one in arrays.items() if name != self.column and one.shape}
        columns = {name: one for name, one in beside.items() if is_column(one.shape)}
        others = [one.shape[0] for name, one in beside.items() if name not in columns]
        lengths = {name: one.shape[0] for name, one in columns.items()}
        check_lengths(self.source.path, str(self.column), n, lengths, others)
        fit = {name: one for name, one in columns.items() if lengths[name] == n}
        self.beside = {name: one for name, one in fit.items() if one.is_read}
        self.unfit = {name: length for name, length in lengths.items() if name not in fit}
        if unread := [name for name in NAMES if name in fit and name not in self.beside]:
            raise InvalidLatentsError(
                f"{self.source.path}: {unread[0]!r} holds {fit[unread[0]].dtype} values, which are "
                f"not read: save numbers or texts, such as {unread[0]}.astype(str)"
            )

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Blocks of rows, with their values in the other arrays."""
        parts = super().parts(start, stop, size)
        if not payload or not self.beside:
            yield from parts
            return
        with contextlib.ExitStack() as stack:
            streams = {name: self._open_beside(name, start, stack) for name in self.beside}
            for part in parts:
                columns = {
                    name: _values(stream, self.beside[name].dtype, len(part.vectors))
                    for name, stream in streams.items()
                }
                yield Part(part.vectors, objects_beside(columns, str(self.column)))

    def _open_beside(self, name: str, start: int, stack: contextlib.ExitStack) -> BinaryIO:
        one = self.beside[name]
        stream = stack.enter_context(one.stream())
        _skip(stream, one.offset + start * one.dtype.itemsize)
        return stream


Streamed = TypeVar("Streamed", bound=MatrixReader)


def open_npy(source: VectorSource) -> MatrixReader:
    """The matrix of a `.npy` file.

    Raises:
        InvalidLatentsError: Truncated, a pickle, or not one matrix of numbers.
    """
    path = Path(source.path)
    with whole(path, ".npy file of numbers"), open_bytes(path) as stream:
        layout = _npy_layout(stream, path)
        if not is_compressed(path):
            _check_size(layout.end, path.stat().st_size, exactly=True)
    if not is_compressed(path):
        return MatrixReader(source, layout)
    return _turned(MatrixReader(source, layout, lambda: open_bytes(path)))


def open_npz(source: VectorSource) -> MatrixReader:
    """One matrix of a `.npz` archive, compressed or not.

    Raises:
        InvalidLatentsError: Truncated, or no matrix of floats, or several and none is named; or ids
            that are of another number or kind.
    """
    path = Path(source.path)
    with whole(path, ".npz file of numbers"), zipfile.ZipFile(path) as archive:
        arrays = {}
        for member in archive.namelist():
            with archive.open(member) as stream:
                arrays[member.removesuffix(".npy")] = _npy_header(cast(BinaryIO, stream))
        kinds = {name: (shape, dtype) for name, (shape, _, dtype, _) in arrays.items()}
        name = _matrix_name(path, kinds, source.column)
        layout = _layout(path, *arrays[name])
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
    reader = NamedReader(source, layout, lambda: _open_member(path, members[name]), name)
    reader.stand_beside(
        {
            other: Beside(partial(_open_member, path, members[other]), shape, dtype, offset)
            for other, (shape, _, dtype, offset) in arrays.items()
        }
    )
    return _turned(reader)


def open_safetensors(source: VectorSource) -> MatrixReader:
    """One tensor of a `.safetensors` file.

    Raises:
        InvalidLatentsError: Truncated, or no matrix of floats, or several and none is named; or ids
            that are of another number.
    """
    path = Path(source.path)
    size = path.stat().st_size
    with whole(path, "safetensors file"), path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        _check_size(8 + length, size)
        entries: dict[str, Any] = dict(json.loads(stream.read(length)))
        entries.pop("__metadata__", None)
        kinds = {name: _safetensors_kind(entry) for name, entry in entries.items()}
        name = _matrix_name(path, kinds, source.column)
        kind = entries[name]["dtype"]
        if kind not in _SAFETENSORS:
            raise InvalidLatentsError(f"{path}: {name!r} must hold floating numbers, got {kind}")
        arrays = {other: _tensor(path, e, 8 + length) for other, e in entries.items()}
        shape, dtype = kinds[name][0], np.dtype(_SAFETENSORS[kind])
        layout = Layout((shape[0], shape[1]), dtype, arrays[name].offset, bfloat16=kind == "BF16")
        reader = NamedReader(source, layout, column=name)
        reader.stand_beside(arrays)
        for read in (name, *reader.beside):
            _check_tensor(read, entries[read], size - 8 - length)
    return reader


def open_vecs(source: VectorSource) -> MatrixReader:
    """A `.fvecs` file or a similar one: before each row its width as int32.

    Raises:
        InvalidLatentsError: Truncated, or rows of several widths.
    """
    path = Path(source.path)
    dtype = np.dtype(_VECS[plain_suffix(path)])
    with whole(path), path.open("rb") as stream:
        dim = int.from_bytes(stream.read(4), "little", signed=True)
        size, row = path.stat().st_size, 4 + dim * dtype.itemsize
        if size and (dim < 1 or size % row):
            raise ValueError(f"{size:,} bytes are not rows of {dim} numbers")
    return MatrixReader(source, Layout((size // row, dim), dtype, row_header=4))


def open_bin(source: VectorSource) -> MatrixReader:
    """A `.fbin` file or a similar one: number of rows and width as uint32, then the matrix.

    Raises:
        InvalidLatentsError: Truncated.
    """
    path = Path(source.path)
    dtype = np.dtype(_BINS[plain_suffix(path)])
    with whole(path), path.open("rb") as stream:
        header = stream.read(8)
        n, dim = (int.from_bytes(header[i : i + 4], "little") for i in (0, 4))
        layout = Layout((n, dim), dtype, 8)
        _check_size(max(8, layout.end), path.stat().st_size, exactly=True)
    return MatrixReader(source, layout)


def _turned(reader: Streamed) -> Streamed:
    """The reader, which reads a matrix stored column by column from a temporary file."""
    if reader.layout.column_major and reader.stream is not None:
        with whole(reader.source.path), writing(Path(tempfile.gettempdir())):
            reader.turned = _row_by_row(reader.layout, reader.stream)
        weakref.finalize(reader, reader.turned.close)
        reader.layout, reader.stream = Layout(reader.layout.shape, reader.layout.dtype), None
    return reader


def _row_by_row(layout: Layout, stream: Callable[[], BinaryIO]) -> BinaryIO:
    """A temporary file with the matrix row by row, for the bytes come column by column."""
    n, dim = layout.shape
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        _reserve(file, n * dim * layout.dtype.itemsize)
        turned = np.memmap(file, layout.dtype, "w+", shape=(n, dim))
        with stream() as content:
            _exactly(content, layout.offset)
            for column in range(dim):
                read = _exactly(content, n * layout.dtype.itemsize)
                turned[:, column] = np.frombuffer(read, layout.dtype)
        turned.flush()
        stack.pop_all()
    return cast(BinaryIO, file)


def _reserve(file: Any, size: int) -> None:
    """Takes the room on the disk: writing to a map of a full one would end the process."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def _open_member(path: Path, member: str) -> BinaryIO:
    return cast(BinaryIO, zipfile.ZipFile(path).open(member))


Header = tuple[tuple[int, ...], bool, "np.dtype[Any]", int]


def _npy_header(stream: BinaryIO) -> Header:
    """Shape, whether it is stored column by column, dtype and offset."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        (3, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format is not known")
    shape, column_major, dtype = readers[version](stream)
    return shape, column_major, dtype, stream.tell()


def _npy_layout(stream: BinaryIO, path: Path) -> Layout:
    return _layout(path, *_npy_header(stream))


def _layout(
    path: Path, shape: tuple[int, ...], column_major: bool, dtype: "np.dtype[Any]", offset: int
) -> Layout:
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle could read")
    if len(shape) != 2 or dtype.kind not in "fiu":
        raise InvalidLatentsError(
            f"{path} must hold one floating matrix (n, d), got {dtype} of {shape}"
        )
    return Layout((shape[0], shape[1]), dtype, offset, column_major and min(shape) > 1)


def _matrix_name(path: Path, kinds: dict[str, Any], wanted: str | None) -> str:
    """The matrix that is wanted; without a name the only one of floats, else of integers."""
    matrices = {name: dtype for name, (shape, dtype) in kinds.items() if len(shape) == 2}
    floats = [name for name, dtype in matrices.items() if dtype.kind == "f"]
    if wanted is not None and wanted in kinds and wanted not in matrices:
        raise InvalidLatentsError(
            f"{path}: {wanted!r} must be one floating matrix (n, d), got {kinds[wanted][0]}"
        )
    if wanted is None and not matrices:
        told = {name: f"{dtype} of {shape}" for name, (shape, dtype) in kinds.items()}
        raise InvalidLatentsError(f"{path} must hold one floating matrix (n, d), got {told}")
    others = [name for name in matrices if name not in floats]
    return find_field(path, wanted, floats + others if wanted else likely(floats, others)).name


def _safetensors_kind(entry: dict[str, Any]) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    name = str(entry["dtype"])
    kind = "f4" if name == "BF16" else _SAFETENSORS.get(name, "V1")
    return tuple(entry["shape"]), np.dtype(kind)


def _tensor(path: Path, entry: dict[str, Any], start: int) -> Beside:
    """A tensor of a file whose tensors begin at `start`."""
    shape, dtype = _safetensors_kind(entry)
    dtype = np.dtype("V2") if entry["dtype"] == "BF16" else dtype
    return Beside(lambda: path.open("rb"), shape, dtype, start + entry["data_offsets"][0])


def _check_tensor(name: str, entry: dict[str, Any], room: int) -> None:
    first, last = entry["data_offsets"]
    _check_size(last, room)
    dtype = np.dtype(_SAFETENSORS[entry["dtype"]])
    if first < 0 or math.prod(entry["shape"]) * dtype.itemsize != last - first:
        raise ValueError(f"{name!r} of shape {entry['shape']} does not fill its bytes")


def _check_size(needed: int, size: int, *, exactly: bool = False) -> None:
    if size < needed or (exactly and size != needed):
        raise ValueError(f"its header announces {needed:,} bytes, the file has {size:,}")


def _exactly(stream: BinaryIO, count: int) -> bytearray:
    content = bytearray()
    while len(content) < count:
        read = stream.read(count - len(content))
        if not read:
            raise EOFError(f"it ends {count - len(content):,} bytes too early")
        content += read
    return content


def _skip(stream: BinaryIO, count: int) -> None:
    while count:
        count -= len(_exactly(stream, min(count, _SKIP)))


def _values(stream: BinaryIO, dtype: "np.dtype[Any]", n: int) -> list[Any]:
    """The next values of a column, read in parts, as texts are as long as the longest of all."""
    found, size = list[Any](), max(1, _SKIP // dtype.itemsize)
    for first in range(0, n, size):
        content = _exactly(stream, min(size, n - first) * dtype.itemsize)
        values = np.frombuffer(content, dtype)
        if dtype.kind in "Mm":  # times, which JSON has as texts
            values = values.astype(str)
        found += values.tolist()
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in found]


def _room(size: int) -> memoryview:
    """Bytes to read into, which a GPU can fetch by itself where there is one."""
    pinned = torch.cuda.is_available()
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned).numpy().data


def _pread(file: int, content: memoryview, offset: int) -> None:
    """Reads bytes; many of them by several threads at once, which one alone would not keep up."""
    size = -(-len(content) // max(1, min(_READERS, len(content) // _READ_AT_LEAST)))
    starts = range(0, len(content), max(size, 1))
    parts = [(content[start : start + size], offset + start) for start in starts]
    if len(parts) == 1:
        _pread_all(file, *parts[0])
    elif parts:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(lambda part: _pread_all(file, *part), parts))


def _pread_all(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(file, [view], offset)
        if count == 0:
            raise EOFError(f"it ends {len(view):,} bytes too early")
        view, offset = view[count:], offset + count
