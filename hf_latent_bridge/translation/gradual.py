"""A collection moved into a shared space: old items by old vectors, encoded again when wanted."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike, encode
from hf_latent_bridge.errors import StoreError
from hf_latent_bridge.evaluation import check_space
from hf_latent_bridge.fitting.encoding import Side
from hf_latent_bridge.latents import Array
from hf_latent_bridge.translation.journal import Journal
from hf_latent_bridge.translation.migration import (
    Migration,
    MigrationJob,
    MigrationPlan,
    opened,
    plan_conversion,
)
from hf_latent_bridge.translation.moving import VIEW, Conversion
from hf_latent_bridge.translation.pipeline import progress_bar
from hf_latent_bridge.translation.serving import Route, Serving
from hf_latent_bridge.translators.shared_space import SharedSpace
from hf_latent_bridge.vectors.stores.base import Collection, Key, Records
from hf_latent_bridge.vectors.stores.registry import TIMEOUT, open_collection

_WRITTEN = 256  # rows that are encoded and written at a time
_SCANNED = 1000  # rows of which the payload is looked at at a time


def migrate_gradually(
    space: SharedSpace,
    source: str,
    target: str,
    *,
    view: str,
    alias: str | None = None,
    serve_dir: str | Path | None = None,
    batch_size: int = 1000,
    state_dir: str | Path | None = None,
    timeout: float = TIMEOUT,
    progress: bool = False,
) -> Migration:
    """Moves all vectors of a store into a space that old and new encoder share.

    As `migrate` does it, into a collection of its own: killed runs go on, and source and target
    are compared at the end. Each row's payload names the view that its vector came from, in the
    field `latent_bridge_view`. From then on items and queries of every view meet in one index: add
    new items by the new encoder with the name of its view in that field, and let `re_encode` do
    old ones when there is time, in any order, or never.

    Args:
        space: A fitted shared space.
        source: URL of the old vectors.
        target: URL of the new collection.
        view: The view of the space that the old vectors are of.
        alias: As for `migrate`.
        serve_dir: As for `migrate`; the views of the space are the encoders that may ask.
        batch_size: As for `migrate`.
        state_dir: As for `migrate`.
        timeout: As for `migrate`.
        progress: Show a bar.

    Raises:
        UnknownNameError: The space has no such view.
        StoreError: As for `migrate`; also if the target is another vector of the same rows, for
            new items have no old vector, or the rows have a field of that name.
        StoreUnavailableError: A store cannot be reached, or went away: start again.
        InvalidLatentsError: Vectors of another width than the view's, or not finite.
        CheckpointError: The unfinished migration into this target had another space or view.
        InUseError: A migration from this source into this target is running.
    """
    begun, translator = time.monotonic(), space.translator(view)
    with opened(source, target, timeout) as (old, new), Journal.of(old, new, state_dir) as notes:
        metric = old.layout().metric
        routes = {name: Route(own.source_, own) for name, own in space.views_.items()}
        serving = Serving("gradual", str(new.url), metric, {}, routes)
        conversion = Conversion(translator, view=view)
        job = MigrationJob(conversion, old, new, notes, alias, serving, serve_dir)
        return job.run(batch_size, begun, progress=progress)


def plan_gradual_migration(
    space: SharedSpace,
    source: str,
    target: str,
    *,
    view: str,
    text_field: str | None = None,
    price_per_million_tokens: float | None = None,
    timeout: float = TIMEOUT,
) -> MigrationPlan:
    """Says what `migrate_gradually` would do, from a sample of rows; writes nothing.

    Args:
        space: A fitted shared space.
        source: URL of the old vectors.
        target: URL of the new collection.
        view: The view of the space that the old vectors are of.
        text_field: As for `plan_migration`: what encoding everything again would cost, now or
            little by little.
        price_per_million_tokens: As for `plan_migration`.
        timeout: Seconds for one request to a store.

    Raises:
        UnknownNameError: The space has no such view.
        StoreError: As for `plan_migration`; also where the target is another vector of the same
            rows, or the rows have a field of the name `latent_bridge_view`.
        InvalidLatentsError: Vectors of another width than the view's.
        ValueError: A price without a text field.
    """
    conversion = Conversion(space.translator(view), view=view)
    return plan_conversion(
        lambda _: conversion,
        source,
        target,
        text_field=text_field,
        price_per_million_tokens=price_per_million_tokens,
        timeout=timeout,
    )


@dataclass(frozen=True)
class ReEncoded:
    """What `re_encode` has done.

    Attributes:
        target: URL of the collection.
        view: The view whose encoder has encoded.
        rows: How many rows it did in this run.
        by_view: How many rows there are now of each view; of rows that name none, under "".
        seconds: Time of this run.
    """

    target: str
    view: str
    rows: int
    by_view: Mapping[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        total = max(1, sum(self.by_view.values()))
        shares = ", ".join(
            f"{n:,} by {name or 'no view that is named'} ({n / total:.0%})"
            for name, n in self.by_view.items()
        )
        return (
            f"{self.rows:,} rows of {self.target} encoded again by {self.view} in "
            f"{self.seconds:,.1f} s\nnow {shares}"
        )


def re_encode(
    space: SharedSpace,
    target: str,
    encoder: EncoderLike,
    *,
    view: str,
    field: str = "text",
    ids: Sequence[Key] | None = None,
    max_rows: int | None = None,
    batch_size: BatchSize = "auto",
    timeout: float = TIMEOUT,
    progress: bool = False,
) -> ReEncoded:
    """Encodes items of a shared collection with another view's encoder, and marks them.

    Rows of that view are left alone, so it can be called again and again, killed and in any order.
    A row is replaced in one write; do not change the payload of the same rows meanwhile.

    Args:
        space: The space that `migrate_gradually` had.
        target: URL of its collection.
        encoder: The encoder of the view.
        view: Its view.
        field: Field of the payload that holds the item.
        ids: Which rows, in this order; None for those that come first in the store's order. Texts
            of digits are numbers where the keys of the store are.
        max_rows: At most so many; None for all.
        batch_size: Items per forward pass; "auto" for as many as suit the device.
        timeout: Seconds for one request to the store.
        progress: Show a bar.

    Raises:
        UnknownNameError: The space has no such view.
        SpaceMismatchError: The encoder is not the view's.
        StoreError: Not a collection of this width, rows that are not there, or rows without the
            field.
        StoreUnavailableError: The store cannot be reached.
        InvalidLatentsError: The encoder gave NaN or infinity, or another width.
        ValueError: `max_rows` is less than 1.
    """
    begun, translator = time.monotonic(), space.translator(view)
    check_space(Side("encoder", encoder), translator.source_)
    if max_rows is not None:
        check_count("max_rows", max_rows)
    done = 0
    with open_collection(target, timeout=timeout) as collection:
        _check_width(collection, space)
        with progress_bar(max_rows or collection.count(), progress) as bar:
            for keys in _batches(_others(collection, view, ids), max_rows):
                records = collection.fetch(keys, payloads=True)
                items = [_item(records, row, field, collection) for row in range(len(records.ids))]
                if not items:  # deleted meanwhile
                    continue
                latents = encode(encoder, items, batch_size=batch_size)
                vectors: Array = translator.transform(latents).float().cpu().numpy()
                marked = [{**payload, VIEW: view} for payload in records.payloads or []]
                collection.write(Records(records.ids, vectors, marked))
                done += len(records.ids)
                bar.update(len(keys))
        by_view = _count(collection)
    return ReEncoded(target, view, done, by_view, time.monotonic() - begun)


def _check_width(collection: Collection, space: SharedSpace) -> None:
    layout = collection.layout()
    if layout.dim != space.space_.dim:
        raise StoreError(
            f"{collection.url} is {layout.dim} wide and the space {space.space_.dim}: name the "
            "collection that migrate_gradually (--gradual) has made, and its space"
        )


def _others(collection: Collection, view: str, ids: Sequence[Key] | None) -> list[Key]:
    """The rows that another view has encoded; of some rows in their order.

    Only their keys are kept, so that rows may be written while the batches of them are encoded.
    """
    if ids is None:
        pages = collection.scan(_SCANNED, vectors=False, payloads=True)
        return [key for page in pages for key in _of_others(page, view)]
    if not collection.has_texts_as_keys():
        ids = [int(key) if isinstance(key, str) and key.isdecimal() else key for key in ids]
    wanted = list(dict.fromkeys(ids))
    found: list[Key] = []
    for start in range(0, len(wanted), _SCANNED):
        asked = wanted[start : start + _SCANNED]
        page = collection.fetch(asked, payloads=True)
        if missing := [key for key in asked if key not in set(page.ids)]:
            raise StoreError(
                f"{collection.url}: {len(missing)} rows are not there, such as {missing[:3]}"
            )
        others = set(_of_others(page, view))
        found += [key for key in asked if key in others]
    return found


def _of_others(page: Records, view: str) -> Iterator[Key]:
    for key, payload in zip(page.ids, page.payloads or [], strict=True):
        if payload.get(VIEW) != view:
            yield key


def _batches(keys: list[Key], most: int | None) -> Iterator[list[Key]]:
    chosen = keys[:most]
    return (chosen[start : start + _WRITTEN] for start in range(0, len(chosen), _WRITTEN))


def _item(records: Records, row: int, field: str, collection: Collection) -> Any:
    payload = (records.payloads or [])[row]
    item = payload.get(field)
    if item is None:
        raise StoreError(
            f"{collection.url}: row {records.ids[row]!r} has nothing in {field!r} to encode; "
            f"it has {sorted(payload)}"
        )
    return item


def _count(collection: Collection) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for page in collection.scan(_SCANNED, vectors=False, payloads=True):
        counts.update(str(payload.get(VIEW) or "") for payload in page.payloads or [])
    return dict(sorted(counts.items()))
