"""learning_curve: how many pairs are enough, by fits on twice as many pairs each time."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import CHUNK_SIZE, PairSource
from hf_latent_bridge.data.pairs import Pairs, as_pairs
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike
from hf_latent_bridge.errors import (
    InvalidPairsError,
    ProcessError,
    SelectionWarning,
    UnrelatedPairsWarning,
)
from hf_latent_bridge.evaluation import all_latents
from hf_latent_bridge.fitting.choice import TranslatorChoice, as_fitted
from hf_latent_bridge.fitting.encoding import EncodingLoop, OnBadRow, Side
from hf_latent_bridge.fitting.fit import without_noise
from hf_latent_bridge.fitting.processes import Processes
from hf_latent_bridge.gating import GateReport, Retention, check_settings, gate_latents
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator

_ENOUGH_TO_TELL = 500  # pairs from which on pairs that look shuffled end the curve

Latent = tuple[Tensor | None, Tensor]


@dataclass(frozen=True)
class CurvePoint:
    """One fit of a learning curve.

    Attributes:
        n_pairs: Pairs in the fit.
        retention: Of the score by which the gate decides, on the held-out queries.
        seconds: From the call to this result, reading and encoding included.
    """

    n_pairs: int
    retention: Retention
    seconds: float

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return {"n_pairs": self.n_pairs, **self.retention.to_dict(), "seconds": self.seconds}


@dataclass(frozen=True)
class LearningCurve:
    """What `learning_curve` found; `print(curve)` shows it.

    Attributes:
        points: One for each number of pairs.
        reached: Whether the last fit keeps enough: the lower end of the interval reaches
            `until_retention`, and the gate does not fail. None without `until_retention`.
        reason: Why there is no further point.
        score: Which score's retention is followed.
        until_retention: What was to be reached.
        report: The gate's report on the last fit.
        translator: The last fit.
    """

    points: Sequence[CurvePoint]
    reached: bool | None
    reason: str
    score: str
    until_retention: float | None
    report: GateReport
    translator: Translator

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "points": [point.to_dict() for point in self.points],
            "reached": self.reached,
            "reason": self.reason,
            "score": self.score,
            "until_retention": self.until_retention,
            "gate": self.report.to_dict(),
        }

    def to_markdown(self) -> str:
        """A table of the points, and why there is no further one."""
        held_out = f"{self.report.n_queries:,} queries and {self.report.n_items:,} items"
        return f"{shown(self.to_dict())} Held out: {held_out}."

    def __str__(self) -> str:
        return self.to_markdown()


def shown(curve: Mapping[str, Any]) -> str:
    """The table of a curve that a config has kept."""
    lines = [
        f"| pairs | retention of {curve['score']} | 95 % interval | seconds |",
        "|---" * 4 + "|",
    ]
    for point in curve["points"]:
        between = f"{point['lower']:.3f} to {point['upper']:.3f}"
        lines.append(
            f"| {point['n_pairs']:,} | {point['retention']:.3f} | {between} "
            f"| {point['seconds']:.1f} |"
        )
    return "\n".join([*lines, "", curve["reason"]])


def learning_curve(
    translator: Translator | TranslatorChoice | Literal["auto"],
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    queries: PairSource | tuple[Sequence[Any] | None, Sequence[Any]] | None = None,
    corpus: PairSource | tuple[Sequence[Any], Sequence[Any]] | None = None,
    until_retention: float | None = None,
    start: int = 125,
    held_out: int = 1000,
    seed: int = 0,
    batch_size: BatchSize = "auto",
    chunk_size: int | Literal["auto"] = "auto",
    on_bad_row: OnBadRow = "stop",
    progress: bool = False,
    **settings: Any,
) -> LearningCurve:
    """Fits on ever more pairs, and tells how much of the target encoder's own search is kept.

    The pairs are taken in a random order and doubled from one point to the next. Each is read and
    encoded once: its moments are added to those before. Some pairs are set apart first and never
    fitted on; `gate_latents` judges each fit on them. The last point leaves `translator` fitted.

    Args:
        translator: The translator to fit; earlier pairs are forgotten. A `TranslatorChoice` for the
            best of several, or "auto" for the best ranking of all: chosen again at each point, for
            which the latents of all pairs are kept in memory. They are also kept for a
            `KernelTranslator`, which draws its landmarks from all pairs of a point.
        source: Encoder of the source side; if its items are latents: their space or None.
        target: The same for the target side.
        pairs: From `load_pairs`, or two lists or arrays of equal length. Not a stream.
        queries: What is asked, as a pair of columns; the source side may be None where the corpus
            is translated. None for half of the held-out items, which look for the other half: a
            stand-in, since real queries are shorter and of another kind.
        corpus: What is searched, as pairs. None for held-out pairs.
        until_retention: Stop when the lower end of the 95 % interval of retention reaches it;
            None to use all pairs.
        start: Pairs of the first point.
        held_out: Pairs to set apart where `queries` or `corpus` is None; a third of the pairs if
            there are fewer than three times as many.
        seed: Seeds the order and what is set apart.
        batch_size: Items per forward pass; "auto" for as many as suit the device.
        chunk_size: Pairs that are read and encoded at a time; "auto" for 1,024.
        on_bad_row: "stop" at a bad row, or "skip" it.
        progress: Show a progress bar.
        settings: As `gate_latents` takes them, such as `k`, `translates`, `relevance` and `score`.

    Raises:
        InvalidPairsError: A stream, too few pairs to set some apart, or a bad row.
        InvalidLatentsError: An encoder gave NaN or infinity, or latents are not of their space.
        EncoderError: An encoder gave another number of rows, or another dim than before.
        ProcessError: Several processes run; a curve is the work of one.
        ValueError: A parameter out of range, a choice by labels, or nothing that is fitted.
        TypeError: A setting that `gate_latents` does not take.

    Warns:
        SelectionWarning: The last choice rests on few pairs, or is on the edge of what was tried.
    """
    started = perf_counter()
    _check(until_retention, settings)
    grown = _Grown(
        as_fitted(translator),
        (Side("source", source), Side("target", target)),
        {
            "batch_size": batch_size,
            "chunk_size": CHUNK_SIZE if chunk_size == "auto" else chunk_size,
            "on_bad_row": on_bad_row,
        },
        progress=progress,
    )
    fitted_on, held = _set_apart(
        as_pairs(pairs), held_out if queries is None or corpus is None else 0, start, seed
    )
    held_out_sides = grown.judged(queries, corpus, held)
    points: list[CurvePoint] = []
    for step in _steps(fitted_on, start):
        fitted = grown.add(step)
        report = _judge(fitted, *held_out_sides, seed=seed, **settings)
        kept = report.retention[report.decides]
        points.append(CurvePoint(grown.n_pairs, kept, perf_counter() - started))
        reason = _why_stop(points, report, until_retention, fitted)
        if reason:
            break
    for doubt in grown.doubts:
        warnings.warn(doubt, stacklevel=2)
    return LearningCurve(
        points=points,
        reached=_is_reached(points[-1], report, until_retention),
        reason=reason or _at_the_end(points, report, until_retention),
        score=report.decides,
        until_retention=until_retention,
        report=report,
        translator=fitted,
    )


def _check(until_retention: float | None, settings: dict[str, Any]) -> None:
    """Refuses settings that the gate does not take; what is to be reached is what passes it."""
    if until_retention is not None:
        if not 0 < until_retention <= 1:
            raise ValueError(f"until_retention must be above 0, at most 1, got {until_retention}")
        settings.setdefault("pass_at", until_retention)
    check_settings(settings)


def _judge(translator: Translator, queries: Latent, corpus: Latent, **settings: Any) -> GateReport:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrelatedPairsWarning)  # which the reason tells
        return gate_latents(translator, queries=queries, corpus=corpus, **settings)


@dataclass
class _Grown:
    """What is fitted, and the moments of the pairs so far, or for a choice the pairs themselves."""

    translator: Translator | TranslatorChoice
    sides: tuple[Side, Side]
    options: dict[str, Any]
    progress: bool
    n_pairs: int = 0
    folds: list[PairedMoments | None] = field(default_factory=list)
    latents: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    doubts: list[Warning | str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.translator, TranslatorChoice) and self.translator.labels is not None:
            raise ValueError(
                "a learning curve takes the pairs in an order of its own, to which labels do not "
                "belong: choose by a decoder or for another objective"
            )
        if Processes.current().share.count > 1:
            raise ProcessError("a learning curve is the work of one process: start only one")

    def add(self, pairs: Pairs) -> Translator:
        """Encodes further pairs, and fits on all so far."""
        x, y, _ = self._encode(pairs, "learning curve")
        dims = x.shape[1], y.shape[1]
        spaces = [side.space(dim) for side, dim in zip(self.sides, dims, strict=True)]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")  # few pairs determine no map, as the curve shows
            warnings.simplefilter("always", SelectionWarning)
            if isinstance(self.translator, TranslatorChoice):
                fitted = self._choose(self.translator, x, y, spaces)
            else:
                fitted = self._sum(self.translator, x, y, spaces)
        self.doubts = [one.message for one in told if isinstance(one.message, SelectionWarning)]
        self.n_pairs += len(x)
        fitted.to(dtype=torch.float32)
        fitted.dataset_ = pairs.dataset
        return fitted

    def _sum(
        self, translator: Translator, x: Tensor, y: Tensor, spaces: list[SpaceSpec]
    ) -> Translator:
        """Adds the moments of further pairs, and solves."""
        if translator.sample_size:  # it draws from the latents it has seen, which are more now
            x, y = self._with_earlier(x, y)
            self.folds = []
        if not self.folds:
            translator.begin(x)
            self.folds = [None] * translator.n_folds
        start = sum(fold.n for fold in self.folds if fold is not None)
        new = translator.fold_moments(x.double(), y.double(), start=start)
        self.folds = [a + b if a and b else a or b for a, b in zip(self.folds, new, strict=True)]
        folds = [without_noise(fold) for fold in self.folds if fold is not None]
        translator.fit_moments(folds, source=spaces[0], target=spaces[1])
        return translator

    def _choose(
        self, choice: TranslatorChoice, x: Tensor, y: Tensor, spaces: list[SpaceSpec]
    ) -> Translator:
        """Chooses among the candidates on all pairs so far."""
        every = self._with_earlier(x, y)
        return choice.fit(*every, source=spaces[0], target=spaces[1])

    def _with_earlier(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the latents, and gives them with those of all earlier pairs."""
        self.latents.append((x, y))
        sources, targets = zip(*self.latents, strict=True)
        return torch.cat(sources), torch.cat(targets)

    def judged(self, queries: Any, corpus: Any, held: Pairs | None) -> tuple[Latent, Latent]:
        """Latents of queries and corpus, from what was given or set apart."""
        asked, searched = (
            None if given is None else self._given(given, name)
            for name, given in (("queries", queries), ("corpus", corpus))
        )
        if asked is not None and searched is not None:
            return asked, searched
        if held is None:
            raise InvalidPairsError(
                "nothing is held out to judge the fits by: pass queries and corpus, or held_out of "
                "at least 1 and at least 3 pairs"
            )
        x, y, _ = self._encode(held, "held out")
        cut = len(x) // 2 if asked is None and searched is None else 0
        if searched is not None:
            return (x, y), searched
        return asked or (x[:cut], y[:cut]), (x[cut:], y[cut:])

    def _given(self, given: Any, name: str) -> Latent:
        if isinstance(given, tuple) and given[0] is None:
            asked = Pairs(given[1], given[1])
            loop = EncodingLoop(asked, self.sides[1:], name, progress=self.progress, **self.options)
            parts = [encoded.latents[0] for encoded in loop.run() if encoded.latents]
            if not parts:
                raise InvalidPairsError(f"{name} need at least one usable item, got none")
            return None, torch.cat(parts).cpu()
        x, y, _ = self._encode(as_pairs(given), name)
        return x, y

    def _encode(self, pairs: PairSource, label: str) -> tuple[Tensor, Tensor, int]:
        loop = EncodingLoop(pairs, self.sides, label, progress=self.progress, **self.options)
        x, y, skipped = all_latents(loop, max_streamed=100_000)
        return x.cpu(), y.cpu(), skipped  # one side may come from a GPU, the other from a file


