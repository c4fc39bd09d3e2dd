"""Vectors in text: CSV and TSV, and the text of word2vec, GloVe and `numpy.savetxt`."""

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_latent_bridge.data.items import Array, Unreadable
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import find_field, is_well_known
from hf_latent_bridge.vectors.lines import (
    EMPTY_LINE,
    SAMPLE,
    STRIDE,
    JsonReader,
    Objects,
    Spot,
    index_lines,
    lines_from,
    open_lines,
)
from hf_latent_bridge.vectors.numbers import FLOAT32, is_vector_text, parse_vector
from hf_latent_bridge.vectors.opening import is_compressed, open_bytes, plain_suffix
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, stacked, whole

_DELIMITERS = (",", ";", "\t", "|")
_CELL = 2**27  # characters that a cell may have
TOKEN, VECTOR = "token", "vector"


class CsvReader(JsonReader):
    """Rows of a CSV or TSV file: a column of texts such as `[0.1, 0.2]`, or one per dimension."""

    def __init__(self, source: VectorSource) -> None:
        """Reads the header, counts the rows and remembers where some of them begin."""
        super().__init__(source)
        self._file = Path(source.path)
        self.hop = None if is_compressed(self._file) else self.hop
        self._headed = False
        with whole(source.path, "CSV file"):
            self._delimiter = _delimiter(self._file)
            self._blanks = _blanks_follow(self._file, self._delimiter)
            self._names, first = self._header()
            self.n, self._places = self._index(first)

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """The rows from `start` to `stop`, as objects of texts."""
        if stop is not None and start >= stop:
            return
        skip = start % STRIDE
        rows = (row for row, _ in self._rows(self._places[start // STRIDE]))
        for cells in islice(rows, skip, None if stop is None else skip + stop - start):
            yield self._named(cells)

    def _find(self, sample: Sequence[Any], where: str) -> Spot:
        rows = [row for row in sample if isinstance(row, dict)]
        vectors = [name for name in self._names if _shows_vector(name, rows)]
        wanted = self.source.column
        if wanted in self._names and wanted not in vectors:
            shown = next((row[wanted] for row in rows if row[wanted]), "")
            if isinstance(parse_vector(shown), np.ndarray):
                vectors.append(str(wanted))
        numbers = [name for name in self._names if _are_numbers([row[name] for row in rows])]
        if not self._headed and len(numbers) > 1 and _are_ids([[*row.values()] for row in rows]):
            numbers.remove(self._names[0])
        others = [name for name in self._names if name not in numbers]
        field = find_field(where, wanted, vectors, numbers, others)
        columns = field.columns if field.is_wide else ()
        return Spot(field.title(self._names), (field.name,), columns)

    def _named(self, cells: list[str]) -> Any:
        if not cells:
            return EMPTY_LINE
        if len(cells) != len(self._names):
            return Unreadable(f"has {len(cells)} cells, it must have {len(self._names)}")
        return dict(zip(self._names, cells, strict=True))

    def _header(self) -> tuple[list[str], int]:
        """Names of the columns, numbers where there is no header; and where the rows begin."""
        cells, end = next(self._rows(0), ([], 0))
        if not cells:
            raise ValueError("it is empty")
        if _is_header(cells):
            if len(set(cells)) < len(cells):
                twice = [name for name, count in Counter(cells).items() if count > 1]
                raise InvalidLatentsError(
                    f"{self.source.path}: several columns are named {twice}: rename them"
                )
            self._headed = True
            return cells, end
        return [str(number) for number in range(len(cells))], 0

    def _index(self, first: int) -> tuple[int, list[int]]:
        count, filled, places, at = 0, 0, [first], first
        for cells, end in self._rows(first):
            if count and count % STRIDE == 0:
                places.append(at)
            at, count = end, count + 1
            filled = count if cells else filled
        return filled, places

    def _rows(self, at: int) -> Iterator[tuple[list[str], int]]:
        """Rows as cells, each with the place where it ends; cells may hold line breaks."""
        csv.field_size_limit(max(csv.field_size_limit(), _CELL))
        place = at

        def lines(stream: BinaryIO) -> Iterator[str]:
            nonlocal place
            for line in stream:
                place += len(line)
                yield line.decode("utf-8-sig" if place == len(line) else "utf-8")

        with open_bytes(self._file) as stream:
            stream.seek(at)
            dialect: dict[str, Any] = {"delimiter": self._delimiter, "strict": True}
            rows = csv.reader(lines(stream), skipinitialspace=self._blanks, **dialect)
            try:
                for cells in rows:
                    yield cells, place
            except csv.Error as error:
                raise ValueError(f"line {rows.line_num} is not CSV: {error}") from error


class TextReader(VectorReader):
    """A vector a line: numbers between blanks, often after a token, as word2vec and GloVe write."""

    dtype = FLOAT32
    hop: int | None = 8

    def __init__(self, source: VectorSource) -> None:
        """Counts the rows, and looks at the first ones for the width."""
        super().__init__(source)
        self._file = Path(source.path)
        self.hop = None if is_compressed(self._file) else self.hop
        with whole(source.path, "text file of vectors"):
            lines, self._places = index_lines(self._file)
            shown = lines_from(self._file, self._places, 0, min(lines, SAMPLE))
            sample = [line.removeprefix(BOM_UTF8) for line in shown]
            header = _word2vec_header(sample)
            self._skip = _comments(sample) if header is None else 1
            self.n = lines - self._skip
            if header is None:
                self.dim, self._tokens = _shape_of(sample[self._skip :])
            else:
                rows, self.dim = header
                self._tokens = True
                if rows != self.n:
                    raise ValueError(f"its header announces {rows:,} rows, it has {self.n:,}")

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Parses lines."""
        first, last = start + self._skip, (self.n if stop is None else stop) or 0
        lines = lines_from(self._file, self._places, first, last + self._skip)
        while block := [self._parsed(line) for line in islice(lines, size)]:
            vectors = stacked([vector for _, vector in block])
            tokens = [{TOKEN: token, VECTOR: None} for token, _ in block]
            wanted = payload and self._tokens
            yield Part(vectors, Objects(tokens, Spot(VECTOR, (VECTOR,))) if wanted else None)

    def _parsed(self, line: bytes) -> tuple[str, Array | Unreadable | None]:
        line, dim = line.removeprefix(BOM_UTF8), self.dim or 0
        fields = line.rsplit(None, dim) if self._tokens else line.split()
        if not fields:
            return "", EMPTY_LINE
        token = fields.pop(0).decode(errors="replace") if self._tokens else ""
        if len(fields) != dim:
            return token, Unreadable(f"has {len(fields)} numbers, it must have {dim}")
        try:
            return token, np.array([float(field) for field in fields], FLOAT32)
        except ValueError:
            short = line[:40].decode(errors="replace")
            return token, Unreadable(f"does not end in {dim} numbers: {short!r}")


class VectorLines(JsonReader):
    """The text of a vector a line, such as `[0.1 0.2]` or `{0.1,0.2}`."""

    def __init__(self, source: VectorSource) -> None:
        """Counts the rows."""
        super().__init__(source)
        self._file = Path(source.path)
        self.hop = None if is_compressed(self._file) else self.hop
        with whole(source.path, "text file of vectors"):
            self.n, self._places = index_lines(self._file)

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """The lines as texts."""
        for line in lines_from(self._file, self._places, start, stop):
            yield line.decode("utf-8-sig") if line.strip() else EMPTY_LINE


def open_csv(source: VectorSource) -> VectorReader:
    """A CSV or TSV file.

    Raises:
        InvalidLatentsError: No vectors in it, or several columns and none is named.
    """
    return CsvReader(source).looked()


def open_text(source: VectorSource) -> VectorReader:
    """A `.txt` or `.vec` file, whatever spells the vectors in it.

    Raises:
        InvalidLatentsError: No vectors in it.
    """
    path = Path(source.path)
    with whole(path, "text file of vectors"), open_bytes(path) as stream:
        first = next((line for line in stream if line.strip()), b"").decode("utf-8-sig", "replace")
    if first.lstrip().startswith('{"'):
        return open_lines(source)
    if is_vector_text(first):
        return VectorLines(source).looked()
    last = (first.split() or [""])[-1]
    cells = first.split(",")
    if len(cells) > 1 and ("," in last or not _is_number(last) or all(map(_is_number, cells))):
        return open_csv(source)
    return TextReader(source)


def _delimiter(path: Path) -> str:
    """What stands between cells: a tab in `.tsv`, else the first of several that the header has."""
    if plain_suffix(path) in (".tsv", ".tab"):
        return "\t"
    with open_bytes(path) as stream:
        header = stream.readline().decode("utf-8-sig", "replace")
    bare = "".join(header.split('"')[::2])
    return next((delimiter for delimiter in _DELIMITERS if delimiter in bare), ",")


def _blanks_follow(path: Path, delimiter: str) -> bool:
    """Whether a blank stands after each delimiter of the first line, as in `id, text, vector`."""
    with open_bytes(path) as stream:
        cells = stream.readline().decode("utf-8-sig", "replace").split(delimiter)
    return len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])


def _is_header(cells: list[str]) -> bool:
    """Whether the first row names the columns: no number in it, or only 0, 1, 2, ..."""
    if any(is_vector_text(cell) for cell in cells):
        return False
    numbers = [cell for cell in cells if _is_number(cell)]
    counted = [[str(first + i) for i in range(len(numbers))] for first in (0, 1)]
    return not numbers or (len(numbers) > 1 and numbers in counted)


def _shows_vector(name: str, rows: Sequence[dict[str, str]]) -> bool:
    shown = next((row[name] for row in rows if row[name].strip()), "")
    if is_vector_text(shown):
        return True
    known = is_well_known(name) and not _is_number(shown)
    return known and isinstance(parse_vector(shown), np.ndarray)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers or empty, and not all are empty."""
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(map(_is_number, filled))


def _word2vec_header(sample: Sequence[bytes]) -> tuple[int, int] | None:
    """Rows and width from a first line of two whole numbers; None if it is another."""
    fields = sample[0].split() if sample else []
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    rows, dim = map(int, fields)
    if len(sample) > 1 and len(sample[1].split()) <= dim:
        return None
    return rows, dim


def _comments(sample: Sequence[bytes]) -> int:
    """How many first lines are comments, as `numpy.savetxt` writes them above rows of numbers."""
    count = len(list(takewhile(lambda line: line.startswith(b"#"), sample)))
    tokens = count and _shape_of(sample[count:])[1]  # a token may be "#"
    return 0 if tokens else count


def _shape_of(sample: Sequence[bytes]) -> tuple[int | None, bool]:
    """The width of most rows, and whether a token stands before the numbers."""
    rows = [line.decode(errors="replace").split() for line in sample if line.strip()]
    if not rows:
        return None, False
    counts = [_numbers_at_end(fields) for fields in rows]
    tokens = any(count < len(fields) for count, fields in zip(counts, rows, strict=True))
    if not tokens and all(len(fields) > 1 for fields in rows) and _are_ids(rows):
        return Counter(counts).most_common(1)[0][0] - 1, True
    dim = Counter(counts).most_common(1)[0][0]
    if dim == 0:
        short = sample[0][:40].decode(errors="replace")
        raise ValueError(f"its rows do not end in numbers: {short!r}")
    return dim, tokens


def _numbers_at_end(fields: Sequence[str]) -> int:
    count = 0
    for field in reversed(fields):
        if not _is_number(field):
            break
        count += 1
    return count


def _are_ids(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first numbers are whole and all different, and others are not whole."""
    first = [row[0] for row in rows]
    fractions = any("." in field for row in rows for field in row[1:])
    return fractions and len(set(first)) == len(rows) > 1 and all(f.isdigit() for f in first)
