"""The cells of the comparison: encoders, a number of anchors, a draw, and how they are scored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from experiments.methods import draw_anchors
from torch import Tensor
from torch.nn.functional import cosine_similarity

from quality.data import Data, Queries, Side
from quality.methods import SHARED_WIDTHS, Fitted, Method, fit_shared
from quality.scores import (
    Scores,
    Search,
    accuracy,
    find_own,
    nearest_others,
    neighbours,
    of_the_same_class,
    overlap,
)

if TYPE_CHECKING:
    from hf_latent_bridge import SharedSpace

ANCHORS = (1000, 300, 100, 3000)
FULL = 1000  # anchors where their number does not vary
KINDS = ("queries", "both")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NATIVE = "native"
FEW = (3, 4)  # encoders of the smaller joint indexes

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One combination, and how it is computed.

    Attributes:
        name: Of the file, without ending.
        facts: What the report selects by.
        compute: From methods to results, by method.
        accepts: Whether a method is of use there.
    """

    name: str
    facts: dict[str, Any]
    compute: Callable[[Sequence[Method]], Results]
    accepts: Callable[[Method], bool]


def all_cells(data: Data, *, anchors: Sequence[int], draws: int) -> Iterator[Cell]:
    """The cells of a data set: one draw of anchors after the other, then queries as anchors.

    All of the pool is drawn once.
    """
    pool = len(data.pool_labels)
    sizes = [size for size in anchors if size <= pool]
    full = min(FULL, max(sizes))
    for draw in range(draws):
        yield from joint_cells(data, full, draw)
        for size in sizes:
            for a, b in data.pairs if draw == 0 or size < pool else []:
                yield pair_cell(data, a, b, size, draw, mixed=size == full)
    for draw in range(draws if data.query else 0):
        for size in sizes:
            for a, b in data.pairs if size <= FULL else []:
                yield from query_cells(data, a, b, size, draw)


def _slow_once(draw: int) -> Callable[[Method], bool]:
    return lambda method: draw == 0 or not method.slow


def _of_queries(draw: int) -> Callable[[Method], bool]:
    """Queries look for documents, not for classes."""
    return lambda method: _slow_once(draw)(method) and not method.labelled


def _in_one_index(method: Method) -> bool:
    """One index of all: no correction of hubs, no space of two alone, no choice for heads."""
    return not (method.slow or method.hubs or method.pairwise or method.labelled)


def pair_cell(data: Data, a: str, b: str, size: int, draw: int, *, mixed: bool) -> Cell:
    """Two encoders, one draw of documents as anchors: all scores, in both directions.

    Args:
        data: The data set.
        a: An encoder.
        b: Another.
        size: Number of anchors.
        draw: Seeds their draw.
        mixed: Also those of an index of which a share is re-encoded.
    """

    def compute(methods: Sequence[Method]) -> Results:
        rows = draw_anchors(len(data.pool_labels), size, seed=draw)
        x, y = (data.sides[name].pool[rows] for name in (a, b))
        labels = [data.pool_labels[row] for row in rows.tolist()]
        results: Results = {NATIVE: {f"{s}>{t}": native(data, t) for s, t in ((a, b), (b, a))}}
        for method in methods:
            fits = method.fit_both(x, y, labels)
            results[method.name] = {
                f"{s}>{t}": score(data, s, t, fitted, mixed_by=draw if mixed else None)
                for (s, t), fitted in zip(((a, b), (b, a)), fits, strict=True)
            }
        return results

    facts = {"kind": "pair", "pair": [a, b], "anchors": size, "draw": draw}
    return Cell(f"pair-{size}-{draw}-{a}-{b}", facts, compute, _slow_once(draw))


def native(data: Data, encoder: str) -> Scores:
    """The encoder by itself: its head, the neighbours of its own items, and what else it finds."""
    side = data.sides[encoder]
    scores = {
        "accuracy": accuracy(data.head(encoder), side.test, data.test_labels),
        "P@10": of_the_same_class(data.native_neighbours(encoder), data.same_class),
    }
    if data.query:
        scores["query R@1"] = native_query(side)["R@1"]
    if side.other_language is not None:
        scores["R@1"] = find_own(Search(side.test, side.other_language))["R@1"]
    return scores


def native_query(side: Side) -> dict[str, float]:
    """How the encoder by itself finds the documents of its own queries."""
    asking = _queries(side)
    return find_own(Search(asking.test, asking.sought))


def score(
    data: Data, source: str, target: str, fitted: Fitted, *, mixed_by: int | None
) -> dict[str, float]:
    """All scores of a fit; with the plain cosine beside the centred one where they differ.

    Args:
        data: The data set.
        source: The encoder of the queries.
        target: That of the items.
        fitted: The fit.
        mixed_by: Seeds the order in which the items of a mixed index are re-encoded; None for no
            such index.
    """
    x, y = data.sides[source].test, data.sides[target].test
    own = data.native_neighbours(target)
    scores: dict[str, float] = {}
    for centred in (False, True) if fitted.centre is not None else (True,):
        search = Search.of(fitted, x, y, centred=centred)
        nearest = neighbours(search)
        found = find_own(search) | {
            "P@10": of_the_same_class(nearest, data.same_class),
            "overlap@10": overlap(nearest, own),
        }
        scores |= found if centred else {f"{name}, raw": value for name, value in found.items()}
    if mixed_by is not None and fitted.bank is None:
        order = torch.from_numpy(np.random.default_rng(mixed_by).permutation(len(y)))
        scores |= mix(data, Search.of(fitted, x, y, centred=True), order)
    if data.query:
        asked = _ask(data.sides[source], data.sides[target], fitted)
        scores |= {f"query {name}": value for name, value in asked.items()}
    if fitted.readable:
        translated = fitted.query(x)
        scores["cosine"] = float(cosine_similarity(translated, y, dim=1).mean())
        scores["accuracy"] = accuracy(data.head(target), translated, data.test_labels)
    return scores


