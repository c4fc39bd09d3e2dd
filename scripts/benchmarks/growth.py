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

GIVEN = (10, 30, 100, 300, 1000)
CASES = {
    "bbc": (("MiniLM", "MPNet"), ("MiniLM", "WordLlama")),
    "20newsgroups": (("MiniLM", "WordLlama"),),
}
ASSETS = ("minilm", "mpnet", "wordllama", "bbc-news", "20newsgroups")
Pair = tuple[Tensor, Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES), help="data sets")
    parser.add_argument("--given", nargs="+", type=positive, default=list(GIVEN))
    parser.add_argument("--draws", type=positive, default=3, help="draws of pairs (default 3)")


def run(options: argparse.Namespace) -> int:
    """Prints a table per data set and two encoders; returns the exit code."""
    from quality.data import SOURCES, load

    warnings.simplefilter("ignore")
    for name in options.data:
        with embedded_hub(ASSETS):
            data = load(name, list(dict.fromkeys(e for pair in CASES[name] for e in pair)))
        for one, other in CASES[name]:
            a, b = data.sides[one], data.sides[other]
            pool, test = (a.pool.float(), b.pool.float()), (a.test.float(), b.test.float())
            print(f"\n{SOURCES[name].title}, {one} and {other}, {len(pool[0]):,} items\n")
            print(table(pool, test, options.given, options.draws).to_markdown(), flush=True)
    return 0


def table(pool: Pair, test: Pair, given: list[int], draws: int) -> Table:
    """One row for each number of given pairs."""
    header = ["given", "ortho", "shared", "grown", "confirmed", "right", "grown, other items"]
    result = Table([*header, "confirmed"])
    for n in given:
        if n + 20 <= len(pool[0]):
            rows = [row(pool, test, n, seed) for seed in range(draws)]
            result.add(f"{n:,}", [fmean(column) for column in zip(*rows, strict=True)])
    return result


def row(pool: Pair, test: Pair, n: int, seed: int) -> list[float]:
    """Scores of one draw of given pairs."""
    from hf_latent_bridge import OrthoTranslator, SharedSpace

    draw = torch.Generator().manual_seed(seed)
    x, y = (side[torch.randperm(len(side), generator=draw.manual_seed(seed))] for side in pool)
    order = torch.randperm(len(x) - n, generator=draw)
    half = len(order) // 2
    first, second = x[:n], y[:n]
    plain = [
        recall(OrthoTranslator().fit(a, b).transform(p) - b.mean(0), q - b.mean(0))
        for a, b, p, q in ((first, second, *test), (second, first, *test[::-1]))
    ]
    views = {"a": first, "b": second}
    shared = SharedSpace().fit(views)
    same = SharedSpace().fit_growing(views, {"a": x[n:], "b": y[n:][order]})
    apart = {"a": x[n:][order[:half]], "b": y[n:][order[half:]]}
    other = SharedSpace().fit_growing(views, apart)
    found = [growth for growth in (same.growth_, other.growth_) if growth is not None]
    right = (order[found[0].rows_y] == found[0].rows_x).double().mean()
    return [
        fmean(plain),
        both_ways(shared, test),
        both_ways(same, test),
        float(found[0].confirmed),
        float(right),
        both_ways(other, test),
        float(found[1].confirmed),
    ]


def both_ways(space: "SharedSpace", test: Pair) -> float:
    """Mean R@1 of the held-out items of either view."""
    a, b = (space.translator(view).transform(side) for view, side in zip("ab", test, strict=True))
    return fmean((recall(a, b), recall(b, a)))


def recall(queries: Tensor, items: Tensor) -> float:
    """R@1 by cosine."""
    from hf_latent_bridge.metrics import counterpart_ranks, recall_at_k

    return recall_at_k(counterpart_ranks(queries, items), 1)
