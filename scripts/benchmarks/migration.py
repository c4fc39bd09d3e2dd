"""Measures what search finds in a migrated store: moved, folded, by queries alone, and gradually.

BBC News in a folder of Qdrant: headlines look for their article (its headline removed), the old
model is MiniLM and the new one MPNet, 1,000 articles and 1,000 headlines are the anchors. The first
run encodes, which takes some minutes; after that it takes one or two.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import MINILM, MPNET, Table, embedded_hub

from benchmarks.hubness import ASSETS, load_news

K = 10
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Latents = Any
Find = Callable[[Latents], Sequence[int]]


@dataclass(frozen=True)
class Corpus:
    """Latents by the old and the new model: of the anchors, the articles and their headlines."""

    anchors: tuple[Latents, Latents]
    articles: tuple[Latents, Latents]
    titles: tuple[Latents, Latents]
    bank: tuple[Latents, Latents]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds none: the data are the quickstart's."""


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    warnings.simplefilter("ignore")
    with embedded_hub(ASSETS):
        corpus = load_corpus()
    with tempfile.TemporaryDirectory() as folder:
        url = stored(corpus, Path(folder))
        n = len(corpus.articles[0])
        print(f"{n:,} headlines look for their article among {n:,}, in a folder of Qdrant\n")
        print(f"{ways_table(corpus, url, Path(folder)).to_markdown()}\n")
        print(f"{directions(corpus)}\n")
        print(f"{gradual_table(corpus, url, Path(folder)).to_markdown()}\n")
        print(gradual_gate(corpus))
    return 0


def load_corpus() -> Corpus:
    """The news, as MiniLM and MPNet see them."""
    news = load_news()

    def both(sides: Mapping[str, torch.Tensor]) -> tuple[Latents, Latents]:
        return sides[MINILM].numpy(), sides[MPNET].numpy()

    kinds = zip(both(news.anchors), both(news.anchor_titles), strict=True)
    first, second = (np.concatenate(pair) for pair in kinds)
    return Corpus((first, second), both(news.articles), both(news.titles), both(news.anchor_titles))


def stored(corpus: Corpus, folder: Path) -> str:
    """A collection of the articles' old vectors; its URL."""
    from hf_latent_bridge.vectors.stores.base import Layout, Records
    from hf_latent_bridge.vectors.stores.registry import open_collection

    url = f"qdrant:{folder}/store/articles"
    old = corpus.articles[0]
    with open_collection(url, create=True) as collection:
        collection.create(Layout(old.shape[1], "cosine"), collection)
        payloads = [{"text": str(row)} for row in range(len(old))]
        collection.write(Records(list(range(len(old))), old, payloads))
    return url


def ways_table(corpus: Corpus, url: str, folder: Path) -> Table:
    """Every way to ask the articles with the new model, through the store itself."""
    from hf_latent_bridge import AffineTranslator, TranslatedEncoder, migrate, serve_queries
    from hf_latent_bridge.vectors.stores.registry import open_collection

    into_new = AffineTranslator(alpha="auto").fit(*corpus.anchors)
    into_old = AffineTranslator(alpha="auto").fit(*corpus.anchors[::-1])
    into_new.keep_bank(corpus.bank[0], size=256)
    table = Table(["way", "R@1", f"R@{K}", "MRR"])
    old, new = corpus.titles
    table.add("the new model's own index", exact(new, corpus.articles[1]))
    table.add("the old model's own index", exact(old, corpus.articles[0]))

    def asked(place: str, serve: Path, asks: str) -> list[str]:
        latents = new if asks == "new" else old
        encoder = TranslatedEncoder.from_pretrained(serve, lambda _: latents, asks=asks)
        vectors = encoder.encode([""] * len(latents))
        with open_collection(place) as collection:
            return found(collection.nearest, vectors)

    for name, hubness in (("moved", None), ("moved and folded", "csls")):
        place, serve = f"{url}-{hubness}", folder / f"serve-{hubness}"
        state = folder / "state"
        options: dict[str, Any] = {"hubness": hubness, "serve_dir": serve, "state_dir": state}
        migrate(into_new, url, place, **options)
        for asks in ("new", "old"):
            table.add(f"{name}, asked by the {asks} model", asked(place, serve, asks))
    serve_queries(into_old, url, folder / "queries")
    table.add("queries only, asked by the new model", asked(url, folder / "queries", "new"))
    return table


