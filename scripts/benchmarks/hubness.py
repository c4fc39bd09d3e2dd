"""Measures what correction for hubs finds and costs, by bank, anchors and kind of query.

BBC News: articles look for themselves, and headlines for their article (its headline removed). The
first run encodes, which takes some minutes; after that it takes seconds.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import MAX_LENGTH, MINILM, MPNET, Table, embedded_hub
from experiments.views import encode
from torch import Tensor

ASSETS = ("minilm", "mpnet", "bbc-news")
DATASET = "local/bbc-news"
ANCHORS = 1000
FEW = 100
BANK = 256
DRAWS = 3
OVERFETCH = (1, 2, 5, 10)
Sides = Mapping[str, Tensor]  # encoder -> latents of the same items


@dataclass(frozen=True)
class News:
    """Latents of both encoders; the anchors' articles and headlines, and the held-out ones."""

    anchors: Sides
    anchor_titles: Sides
    articles: Sides
    titles: Sides
    classes: Tensor


@dataclass(frozen=True)
class Route:
    """A fitted way from queries of one encoder to items of the other.

    Attributes:
        query: From source latents to where they search.
        item: From target latents to where they are found.
    """

    query: Callable[[Tensor], Tensor]
    item: Callable[[Tensor], Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds none: the data are the quickstart's."""


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    warnings.simplefilter("ignore")
    with embedded_hub(ASSETS):
        news = load_news()
    print(f"{len(news.classes):,} held-out articles, {MAX_LENGTH} tokens, mean of {DRAWS} draws\n")
    for queries, table in search_tables(news).items():
        print(f"{queries} look for their article\n{table.to_markdown()}\n")
    print(f"kinds of bank, {ANCHORS:,} anchors, ortho\n{bank_table(news).to_markdown()}\n")
    print(f"re-scored lists, {FEW} anchors, ortho\n{overfetch_table(news).to_markdown()}")
    return 0


def load_news() -> News:
    """Latents of the articles, those that are looked for without their headline, and of it."""
    from hf_latent_bridge import load_encoder, load_pairs

    encoders = {name: load_encoder(name, max_length=MAX_LENGTH) for name in (MINILM, MPNET)}
    train = load_pairs(DATASET, split="train", source="text", target="title", max_pairs=ANCHORS)
    test = load_pairs(DATASET, split="test", source="text", target="title")
    labels = load_pairs(DATASET, split="test", source="label").source
    texts = (
        list(train.source),
        list(train.target),
        [text.partition("\n")[2].strip() for text in test.source],
        list(test.target),
    )
    anchors, anchor_titles, articles, titles = (
        {name: encode(encoder, part).float() for name, encoder in encoders.items()}
        for part in texts
    )
    classes = torch.tensor([int(label) for label in labels])
    return News(anchors, anchor_titles, articles, titles, classes)


def routes(x: Tensor, y: Tensor) -> Iterator[tuple[str, Route]]:
    """A plain map and a shared space, fitted on the anchors."""
    from hf_latent_bridge import OrthoTranslator, SharedSpace

    ortho = OrthoTranslator().fit(x, y)
    yield "ortho", Route(ortho.transform, lambda latents: latents)
    space = SharedSpace(alpha=1.0).fit({"source": x, "target": y})
    translators = space.translator("source"), space.translator("target")
    yield "shared", Route(*(translator.transform for translator in translators))


def search_tables(news: News) -> dict[str, Table]:
    """By kind of query: every direction, route and number of anchors; plain, and by two banks."""
    tables = {
        kind: Table(["route", "anchors", "bank", "R@1", "MRR", "overlap@10", "same class@10"])
        for kind in ("articles", "titles")
    }
    for source, target in ((MINILM, MPNET), (MPNET, MINILM)):
        results: dict[tuple[str, ...], list[list[float]]] = {}
        for n, seed in ((n, seed) for n in (FEW, ANCHORS) for seed in range(DRAWS)):
            rows = np.random.default_rng(seed).permutation(ANCHORS)[:n]
            for name, route in routes(news.anchors[source][rows], news.anchors[target][rows]):
                for kind, bank, found in searches(news, (source, target), route, rows[:BANK]):
                    results.setdefault((kind, name, f"{n:,}", bank), []).append(found)
        for (kind, name, *cells), draws in results.items():
            means = [f"{mean:.3f}" for mean in np.mean(draws, axis=0)]
            tables[kind].add(f"{short(source)} to {short(target)}, {name}", [*cells, *means])
    return tables


def searches(
    news: News, encoders: tuple[str, str], route: Route, kept: Any
) -> Iterator[tuple[str, str, list[float]]]:
    """Kind of query, kind of bank, and scores."""
    source, target = encoders
    banks = {"none": None, "articles": news.anchors, "titles": news.anchor_titles}
    items = route.item(news.articles[target])
    for kind in ("articles", "titles"):
        queries: Sides = getattr(news, kind)
        native = queries[target], news.articles[target]
        for bank, latents in banks.items():
            known = None if latents is None else route.query(latents[source][kept])
            asked = route.query(queries[source])
            yield kind, bank, scores(asked, items, known, native, news.classes)


def scores(
    asked: Tensor,
    items: Tensor,
    bank: Tensor | None,
    native: tuple[Tensor, Tensor],
    classes: Tensor,
) -> list[float]:
    """R@1, MRR, overlap with the native neighbours, and neighbours of the same class."""
    from hf_latent_bridge import metrics
    from hf_latent_bridge.hubness import fold_items, fold_queries

    if bank is not None:
        asked = fold_queries(asked, metric="cosine")
        items = fold_items(items, bank, metric="cosine")
    ranks = metrics.counterpart_ranks(asked, items)
    found, wanted = (metrics.nearest_others(*pair, 10) for pair in ((asked, items), native))
    return [
        metrics.recall_at_k(ranks, 1),
        metrics.mean_reciprocal_rank(ranks),
        metrics.overlap(found, wanted),
        metrics.same_class(found, classes.to(found.device)),
    ]


def bank_table(news: News) -> Table:
    """Samples of the translated anchors of several sizes, and their k-means centres."""
    table = Table(["bank", "R@1", "MRR", "overlap@10", "same class@10"])
    results: dict[str, list[list[float]]] = {}
    for source, target in ((MINILM, MPNET), (MPNET, MINILM)):
        x, y = news.anchors[source], news.anchors[target]
        _, route = next(routes(x, y))
        native = (news.articles[target],) * 2
        for name, bank in banks(route.query(x)):
            asked, items = route.query(news.articles[source]), news.articles[target]
            results.setdefault(name, []).append(scores(asked, items, bank, native, news.classes))
    for name, found in results.items():
        table.add(name, [f"{mean:.3f}" for mean in np.mean(found, axis=0)])
    return table


def banks(translated: Tensor) -> Iterator[tuple[str, Tensor | None]]:
    """No bank, samples, and centres of the translated anchors."""
    from sklearn.cluster import KMeans

    rows = torch.nn.functional.normalize(translated, dim=1)
    yield "none", None
    for size in (64, BANK, ANCHORS):
        yield f"{size:,} anchors", rows[:size]
    for size in (64, BANK):
        fitted: Any = KMeans(size, n_init=1, random_state=0).fit(rows.numpy())
        yield f"{size:,} k-means centres", torch.from_numpy(fitted.cluster_centers_)


def overfetch_table(news: News) -> Table:
    """How much of the corrected top ten comes out of longer and longer lists by plain cosine."""
    from hf_latent_bridge.hubness import fold_items, fold_queries, neighbor_similarity, rescore
    from hf_latent_bridge.metrics import overlap

    unit = torch.nn.functional.normalize
    x, y = (news.anchors[name][:FEW] for name in (MINILM, MPNET))
    _, route = next(routes(x, y))
    asked, items = unit(route.query(news.articles[MINILM])), unit(news.articles[MPNET])
    bank = route.query(x)
    wanted = (fold_queries(asked) @ fold_items(items, bank).mT).topk(10).indices
    r = neighbor_similarity(items, bank)
    table = Table(["items asked of the store", "share of the corrected ten"])
    for factor in OVERFETCH:
        cosines, rows = (asked @ items.mT).topk(10 * factor)
        _, found = rescore(cosines, rows, r, top_k=10)
        table.add(f"{10 * factor}", [f"{overlap(found, wanted):.3f}"])
    return table


def short(repo_id: str) -> str:
    """The name of an encoder in tables."""
    return {MINILM: "MiniLM", MPNET: "MPNet"}[repo_id]
