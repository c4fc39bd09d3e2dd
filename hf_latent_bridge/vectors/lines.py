"""Vectors in JSON lines and JSON files, alone or inside objects with ids, texts and metadata."""

import abc
import hashlib
import io
import json
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import NoneType
from typing import Any, Self

import numpy as np

from hf_latent_bridge.data.items import Array, Unreadable
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import (
    COLUMN,
    find_field,
    is_well_known,
    steps,
    without_columns,
)
from hf_latent_bridge.vectors.ids import check_lengths
from hf_latent_bridge.vectors.numbers import FLOAT32, is_vector_text, parse_json, scaled
from hf_latent_bridge.vectors.opening import is_compressed, open_bytes
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, stacked, whole

STRIDE = 64  # rows between two places in a file that are remembered
EMPTY_LINE = Unreadable("is an empty line")
SAMPLE = 100  # first rows, among which one must show where the vectors are
_CHUNK = 2**20
_WHOLE = 2**30  # a JSON file that holds one object is read whole, up to this size


@dataclass(frozen=True)
class Spot:
    """Where the vector is in a JSON value: at a path of keys, or one key per dimension."""

    name: str
    keys: tuple[str | int, ...] = ()
    columns: tuple[str, ...] = ()

    def get(self, value: Any) -> Array | Unreadable | None:
        """The vector; None where it is missing."""
        if not self.columns:
            return parse_json(follow(value, self.keys))
        if not isinstance(value, dict):
            return parse_json(value)
        return parse_json([_number(value.get(column)) for column in self.columns])

    def put(self, value: Any, vector: list[float]) -> Any:
        """The value with another vector; the rest is shared."""
        if not self.columns:
            return _replaced(value, self.keys, vector)
        if not isinstance(value, dict):
            return value
        others = {key: v for key, v in value.items() if key not in self.columns}
        return others | {self.name: vector}


@dataclass(frozen=True)
class Objects:
    """Rows as JSON values, each with its vector at `spot`."""

    values: list[Any]
    spot: Spot

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, start: int, stop: int) -> Self:
        """The payload of some of the rows."""
        return type(self)(self.values[start:stop], self.spot)

    def joined(self, others: "list[Objects]") -> Self:
        """This payload followed by others."""
        parts: list[Objects] = [self, *others]
        return type(self)([value for part in parts for value in part.values], self.spot)

    def objects(self, vectors: Array) -> list[Any]:
        """The values with other vectors, (n, d)."""
        rows = zip(self.values, vectors.tolist(), strict=True)
        return [self.spot.put(value, vector) for value, vector in rows]

    def table(self, vectors: Array) -> Any:
        """An Arrow table with a column for each key at the top, and the vectors in one of them.

        A vector from further inside gets a column of its own, and is null in its old place.
        """
        import pyarrow

        from hf_latent_bridge.vectors.tables import array_of, vector_array

        values = self.objects(np.full(len(self), None))
        rows = [value if isinstance(value, dict) else {} for value in values]
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: array_of([row.get(name) for row in rows]) for name in names}
        return pyarrow.table(columns | {self.spot.name: vector_array(vectors)})


def objects_beside(columns: dict[str, list[Any]], name: str) -> Objects:
    """Rows of columns beside vectors that a format keeps apart, with room for them at `name`."""
    rows = zip(*columns.values(), strict=True)
    values = [{**dict(zip(columns, row, strict=True)), name: None} for row in rows]
    return Objects(values, Spot(name, (name,)))


