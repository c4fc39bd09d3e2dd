"""evaluate: how well a translator does on held-out pairs, compared with chance."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, get_args

import torch
from torch import Tensor

from hf_latent_bridge import metrics
from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import CHUNK_SIZE, EVERYTHING, PairSource
from hf_latent_bridge.data.items import class_labels
from hf_latent_bridge.data.pairs import Pairs, as_pairs
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError, SpaceMismatchError
from hf_latent_bridge.fitting.encoding import EncodingLoop, OnBadRow, Side
from hf_latent_bridge.hubness import Hubness, fold_items, fold_queries
from hf_latent_bridge.latents import Latents, all_finite, as_tensor, check_finite
from hf_latent_bridge.metrics import bootstrap_intervals, permutation_scores
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SHARED, SpaceSpec
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import check_translator


@dataclass(frozen=True)
class Scores:
    """How well predictions match their counterparts.

    Attributes:
        cosine: Mean cosine similarity.
        r2: Share of the variance of the targets that is explained.
        recall_at_1: Share of predictions whose counterpart is the nearest of all targets.
        recall_at_10: Share of predictions whose counterpart is among the ten nearest.
        mrr: Mean reciprocal rank of the counterparts.
    """

    cosine: float
    r2: float
    recall_at_1: float
    recall_at_10: float
    mrr: float

    @classmethod
    def compare(cls, predicted: Tensor, target: Tensor, ranks: Tensor | None = None) -> "Scores":
        """Scores predictions (n, d) against their counterparts (n, d)."""
        ranks = metrics.counterpart_ranks(predicted, target) if ranks is None else ranks
        return cls(
            cosine=metrics.mean_cosine(predicted, target),
            r2=metrics.r2_score(predicted, target),
            recall_at_1=metrics.recall_at_k(ranks, 1),
            recall_at_10=metrics.recall_at_k(ranks, 10),
            mrr=metrics.mean_reciprocal_rank(ranks),
        )

    def to_dict(self) -> dict[str, float]:
        """The scores by their names in the config and on the card.

        R² is left out if the targets do not vary, since JSON has no NaN.
        """
        values = (self.cosine, self.r2, self.recall_at_1, self.recall_at_10, self.mrr)
        return _finite(dict(zip(metrics.NAMES, values, strict=True)))


@dataclass(frozen=True)
class Chance:
    """A score over shuffled pairs, and how often it reaches the score of the true pairs.

    Attributes:
        mean: Mean over the shuffles.
        p95: 95th percentile.
        p99: 99th percentile.
        p_value: Share of pairings, the true one included, that score at least as well as it.
    """

    mean: float
    p95: float
    p99: float
    p_value: float

    @classmethod
    def from_scores(cls, scores: Tensor) -> "Chance":
        """From the scores of the true pairing (first) and of the shuffled ones."""
        shuffled = scores[1:]
        p95, p99 = torch.quantile(shuffled, torch.tensor([0.95, 0.99], dtype=scores.dtype)).tolist()
        return cls(float(shuffled.mean()), p95, p99, metrics.p_value(scores))

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return {"mean": self.mean, "p95": self.p95, "p99": self.p99, "p_value": self.p_value}


@dataclass(frozen=True)
class Ranking:
    """How one way to rank the targets serves a search.

    Attributes:
        recall_at_1: Share of predictions whose counterpart comes first.
        recall_at_10: Share of predictions whose counterpart is among the first ten.
        mrr: Mean reciprocal rank of the counterparts.
        overlap_at_10: Share of the target encoder's own ten nearest that are among the first ten,
            the counterpart itself left out.
        same_class_at_10: Share of the first ten, the counterpart left out, that have the class of
            the pair; NaN without labels.
    """

    recall_at_1: float
    recall_at_10: float
    mrr: float
    overlap_at_10: float
    same_class_at_10: float = math.nan

    @classmethod
    def score(cls, ranks: Tensor, found: Tensor, native: Tensor, classes: Tensor) -> Self:
        """Scores a ranking of the targets.

        Args:
            ranks: Of each prediction's counterpart, (n,).
            found: The targets nearest to each prediction, without its counterpart, (n, k).
            native: The same by the target encoder itself, (n, k).
            classes: The class of each pair, (n,); empty where it is unknown.
        """
        return cls(
            recall_at_1=metrics.recall_at_k(ranks, 1),
            recall_at_10=metrics.recall_at_k(ranks, 10),
            mrr=metrics.mean_reciprocal_rank(ranks),
            overlap_at_10=metrics.overlap(found, native),
            same_class_at_10=metrics.same_class(found, classes) if len(classes) else math.nan,
        )

    def to_dict(self) -> dict[str, float]:
        """The scores by their names in the config and on the card, without those not known."""
        values = (
            self.recall_at_1,
            self.recall_at_10,
            self.mrr,
            self.overlap_at_10,
            self.same_class_at_10,
        )
        return _finite(dict(zip(_RANKED, values, strict=True)))


_RANKED = ("recall@1", "recall@10", "mrr", "overlap@10", "same class@10")


@dataclass(frozen=True)
class SearchReport:
    """How a search over the targets does, plain and with hubs taken into account.

    Attributes:
        plain: By cosine.
        corrected: By CSLS with the bank; None without.
        native_same_class: Share of the target encoder's own ten nearest that have the class of the
            pair; NaN without labels.
        mrr_gain: 95 % bootstrap interval of the gain in mean reciprocal rank; None without a bank.
        bank: Which bank of queries, "translator" or "given", and its `size` and `n_neighbors`.
    """

    plain: Ranking
    corrected: Ranking | None = None
    native_same_class: float = math.nan
    mrr_gain: tuple[float, float] | None = None
    bank: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What the correction does to counterparts, and to neighbours, in a sentence."""
        if self.corrected is None or self.mrr_gain is None:
            return "No bank of queries, so no correction for hubs."
        lower, upper = self.mrr_gain
        interval = f"mrr {lower:+.3f} to {upper:+.3f}"
        neighbours = (
            f"overlap with the target's own neighbours {self.plain.overlap_at_10:.3f} -> "
            f"{self.corrected.overlap_at_10:.3f}"
        )
        if lower > 0:
            return f"The correction finds more counterparts ({interval}); {neighbours}."
        if upper < 0:
            return (
                f"The correction hurts: it finds fewer counterparts ({interval}); {neighbours}. "
                "Search without it, or with a bank of queries like these."
            )
        return f"The correction makes no clear difference ({interval}); {neighbours}."

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        content: dict[str, Any] = {"plain": self.plain.to_dict()}
        if not math.isnan(self.native_same_class):
            content["native"] = {_RANKED[-1]: self.native_same_class}
        if self.corrected is not None and self.mrr_gain is not None:
            content["corrected"] = self.corrected.to_dict()
            content |= {"mrr_gain": list(self.mrr_gain), "bank": dict(self.bank)}
        return content

    def __str__(self) -> str:
        content = self.to_dict()
        rows = {
            "search": list(content["plain"]),
            "plain": _printed(content["plain"], content["plain"]),
        }
        if self.corrected is not None:
            rows["csls"] = _printed(content["corrected"], content["plain"])
        if "native" in content:
            rows["native"] = _printed(content["native"], content["plain"])
        text = [f"{name:14}" + "".join(f"{c:>15}" for c in cells) for name, cells in rows.items()]
        if self.corrected is not None:
            text.append(
                f"Bank of queries: {self.bank['size']:,} latents, {self.bank['name']}; "
                f"{self.bank['n_neighbors']} nearest count. {self.verdict}"
            )
        return "\n".join(text)


