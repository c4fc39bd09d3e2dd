"""Runs a fit on a visitor's vectors or items, to a report and a file of the translator."""

from pathlib import Path
from typing import Any

import numpy as np
from gradio.utils import get_upload_folder

from hf_latent_bridge import Pairs
from tabs.fit_your_own.fit import Clock, Fit, Method, check_cost, fit, split, summary, wanted_rows
from tabs.fit_your_own.items import Hub, Progress, Side, Table, check_items, encode
from tabs.fit_your_own.publish import save
from tabs.fit_your_own.uploads import read_vectors, vector_files

NAMES = ("source", "target")

Result = tuple[dict[str, Any], str, str]
Facts = list[dict[str, str]]


def fit_on_vectors(
    source: str | None, target: str | None, method: Method, progress: Progress
) -> Result:
    """A translator between the vectors of two files, row by row the same items.

    Returns:
        The report, and the zip file of the translator twice: to download and to remember.
    """
    clock = Clock()
    vectors = read_vectors(source, target)
    _announce(vectors, method, progress)
    return _answer(method, fit(method, vectors, clock), clock)


def fit_on_items(
    hub: Hub,
    sides: tuple[Side, Side],
    table: Table,
    method: Method,
    progress: Progress,
) -> Result:
    """A translator between two encoders, from items in files, a csv file or a dataset.

    Returns:
        The report, and the zip file of the translator twice: to download and to remember.
    """
    clock = Clock()
    n = wanted_rows(method.anchors)
    progress(None, desc="Reading the items")
    pairs = hub.first_rows(table, *sides, n)
    (items,) = pairs.batches(len(pairs))
    for name, side, column in zip(NAMES, sides, items, strict=True):
        check_items(column, side.kind, name)
    spaces: list[Any] = []
    latents: list[Any] = []
    for name, side, column in zip(NAMES, sides, items, strict=True):
        progress(None, desc=f"Loading the {name} encoder")
        encoder = hub.encoder(side.encoder, side.kind)
        latents.append(encode(encoder, column, clock, progress, f"Encoding the {name}").numpy())
        spaces.append(encoder.space)
    held = Pairs(latents[0], latents[1], pairs.dataset)
    _announce(held, method, progress)
    return _answer(method, fit(method, held, clock, (spaces[0], spaces[1])), clock)


def estimate_fit(
    source: str | None, target: str | None, method: str, alpha: float, anchors: int
) -> Facts:
    """What two files of vectors hold, and how long a fit on them takes; before any is read.

    Raises:
        Refusal: They cannot be taken, or it would take too long.
        LatentBridgeError: A damaged file.
    """
    with vector_files(source, target) as files:
        sizes = files.measure()
    return size_facts(*sizes, _told(Method(method, alpha, anchors), *sizes))


def size_facts(rows: int, d_source: int, d_target: int, takes: str) -> Facts:
    """The sizes of two files of vectors, and how long the work on them takes."""
    return [
        {"name": "rows", "value": f"{rows:,}"},
        {"name": "from", "value": f"{d_source:,} wide"},
        {"name": "to", "value": f"{d_target:,} wide"},
        {"name": "takes", "value": takes},
    ]


def _told(method: Method, rows: int, d_source: int, d_target: int) -> str:
    anchors, _ = split(rows, method.anchors)
    return check_cost(len(anchors), d_source, d_target)


def _announce(latents: Pairs, method: Method, progress: Progress) -> None:
    (d_source, d_target) = (np.shape(side)[1] for side in (latents.source, latents.target))
    took = _told(method, len(latents), d_source, d_target)
    progress(None, desc=f"Fitting and evaluating, {took}")


def _answer(method: Method, found: Fit, clock: Clock) -> Result:
    path = save(found.translator, found.report, Path(get_upload_folder()))
    return summary(method, found, clock), path, path
