"""migrate: a store's vectors translated into a new collection beside the old one, and switched."""

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from hf_latent_bridge._version import __version__
from hf_latent_bridge.atomic import locked, write_atomic
from hf_latent_bridge.data.items import Array
from hf_latent_bridge.encoders.cache import default_cache_dir
from hf_latent_bridge.errors import CheckpointError, InvalidLatentsError, StoreError
from hf_latent_bridge.files import read_config
from hf_latent_bridge.translation.job import describe_translator
from hf_latent_bridge.translation.pipeline import progress_bar
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.vectors.stores.base import Collection, Key, Layout, Records
from hf_latent_bridge.vectors.stores.registry import TIMEOUT, open_collection

_PASSES = 10
_CHECKED = 256
_CLOSE = 1e-3  # relative error of what a store gives back; float16 keeps 5e-4
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Migration:
    """What `migrate` has done.

    Attributes:
        source: URL of the old vectors, which are untouched.
        target: URL of the new ones.
        rows: How many rows the target holds, as many as the source.
        written: Rows that this run has translated and written; fewer where a run was resumed.
        removed: Rows that had been deleted from the source meanwhile.
        checked: Rows read back and compared with their translation.
        alias: The alias that now names the target's collection.
        seconds: Time of this run.
    """

    source: str
    target: str
    rows: int
    written: int
    removed: int
    checked: int
    alias: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        rate = f" ({self.written / self.seconds:,.0f} rows/s)" if self.written else ""
        lines = [
            f"{self.rows:,} rows in {self.target}",
            f"{self.written:,} written now in {self.seconds:,.1f} s{rate}; "
            f"{self.checked:,} read back and compared",
        ]
        if self.removed:
            lines.append(f"{self.removed:,} had been deleted from the source, and were removed")
        if self.alias:
            lines.append(f"the alias {self.alias!r} now names it")
        lines.append(f"{self.source} is as it was")
        return "\n".join(lines)


@dataclass(frozen=True)
class MigrationPlan:
    """What a migration would do; nothing was written.

    Attributes:
        source: URL of the old vectors.
        target: URL of the new ones.
        rows: How many rows would be translated.
        dim: Width now.
        target_dim: Width after.
        target_bytes: Size of the new vectors, as float32 and without the store's index.
        seconds: Time to read and translate all, from a sample; the store's writing comes on top.
        tokens: Estimated tokens in all texts, from a sample; None without a text field.
        price: What encoding those again would cost; None without a price.
    """

    source: str
    target: str
    rows: int
    dim: int
    target_dim: int
    target_bytes: int
    seconds: float
    tokens: int | None = None
    price: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.rows:,} rows of {self.source} ({self.dim} wide)",
            f"would be translated into {self.target} ({self.target_dim} wide, "
            f"{self.target_bytes / 1e6:,.1f} MB of vectors)",
            f"about {self.seconds:,.0f} s to read and translate, and the store's time to write",
        ]
        if self.tokens is not None:
            cost = "" if self.price is None else f", {self.price:,.2f} at the price given"
            lines.append(f"encoding again would take about {self.tokens:,} tokens{cost}")
        return "\n".join([*lines, "nothing was written"])


