"""Measures how many pairs a fit from a store needs, what queries add, and what the shift costs.

BBC News: the vectors of 1,092 articles stand in a Qdrant collection beside their texts. Headlines
of 1,000 other articles ask, and look for their article without its headline. Encoders are run once,
which takes some minutes; after that a run takes some minutes.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from assets.cache import cache_root
from common import MAX_LENGTH, MINILM, MPNET, Table, embedded_hub
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from quality.data import Items

    from hf_latent_bridge import CachedEncoder, Translator

ASSETS = ("minilm", "mpnet", "bbc-news")
Both = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class News:
    """Articles, headlines and sought articles as two encoders see them, source first.

    Attributes:
        articles: Of the pool, to fit on.
        headlines: Of the pool.
        asking: Headlines of the test articles.
        sought: The test articles without their headlines.
    """

    articles: Both
    headlines: Both
    asking: Both
    sought: Both


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--draws", type=int, default=3, help="draws of anchors (default 3)")


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    from quality.data import read_bbc

    warnings.simplefilter("ignore")
    with embedded_hub(ASSETS):
        items = read_bbc()
        encoders = [cached(repo) for repo in (MINILM, MPNET)]
        news = encode(items, encoders)
        print(f"\nFrom a Qdrant collection, {MINILM} to {MPNET}\n")
        for title, curve in curves(items, encoders, news):
            print(f"{title}\n\n{curve}\n", flush=True)
    back = News(*((side[1], side[0]) for side in vars(news).values()))
    table = Table(["direction", "translated", "anchors", "R@1", "R@10", "R@1, shift removed"])
    for name, found in (("MiniLM to MPNet", news), ("MPNet to MiniLM", back)):
        for row in of_anchors(found, options.draws):
            table.add(name, row)
    print(table.to_markdown())
    return 0


def cached(repo: str) -> "CachedEncoder":
    """An encoder whose latents the benchmarks keep."""
    from hf_latent_bridge import CachedEncoder, load_encoder

    return CachedEncoder(load_encoder(repo, max_length=MAX_LENGTH), cache_root() / "latents")


def encode(items: "Items", encoders: "Sequence[CachedEncoder]") -> News:
    """All texts by both encoders."""
    cut = len(items.items) - items.n_test
    parts = (items.items[:cut], items.queries[:cut], items.queries[cut:], items.sought)
    sides = [[encoder.encode(list(part)).float().cpu() for encoder in encoders] for part in parts]
    return News(*((one, other) for one, other in sides))


def curves(
    items: "Items", encoders: "Sequence[CachedEncoder]", news: News
) -> Iterator[tuple[str, Any]]:
    """Learning curves of fits from a store, by who asks and by what the anchors are."""
    from hf_latent_bridge import AffineTranslator, Pairs, learning_curve, load_stored_pairs

    cut = len(items.items) - items.n_test
    with tempfile.TemporaryDirectory() as folder:
        url = fill(Path(folder), news.articles[0], items.items[:cut])
        start = time.perf_counter()
        stored = load_stored_pairs(url, max_pairs=5000)
        print(f"{len(stored):,} rows read in {time.perf_counter() - start:.1f} s\n")

    def curve(pairs: Pairs, **how: Any) -> Any:
        translator = AffineTranslator(alpha=0.1)
        return learning_curve(translator, None, encoders[1], pairs, until_retention=0.95, **how)

    first, recall = {"score": "first@10"}, {"score": "recall@10"}
    yield "Held-out articles ask, no judgements", curve(stored, held_out=360, **first)
    sought = news.sought[0].numpy(), list(items.sought)
    given: dict[str, Any] = {"queries": (None, list(items.queries[cut:])), "corpus": sought}
    yield "Headlines ask, no judgements", curve(stored, **given, **first)
    given["relevance"] = {i: {i: 1.0} for i in range(items.n_test)}
    yield "Headlines ask, judgements", curve(stored, **given, **recall)
    yield "The same by the worst of three scores", curve(stored, **given)
    latents: Any = news.headlines[0].numpy()
    both = stored + Pairs(latents, list(items.queries[:cut]))
    yield "Headlines of other articles are anchors too, recall", curve(both, **given, **recall)
    yield "The same by the worst of three scores", curve(both, **given)


def fill(folder: Path, vectors: Tensor, texts: Sequence[str]) -> str:
    """Puts vectors and texts into a new Qdrant collection; returns its URL."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder))
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config=params)
    payloads = [{"text": text} for text in texts]
    ids: list[Any] = list(range(len(texts)))
    client.upsert("docs", models.Batch(ids=ids, vectors=vectors.tolist(), payloads=payloads))
    client.close()
    return f"qdrant:{folder}/docs"


def of_anchors(news: News, draws: int) -> Iterator[list[Any]]:
    """Scores by which side is translated, and by what the anchors are."""
    from hf_latent_bridge import AffineTranslator

    for translates in ("corpus", "queries"):
        for name in ("300 articles", "300 by kmeans++", "300 and 300 headlines", "1,000 articles",
                     "1,000 and 1,000 headlines"):  # fmt: skip
            scores = []
            for draw in range(draws):
                x, y = chosen(news, name, draw)
                translator = AffineTranslator(alpha=0.1).fit(x, y)
                plain = found(translator, news, translates)
                scores.append((*plain, found(translator.remove_shift(), news, translates)[0]))
            yield [translates, name, *zip(*scores, strict=True)]


def chosen(news: News, name: str, draw: int) -> Both:
    """Anchors of a kind, drawn by a seed."""
    from hf_latent_bridge.fitting.anchors import kmeans_plus_plus

    n = int(name.split(maxsplit=1)[0].replace(",", ""))
    order = torch.randperm(len(news.articles[0]), generator=torch.Generator().manual_seed(draw))
    rows = kmeans_plus_plus(news.articles[0], n, draw) if "kmeans" in name else order[:n]
    sides = [side[rows] for side in news.articles]
    if "headlines" in name:
        sides = [
            torch.cat([side, more[rows]]) for side, more in zip(sides, news.headlines, strict=True)
        ]
    return sides[0], sides[1]


def found(translator: "Translator", news: News, translates: str) -> tuple[float, float]:
    """R@1 and R@10 of headlines that look for their article, by plain cosine."""
    if translates == "corpus":
        queries, items = news.asking[1], translator.transform(news.sought[0])
    else:
        queries, items = translator.transform(news.asking[0]), news.sought[1]
    cosines = normalize(queries, dim=1) @ normalize(items, dim=1).mT
    ranks = (cosines > cosines.diagonal()[:, None]).sum(1)
    return float((ranks < 1).double().mean()), float((ranks < 10).double().mean())
