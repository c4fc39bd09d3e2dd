"""Files as stores, APIs and notebooks leave them: the same 60 rows of 6 numbers in each."""

import base64
import csv
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import safetensors.numpy
import safetensors.torch
import torch

N, DIM = 60, 6
# multiples of 1/64: exact in float16, bfloat16, int8 and short decimals
X = (np.random.default_rng(0).integers(-120, 120, (N, DIM)) / 64).astype(np.float32)
ROWS = X.tolist()
IDS = [f"doc-{row:03}" for row in range(N)]


@dataclass(frozen=True)
class Case:
    """A file, and what must come of it.

    Attributes:
        name: Of the file or folder.
        write: Writes it at a path.
        args: What a user would name: `column`, `scale`.
        refused: What the error says, as a regular expression; None where the rows are read.
        bad_row: The row that a fit names, and skips when asked to; None where it cannot go on.
    """

    name: str
    write: Callable[[Path], Any]
    args: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    bad_row: int | None = None

    def __str__(self) -> str:
        return self.name


def in_folder(folder: Path, cases: "list[Case]") -> Path:
    """Writes the files of all cases into a folder."""
    for case in cases:
        case.write(folder / case.name)
    return folder


# Ways to write --------------------------------------------------------------------------------


def npy(array, **options):
    return lambda path: np.save(path, array, **options)


def content(made):
    """Bytes or text as they are."""
    return lambda path: path.write_bytes(made.encode() if isinstance(made, str) else made)


def gzipped(write):
    """What another way writes, compressed."""

    def packed(path):
        plain = path.with_name(path.name.removesuffix(".gz"))
        write(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()

    return packed


def lines(values):
    return content("".join(json.dumps(value) + "\n" for value in values))


def table(**columns):
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)


def cells(rows, delimiter=","):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return content(text.getvalue())


def faiss_index(make):
    def write(path):
        import faiss

        faiss.write_index(make(faiss), str(path))

    return write


def _filled(index):
    index.add(X)
    return index


def with_ids(faiss):
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
    index.add_with_ids(X, np.arange(N) + 7)
    return index


def _trained(faiss):
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit)
    index.train(X)
    return _filled(index)


def hdf5(**arrays):
    def write(path):
        import h5py

        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array

    return write


def arrays(**named):
    """Named arrays, in whichever of the formats that have such the file's name says."""
    save = {
        ".npz": lambda path: np.savez(path, **named),
        ".hdf5": hdf5(**named),
        ".safetensors": lambda path: safetensors.numpy.save_file(
            {name: np.ascontiguousarray(array) for name, array in named.items()}, path
        ),
        ".json": content(json.dumps({name: array.tolist() for name, array in named.items()})),
    }
    return lambda path: save[path.suffix](path)


def vecs(array):
    """Before each row its width, as in `.fvecs`."""
    return content(b"".join(struct.pack("<i", len(row)) + row.tobytes() for row in array))


def bins(array):
    """Number of rows and width, then the matrix, as in `.fbin`."""
    return content(struct.pack("<II", *array.shape) + array.tobytes())


def arrow(opener):
    def write(path):
        rows = pyarrow.table({"id": IDS, "embedding": ROWS})
        with pyarrow.OSFile(str(path), "wb") as sink, opener(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=7)

    return write


def shards(suffix, write):
    """A folder of twelve numbered files, of which shard-2 comes before shard-10."""

    def folder(path):
        path.mkdir()
        for number, part in enumerate(np.array_split(X, 12)):
            write(path / f"shard-{number}{suffix}", part)
        (path / "README.md").write_text("About these shards.")

    return folder


def files(**arrays):
    """A folder of `.npy` files."""

    def folder(path):
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)

    return folder


def other_columns(path):
    """A folder of two files with vectors in columns of two names."""
    path.mkdir()
    for number, name in enumerate("ab", 1):
        lines({name: row} for row in ROWS)(path / f"s{number}.jsonl")


def text_of(row, between=" "):
    return between.join(map(str, row))


def in_base64(row):
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


# The cases ------------------------------------------------------------------------------------