def query_cells(data: Data, a: str, b: str, size: int, draw: int) -> Iterator[Cell]:
    """Queries of one encoder look for their document among the other's; anchors are queries too."""
    for kind in KINDS:

        def compute(methods: Sequence[Method], kind: str = kind) -> Results:
            rows = draw_anchors(len(data.pool_labels), size, seed=draw)
            x, y = (_anchors(data.sides[name], rows, kind) for name in (a, b))
            results: Results = {NATIVE: {}}
            for s, t in ((a, b), (b, a)):
                results[NATIVE][f"{s}>{t}"] = native_query(data.sides[t])
            for method in methods:
                fits = method.fit_both(x, y)
                results[method.name] = {
                    f"{s}>{t}": _ask(data.sides[s], data.sides[t], fitted)
                    for (s, t), fitted in zip(((a, b), (b, a)), fits, strict=True)
                }
            return results

        facts = {"kind": "queries", "pair": [a, b], "anchors": size, "draw": draw, "of": kind}
        yield Cell(f"queries-{size}-{draw}-{kind}-{a}-{b}", facts, compute, _of_queries(draw))


def _ask(source: Side, target: Side, fitted: Fitted) -> dict[str, float]:
    scores: dict[str, float] = {}
    asked, sought = _queries(source).test, _queries(target).sought
    for centred in (False, True) if fitted.centre is not None else (True,):
        found = find_own(Search.of(fitted, asked, sought, centred=centred))
        scores |= found if centred else {f"{name}, raw": value for name, value in found.items()}
    return scores


def _anchors(side: Side, rows: Tensor, kind: str) -> Tensor:
    if kind == "documents":
        return side.pool[rows]
    queries = _queries(side).pool[rows]
    return queries if kind == "queries" else torch.cat([side.pool[rows], queries])


def _queries(side: Side) -> Queries:
    if side.asking is None:
        raise ValueError("the data set has no queries")
    return side.asking


def mix(data: Data, search: Search, order: Tensor) -> dict[str, float]:
    """P@10 while an index of the source's items is re-encoded by the target.

    Args:
        data: For the classes.
        search: The source's test items as queries, the target's as items.
        order: In which items are re-encoded, (n,).
    """
    old, new = search.queries, search.items
    scores = {}
    for asking, queries in (("old", old), ("new", new)):
        similarity, renewed = (Search(queries, items).similarity() for items in (old, new))
        done = 0
        for share in SHARES:
            columns = order[done : (done := round(share * len(order)))]
            similarity[:, columns] = renewed[:, columns]
            nearest = nearest_others(similarity.clone())
            scores[mixed_score(share, asking)] = of_the_same_class(nearest, data.same_class)
    return scores


def mixed_score(share: float, asking: str) -> str:
    """Name of the score P@10 with this share re-encoded, when the "old" or "new" encoder asks."""
    return f"P@10, {share:.0%} re-encoded, {asking} asks"


def joint_cells(data: Data, size: int, draw: int) -> Iterator[Cell]:
    """Several encoders in one index, each item from one of them, any of them asking."""
    names = list(data.sides)
    for count in sorted({min(few, len(names)) for few in FEW} | {len(names)}):

        def compute(methods: Sequence[Method], names: list[str] = names[:count]) -> Results:
            rows = draw_anchors(len(data.pool_labels), size, seed=draw)
            alone = {name: native(data, name)["P@10"] for name in names}
            best = max(alone, key=lambda name: alone[name])
            results: Results = {NATIVE: alone}
            pools = {name: data.sides[name].pool[rows] for name in names}
            space = cache(lambda: fit_shared(pools, min(pool.shape[1] for pool in pools.values())))
            for method in methods:
                if method.name in SHARED_WIDTHS:
                    spaces = _into_shared(data, space(), SHARED_WIDTHS[method.name])
                else:
                    spaces = _into_best(data, pools, best, method)
                results[method.name] = _ask_all(data, spaces)
            return results

        facts = {"kind": "joint", "encoders": names[:count], "anchors": size, "draw": draw}
        yield Cell(f"joint-{size}-{draw}-{'-'.join(names[:count])}", facts, compute, _in_one_index)


def _into_shared(data: Data, space: "SharedSpace", dim: int | None) -> dict[str, Tensor]:
    """All encoders' test items in a space that they share, in so many or the suggested axes."""
    width = space.information_.n_axes if dim is None and space.information_ else dim
    return {
        name: view.transform(data.sides[name].test)[:, :width]
        for name, view in space.views_.items()
    }


def _into_best(
    data: Data, pools: Mapping[str, Tensor], best: str, method: Method
) -> dict[str, Tensor]:
    """All encoders' test items in the space of the best one."""
    placed = {}
    for name, pool in pools.items():
        if name == best:
            placed[name] = data.sides[best].test - pools[best].mean(0)
            continue
        fitted, _ = method.fit_both(pool, pools[best])
        search = Search.of(fitted, data.sides[name].test, data.sides[best].test, centred=True)
        placed[name] = search.queries
    return placed


def _ask_all(data: Data, spaces: dict[str, Tensor]) -> dict[str, float]:
    """P@10 of each encoder's queries in an index that takes its items from all in turn."""
    names = list(spaces)
    index = torch.stack(list(spaces.values()))
    items = torch.arange(index.shape[1])
    mixed = torch.nn.functional.normalize(index, dim=2)[items % len(names), items]
    return {
        name: of_the_same_class(neighbours(Search(queries, mixed)), data.same_class)
        for name, queries in spaces.items()
    }
