"""Which side to translate: the stored items once, or every query; by quality and by cost."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, SpaceMismatchError
from hf_latent_bridge.gating import (
    Relevance,
    Retention,
    as_matrix,
    bootstrap_draws,
    check_sizes,
    finest,
    first_k,
    markdown_table,
    page_of,
    retention_of,
    search_scores,
    shown_interval,
)
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.metrics import interval_of
from hf_latent_bridge.translation.serving import Route, Serving
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import check_translator
from hf_latent_bridge.vectors.stores.base import Collection
from hf_latent_bridge.vectors.stores.registry import TIMEOUT, open_collection

Direction = Literal["items", "queries"]

AGAIN, ITEMS, QUERIES, OLD = (
    "encode everything again",
    "translate the items",
    "translate the queries",
    "keep the old encoder",
)
_TIMED = 101


@dataclass(frozen=True)
class DirectionReport:
    """What search keeps of the new encoder's own, by what is translated; `print` shows it.

    Attributes:
        choice: "items" or "queries".
        reason: Why.
        retention: For each way the retention of each score over encoding everything again.
        judged: Whether relevance judgements were given.
        k: How many results count.
        n_queries: Number of queries.
        n_items: Number of items in the corpus.
        decides: The score by which the ways are compared.
    """

    choice: Direction
    reason: str
    retention: Mapping[str, Mapping[str, Retention]]
    judged: bool
    k: int
    n_queries: int
    n_items: int
    decides: str

    @property
    def names(self) -> list[str]:
        """The scores."""
        return list(self.retention[AGAIN])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "choice": self.choice,
            "reason": self.reason,
            "ways": {
                way: {name: found.to_dict() for name, found in scores.items()}
                for way, scores in self.retention.items()
            },
            "judged": self.judged,
            "k": self.k,
            "n_queries": self.n_queries,
            "n_items": self.n_items,
            "decides": self.decides,
        }

    def to_markdown(self) -> str:
        """The report as a page."""
        rows = [
            [
                way,
                *(f"{scores[name].translated:.3f}" for name in self.names),
                shown_interval(scores[self.decides]),
            ]
            for way, scores in self.retention.items()
        ]
        told = f"{self.n_queries:,} queries, {self.n_items:,} items."
        table = markdown_table(["way", *self.names, f"{self.decides} kept"], rows)
        return f"# Translate the {self.choice}\n\n{self.reason}.\n\n{told}\n\n{table}\n"

    def to_html(self) -> str:
        """The report as a page that needs no other file."""
        return page_of(self, "directions_page.html")

    def __str__(self) -> str:
        return self.to_markdown().rstrip()


def compare_directions(
    into_new: Translator,
    into_old: Translator,
    *,
    queries: tuple[Latents, Latents],
    corpus: tuple[Latents, Latents],
    relevance: Relevance | None = None,
    k: int = 10,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> DirectionReport:
    """Measures both ways to search old vectors with a new encoder.

    Translated items cost one pass over the store, and then nothing. Translated queries cost a
    matrix product each, and the store stays as it is; but new items must go on to be encoded by
    the old encoder. Where the interval of the difference holds zero, the queries are chosen.

    Args:
        into_new: From the old encoder's space into the new one's.
        into_old: From the new encoder's space into the old one's.
        queries: Latents of the queries by the old encoder (n, d_old) and the new (n, d_new).
        corpus: Latents of the items by the old encoder (m, d_old) and the new (m, d_new).
        relevance: As for `gate_latents`; without, what is found of the new encoder's own ranking.
        k: How many results count.
        n_bootstrap: Draws of the queries for the intervals.
        seed: Seeds the draws.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity.
        SpaceMismatchError: The translators do not lead back and forth between two spaces.
        InvalidPairsError: Too few queries or items, or judgements that do not fit them.
        ValueError: A parameter out of range, or a translator into the old space that would move the
            items too.
    """
    _check_directions(into_new, into_old)
    device = as_tensor(queries[1]).device  # some latents may come from a GPU, others from a file
    (old_q, new_q), (old_c, new_c) = (
        tuple(as_matrix(latents).to(device) for latents in side) for side in (queries, corpus)
    )
    for what, old, new in (("queries", old_q, new_q), ("items", old_c, new_c)):
        if len(old) != len(new):
            raise InvalidLatentsError(
                f"both encoders must give the same {what}, got {len(old)} and {len(new)} rows"
            )
    check_sizes((new_q, new_c), relevance, k)
    moved = _translated(into_new, old_c), as_tensor(into_new.transform_target(new_q)).float()
    searches = {
        AGAIN: (new_q, new_c),
        ITEMS: (moved[1], moved[0]),
        QUERIES: (_translated(into_old, new_q), old_c),
        OLD: (old_q, old_c),
    }
    best = {way: first_k(*search, k=k) for way, search in searches.items()}
    scores = search_scores({**best, "native": best[AGAIN]}, (new_q, new_c), relevance, k)
    n = len(relevance) if relevance else len(new_q)
    draws = bootstrap_draws(n, n_bootstrap, seed)
    retention = {
        way: {
            name: retention_of(scores[AGAIN][name], values, draws)
            for name, values in scores[way].items()
        }
        for way in searches
    }
    judged = relevance is not None
    name = finest(retention[ITEMS])
    choice, reason = _choose(scores[ITEMS][name] - scores[QUERIES][name], draws, name)
    chosen = scores[ITEMS if choice == "items" else QUERIES][name]
    reason += _beside_old(scores[OLD][name] - chosen, draws)
    return DirectionReport(choice, reason, retention, judged, k, n, len(new_c), name)


def _check_directions(into_new: Translator, into_old: Translator) -> None:
    check_translator(into_new)
    _refuse_moving(into_old)
    forth, back = into_new.pair_spaces_, into_old.pair_spaces_
    if mismatches := forth[0].mismatches(back[1]) + forth[1].mismatches(back[0]):
        raise SpaceMismatchError(
            f"one translator must lead back where the other came from, got {forth[0]} to "
            f"{forth[1]} and {back[0]} to {back[1]}: they differ in {'; '.join(mismatches)}"
        )


def _refuse_moving(into_old: Translator) -> None:
    check_translator(into_old)
    if into_old.target_translator_ is not None:
        raise ValueError(
            f"a {into_old.translator_type!r} translator moves both sides, so the stored vectors "
            "could not stay as they are: fit one of another type for the queries"
        )


def _translated(translator: Translator, latents: Tensor) -> Tensor:
    return as_tensor(translator.transform(latents)).float()


def _choose(gain: Tensor, draws: Tensor, name: str) -> tuple[Direction, str]:
    lower, upper = interval_of(draws @ gain)
    told = (
        f"{name} of translated items less that of translated queries is {float(gain.mean()):+.3f} "
        f"[{lower:+.3f}, {upper:+.3f}]"
    )
    if lower > 0:
        return "items", f"{told}: that is worth a pass over the store"
    if upper < 0:
        return "queries", f"{told}: queries are better, and nothing is rewritten"
    return "queries", f"{told}: no difference is shown, and with queries nothing is rewritten"


def _beside_old(loss: Tensor, draws: Tensor) -> str:
    """What to say where the old encoder does better by itself; else nothing."""
    lower, _ = interval_of(draws @ loss)
    if lower <= 0:
        return ""
    return (
        f". The old encoder by itself is better still, by {float(loss.mean()):+.3f}: keep it, or "
        "encode everything again, at once or little by little in a shared space"
    )


@dataclass(frozen=True)
class QueriesOnly:
    """What `serve_queries` has recorded; the store is as it was.

    Attributes:
        url: Of the vectors.
        rows: How many there are.
        dim: Their width.
        kept_bytes: Size of the vectors that need not be written again, as float32.
        query_seconds: Time to translate one query, the median of some.
        serve_dir: Where it is written how they are asked.
        quality: What was measured of both directions; None if nothing was.
    """

    url: str
    rows: int
    dim: int
    kept_bytes: int
    query_seconds: float
    serve_dir: str
    quality: DirectionReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        quality = self.quality and self.quality.to_dict()
        return {**vars(self), "quality": quality}

    def __str__(self) -> str:
        lines = [
            f"{self.rows:,} rows of {self.url} stay as they are ({self.dim} wide, "
            f"{self.kept_bytes / 1e6:,.1f} MB that are not written again)",
            f"each query of the new encoder is translated into their space, "
            f"{self.query_seconds * 1e6:,.0f} microseconds on this machine",
            "new items must go on to be encoded by the old encoder",
            f"TranslatedEncoder.from_pretrained({self.serve_dir!r}, encoder) asks them",
        ]
        if self.quality is not None:
            lines += ["", str(self.quality)]
        return "\n".join(lines)


def serve_queries(
    translator: Translator,
    source: str,
    serve_dir: str | Path,
    *,
    quality: DirectionReport | None = None,
    timeout: float = TIMEOUT,
) -> QueriesOnly:
    """Lets a new encoder ask old vectors by translating its queries; the store is only looked at.

    Args:
        translator: A fitted translator from the new encoder's space into that of the old vectors.
        source: URL of the old vectors.
        serve_dir: Folder where it is written how they are asked, with the translator, for
            `TranslatedEncoder.from_pretrained`.
        quality: What `compare_directions` has measured, to be written there too.
        timeout: Seconds for one request to the store.

    Raises:
        StoreError: There is no such collection.
        StoreUnavailableError: The store cannot be reached.
        InvalidLatentsError: The vectors have another width than the translator's target.
        ForeignFileError: The folder holds files of someone else.
        TypeError: `translator` is not a translator.
        NotFittedError: It is not fitted.
        ValueError: A translator that would move the items too.
    """
    _refuse_moving(translator)
    with open_collection(source, timeout=timeout) as old:
        layout, rows, url = old.layout(), old.count(), str(old.url)
        _check_target(translator, layout.dim, old)
    routes = {
        "new": Route(translator.source_, translator),
        "old": Route(translator.target_),
    }
    found = {} if quality is None else quality.to_dict()
    serving = Serving("queries", url, layout.metric, {}, routes)
    replace(serving, quality=found).save(serve_dir)
    seconds = _seconds(translator)
    size = rows * layout.dim * 4
    return QueriesOnly(url, rows, layout.dim, size, seconds, str(serve_dir), quality)


def _check_target(translator: Translator, dim: int, old: Collection) -> None:
    source, target = translator.source_, translator.target_
    if target.dim == dim:
        return
    hint = ""
    if source.dim == dim:
        hint = ": one that leads from the new encoder to the stored vectors is needed"
    raise InvalidLatentsError(
        f"{old.url} is {dim} wide, and the translator leads from {source} to {target}{hint}"
    )


def _seconds(translator: Translator) -> float:
    query, times = torch.ones(1, translator.source_.dim), []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        translator.transform(query)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
