"""Checks and reads the files that a visitor sends, as data only: nothing is unpickled."""

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from limits import Refusal, check_upload

from hf_latent_bridge import Pairs, load_pairs
from hf_latent_bridge.data.items import Unreadable
from hf_latent_bridge.errors import InvalidLatentsError, LatentBridgeError
from hf_latent_bridge.latents import as_tensor, check_finite
from hf_latent_bridge.vectors.formats import plain_suffixes

MAX_VECTORS = 20 * 2**20  # bytes
MAX_ROWS = 20_000
MAX_WIDTH = 2_048  # a rotation between spaces twice as wide takes minutes on two cores
MAX_TABLE = 5 * 2**20  # bytes
MAX_TABLE_ROWS = 2_000
MAX_FILES = 2_000
MAX_TOTAL = 100 * 2**20  # bytes of a side's files


@dataclass(frozen=True)
class VectorFiles:
    """Two files of vectors, row by row the same items; no number is read yet.

    Attributes:
        source: The file of the vectors to map from.
        target: The file of the vectors to map to.
        stored: Their rows.
    """

    source: Path
    target: Path
    stored: Pairs

    def measure(self) -> tuple[int, int, int]:
        """Rows and both widths.

        Raises:
            Refusal: Too wide, or no two matrices.
            LatentBridgeError: A damaged file.
        """
        d_source, d_target = (_width(file, column) for file, column in self._columns())
        return len(self.stored), d_source, d_target

    def read(self) -> Pairs:
        """All rows, (n, d) each, in memory.

        Raises:
            Refusal: As `measure`.
            LatentBridgeError: A damaged file, or rows with NaN.
        """
        self.measure()
        return Pairs(*(_matrix(file, column) for file, column in self._columns()))

    def _columns(self) -> list[tuple[Path, Any]]:
        return [(self.source, self.stored.source), (self.target, self.stored.target)]


@contextmanager
def vector_files(source: str | None, target: str | None) -> Iterator[VectorFiles]:
    """Two files of vectors, as copies of this job's own.

    Gradio keeps one file for all visitors who send the same bytes, and touches it each time.

    Raises:
        Refusal: None there, too large, too many rows, or of a format that is not plain.
        LatentBridgeError: No two matrices with as many rows, or a damaged file.
    """
    files = [_vector_file(source, "source"), _vector_file(target, "target")]
    with TemporaryDirectory() as folder:
        own = []
        for side, file in zip(("source", "target"), files, strict=True):
            (Path(folder) / side).mkdir()
            own.append(Path(shutil.copyfile(file, Path(folder) / side / file.name)))
        with _by_name(own):
            stored = load_pairs((own[0], own[1]))
            if len(stored) > MAX_ROWS:
                raise Refusal(f"The files may have {MAX_ROWS:,} rows; these have {len(stored):,}.")
            yield VectorFiles(own[0], own[1], stored)


@contextmanager
def _by_name(files: Sequence[Path]) -> Iterator[None]:
    """Within the block, errors name files as the visitor does, without the folders of a job."""
    try:
        yield
    except LatentBridgeError as error:
        text = str(error)
        for file in files:
            text = text.replace(str(file), file.name)
        raise InvalidLatentsError(text) from None


def read_vectors(source: str | None, target: str | None) -> Pairs:
    """The rows of two files of vectors, (n, d) each, in memory.

    Raises:
        Refusal: As `vector_files` and `VectorFiles.read`.
        LatentBridgeError: No two matrices with as many rows, or a damaged file.
    """
    with vector_files(source, target) as files:
        return files.read()


def _matrix(file: Path, column: Any) -> Any:
    try:
        vectors = as_tensor(column[:])
    except InvalidLatentsError as error:
        raise Refusal(f"{file.name} holds no matrix: {error}.") from None
    check_finite(vectors, file.name)
    return vectors.numpy()


def check_files(files: Sequence[str]) -> None:
    """Refuses more files of items, or larger ones, than are read here.

    Raises:
        Refusal: There are more than 2,000, one is gone, or they have more than 100 MB.
    """
    if len(files) > MAX_FILES:
        raise Refusal(f"Up to {MAX_FILES:,} files are read; these are {len(files):,}.")
    total = sum(check_upload(file).stat().st_size for file in files)
    if total > MAX_TOTAL:
        raise Refusal(
            f"The files have {total / 2**20:,.1f} MB; {MAX_TOTAL // 2**20} MB are the most here."
        )


def read_table(path: str, source: str, target: str) -> Pairs:
    """Two columns of a csv file with a header line.

    Raises:
        Refusal: Too large, no UTF-8, no csv, or without these columns.
    """
    file = check_upload(path)
    _check_size(file, MAX_TABLE)
    try:
        text = file.read_bytes().decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = list(table.fieldnames or ())
        rows = list(islice(table, MAX_TABLE_ROWS + 1))
    except UnicodeDecodeError:
        raise Refusal(f"{file.name} is not UTF-8 text: save it as csv in UTF-8.") from None
    except csv.Error as error:
        raise Refusal(f"{file.name} cannot be read as csv: {error}.") from None
    if len(rows) > MAX_TABLE_ROWS:
        raise Refusal(f"A csv may have {MAX_TABLE_ROWS:,} rows; this one has more.")
    for name in (source, target):
        if (count := columns.count(name)) > 1:
            raise Refusal(f"{file.name} has {count} columns named {name!r}: rename all but one.")
        if not count:
            known = ", ".join(repr(column[:40]) for column in columns[:20])
            raise Refusal(f"{file.name} has the columns {known or '(none)'}, and not {name!r}.")
    return Pairs([row[source] for row in rows], [row[target] for row in rows])


def _width(file: Path, column: Any) -> int:
    try:
        width = int(np.shape(column)[1])
    except LatentBridgeError:
        raise
    except (ValueError, IndexError):
        raise Refusal(f"{file.name} holds no matrix: {_flaw(column[:])}.") from None
    if not 1 <= width <= MAX_WIDTH:
        raise Refusal(
            f"{file.name} is {width:,} wide; vectors may have 1 to {MAX_WIDTH:,} columns."
        )
    return width


def _flaw(rows: Any) -> str:
    """Why rows make no matrix, with the first row to blame."""
    for row, vector in enumerate(rows):
        if isinstance(vector, Unreadable):
            return f"row {row:,} {vector.reason}"
        if np.shape(vector) != np.shape(rows[0]):
            widths = " and ".join(f"{np.size(each):,}" for each in (rows[0], vector))
            return f"rows 0 and {row:,} are {widths} wide"
    return "its rows are not all of one width"


def _vector_file(path: str | None, side: str) -> Path:
    if not path:
        raise Refusal(f"Please upload a file of {side} vectors.")
    file = check_upload(path)
    _check_size(file, MAX_VECTORS)
    if file.suffix.lower() not in plain_suffixes():
        taken = ", ".join(plain_suffixes())
        raise Refusal(f"{file.name} is not taken here; files of vectors end in {taken}.")
    return file


def _check_size(file: Path, most: int) -> None:
    size = file.stat().st_size
    if size > most:
        raise Refusal(
            f"{file.name} has {size / 2**20:,.1f} MB; {most // 2**20} MB are the most here."
        )