def migrate(
    translator: Translator,
    source: str,
    target: str,
    *,
    alias: str | None = None,
    batch_size: int = 1000,
    state_dir: str | Path | None = None,
    timeout: float = TIMEOUT,
    progress: bool = False,
) -> Migration:
    """Translates all vectors of a store into a new collection, named vector or column.

    Ids and payloads are copied; the old vectors stay. A run that was killed goes on when it is
    started again: what counts is which rows the target holds. Rows that were added or deleted
    while it ran are found; a row whose vector was replaced meanwhile is not, so stop updates or
    run it at a quiet time. At the end the numbers of rows are compared, and some rows are read
    back; only then is an alias switched, in one step.

    Args:
        translator: A fitted translator from the space of the old vectors.
        source: URL of the old vectors, such as `qdrant:./folder/docs`.
        target: URL of the new ones, in a store that is written: another collection, or another
            `?vector=` of the same one.
        alias: A name of the store's own by which the collection is searched, and which is to name
            the new one.
        batch_size: Rows read, translated and written at a time.
        state_dir: Folder where it is noted which target a migration has made; None for
            `latent-bridge/migrations` in the folder of HF_HOME.
        timeout: Seconds for one request to a store.
        progress: Show a bar.

    Returns:
        How many rows there are, and what this run did.

    Raises:
        StoreError: No such collection, a target that no migration from here has made, rows without
            a vector, or the target does not hold what was written.
        StoreUnavailableError: A store cannot be reached, or went away: start again.
        InvalidLatentsError: Vectors of another width than the translator's source, or not finite.
        CheckpointError: The unfinished migration into this target had another translator.
        InUseError: A migration from this source into this target is running.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    begun = time.monotonic()
    with _opened(source, target, timeout) as (old, new), Journal.of(old, new, state_dir) as notes:
        before = _alias_before(old, new, alias, notes)
        resumed = _prepare(translator, old, new, notes)
        move = _Move(translator, old, new, batch_size)
        with progress_bar(old.count(), progress) as bar:
            written = move.missing(bar) if resumed else move.all(bar)
            written += move.until_none_is_missing(bar)
        removed = move.remove_deleted()
        rows, checked = move.check()
        if alias is not None:
            notes.save(alias=alias, alias_before=before)
            new.point(alias, new.url.name)
        seconds = time.monotonic() - begun
        return Migration(
            str(old.url), str(new.url), rows, written, removed, checked, alias, seconds
        )


def plan_migration(
    translator: Translator,
    source: str,
    target: str,
    *,
    text_field: str | None = None,
    price_per_million_tokens: float | None = None,
    timeout: float = TIMEOUT,
) -> MigrationPlan:
    """Says what `migrate` would do, from a sample of rows; writes nothing.

    Args:
        translator: A fitted translator from the space of the old vectors.
        source: URL of the old vectors.
        target: URL of the new ones.
        text_field: Field of the payload with the text, for the cost of encoding again; four
            characters count as a token.
        price_per_million_tokens: Price of the encoder, in any currency.
        timeout: Seconds for one request to a store.

    Raises:
        StoreError: No such collection, or no such text field.
        InvalidLatentsError: Vectors of another width than the translator's source.
    """
    with open_collection(source, timeout=timeout) as old:
        layout, rows = old.layout(), old.count()
        _check_width(translator, layout, old)
        begun = time.perf_counter()
        sample = next(old.scan(1000), Records([], np.empty((0, layout.dim)), []))
        _translated(translator, sample, old)
        seconds = (time.perf_counter() - begun) * rows / max(len(sample.ids), 1)
        tokens = None if text_field is None else _tokens(sample, text_field, rows, old)
        price = None
        if tokens is not None and price_per_million_tokens is not None:
            price = tokens / 1e6 * price_per_million_tokens
        dim = translator.target_.dim
        return MigrationPlan(
            str(old.url), target, rows, layout.dim, dim, rows * dim * 4, seconds, tokens, price
        )


def roll_back_migration(
    source: str, target: str, *, state_dir: str | Path | None = None, timeout: float = TIMEOUT
) -> str:
    """Undoes a migration: gives its alias back, and removes the target that it made.

    Args:
        source: URL of the old vectors, as `migrate` was given it.
        target: URL of the new ones.
        state_dir: As `migrate` was given it.
        timeout: Seconds for one request to a store.

    Returns:
        What was done.

    Raises:
        StoreError: No migration from here has made this target.
        StoreUnavailableError: The store cannot be reached.
    """
    with _opened(source, target, timeout) as (old, new), Journal.of(old, new, state_dir) as notes:
        if not notes.found:
            raise StoreError(
                f"no migration of {old.url} into {new.url} is noted in {notes.path.parent}: "
                "nothing was undone"
            )
        done = []
        alias = notes.content.get("alias")
        if alias is not None and new.alias(alias) == new.url.name:
            before = notes.content.get("alias_before")
            new.point(alias, before)
            done.append(f"the alias {alias!r} names {before or 'nothing'} again")
        if new.exists():
            new.drop(whole=old.url.container != new.url.container)
            done.append(f"{new.url} was removed")
        notes.remove()
        return "; ".join([*done, f"{old.url} is as it was"])


class _Move:
    """The rows' way from one collection to the other."""

    def __init__(self, translator: Translator, old: Collection, new: Collection, size: int) -> None:
        self._translator, self._old, self._new, self._size = translator, old, new, size
        self._same = old.url.container == new.url.container
        self._sample = _Sample(_CHECKED)

    def all(self, bar: Any) -> int:
        """Moves all rows; for a target that is empty."""
        written = 0
        for records in self._old.scan(self._size, payloads=not self._same):
            self._move(records)
            written += len(records.ids)
            bar.update(len(records.ids))
        return written

    def missing(self, bar: Any) -> int:
        """Moves the rows that the target does not hold."""
        written = 0
        self._sample = _Sample(_CHECKED)
        for records in self._old.scan(self._size, vectors=False, payloads=False):
            self._sample.add(records.ids)
            there = self._new.present(records.ids)
            lacking = [key for key in records.ids if key not in there]
            if lacking:
                self._move(self._old.fetch(lacking, payloads=not self._same))
            written += len(lacking)
            bar.update(max(0, min(len(records.ids), bar.total - bar.n)))
        return written

    def until_none_is_missing(self, bar: Any) -> int:
        """Moves rows that were added meanwhile.

        Raises:
            StoreError: Rows are added faster than they are moved.
        """
        total = 0
        for _ in range(_PASSES):
            found = self.missing(bar)
            if not found:
                return total
            total += found
        raise StoreError(
            f"rows are added to {self._old.url} faster than they are moved: after {_PASSES} "
            "passes some were still missing; run it again at a quieter time"
        )

    def remove_deleted(self) -> int:
        """Removes rows of the target that the source no longer has."""
        if self._same:
            return 0
        removed = 0
        for records in self._new.scan(self._size, vectors=False, payloads=False):
            there = self._old.present(records.ids)
            gone = [key for key in records.ids if key not in there]
            if gone:
                self._new.delete(gone)
            removed += len(gone)
        return removed

    def check(self) -> tuple[int, int]:
        """The number of rows, and how many of them were read back.

        Raises:
            StoreError: The numbers differ, or a row is not what was written.
        """
        rows, there = self._old.count(), self._new.count()
        if rows != there:
            raise StoreError(
                f"{self._old.url} has {rows:,} rows and {self._new.url} {there:,}: rows were added "
                "or deleted at the end; run it again"
            )
        ids = self._sample.ids
        if not ids:
            return rows, 0
        wanted = _by_id(self._old.fetch(ids, payloads=True))
        found = _by_id(self._new.fetch(ids, payloads=True))
        for key, (vector, payload) in wanted.items():
            got = found.get(key)
            expected = self._translator.transform(vector)
            if got is None or not _same(got[0], expected, self._new.layout()) or got[1] != payload:
                raise StoreError(
                    f"{self._new.url}: row {key!r} is not the translation of the source's row: was "
                    "it changed meanwhile? Roll back and start again"
                )
        return rows, len(wanted)

    def _move(self, records: Records) -> None:
        vectors = _translated(self._translator, records, self._old)
        self._new.write(Records(records.ids, vectors, records.payloads))