class JsonReader(VectorReader):
    """Rows that are JSON values, as float32. A kind of file implements `values`."""

    dtype = FLOAT32
    dim = None
    hop: int | None = 8

    def __init__(self, source: VectorSource) -> None:
        super().__init__(source)
        self._spot: Spot | None = None

    @abc.abstractmethod
    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """The rows as parsed JSON values; Unreadable for one that is not JSON."""

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Parses rows; those before `start` are passed over unparsed where that can be."""
        values = self.values(start, stop)
        while block := list(islice(values, size)):
            spot = self._spot or self._settle(block)
            vectors = [scaled(spot.get(v), self.source.scale, self.integers) for v in block]
            yield Part(stacked(vectors), Objects(block, spot) if payload else None)

    def _settle(self, sample: Sequence[Any]) -> Spot:
        """Finds where the vectors are, in the first row that shows it."""
        where = "stdin" if self.source.path == "-" else self.source.path
        self._spot = self._find(sample, where)
        self.column = self._spot.name
        first = next(
            (v for row in sample if isinstance(v := self._spot.get(row), np.ndarray)), None
        )
        if first is not None:
            self.integers = bool((first == np.round(first)).all())
            shown = scaled(first, self.source.scale, self.integers)
            self.dim = len(shown) if isinstance(shown, np.ndarray) else None
        return self._spot

    def _find(self, sample: Sequence[Any], where: str) -> Spot:
        return _find_spot(sample, self.source.column, where)

    def looked(self) -> Self:
        """The reader, when it has found the vectors in its first rows.

        Raises:
            InvalidLatentsError: No vectors in them, or several columns and none is named.
        """
        with whole(self.source.path):
            if sample := list(islice(self.values(0, self.n), SAMPLE)):
                self._settle(sample)
        return self


class JsonLines(JsonReader):
    """One JSON value a line, in a file."""

    def __init__(self, source: VectorSource) -> None:
        """Counts the rows and remembers where some of them begin."""
        super().__init__(source)
        self._file = Path(source.path)
        self.hop = None if is_compressed(self._file) else self.hop
        with whole(source.path, "file of JSON lines"):
            self.n, self._places = index_lines(self._file)

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """Parses the lines from `start` to `stop`."""
        for line in lines_from(self._file, self._places, start, stop):
            yield _parsed(line)


class JsonStream(JsonReader):
    """One JSON value a line, from stdin; read once."""

    n = None

    def __init__(self, source: VectorSource) -> None:
        super().__init__(source)
        self._hash = hashlib.sha256()

    def identity(self) -> dict[str, Any]:
        """The hash of what was read so far."""
        return {"name": "-", "sha256": self._hash.hexdigest()}

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """Parses lines as they come."""
        return map(_parsed, islice(_without_blank_end(self._lines()), start, stop))

    def _lines(self) -> Iterator[bytes]:
        for line in sys.stdin.buffer:
            self._hash.update(line)
            yield line


class JsonArray(JsonReader):
    """The elements of one JSON array, parsed one after another."""

    hop = None

    def __init__(self, source: VectorSource) -> None:
        """Counts the rows."""
        super().__init__(source)
        with whole(source.path, "JSON file"):
            self.n = sum(1 for _ in self.values(0, None))

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """Parses the array and skips the elements before `start`."""
        with io.TextIOWrapper(open_bytes(Path(self.source.path)), "utf-8-sig") as stream:
            yield from islice(_elements(stream), start, stop)


class JsonRows(JsonReader):
    """Rows that were found in one JSON object, an API's answer for example."""

    def __init__(self, source: VectorSource, rows: list[Any]) -> None:
        super().__init__(source)
        self._rows, self.n = rows, len(rows)

    def values(self, start: int, stop: int | None) -> Iterator[Any]:
        """The rows from `start` to `stop`."""
        return iter(self._rows[start:stop])


def open_lines(source: VectorSource) -> JsonReader:
    """A file of JSON lines.

    Raises:
        InvalidLatentsError: No vectors in it, or several columns and none is named.
    """
    return JsonLines(source).looked()


def json_values(source: VectorSource) -> JsonReader | None:
    """The elements of an array in a `.json` file, or its lines; None where it is one object."""
    path = Path(source.path)
    with whole(path, "JSON file"), open_bytes(path) as stream:
        head = stream.read(_CHUNK).removeprefix(BOM_UTF8).lstrip()
    if head[:1] == b"[" and head[1:].lstrip()[:1] in b'[{"n]':
        return JsonArray(source)
    first, _, rest = head.partition(b"\n")
    lines = isinstance(_parsed(first), list) or (_is_json(first) and rest.strip())
    return JsonLines(source) if lines else None


def open_json(source: VectorSource) -> JsonReader:
    """A `.json` file: an array of rows, an object that holds them, or JSON lines.

    Raises:
        InvalidLatentsError: Not JSON, or no vectors in it, or several and none is named.
    """
    if (reader := json_values(source)) is not None:
        return reader.looked()
    path = Path(source.path)
    with whole(path, "JSON file"), open_bytes(path) as stream:
        content = stream.read(_WHOLE + 1)
        if len(content) > _WHOLE:
            raise InvalidLatentsError(
                f"{path} is one JSON object of more than {_WHOLE >> 30} GiB: save its rows as "
                "JSON lines, which are read one by one"
            )
        document = json.loads(content.removeprefix(BOM_UTF8))
    rows, column = _rows_of(document, source)
    return JsonRows(replace(source, column=column), rows).looked()


