"""The registry of the formats that vectors are read from and written to."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors import lines, matrix, tables, writers
from hf_latent_bridge.vectors.opening import COMPRESSED, is_compressed, plain_suffix
from hf_latent_bridge.vectors.reader import VectorReader, VectorSource
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
        needs: Packages that reading it imports.
        extra: The extra of this library that installs them.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    open: Callable[[VectorSource], VectorReader]
    writers: Mapping[str, Writer] = field(default_factory=dict)
    compressed: bool = False
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
        source: What to read, or the name of a file.
        column: With a name: the column, key, tensor or array with the vectors.

    Raises:
        FileNotFoundError: No such file.
        InvalidLatentsError: A file of another kind, without vectors, or cut short; or several
            columns could be meant and none is named.
        ImportError: Reading this format needs a package that is not installed.
    """
    if not isinstance(source, VectorSource):
        source = VectorSource(str(source), column)
    if source.path == "-":
        return lines.JsonStream(source)
    path = Path(source.path)
    known = format_of(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if known is None:
        raise InvalidLatentsError(f"{path} is not read: vectors are read from {readable()}")
    check_installed(known)
    return known.open(source)


def writable() -> str:
    """All suffixes that are written, for help texts and errors."""
    suffixes = [suffix for known in FORMATS.values() for suffix in known.writers]
    return f"{', '.join(suffixes)} (text formats also as {', '.join(COMPRESSED)})"


def writer_of(path: str | Path) -> Writer:
    """How a file of this name is written.

    Raises:
        ValueError: Files of such a name are not written; lists what is.
        ImportError: Writing this format needs a package that is not installed.
    """
    known, suffix = format_of(path), plain_suffix(Path(path))
    if known is None or suffix not in known.writers:
        raise ValueError(f"{Path(path).name} is not written: the output must end in {writable()}")
    check_installed(known)
    return known.writers[suffix]


def check_installed(known: VectorFormat) -> None:
    """Refuses a format before its package is missed.

    Raises:
        ImportError: Names the extra to install.
    """
    missing = [name for name in known.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{', '.join(known.suffixes)} files are read with {' and '.join(missing)}: "
            f"pip install 'hf-latent-bridge[{known.extra}]'"
        )


register(
    VectorFormat("npy", (".npy",), "NumPy array", matrix.open_npy, writers.NPY, compressed=True)
)
register(VectorFormat("npz", (".npz",), "archive of NumPy arrays", matrix.open_npz, writers.NPZ))
register(
    VectorFormat(
        "safetensors",
        (".safetensors",),
        "named tensors",
        matrix.open_safetensors,
        writers.SAFETENSORS,
    )
)
register(
    VectorFormat(
        "vecs",
        (".fvecs", ".dvecs", ".bvecs", ".ivecs"),
        "TEXMEX",
        matrix.open_vecs,
        writers.VECS,
    )
)
register(
    VectorFormat(
        "bin",
        (".fbin", ".f16bin", ".hbin", ".u8bin", ".i8bin", ".ibin"),
        "big-ann-benchmarks",
        matrix.open_bin,
        writers.BIN,
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
        lines.JsonLines,
        writers.JSON_LINES,
        compressed=True,
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
    )
)