class _Sample:
    """Keys drawn uniformly from all that are added (Vitter 1985, algorithm R)."""

    def __init__(self, size: int) -> None:
        self.ids: list[Key] = []
        self._size, self._random = size, random.Random(0)
        self._count = 0

    def add(self, ids: list[Key]) -> None:
        """Offers some keys."""
        for key in ids:
            self._count += 1
            if len(self.ids) < self._size:
                self.ids.append(key)
            elif (place := self._random.randrange(self._count)) < self._size:
                self.ids[place] = key


@dataclass
class Journal:
    """Which target a migration has made, so that only that one is resumed or removed."""

    path: Path
    urls: dict[str, str]
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def of(cls, old: Collection, new: Collection, state_dir: str | Path | None) -> Iterator[Self]:
        """The journal of a source and a target, held by this process alone.

        Raises:
            InUseError: A migration between the two is running.
            ConfigError: The journal is damaged.
        """
        folder = default_cache_dir() / "migrations" if state_dir is None else Path(state_dir)
        folder.mkdir(parents=True, exist_ok=True)
        urls = {"source": str(old.url), "target": str(new.url)}
        places = repr((old.url.container, old.url.vector, new.url.container, new.url.vector))
        path = folder / f"{hashlib.sha256(places.encode()).hexdigest()[:32]}.json"
        with locked(path.with_suffix(".lock"), new.url, patience=0):
            journal = cls(path, urls)
            journal._read()
            yield journal

    @property
    def found(self) -> bool:
        """Whether such a migration was begun here."""
        return bool(self.content)

    def save(self, **facts: Any) -> None:
        """Adds facts, whole or not at all."""
        self.content = {**self.content, **self.urls, "library_version": __version__, **facts}
        write_atomic(self.path, (json.dumps(self.content, indent=2) + "\n").encode())

    def remove(self) -> None:
        """Forgets the migration."""
        self.path.unlink(missing_ok=True)
        self.content = {}

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.content = read_config(self.path)


