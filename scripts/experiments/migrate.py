"""Moves a full vector store to a new model, kills it twice, and says what search keeps.

In each store: MiniLM's vectors are put there with their texts, `latent-bridge migrate` writes
MPNet's beside them, gets SIGKILL after a third and two thirds of the rows, and goes on. Rows per
second stand beside a bare copy in the same run: the same reads and writes of vectors of the same
widths by the store's own client, with nothing translated or compared, half of it before and half
after. Seconds are CPU time, of the client and of a server if there is one, so that they do not
depend on what else the machine does; a store that waits for its disk takes longer.

Real rows are articles of BBC News and posts of 20 newsgroups; where more are asked for, they come
again with a little noise, so that no two rows are equal. The gate judges headlines that look for
their articles among all articles; those articles and headlines were not fitted on. Encoding again
is measured on a sample, and extrapolated.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import MAX_LENGTH, MPNET, Table, embedded_hub, positive, say
from torch import Tensor

from experiments.killed_migration import Run, cpu_seconds, run_killed
from experiments.results_page import PAGE, Section
from experiments.store_urls import installed, servers_of, url_in

if TYPE_CHECKING:
    from hf_latent_bridge import GateReport, Translator
    from hf_latent_bridge.vectors.stores.base import Records

ROWS, QUICK_ROWS = 100_000, 3000
BATCH, QUICK_BATCH = 1000, 100
NOISE = 0.05  # of a row that is there already, relative to its length
SAMPLE = 32  # texts that are encoded again
ASSETS = ("minilm", "mpnet", "bbc-news", "20newsgroups")


@dataclass(frozen=True)
class Material:
    """Rows that both encoders have seen, and what is asked of them.

    Attributes:
        texts: Of the rows, (n,).
        old: Their vectors by the old encoder, (n, d_old).
        new: The first ones by the new one, (m, d_new), m <= n.
        queries: By both; query i looks for row i.
        translator: Fitted on other rows and queries.
        encode: The new encoder.
    """

    texts: list[str]
    old: Tensor
    new: Tensor
    queries: tuple[Tensor, Tensor]
    translator: "Translator"
    encode: Callable[[list[str]], object]

    def records(self, scheme: str, rows: int, size: int) -> "Iterator[Records]":
        """Rows of a collection: each real one, then the same with noise, until there are enough."""
        from hf_latent_bridge.vectors.stores.base import Records

        drawn = np.random.default_rng(0)
        for first in range(0, rows, size):
            numbers = np.arange(first, min(first + size, rows))
            here = numbers % len(self.texts)
            vectors = self.old.numpy()[here]
            noise = drawn.standard_normal(vectors.shape, np.float32)
            noise *= NOISE / np.sqrt(vectors.shape[1]) * (numbers >= len(self.texts))[:, None]
            vectors = vectors + noise * np.linalg.norm(vectors, axis=1, keepdims=True)
            payloads = [
                {"text": self.texts[i], "copy": int(n)}
                for i, n in zip(here, numbers // len(self.texts), strict=True)
            ]
            yield Records([key(scheme, n) for n in numbers.tolist()], vectors, payloads)

    def gate(self, old: Tensor) -> "GateReport":
        """Judges the translator on old vectors as a store gives them back."""
        from hf_latent_bridge import gate_latents

        sought: dict[int, Mapping[int, float]] = {i: {i: 1.0} for i in range(len(self.queries[0]))}
        corpus = old, self.new[: len(old)]
        return gate_latents(self.translator, queries=self.queries, corpus=corpus, relevance=sought)

    def encoding_again(self) -> float:
        """Texts per CPU second of the new encoder."""
        self.encode(self.texts[:8])
        begun = time.process_time()
        self.encode(self.texts[:SAMPLE])
        return min(SAMPLE, len(self.texts)) / (time.process_time() - begun)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--rows", type=positive, help=f"in each store (default {ROWS:,})")
    parser.add_argument(
        "--stores",
        nargs="+",
        metavar="STORE",
        help="schemes (default: all whose client is installed)",
    )
    parser.add_argument("--folder", help="where the stores are put (default: the system's)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="in seconds, on digits, with no Hub")
    mode.add_argument("--write", action="store_true", help="write the table to docs/results.md")


def run(options: argparse.Namespace) -> int:
    """Prints a row for each store; returns the exit code."""
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    size = QUICK_BATCH if options.quick else BATCH
    with contextlib.nullcontext() if options.quick else embedded_hub(ASSETS):
        schemes = options.stores or installed()
        if missing := sorted(set(schemes) - set(installed())):
            print(
                f"error: needed stores out of {', '.join(installed())}, which are installed; "
                f"got {', '.join(missing)}"
            )
            return 1
        material = digits() if options.quick else articles()
    section = compare(material, schemes, rows, size, options.folder)
    if options.write:
        section.write(options.command_line, page=PAGE)
    return 0


def compare(
    material: Material, schemes: list[str], rows: int, size: int, folder: str | None
) -> Section:
    """Migrates in each store, and prints one table of all."""
    section, rate = Section("migrate"), material.encoding_again()
    header = [
        "store",
        "rows",
        "CPU s",
        "rows/s",
        "bare copy, rows/s",
        "share",
        "comparing, s",
        "retention",
        "encoding again, s",
    ]
    table = Table(header)
    for scheme in schemes:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            say(f"{scheme}: {rows:,} rows")
            table.add(
                scheme, Migrated.measure(scheme, material, rows, size, Path(place)).cells(rate)
            )
            print(table.rows[-1], flush=True)
    widths = f"{material.old.shape[1]} to {material.new.shape[1]} wide"
    section.add(f"{widths}, {len(material.texts):,} real rows, killed twice: moving a store", table)
    return section


@dataclass(frozen=True)
class Migrated:
    """What one store has shown.

    Attributes:
        rows: How many it holds.
        runs: The processes, all but the last killed.
        copying: CPU seconds of the bare copy of as many rows.
        report: The gate's.
    """

    rows: int
    runs: list[Run]
    copying: float
    report: "GateReport"

    @classmethod
    def measure(
        cls, scheme: str, material: Material, rows: int, size: int, place: Path
    ) -> "Migrated":
        """Fills a store, and moves it with two kills between two halves of a bare copy.

        Raises:
            RuntimeError: Rows are missing at the end.
        """
        url, dim = url_in(scheme, place), material.new.shape[1]
        fill(url, material.records(scheme, rows, size), material.old.shape[1])
        material.translator.save_pretrained(place / "translator")
        command = [
            url,
            url_in(scheme, place, "docs-new"),
            "--translator",
            str(place / "translator"),
        ]
        command += ["--state-dir", str(place / "state"), "--batch-size", str(size)]
        servers = servers_of(scheme)
        half: dict[str, Any] = {"rows": rows // 2, "size": size, "servers": servers}
        before = bare_copy(url, url_in(scheme, place, "docs-before"), dim, **half)
        runs = run_killed(command, [rows // 3, 2 * rows // 3], servers)
        after = bare_copy(url, url_in(scheme, place, "docs-after"), dim, **half)
        result = runs[-1].result or {}
        if (result.get("rows"), result.get("checked")) != (rows, rows):
            raise RuntimeError(f"{scheme}: needed {rows:,} rows, the migration says {result}")
        copying = (before + after) * rows / (rows // 2 * 2)
        real = min(rows, len(material.new))
        return cls(rows, runs, copying, material.gate(read_back(url, scheme, real, size)))

    def cells(self, encoding_rate: float) -> list[str]:
        """The cells of its row; `encoding_rate` is of the new encoder, in texts per CPU second."""
        moving, kept = (
            sum(run.moving for run in self.runs),
            next(iter(self.report.retention.values())),
        )
        return [
            f"{self.rows:,}",
            f"{moving:,.1f}",
            f"{self.rows / moving:,.0f}",
            f"{self.rows / self.copying:,.0f}",
            f"{self.copying / moving:.0%}",
            f"{self.runs[-1].comparing:,.1f}",
            f"{kept.mean:.3f} [{kept.lower:.3f}, {kept.upper:.3f}]",
            f"{self.rows / encoding_rate:,.0f}",
        ]


def key(scheme: str, number: int) -> int | str:
    """The id of a row: a number, or text where the store has no others."""
    return f"{number:08}" if scheme == "chroma" else number


def fill(url: str, batches: "Iterator[Records]", dim: int) -> None:
    """Makes a collection of rows."""
    from hf_latent_bridge.vectors.stores.base import Layout
    from hf_latent_bridge.vectors.stores.registry import open_collection

    with open_collection(url, create=True) as collection:
        collection.create(Layout(dim, "cosine"), collection)
        for records in batches:
            collection.write(records)


def bare_copy(
    url: str, copied: str, dim: int, *, rows: int, size: int, servers: Sequence[int]
) -> float:
    """CPU seconds for reading some rows and writing them with vectors of another width."""
    from hf_latent_bridge.vectors.stores.base import Layout
    from hf_latent_bridge.vectors.stores.registry import open_collection

    pids = os.getpid(), *servers
    with open_collection(url) as old, open_collection(copied, create=True) as new:
        new.create(Layout(dim, "cosine"), old)
        begun, done = cpu_seconds(*pids), 0
        for records in old.scan(size):
            vectors: Any = np.asarray(records.vectors)
            repeats = -(-dim // vectors.shape[1])
            new.write(records._replace(vectors=np.tile(vectors, repeats)[:, :dim]))
            done += len(records.ids)
            if done >= rows:
                break
        seconds = cpu_seconds(*pids) - begun
        new.drop(whole=True)
    return seconds


def read_back(url: str, scheme: str, rows: int, size: int) -> Tensor:
    """The old vectors of the first rows, by their ids, as the store holds them after the move."""
    from hf_latent_bridge.vectors.stores.registry import open_collection

    found: dict[Any, Any] = {}
    with open_collection(url) as collection:
        for first in range(0, rows, size):
            records = collection.fetch(
                [key(scheme, i) for i in range(first, min(first + size, rows))]
            )
            found.update(zip(records.ids, np.asarray(records.vectors), strict=True))
    return torch.from_numpy(np.stack([found[key(scheme, i)] for i in range(rows)]))


def articles() -> Material:
    """Articles as MiniLM and MPNet see them, and posts; headlines look for the articles."""
    from quality.data import load, read_bbc, read_newsgroups

    from hf_latent_bridge import AffineTranslator, load_encoder

    bbc, news = load("bbc", ["MiniLM", "MPNet"]), load("20newsgroups", ["MiniLM"])
    fitted, rows, asked = [], [], []
    for articles in bbc.sides.values():
        if articles.asking is None:
            raise RuntimeError("BBC News has headlines")
        fitted.append(torch.cat([articles.pool, articles.asking.pool]))
        rows.append(torch.cat([articles.test, articles.pool]))
        asked.append(articles.asking.test)
    posts = news.sides["MiniLM"]
    old = torch.cat([rows[0], posts.test, posts.pool])
    texts = [
        t
        for source in (read_bbc(), read_newsgroups())
        for t in [*source.items[-source.n_test :], *source.items[: -source.n_test]]
    ]
    translator = AffineTranslator(alpha=0.03).fit(*fitted)
    encoder = load_encoder(MPNET, max_length=MAX_LENGTH)
    return Material(
        [" ".join(t.split())[:300] for t in texts],
        old,
        rows[1],
        (asked[0], asked[1]),
        translator,
        encoder.encode,
    )


def digits() -> Material:
    """Digits as pixels, and as random features of them; noisy ones look for the clean ones."""
    from sklearn.datasets import load_digits

    from hf_latent_bridge import LinearTranslator

    pixels = torch.from_numpy(load_digits().data.astype(np.float32) / 16)
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(pixels.shape[1], 96, generator=drawn) / 8

    def encode(rows: Tensor) -> Tensor:
        return torch.tanh(rows @ weight)

    fitted, held = pixels[:900], pixels[900:]
    asked = held[:200] + 0.05 * torch.randn(200, pixels.shape[1], generator=drawn)
    translator = LinearTranslator().fit(fitted, encode(fitted))
    return Material(
        [f"digit {i}" for i in range(len(held))],
        held,
        encode(held),
        (asked, encode(asked)),
        translator,
        lambda texts: encode(held[: len(texts)]),
    )
