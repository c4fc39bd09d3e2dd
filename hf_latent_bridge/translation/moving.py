"""The rows' way from one collection into another: moved once, then compared until both agree."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from operator import eq
from typing import Any, NamedTuple

import numpy as np

from hf_latent_bridge.data.items import Array, Screen
from hf_latent_bridge.errors import InvalidLatentsError, StoreError
from hf_latent_bridge.hubness import Hubness, Metric
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.translation.folding import Folding, with_bank
from hf_latent_bridge.translation.job import describe_translator
from hf_latent_bridge.translation.pipeline import overlapped, progress_bar
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.vectors.stores.arrow_payload import (
    Columns,
    chosen,
    differences,
    values_of,
    with_text,
)
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Place, Records
from hf_latent_bridge.vectors.stores.beside import Beside

VIEW = "latent_bridge_view"  # field of the payload that names the view a vector came from

_PASSES = 10
_KEYS = 10_000  # keys at a time, where nothing else is read
_CLOSE = 1e-3  # relative error of what a store gives back; float16 keeps 5e-4


@dataclass(frozen=True)
class Conversion:
    """What becomes of the rows of a collection.

    Attributes:
        translator: Translates their vectors.
        folding: How the translations are folded, for a store that corrects for hubs; None for not.
        view: The view of a shared space that they come from, noted in each row; None for a plain
            translation.
    """

    translator: Translator
    folding: Folding | None = None
    view: str | None = None

    @classmethod
    def of(
        cls,
        translator: Translator,
        metric: Metric,
        hubness: Hubness | None,
        bank: Latents | None,
        n_neighbors: int,
    ) -> "Conversion":
        """A translation, folded for a store that ranks by `metric` where `hubness` is "csls".

        Raises:
            ValueError: An unknown correction, a bank without one, or none to be had.
            InvalidLatentsError: The bank has another width than the translator's target.
        """
        if hubness is None:
            if bank is not None:
                raise ValueError("a bank of queries is for hubness='csls' (--hubness csls)")
            return cls(translator)
        if hubness != "csls":
            raise ValueError(f"hubness must be 'csls' or None, got {hubness!r}")
        folding = Folding("items", bank, n_neighbors, metric)
        return cls(translator, with_bank(folding, translator))

    @property
    def dim(self) -> int:
        """Width of the new vectors."""
        dim = self.translator.target_.dim
        return dim if self.folding is None else self.folding.width(dim)

    def vectors(self, old: Array) -> Array:
        """The new vectors of some rows.

        Raises:
            InvalidLatentsError: Another width than the translator's source, NaN or infinity.
        """
        translated: Array = self.translator.transform(old)
        if self.folding is None:
            return translated
        folded: Array = self.folding.fold(as_tensor(translated)).numpy()
        return folded

    def to_dict(self) -> dict[str, Any]:
        """What must not change between a run and its resumption, as JSON values."""
        return {
            "translator": describe_translator(self.translator),
            "folding": self.folding and self.folding.to_dict(),
            "view": self.view,
        }


class Settled(NamedTuple):
    """How source and target came to agree.

    Attributes:
        written: Rows that the target lacked.
        replaced: Rows whose vector or payload was another in the source meanwhile.
        checked: Rows that were read from both and compared in the last pass, which is all.
    """

    written: int
    replaced: int
    checked: int


class Move:
    """Moves the rows of one collection into another.

    Only one batch is in memory at a time. Which rows are done is never noted: the target itself
    says so, and each of its rows is compared with the conversion of the source's row.
    """

    def __init__(
        self, conversion: Conversion, old: Collection, new: Collection, *, size: int, progress: bool
    ) -> None:
        self._conversion, self._old, self._new, self._size = conversion, old, new, size
        self._keys_size = max(size, _KEYS)
        self._same = old.url.container == new.url.container
        self._layout = new.layout()
        self._progress = progress
        self._first: Key | None = None  # the id of some row, of the kind that all others must be

    def all(self) -> int:
        """Moves all rows; for a target that is empty."""
        with self._bar("translate") as bar:
            return self._insert(self._old.scan(self._size, payloads=not self._same), bar)

    def rest(self) -> int:
        """Moves the rows that the target lacks; for one that an earlier run has begun to fill."""
        with self._bar("translate") as bar:
            return self._insert(self._lacking(bar), bar)

    def _insert(self, rows: Iterable[Records], bar: Any) -> int:
        written = 0
        for _, records in self._converted(rows):
            self._new.insert(records)
            written += len(records.ids)
            bar.update(len(records.ids))
        return written

    def _converted(self, rows: Iterable[Records]) -> Iterator[tuple[Records, Records]]:
        return overlapped(self._convert, rows, apart=self._old.threads and self._new.threads)

    def _lacking(self, bar: Any) -> Iterator[Records]:
        """The source's rows that the target lacks; those that it does not lack move the bar.

        An earlier run has moved the first ones, so that keys alone are read as far as it came.
        """
        keys = self._old.all_keys() if self._new.quick_keys else None
        if keys is not None:
            yield from self._lacking_of(keys, bar)
            return
        done = self._agreed(bar)
        beside = self._beside(vectors=False, payloads=False, after=done)
        for records in self._old.scan(self._size, payloads=not self._same, after=done):
            lacking = beside.lacking(records.ids)
            if len(lacking) < len(records.ids):
                bar.update(len(records.ids) - len(lacking))
            if lacking:
                yield records if len(lacking) == len(records.ids) else _some(records, lacking)

    def _agreed(self, bar: Any) -> Place | None:
        """How far the target holds the source's rows in the same order, by their keys alone.

        Where its last row is the source's of that number, it seems to hold the first ones alone,
        and the others are not read: `settle` will compare them.
        """
        end = None if self._same else self._new.place_after()
        if end is not None and end == self._old.place_after(end.rows):
            bar.update(end.rows)
            return end
        done, size = None, self._keys_size
        pages = self._new.scan(size, vectors=False, payloads=False)
        theirs = chain.from_iterable(page.ids for page in pages)
        for page in self._old.scan(size, vectors=False, payloads=False):
            there = self._new.present(page.ids) if self._same else set[Key]()
            held = map(there.__contains__, page.ids) if self._same else map(eq, page.ids, theirs)
            n = sum(takewhile(bool, held))
            if n:
                done = Place(n + (done.rows if done else 0), page.ids[n - 1])
                bar.update(n)
            if n < len(page.ids):
                break
        return done

    def _lacking_of(self, keys: list[Key], bar: Any) -> Iterator[Records]:
        """Those of some rows of the source that the target lacks.

        Where it seems to hold the first ones alone, they are not asked for: `settle` will compare
        them. Each row that is given has been asked for.
        """
        begun = min(self._new.count(), len(keys))
        last, following = keys[max(0, begun - 1) : begun], keys[begun : begun + 1]
        if self._new.present([*last, *following]) != set(last):
            begun = 0
        bar.update(begun)
        for start in range(begun, len(keys), self._size):
            ids = keys[start : start + self._size]
            there = self._new.present(ids)
            bar.update(len(there))
            if lacking := [key for key in ids if key not in there]:
                yield self._old.fetch(lacking, payloads=not self._same)

    def settle(self) -> Settled:
        """Moves rows that were added or replaced meanwhile, until a pass over all finds none.

        Raises:
            StoreError: Rows change faster than they are moved, or came meanwhile with a key that
                another one has, or the store does not give back what was written.
        """
        written = replaced = 0
        for i in range(_PASSES):
            if i > 1:  # of two rows with one key each pass finds the other one
                self._old.check_keys()
            found = self._pass()
            if not found.written + found.replaced:
                return Settled(written, replaced, found.checked)
            written, replaced = written + found.written, replaced + found.replaced
        raise StoreError(
            f"rows of {self._old.url} are added or replaced faster than they are moved: pass "
            f"{_PASSES} over all rows still found some; run it again at a quieter time"
        )

    def remove_deleted(self) -> int:
        """Removes rows of the target that the source no longer has."""
        if self._same:
            return 0
        view, gone = self._conversion.view, list[Key]()
        beside = Beside(self._old, self._keys_size, vectors=False, payloads=False)
        size = self._keys_size if view is None else self._size
        with self._bar("compare") as bar:
            for records in self._new.scan(size, vectors=False, payloads=view is not None):
                ours = self._is_ours(records)
                gone += [records.ids[row] for row in beside.lacking(records.ids) if ours[row]]
                bar.update(len(records.ids))
        for first in range(0, len(gone), self._size):
            self._new.delete(gone[first : first + self._size])
        return len(gone)

    def index(self) -> None:
        """Makes the nearest rows quick to find, in a store that does so when all are there."""
        if rows := self._new.unindexed():
            with progress_bar(rows, self._progress, "index") as bar:
                self._new.index_vectors(self._old.layout().metric)
                bar.update(rows)

    def _pass(self) -> Settled:
        written = replaced = checked = 0
        ends = self._new.place_after(), self._old.place_after()
        if ends[0] and ends[1] and ends[0].rows > ends[1].rows and (twice := self._new.doubles()):
            self._new.delete(twice)  # this pass finds them lacking
        with self._bar("compare") as bar:
            beside = self._beside(payloads=not self._same)
            rows = self._old.scan(self._size, payloads=not self._same)
            for _, records in self._converted(rows):
                lacking, differing = self._compare(records, beside.rows(records.ids))
                if wrong := lacking + differing:
                    self._write_again(_some(records, wrong))
                written += len(lacking)
                replaced += len(differing)
                checked += len(records.ids)
                bar.update(len(records.ids))
        return Settled(written, replaced, checked)

    def _beside(
        self, *, vectors: bool = True, payloads: bool, after: Place | None = None
    ) -> Beside:
        """The target's rows; those of the source that lack the new vector are not among them."""
        how = {"vectors": vectors, "payloads": payloads, "by_keys": self._same, "index": True}
        return Beside(self._new, self._size if vectors else self._keys_size, after=after, **how)

    def _compare(self, wanted: Records, found: Records) -> tuple[list[int], list[int]]:
        """Which rows the target lacks, and which it holds with another vector or payload."""
        if (
            found.ids == wanted.ids
            and found.payloads == wanted.payloads
            and not _differ(_vectors(found), _vectors(wanted), self._layout).any()
        ):
            return [], []
        place = {key: row for row, key in enumerate(found.ids)}
        lacking = [i for i, key in enumerate(wanted.ids) if key not in place]
        there = [i for i, key in enumerate(wanted.ids) if key in place]
        if not there:
            return lacking, []
        rows = [place[wanted.ids[i]] for i in there]
        stored = np.stack([np.asarray(_vectors(found)[row]) for row in rows])
        others = _differ(stored, _vectors(wanted)[there], self._layout)
        if found.payloads is not None and wanted.payloads is not None:
            others |= _unequal(chosen(wanted.payloads, there), chosen(found.payloads, rows))
            ours = self._is_ours(found)
            others &= [ours[row] for row in rows]
        return lacking, [i for i, other in zip(there, others.tolist(), strict=True) if other]

    def _is_ours(self, found: Records) -> list[bool]:
        """Whether rows of the target came from the source; others were encoded by another model."""
        if self._conversion.view is None:
            return [True] * len(found.ids)
        return [view == self._conversion.view for view in values_of(found.payloads or [], VIEW)]

    def _write_again(self, records: Records) -> None:
        self._new.index_keys()
        self._new.write(records)
        found = self._new.fetch(records.ids, payloads=not self._same)
        lacking, differing = self._compare(records, found)
        if wrong := lacking + differing:
            raise StoreError(
                f"{self._new.url}: row {records.ids[wrong[0]]!r} is not what was written: "
                f"{_difference(_some(records, wrong[:1]), found)}. Does the store keep vectors and "
                "payloads as they are? Roll back, and choose another target"
            )

    def _convert(self, records: Records) -> Records:
        self._check_rows(records)
        vectors = convert(self._conversion, records, self._old)
        payloads, view = records.payloads, self._conversion.view
        if view is not None:
            if any(value is not None for value in values_of(payloads or [], VIEW)):
                raise StoreError(
                    f"rows of {self._old.url} have a field {VIEW!r} already: rename it"
                )
            payloads = with_text(payloads or [], VIEW, view)
        return Records(records.ids, vectors, payloads)

    def _check_rows(self, records: Records) -> None:
        """Refuses rows with ids or payloads that another store cannot hold."""
        if self._old.url.scheme == self._new.url.scheme or not records.ids:
            return
        self._first = records.ids[0] if self._first is None else self._first
        try:
            self._new.check_takes([self._first, *records.ids], target=self._new.url)
            self._new.check_holds(records, target=self._new.url)
        except StoreError as error:
            raise StoreError(
                f"{error}. The rows before them are in {self._new.url}, and stay: change these in "
                f"{self._old.url} and start again, or take all away with --rollback"
            ) from error

    def _bar(self, doing: str) -> Any:
        return progress_bar(self._old.count(), self._progress, doing)