INT8 = (X * 64).astype(np.int8)
_RECORDS = [{"id": i, "text": f"text {i}", "embedding": v} for i, v in zip(IDS, ROWS, strict=True)]
_BATCH = [
    {"custom_id": i, "response": {"body": {"data": [{"index": 0, "embedding": v}]}}, "error": None}
    for i, v in zip(IDS, ROWS, strict=True)
]
_WORDS = [f"{token} {text_of(row)}" for token, row in zip(IDS, ROWS, strict=True)]
_TENSOR = pyarrow.fixed_shape_tensor(pyarrow.float32(), [DIM])
_FLAT = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), DIM)
_BITS = np.random.default_rng(1).choice([-1, 1], (N, 24))
_PACKED = np.packbits(_BITS > 0, axis=1)
_ANSWER = {"object": "list", "data": [{"index": i, "embedding": v} for i, v in enumerate(ROWS)]}

SHARED = [
    Case("plain.npy", npy(X)),
    Case("fortran.npy", npy(np.asfortranarray(X))),
    Case("float64.npy", npy(X.astype("f8"))),
    Case("float16.npy", npy(X.astype("f2"))),
    Case("big_endian.npy", npy(X.astype(">f4"))),
    Case("longdouble.npy", npy(X.astype(np.longdouble))),
    Case("int8.npy", npy(INT8), {"scale": 1 / 64}),
    Case("arrays.npz", lambda path: np.savez(path, ids=np.array(IDS), embeddings=X)),
    Case(
        "bfloat16.safetensors",
        lambda path: safetensors.torch.save_file({"embeddings": torch.tensor(X).bfloat16()}, path),
    ),
    Case(
        "two_tensors.safetensors",
        lambda path: safetensors.numpy.save_file({"old": X, "new": X[:, :4].copy()}, path),
        {"column": "old"},
    ),
    Case("list.parquet", table(id=IDS, text=IDS, embedding=list(X))),
    Case("fixed_size_list.parquet", table(id=IDS, vector=_FLAT)),
    Case("strings.parquet", table(id=IDS, embedding=[str(row) for row in ROWS])),
    Case(
        "wide.parquet",
        table(id=IDS, **{f"dim_{i}": X[:, i] for i in range(DIM)}),
        {"column": "dim_*"},
    ),
    Case(
        "named_vectors.parquet",
        table(id=IDS, vectors=[{"title": row[:3], "body": row} for row in ROWS]),
        {"column": "vectors.body"},
    ),
    Case("records.jsonl", lines(_RECORDS)),
    Case(
        "bom_and_blank_end.jsonl",
        content(
            "\ufeff" + "".join(json.dumps({"id": 0, "values": row}) + "\n" for row in ROWS) + "\n"
        ),
    ),
    Case("batch_api.jsonl", lines(_BATCH), {"column": "response.body.data[0].embedding"}),
    Case("strings.csv", cells([["id", "embedding"], *zip(IDS, map(str, ROWS), strict=True)])),
    Case(
        "wide.tsv",
        cells(
            [
                ["id", *(f"e{i}" for i in range(DIM))],
                *([i, *row] for i, row in zip(IDS, ROWS, strict=True)),
            ],
            "\t",
        ),
        {"column": "e*"},
    ),
    Case("word2vec.txt", content("\n".join([f"{N} {DIM}", *_WORDS]) + "\n")),
    Case("glove.txt", content("\n".join([*_WORDS[:7], f"a b c {_WORDS[7]}", *_WORDS[8:]]))),
    Case(
        "one_null.parquet",
        table(embedding=[*ROWS[:5], None, *ROWS[6:]]),
        refused="row 5 ",
        bad_row=5,
    ),
    Case(
        "ragged.jsonl",
        lines([{"embedding": row[:4] if i == 9 else row} for i, row in enumerate(ROWS)]),
        refused="row 9 .*4",
        bad_row=9,
    ),
    Case(
        "object.npy",
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        refused="only pickle",
    ),
    Case("flat.faiss", faiss_index(lambda faiss: _filled(faiss.IndexFlatIP(DIM)))),
    Case("train_test.hdf5", hdf5(train=X, test=X[:5]), {"column": "train"}),
]

