"""The registry of the formats that vectors are read from and written to."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors import lines, matrix, tables
from hf_latent_bridge.vectors.opening import COMPRESSED, is_compressed, plain_suffix
from hf_latent_bridge.vectors.reader import VectorReader, VectorSource


@dataclass(frozen=True)
class VectorFormat:
    """A kind of file that holds vectors.

    Attributes:
        name: Its name.
        suffixes: The ends of file names by which it is known, in lower case.
        description: What it holds, in a few words, for help texts.
        open: Opens such a file.
        compressed: Whether such a file may be compressed as a whole, `.jsonl.gz` for example.
        needs: Packages that reading it imports.
        extra: The extra of this library that installs them.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    open: Callable[[VectorSource], VectorReader]
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


register(VectorFormat("npy", (".npy",), "NumPy array", matrix.open_npy, compressed=True))
register(VectorFormat("npz", (".npz",), "archive of NumPy arrays", matrix.open_npz))
register(VectorFormat("safetensors", (".safetensors",), "named tensors", matrix.open_safetensors))
register(VectorFormat("vecs", (".fvecs", ".dvecs", ".bvecs", ".ivecs"), "TEXMEX", matrix.open_vecs))
register(
    VectorFormat(
        "bin",
        (".fbin", ".f16bin", ".hbin", ".u8bin", ".i8bin", ".ibin"),
        "big-ann-benchmarks",
        matrix.open_bin,
    )
)
register(
    VectorFormat(
        "parquet",
        (".parquet", ".pq"),
        "Parquet table",
        tables.ParquetReader,
        needs=("pyarrow",),
        extra="encoders",
    )
)
register(
    VectorFormat(
        "jsonl", (".jsonl", ".ndjson"), "a JSON value per line", lines.JsonLines, compressed=True
    )
)
register(VectorFormat("json", (".json",), "JSON array or object", lines.open_json, compressed=True))
