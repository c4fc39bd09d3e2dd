"""gate: may a translator be used for this search? Pass, warn or fail, with reasons."""

import heapq
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import CHUNK_SIZE, PairSource
from hf_latent_bridge.data.pairs import as_pairs
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.evaluation import all_latents, check_space
from hf_latent_bridge.fitting.encoding import EncodingLoop, Side
from hf_latent_bridge.hubness import Hubness, fold_queries
from hf_latent_bridge.latents import Latents, as_tensor, check_finite, unit_rows
from hf_latent_bridge.metrics import interval_of, look_shuffled, overlaps, similarity_blocks
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translation.folding import Folding, with_bank
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import check_translator

Verdict = Literal["pass", "warn", "fail"]
Reason = tuple[Literal["pass", "warn", "fail", "note"], str]
Translates = Literal["corpus", "queries"]
Relevance = Mapping[int, Mapping[int, float]]

_FEW_QUERIES = 50  # where no number of queries could show what is asked for
_MOST_QUERIES = 1000  # that the gate asks for, however little may be lost
_STABLE = 0.9  # of the native search by half of its dimensions; good encoders have 0.96 to 1
_WORST = 10
COLORS = {"pass": "#1a7f37", "warn": "#9a6700", "fail": "#cf222e", "note": "#59636e"}
SEVERITY: Sequence[Verdict] = ("fail", "warn", "pass")
_SYSTEMS = {
    "native": "everything by the new encoder",
    "old": "everything by the old encoder",
    "untranslated": "the old encoder's vectors as they are",
    "unfolded": "translated, without the correction for hubs",
    "unshifted": "translated, as after remove_shift",
    "half": "native, by half of the dimensions, which shows how stable its ranking is",
}


@dataclass(frozen=True)
class Thresholds:
    """Which retention is enough.

    Attributes:
        passing: The lower end of the 95 % interval must reach it to pass.
        warning: The mean must reach it, or the gate fails.
    """

    passing: float
    warning: float

    @classmethod
    def default(cls, judged: bool) -> "Thresholds":
        """Without judgements less must be lost before it counts as a failure.

        `scripts/benchmark.py gate` counts verdicts with and without judgements.
        """
        return cls(0.95, 0.9) if judged else cls(0.95, 0.8)

    def with_limits(self, pass_at: float | None, warn_at: float | None) -> "Thresholds":
        """Others where they are given; with `pass_at` alone the other is not above it.

        Raises:
            ValueError: Not 0 <= warn_at <= pass_at <= 1.
        """
        passing = self.passing if pass_at is None else pass_at
        limits = Thresholds(passing, min(self.warning, passing) if warn_at is None else warn_at)
        if not 0 <= limits.warning <= limits.passing <= 1:
            raise ValueError(
                f"0 <= warn_at <= pass_at <= 1 is needed, got warn_at={limits.warning:g} and "
                f"pass_at={limits.passing:g}"
            )
        return limits


@dataclass(frozen=True)
class Retention:
    """A score of the translated search over that of the native one.

    Attributes:
        native: Mean over the queries in the target encoder's own space.
        translated: The same with the translator.
        mean: translated / native.
        lower: Lower end of the 95 % bootstrap interval over queries.
        upper: Its upper end.
    """

    native: float
    translated: float
    mean: float
    lower: float
    upper: float

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return {
            "native": self.native,
            "translated": self.translated,
            "retention": self.mean,
            "lower": self.lower,
            "upper": self.upper,
        }


