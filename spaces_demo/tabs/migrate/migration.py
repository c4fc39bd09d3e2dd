"""Migrates stored vectors: how many pairs are enough, the gate, the cost, the translated file."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import look
import numpy as np
from gradio.utils import get_upload_folder
from limits import Refusal, check_number
from methods import label, methods

from hf_latent_bridge import LearningCurve, Pairs, Translator, learning_curve, translate_file
from hf_latent_bridge.vectors.formats import writer_of
from tabs.fit_your_own.fit import LEAST, Method, Rows, check_cost, expected_seconds
from tabs.fit_your_own.publish import save
from tabs.fit_your_own.runs import Facts, size_facts
from tabs.fit_your_own.uploads import VectorFiles, vector_files

LEAST_ROWS = 100
HELD_OUT = 1_000
MAX_NUMBERS = 2**23  # in the translated file: 32 MB as .npy
POINTS = 5  # of the learning curve, about
TIMED = 4_096  # rows whose translation is timed
NOBODY = (
    "Half of the rows held out look for the other half. Real queries are shorter and of another "
    "kind: before you switch, run the gate on yours (latent-bridge gate --queries ...)."
)

Progress = Callable[..., Any]
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """What a visitor says of the store that is to move.

    Attributes:
        items: How many vectors it holds.
        tokens: Tokens of an item's text, on average.
        price: Of a million tokens with the new model.
        rate: Items that the new model encodes in a second.
    """

    items: int
    tokens: int
    price: float
    rate: float

    def __post_init__(self) -> None:
        check_number(self.items, 1, 10**12, "The number of items")
        check_number(self.tokens, 1, 10**6, "The tokens of an item")
        for value, least, what in (
            (self.price, 0, "The price of a million tokens"),
            (self.rate, 0.001, "The items that are encoded in a second"),
        ):
            if not isinstance(value, int | float) or not least <= value <= 10**9:
                raise Refusal(f"{what} must be a number from {least:g} to 1,000,000,000.")

    def costs(self, pairs: int, rows_per_second: float) -> list[Numbers]:
        """Time and price of encoding all items again, and of encoding the pairs and translating."""

        def price(items: int) -> str:
            money = items * self.tokens / 1e6 * self.price
            return f"{money:,.2f}" if money >= 0.01 or not money else "under 0.01"

        translating = pairs / self.rate + self.items / rows_per_second
        return [
            {
                "name": f"encode all {self.items:,} again",
                "cells": [_cell(duration(self.items / self.rate)), _cell(price(self.items))],
            },
            {
                "name": f"encode {pairs:,} pairs, translate the rest",
                "cells": [_cell(duration(translating)), _cell(price(pairs))],
            },
        ]


@dataclass(frozen=True)
class Migrated:
    """What a visitor gets.

    Attributes:
        report: For the page and the API.
        vectors: File of the translated vectors.
        translator: Zip file of the translator.
        page: The gate's report as an HTML page.
    """

    report: Numbers
    vectors: str
    translator: str
    page: str


def estimate(source: str | None, target: str | None, method: Method) -> Facts:
    """What the files hold, and how long their migration takes here; before anything is read.

    Raises:
        Refusal: They cannot be taken, or it would take too long.
    """
    with vector_files(source, target) as files:
        sizes = _measured(files)
    return size_facts(*sizes, _told(method, *sizes))


def migrate(
    source: str | None, target: str | None, method: Method, store: Store, progress: Progress
) -> Migrated:
    """Fits on ever more pairs of two files, judges the last fit, and translates the first file.

    Args:
        source: File of the vectors that are stored.
        target: The new model's vectors of the same items.
        method: The translator, and the most pairs to fit it on.
        store: What is to move.
        progress: Told of each step.

    Raises:
        Refusal: Files that cannot be taken, or too long a fit.
        LatentBridgeError: A damaged file.
    """
    start = time.monotonic()
    translator, folder = methods()[method.name], Path(get_upload_folder())
    with vector_files(source, target) as files:
        told = _told(method, *_measured(files))
        progress(None, desc="Reading the vectors")
        pairs = files.read()
        progress(None, desc=f"Fitting on more and more pairs, {told}")
        checked = pairs.select(_different(pairs))
        curve = _curve(translator, checked, method.anchors)
        progress(None, desc="Translating the vectors")
        vectors, page = _write(files.source, translator, curve, folder)
    archive = save(translator, None, folder)
    speed = _rows_per_second(translator, np.asarray(pairs.source))
    report = summary(curve, label(translator), store.costs(curve.points[-1].n_pairs, speed))
    if repeated := len(pairs) - len(checked):
        report["note"] += f" {repeated:,} rows repeat others, and tell nothing new."
    report["note"] += f" {len(pairs):,} rows translated; all in {time.monotonic() - start:.1f} s."
    return Migrated(report, vectors, archive, page)


def summary(curve: LearningCurve, method: str, costs: list[Numbers]) -> Numbers:
    """The report as the tab shows it and, under "curve", as the library gives it."""
    gate = curve.report
    return {
        "title": {"pass": "Pass", "warn": "Pass with a warning", "fail": "Fail"}[gate.verdict],
        "verdict": gate.verdict,
        "note": f"{method}, fitted on {curve.points[-1].n_pairs:,} pairs; {gate.n_queries:,} "
        f"queries and {gate.n_items:,} items were held out.",
        "reasons": [f"{verdict}: {text}{_stop(text)}" for verdict, text in gate.reasons],
        "warnings": [],
        "points": [
            {
                "name": f"{point.n_pairs:,}",
                "cells": [
                    _cell(
                        f"{point.retention.mean:.3f}",
                        f"({point.retention.lower:.3f} to {point.retention.upper:.3f})",
                    )
                ],
            }
            for point in curve.points
        ],
        "score": look.score_name(curve.score),
        "costs": costs,
        "notes": [curve.reason, NOBODY],
        "curve": curve.to_dict(),
    }


def duration(seconds: float) -> str:
    """A time as people say it: "3.2 hours"."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{max(seconds, 1):,.0f} s"


