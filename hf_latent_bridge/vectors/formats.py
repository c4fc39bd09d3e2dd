"""The registry of the formats that vectors are read from and written to."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.extras import require
from hf_latent_bridge.names import check_name
from hf_latent_bridge.vectors import (
    hdf5,
    indexes,
    lines,
    matrix,
    shards,
    tables,
    text,
    writers,
)
from hf_latent_bridge.vectors.fields import without_columns
from hf_latent_bridge.vectors.opening import COMPRESSED, is_compressed, plain_suffix
from hf_latent_bridge.vectors.reader import VectorReader, VectorSource, file_stamp
from hf_latent_bridge.vectors.stores.base import StoreReader
from hf_latent_bridge.vectors.stores.registry import address, is_store_url, open_collection
from hf_latent_bridge.vectors.writers import Writer


@dataclass(frozen=True)
class VectorFormat:
    """A kind of file that holds vectors.

    Attributes:
        name: Its name.
        suffixes: The ends of file names by which it is known, in lower case.
        description: What it holds, in a few words, for help texts.
        open: Opens such a file.
        writers: How such files are written, by suffix; the others are only read.
        compressed: Whether such a file may be compressed as a whole, `.jsonl.gz` for example.
        plain: Whether reading takes no more memory than the file's size lets expect, and opens no
            other file; the Space takes only such files from strangers.
        needs: Packages that reading it imports.
        extra: The extra of this library that installs them.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    open: Callable[[VectorSource], VectorReader]
    writers: Mapping[str, Writer] = field(default_factory=dict)
    compressed: bool = False
    plain: bool = False
    needs: tuple[str, ...] = ()
    extra: str | None = None


FORMATS: dict[str, VectorFormat] = {}


def register(vector_format: VectorFormat) -> VectorFormat:
    """Makes a format known to everything that reads vectors.

    Raises:
        ValueError: The name or a suffix is taken.
    """
    taken = {suffix for known in FORMATS.values() for suffix in known.suffixes}
    if vector_format.name in FORMATS or taken & set(vector_format.suffixes):
        raise ValueError(f"the format {vector_format.name!r} or one of its suffixes is taken")
    FORMATS[vector_format.name] = vector_format
    return vector_format


def format_of(path: str | Path) -> VectorFormat | None:
    """The format that a file's name says; None for another kind of file."""
    suffix, packed = plain_suffix(Path(path)), is_compressed(Path(path))
    for known in FORMATS.values():
        if suffix in known.suffixes and (known.compressed or not packed):
            return known
    return None


def readable() -> str:
    """All suffixes that are read, for help texts and errors."""
    suffixes = [suffix for known in FORMATS.values() for suffix in known.suffixes]
    return f"{', '.join(suffixes)} (text formats also as {', '.join(COMPRESSED)})"


def open_vectors(source: VectorSource | str | Path, column: str | None = None) -> VectorReader:
    """Opens what holds vectors.

    Args:
        source: What to read, or the name of a file, a folder of numbered files or a dataset.
        column: With a name: the column, key, tensor or array with the vectors.

    Raises:
        InvalidNameError: The name is empty, or not a text or path.
        FileNotFoundError: No such file.
        DatasetError: A dataset without this configuration or split.
        InvalidLatentsError: A file of another kind, without vectors, or cut short; a pipe; or
            several columns could be meant and none is named.
        MissingExtraError: Reading this format needs a package that is not installed.
    """
    name = source.path if isinstance(source, VectorSource) else source
    wanted = "a file, folder or dataset of vectors"
    check_name(name, wanted=wanted, urls=is_store_url(name))
    if not isinstance(source, VectorSource):
        source = VectorSource(str(source), column)
    if source.path == "-":
        _refuse_dataset_options(source, "stdin is read")
        return lines.JsonStream(source)
    if is_store_url(source.path):
        _refuse_dataset_options(source, f"{address(source.path)} is a store")
        if source.column is not None:
            raise InvalidLatentsError(
                f"the vectors of a store are named in its URL, as in ?vector={source.column}: "
                f"leave the column {source.column!r} out"
            )
        return StoreReader(source, open_collection(source.path))
    path = Path(source.path)
    if path.is_dir():
        return _open_folder(source, path)
    known = format_of(path)
    if not path.exists():
        if known is None and _is_repo_id(source.path):
            return _open_dataset(source)
        raise FileNotFoundError(
            f"there is no file {path}; a dataset of the Hub is named as owner/name"
        )
    if not path.is_file():
        raise InvalidLatentsError(
            f"{path} is a pipe or a device, which can be read only once: save it as a file, or "
            "translate JSON lines from stdin, which is named -"
        )
    if known is None:
        raise InvalidLatentsError(f"{path} is not read: vectors are read from {readable()}")
    _refuse_dataset_options(source, f"{path} is a file")
    if known.extra is not None:
        require(known.extra, *known.needs, purpose=f"reading {path.name}")
    stamp = file_stamp(path)
    reader = known.open(source)
    if source.column is not None and reader.column is None and reader.n:
        raise without_columns(path, source.column)
    reader.stamp = stamp
    return reader