@dataclass(frozen=True)
class GateReport:
    """The result of `gate`; `print(report)` shows it.

    Attributes:
        verdict: "pass", "warn" or "fail".
        reasons: Why, the gravest first, each with its own verdict; "note" with what is only told.
        retention: Of each score, over all queries.
        decides: The score by which the gate decides.
        systems: Mean of each score for the native search, the translated one, the old encoder's
            own ("old"), the untranslated vectors ("untranslated") and, where the translated search
            is corrected for hubs, the same without it ("unfolded"), as far as they can be had;
            "unshifted" is what `Translator.remove_shift` would give.
            Without judgements also for the native search by half of its dimensions ("half"),
            which shows how stable its ranking is.
        slices: Retention of the score that decides by slice of the queries.
        worst: Which queries lose most of the score that decides, and how much.
        judged: Whether relevance judgements were given; without, the native ranking is the
            yardstick.
        translates: "corpus" or "queries".
        k: How many results count.
        n_queries: Number of queries.
        n_items: Number of items in the corpus.
        thresholds: Which retention is enough.
        settings: `n_bootstrap` and `seed`; where hubs were corrected for, `hubness` and
            `n_neighbors`.
    """

    verdict: Verdict
    reasons: Sequence[Reason]
    retention: Mapping[str, Retention]
    decides: str
    systems: Mapping[str, Mapping[str, float]]
    slices: Mapping[str, Retention]
    worst: Sequence[tuple[str, float]]
    judged: bool
    translates: Translates
    k: int
    n_queries: int
    n_items: int
    thresholds: Thresholds
    settings: Mapping[str, int | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "verdict": self.verdict,
            "reasons": [{"verdict": verdict, "reason": text} for verdict, text in self.reasons],
            "retention": {name: found.to_dict() for name, found in self.retention.items()},
            "decides": self.decides,
            "systems": {name: dict(scores) for name, scores in self.systems.items()},
            "slices": {name: found.to_dict() for name, found in self.slices.items()},
            "worst_queries": [{"query": query, "lost": lost} for query, lost in self.worst],
            "judged": self.judged,
            "translates": self.translates,
            "k": self.k,
            "n_queries": self.n_queries,
            "n_items": self.n_items,
            "pass_at": self.thresholds.passing,
            "warn_at": self.thresholds.warning,
            **self.settings,
        }

    @property
    def legend(self) -> str:
        """What the names of `systems` mean, in a line."""
        known = [f"{name}: {_SYSTEMS[name]}" for name in self.systems if name in _SYSTEMS]
        return f"{'; '.join(known)}."

    def to_markdown(self) -> str:
        """The report as a page."""
        names = list(self.retention)
        rows = [
            [name, *(f"{scores[score]:.3f}" for score in names)]
            for name, scores in self.systems.items()
        ]
        kept = [
            ["retention", *(shown_interval(found) for found in self.retention.values())],
        ]
        parts = [
            f"# {self.verdict.upper()}",
            "\n".join(f"- {verdict.upper()}: {text}" for verdict, text in self.reasons),
            f"{self.n_queries:,} queries, {self.n_items:,} items; the {self.translates} "
            f"{'are' if self.translates == 'queries' else 'is'} translated"
            f"{' and folded, which corrects for hubs' if 'unfolded' in self.systems else ''}.",
            markdown_table(["search", *names], rows + kept),
            self.legend,
        ]
        if self.slices:
            lines = [[name, shown_interval(found)] for name, found in self.slices.items()]
            parts.append(markdown_table(["slice", f"retention of {self.decides}"], lines))
        if self.worst:
            lines = [[query, f"{lost:.3f}"] for query, lost in self.worst]
            parts.append(markdown_table(["query", f"{self.decides} lost"], lines))
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """The report as a page that needs no other file."""
        return page_of(self, "gate_page.html")

    def __str__(self) -> str:
        return self.to_markdown().rstrip()


def page_of(report: object, template: str) -> str:
    """A report as a page that needs no other file, by a template beside this file."""
    import jinja2

    beside = jinja2.FileSystemLoader(Path(__file__).parent)
    strict = jinja2.StrictUndefined
    pages = jinja2.Environment(loader=beside, autoescape=True, undefined=strict)
    return pages.get_template(template).render(report=report, colors=COLORS)


