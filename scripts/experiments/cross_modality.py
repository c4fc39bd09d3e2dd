"""Classifies and searches across modalities: titles and pictures of openclipart.

A head that was trained on latents of titles classifies pictures, and the other way round; titles
find their pictures, and pictures their titles.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from common import Table, embedded_hub

from experiments.methods import fit_all, translators, untranslated
from experiments.openclipart import (
    IMAGE,
    TEXT,
    Collection,
    Names,
    Rows,
    halves_of_digits,
    hold_out,
    openclipart,
)
from experiments.results_page import Section, add_shared_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from hf_latent_bridge import Head

Label = str | int
Scores = dict[str, dict[str, list[float]]]  # seeds' scores, by row and column

CLASSES = 8
NO_CLASS = "unsorted"
HEAD_ROWS = 250  # of each class, lest the largest rules the head
C = 0.01  # as many dimensions as rows ask for a strong penalty
RECALLS = (1, 5, 10)
MEASURES = (*(f"R@{k}" for k in RECALLS), "MRR")
HONEST = "whole folders held out"
LEAKY = "random split"
SHARED = "shared space"
DIRECTIONS = ("titles → pictures", "pictures → titles")


def compare(
    collection: Collection, known: Rows, test: Rows, candidates: int
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Direction, method and scores, for every pair of encoders.

    Args:
        collection: The latents.
        known: Rows to fit on, in random order.
        test: Held-out rows, in random order.
        candidates: How many of them each search ranks.
    """
    labels = collection.categories
    of_class = np.isin(labels[test], largest(labels))
    truth = labels[test][of_class]
    guess = {"accuracy": 1 / len(np.unique(truth)), **chance(candidates)}
    latents = collection.latents
    trained = {name: train_head(x[known], labels[known]) for name, x in latents.items()}
    for direction, source, target in collection.directions():
        x, y, head = latents[source], latents[target], trained[target]
        yield direction, "native", {"accuracy": accuracy(head, y[test][of_class], truth)}
        for name, made in translate(x[known], y[known], x[test]).items():
            found = retrieval(made[:candidates], y[test][:candidates])
            yield direction, name, {"accuracy": accuracy(head, made[of_class], truth), **found}
        queries, items = into_shared(x[known], y[known], x[test], y[test])
        yield direction, SHARED, retrieval(queries[:candidates], items[:candidates])
        yield direction, "chance", guess


def translate(x: "Tensor", y: "Tensor", queries: "Tensor") -> "dict[str, Tensor]":
    """The queries translated by each method, fitted on pairs x and y, and untranslated."""
    closed_forms = {name: t for name, t in translators().items() if name != "affine"}
    made = {name: t.transform(queries) for name, t in fit_all(x, y, closed_forms).items()}
    return {**made, "untranslated": untranslated(queries, y.shape[1])}


def into_shared(
    x: "Tensor", y: "Tensor", queries: "Tensor", items: "Tensor"
) -> "tuple[Tensor, Tensor]":
    """Queries and items in a shared space of 64 axes, fitted on pairs x and y."""
    from hf_latent_bridge import SharedSpace

    space = SharedSpace(64).fit({"x": x, "y": y})
    return space.translator("x").transform(queries), space.translator("y").transform(items)


def largest(labels: Names) -> list[Label]:
    """The most frequent classes that mean something."""
    counts = Counter(label for label in labels.tolist() if label != NO_CLASS)
    return [label for label, _ in counts.most_common(CLASSES)]


def train_head(latents: "Tensor", labels: Names) -> "Head":
    """A logistic regression on the first `HEAD_ROWS` rows of each of the largest classes."""
    from hf_latent_bridge import fit_head

    rows = [np.flatnonzero(labels == label)[:HEAD_ROWS] for label in largest(labels)]
    chosen = np.concatenate(rows)
    return fit_head(latents[chosen], labels[chosen].tolist(), C=C)


def accuracy(head: "Head", latents: "Tensor", truth: Names) -> float:
    """Mean over the classes of the share that is recognised."""
    from sklearn.metrics import recall_score

    found = [answer["label"] for answer in head(latents)]
    return float(recall_score(truth, found, labels=np.unique(truth), average="macro"))