@contextlib.contextmanager
def _opened(source: str, target: str, timeout: float) -> Iterator[tuple[Collection, Collection]]:
    with open_collection(source, timeout=timeout) as old:
        old.layout()
        with open_collection(target, create=True, timeout=timeout) as new:
            if (old.url.container, old.url.vector) == (new.url.container, new.url.vector):
                raise StoreError(
                    f"source and target are the same, {old.url}: name another collection or vector"
                )
            yield old, new


def _prepare(translator: Translator, old: Collection, new: Collection, notes: Journal) -> bool:
    """Makes the target; whether an earlier run had made it."""
    layout, facts = old.layout(), json.loads(json.dumps(describe_translator(translator)))
    _check_width(translator, layout, old)
    wanted = Layout(translator.target_.dim, layout.metric)
    if notes.found and notes.content["translator"]["weights_sha256"] != facts["weights_sha256"]:
        raise CheckpointError(
            f"the migration into {new.url} was begun with another translator: use that one, or "
            "roll it back first (--rollback)"
        )
    there = new.exists()
    if there and not notes.found:
        raise StoreError(
            f"{new.url} is there already, and no migration from here has made it: name another "
            "target"
        )
    if not there:
        if old.url.container != new.url.container:
            old.check_copy(new)
        notes.save(translator=facts)
        new.create(wanted, old)
    elif new.layout().dim != wanted.dim:
        raise StoreError(f"{new.url} is {new.layout().dim} wide, {wanted.dim} is needed")
    return there


def _alias_before(
    old: Collection, new: Collection, alias: str | None, notes: Journal
) -> str | None:
    """What an alias names before the migration.

    Raises:
        StoreError: It names neither of the two collections.
    """
    if alias is None:
        return None
    if old.url.container == new.url.container:
        raise StoreError("an alias names a collection, and the new vectors are in the same one")
    named = new.alias(alias)
    if named == new.url.name:
        before: str | None = notes.content.get("alias_before")
        return before
    if named not in (None, old.url.name):
        raise StoreError(f"the alias {alias!r} names {named}, not {old.url.name}")
    return named


def _check_width(translator: Translator, layout: Layout, old: Collection) -> None:
    if layout.dtype not in ("float16", "float32", "float64"):
        raise InvalidLatentsError(
            f"{old.url} stores {layout.dtype}: the vectors' own floats are needed"
        )
    try:
        translator.transform(np.empty((0, layout.dim), np.float32))
    except InvalidLatentsError as error:
        raise InvalidLatentsError(f"{old.url}: {error}") from error


def _translated(translator: Translator, records: Records, old: Collection) -> Array:
    """The vectors of some rows, translated.

    Raises:
        StoreError: A row has no vector.
        InvalidLatentsError: A vector is not finite.
    """
    vectors = records.vectors
    if not isinstance(vectors, np.ndarray):
        missing = [k for k, v in zip(records.ids, vectors or [], strict=True) if v is None]
        raise StoreError(
            f"{old.url}: {len(missing)} rows of a batch have no vector, such as "
            f"{missing[:3]}: delete them or give them one"
        )
    try:
        translated: Array = translator.transform(vectors)
    except InvalidLatentsError as error:
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        row = f"row {records.ids[bad[0]]!r}: " if len(bad) else ""
        raise InvalidLatentsError(f"{old.url}: {row}{error}") from error
    return translated


def _by_id(records: Records) -> dict[Key, tuple[Array, dict[str, Any]]]:
    vectors = [] if records.vectors is None else list(records.vectors)
    rows = zip(records.ids, vectors, records.payloads or [], strict=True)
    return {key: (vector, payload) for key, vector, payload in rows}


def _same(stored: Array, expected: Array, layout: Layout) -> bool:
    """Whether a stored vector is the expected one; a store of cosines may keep its direction."""
    a, b = stored.astype(np.float64), expected.astype(np.float64)
    if layout.metric == "cosine":
        a, b = (v / max(float(np.linalg.norm(v)), 1e-30) for v in (a, b))
    return float(np.linalg.norm(a - b)) <= _CLOSE * max(float(np.linalg.norm(b)), 1e-30)


def _tokens(sample: Records, text_field: str, rows: int, old: Collection) -> int:
    texts = [payload.get(text_field) for payload in sample.payloads or []]
    lacking = [k for k, t in zip(sample.ids, texts, strict=True) if not isinstance(t, str)]
    if lacking:
        raise StoreError(
            f"{old.url}: {len(lacking)} of the first {len(texts)} rows have no text in "
            f"{text_field!r}, such as {lacking[:3]}"
        )
    characters = sum(len(text) for text in texts if isinstance(text, str))
    return round(characters / _CHARACTERS_PER_TOKEN * rows / max(len(texts), 1))