def gate(
    translator: Translator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    *,
    queries: PairSource | tuple[Sequence[Any], Sequence[Any]],
    corpus: PairSource | tuple[Sequence[Any], Sequence[Any]],
    batch_size: BatchSize = "auto",
    chunk_size: int = CHUNK_SIZE,
    max_streamed: int = 100_000,
    progress: bool = False,
    **settings: Any,
) -> GateReport:
    """Encodes queries and a corpus with both encoders, and judges search by the translator.

    Args:
        translator: A fitted translator.
        source: Its source encoder; if the items are latents already, their space or None.
        target: Its target encoder; if the items are latents already, their space or None.
        queries: Queries for both encoders, as pairs. All latents are held in memory.
        corpus: Items for both encoders, as pairs; a sample of the store will do.
        batch_size: Items per forward pass; "auto" for as many as suit the device.
        chunk_size: Pairs that are read and encoded at a time.
        max_streamed: Refuse a stream of more pairs.
        progress: Show a progress bar.
        settings: As `gate_latents` takes them.

    Raises:
        SpaceMismatchError: An encoder is not the one that the translator was fitted on.
        InvalidPairsError: A bad row, no pairs, or a stream of too many.
        InvalidLatentsError: An encoder gave NaN or infinity, or another dim.
        NotFittedError: The translator is not fitted.
        TypeError: A setting that `gate_latents` does not take.
    """
    check_translator(translator)
    check_settings(settings)
    encoded = both_latents(
        (source, target),
        (translator.source_, translator.pair_spaces_[1]),
        (queries, corpus),
        batch_size=batch_size,
        chunk_size=chunk_size,
        max_streamed=max_streamed,
        progress=progress,
    )
    return gate_latents(translator, queries=encoded[0], corpus=encoded[1], **settings)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuses settings that `gate_latents` does not take, before anything is encoded for it.

    Raises:
        TypeError: Names the first of them.
    """
    inspect.signature(gate_latents).bind(None, queries=None, corpus=None, **settings)


def both_latents(
    encoders: tuple[EncoderLike | SpaceSpec | None, EncoderLike | SpaceSpec | None],
    spaces: tuple[SpaceSpec, SpaceSpec],
    parts: Sequence[PairSource | tuple[Sequence[Any], Sequence[Any]]],
    *,
    batch_size: BatchSize = "auto",
    chunk_size: int = CHUNK_SIZE,
    max_streamed: int = 100_000,
    progress: bool = False,
) -> list[tuple[Tensor, Tensor]]:
    """Latents of queries and corpus by two encoders.

    Args:
        encoders: The two, as for `gate`.
        spaces: What they must be.
        parts: Queries and corpus, as pairs.
        batch_size: As for `gate`.
        chunk_size: As for `gate`.
        max_streamed: As for `gate`.
        progress: As for `gate`.

    Raises:
        SpaceMismatchError: An encoder is not of its space.
    """
    for side, expected in zip(_sides(encoders), spaces, strict=True):
        check_space(side, expected)
    loops = [
        EncodingLoop(
            as_pairs(part),
            _sides(encoders),
            "gate",
            batch_size=batch_size,
            chunk_size=chunk_size,
            progress=progress,
        )
        for part in parts
    ]
    return [all_latents(loop, max_streamed)[:2] for loop in loops]


def _sides(
    encoders: tuple[EncoderLike | SpaceSpec | None, EncoderLike | SpaceSpec | None],
) -> tuple[Side, Side]:
    return Side("source", encoders[0]), Side("target", encoders[1])


def gate_latents(
    translator: Translator,
    *,
    queries: tuple[Latents | None, Latents],
    corpus: tuple[Latents | None, Latents],
    translates: Translates = "corpus",
    hubness: Hubness | None = None,
    bank: Latents | None = None,
    n_neighbors: int = 10,
    relevance: Relevance | None = None,
    slices: Sequence[str] | None = None,
    query_ids: Sequence[str] | None = None,
    k: int = 10,
    score: str | None = None,
    pass_at: float | None = None,
    warn_at: float | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> GateReport:
    """Judges search by a translator against the target encoder's own.

    With relevance judgements recall@k decides; nDCG@k and the reciprocal rank within k results can
    hold a pass back, where they are below `warn_at`. Without judgements `near@k` decides: how near
    the best of the first k items is to the query in the target's own space, compared with the best
    of all: 1 where it is as near, 0 where it is no nearer than the average item. It is close to the
    retention of recall@k that judgements would show, or below it.

    Args:
        translator: A fitted translator.
        queries: Latents of the queries, by the source encoder (n, d_source) or None, and by the
            target encoder (n, d_target).
        corpus: Latents of the items, by the source encoder (m, d_source) or None, and by the
            target encoder (m, d_target).
        translates: "corpus" if the stored vectors are translated and the target encoder asks;
            "queries" if the source encoder asks and the store holds the target's vectors.
        hubness: "csls" to judge the search in the folded form, which `migrate(hubness="csls")`
            writes: only for a translated corpus. None for not.
        bank: For "csls": target latents of queries, (m, d_target); None for those that the
            translator keeps. Not the queries that are judged here.
        n_neighbors: For "csls": how many of the bank's nearest count.
        relevance: For the number of a query the gains of relevant items by their number; queries
            without a relevant item are left out.
        slices: A name for each query, by which retention is shown apart.
        query_ids: A name for each query, for the list of the worst; None for its number.
        k: How many results count.
        score: Which score decides alone, such as "mrr@10", or "first@10" without judgements; None
            for recall@k and near@k.
        pass_at: The gate passes if the lower end of the 95 % interval of retention reaches it;
            None for 0.95.
        warn_at: The gate fails if the mean retention is below it; None for 0.9, and for 0.8
            without judgements.
        n_bootstrap: Draws of the queries for the intervals.
        seed: Seeds the draws.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity, or the side that is translated is
            missing.
        InvalidPairsError: Fewer than 2 queries, no more than k items, or judgements of queries or
            items that are not there.
        ValueError: A parameter out of range, or no bank for "csls".
    """
    check_translator(translator)
    judged = relevance is not None
    limits = Thresholds.default(judged).with_limits(pass_at, warn_at)
    searches = _searches(translator, queries, corpus, translates)
    if hubness is not None or bank is not None:
        _fold(searches, _folding(translator, translates, hubness, bank, n_neighbors))
    native = searches["native"]
    slices, query_ids = (None if names is None else list(names) for names in (slices, query_ids))
    check_sizes(native, relevance, k, slices=slices, query_ids=query_ids)
    if not judged:
        searches |= _halves(*native, seed)
    best = {name: first_k(*search, k=k) for name, search in searches.items()}
    scores = search_scores(best, native, relevance, k)
    kept = torch.tensor(sorted(relevance)) if relevance else torch.arange(len(native[0]))
    draws = bootstrap_draws(len(kept), n_bootstrap, seed)
    retention = {
        name: retention_of(scores["native"][name], values, draws)
        for name, values in scores["translated"].items()
    }
    decides = deciding(retention, score)
    native_score, own_score = (scores[search][decides] for search in ("native", "translated"))
    names = [] if slices is None else [str(slices[query]) for query in kept.tolist()]
    by_slice = _by_slice(native_score, own_score, names, n_bootstrap, seed)
    verdict, reasons = gravest_first(
        judge_retention(decides, retention[decides], limits, len(kept), judged=judged),
        judge_order(decides, retention, limits) if judged and score is None else (),
        _judge_baselines(scores, decides, draws, limits),
        _judge_translation(translator, searches, translates),
        judge_number(len(kept), limits),
        () if judged else _judge_own_items(*native, best["native"][:, 0]),
        _judge_evidence(by_slice, limits, judged=judged),
    )
    return GateReport(
        verdict=verdict,
        reasons=reasons,
        retention=retention,
        decides=decides,
        systems={
            name: {label: float(values.mean()) for label, values in found.items()}
            for name, found in scores.items()
        },
        slices=by_slice,
        worst=_worst(native_score - own_score, kept, query_ids),
        judged=judged,
        translates=translates,
        k=k,
        n_queries=len(kept),
        n_items=len(native[1]),
        thresholds=limits,
        settings={"n_bootstrap": n_bootstrap, "seed": seed, **_folded(hubness, n_neighbors)},
    )


def first_k(
    queries: Float[Tensor, "n d"], items: Float[Tensor, "m d"], *, k: int
) -> Int[Tensor, "n k"]:
    """The numbers of the k items with the highest cosine for each query, best first."""
    found = [block.topk(k, dim=1).indices.cpu() for _, block in similarity_blocks(queries, items)]
    return torch.cat(found)


def ranking_scores(
    found: Int[Tensor, "n k"], relevance: Relevance
) -> dict[str, Float[Tensor, " judged"]]:
    """Recall, nDCG and reciprocal rank of the judged queries, in the order of their numbers.

    nDCG has linear gains and a logarithmic discount, as in trec_eval and scikit-learn
    (Järvelin & Kekäläinen 2002).

    Args:
        found: Numbers of the first k items for each query, best first.
        relevance: Positive gains of relevant items.
    """
    k = found.shape[1]
    discounts = [1 / math.log2(place + 2) for place in range(k)]
    rows, lists = [], found.tolist()
    for query in sorted(relevance):
        gains = relevance[query]
        got = [gains.get(item, 0.0) for item in lists[query]]
        ideal = heapq.nlargest(k, gains.values())
        hits = [place for place, gain in enumerate(got) if gain]
        rows.append(
            [
                len(hits) / len(gains),
                _dot(got, discounts) / _dot(ideal, discounts),
                1 / (hits[0] + 1) if hits else 0.0,
            ]
        )
    columns = torch.tensor(rows, dtype=torch.float64).unbind(1)
    return dict(zip((f"recall@{k}", f"ndcg@{k}", f"mrr@{k}"), columns, strict=True))


def _dot(gains: Sequence[float], discounts: Sequence[float]) -> float:
    return sum(gain * discount for gain, discount in zip(gains, discounts, strict=False))


def _searches(
    translator: Translator,
    queries: tuple[Latents | None, Latents],
    corpus: tuple[Latents | None, Latents],
    translates: Translates,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Queries and items of each system that is compared, in one space each."""
    if translates not in ("corpus", "queries"):
        raise ValueError(f"translates must be 'corpus' or 'queries', got {translates!r}")
    target_q, target_c = _target_side(queries), _target_side(corpus)
    device = target_q.device  # one encoder's latents may come from a GPU, the other's from a file
    target_c = target_c.to(device)
    source_q, source_c = (
        None if source is None else as_matrix(source).to(device) for source, _ in (queries, corpus)
    )
    given = source_c if translates == "corpus" else source_q
    if given is None:
        raise InvalidLatentsError(
            f"the {translates} must be given by the source encoder too, for they are translated"
        )
    for source, target, what in ((source_q, target_q, "queries"), (source_c, target_c, "corpus")):
        if source is not None:
            _check_rows(source, target, what, translator)
    translated = as_tensor(translator.transform(given)).float()
    dim = translator.pair_spaces_[1].dim
    if dim != target_c.shape[1] or target_q.shape[1] != target_c.shape[1]:
        raise InvalidLatentsError(
            f"the target's latents must be {dim} wide, got {target_q.shape[1]} "
            f"(queries) and {target_c.shape[1]} (corpus)"
        )
    searches = {"native": (target_q, target_c)}
    if translates == "corpus":
        searches["translated"] = (_placed(translator, target_q), translated)
        raw = (target_q, given)
    else:
        searches["translated"] = (translated, _placed(translator, target_c))
        raw = (given, target_c)
    if source_q is not None and source_c is not None:
        searches["old"] = (source_q, source_c)
    if raw[0].shape[1] == raw[1].shape[1]:
        searches["untranslated"] = raw
    if translator.can_remove_shift:
        searches |= _unshifted(searches, translates)
    return searches


