"""Compares the gate's verdicts with judgements, without them, and those of isotrieve's gate.

The judges are headlines that look for their article (BBC News), and items that look for others of
their class. The second table holds what no gate may pass. isotrieve 0.4.0 is run as its package is;
its gate reads pairs of items and no queries. Encoders are run once, which takes some minutes; after
that the tables take some minutes.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from common import Table, embedded_hub
from torch import Tensor

if TYPE_CHECKING:
    from quality.data import Data

    from hf_latent_bridge import Translator

ENCODERS = {
    "bbc": ("MiniLM", "MPNet", "WordLlama", "Tokenlearn"),
    "20newsgroups": ("MiniLM", "WordLlama", "Tokenlearn"),
    "fashion-mnist": ("MobileNetV2", "Lite0"),
}
ASSETS = {
    "bbc": ("minilm", "mpnet", "wordllama", "tokenlearn", "bbc-news"),
    "20newsgroups": ("minilm", "wordllama", "tokenlearn", "20newsgroups"),
    "fashion-mnist": ("mobilenet-v2", "efficientnet-lite0", "fashion-mnist"),
}
PAIRS = (100, 300, 1000)
QUERIES = 300
QUERIES_FITTED = 1000
PAIR = "MiniLM", "MPNet"
ORDER = ("pass", "warn", "fail")
Both = tuple[Tensor, Tensor]
Gains = dict[int, dict[int, float]]


@dataclass(frozen=True)
class Search:
    """Queries, a corpus and judgements, as a source and a target encoder see them."""

    kind: str
    queries: Both
    corpus: Both
    relevance: Gains


@dataclass(frozen=True)
class Verdicts:
    """What three gates say of one fit."""

    judged: str
    alone: str
    isotrieve: str
    first: float
    kept: Mapping[str, float]
    signs: Mapping[str, float]
    why: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--data", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--pairs", nargs="+", type=int, default=list(PAIRS), help="in a fit")


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    from quality.data import load

    warnings.simplefilter("ignore")
    with embedded_hub([asset for name in options.data for asset in ASSETS[name]]):
        data = {name: load(name, ENCODERS[name]) for name in options.data}
    found = {name: list(verdicts_on(data[name], options.pairs)) for name in options.data}
    print("\nVerdicts on the same fits: rows with judgements, columns without\n")
    print(agreement(found).to_markdown())
    print("\nWhat is known without judgements, beside their retention\n")
    print(yardsticks(found).to_markdown())
    if {"bbc", "20newsgroups"} <= set(data):
        print("\nWhat a gate should pass, and what none may\n")
        print(refusals(data).to_markdown())
    return 0


def verdicts_on(data: "Data", sizes: list[int]) -> Iterator[tuple[str, Verdicts]]:
    """The verdicts on each fit between two encoders of a data set, by the kind of search."""
    from hf_latent_bridge import AffineTranslator

    for a in data.sides:
        for b in data.sides:
            if a == b:
                continue
            searches = list(searches_of(data, a, b))
            for size in sizes:
                x, y = anchors(data, a, b, size)
                translator = AffineTranslator(alpha=0.1).fit(x, y)
                for search in searches:
                    yield search.kind, judge(translator, search)


def anchors(data: "Data", a: str, b: str, size: int) -> Both:
    """Pairs to fit on."""
    pool = len(data.pool_labels)
    rows = torch.randperm(pool, generator=torch.Generator().manual_seed(0))[:size]
    return data.sides[a].pool[rows].float(), data.sides[b].pool[rows].float()


def queries_of(data: "Data", a: str, b: str) -> Both:
    """Queries to fit on, for the items of the pool."""
    sides = [data.sides[name].asking for name in (a, b)]
    first, second = (side.pool[:QUERIES_FITTED].float() for side in sides if side is not None)
    return first, second


def searches_of(data: "Data", a: str, b: str) -> Iterator[Search]:
    """The searches that a data set has judgements for."""
    one, other = data.sides[a], data.sides[b]
    if one.asking is not None and other.asking is not None:
        queries = one.asking.test[:QUERIES].float(), other.asking.test[:QUERIES].float()
        corpus = one.asking.sought.float(), other.asking.sought.float()
        yield Search("one item", queries, corpus, {i: {i: 1.0} for i in range(QUERIES)})
    order = torch.randperm(len(one.test), generator=torch.Generator().manual_seed(1))
    asked, held = order[:QUERIES], order[QUERIES:]
    labels = torch.tensor(data.test_labels)
    gains = {
        query: {int(item): 1.0 for item in (labels[held] == labels[row]).nonzero()[:, 0]}
        for query, row in enumerate(asked.tolist())
    }
    yield Search(
        "class",
        (one.test[asked].float(), other.test[asked].float()),
        (one.test[held].float(), other.test[held].float()),
        gains,
    )


def judge(translator: "Translator", search: Search) -> Verdicts:
    """All three verdicts."""
    from hf_latent_bridge import gate_latents

    given: dict[str, Any] = {"queries": search.queries, "corpus": search.corpus}
    judged = gate_latents(translator, **given, relevance=search.relevance, n_bootstrap=300)
    alone = gate_latents(translator, **given, n_bootstrap=300)
    systems = alone.systems
    signs = {name: systems["translated"][name] for name in systems["native"]}
    signs |= {
        f"{name}, over the old encoder's": signs[name] / systems["old"][name] for name in signs
    }
    signs |= {"first@10 by half of the dimensions": systems["half"]["first@10"]}
    kept = {name: found.mean for name, found in judged.retention.items()}
    return Verdicts(
        judged.verdict,
        alone.verdict,
        of_isotrieve(translator, search.corpus),
        alone.retention[alone.decides].mean,
        kept,
        signs,
        alone.reasons[0][1],
    )


def of_isotrieve(translator: "Translator", corpus: Both) -> str:
    """The verdict of isotrieve's gate on held-out items."""
    from isotrieve.quality.gate import QualityGate

    class Mapping:
        def transform(self, rows: Any) -> Any:
            return translator.transform(rows)

    x, y = (corpus[0].numpy(), torch.as_tensor(translator.transform_target(corpus[1])).numpy())
    mapping: Any = Mapping()
    return str(QualityGate().evaluate(mapping, x, y).verdict.value).lower()