def exact(queries: Latents, items: Latents) -> list[str]:
    """Scores of an exact search by cosine."""
    queries, items = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, items))
    return scores(np.argsort(-(queries @ items.T), axis=1)[:, :K])


def found(nearest: Callable[[Latents, int], Sequence[Any]], vectors: Latents) -> list[str]:
    """Scores of what a store finds."""
    return scores(np.array([nearest(vector, K) for vector in vectors]))


def scores(best: Latents) -> list[str]:
    """R@1, R@k and the reciprocal rank within k."""
    hits = best == np.arange(len(best))[:, None]
    ranks = (hits / np.arange(1, K + 1)).sum(axis=1)
    return [f"{score:.3f}" for score in (hits[:, 0].mean(), hits.any(axis=1).mean(), ranks.mean())]


def directions(corpus: Corpus) -> Any:
    """Items against queries, as the gate judges them."""
    from hf_latent_bridge import AffineTranslator, compare_directions

    n = len(corpus.titles[0])
    return compare_directions(
        AffineTranslator(alpha="auto").fit(*corpus.anchors),
        AffineTranslator(alpha="auto").fit(*corpus.anchors[::-1]),
        queries=corpus.titles,
        corpus=corpus.articles,
        relevance={row: {row: 1.0} for row in range(n)},
    )


def space_of(corpus: Corpus) -> Any:
    """A space that both models share."""
    from hf_latent_bridge import SharedSpace

    views = dict(zip(("minilm", "mpnet"), corpus.anchors, strict=True))
    return SharedSpace(dim="auto").fit(views)


def gradual_table(corpus: Corpus, url: str, folder: Path) -> Table:
    """One index in the store, encoded again a quarter at a time."""
    from hf_latent_bridge import migrate_gradually, re_encode
    from hf_latent_bridge.vectors.stores.registry import open_collection

    space, shared = space_of(corpus), f"{url}-shared"
    moved = migrate_gradually(space, url, shared, view="minilm", state_dir=folder / "state")
    latents = corpus.articles[1]
    order = np.random.default_rng(0).permutation(len(latents)).tolist()
    table = Table(["by mpnet", "asked by", "R@1", f"R@{K}", "MRR", "old items among the answers"])
    begun, done = time.perf_counter(), 0
    for share in SHARES:
        first = order[: round(share * len(order))]
        if first:
            re_encode(
                space,
                shared,
                lambda items: latents[[int(item) for item in items]],
                view="mpnet",
                ids=first,
            )
        for view, queries in zip(("mpnet", "minilm"), corpus.titles[::-1], strict=True):
            vectors = space.translator(view).transform(queries)
            with open_collection(shared) as collection:
                best = np.array([collection.nearest(vector, K) for vector in vectors])
            old = 1 - np.isin(best, first).mean()
            table.add(f"{share:.0%}", [view, *scores(best), f"{old:.1%} of {1 - share:.0%}"])
            done += len(vectors)
    seconds = time.perf_counter() - begun
    print(f"space of {space.space_.dim} axes; moved {moved.rows:,} rows in {moved.seconds:,.1f} s")
    print(f"{done:,} searches and {len(order):,} writes in {seconds:,.1f} s\n")
    return table


def gradual_gate(corpus: Corpus) -> Any:
    """The same as the gate judges it."""
    from hf_latent_bridge import gate_gradual

    n = len(corpus.titles[0])
    return gate_gradual(
        space_of(corpus),
        old="minilm",
        new="mpnet",
        queries=corpus.titles,
        corpus=corpus.articles,
        relevance={row: {row: 1.0} for row in range(n)},
    )
