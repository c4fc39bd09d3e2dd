"""Fits on some rows, evaluates on the others, and makes the report that the tab shows."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import look
import numpy as np
import numpy.typing as npt
from limits import Refusal, check_choice, check_number
from methods import methods

from hf_latent_bridge import (
    Pairs,
    Report,
    SpaceSpec,
    Translator,
    evaluate_latents,
    fit_translator,
)
from hf_latent_bridge.errors import RankWarning, UnrelatedPairsWarning

MAX_ANCHORS = 16_000
MAX_ALPHA = 1_000.0
LEAST = 20  # rows to fit on, and rows held out
MAX_HELD_OUT = 1_000
SECONDS = 90  # that a fit may take, while all others wait
SPEED = 8e9  # multiplications a second, as measured on two cores
MOST_SECONDS = 40  # that solving may be expected to take

EXPLAINED = (
    "Each translated vector looks for its counterpart among all that were held out: recall@k is "
    "the share found among the k nearest, MRR the mean reciprocal rank. Chance is the same with "
    "shuffled pairs."
)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Method:
    """A visitor's choice of method.

    Attributes:
        name: Type of the translator.
        alpha: Ridge penalty, for a type that has one.
        anchors: On how many pairs at most.
        most: The most anchors that may be asked for.
    """

    name: str
    alpha: float
    anchors: int
    most: int = MAX_ANCHORS

    def __post_init__(self) -> None:
        check_choice(self.name, methods(), "The method")
        check_number(self.anchors, LEAST, self.most, "The number of anchors")
        if not isinstance(self.alpha, int | float) or not 0 <= self.alpha <= MAX_ALPHA:
            raise Refusal(f"Alpha must be a number from 0 to {MAX_ALPHA:,.0f}.")

    @property
    def has_alpha(self) -> bool:
        """Whether the penalty means anything to this type."""
        return "alpha" in methods()[self.name].get_params()

    def translator(self) -> Translator:
        """A translator to fit."""
        translator = methods()[self.name]
        return translator.set_params(alpha=self.alpha) if self.has_alpha else translator

    def __str__(self) -> str:
        return f"{self.name}, alpha {self.alpha:g}" if self.has_alpha else self.name


@dataclass(frozen=True)
class Clock:
    """Stops a fit that takes too long, between two of its steps."""

    seconds: int = field(default_factory=lambda: SECONDS)
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.passed

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def check(self) -> None:
        """Goes on while there is time.

        Raises:
            Refusal: There is none.
        """
        if self.passed >= self.seconds:
            raise Refusal(
                f"This took more than {self.seconds} seconds and was stopped: "
                "take fewer anchors, smaller encoders or narrower vectors."
            )


@dataclass(frozen=True)
class Fit:
    """A fitted translator and its report.

    Attributes:
        translator: Fitted on the anchors.
        report: Scores on the rows held out.
        warnings: The library's warnings.
    """

    translator: Translator
    report: Report
    warnings: Sequence[str]


def wanted_rows(anchors: int) -> int:
    """How many pairs `split` needs to leave this many anchors."""
    return anchors + max(LEAST, -(-anchors // 4))


def split(rows: int, anchors: int) -> tuple[Rows, Rows]:
    """Rows to fit on, and a fifth of all rows (20 to 1,000) held out.

    Raises:
        Refusal: Too few rows.
    """
    if rows < 2 * LEAST:
        raise Refusal(
            f"A fit needs at least {2 * LEAST} pairs, {LEAST} of them held out to check it; "
            f"this has {rows:,}."
        )
    held_out = min(max(LEAST, rows // 5), MAX_HELD_OUT)
    shuffled = np.random.default_rng(0).permutation(rows)
    return np.sort(shuffled[held_out:][:anchors]), np.sort(shuffled[:held_out])


def expected_seconds(anchors: int, d_source: int, d_target: int) -> float:
    """Roughly how long a fit takes here: products of the rows, eigenvectors, singular vectors."""
    rows = 2 * anchors * d_source * (d_source + d_target)
    solving = 9 * d_source**3 + 20 * d_source * d_target * min(d_source, d_target)
    return (rows + solving) / SPEED


def check_cost(anchors: int, d_source: int, d_target: int, *, more: float = 0.0) -> str:
    """How long the fit takes, in words.

    Args:
        anchors: Pairs in the fit.
        d_source: Width of the source.
        d_target: Width of the target.
        more: Seconds that come on top.

    Raises:
        Refusal: Longer than others can be let wait.
    """
    seconds = expected_seconds(anchors, d_source, d_target) + more
    if seconds > MOST_SECONDS:
        raise Refusal(
            f"This fit would take about {seconds:.0f} seconds and {MOST_SECONDS} are the most, as "
            "others wait meanwhile: take fewer pairs or narrower vectors."
        )
    return f"about {max(1, round(seconds))} s"


def fit(
    method: Method,
    latents: Pairs,
    clock: Clock,
    spaces: tuple[SpaceSpec | None, SpaceSpec | None] = (None, None),
) -> Fit:
    """Fits on the anchors among these pairs of latents, and evaluates on those held out."""
    anchors, held_out = split(len(latents), method.anchors)
    x: Any = np.asarray(latents.source)
    y: Any = np.asarray(latents.target)
    translator = method.translator()
    with warnings.catch_warnings(record=True) as caught:
        for kind in (RankWarning, UnrelatedPairsWarning):
            warnings.simplefilter("always", kind)
        fit_translator(translator, *spaces, Pairs(x[anchors], y[anchors], latents.dataset))
    clock.check()
    report = evaluate_latents(translator, x[held_out], y[held_out], dataset=latents.dataset)
    texts = [
        str(each.message)
        for each in caught
        if issubclass(each.category, RankWarning | UnrelatedPairsWarning)
    ]
    return Fit(translator, report, texts)


def summary(method: Method, found: Fit, clock: Clock) -> dict[str, Any]:
    """The report as the tab shows it and, under "scores", as the library gives it."""
    scores, report = found.report.to_dict(), found.report
    return {
        "title": f"From {found.translator.source_} to {found.translator.target_}",
        "note": f"{method}; fitted on {found.translator.n_pairs_:,} pairs and checked on "
        f"{report.n_pairs:,} others, in {clock.passed:.1f} s",
        "columns": ["translated (95 % interval)", "untranslated", "chance (95th percentile)"],
        "rows": [
            {
                "name": look.score_name(name),
                "cells": [
                    _cell(value, "{:.3f} to {:.3f}".format(*report.intervals[name])),
                    _cell(scores["untranslated"].get(name)),
                    _cell(scores["shuffled"].get(name), f"{report.chance[name].p95:.3f}"),
                ],
            }
            for name, value in scores["translated"].items()
        ],
        "warnings": [f"{text}." for text in found.warnings],
        "notes": [EXPLAINED],
        "scores": scores,
    }


def _cell(value: float | None, spread: str = "") -> dict[str, str]:
    return {"value": "none" if value is None else f"{value:.3f}", "range": spread and f"({spread})"}