MORE = [
    Case("compressed.npz", lambda path: np.savez_compressed(path, np.asfortranarray(X))),
    Case("packed.npy.gz", gzipped(npy(X))),
    Case("packed_fortran.npy.gz", gzipped(npy(np.asfortranarray(X)))),
    Case("bits.npy", npy(_PACKED), {"scale": "binary"}),
    Case("signed_bits.npy", npy((_PACKED.astype(int) - 128).astype("i1")), {"scale": "binary"}),
    Case(
        "int8.safetensors",
        lambda path: safetensors.numpy.save_file({"x": INT8}, path),
        {"scale": 1 / 64},
    ),
    Case("a.fvecs", vecs(X)),
    Case("a.bvecs", vecs((X * 64 + 128).astype("u1")), {"scale": 1}),
    Case("a.fbin", bins(X)),
    Case("a.hbin", bins(X.astype("f2"))),
    Case("a.i8bin", bins(INT8), {"scale": 1 / 64}),
    Case(
        "int8.parquet",
        table(v=pyarrow.array(INT8.tolist(), pyarrow.list_(pyarrow.int8()))),
        {"scale": 1 / 64},
    ),
    Case("large.parquet", table(v=pyarrow.array(ROWS, pyarrow.large_list(pyarrow.float64())))),
    Case("tensor.parquet", table(v=pyarrow.ExtensionArray.from_storage(_TENSOR, _FLAT))),
    Case("lists_of_one.parquet", table(v=[[row] for row in ROWS])),
    Case("found_wide.parquet", table(id=IDS, **{f"dim_{i}": X[:, i] for i in range(DIM)})),
    Case("file.arrow", arrow(pyarrow.ipc.new_file)),
    Case("stream.arrow", arrow(pyarrow.ipc.new_stream)),
    Case(
        "zstd.feather",
        lambda path: pyarrow.feather.write_feather(
            pyarrow.table({"embedding": ROWS}), str(path), compression="zstd"
        ),
    ),
    Case("gzipped.jsonl.gz", gzipped(lines(_RECORDS))),
    Case(
        "xz.jsonl.xz",
        content(lzma.compress(b"".join(json.dumps(v).encode() + b"\n" for v in ROWS))),
    ),
    Case("nested.jsonl", lines({"id": 1, "response": {"data": [{"embedding": v}]}} for v in ROWS)),
    Case("dimensions.jsonl", lines({f"d{i}": x for i, x in enumerate(row)} for row in ROWS)),
    Case("dotted.jsonl", lines({"id": "a", "openai.embedding": row} for row in ROWS)),
    Case("dotted.json", content(json.dumps({"rows": [{"m": {"a.b": row}} for row in ROWS]}))),
    Case("dotted.parquet", table(**{"m.x": [{"b.c": row, "text": "t"} for row in ROWS]})),
    Case("base64.jsonl", lines({"id": "a", "embedding": in_base64(row)} for row in ROWS)),
    Case("integers.jsonl", lines(INT8.tolist()), {"scale": 1 / 64}),
    Case("lists.json", content(json.dumps(ROWS, indent=1))),
    Case("records.json", content(json.dumps(_RECORDS, indent=2))),
    Case("lines.json", lines(_RECORDS)),
    Case("answer.json", content(json.dumps(_ANSWER))),
    Case("named_answer.json", content(json.dumps(_ANSWER)), {"column": "data[].embedding"}),
    Case("side_by_side.json", content(json.dumps({"ids": IDS, "embeddings": ROWS}))),
    Case(
        "by_id.json",
        content(
            json.dumps({"vectors": {i: {"values": v} for i, v in zip(IDS, ROWS, strict=True)}})
        ),
    ),
    Case("postgres.csv", cells([["v"], *([f"{{{text_of(row, ',')}}}"] for row in ROWS)])),
    Case("pgvector.tsv", content("".join(f"a\t[{text_of(row, ',')}]\n" for row in ROWS))),
    Case(
        "printed.csv",
        cells([["id", "v"], *([i, str(row).replace(" ", "\n ", 1)] for i, row in enumerate(X))]),
    ),
    Case("repr.csv", cells([["v"], *([repr(row)] for row in X)])),
    Case("scalars.csv", cells([["v"], *([str(list(row))] for row in X)])),
    Case(
        "semicolons.csv", cells([["id", "v"], *([i, str(row)] for i, row in enumerate(ROWS))], ";")
    ),
    Case("pandas.csv", cells([["", *range(DIM)], *([i, *row] for i, row in enumerate(ROWS))])),
    Case("no_header.csv", cells([f"doc-{i}", *row] for i, row in enumerate(ROWS))),
    Case(
        "gzipped.csv.gz",
        gzipped(cells([["id", "v"], *([i, str(row)] for i, row in enumerate(ROWS))])),
    ),
    Case("savetxt.txt", lambda path: np.savetxt(path, X)),
    Case("comments.txt", lambda path: np.savetxt(path, X, header="60 6\nlatents of a model")),
    Case("commas.txt", lambda path: np.savetxt(path, X, delimiter=", ")),
    Case(
        "numbered.txt",
        content("".join(f"{i + 100} {text_of(row)}\n" for i, row in enumerate(ROWS))),
    ),
    Case("printed.txt", content("".join(f"{row}\n" for row in X))),
    Case("ids.faiss", faiss_index(with_ids)),
    Case("graph.index", faiss_index(lambda faiss: _filled(faiss.IndexHNSWFlat(DIM, 8)))),
    Case("group.h5", hdf5(**{"group/embeddings": X, "group/ids": np.arange(N)})),
    Case("npy_shards", shards(".npy", np.save)),
    Case("parquet_shards", shards(".parquet", lambda path, part: table(v=list(part))(path))),
]

