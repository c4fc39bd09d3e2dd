"""One writer for each format of vectors: in chunks, with the ids and other columns of the rows."""

import base64
import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import math
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

import numpy as np

from hf_latent_bridge.data.items import Array
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import COLUMN
from hf_latent_bridge.vectors.ids import NAMES
from hf_latent_bridge.vectors.reader import Block

Shape = tuple[int, ...]
Dtype = np.dtype[Any]

_HEADER = 256
_SAFETENSORS = {2: "F16", 4: "F32", 8: "F64"}
_ROWS = 1024
_GROUP_BYTES = 2**26


@dataclass(frozen=True)
class Result:
    """Vectors to write.

    Attributes:
        shape: Their number and width.
        dtype: Their dtype.
        blocks: Gives the rows in order, so many at a time, each time it is called.
        alike: Whether all rows are known to have the same columns of the same types.
    """

    shape: Shape
    dtype: Dtype
    blocks: Callable[[int], Iterator[Block]]
    alike: bool = False


@dataclass(frozen=True)
class Writer:
    """How a format is written: a header before the plain matrix, or a function of all rows.

    Attributes:
        header: The bytes before the matrix, equally many for any number of rows.
        write: Writes all rows to a stream.
        keeps: What it has room for besides the vectors: nothing, an id for each row, or all.
        dtypes: The dtypes that the format has.
    """

    header: Callable[[Shape, Dtype], bytes] | None = None
    write: Callable[[BinaryIO, Result], None] | None = None
    keeps: Literal["nothing", "ids", "all"] = "nothing"
    dtypes: tuple[str, ...] = ("float16", "float32", "float64")


def write_to(stream: BinaryIO, path: Path, writer: Writer, result: Result) -> None:
    """Writes all rows, compressed where the name of the file says so."""
    with _compressed(path, stream) as content:
        if writer.write is not None:
            writer.write(content, result)
        elif writer.header is not None:
            content.write(writer.header(result.shape, result.dtype))
            for block in result.blocks(_ROWS):
                content.write(block.vectors.tobytes())
    stream.flush()


@contextlib.contextmanager
def _compressed(path: Path, stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream to write to; equal content gives equal bytes."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
            yield cast(BinaryIO, packed)
    elif suffix in (".bz2", ".xz"):
        opened = bz2.BZ2File if suffix == ".bz2" else lzma.LZMAFile
        with opened(stream, "wb") as packed:
            yield cast(BinaryIO, packed)
    else:
        yield stream


# A header, then the matrix row by row ---------------------------------------------------------


def npy_header(shape: Shape, dtype: Dtype) -> bytes:
    """The header of a `.npy` file."""
    stream = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def safetensors_header(shape: Shape, dtype: Dtype) -> bytes:
    """The header of a safetensors file with one tensor, `latents`."""
    entry = {
        "dtype": _SAFETENSORS[dtype.itemsize],
        "shape": list(shape),
        "data_offsets": [0, math.prod(shape) * dtype.itemsize],
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, COLUMN: entry}).encode()
    return _HEADER.to_bytes(8, "little") + text.ljust(_HEADER)


def bin_header(shape: Shape, dtype: Dtype) -> bytes:
    """The header of `.fbin` and similar files: number of rows and width.

    Raises:
        InvalidLatentsError: More rows than the format can count.
    """
    if shape[0] >= 2**32:
        raise InvalidLatentsError(f"such a file holds at most {2**32 - 1:,} rows, got {shape[0]}")
    return struct.pack("<II", *shape)


def faiss_header(shape: Shape, dtype: Dtype) -> bytes:
    """The header of a FAISS `IndexFlatIP`, as `faiss.write_index` writes it."""
    n, dim = shape
    return b"IxFI" + struct.pack("<iqqq?iQ", dim, n, 1 << 20, 1 << 20, True, 0, n * dim)


# Arrays ---------------------------------------------------------------------------------------


