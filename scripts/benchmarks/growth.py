"""Measures how few pairs a shared space needs if it finds further ones among unpaired items.

R@1 on held-out items, mean of both directions and the draws. The unpaired items are those of the
pool: the same on both sides in different orders, or half of them on either side. The first run
encodes, which takes some minutes; after that a table takes some minutes.
"""

import argparse
import warnings
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from common import Table, embedded_hub, positive
from torch import Tensor

if TYPE_CHECKING:
    from hf_latent_bridge import SharedSpace

GIVEN = (0, 10, 30, 100, 300, 1000)
CASES = {
    "bbc": (("MiniLM", "MPNet"), ("MiniLM", "WordLlama")),
    "20newsgroups": (("MiniLM", "WordLlama"),),
}
ASSETS = ("minilm", "mpnet", "wordllama", "bbc-news", "20newsgroups")
Pair = tuple[Tensor, Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES), help="data sets")
    parser.add_argument("--given", nargs="+", type=int, default=list(GIVEN))
    parser.add_argument("--draws", type=positive, default=3, help="draws of pairs (default 3)")


def run(options: argparse.Namespace) -> int:
    """Prints a table per data set and two encoders; returns the exit code."""
    from quality.data import SOURCES, load

    warnings.simplefilter("ignore")
    with embedded_hub(ASSETS):
        loaded = {
            name: load(name, list(dict.fromkeys(e for pair in CASES[name] for e in pair)))
            for name in options.data
        }
    for name, data in loaded.items():
        for one, other in CASES[name]:
            a, b = data.sides[one], data.sides[other]
            pool, test = (a.pool.float(), b.pool.float()), (a.test.float(), b.test.float())
            print(f"\n{SOURCES[name].title}, {one} and {other}, {len(pool[0]):,} items\n")
            print(table(pool, test, options.given, options.draws).to_markdown(), flush=True)
    return 0


def table(pool: Pair, test: Pair, given: list[int], draws: int) -> Table:
    """One row for each number of given pairs."""
    result = Table(["given", "ortho", "shared", "grown", "confirmed", "other items", "confirmed"])
    for n in given:
        if n + 20 <= len(pool[0]):
            rows = [row(pool, test, n, seed) for seed in range(draws)]
            result.add(f"{n:,}", [fmean(column) for column in zip(*rows, strict=True)])
    return result


def row(pool: Pair, test: Pair, n: int, seed: int) -> list[float]:
    """Scores of one draw of given pairs; with none, plain fits are at chance."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(pool[0]), generator=draw)
    x, y = (side[rows] for side in pool)
    order = torch.randperm(len(x) - n, generator=draw)
    half = len(order) // 2
    given, rest = (x[:n], y[:n]), (x[n:], y[n:][order])
    apart = x[n:][order[:half]], y[n:][order[half:]]
    fits = plain(given, test) if n else [1 / len(test[0])] * 2
    return [*fits, *grown(given, rest, test), *grown(given, apart, test)]


def plain(given: Pair, test: Pair) -> list[float]:
    """R@1 of the rotation and of the shared space, fitted on the given pairs."""
    from hf_latent_bridge import OrthoTranslator, SharedSpace

    rotation = [
        recall(OrthoTranslator().fit(a, b).transform(p) - b.mean(0), q - b.mean(0))
        for (a, b), (p, q) in ((given, test), (given[::-1], test[::-1]))
    ]
    shared = SharedSpace().fit({"a": given[0], "b": given[1]})
    return [fmean(rotation), both_ways(shared, test)]


def grown(given: Pair, rest: Pair, test: Pair) -> list[float]:
    """R@1 of the grown space, and whether its pairs were confirmed."""
    from hf_latent_bridge import SharedSpace
    from hf_latent_bridge.errors import SolverError

    views = {"a": given[0], "b": given[1]} if len(given[0]) else None
    try:
        space = SharedSpace().fit_growing(views, {"a": rest[0], "b": rest[1]})
    except SolverError:  # no pair given, and none confirmed
        return [1 / len(test[0]), 0.0]
    return [both_ways(space, test), float(space.growth_ is not None and space.growth_.confirmed)]


def both_ways(space: "SharedSpace", test: Pair) -> float:
    """Mean R@1 of the held-out items of either view."""
    a, b = (space.translator(view).transform(side) for view, side in zip("ab", test, strict=True))
    return fmean((recall(a, b), recall(b, a)))


def recall(queries: Tensor, items: Tensor) -> float:
    """R@1 by cosine."""
    from hf_latent_bridge.metrics import counterpart_ranks, recall_at_k

    return recall_at_k(counterpart_ranks(queries, items), 1)