def _printed(scores: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    return [f"{scores[name]:.3f}" if name in scores else "-" for name in columns]


@dataclass(frozen=True)
class Report:
    """The result of `evaluate`; `print(report)` shows a table.

    Attributes:
        n_pairs: Number of pairs, which is also the number of retrieval candidates.
        translated: Scores of the translator.
        untranslated: Scores of the source latents as they are, padded with zeros or cut to the
            target's dim.
        shuffled: Mean scores against random counterparts.
        intervals: 95 % bootstrap interval of each score of the translator.
        chance: How each score spreads over shuffled pairs, and its p-value.
        cka: Linear CKA of source and translated latents with the targets, and debiased.
        settings: `seed`, `n_bootstrap` and `n_permutations`.
        dataset: Where the pairs come from.
        search: Rankings with and without correction for hubs, where that or labels were given.
    """

    n_pairs: int
    translated: Scores
    untranslated: Scores
    shuffled: Scores
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    chance: Mapping[str, Chance] = field(default_factory=dict)
    cka: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    search: SearchReport | None = None

    @property
    def p_value(self) -> float:
        """The smallest p-value of the scores: near 1 if shuffled pairs would score as well."""
        values = [chance.p_value for chance in self.chance.values()]
        return min((p for p in values if not math.isnan(p)), default=math.nan)

    @property
    def no_better_than_shuffled(self) -> bool:
        """Whether every score has a p-value above 5 %, so that none tells it from chance.

        Where fewer than 19 shuffles leave no room for less: whether each is reached by a shuffle.
        """
        shuffles = self.settings.get("n_permutations", math.inf)
        return self.p_value > max(_CHANCE_LEVEL, 1 / (shuffles + 1))

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as the config and the card take them."""
        rows = {name: getattr(self, name).to_dict() for name in _COMPARED}
        return {
            "n_pairs": self.n_pairs,
            "dataset": dict(self.dataset),
            **rows,
            "intervals": {name: list(self.intervals[name]) for name in rows["translated"]},
            "chance": {name: self.chance[name].to_dict() for name in rows["translated"]},
            "cka": _finite(self.cka),
            **({} if self.search is None else {"search": self.search.to_dict()}),
            **self.settings,
        }

    def __str__(self) -> str:
        content = self.to_dict()
        intervals = content["intervals"].values()
        lines = {name: [f"{value:.3f}" for value in content[name].values()] for name in _COMPARED}
        table = [
            (f"{self.n_pairs:,} pairs", list(content["translated"])),
            ("translated", lines["translated"]),
            ("95 % interval", [f"{lower:.3f}..{upper:.3f}" for lower, upper in intervals]),
            ("untranslated", lines["untranslated"]),
            ("shuffled", lines["shuffled"]),
        ]
        text = [f"{name:14}" + "".join(f"{cell:>15}" for cell in row) for name, row in table]
        if self.search is not None:
            text.append(str(self.search))
        if self.no_better_than_shuffled:
            text.append(
                f"The translator is no better than on shuffled pairs (p = {self.p_value:.2g})"
            )
        return "\n".join(text)


_COMPARED = ("translated", "untranslated", "shuffled")
_CHANCE_LEVEL = 0.05


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if not math.isnan(score)}


def evaluate(
    translator: Translator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: BatchSize = "auto",
    chunk_size: int = CHUNK_SIZE,
    on_bad_row: OnBadRow = "stop",
    max_streamed: int = 100_000,
    seed: int = 0,
    n_bootstrap: int = 1000,
    n_permutations: int = 1000,
    hubness: Hubness | None = None,
    bank: Latents | None = None,
    n_neighbors: int = 10,
    labels: Sequence[Hashable] | None = None,
    target_translator: Translator | None = None,
    progress: bool = False,
) -> Report:
    """Encodes held-out pairs and reports how close translated latents are to their counterparts.

    Args:
        translator: A fitted translator.
        source: Its source encoder; if the items are latents already, their space or None.
        target: Its target encoder; if the items are latents already, their space or None.
        pairs: Pairs that the fit did not see. All latents are held in memory.
        batch_size: Items per forward pass; "auto" for as many as suit the device.
        chunk_size: Pairs that are read and encoded at a time.
        on_bad_row: "stop" at the first row that is missing, empty, unreadable, NaN or ragged, or
            "skip" such rows and count them in the report's `dataset`.
        max_streamed: Refuse a stream of more pairs.
        seed: Seeds bootstrap and shuffles.
        n_bootstrap: Bootstrap draws for the intervals.
        n_permutations: Shuffles for the "shuffled" scores and the p-values.
        hubness: "csls" to report searches that correct for hubs beside plain ones.
        bank: For that, latents of queries in the translator's `target_`, (m, d); None for its own.
        n_neighbors: How many of the bank's nearest count.
        labels: The class of each pair, to report how many neighbours share it.
        target_translator: For two views of a shared space: what carries the target encoder's
            latents there too. None for the translator's own, if both of its sides move.
        progress: Show a progress bar.

    Raises:
        SpaceMismatchError: An encoder is not the one that the translator was fitted on.
        NotFittedError: The translator is not fitted.
        InvalidPairsError: A bad row, no pairs, a stream of too many, or not one label per pair.
        InvalidLatentsError: An encoder gave NaN or infinity, or another dim.
        ValueError: `hubness` without a bank, a bank without `hubness`, or a number out of range.
    """
    check_translator(translator)
    correction = _correction(translator, hubness, bank, n_neighbors)
    sides = Side("source", source), Side("target", target)
    if target_translator is None:
        target_translator = translator.target_translator_
    _check_sides(sides, translator, target_translator)
    pairs = as_pairs(pairs)
    if labels is not None and isinstance(pairs, Pairs):
        labels = class_labels(labels, len(pairs))
    loop = EncodingLoop(
        pairs,
        sides,
        "evaluate",
        batch_size=batch_size,
        chunk_size=chunk_size,
        on_bad_row=on_bad_row,
        progress=progress,
    )
    x, y, n_skipped = all_latents(loop, max_streamed)
    if target_translator is not None:
        y = target_translator.transform(y)
    skipped = {"bad_rows_skipped": n_skipped} if on_bad_row == "skip" else {}
    if labels is not None and n_skipped:
        raise InvalidPairsError(
            f"labels must be those of the pairs that are used, and {n_skipped} pairs were skipped: "
            "leave them out of both"
        )
    return _evaluate(
        translator,
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        dataset={**loop.pairs.dataset, **skipped},
        correction=correction,
        labels=labels,
    )


def _check_sides(
    sides: tuple[Side, Side], translator: Translator, target_translator: Translator | None
) -> None:
    """Refuses encoders of other spaces, and translators that do not lead into one space."""
    check_space(sides[0], translator.source_)
    if target_translator is None:
        check_space(sides[1], translator.target_)
        return
    check_translator(target_translator)
    check_space(sides[1], target_translator.source_)
    if mismatches := translator.target_.mismatches(target_translator.target_):
        raise SpaceMismatchError(
            f"both translators must lead into one space: they differ in {'; '.join(mismatches)}"
        )


def evaluate_latents(
    translator: Translator,
    X: Latents,
    y: Latents,
    *,
    seed: int = 0,
    n_bootstrap: int = 1000,
    n_permutations: int = 1000,
    dataset: Mapping[str, Any] | None = None,
    hubness: Hubness | None = None,
    bank: Latents | None = None,
    n_neighbors: int = 10,
    labels: Sequence[Hashable] | None = None,
) -> Report:
    """Reports how close translated `X` is to `y`, row by row.

    Args:
        translator: A fitted translator.
        X: Source latents that the fit did not see, (n, d_source).
        y: Their counterparts, (n, d_target).
        seed: Seeds bootstrap and shuffles.
        n_bootstrap: Bootstrap draws for the intervals.
        n_permutations: Shuffles for the "shuffled" scores and the p-values.
        dataset: Where the pairs come from, for the report.
        hubness: "csls" to report searches that correct for hubs beside plain ones.
        bank: For that, latents of queries in the translator's `target_`, (m, d); None for its own.
        n_neighbors: How many of the bank's nearest count.
        labels: The class of each pair, to report how many neighbours share it.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity.
        InvalidPairsError: Not one label for each pair.
        NotFittedError: The translator is not fitted.
        ValueError: A number is less than 1, `hubness` without a bank or a bank without `hubness`.
    """
    check_translator(translator)
    correction = _correction(translator, hubness, bank, n_neighbors)
    items = translator.target_translator_
    return _evaluate(
        translator,
        X,
        y if items is None else items.transform(y),
        seed=seed,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        dataset=dataset or {},
        correction=correction,
        labels=labels,
    )


@dataclass(frozen=True)
class _Correction:
    """A bank of queries to correct by, its origin, and how many of its nearest count."""

    bank: Latents
    name: str
    n_neighbors: int

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "size": len(self.bank), "n_neighbors": self.n_neighbors}


def _correction(
    translator: Translator, hubness: Hubness | None, bank: Latents | None, n_neighbors: int
) -> _Correction | None:
    if hubness is None:
        if bank is not None:
            raise ValueError("a bank of queries is for hubness='csls': state it")
        return None
    if hubness not in get_args(Hubness):
        raise ValueError(f"hubness must be one of {get_args(Hubness)} or None, got {hubness!r}")
    name = "translator" if bank is None else "given"
    return _Correction(translator.bank_or_own(bank, n_neighbors), name, n_neighbors)


def _evaluate(
    translator: Translator,
    X: Latents,
    y: Latents,
    *,
    seed: int,
    n_bootstrap: int,
    n_permutations: int,
    dataset: Mapping[str, Any],
    correction: _Correction | None,
    labels: Sequence[Hashable] | None,
) -> Report:
    settings = {"seed": seed, "n_bootstrap": n_bootstrap, "n_permutations": n_permutations}
    _check_settings(settings)
    x, target = _in_float32(X), _in_float32(y)
    predicted = as_tensor(translator.transform(x))
    x, target = x.to(predicted.device), target.to(predicted.device)
    if predicted.shape != target.shape or target.ndim != 2 or len(target) == 0:
        shared = translator.target_.pooling == SHARED
        raise InvalidLatentsError(
            f"evaluation needs target latents of shape {tuple(predicted.shape)}, with at least one "
            f"row, got shape {tuple(target.shape)}"
            + (": translate them by their own view of the shared space" if shared else "")
        )
    check_finite(target)
    ranks = metrics.counterpart_ranks(predicted, target)
    shuffles = permutation_scores(predicted, target, n_permutations=n_permutations, seed=seed)
    chance = {name: Chance.from_scores(scores) for name, scores in shuffles.items()}
    return Report(
        n_pairs=len(target),
        translated=Scores.compare(predicted, target, ranks),
        untranslated=Scores.compare(_fit_dim(x, target.shape[1]), target),
        shuffled=Scores(*(chance[name].mean for name in metrics.NAMES)),
        intervals=bootstrap_intervals(predicted, target, ranks, n_bootstrap=n_bootstrap, seed=seed),
        chance=chance,
        cka=_cka("source", x, target) | _cka("translated", predicted, target),
        settings=settings,
        dataset=dataset,
        search=_search(predicted, target, correction, labels, settings),
    )


def _in_float32(latents: Latents) -> Tensor:
    """Latents as they are compared.

    Raises:
        InvalidLatentsError: They are numbers that float32 does not hold.
    """
    x = as_tensor(latents).detach()
    found = x.float()
    if x.dtype == torch.float64 and all_finite(x) and not all_finite(found):
        raise InvalidLatentsError(
            f"evaluation compares latents in float32, and they hold values up to "
            f"{float(x.abs().max()):.2g}: divide them by a constant, and fit again"
        )
    return found


def _search(
    predicted: Tensor,
    target: Tensor,
    correction: _Correction | None,
    labels: Sequence[Hashable] | None,
    settings: Mapping[str, int],
) -> SearchReport | None:
    """Rankings by cosine and, with a bank, by CSLS; None where neither bank nor labels are given.

    Folded latents rank by CSLS where they are compared by cosine, so one code scores both.
    """
    if correction is None and labels is None:
        return None
    classes = _classes(labels, len(target)).to(target.device)
    k = min(10, len(target) - 1)
    native = metrics.nearest_others(target, target, k)
    own = metrics.same_class(native, classes) if len(classes) else math.nan

    def ranked(queries: Tensor, items: Tensor) -> tuple[Tensor, Ranking]:
        ranks = metrics.counterpart_ranks(queries, items)
        found = metrics.nearest_others(queries, items, k)
        return ranks, Ranking.score(ranks, found, native, classes)

    before, plain = ranked(predicted, target)
    if correction is None:
        return SearchReport(plain, native_same_class=own)
    items = fold_items(target, correction.bank, n_neighbors=correction.n_neighbors, metric="cosine")
    after, corrected = ranked(fold_queries(predicted, metric="cosine"), items)
    gain = after.double().reciprocal() - before.double().reciprocal()
    draws = {"n_bootstrap": settings["n_bootstrap"], "seed": settings["seed"]}
    return SearchReport(
        plain,
        corrected,
        native_same_class=own,
        mrr_gain=metrics.mean_interval(gain, **draws),
        bank=correction.facts(),
    )


def _classes(labels: Sequence[Hashable] | None, n: int) -> Tensor:
    """Labels as numbers, (n,); empty without."""
    if labels is None:
        return torch.empty(0, dtype=torch.long)
    known: dict[Hashable, int] = {}
    return torch.tensor([known.setdefault(one, len(known)) for one in class_labels(labels, n)])


def all_latents(loop: EncodingLoop, max_streamed: int) -> tuple[Tensor, Tensor, int]:
    """Latents of both sides, (n, d_source) and (n, d_target), and the number of skipped pairs."""
    streamed = loop.pairs.rows_of(EVERYTHING, loop.chunk_size) is None
    encoded: list[tuple[Tensor, ...]] = []
    n = n_read = 0
    for chunk in loop.run():
        n, n_read = n + len(chunk.chunk), n_read + chunk.n_read
        if streamed and n > max_streamed:
            raise InvalidPairsError(
                f"evaluation holds all latents in memory, at most those of {max_streamed:,} "
                "streamed pairs, and this stream has more: sample it with max_pairs"
            )
        if chunk.latents:
            encoded.append(chunk.latents)
    if not encoded:
        raise InvalidPairsError(f"pairs need at least one usable item, got none of {n_read}")
    x, y = (torch.cat(side) for side in zip(*encoded, strict=True))
    return x, y, n_read - n


def _cka(name: str, latents: Tensor, target: Tensor) -> dict[str, float]:
    moments = PairedMoments.from_batch(latents, target, full_syy=True)
    return {
        name: metrics.linear_cka(moments),
        f"{name}_debiased": metrics.debiased_linear_cka(latents, target),
    }


def _check_settings(settings: Mapping[str, int]) -> None:
    check_count("seed", settings["seed"], least=0)
    for name in ("n_bootstrap", "n_permutations"):
        check_count(name, settings[name])


def _fit_dim(x: Tensor, dim: int) -> Tensor:
    """Pads with zeros or cuts, the paper's "absolute" comparison for unequal dims."""
    return torch.nn.functional.pad(x, (0, dim - x.shape[1]))


def check_space(side: Side, expected: SpaceSpec) -> None:
    """Refuses an encoder that a translator was not fitted on.

    Raises:
        SpaceMismatchError: Says in what they differ.
    """
    got = side.space(expected.dim)
    mismatches = expected.mismatches(got)
    if mismatches:
        raise SpaceMismatchError(
            f"the translator's {side.name} is {expected}, the encoder gives {got}: "
            f"they differ in {'; '.join(mismatches)}"
        )