def index_lines(path: Path) -> tuple[int, list[int]]:
    """Number of lines up to the last that is not blank, and where every 64th begins."""
    count, filled, places, at = 0, 0, [], 0
    with open_bytes(path) as stream:
        for line in stream:
            if count % STRIDE == 0:
                places.append(at)
            at, count = at + len(line), count + 1
            filled = count if line.strip() else filled
    return filled, places


def lines_from(path: Path, places: list[int], start: int, stop: int | None) -> Iterator[bytes]:
    """The lines from `start` to `stop`, reached from a place before them."""
    if not places or (stop is not None and start >= stop):
        return
    with open_bytes(path) as stream:
        stream.seek(places[start // STRIDE])
        skip = start % STRIDE
        yield from islice(stream, skip, None if stop is None else skip + stop - start)


def follow(value: Any, keys: Sequence[str | int]) -> Any:
    """What is at a path of keys and positions; None where it ends before."""
    for key in keys:
        if isinstance(value, dict) and isinstance(key, str):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        elif isinstance(value, Unreadable):
            return value
        else:
            return None
    return value


def _number(value: Any) -> Any:
    """A cell of CSV as a number; None for an empty cell, other texts unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value) if value.strip() else None
    except ValueError:
        return value


def _replaced(value: Any, keys: Sequence[str | int], new: Any) -> Any:
    """A copy with something else at a path; a row without a place for it stays as it is."""
    if not keys:
        return new
    inside = isinstance(value, dict) if isinstance(keys[0], str) else isinstance(value, list)
    if not inside or (isinstance(keys[0], int) and keys[0] >= len(value)):
        return value
    copied: Any = value.copy()
    copied[keys[0]] = _replaced(follow(value, keys[:1]), keys[1:], new)
    return copied


def _parsed(line: bytes) -> Any:
    line = line.removeprefix(BOM_UTF8).strip()
    if not line:
        return EMPTY_LINE
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return Unreadable(f"is not JSON: {line[:40].decode(errors='replace')!r}")


def _is_json(line: bytes) -> bool:
    return not isinstance(_parsed(line), Unreadable | None)


def _without_blank_end(lines: Iterator[bytes]) -> Iterator[bytes]:
    blank: list[bytes] = []
    for line in lines:
        if line.strip():
            yield from (*blank, line)
            blank = []
        else:
            blank.append(line)


def _elements(stream: io.TextIOWrapper) -> Iterator[Any]:
    """The elements of a JSON array; memory holds one chunk of its text."""
    decoder, text, size = json.JSONDecoder(), stream.read(_CHUNK).lstrip()[1:], _CHUNK
    ended = False
    while True:
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            after = chain([text[1:]], iter(partial(stream.read, _CHUNK), ""))
            if any(part.strip() for part in after):
                raise ValueError("it goes on after its array: save it as JSON lines")
            return
        try:
            element, end = decoder.raw_decode(text)
        except ValueError:
            if ended:
                raise
            more = stream.read(size)
            text, ended, size = text + more, not more, size * 2
            continue
        yield element
        text, size = text[end:], _CHUNK


def _find_spot(sample: Sequence[Any], wanted: str | None, where: str) -> Spot:
    rows = [row for row in sample if isinstance(row, dict)]
    if not rows and any(isinstance(row, list | str) for row in sample):
        if wanted is not None:
            raise without_columns(where, wanted)
        return Spot(COLUMN)
    if not rows:
        bad = next((r.reason for r in sample if isinstance(r, Unreadable)), "is not an object")
        raise InvalidLatentsError(
            f"{where}: row 0 must be a list of numbers, or an object that holds one: it {bad}"
        )
    if wanted is not None and "*" not in wanted:
        keys = (wanted,) if any(wanted in row for row in rows) else steps(wanted)
        if any(follow(row, keys) is not None for row in rows):
            return Spot(wanted, keys)
    vectors = next(filter(None, map(candidates, rows)), {})
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {name: {type(row.get(name)) for row in rows} - {NoneType} for name in names}
    numbers = [name for name, held in kinds.items() if held and held <= {int, float}]
    others = [name for name, held in kinds.items() if not held <= {int, float}]
    field = find_field(where, wanted, list(vectors), numbers, others)
    if field.is_wide:
        return Spot(field.title(names), columns=field.columns)
    return Spot(field.name, vectors[field.name])


Keys = tuple[str | int, ...]


def candidates(value: Any) -> dict[str, Keys]:
    """Paths to what can be a vector, the least deep ones; lists of floats before other lists."""
    level: list[tuple[Keys, Any]] = [((), value)]
    while level:
        kinds = [(keys, _kind(keys, v)) for keys, v in level]
        if best := max(kind for _, kind in kinds):
            return {_path(keys): keys for keys, kind in kinds if kind == best}
        level = [inner for keys, v in level for inner in _inside(keys, v)]
    return {}


def _path(keys: Keys) -> str:
    """Keys as a text such as `body.data[0].embedding`."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).removeprefix(".")


def _inside(keys: Keys, value: Any) -> list[tuple[Keys, Any]]:
    if isinstance(value, dict):
        return [((*keys, key), v) for key, v in value.items()]
    if isinstance(value, list) and len(value) <= 16 and all(isinstance(v, dict) for v in value):
        return [((*keys, i), v) for i, v in enumerate(value)]
    return []


def _kind(keys: Keys, value: Any) -> int:
    """2 for a list of floats or its text, or one that is named so; 1 for other numbers, else 0."""
    known = is_well_known(str(keys[-1])) if keys else False
    if isinstance(value, str):
        return 2 if is_vector_text(value) or (known and _is_base64(value)) else 0
    if not isinstance(value, list) or not isinstance(parse_json(value), np.ndarray):
        return 0
    return 2 if known or any(isinstance(number, float) for number in value) else 1


def _is_base64(text: str) -> bool:
    vector = parse_json(text)
    return isinstance(vector, np.ndarray) and len(vector) > 0 and bool(np.isfinite(vector).all())


def _rows_of(document: Any, source: VectorSource) -> tuple[list[Any], str | None]:
    """The rows in an object, and the column's name in them.

    They are a list of objects with vectors, or lists side by side; an object without such lists
    is itself the only row. A column may be named from the top: `data[].embedding`.
    """
    wanted = source.column
    if rows := _rows_below_names(document):
        return rows, wanted
    found = _lists_of_rows(document, source.path)
    if wanted is not None:
        for path, rows in found:
            inner = re.sub(rf"^{re.escape(path)}(\[\*?\])?\.", "", wanted)
            if path and inner != wanted:
                return rows, inner
    if not found:
        return [document], wanted
    if len(found) > 1:
        paths = [path for path, _ in found]
        raise InvalidLatentsError(
            f"{source.path} holds several lists of rows, {paths}: name one as column, such as "
            f"{paths[0]}[].embedding"
        )
    return found[0][1], wanted


def _rows_below_names(document: Any) -> list[Any]:
    """Rows whose names are held once, as `DataFrame.to_json(orient="split")` writes them."""
    if not isinstance(document, dict) or not {"columns", "data"} <= document.keys():
        return []
    names, data = document["columns"], document["data"]
    if not isinstance(names, list) or not isinstance(data, list):
        return []
    if not all(isinstance(row, list) and len(row) == len(names) for row in data):
        return []
    return [dict(zip(map(str, names), row, strict=True)) for row in data]


def _lists_of_rows(document: Any, where: str) -> list[tuple[str, list[Any]]]:
    """The least deep lists of rows, each with its path."""
    level: list[tuple[Keys, Any]] = [((), document)]
    while level:
        found = [(_path(at), rows) for keys, v in level for at, rows in _tables(keys, v, where)]
        if found:
            return found
        level = [inner for keys, value in level for inner in _inside(keys, value)]
    return []


def _tables(keys: Keys, value: Any, where: str) -> list[tuple[Keys, list[Any]]]:
    """Lists of objects with vectors in an object, or the rows of its lists of equal length."""
    if not isinstance(value, dict):
        return []
    lists = {key: v for key, v in value.items() if isinstance(v, list) and v}
    found: list[tuple[Keys, list[Any]]] = [
        ((*keys, key), rows)
        for key, rows in lists.items()
        if all(isinstance(row, dict) for row in rows) and candidates(rows[0])
    ]
    named = list(value.values())
    if len(named) > 1 and all(isinstance(row, dict) and candidates(row) for row in named):
        found.append((keys, [{"id": key, **row} for key, row in value.items()]))
    matrices = {key: v for key, v in lists.items() if isinstance(v[0], list) and _kind((), v[0])}
    if matrices and not found:
        (name, matrix), *others = matrices.items()
        n = len(matrix)
        lengths = {key: len(v) for key, v in value.items() if isinstance(v, list)}
        check_lengths(where, name, n, lengths, [len(v) for _, v in others])
        columns = {key: v for key, v in lists.items() if len(v) == n}
        found.append((keys, [{key: v[row] for key, v in columns.items()} for row in range(n)]))
    return found