def agreement(found: dict[str, list[tuple[str, Verdicts]]]) -> Table:
    """How often each verdict goes with each: a row for what judgements say."""
    header = ["data", "search", "judgements say", "fits"]
    table = Table([*header, "without: pass / warn / fail", "isotrieve: pass / warn / fail"])
    for name, rows in found.items():
        for kind in dict.fromkeys(kind for kind, _ in rows):
            own = [verdicts for other, verdicts in rows if other == kind]
            for judged in ORDER:
                some = [verdicts for verdicts in own if verdicts.judged == judged]
                counts = [
                    Counter(getattr(v, gate) for v in some) for gate in ("alone", "isotrieve")
                ]
                cells = [" / ".join(str(count[verdict]) for verdict in ORDER) for count in counts]
                if some:
                    table.add(name, [kind, judged, str(len(some)), *cells])
    return table


def yardsticks(found: Mapping[str, list[tuple[str, Verdicts]]]) -> Table:
    """Rank correlation with the retention of recall and of the reciprocal rank, and the bias."""
    from scipy.stats import spearmanr

    table = Table(
        [
            "sign",
            "search",
            "rank correlation: recall@10",
            "mrr@10",
            "sign minus recall@10, ten best",
        ]
    )
    rows = [row for own in found.values() for row in own]
    for kind in dict.fromkeys(kind for kind, _ in rows):
        fits = [verdicts for other, verdicts in rows if other == kind]
        for sign in fits[0].signs:
            values = [fit.signs[sign] for fit in fits]
            judged = {name: [fit.kept[name] for fit in fits] for name in ("recall@10", "mrr@10")}
            ranks = [float(spearmanr(values, kept).statistic) for kept in judged.values()]
            best = sorted(zip(values, judged["recall@10"], strict=True), key=lambda p: -p[1])[:10]
            bias = sum(value - kept for value, kept in best) / len(best)
            table.add(sign, [kind, *ranks, bias])
    return table


def refusals(data: "dict[str, Data]") -> Table:
    """Fits that are good and fits that are wrong, each with the verdicts and our reason."""
    table = Table(
        [
            "case",
            "near@10",
            "recall@10",
            "mrr@10",
            "with judgements",
            "ours alone",
            "isotrieve",
            "why",
        ]
    )
    for name, translator, search in wrong(data):
        found = judge(translator, search)
        kept = [found.kept["recall@10"], found.kept["mrr@10"]]
        verdicts = [found.judged, found.alone, found.isotrieve]
        table.add(name, [found.first, *kept, *verdicts, found.why])
    return table


def wrong(data: "dict[str, Data]") -> "Iterator[tuple[str, Translator, Search]]":
    """Fits that must not pass, and good ones to compare with."""
    from hf_latent_bridge import AffineTranslator, SharedTranslator

    bbc, news = data["bbc"], data["20newsgroups"]
    x, y = anchors(bbc, *PAIR, 1000)
    good = next(searches_of(bbc, *PAIR))
    fitted = AffineTranslator(alpha=0.1).fit(x, y)
    yield "good: MiniLM to MPNet, items of a class", fitted, [*searches_of(bbc, *PAIR)][1]
    yield "MiniLM to MPNet, one item", fitted, good
    with_queries = [torch.cat([*side]) for side in zip((x, y), queries_of(bbc, *PAIR), strict=True)]
    yield "the same, 1,000 headlines too", AffineTranslator(alpha=0.1).fit(*with_queries), good
    yield "good: the same, type shared", SharedTranslator().fit(*with_queries), good
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(2))
    yield "shuffled pairs", AffineTranslator(alpha=0.1).fit(x, y[order]), good
    other = next(searches_of(bbc, "MPNet", "MPNet"))
    cut = tuple(side[0][:, : x.shape[1]] for side in (other.queries, other.corpus))
    yield (
        "wrong encoder (MPNet cut to MiniLM's width)",
        fitted,
        Search("", (cut[0], good.queries[1]), (cut[1], good.corpus[1]), good.relevance),
    )
    far = AffineTranslator(alpha=0.1).fit(*anchors(news, "MiniLM", "WordLlama", 1000))
    near = AffineTranslator(alpha=0.1).fit(*anchors(bbc, "MiniLM", "WordLlama", 1000))
    asked = next(searches_of(bbc, "MiniLM", "WordLlama"))
    yield "MiniLM to WordLlama, same domain", near, asked
    yield "the same, fitted on 20 newsgroups", far, asked
    yield "20 pairs", AffineTranslator(alpha=0.1).fit(x[:20], y[:20]), good
    rounded = tuple(
        (side[1], (side[1] * 127).round() / 127) for side in (good.queries, good.corpus)
    )
    idle = Search("", rounded[0], rounded[1], good.relevance)
    same = AffineTranslator(alpha=0.001).fit(y, (y * 127).round() / 127)
    yield "not needed (MPNet to its 8-bit self)", same, idle