def _target_side(pair: tuple[Latents | None, Latents | None]) -> Tensor:
    if pair[1] is None:
        raise InvalidLatentsError("queries and corpus must be given by the target encoder")
    return as_matrix(pair[1])


def _placed(translator: Translator, target: Tensor) -> Tensor:
    """Target latents where translations are compared with them."""
    return as_tensor(translator.transform_target(target)).float()


def _unshifted(
    searches: Mapping[str, tuple[Tensor, Tensor]], translates: Translates
) -> dict[str, tuple[Tensor, Tensor]]:
    """The translated search without the direction of the target's mean on the translated side."""
    queries, items = searches["translated"]
    mean = searches["native"][1].mean(0)
    if not bool(mean.norm() > 0):
        return {}
    direction = unit_rows(mean)
    moved = items if translates == "corpus" else queries
    moved = moved - (moved @ direction)[:, None] * direction
    return {"unshifted": (queries, moved) if translates == "corpus" else (moved, items)}


def _folding(
    translator: Translator,
    translates: Translates,
    hubness: Hubness | None,
    bank: Latents | None,
    n_neighbors: int,
) -> Folding:
    if hubness != "csls":
        raise ValueError(f"hubness must be 'csls' where a bank is given, or None, got {hubness!r}")
    if translates != "corpus":
        raise ValueError(
            "the items are folded when they are written: a store whose queries are translated "
            "keeps its items, so leave hubness out (`rescore` corrects the lists it finds)"
        )
    folding = Folding("items", bank, n_neighbors, "cosine")
    return with_bank(folding, translator)