def plain_suffixes() -> list[str]:
    """The suffixes of formats that are plain."""
    return [suffix for known in FORMATS.values() if known.plain for suffix in known.suffixes]


def writable() -> str:
    """All suffixes that are written, for help texts and errors."""
    suffixes = [suffix for known in FORMATS.values() for suffix in known.writers]
    return f"{', '.join(suffixes)} (text formats also as {', '.join(COMPRESSED)})"


def writer_of(path: str | Path) -> Writer:
    """How a file of this name is written.

    Raises:
        ValueError: Files of such a name are not written; lists what is.
        MissingExtraError: Writing this format needs a package that is not installed.
    """
    known, suffix = format_of(path), plain_suffix(Path(path))
    if known is None or suffix not in known.writers:
        raise ValueError(f"{Path(path).name} is not written: the output must end in {writable()}")
    if known.extra is not None:
        require(known.extra, *known.needs, purpose=f"writing {Path(path).name}")
    return known.writers[suffix]


def is_vectors_path(data: object) -> bool:
    """Whether this names a file or folder of vectors, not an item."""
    if isinstance(data, Path | VectorSource):
        return True
    if not isinstance(data, str):
        return False
    try:
        return is_store_url(data) or format_of(data) is not None or Path(data).is_dir()
    except OSError:  # a text that is too long for a path
        return False


def _refuse_dataset_options(source: VectorSource, what: str) -> None:
    if source.split is not None or source.config is not None or source.revision is not None:
        raise InvalidLatentsError(
            f"split, config and revision are of a dataset, and {what}: leave them out"
        )


def _open_folder(source: VectorSource, folder: Path) -> VectorReader:
    if source.split is not None or source.config is not None or shards.is_saved(folder):
        return _open_dataset(source)
    files = shards.files_in(folder)
    opened = [open_vectors(replace(source, path=str(file))) for file in files]
    return shards.ShardsReader(source, opened)


def _open_dataset(source: VectorSource) -> VectorReader:
    # a function-level import: the command line's help reads the registry, without the Hub's client
    from hf_latent_bridge.vectors.datasets import DatasetReader

    return DatasetReader(source)


def _is_repo_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


register(
    VectorFormat(
        "npy",
        (".npy",),
        "NumPy array",
        matrix.open_npy,
        writers.NPY,
        compressed=True,
        plain=True,
    )
)
register(VectorFormat("npz", (".npz",), "archive of NumPy arrays", matrix.open_npz, writers.NPZ))
register(
    VectorFormat(
        "safetensors",
        (".safetensors",),
        "named tensors",
        matrix.open_safetensors,
        writers.SAFETENSORS,
        plain=True,
    )
)
register(
    VectorFormat(
        "vecs",
        (".fvecs", ".dvecs", ".bvecs", ".ivecs"),
        "rows after their width (TEXMEX)",
        matrix.open_vecs,
        writers.VECS,
        plain=True,
    )
)
register(
    VectorFormat(
        "bin",
        (".fbin", ".f16bin", ".hbin", ".u8bin", ".i8bin", ".ibin"),
        "matrix after its shape (big-ann-benchmarks)",
        matrix.open_bin,
        writers.BIN,
        plain=True,
    )
)
register(
    VectorFormat(
        "parquet",
        (".parquet", ".pq"),
        "Parquet table",
        tables.ParquetReader,
        writers.PARQUET,
        needs=("pyarrow",),
        extra="encoders",
    )
)
register(
    VectorFormat(
        "jsonl",
        (".jsonl", ".ndjson"),
        "a JSON value per line",
        lines.open_lines,
        writers.JSON_LINES,
        compressed=True,
        plain=True,
    )
)
register(
    VectorFormat(
        "json",
        (".json",),
        "JSON array or object",
        lines.open_json,
        writers.JSON,
        compressed=True,
        plain=True,
    )
)
register(
    VectorFormat("csv", (".csv",), "CSV", text.open_csv, writers.CSV, compressed=True, plain=True)
)
register(
    VectorFormat(
        "tsv",
        (".tsv", ".tab"),
        "CSV with tabs",
        text.open_csv,
        writers.TSV,
        compressed=True,
        plain=True,
    )
)
register(
    VectorFormat(
        "text",
        (".txt", ".vec"),
        "word2vec, GloVe or numpy.savetxt",
        text.open_text,
        writers.WORD2VEC,
        compressed=True,
        plain=True,
    )
)
register(
    VectorFormat(
        "arrow",
        (".arrow", ".feather", ".ipc"),
        "Arrow or Feather table",
        tables.ArrowReader,
        writers.ARROW,
        needs=("pyarrow",),
        extra="encoders",
    )
)
register(
    VectorFormat("faiss", (".faiss", ".index"), "FAISS index", indexes.open_faiss, writers.FAISS)
)
register(
    VectorFormat(
        "hdf5",
        (".hdf5", ".h5"),
        "HDF5 dataset",
        hdf5.Hdf5Reader,
        writers.HDF5,
        needs=("h5py",),
        extra="hdf5",
    )
)