def convert(conversion: Conversion, records: Records, old: Collection) -> Array:
    """The new vectors of some rows.

    Raises:
        StoreError: A row has no vector.
        InvalidLatentsError: A vector is not finite.
    """
    vectors = records.vectors
    if not isinstance(vectors, np.ndarray):
        reasons = Screen(latents=True).reasons(vectors or [])
        first, reason = next(iter(reasons.items()))
        raise StoreError(
            f"{old.url}: {len(reasons)} of {len(records.ids)} rows cannot be translated, such as "
            f"{records.ids[first]!r}, whose vector {reason}: delete them or give them another one"
        )
    try:
        return conversion.vectors(vectors)
    except InvalidLatentsError as error:
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        row = f"row {records.ids[bad[0]]!r}: " if len(bad) else ""
        raise InvalidLatentsError(f"{old.url}: {row}{error}") from error


def _some(records: Records, rows: list[int]) -> Records:
    payloads = None if records.payloads is None else chosen(records.payloads, rows)
    vectors = records.vectors
    if isinstance(vectors, np.ndarray):
        vectors = vectors[rows]
    elif vectors is not None:
        vectors = [vectors[row] for row in rows]
    return Records([records.ids[row] for row in rows], vectors, payloads)


def _vectors(records: Records) -> Array:
    vectors: Array = np.asarray(records.vectors)
    return vectors