def _fold(searches: dict[str, tuple[Tensor, Tensor]], folding: Folding) -> None:
    """Folds the translated search, and keeps it as it was beside it."""
    queries, items = searches["unfolded"] = searches["translated"]
    folded = folding.fold(items)
    searches["translated"] = fold_queries(queries, metric=folding.metric).to(folded), folded


def _folded(hubness: Hubness | None, n_neighbors: int) -> dict[str, int | str]:
    return {} if hubness is None else {"hubness": hubness, "n_neighbors": n_neighbors}


def as_matrix(latents: Latents) -> Tensor:
    """Latents (n, d) in float32.

    Raises:
        InvalidLatentsError: Not a matrix, NaN or infinity, or all rows are equal.
    """
    tensor = as_tensor(latents).detach().float()
    if tensor.ndim != 2:
        raise InvalidLatentsError(f"latents must be a matrix, got shape {tuple(tensor.shape)}")
    check_finite(tensor)
    if len(tensor) > 1 and torch.equal(tensor[0], tensor[1]) and bool((tensor == tensor[0]).all()):
        raise InvalidLatentsError(
            f"all {len(tensor):,} latents are equal, so nothing can be ranked: check the encoder"
        )
    return tensor


def _check_rows(source: Tensor, target: Tensor, what: str, translator: Translator) -> None:
    if len(source) != len(target):
        raise InvalidLatentsError(
            f"both encoders must give the same {what}, got {len(source)} and {len(target)} rows"
        )
    if source.shape[1] != (dim := translator.source_.dim):
        raise InvalidLatentsError(
            f"the source's latents must be {dim} wide, got {source.shape[1]} ({what})"
        )


