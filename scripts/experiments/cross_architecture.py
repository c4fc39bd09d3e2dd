"""Classifies across architectures, as in the paper: a head behind another encoder.

A head is trained on latents of the target encoder and classifies what each method makes of the
source encoder's, for texts and for images and in both directions.
"""

import argparse
from collections import defaultdict
from itertools import permutations

from common import Cell, Table

from experiments.crossing import Crossing, add_task_arguments, majority, run_on_tasks
from experiments.methods import draw_anchors, fit_all, relative, untranslated
from experiments.results_page import Section
from experiments.views import Views

SHUFFLED = "ortho, shuffled pairs"

add_arguments = add_task_arguments


def run(options: argparse.Namespace) -> int:
    """Prints a table for each dataset; returns the exit code."""
    return run_on_tasks("cross-architecture", compare, options)


def compare(
    section: Section, title: str, train: Views, test: Views, *, anchors: int, seeds: int
) -> None:
    """Adds the table of one dataset: methods down, ordered pairs of encoders across."""
    columns = {
        f"{source} → {target}": accuracies(
            Crossing.of(train, test, source, target), anchors=anchors, seeds=seeds
        )
        for source, target in permutations(train.latents, 2)
    }
    table = Table(["accuracy", *columns])
    for row in next(iter(columns.values())):
        table.add(row, [column[row] for column in columns.values()])
    facts = (
        f"{len(train):,} rows to train heads, {anchors:,} anchors of them, {len(test):,} to score"
    )
    section.add(f"{title}: {facts}, {seeds} draws of anchors", table)


def accuracies(crossing: Crossing, *, anchors: int, seeds: int) -> dict[str, Cell]:
    """The cells of one ordered pair of encoders, by row: one score, or one for each seed."""
    drawn: dict[str, list[float]] = defaultdict(list)
    for seed in range(seeds):
        rows = draw_anchors(len(crossing.x), anchors, seed=seed)
        for name, accuracy in translated(crossing, rows.tolist()).items():
            drawn[name].append(accuracy)
    return {
        "native": crossing.accuracy(crossing.test_y),
        "absolute": crossing.accuracy(untranslated(crossing.test_x, crossing.y.shape[1])),
        **drawn,
        "chance": majority(crossing.test_labels),
    }


def translated(crossing: Crossing, rows: list[int]) -> dict[str, float]:
    """Accuracy by each method that these anchors, named by their rows, make possible."""
    from hf_latent_bridge import OrthoTranslator

    x, y = crossing.x[rows], crossing.y[rows]
    plain = crossing.through(lambda t: relative(t, x), lambda t: relative(t, y))
    centred = crossing.through(
        lambda t: relative(t - x.mean(0), x - x.mean(0)),
        lambda t: relative(t - y.mean(0), y - y.mean(0)),
    )
    fitted = fit_all(x, y) | fit_all(x, y.roll(1, dims=0), {SHUFFLED: OrthoTranslator()})
    return {
        "relative": plain.accuracy(plain.test_x),
        "relative, centred": centred.accuracy(centred.test_x),
        **{
            name: crossing.accuracy(translator.transform(crossing.test_x))
            for name, translator in fitted.items()
        },
    }