def write_vecs(stream: BinaryIO, result: Result) -> None:
    """`.fvecs` and `.dvecs`: before each row its width."""
    dim = result.shape[1]
    row = np.dtype([("dim", "<i4"), ("values", result.dtype, (dim,))])
    for block in result.blocks(_ROWS):
        rows = np.empty(len(block.vectors), row)
        rows["dim"], rows["values"] = dim, block.vectors
        stream.write(rows.tobytes())


def write_npz(stream: BinaryIO, result: Result) -> None:
    """`.npz`: the array `latents`, and one for each column; mixed types as JSON texts.

    NumPy pads texts to the longest of their column: they are padded one by one, and compressed.

    Raises:
        InvalidLatentsError: A text ends in NUL, which NumPy drops.
    """
    kinds = _column_kinds(result)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive, ExitStack() as opened:
        beside = Path(stream.name).parent  # the disk that the output needs to fit on
        columns = {n: opened.enter_context(tempfile.TemporaryFile(dir=beside)) for n in kinds}
        with _member(archive, _own_name(kinds), npy_header(result.shape, result.dtype)) as member:
            for block in result.blocks(_ROWS):
                member.write(block.vectors.tobytes())
                for name, values in _values(block, kinds).items():
                    columns[name].write(_held(values, kinds[name]))
        for name, column in columns.items():
            column.seek(0)
            header, is_text = npy_header(result.shape[:1], kinds[name]), kinds[name].kind == "U"
            with _member(archive, name, header, compressed=is_text) as member:
                if not is_text:
                    shutil.copyfileobj(column, member)
                for line in column:
                    member.write(_padded(json.loads(line), kinds[name]))


def _held(values: list[Any], kind: Dtype) -> bytes:
    """Values in a temporary file: numbers as an archive has them, texts as lines of JSON."""
    if kind.kind != "U":
        return np.array(values, kind).tobytes()
    return "".join(f"{json.dumps(_text(value))}\n" for value in values).encode()


def _padded(text: str, kind: Dtype) -> bytes:
    if text.endswith("\0"):
        raise InvalidLatentsError(
            f".npz has no texts that end in NUL, and {text[-40:]!r} does: write another format, or "
            "leave it out"
        )
    return text.encode("utf-32-le", "surrogatepass").ljust(kind.itemsize, b"\0")


def write_hdf5(stream: BinaryIO, result: Result) -> None:
    """HDF5: the dataset `latents`, and one for each column; mixed types as JSON texts.

    Raises:
        InvalidLatentsError: A text holds a NUL, at which HDF5 ends texts.
    """
    import h5py

    texts = h5py.string_dtype()
    kinds = {name: texts if k.kind == "U" else k for name, k in _column_kinds(result).items()}
    with h5py.File(stream, "w") as file:
        vectors = file.create_dataset(_own_name(kinds), result.shape, result.dtype)
        for name, kind in kinds.items():
            file.create_dataset(name, result.shape[:1], kind)
        for block in result.blocks(_ROWS):
            rows = slice(block.first, block.first + len(block.vectors))
            vectors[rows] = block.vectors
            for name, values in _values(block, kinds).items():
                column = _as_array(values, kinds[name])
                _check_no_nul(column, name, block.first)
                file[name][rows] = column


def _check_no_nul(texts: Array, name: str, first: int) -> None:
    rows = enumerate(texts.tolist() if texts.dtype.kind == "O" else [], first)
    bad = next((row for row, text in rows if "\0" in text), None)
    if bad is not None:
        raise InvalidLatentsError(
            f"HDF5 has no texts with a NUL in them, and row {bad} has one in {name!r}: write "
            "another format, or leave it out"
        )


@contextlib.contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, header: bytes, *, compressed: bool = False
) -> Iterator[IO[bytes]]:
    about = zipfile.ZipInfo(f"{name}.npy")
    about.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with archive.open(about, "w", force_zip64=True) as member:
        member.write(header)
        yield member


def _as_array(values: list[Any], kind: Dtype) -> Array:
    return np.array(values if kind.kind != "O" else list(map(_text, values)), kind)


# Text -----------------------------------------------------------------------------------------


def write_json_lines(stream: BinaryIO, result: Result) -> None:
    """JSON lines: each row's object with its vector in place, or a bare list of numbers."""
    for block in result.blocks(_ROWS):
        stream.write(json_lines(block))