def _set_apart(pairs: PairSource, n: int, start: int, seed: int) -> tuple[Pairs, Pairs | None]:
    """The pairs to fit on, in a random order, and those that are held out."""
    if not isinstance(pairs, Pairs):
        raise InvalidPairsError(
            "a learning curve needs pairs that can be counted: sample the stream by max_pairs"
        )
    check_count("start", start, least=2)
    check_count("held_out", n, least=0)
    n = min(n, len(pairs) // 3)
    order = np.random.default_rng(seed).permutation(len(pairs))
    held = pairs.select(order[:n]) if n else None  # in no order, for one half asks the other
    return pairs.select(order[n:]), held


def _steps(pairs: Pairs, start: int) -> Iterator[Pairs]:
    """What each point adds: as many as there were; the last takes what is left."""
    done = 0
    while done < len(pairs):
        end = min(max(start, 2 * done), len(pairs))
        if len(pairs) - end < (end - done) / 2:  # a step of a few pairs would tell nothing
            end = len(pairs)
        rows = np.arange(done, end)
        yield pairs.select(rows[np.argsort(pairs.row_numbers(rows))])  # in order, to read on
        done = end


def _is_reached(point: CurvePoint, report: GateReport, until: float | None) -> bool | None:
    if until is None:
        return None
    return point.retention.lower >= until and report.verdict != "fail"


def _why_stop(
    points: Sequence[CurvePoint], report: GateReport, until: float | None, translator: Translator
) -> str:
    """Why further pairs are not needed, or of no use; empty to go on."""
    point = points[-1]
    if until is not None and _is_reached(point, report, until):
        return f"{point.n_pairs:,} pairs are enough to keep {until:g}."
    if point.n_pairs >= _ENOUGH_TO_TELL and translator.unrelated_pairs_:
        return (
            f"Never: {point.n_pairs:,} pairs explain no more than shuffled ones do. Does row i of "
            "both sides hold the same item, and is this the encoder of these vectors?"
        )
    return ""


def _at_the_end(points: Sequence[CurvePoint], report: GateReport, until: float | None) -> str:
    """What all pairs together have shown."""
    last = points[-1]
    if until is None:
        return f"All {last.n_pairs:,} pairs were used."
    told = f"Never: with all {last.n_pairs:,} pairs the lower end is {last.retention.lower:.3f}"
    if last.retention.lower >= until:  # the gate fails for another reason
        return f"{told}, but the gate fails: {report.reasons[0][1]}."
    told += f", below {until:g}."
    if len(points) < 2:
        return told
    gain = last.retention.mean - points[-2].retention.mean
    told += f" The last {last.n_pairs - points[-2].n_pairs:,} pairs added {gain:+.3f}"
    if gain > 0 and until - last.retention.lower <= 2 * gain:
        return f"{told}: two or three times as many may do."
    return f"{told}: more of them will hardly do. Try another type, or encode again."