REFUSED = [
    Case("unscaled.npy", npy(INT8), refused="holds int8: .*scale"),
    Case("vector.npy", npy(X[0]), refused=r"one floating matrix \(n, d\), got float32 of \(6,\)"),
    Case("complex.npy", npy(X.astype(complex)), refused="got complex128"),
    Case("no_numbers.npy", npy(X[:, :0]), refused="vectors without numbers"),
    Case("two.npz", lambda path: np.savez(path, a=X, b=X), refused=r"holds \['a', 'b'\]: name one"),
    Case("two.parquet", table(title=list(X), body=list(X)), refused="name one as column, got none"),
    Case("two.hdf5", hdf5(train=X, test=X), refused=r"holds \['test', 'train'\]: name one"),
    Case(
        "texts.parquet", table(text=IDS), refused=r"no column of vectors.*it has \['text \(string"
    ),
    Case(
        "a_matrix_a_row.parquet",
        table(v=[[row[:3], row[3:]] for row in ROWS]),
        refused="row 0 is not a vector but 2 lists",
        bad_row=0,
    ),
    Case(
        "two_groups.csv",
        cells([["a0", "a1", "b0", "b1"], *(row[:4] for row in ROWS)]),
        refused=r"holds \['a\*', 'b\*'\]: name one",
    ),
    Case(
        "a_gap.csv",
        cells([["e0", "e1", "e3"], *(row[:3] for row in ROWS)]),
        refused="no column of vectors",
    ),
    Case(
        "null_at_the_end.jsonl",
        lines(
            {f"d{i}": x if n or i < 5 else None for i, x in enumerate(v)}
            for n, v in enumerate(ROWS)
        ),
        refused="row 0 holds an empty value",
        bad_row=0,
    ),
    Case(
        "shortened.csv",
        cells([["v"], *([str(np.tile(row, 300))] for row in X)]),
        refused=r"row 0 .*shortened with '...'",
        bad_row=0,
    ),
    Case(
        "latin.csv",
        content("id,v\né,[1.5]\n".encode("latin-1")),
        refused="must be UTF-8: save it so",
    ),
    Case("prose.txt", content("call me\nishmael\n"), refused="do not end in numbers"),
    Case("weights.pkl", content(b"\x80"), refused=r"is not read: .*\.npy, .*\.parquet"),
    Case(
        "quantised.faiss", faiss_index(_trained), refused="IndexScalarQuantizer: .*keep them whole"
    ),
    Case("several_kinds", files(a=X, b=X), refused="not numbered shards of one kind"),
    Case(
        "shards_of_other_columns", other_columns, refused="by several names: 'a' in s1.*'b' in s2"
    ),
    Case("uneven_shards", files(s1=X, s2=X[:, :3]), refused="differ in width"),
]


def expected(case):
    """The rows that a case must give."""
    if case.name in ("bits.npy", "signed_bits.npy"):
        return _BITS
    return X * 64 + 128 if case.name == "a.bvecs" else X
