"""migrate: a store's vectors translated into a new collection beside the old one, and switched."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import CheckpointError, InvalidLatentsError, StoreError
from hf_latent_bridge.hubness import Hubness, Metric
from hf_latent_bridge.latents import Latents
from hf_latent_bridge.translation.index_files import IndexFile, index_path
from hf_latent_bridge.translation.journal import Journal
from hf_latent_bridge.translation.moving import VIEW, Conversion, Move, convert
from hf_latent_bridge.translation.serving import Route, Serving, route_to
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.vectors.stores.base import Collection, Layout, Records
from hf_latent_bridge.vectors.stores.registry import TIMEOUT, address, kind_of, open_collection
from hf_latent_bridge.vectors.stores.url import StoreUrl

_CHARACTERS_PER_TOKEN = 4
_SAMPLE = 1000  # rows that are looked at before anything is made


@dataclass(frozen=True)
class Migration:
    """What `migrate` has done.

    Attributes:
        source: URL of the old vectors, which are untouched.
        target: URL of the new ones.
        rows: How many rows the target holds.
        written: Rows that this run has translated and written; fewer where a run was resumed.
        replaced: Rows that were written again, for the source's vector or payload had changed.
        removed: Rows that had been deleted from the source meanwhile.
        checked: Rows read back and compared with their translation: all of the source.
        alias: The alias that now names the target's collection.
        seconds: Time of this run.
        not_copied: What belongs to the old collection and the new one does not have, such as
            foreign keys; the rows are all there.
    """

    source: str
    target: str
    rows: int
    written: int
    replaced: int
    removed: int
    checked: int
    alias: str | None
    seconds: float
    not_copied: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        rate = f" ({self.written / self.seconds:,.0f} rows/s)" if self.written else ""
        lines = [
            f"{self.rows:,} {'row' if self.rows == 1 else 'rows'} in {self.target}",
            f"{self.written:,} written now in {self.seconds:,.1f} s{rate}; "
            f"{self.checked:,} read back and compared",
        ]
        if self.replaced:
            lines.append(f"{self.replaced:,} had changed in the source, and were written again")
        if self.removed:
            lines.append(f"{self.removed:,} had been deleted from the source, and were removed")
        if self.alias:
            lines.append(f"the alias {self.alias!r} now names it")
        if self.not_copied:
            lines.append(f"it lacks, make them there: {'; '.join(self.not_copied)}")
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
        target_rows: Rows that the target holds already; None where it is not there yet.
        not_copied: What belongs to the old collection and the new one would not have.
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
    target_rows: int | None = None
    not_copied: tuple[str, ...] = ()

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
            cost = "" if self.price is None else f", {_shown(self.price)} at the price given"
            lines.append(f"encoding again would take about {self.tokens:,} tokens{cost}")
        if self.target_rows is not None:
            lines.append(
                f"{self.target} is there already with {self.target_rows:,} rows: an unfinished "
                "migration from here goes on, and any other collection is refused"
            )
        if self.not_copied:
            lines.append(f"it would lack, make them there: {'; '.join(self.not_copied)}")
        return "\n".join([*lines, "nothing was written"])


def _shown(price: float) -> str:
    return "less than 0.01" if 0 < price < 0.01 else f"{price:,.2f}"


def migrate(
    translator: Translator,
    source: str,
    target: str,
    *,
    hubness: Hubness | None = None,
    bank: Latents | None = None,
    n_neighbors: int = 10,
    alias: str | None = None,
    serve_dir: str | Path | None = None,
    batch_size: int = 1000,
    state_dir: str | Path | None = None,
    timeout: float = TIMEOUT,
    progress: bool = False,
) -> Migration:
    """Translates all vectors of a store into a new collection, named vector or column.

    Ids and payloads are copied; the old vectors stay. A run that was killed goes on when it is
    started again: what counts is which rows the target holds. When all rows are moved, source and
    target are read again and compared row by row: rows that were added, replaced or deleted
    meanwhile are put right, until a pass finds none. That costs one more read of both. Then an
    alias is switched, in one step.

    Args:
        translator: A fitted translator from the space of the old vectors.
        source: URL of the old vectors, such as `qdrant:./folder/docs`; or a FAISS file.
        target: URL of the new ones, in a store that is written: another collection, or another
            `?vector=` of the same one. Of a FAISS file another one, which appears when it is whole.
        hubness: "csls" if items that come up for all kinds of queries are to be taken down: the
            vectors are written in the folded form, one or two coordinates wider, and queries must
            be folded too (`TranslatedEncoder`, `translate --fold queries`). None for not.
        bank: For "csls": target latents of queries like those to come, (m, d_target); None for
            those that the translator keeps.
        n_neighbors: For "csls": how many of the bank's nearest count.
        alias: A name of the store's own by which the collection is searched, and which is to name
            the new one.
        serve_dir: Folder where it is written how queries reach the new vectors, with the
            translator, for `TranslatedEncoder.from_pretrained`; None for none.
        batch_size: Rows read, translated and written at a time.
        state_dir: Folder where it is noted which target a migration has made; None for
            `latent-bridge/migrations` in the folder of HF_HOME.
        timeout: Seconds for one request to a store.
        progress: Show a bar.

    Returns:
        How many rows there are, and what this run did.

    Raises:
        StoreError: No such collection, a target that no migration from here has made, rows without
            a vector or a key of their own or with an id or payload that the target cannot hold, or
            the target does not give back what was written.
        StoreUnavailableError: A store cannot be reached, or went away: start again.
        InvalidLatentsError: Vectors of another width than the translator's source, or not finite.
        CheckpointError: The unfinished migration into this target had another translator or another
            folding, or its journal is damaged; or rows of a FAISS file were changed since.
        InUseError: A migration from this source into this target is running.
        ValueError: No bank of queries for "csls".
    """
    begun = time.monotonic()
    if (paths := _index_paths(source, target)) is not None:
        if alias is not None:
            raise ValueError("a FAISS file has no aliases: leave --alias out")
        index = IndexFile(paths[0])
        conversion = Conversion.of(translator, index.metric, hubness, bank, n_neighbors)
        serving = _served(conversion, target, index.metric)
        _write_index(
            index, paths[1], conversion, batch_size, (serving, serve_dir), progress=progress
        )
        seconds = time.monotonic() - begun
        return Migration(source, target, index.n, index.n, 0, 0, index.n, None, seconds)
    with opened(source, target, timeout) as (old, new), Journal.of(old, new, state_dir) as notes:
        metric = old.layout().metric
        conversion = Conversion.of(translator, metric, hubness, bank, n_neighbors)
        serving = _served(conversion, str(new.url), metric)
        job = MigrationJob(conversion, old, new, notes, alias, serving, serve_dir)
        return job.run(batch_size, begun, progress=progress)


@dataclass(frozen=True)
class MigrationJob:
    """One migration, whatever becomes of the rows.

    Attributes:
        conversion: What becomes of them.
        old: Where they are.
        new: Where they go.
        notes: The journal of the two.
        alias: The alias that is to name the new collection; None for none.
        serving: How the new collection is asked.
        serve_dir: Where that is written; None for nowhere.
    """

    conversion: Conversion
    old: Collection
    new: Collection
    notes: Journal
    alias: str | None
    serving: Serving
    serve_dir: str | Path | None

    def run(self, batch_size: int, begun: float, *, progress: bool) -> Migration:
        """Moves all rows, compares them, and then records and switches.

        Args:
            batch_size: Rows at a time.
            begun: When it began, by the monotonic clock.
            progress: Show bars.
        """
        check_count("batch_size", batch_size)
        if self.serve_dir is not None:
            self.serving.check(self.serve_dir)
        before = _alias_before(self.old, self.new, self.alias, self.notes)
        resumed = _prepare(self.conversion, self.old, self.new, self.notes)
        move = Move(self.conversion, self.old, self.new, size=batch_size, progress=progress)
        written = move.rest() if resumed else move.all()
        settled = move.settle()
        removed = move.remove_deleted()
        rows = _count(self.conversion, self.old, self.new)
        move.index()
        if self.old.url.container != self.new.url.container:
            self.new.complete(self.old)
        self._finish(before)
        return Migration(
            str(self.old.url),
            str(self.new.url),
            rows,
            written + settled.written,
            settled.replaced,
            removed,
            settled.checked,
            self.alias,
            time.monotonic() - begun,
            _not_copied(self.old, self.new.url),
        )

    def _finish(self, alias_before: str | None) -> None:
        if self.serve_dir is not None:
            self.serving.save(self.serve_dir)
        if self.alias is not None:
            self.notes.save(alias=self.alias, alias_before=alias_before)
            self.new.point(self.alias, self.new.url.name)


def plan_migration(
    translator: Translator,
    source: str,
    target: str,
    *,
    hubness: Hubness | None = None,
    bank: Latents | None = None,
    n_neighbors: int = 10,
    text_field: str | None = None,
    price_per_million_tokens: float | None = None,
    timeout: float = TIMEOUT,
) -> MigrationPlan:
    """Says what `migrate` would do, from a sample of rows; writes nothing.

    Args:
        translator: A fitted translator from the space of the old vectors.
        source: URL of the old vectors.
        target: URL of the new ones.
        hubness: As for `migrate`.
        bank: As for `migrate`.
        n_neighbors: As for `migrate`.
        text_field: Field of the payload with the text, for the cost of encoding again; four
            characters count as a token.
        price_per_million_tokens: Price of the encoder, in any currency.
        timeout: Seconds for one request to a store.

    Raises:
        StoreError: No such collection, no such text field, rows without a key of their own or with
            an id or payload that the target cannot hold, or source and target are the same.
        InvalidLatentsError: Vectors of another width than the translator's source.
        ValueError: A price without a text field.
    """
    if (paths := _index_paths(source, target)) is not None:
        if text_field is not None or price_per_million_tokens is not None:
            raise ValueError("a FAISS file holds no texts: leave --text-field and --price out")
        index = IndexFile(paths[0])
        conversion = Conversion.of(translator, index.metric, hubness, bank, n_neighbors)
        return _plan_index(index, target, conversion, source)
    return plan_conversion(
        lambda metric: Conversion.of(translator, metric, hubness, bank, n_neighbors),
        source,
        target,
        text_field=text_field,
        price_per_million_tokens=price_per_million_tokens,
        timeout=timeout,
    )


def plan_conversion(
    conversion_by: Callable[[Metric], Conversion],
    source: str,
    target: str,
    *,
    text_field: str | None,
    price_per_million_tokens: float | None,
    timeout: float,
) -> MigrationPlan:
    """What it would be to convert all rows; `conversion_by` gets the metric of the store."""
    if price_per_million_tokens is not None and text_field is None:
        raise ValueError("a price is for the tokens of a text field (--text-field): name one")
    with open_collection(source, timeout=timeout) as old:
        layout, rows = old.layout(), old.count()
        conversion = conversion_by(layout.metric)
        _check_width(conversion, layout, old)
        there = _rows_there(conversion, old, target, timeout)
        old.check_keys()
        begun = time.perf_counter()
        sample = next(old.scan(_SAMPLE), Records([], np.empty((0, layout.dim)), []))
        _check_rows(sample, old, kind_of(target), address(target))
        convert(conversion, sample, old)
        seconds = (time.perf_counter() - begun) * rows / max(len(sample.ids), 1)
        tokens = None if text_field is None else _tokens(sample, text_field, rows, old)
        price = None
        if tokens is not None and price_per_million_tokens is not None:
            price = tokens / 1e6 * price_per_million_tokens
        size = rows * conversion.dim * 4
        dims, left = (layout.dim, conversion.dim), _not_copied(old, address(target))
        return MigrationPlan(
            str(old.url), target, rows, *dims, size, seconds, tokens, price, there, left
        )


def _not_copied(old: Collection, new: StoreUrl) -> tuple[str, ...]:
    """What a new collection of the same kind of store lacks; another kind has rows alone."""
    is_copy = old.url.scheme == new.scheme and old.url.container != new.container
    return tuple(old.not_copied()) if is_copy else ()


def _rows_there(conversion: Conversion, old: Collection, target: str, timeout: float) -> int | None:
    """How many rows the target holds; None where it is not there, and nothing is made."""
    url = address(target)
    if url.local and not Path(url.path).exists():
        old.check_copy(None)
        return None
    with open_collection(target, timeout=timeout) as new:
        _check_apart(conversion, old, new)
        if new.exists():
            return new.count()
        _check_copy(old, new)
        return None


def _check_copy(old: Collection, new: Collection) -> None:
    """Refuses a collection of its own that would lack what belongs to the rows."""
    if old.url.container != new.url.container:
        old.check_copy(new)


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
    if _index_paths(source, target) is not None:
        raise ValueError(f"a FAISS file is undone by removing it: {target}")
    with opened(source, target, timeout) as (old, new), Journal.of(old, new, state_dir) as notes:
        if not notes.found:
            raise StoreError(
                f"no migration of {old.url} into {new.url} is noted in {notes.path.parent}: "
                "nothing was undone"
            )
        done = []
        alias = notes.facts.get("alias")
        if alias is not None and new.alias(alias) == new.url.name:
            before = notes.facts.get("alias_before")
            new.point(alias, before)
            done.append(f"the alias {alias!r} names {before or 'nothing'} again")
        if new.exists():
            new.drop(whole=old.url.container != new.url.container)
            done.append(f"{new.url} was removed")
        notes.remove()
        return "; ".join([*done, f"{old.url} is as it was"])


@contextlib.contextmanager
def opened(source: str, target: str, timeout: float) -> Iterator[tuple[Collection, Collection]]:
    """The collections that two URLs name.

    Raises:
        StoreError: There is no source, or the two are the same.
        StoreUnavailableError: A store cannot be reached.
    """
    with open_collection(source, timeout=timeout) as old:
        old.layout()
        with open_collection(target, create=True, timeout=timeout) as new:
            _check_two(old, new)
            yield old, new


def _check_two(old: Collection, new: Collection) -> None:
    if (old.url.container, old.url.vector) == (new.url.container, new.url.vector):
        raise StoreError(
            f"source and target are the same, {old.url}: name another collection or vector"
        )


def _check_apart(conversion: Conversion, old: Collection, new: Collection) -> None:
    """Refuses a target that cannot hold what the source's rows become.

    Raises:
        StoreError: The source itself, or for a shared space another vector of the same rows.
    """
    _check_two(old, new)
    if old.url.container == new.url.container and conversion.view is not None:
        raise StoreError(
            "items of a new encoder have no old vector, so a shared space needs a collection "
            f"of its own: name another one than {new.url.name!r}"
        )


def _index_paths(source: str, target: str) -> tuple[Path, Path] | None:
    """The two FAISS files that are meant; None where neither name is one.

    Raises:
        StoreError: One is, and the other is not.
    """
    old, new = index_path(source), index_path(target)
    if old is not None and new is not None:
        return old, new
    if old is not None or new is not None:
        raise StoreError(
            f"a FAISS file is moved into another one, for it has no payloads: got {source} and "
            f"{target}; `latent-bridge translate` reads and writes files of all kinds"
        )
    return None


def _served(conversion: Conversion, url: str, metric: Metric) -> Serving:
    """How new vectors beside old ones are asked."""
    translator = conversion.translator
    routes = {"new": route_to(translator), "old": Route(translator.source_, translator)}
    folding = {} if conversion.folding is None else conversion.folding.to_dict()
    return Serving("items", url, metric, folding, routes)


def _plan_index(
    index: IndexFile, target: str, conversion: Conversion, source: str
) -> MigrationPlan:
    begun, sample = time.perf_counter(), index.sample()
    dim = conversion.vectors(sample).shape[1]
    seconds = (time.perf_counter() - begun) * index.n / max(len(sample), 1)
    size = index.n * dim * 4
    return MigrationPlan(source, target, index.n, index.dim, dim, size, seconds, None, None)


def _write_index(
    index: IndexFile,
    target: Path,
    conversion: Conversion,
    size: int,
    served: tuple[Serving, str | Path | None],
    *,
    progress: bool,
) -> None:
    check_count("batch_size", size)
    serving, folder = served
    if folder is not None:
        serving.check(folder)
    job = index.job(target, conversion, size, progress=progress)
    with job.claimed(0):
        index.write(job, progress=progress)
        if folder is not None:
            serving.save(folder)


def _prepare(conversion: Conversion, old: Collection, new: Collection, notes: Journal) -> bool:
    """Makes the target; whether an earlier run had made it."""
    layout, facts = old.layout(), json.loads(json.dumps(conversion.to_dict()))
    _check_width(conversion, layout, old)
    wanted = Layout(conversion.dim, layout.metric)
    if notes.found:
        _check_same(notes.facts["conversion"], facts, new)
    there = new.exists()
    if there and not notes.found:
        raise StoreError(
            f"{new.url} is there already, and no migration from here has made it: name another "
            "target"
        )
    old.check_keys()
    if old.url.scheme != new.url.scheme:
        for page in islice(old.scan(_SAMPLE, vectors=False), 1):
            _check_rows(page, old, type(new), new.url)
    if not there:
        _check_apart(conversion, old, new)
        _check_copy(old, new)
        notes.save(conversion=facts)
        new.create(wanted, old, [] if conversion.view is None else [VIEW])
    elif new.layout().dim not in (0, wanted.dim):
        raise StoreError(f"{new.url} is {new.layout().dim} wide, {wanted.dim} is needed")
    return there


def _check_rows(first: Records, old: Collection, kind: type[Collection], target: StoreUrl) -> None:
    """Refuses another kind of store that cannot hold the rows.

    Of all but the first rows the source looks for two things only: texts among ids that are
    numbers, and columns that are null somewhere.
    """
    if old.url.scheme == target.scheme:
        return
    text = old.text_beside_numbers()
    kind.check_takes([*first.ids, *([] if text is None else [text])], target=target)
    kind.check_holds(first, target=target)
    if not kind.nulls and (null := old.first_null()) is not None:
        key, name = null
        kind.check_holds(Records([key], None, [{name: None}]), target=target)


def _check_same(before: dict[str, Any], now: dict[str, Any], new: Collection) -> None:
    """Refuses to go on with another translator, folding or view.

    Raises:
        CheckpointError: Says which.
    """
    hashes = (facts["translator"]["weights_sha256"] for facts in (before, now))
    if len(set(hashes)) > 1:
        different = "translator"
    else:
        others = [name for name in ("folding", "view") if before[name] != now[name]]
        different = " and ".join(others)
    if different:
        raise CheckpointError(
            f"the migration into {new.url} was begun with another {different}: use that one, or "
            "roll it back first (--rollback)"
        )


def _count(conversion: Conversion, old: Collection, new: Collection) -> int:
    """The number of rows of the target.

    Raises:
        StoreError: The source has another, where the target holds nothing else, or rows with one
            key that came meanwhile.
    """
    rows, there = old.count(), new.count()
    if rows != there and conversion.view is None:
        old.check_keys()
        raise StoreError(
            f"{old.url} has {rows:,} rows and {new.url} {there:,}: rows were added or deleted at "
            "the end; run it again"
        )
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
    if alias in (old.url.name, new.url.name):
        raise StoreError(f"the alias {alias!r} has the name of a collection: choose another alias")
    named = new.alias(alias)
    if named == new.url.name:
        before: str | None = notes.facts.get("alias_before")
        return before
    if named not in (None, old.url.name):
        raise StoreError(f"the alias {alias!r} names {named}, not {old.url.name}")
    return named


def _check_width(conversion: Conversion, layout: Layout, old: Collection) -> None:
    if layout.dim == 0:
        raise StoreError(f"{old.url} holds no vectors, so their width is not known")
    if layout.dtype not in ("float16", "float32", "float64"):
        raise InvalidLatentsError(
            f"{old.url} stores {layout.dtype}: the vectors' own floats are needed"
        )
    source, target = conversion.translator.source_, conversion.translator.target_
    if source.dim == layout.dim:
        return
    if target.dim == layout.dim:
        hint = "one is needed that leads from the stored vectors"
    else:
        hint = (
            "are the vectors of another model, or cut to fewer dimensions? Fit a translator from "
            "these very vectors (fit --source-vectors)"
        )
    raise InvalidLatentsError(
        f"{old.url} is {layout.dim} wide, and the translator leads from {source} to {target}: "
        f"{hint}"
    )


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