def retrieval(translated: "Tensor", target: "Tensor") -> dict[str, float]:
    """How often an index over the targets finds the counterpart, and the mean reciprocal rank."""
    from hf_latent_bridge import LatentIndex, metrics

    index = LatentIndex.from_latents(target, range(len(target)))
    found = [[hit["item"] for hit in hits] for hits in index.search(translated, max(RECALLS))]
    recalls = {
        f"R@{k}": float(np.mean([row in items[:k] for row, items in enumerate(found)]))
        for k in RECALLS
    }
    ranks = metrics.counterpart_ranks(translated, target)
    return {**recalls, "MRR": metrics.mean_reciprocal_rank(ranks)}


def chance(candidates: int) -> dict[str, float]:
    """The scores of a random order of the candidates."""
    recalls = {f"R@{k}": k / candidates for k in RECALLS}
    return {**recalls, "MRR": float(np.mean(1 / np.arange(1, candidates + 1)))}


def measure(collection: Collection, groups: Names, seeds: int, candidates: int) -> Scores:
    """Scores by row and column, one for each seed: the mean over the pairs of encoders."""
    scores: Scores = {}
    for seed in range(seeds):
        known, test = hold_out(groups, candidates, seed=seed)
        one: Scores = {}
        for direction, row, found in compare(collection, known, test, candidates):
            for name, score in found.items():
                one.setdefault(row, {}).setdefault(f"{direction}, {name}", []).append(score)
        for row, cells in one.items():
            for column, values in cells.items():
                scores.setdefault(row, {}).setdefault(column, []).append(fmean(values))
        print(f"seed {seed + 1} of {seeds} is done", file=sys.stderr, flush=True)
    return scores


def heads(scores: Mapping[str, Scores]) -> Table:
    """Accuracy of the heads: one column for each split and direction."""
    table = Table(["", *(f"{direction}, {split}" for split in scores for direction in DIRECTIONS)])
    first = next(iter(scores.values()))
    for row in (row for row in first if row != SHARED):  # no head reads it
        table.add(
            row,
            [by_row[row][f"{way}, accuracy"] for by_row in scores.values() for way in DIRECTIONS],
        )
    return table


def search(scores: Scores, direction: str) -> Table:
    """Recalls and reciprocal ranks in one direction."""
    table = Table(["", *MEASURES])
    for row in (row for row in scores if row != "native"):
        table.add(row, [scores[row][f"{direction}, {name}"] for name in MEASURES])
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_shared_arguments(parser)
    known = [*TEXT, *IMAGE]
    parser.add_argument("--encoders", nargs="+", choices=known, default=known, help="which to pair")


def run(options: argparse.Namespace) -> int:
    """Encodes, fits and prints; returns the exit code."""
    chosen = set(options.encoders)
    if not chosen & TEXT.keys() or not chosen & IMAGE.keys():
        needed = f"one of {[*TEXT]} and one of {[*IMAGE]}"
        print(f"error: --encoders needs {needed}, got {sorted(chosen)}", file=sys.stderr)
        return 1
    if options.quick:
        collection, candidates = halves_of_digits(), 300
    else:
        with embedded_hub([*options.encoders, "openclipart"]):
            collection, candidates = openclipart(options.encoders), 1000
    section = Section("cross-modality")
    add_tables(section, collection, candidates, options.seeds)
    if options.write:
        section.write(options.command_line)
    return 0


def add_tables(section: Section, collection: Collection, candidates: int, seeds: int) -> None:
    """Adds the accuracy of heads, and the recall of searches in each direction."""
    splits = {HONEST: collection.folders, LEAKY: np.arange(len(collection))}
    scores = {
        name: measure(collection, groups, seeds, candidates) for name, groups in splits.items()
    }
    sizes = (
        f"{len(collection):,} pairs, {', '.join([*collection.titles, *collection.pictures])}; "
        f"mean ± deviation over {seeds} splits"
    )
    title = f"Accuracy of heads of the other modality over the {CLASSES} largest classes: {sizes}"
    section.add(title, heads(scores))
    for (name, found), direction in product(scores.items(), DIRECTIONS):
        title = f"{direction}, {name}, {candidates:,} candidates: {sizes}"
        section.add(title, search(found, direction))