def write_json(stream: BinaryIO, result: Result) -> None:
    """A JSON array with an element for each row."""
    between = b"[\n"
    for block in result.blocks(_ROWS):
        stream.write(between + b",\n".join(json_lines(block).splitlines()))
        between = b",\n"
    stream.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def json_lines(block: Block) -> bytes:
    """The lines of some rows."""
    lists = _lists(block.vectors)
    if block.payload is None:
        return "".join(f"{numbers}\n" for numbers in lists).encode()
    values = _placed(block, [_MARK] * len(lists))
    return b"".join(map(_json_line, values, lists))


def write_csv(stream: BinaryIO, result: Result, *, delimiter: str = ",") -> None:
    """CSV: the rows' columns, with each vector as a text such as `[0.1, 0.2]` in one of them."""
    blocks = (_flat_rows(block, [None] * len(block.vectors)) for block in result.blocks(_ROWS))
    names = dict.fromkeys(name for rows in blocks for row in rows for name in row)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    lines = csv.DictWriter(text, names or [COLUMN], delimiter=delimiter, lineterminator="\n")
    lines.writeheader()
    for block in result.blocks(_ROWS):
        for row in _flat_rows(block, _lists(block.vectors)):
            lines.writerow({name: _cell(value) for name, value in row.items()})
    text.flush()
    text.detach()


def write_tsv(stream: BinaryIO, result: Result) -> None:
    """CSV with tabs."""
    write_csv(stream, result, delimiter="\t")


def write_word2vec(stream: BinaryIO, result: Result) -> None:
    """word2vec's text: number of rows and width, then each row's id and numbers.

    Raises:
        InvalidLatentsError: An id is empty or holds a line break.
    """
    stream.write(f"{result.shape[0]} {result.shape[1]}\n".encode())
    name = id_name({n for block in result.blocks(_ROWS) for n in other_columns(block)})
    for block in result.blocks(_ROWS):
        ids = [str(block.first + i) for i in range(len(block.vectors))]
        if name is not None:
            ids = [_text(value) for value in _values(block, [name])[name]]
        rows = zip(map(_token, ids), _lists(block.vectors, between=" "), strict=True)
        stream.write("".join(f"{token} {numbers[1:-1]}\n" for token, numbers in rows).encode())


_MARK = "\x00 vector"
_QUOTED_MARK = json.dumps(_MARK)


def _lists(vectors: Array, between: str = ", ") -> list[str]:
    """Each row as `[0.1, 0.2]`, with as many digits as give the same floats again."""
    digits = "%.17g" if vectors.dtype.itemsize > 4 else "%.9g"
    template = f"[{between.join([digits] * vectors.shape[1])}]"
    return [template % tuple(row) for row in vectors.tolist()]


def _json_line(value: Any, numbers: str) -> bytes:
    """One line; Python's own JSON would spell a float32 with the digits of a float64."""
    try:
        content = _to_json(value).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can spell
        content = _to_json(value, ensure_ascii=True).encode()
    return content.replace(_QUOTED_MARK.encode(), numbers.encode(), 1) + b"\n"


def _to_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """JSON, which has neither NaN nor infinity: null stands for them."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=ensure_ascii, default=_plain)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    """A value of a table that JSON does not have, as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return _to_json(value)
    return value if isinstance(value, str | int | float | None) else _plain(value)


def _token(key: str) -> str:
    if not key.strip() or "\n" in key or "\r" in key:
        raise InvalidLatentsError(
            f"word2vec's text has one line for each row, so no id may be empty or hold a line "
            f"break, got {key!r}"
        )
    return key


# Ids and other columns ------------------------------------------------------------------------


def id_name(names: Collection[str]) -> str | None:
    """The column that holds the rows' ids, by its name; None if no column does."""
    return next((name for name in (*NAMES, "word", "name") if name in names), None)


def has_columns(block: Block) -> bool:
    """Whether the rows are objects; bare vectors have no columns."""
    return block.payload is not None and isinstance(_first_row(block), dict)