def _differ(stored: Array, expected: Array, layout: Layout) -> Array:
    """Which stored vectors are not the expected ones; cosine stores may keep directions alone."""
    if np.array_equal(stored, expected):
        return np.zeros(len(stored), bool)
    a, b = stored.astype(np.float64), expected.astype(np.float64)
    if layout.metric == "cosine":
        a, b = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30) for v in (a, b))
    limit = _CLOSE * np.maximum(np.linalg.norm(b, axis=1), 1e-30)
    differ: Array = ~(np.linalg.norm(a - b, axis=1) <= limit)
    return differ


def _difference(wanted: Records, found: Records) -> str:
    """How a row that was found differs from the one that is wanted, in words."""
    if wanted.ids[0] not in found.ids:
        return "it is not there"
    payloads = (wanted.payloads or [], found.payloads or [])
    if all(payloads):
        row = found.ids.index(wanted.ids[0])
        if fields := differences(payloads[0], chosen(payloads[1], [row])):
            return " and ".join(fields[:3])
    return "its vector is another"


def _unequal(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> list[bool]:
    """Which payloads differ, compared as Arrow has them where both are from there."""
    if isinstance(a, Columns) and isinstance(b, Columns) and a.is_like(b):
        return a.differing(b)
    return [not _equal(*pair) for pair in zip(a, b, strict=True)]


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a == b or repr(a) == repr(b)  # NaN differs from itself