def check_sizes(
    native: tuple[Tensor, Tensor],
    relevance: Relevance | None,
    k: int,
    **names: Sequence[str] | None,
) -> None:
    """Refuses too few queries or items, and names or judgements that do not fit them.

    Raises:
        InvalidPairsError: Says which.
        ValueError: `k` is less than 1.
    """
    n, m = len(native[0]), len(native[1])
    check_count("k", k)
    if n < 2 or m <= k:
        raise InvalidPairsError(
            f"at least 2 queries and more than {k} items are needed, got {n} and {m}"
        )
    for what, given in names.items():
        if given is not None and len(given) != n:
            raise InvalidPairsError(
                f"{what} must have one for each of {n} queries, got {len(given)}"
            )
    if relevance is None:
        return
    if len(relevance) < 2:
        raise InvalidPairsError(
            f"judgements of at least 2 queries are needed, got {len(relevance)}"
        )
    for query, gains in relevance.items():
        if not 0 <= query < n or any(not 0 <= item < m for item in gains):
            raise InvalidPairsError(
                f"relevance names query {query} with the items {list(gains)[:3]}; there are {n} "
                f"queries and {m} items"
            )
        if not gains or any(not 0 < gain < float("inf") for gain in gains.values()):
            raise InvalidPairsError(
                f"query {query} needs at least one relevant item, with a gain above 0: got "
                f"{dict(gains)}"
            )