def other_columns(block: Block) -> list[str]:
    """The columns of some rows besides that of the vectors, in the order in which they come."""
    marks = [_MARK] * len(block.vectors)
    rows = _flat_rows(block, marks) if has_columns(block) else []
    return list(dict.fromkeys(k for row in rows for k, value in row.items() if value != _MARK))


def _flat_rows(block: Block, vectors: Sequence[Any]) -> list[dict[str, Any]]:
    """A dict for each row, with its vector in a column of its own.

    A vector from inside another column leaves null there.
    """
    if not has_columns(block):
        return [{COLUMN: vector} for vector in vectors]
    if _MARK in _first_row(block).values():
        return _placed(block, vectors)
    rows = _placed(block, [None] * len(vectors))
    name = _own_name(rows[0])
    return [row | {name: vector} for row, vector in zip(rows, vectors, strict=True)]


def _first_row(block: Block) -> Any:
    first = Block(block.first, block.vectors[:1], block.payload and block.payload.cut(0, 1))
    return next(iter(_placed(first, [_MARK])), {})


def _placed(block: Block, vectors: Sequence[Any]) -> list[Any]:
    """The rows as JSON values, with other vectors in place of those read."""
    if block.payload is None:
        return list(vectors)
    held = np.empty(len(vectors), object)
    held[:] = vectors
    return block.payload.objects(held)


def _values(block: Block, names: Collection[str]) -> dict[str, list[Any]]:
    """The values of some columns; None where a row has no such column."""
    rows = _flat_rows(block, [_MARK] * len(block.vectors))
    return {name: [row.get(name) for row in rows] for name in names}


def _column_kinds(result: Result) -> dict[str, Dtype]:
    """For each column the dtype of bools, integers or floats if all rows hold those, else texts."""
    kinds: dict[str, set[str]] = {}
    longest: dict[str, int] = {}
    seen: dict[str, int] = {}
    for block in result.blocks(_ROWS):
        for name, values in _values(block, other_columns(block)).items():
            kinds.setdefault(name, set()).update(map(_number_kind, values))
            longest[name] = max(longest.get(name, 1), *(len(_text(value)) for value in values))
            seen[name] = seen.get(name, 0) + len(values)
    partly = [name for name, count in seen.items() if count < result.shape[0]]
    return {
        k: _common_kind(v | ({"U"} if k in partly else set()), longest[k]) for k, v in kinds.items()
    }


def _number_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "?"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "<i8"
    return "<f8" if isinstance(value, float) else "U"


def _common_kind(found: set[str], longest: int) -> Dtype:
    numbers = "<f8" if found == {"<i8", "<f8"} else next(iter(found)) if len(found) == 1 else "U"
    return np.dtype(f"<U{longest}" if numbers == "U" else numbers)


def _own_name(others: Collection[str]) -> str:
    """A name for the vectors that no other column has."""
    name = COLUMN
    while name in others:
        name = f"translated_{name}"
    return name


def _text(value: Any) -> str:
    """A value as text: nothing for None, JSON for what is neither a number nor a text."""
    cell = "" if value is None else _cell(value)
    return cell if isinstance(cell, str) else json.dumps(cell)


# Tables ---------------------------------------------------------------------------------------


def write_parquet(stream: BinaryIO, result: Result) -> None:
    """Parquet: the rows' columns, with the vectors as fixed-size lists in one of them."""
    import pyarrow
    import pyarrow.parquet

    schema = _schema(result)
    lists = pyarrow.types.is_fixed_size_list
    others = [field.name for field in schema if not lists(field.type)]
    options = {"compression": "snappy", "use_dictionary": others}
    with pyarrow.parquet.ParquetWriter(stream, schema, **options) as writer:
        for table in _tables(result, schema):
            writer.write_table(table)


def write_arrow(stream: BinaryIO, result: Result) -> None:
    """An Arrow or Feather file: the rows' columns, with the vectors as fixed-size lists."""
    import pyarrow.ipc

    schema = _schema(result)
    with pyarrow.ipc.new_file(stream, schema) as writer:
        for table in _tables(result, schema):
            writer.write_table(table)