def _measured(files: VectorFiles) -> tuple[int, int, int]:
    rows, d_source, d_target = files.measure()
    if rows < LEAST_ROWS:
        raise Refusal(
            f"A migration needs at least {LEAST_ROWS} rows, a third of them to check it; the "
            f"files have {rows:,}."
        )
    if rows * d_target > MAX_NUMBERS:
        raise Refusal(
            f"The translated file would hold {rows * d_target:,} numbers and {MAX_NUMBERS:,} are "
            "the most here: take fewer rows. `latent-bridge translate` has no such limit."
        )
    return rows, d_source, d_target


def _told(method: Method, rows: int, d_source: int, d_target: int) -> str:
    """How long it takes, in words, if others can be let wait as long."""
    pairs = min(rows, method.anchors)
    solving = (POINTS - 1) * expected_seconds(0, d_source, d_target)
    return check_cost(pairs, d_source, d_target, more=solving)


def _different(pairs: Pairs) -> Rows:
    """Positions of the rows that repeat no earlier one, on either side.

    An item that was fitted on must not come again among those that check the fit.

    Raises:
        Refusal: Too few.
    """
    sides = (np.asarray(pairs.source), np.asarray(pairs.target))
    source, target = (np.unique(side, axis=0, return_index=True)[1] for side in sides)
    rows: Rows = np.intersect1d(source, target)
    if len(rows) < LEAST_ROWS:
        raise Refusal(
            f"A migration needs at least {LEAST_ROWS} different rows on both sides; of these "
            f"{len(pairs):,}, {len(source):,} and {len(target):,} are different."
        )
    return rows


def _curve(translator: Translator, pairs: Pairs, most: int) -> LearningCurve:
    """Fits on up to so many of two thirds of the rows; the others ask for one another."""
    order = np.random.default_rng(0).permutation(len(pairs))
    held_out = min(HELD_OUT, len(pairs) // 3)
    asking, asked, fitted_on = np.split(order, [held_out // 2, held_out])
    fitted_on = fitted_on[:most]
    return learning_curve(
        translator,
        None,
        None,
        pairs.select(fitted_on),
        queries=pairs.select(asking),
        corpus=pairs.select(asked),
        start=max(LEAST, len(fitted_on) // 2**POINTS),
    )


def _write(
    source: Path, translator: Translator, curve: LearningCurve, folder: Path
) -> tuple[str, str]:
    """The translated file, with ids and other columns where it has room, and the gate's page."""
    own = Path(tempfile.mkdtemp(dir=folder))
    vectors = own / (
        f"translated{source.suffix.lower()}" if _keeps(source.name) else "translated.npy"
    )
    translate_file(translator, source, vectors, dtype="float32")
    vectors.with_name(f"{vectors.name}.manifest.json").unlink(missing_ok=True)
    page = own / "gate.html"
    page.write_text(curve.report.to_html(), encoding="utf-8")
    return str(vectors), str(page)


def _keeps(name: str) -> bool:
    """Whether a file of this name is written with more than vectors."""
    try:
        return writer_of(name).keeps != "nothing"
    except ValueError:
        return False


def _rows_per_second(translator: Translator, rows: np.ndarray) -> float:
    """How fast this machine translates."""
    block = np.resize(rows, (TIMED, rows.shape[1]))
    start = time.perf_counter()
    translator.transform(block)
    return TIMED / (time.perf_counter() - start)


def _stop(text: str) -> str:
    return "" if text.endswith(("?", "!", ".")) else "."


def _cell(value: str, spread: str = "") -> dict[str, str]:
    return {"value": value, "range": spread}