def _halves(queries: Tensor, items: Tensor, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The native search by half of its dimensions, a change that most would call harmless."""
    width = queries.shape[1]
    if width < 2:
        return {}
    draw = torch.Generator().manual_seed(seed)
    half = torch.randperm(width, generator=draw)[: width // 2].to(queries.device)
    return {"half": (queries[:, half], items[:, half])}


def search_scores(
    best: Mapping[str, Tensor],
    native: tuple[Tensor, Tensor],
    relevance: Relevance | None,
    k: int,
) -> dict[str, dict[str, Tensor]]:
    """Each score for each system and query; the first one says how much is found.

    Args:
        best: The first k items that each system finds, by its name; one is "native".
        native: Queries and items by the target encoder.
        relevance: As for `gate_latents`.
        k: How many results count.
    """
    if relevance is not None:
        return {name: ranking_scores(found, relevance) for name, found in best.items()}
    firsts = best["native"][:, :1]
    alone = {query: {item: 1.0} for query, item in enumerate(firsts[:, 0].tolist())}
    scores = {}
    for name, found in best.items():
        recall, _, mrr = ranking_scores(found, alone).values()
        scores[name] = {
            f"near@{k}": nearness(found, firsts, *native),
            f"first@{k}": recall,
            f"first_mrr@{k}": mrr,
            f"overlap@{k}": overlaps(found, best["native"]),
        }
    return scores


def nearness(
    found: Int[Tensor, "n k"],
    firsts: Int[Tensor, "n 1"],
    queries: Float[Tensor, "n d"],
    items: Float[Tensor, "m d"],
) -> Float[Tensor, " n"]:
    """How near the best of the items found is to the query, compared with the native first one.

    Both are cosines by the target encoder less their mean over all items. The ratio is squared: by
    that much it agreed best with what relevance judgements say of recall.
    """
    queries, items = (unit_rows(x.double()) for x in (queries, items))
    usual = queries @ items.mean(0)
    got, whole = (
        torch.stack([(queries * items[column]).sum(1) for column in numbers.to(items.device).T])
        .amax(0)
        .sub(usual)
        .clamp(min=0)
        for numbers in (found, firsts)
    )
    ratio = torch.where(whole > 0, got / whole.clamp(min=1e-12), 1.0)
    return ratio.clamp(max=1).square().cpu()


def bootstrap_draws(n: int, n_bootstrap: int, seed: int) -> Float[Tensor, "draws n"]:
    """How often each query is in each draw with replacement, as a share."""
    check_count("n_bootstrap", n_bootstrap)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(n, (n_bootstrap, n), generator=generator)
    counts = torch.zeros(n_bootstrap, n, dtype=torch.float64)
    return counts.scatter_add_(1, picks, counts.new_ones(1, 1).expand_as(counts)).div_(n)


def retention_of(native: Tensor, translated: Tensor, draws: Tensor) -> Retention:
    """What one search keeps of another's score, by query.

    Raises:
        InvalidPairsError: The other finds nothing.
    """
    base, got = float(native.mean()), float(translated.mean())
    if base == 0:
        raise InvalidPairsError(
            "the target encoder itself finds nothing relevant: check queries and judgements"
        )
    lower, upper = interval_of((draws @ translated) / (draws @ native).clamp(min=1e-12))
    return Retention(base, got, got / base, lower, upper)


def _by_slice(
    native: Tensor, translated: Tensor, slices: Sequence[str], n_bootstrap: int, seed: int
) -> dict[str, Retention]:
    """Retention of one score by the slice of each judged query."""
    found = {}
    for name in sorted(set(slices)):
        rows = torch.tensor([own == name for own in slices])
        if not native[rows].sum() > 0:
            continue
        draws = bootstrap_draws(int(rows.sum()), n_bootstrap, seed)
        found[name] = retention_of(native[rows], translated[rows], draws)
    return found


def _worst(lost: Tensor, kept: Tensor, query_ids: Sequence[str] | None) -> list[tuple[str, float]]:
    order = lost.argsort(descending=True, stable=True)[:_WORST]
    named = [(str(query_ids[i]) if query_ids else str(i)) for i in kept[order].tolist()]
    return [
        (name, loss) for name, loss in zip(named, lost[order].tolist(), strict=True) if loss > 0
    ]


# Reasons ----------------------------------------------------------------------------------


def gravest_first(*judgements: Iterable[Reason]) -> tuple[Verdict, list[Reason]]:
    """The gravest verdict, and all reasons by it, notes last; else as they were given."""
    order = (*SEVERITY, "note")
    reasons = sorted(chain.from_iterable(judgements), key=lambda reason: order.index(reason[0]))
    given = [kind for kind, _ in reasons]
    return next(verdict for verdict in SEVERITY if verdict in given), reasons


def deciding(retention: Mapping[str, Retention], score: str | None = None) -> str:
    """The score that decides: the one that is named, else how much is found.

    Raises:
        ValueError: There is no score of this name.
    """
    if score is not None and score not in retention:
        raise ValueError(f"score must be one of {list(retention)}, got {score!r}")
    return next(iter(retention)) if score is None else score


def finest(names: Iterable[str]) -> str:
    """The score that shows small differences between two searches: the reciprocal rank."""
    return next(name for name in names if "mrr" in name)


def judge_retention(
    name: str, kept: Retention, limits: Thresholds, n_queries: int, *, judged: bool
) -> Iterable[Reason]:
    """Whether enough is kept of the score that decides, and what would tell where it is open."""
    told = f"{name} is {shown_interval(kept)} of the native {kept.native:.3f}"
    if kept.lower >= limits.passing:
        yield "pass", f"{told}, at least {limits.passing:g}"
        return
    if kept.mean < limits.warning:
        yield "fail", f"{told}, below {limits.warning:g}"
        return
    told += f": the interval does not reach {limits.passing:g}"
    if kept.mean > limits.passing:
        enough = n_queries * ((kept.mean - kept.lower) / (kept.mean - limits.passing)) ** 2
        yield "warn", f"{told}; about {_rounded(enough):,} such queries would show whether it does"
    else:
        but = "" if judged else "; judgements would tell what the loss means"
        yield "warn", f"{told}; more pairs may{but}"


def judge_order(
    decides: str, retention: Mapping[str, Retention], limits: Thresholds
) -> Iterable[Reason]:
    """Scores of the order among the results, which can hold a pass back and fail nothing."""
    k = decides.rpartition("@")[2]
    for name, kept in retention.items():
        if k == "1" or name == decides or kept.mean >= limits.warning:
            continue
        yield (
            "warn",
            f"{name} is {shown_interval(kept)}, below {limits.warning:g}: the first {k} results "
            "are in another order. Where all of them are read it may not matter, else --k or "
            f"--score {name} asks for what is needed",
        )


def _rounded(number: float) -> int:
    """Upwards to two digits, for what is an estimate."""
    step = int(10 ** max(0, len(str(int(number))) - 2))
    return math.ceil(number / step) * step


def _judge_baselines(
    scores: Mapping[str, Mapping[str, Tensor]], first: str, draws: Tensor, limits: Thresholds
) -> Iterable[Reason]:
    """What the other systems tell about the translated search, each where it could be had."""
    if "untranslated" in scores:
        yield from _judge_untranslated(scores, first, draws)
    if "unshifted" in scores:
        yield from _judge_shift(scores, draws)
    if "unfolded" in scores:
        yield from _judge_folding(scores, first, draws)
    if "old" in scores:
        yield from _judge_old(scores, first, draws, limits)
    if "half" in scores:
        yield from _judge_stability(scores["half"])


def _judge_untranslated(
    scores: Mapping[str, Mapping[str, Tensor]], first: str, draws: Tensor
) -> Iterable[Reason]:
    plain, translated = scores["untranslated"], scores["translated"]
    gains = (translated[name] - plain[name] for name in translated)
    share = float(plain[first].mean())
    if share > 0 and all(interval_of(draws @ gain)[0] <= 0 for gain in gains):
        yield (
            "fail",
            f"the vectors do as well untranslated ({first} {share:.3f}, translated "
            f"{float(translated[first].mean()):.3f}): the translator adds nothing",
        )


def _judge_shift(scores: Mapping[str, Mapping[str, Tensor]], draws: Tensor) -> Iterable[Reason]:
    order = finest(scores["translated"])
    was, plain = (scores[search][order] for search in ("translated", "unshifted"))
    if interval_of(draws @ (plain - was))[0] > 0:
        yield (
            "note",
            f"without the shift it would be better ({order} {float(plain.mean()):.3f}, as it is "
            f"{float(was.mean()):.3f}): remove_shift, or fit --remove-shift",
        )


def _judge_folding(
    scores: Mapping[str, Mapping[str, Tensor]], first: str, draws: Tensor
) -> Iterable[Reason]:
    plain, folded = scores["unfolded"][first], scores["translated"][first]
    if interval_of(draws @ (folded - plain))[1] < 0:
        yield (
            "warn",
            f"the correction for hubs costs more than it finds ({first} without it "
            f"{float(plain.mean()):.3f}, with it {float(folded.mean()):.3f}): leave it out",
        )


def _judge_old(
    scores: Mapping[str, Mapping[str, Tensor]], first: str, draws: Tensor, limits: Thresholds
) -> Iterable[Reason]:
    if not float(scores["old"][first].mean()) > 0:
        return
    old = retention_of(scores["old"][first], scores["translated"][first], draws)
    if old.upper < 1:
        better = "is nearer to the new one" if "half" in scores else "is better"
        yield (
            "warn" if old.upper < limits.passing else "note",
            f"the old encoder by itself {better} ({first} {old.native:.3f}, translated "
            f"{old.translated:.3f}): keep it, or encode again, if you can",
        )


def _judge_stability(half: Mapping[str, Tensor]) -> Iterable[Reason]:
    name = next(name for name in half if name.startswith("first@"))
    stable = float(half[name].mean())
    if stable < _STABLE:
        yield (
            "warn",
            f"the native ranking is not stable: by half of its dimensions its {name} is "
            f"{stable:.3f}, so it is a poor yardstick",
        )


def _judge_translation(
    translator: Translator, searches: Mapping[str, tuple[Tensor, Tensor]], translates: Translates
) -> Iterable[Reason]:
    side = 0 if translates == "queries" else 1
    translated = searches.get("unfolded", searches["translated"])[side]
    native = _placed(translator, searches["native"][side])
    if look_shuffled(PairedMoments.from_batch(translated, native)):
        yield (
            "fail",
            "translations are related to the target's own latents no more than those of shuffled "
            "items: do the rows of both sides belong together, and is the source the right one?",
        )


def _judge_own_items(queries: Tensor, items: Tensor, firsts: Tensor) -> Iterable[Reason]:
    found = int((queries == items[firsts.to(items.device)]).all(1).sum())
    if found > len(queries) / 2:
        yield (
            "warn",
            f"{found:,} of {len(queries):,} queries are items of the corpus, and the first that "
            "such a query must find is itself, which any map can do: pass other queries, or "
            "relevance judgements",
        )


def judge_number(n_queries: int, limits: Thresholds) -> Iterable[Reason]:
    """Whether so many queries can show what is asked for."""
    fewest = _fewest(limits.passing)
    if n_queries < fewest:
        yield (
            "warn",
            f"{n_queries} queries tell little: {limits.passing:g} can be shown by {fewest:,}, of "
            "which none loses",
        )


def _judge_evidence(
    slices: Mapping[str, Retention], limits: Thresholds, *, judged: bool
) -> Iterable[Reason]:
    for name, found in slices.items():
        if found.upper < limits.warning:
            yield "warn", f"slice {name!r} keeps only {shown_interval(found)}"
    if not judged:
        yield (
            "note",
            "no judgements were given: how near the best of the items found is to the query, by "
            "the new encoder's own measure, stands for how much is found; the order is not judged",
        )


def _fewest(passing: float) -> int:
    """Fewer queries cannot show it, even if none of them loses: passing^n must be below 0.025."""
    if not 0 < passing < 1:
        return _FEW_QUERIES
    return min(_MOST_QUERIES, max(2, math.ceil(math.log(0.025) / math.log(passing))))


def shown_interval(found: Retention) -> str:
    """A retention with its interval."""
    return f"{found.mean:.3f} [{found.lower:.3f}, {found.upper:.3f}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