def _schema(result: Result) -> Any:
    """The schema of all rows, without what `datasets` says about the width of the old vectors."""
    import pyarrow

    schemas = {}
    for block in result.blocks(_ROWS):
        schema = _table(block).schema
        schemas[schema.to_string()] = schema
        if block.payload is None or result.alike:
            break
    none = Block(0, np.empty((0, result.shape[1]), result.dtype))
    found = list(schemas.values()) or [_table(none).schema]
    names = dict.fromkeys(name for schema in found for name in schema.names)
    fields = [_common_field([s.field(n) for s in found if n in s.names]) for n in names]
    kept = {k: v for k, v in (found[0].metadata or {}).items() if k != b"huggingface"}
    return pyarrow.schema(fields, kept or None)


def _common_field(fields: list[Any]) -> Any:
    """A field that takes the values of all; one of texts where they have no type in common."""
    import pyarrow

    try:
        schemas = [pyarrow.schema([field]) for field in fields]
        return pyarrow.unify_schemas(schemas, promote_options="permissive").field(0)
    except pyarrow.ArrowException:
        return pyarrow.field(fields[0].name, pyarrow.string())


def _tables(result: Result, schema: Any) -> Iterator[Any]:
    import pyarrow

    rows = min(16384, max(64, _GROUP_BYTES // (result.shape[1] * result.dtype.itemsize)))
    for block in result.blocks(rows):
        table = _table(block)
        columns = [_column(table, field) for field in schema]
        yield pyarrow.Table.from_arrays(columns, schema=schema)


def _column(table: Any, field: Any) -> Any:
    import pyarrow

    from hf_latent_bridge.vectors.tables import json_text

    if field.name not in table.column_names:
        return pyarrow.nulls(len(table), field.type)
    column = table[field.name]
    if column.type != field.type and pyarrow.types.is_string(field.type):
        return pyarrow.array(map(json_text, column.to_pylist()), field.type)
    return column.cast(field.type)


def _table(block: Block) -> Any:
    import pyarrow

    from hf_latent_bridge.vectors.tables import vector_array

    if block.payload is not None:
        return block.payload.table(block.vectors)
    return pyarrow.table({COLUMN: vector_array(block.vectors)})


# The formats that are written -----------------------------------------------------------------

_FLOAT16, _FLOAT32, _FLOAT64 = ("float16",), ("float32",), ("float64",)

NPY = {".npy": Writer(header=npy_header)}
NPZ = {".npz": Writer(write=write_npz, keeps="all")}
SAFETENSORS = {".safetensors": Writer(header=safetensors_header)}
VECS = {
    ".fvecs": Writer(write=write_vecs, dtypes=_FLOAT32),
    ".dvecs": Writer(write=write_vecs, dtypes=_FLOAT64),
}
BIN = {
    ".fbin": Writer(header=bin_header, dtypes=_FLOAT32),
    ".f16bin": Writer(header=bin_header, dtypes=_FLOAT16),
    ".hbin": Writer(header=bin_header, dtypes=_FLOAT16),
}
FAISS = dict.fromkeys((".faiss", ".index"), Writer(header=faiss_header, dtypes=_FLOAT32))
HDF5 = dict.fromkeys((".hdf5", ".h5"), Writer(write=write_hdf5, keeps="all"))
PARQUET = dict.fromkeys((".parquet", ".pq"), Writer(write=write_parquet, keeps="all"))
ARROW = dict.fromkeys((".arrow", ".feather", ".ipc"), Writer(write=write_arrow, keeps="all"))
JSON_LINES = dict.fromkeys((".jsonl", ".ndjson"), Writer(write=write_json_lines, keeps="all"))
JSON = {".json": Writer(write=write_json, keeps="all")}
CSV = {".csv": Writer(write=write_csv, keeps="all")}
TSV = dict.fromkeys((".tsv", ".tab"), Writer(write=write_tsv, keeps="all"))
WORD2VEC = dict.fromkeys((".txt", ".vec"), Writer(write=write_word2vec, keeps="ids"))
