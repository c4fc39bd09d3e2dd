"""Pairs from stores: vectors beside the texts they were made of, or two stores matched by id."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.items import Items, Screen, Unreadable
from hf_latent_bridge.data.pairs import Pairs
from hf_latent_bridge.data.sampling import check_size, priorities, smallest
from hf_latent_bridge.errors import BadRowError, InvalidPairsError
from hf_latent_bridge.vectors.columns import VectorColumn, select
from hf_latent_bridge.vectors.fields import steps
from hf_latent_bridge.vectors.formats import open_vectors
from hf_latent_bridge.vectors.ids import NAMES
from hf_latent_bridge.vectors.lines import follow
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource
from hf_latent_bridge.vectors.stores.base import StoreReader

Place = str | Path | VectorSource
OnBadRow = Literal["stop", "skip"]
_BLOCK = 1024
_KEY = "id"  # as the key of a store's row is called
_SHOWN = 12  # fields in an error
_AGAIN = "has the id of an earlier row"


def load_stored_pairs(
    vectors: Place,
    text_field: str = "text",
    *,
    side: Literal["source", "target"] = "source",
    max_pairs: int | None = None,
    seed: int = 0,
    on_bad_row: OnBadRow = "stop",
    progress: bool = False,
) -> Pairs:
    """Pairs of stored vectors and the texts beside them, for the other side's encoder.

    The rows are read once, in a stream, and only those that are sampled are kept in memory.

    Args:
        vectors: A store's URL, a file of vectors with texts beside them (Parquet, JSON lines, CSV,
            ...), or a `VectorSource` that says how to read one.
        text_field: The field or column with the texts; a path such as `meta.text` for one inside.
        side: Which side the stored vectors are: "source" to translate them into the space of a new
            encoder of the texts, "target" for the reverse.
        max_pairs: Take a uniform sample of this many usable rows; None for all.
        seed: Seeds the sample.
        on_bad_row: "stop" at the first row whose vector or text is missing, empty or of another
            kind, or whose id came before; "skip" such rows and count them in `dataset`.
        progress: Show a progress bar.

    Raises:
        BadRowError: A bad row; names its number, id and what is wrong.
        InvalidPairsError: No row has the field, or none is usable.
        InvalidLatentsError: No vectors, or several columns of them and none is named.
        StoreError: There is no such collection.
        StoreUnavailableError: The store does not answer.
    """
    if side not in ("source", "target"):
        raise ValueError(f"side must be 'source' or 'target', got {side!r}")
    if on_bad_row not in ("stop", "skip"):
        raise ValueError(f"on_bad_row must be 'stop' or 'skip', got {on_bad_row!r}")
    if max_pairs is not None:
        check_size(max_pairs)
    reader = open_vectors(vectors)
    scan = _Scan(reader, text_field, max_pairs, seed, on_bad_row)
    scan.run(progress=progress)
    record = {"text_field": text_field, "rows": scan.n_read, "max_pairs": max_pairs}
    record |= {"seed": None if max_pairs is None else seed, "rows_skipped": scan.n_bad or None}
    known = {name: value for name, value in record.items() if value is not None}
    stored, texts = scan.vectors(), scan.texts()
    if side == "source":
        return Pairs(stored, texts, known, scan.rows)
    return Pairs(texts, stored, known, scan.rows)


@dataclass
class _Scan:
    """One pass over stored rows, which keeps a sample of the usable ones."""

    reader: VectorReader
    text_field: str
    size: int | None
    seed: int
    on_bad_row: OnBadRow
    n_read: int = 0
    n_bad: int = 0
    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    _keys: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    _kept: list[tuple[Any, str]] = field(default_factory=list)
    _has_field: bool = False
    _seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._screens = Screen(latents=True), Screen(latents=False)

    def run(self, *, progress: bool) -> None:
        """Reads all rows.

        Raises:
            BadRowError: A bad row, if they are not skipped.
            InvalidPairsError: No row has the field, or none is usable.
        """
        from tqdm.auto import tqdm

        with tqdm(total=self.reader.n, unit="row", desc="read", disable=not progress) as bar:
            for part in self.reader.guarded(0, self.reader.n, _BLOCK, True):
                self._add(part)
                bar.update(len(part.vectors))
        if self.n_read and not self._has_field:
            raise self._no_field([])
        if not len(self.rows):
            raise InvalidPairsError(
                f"{self.reader.source.path} has no usable row: {self.n_read:,} were read and "
                f"{self.n_bad:,} of them lack a vector or a text"
            )
        order = np.argsort(self.rows)
        self.rows = self.rows[order]
        self._kept = [self._kept[i] for i in order]

    def vectors(self) -> Any:
        """The vectors of the sample (n, d), in the order of their rows."""
        return np.stack([vector for vector, _ in self._kept])

    def texts(self) -> list[str]:
        """Their texts."""
        return [text for _, text in self._kept]

    def _add(self, part: Part) -> None:
        beside = _objects(part)
        texts = [_value(row, self.text_field) for row in beside]
        if not self._has_field:
            self._look_for_field(beside)
        bad = self._reasons(part.vectors, texts, beside)
        first = self.n_read
        self.n_read += len(texts)
        self.n_bad += len(bad)
        if bad and self.on_bad_row == "stop":
            index = min(bad)
            raise BadRowError(
                f"{self.reader.source.path}: {_named(beside[index], first + index)} {bad[index]}: "
                "fix it, or skip bad rows with on_bad_row='skip' (--on-bad-row skip)"
            )
        good = np.array([i for i in range(len(texts)) if i not in bad], np.int64)
        keys = priorities(good + first, self.seed)
        if self.size is not None and len(self._keys) >= self.size:
            good, keys = good[keys < self._keys.max()], keys[keys < self._keys.max()]
        self.rows = np.concatenate([self.rows, good + first])
        self._keys = np.concatenate([self._keys, keys])
        self._kept += [(np.array(part.vectors[i]), texts[i]) for i in good.tolist()]  # no views
        if self.size is not None and len(self.rows) > self.size:
            chosen = smallest(self._keys, self.size)
            self.rows, self._keys = self.rows[chosen], self._keys[chosen]
            self._kept = [self._kept[i] for i in chosen.tolist()]

    def _look_for_field(self, rows: Sequence[Any]) -> None:
        self._has_field = any(_value(row, self.text_field) is not None for row in rows)
        if not self._has_field and self.on_bad_row == "stop" and len(rows):
            raise self._no_field(rows)

    def _no_field(self, rows: Sequence[Any]) -> InvalidPairsError:
        if self.text_field in self.reader.unfit:
            return _lacking(self.reader, self.text_field, ())
        names = _names(rows)
        there = f"; they have {names[:_SHOWN]}" if names else ""
        where = f"{self.reader.source.path}: none of the first {len(rows):,} rows"
        if not rows:
            where = f"{self.reader.source.path}: none of {self.n_read:,} rows"
        return InvalidPairsError(f"{where} has a text in the field {self.text_field!r}{there}")

    def _reasons(self, vectors: Items, texts: list[Any], rows: Sequence[Any]) -> dict[int, str]:
        """Why rows cannot be used, by their index."""
        known = (str, Unreadable, type(None))
        texts = [t if isinstance(t, known) else Unreadable(_not_text(t)) for t in texts]
        of_vectors, of_texts = (
            screen.reasons(items)
            for screen, items in zip(self._screens, (vectors, texts), strict=True)
        )
        again = dict.fromkeys(self._repeated(rows), _AGAIN)
        found = {i: f"has a vector that {reason}" for i, reason in of_vectors.items()}
        found |= {i: f"has a {self.text_field} that {reason}" for i, reason in of_texts.items()}
        return again | found

    def _repeated(self, rows: Sequence[Any]) -> Iterator[int]:
        """Rows of a file whose id came before; a store has each id once."""
        if isinstance(self.reader, StoreReader):
            return
        for index, row in enumerate(rows):
            key = _id_of(row)
            if key is None:
                continue
            code = _code(key)
            if code in self._seen:
                yield index
            self._seen.add(code)


def load_matched_pairs(
    source: Place,
    target: Place,
    *,
    id_field: str | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    on_bad_row: OnBadRow = "stop",
) -> Pairs:
    """Pairs the rows of two stores or files of vectors that have the same id, in any order.

    Each side's ids are read once, and kept as 8 bytes a row. Vectors are read when needed; if the
    target's rows are in another order, they are read into memory.

    Args:
        source: The source vectors: a store's URL, a file, or a `VectorSource`.
        target: The target vectors.
        id_field: The field with the ids, a path such as `meta.id` for one inside; in a store that
            has no such field, the key of its rows. None for the one of the usual names that both
            have.
        max_pairs: Take a uniform sample of this many rows that both have; None for all.
        seed: Seeds the sample.
        on_bad_row: "stop" at a row without an id or with that of an earlier row, or "skip" it.

    Raises:
        BadRowError: A missing or repeated id.
        InvalidPairsError: No such field, no id that both have, or stdin.
    """
    if on_bad_row not in ("stop", "skip"):
        raise ValueError(f"on_bad_row must be 'stop' or 'skip', got {on_bad_row!r}")
    if max_pairs is not None:
        check_size(max_pairs)
    readers = open_vectors(source), open_vectors(target)
    if any(reader.n is None for reader in readers):
        raise InvalidPairsError("rows are matched by reading them twice, and stdin is read once")
    name = id_field or _common_name(readers)
    sides = [_read_ids(reader, name, on_bad_row) for reader in readers]
    _, *places = np.intersect1d(
        sides[0].codes, sides[1].codes, assume_unique=True, return_indices=True
    )
    rows = [side.rows[place] for side, place in zip(sides, places, strict=True)]
    if not len(rows[0]):
        shown = " and ".join(str(side.shown) for side in sides)
        raise InvalidPairsError(f"no {name} is in both: they begin with {shown}")
    order = np.argsort(rows[0])
    rows = [side[order] for side in rows]
    n_common = len(order)
    record: dict[str, Any] = {"matched_by": name}
    if max_pairs is not None and max_pairs < n_common:
        chosen = smallest(priorities(rows[0], seed), max_pairs)
        rows = [side[chosen] for side in rows]
        record |= {"max_pairs": max_pairs, "seed": seed}
    for label, side in zip(("source", "target"), sides, strict=True):
        if alone := len(side.codes) - n_common:
            record[f"only_in_{label}"] = alone
    if skipped := sum(side.n_bad for side in sides):
        record["rows_skipped"] = skipped
    columns = [_column(reader, own) for reader, own in zip(readers, rows, strict=True)]
    return Pairs(columns[0], columns[1], record, rows[0])


def read_field(vectors: Place, name: str) -> list[Any]:
    """What each row has in a field beside its vector, such as its class; None where nothing.

    Args:
        vectors: A store's URL, a file, or a `VectorSource`.
        name: The field or column; a path such as `meta.class` for one inside.

    Raises:
        InvalidPairsError: No row has the field, or stdin.
    """
    reader = open_vectors(vectors)
    if reader.n is None:
        raise InvalidPairsError(f"{name!r} is read by itself, and stdin is read once: give a file")
    found: list[Any] = []
    names: dict[str, None] = {}
    for part in reader.guarded(0, reader.n, _BLOCK, True):
        rows = _objects(part)
        names |= dict.fromkeys(_names(rows))
        found += [_value(row, name) for row in rows]
    if all(value is None for value in found):
        raise _lacking(reader, name, list(names))
    return [None if isinstance(value, Unreadable) else value for value in found]


def _lacking(
    reader: VectorReader, name: str, names: Sequence[str], use: str = ""
) -> InvalidPairsError:
    """What to tell of a field that no row has."""
    if name in reader.unfit:
        return InvalidPairsError(
            f"{reader.source.path}: {name!r} must have {reader.n:,} values, one for each row of "
            f"{reader.column!r}, got {reader.unfit[name]:,}"
        )
    there = [other for other in names if other != reader.column][:_SHOWN]
    return InvalidPairsError(
        f"{reader.source.path} has no field {name!r}{use}: it has "
        f"{there or 'nothing beside its vectors; a .parquet or .jsonl file can have fields'}"
    )


@dataclass(frozen=True)
class _Ids:
    """The ids of a side, each once, as numbers; the row of each, and some of them as they are."""

    codes: npt.NDArray[np.uint64]
    rows: Rows
    n_bad: int
    shown: list[str]


def _read_ids(reader: VectorReader, name: str, on_bad_row: OnBadRow) -> _Ids:
    """Reads the ids of a side.

    Raises:
        InvalidPairsError: None of the first rows has the field.
        BadRowError: One is missing or repeated, and they are not skipped.
    """
    blocks: list[npt.NDArray[np.uint64]] = []
    shown: list[str] = []
    missing: list[int] = []
    n, field = 0, name
    for part in reader.guarded(0, reader.n, _BLOCK, True):
        rows = _objects(part)
        if n == 0 and isinstance(reader, StoreReader):
            lacking = all(_value(row, name) is None for row in rows)
            field = _KEY if lacking else name  # a store has its own name for the key of a row
        found = [_value(row, field) for row in rows]
        keys = [None if isinstance(key, Unreadable) else key for key in found]
        if n == 0 and keys and all(key is None for key in keys):
            raise _lacking(reader, name, _names(rows), " by which rows could be matched")
        missing += [n + i for i, key in enumerate(keys) if key is None]
        known = [key for key in keys if key is not None]
        shown += [str(key) for key in known[: max(0, 3 - len(shown))]]
        blocks.append(np.frombuffer(b"".join(map(_code, known)), np.uint64))
        n += len(keys)
    codes = np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)
    numbers = np.setdiff1d(np.arange(n), missing)
    _, first = np.unique(codes, return_index=True)
    bad = dict.fromkeys(np.delete(numbers, first).tolist(), f"has the {name} of an earlier row")
    bad |= dict.fromkeys(missing, f"has no {name}")
    if bad and on_bad_row == "stop":
        row = min(bad)
        raise BadRowError(
            f"{reader.source.path}: row {row} {bad[row]}: fix it, or skip bad rows with "
            "on_bad_row='skip' (--on-bad-row skip)"
        )
    first = np.sort(first)
    return _Ids(codes[first], numbers[first], len(bad), shown)


def _column(reader: VectorReader, rows: Rows) -> Any:
    """Rows of a side: read when needed where they ascend, else now."""
    column = VectorColumn(reader)
    ascending = bool((np.diff(rows) > 0).all())
    return select(column, rows) if ascending else column.read(rows)


def _common_name(readers: tuple[VectorReader, VectorReader]) -> str:
    names = [_first_names(reader) for reader in readers]
    common = next((name for name in NAMES if all(name in held for held in names)), None)
    if common is None:
        raise InvalidPairsError(
            f"rows are matched by an id that both sides have: {names[0][:_SHOWN]} and "
            f"{names[1][:_SHOWN]} have none of {list(NAMES)}; name it by id_field"
        )
    return common


def _first_names(reader: VectorReader) -> list[str]:
    part = next(reader.guarded(0, 1, 1, True), None)
    return [] if part is None else _names(_objects(part))


def _objects(part: Part) -> list[Any]:
    """What rows hold besides their vectors."""
    if part.payload is None:
        return [{} for _ in range(len(part.vectors))]
    return list(part.payload.objects(np.empty((len(part.vectors), 0))))


def _names(rows: Sequence[Any]) -> list[str]:
    """The fields of rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))


def _value(row: Any, field: str) -> Any:
    """What a row holds in a field, or at a path such as `meta.text`; None where it has none."""
    if isinstance(row, dict) and field in row:
        return row[field]
    return follow(row, steps(field))


def _id_of(row: Any) -> Any:
    if not isinstance(row, dict):
        return None
    return next((row[name] for name in NAMES if row.get(name) is not None), None)


def _code(key: Any) -> bytes:
    """Eight bytes that tell an id from others; as text, for a CSV file knows no numbers."""
    return hashlib.blake2b(str(key).encode(errors="surrogatepass"), digest_size=8).digest()


def _named(row: Any, number: int) -> str:
    key = _id_of(row)
    return f"row {number}" if key is None else f"row {number} (id {key!r:.40})"


def _not_text(value: Any) -> str:
    return f"is not a text, but {type(value).__name__} {value!r:.30}"
