"""Moves a full vector store to a new model, kills it twice, and says what search keeps.

In each store or file: the old model's vectors are put there with their texts, `latent-bridge
migrate` writes MPNet's beside them, gets SIGKILL after a third and two thirds of the rows, and goes
on (`latent-bridge translate` where it is a file other than FAISS's). Beside it stands a bare copy
in the same run: the same rows read and written by the same client in batches of the same size, with
vectors as wide as the new ones, and nothing translated, compared or killed; half of it before and
half after. Seconds are CPU time, of the client and of a server if there is one, so that they do not
depend on what else the machine does; a store that waits for its disk takes longer. The share is
also given on the clock, which a translation that is made while a store writes does not move; that
takes a calm machine. `--rounds` does all of it several times, each with a store filled anew, and
takes the mean.

The rows are articles of BBC News and then the passages of `experiments.passages`, no two of them
equal. The gate judges headlines that look for their articles among all articles; those articles and
headlines were not fitted on. Encoding again is measured on a sample, and extrapolated.

One command measures all stores, one after the other, and keeps what each has shown: a run that was
interrupted goes on, and `--again` measures anew. `--write` writes the table of all into the
documentation.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch
from assets.cache import cache_root
from common import MAX_LENGTH, MPNET, ROOT, Table, embedded_hub, positive, say
from torch import Tensor

from experiments.killed_migration import Run, Spent, run_killed
from experiments.passages import ASSETS as PASSAGES
from experiments.passages import read_passages
from experiments.places import FILES, Place, Rows, place_of
from experiments.results_page import PAGE, Section, write_section
from experiments.store_urls import TITLES, installed
from experiments.views import encode

if TYPE_CHECKING:
    from hf_latent_bridge import GateReport, Translator

ROWS, QUICK_ROWS = 100_000, 800
BATCHES, LEAST = 100, 50  # batches a run, rows a batch: a kill costs one
TICK = 0.01  # seconds, of which CPU time is a multiple
RATE = "rows/CPU s"
SAMPLE = 32  # texts that are encoded again
OLD = ("MiniLM", "WordLlama")
ASSETS = ("minilm", "wordllama", "mpnet", "bbc-news", *PASSAGES)
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "migrating.md"


@dataclass(frozen=True)
class Material:
    """Rows that the old encoder has seen, the first of them also the new one, and queries.

    Attributes:
        name: Of the old encoder.
        texts: Of the rows, (n,).
        old: Their vectors by the old encoder, (n, d_old).
        new: The first ones by the new one, (m, d_new), m <= n.
        queries: By both; query i looks for row i.
        translator: Fitted on other rows and queries.
        encode: The new encoder.
    """

    name: str
    texts: list[str]
    old: Tensor
    new: Tensor
    queries: tuple[Tensor, Tensor]
    translator: "Translator"
    encode: Callable[[list[str]], object]

    def rows(self, n: int) -> Rows:
        """The rows as a store gets them."""
        return Rows(self.texts[:n], self.old[:n].numpy(), batch_size(n))

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
    parser.add_argument(
        "--rows",
        type=positive,
        help=f"in each store (default {ROWS:,})",
    )
    parser.add_argument(
        "--old", choices=OLD, default=OLD[0], help=f"the old model (default {OLD[0]})"
    )
    parser.add_argument(
        "--stores",
        nargs="*",
        metavar="STORE",
        help="schemes or suffixes (default: all whose client is installed, and files)",
    )
    parser.add_argument(
        "--again", action="store_true", help="measure also what an earlier run has measured"
    )
    parser.add_argument(
        "--rounds", type=positive, default=1, help="each store so often (default 1)"
    )
    parser.add_argument("--folder", help="where the stores are put (default: the system's)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="in seconds, on digits, with no Hub")
    mode.add_argument(
        "--write", action="store_true", help="write what all stores have shown into README and docs"
    )


def run(options: argparse.Namespace) -> int:
    """Prints a row for each store; returns the exit code."""
    kept = None if options.quick else cache_root() / "migrate" / options.old
    with contextlib.nullcontext() if options.quick else embedded_hub(ASSETS):
        known = [*installed(), *FILES]
        kinds = known if options.stores is None else options.stores
        if missing := sorted(set(kinds) - set(known)):
            print(
                f"error: needed stores out of {', '.join(known)}, which are installed; "
                f"got {', '.join(missing)}"
            )
            return 1
        rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
        counts = dict.fromkeys(kinds, rows)
        if kept is not None and not options.again:
            counts = {kind: rows for kind in kinds if not is_kept(kept, kind, rows)}
        if counts:
            material = digits(rows) if options.quick else articles(options.old, rows)
            shown = measure_all(material, counts, options, kept)
            print(f"\n{table_of(shown)}")
    if options.write and kept is not None:
        write_pages(kept, options)
    return 0


def is_kept(kept: Path, kind: str, rows: int) -> bool:
    """Whether an earlier run has measured so many rows."""
    path = kept / f"{kind}.json"
    return path.exists() and read_shown(path).rows == rows


def measure_all(
    material: "Material", counts: Mapping[str, int], options: argparse.Namespace, kept: Path | None
) -> list["Shown"]:
    """Migrates in each store; what it has shown is also kept in a folder, a file a store."""
    shown, rate = [], material.encoding_again()
    for kind, rows in counts.items():
        rounds = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=options.folder) as place:
                say(f"{kind}: {rows:,} rows")
                migrated = Migrated.measure(
                    place_of(kind, Path(place)), material, rows, Path(place)
                )
            rounds.append(migrated.shown(kind, rate))
            print(rounds[-1], flush=True)
        shown.append(mean_of(rounds))
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{kind}.json").write_text(json.dumps(asdict(shown[-1])), encoding="utf-8")
    return shown


def batch_size(rows: int) -> int:
    """How many rows are read and written at a time."""
    return max(LEAST, rows // BATCHES)


@dataclass(frozen=True)
class Migrated:
    """What one store has shown.

    Attributes:
        rows: How many it holds.
        runs: The processes, all but the last killed.
        copying: What the bare copy of as many rows takes.
        report: The gate's.
    """

    rows: int
    runs: list[Run]
    copying: Spent
    report: "GateReport"

    @classmethod
    def measure(cls, place: Place, material: Material, rows: int, folder: Path) -> "Migrated":
        """Fills a store, and moves it with two kills between two halves of a bare copy.

        Raises:
            RuntimeError: Rows are missing at the end.
        """
        size, dim = batch_size(rows), material.new.shape[1]
        place.fill(material.rows(rows))
        material.translator.save_pretrained(folder / "translator")
        command = place.command(folder / "translator", size)
        before, copied = place.copy("docs_before", dim, rows, size)
        runs = run_killed(command, [rows // 3, 2 * rows // 3], place.servers)
        after, again = place.copy("docs_after", dim, rows, size)
        result = runs[-1].result or {}
        if not place.whole(result, rows):
            raise RuntimeError(f"needed {rows:,} rows, {command[0]} says {result}")
        both, part = Spent.total([before, after]), (copied + again) / rows
        copying = Spent(both.cpu / part, both.clock / part)
        old = torch.from_numpy(place.read(min(rows, len(material.new)), size))
        return cls(rows, runs, copying, material.gate(old))

    def shown(self, scheme: str, encoding_rate: float) -> "Shown":
        """Its numbers; `encoding_rate` is of the new encoder, in texts per CPU second."""
        kept = next(iter(self.report.retention.values()))
        moving, comparing = Spent.total(run.moving for run in self.runs), self.runs[-1].comparing
        return Shown(
            scheme,
            self.rows,
            max(TICK, moving.cpu),
            max(TICK, self.copying.cpu),
            comparing.cpu,
            (kept.mean, kept.lower, kept.upper),
            encoding_rate,
            (max(TICK, moving.clock), max(TICK, self.copying.clock), comparing.clock),
        )


@dataclass(frozen=True)
class Shown:
    """What is kept of a migration.

    Attributes:
        scheme: The store's.
        rows: How many it holds.
        moving: CPU seconds in which the rows were moved, both kills included.
        copying: CPU seconds of the bare copy.
        comparing: CPU seconds in which all rows were read back and compared.
        recall: Retention of recall@10, with its interval.
        encoding: Texts per CPU second of the new encoder.
        clock: Seconds on the clock for moving, for the bare copy and for comparing.
        rounds: Of how many migrations these are the means.
    """

    scheme: str
    rows: int
    moving: float
    copying: float
    comparing: float
    recall: tuple[float, float, float]
    encoding: float
    clock: tuple[float, float, float]
    rounds: int = 1

    @property
    def retention(self) -> str:
        """As text, in the tables."""
        mean, lower, upper = (f"{value:.3f}".removeprefix("0") for value in self.recall)
        return f"{mean} [{lower}, {upper}]"

    @property
    def title(self) -> str:
        """The store's name in tables."""
        return TITLES.get(self.scheme, self.scheme)

    def share(self, seconds: float) -> str:
        """How fast this was beside the bare copy, in CPU time."""
        return _percent(self.copying / seconds)

    @property
    def share_on_the_clock(self) -> str:
        """How fast the move was beside the bare copy, on the clock."""
        return _percent(self.clock[1] / self.clock[0])


def mean_of(rounds: Sequence[Shown]) -> Shown:
    """The mean of several migrations of the same rows, which keep the same."""
    moving, copying, comparing = (
        mean(times) for times in zip(*(one.clock for one in rounds), strict=True)
    )
    return replace(
        rounds[0],
        moving=mean(one.moving for one in rounds),
        copying=mean(one.copying for one in rounds),
        comparing=mean(one.comparing for one in rounds),
        clock=(moving, copying, comparing),
        rounds=len(rounds),
    )


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def read_shown(path: Path) -> Shown:
    """What an earlier run has kept."""
    return Shown(**json.loads(path.read_text(encoding="utf-8")))


def table_of(shown: Sequence[Shown]) -> Table:
    """All numbers, with a last row for encoding again."""
    table = Table(
        [
            "store",
            "rows",
            "rounds",
            "moving, CPU s",
            RATE,
            f"bare copy, {RATE}",
            "share",
            "on the clock",
            "comparing, CPU s",
            "share with it",
            "retention",
        ]
    )
    for one in shown:
        cells = [f"{one.rows:,}", f"{one.rounds}", f"{one.moving:,.1f}"]
        cells += [f"{one.rows / seconds:,.0f}" for seconds in (one.moving, one.copying)]
        cells += [one.share(one.moving), one.share_on_the_clock, f"{one.comparing:,.1f}"]
        table.add(one.title, [*cells, one.share(one.moving + one.comparing), one.retention])
    rate, rows = sorted(one.encoding for one in shown)[len(shown) // 2], max(s.rows for s in shown)
    again = [f"{rows:,}", "", f"{rows / rate:,.0f}", f"{rate:,.0f}", *[""] * 5, "1"]
    table.add("encoding again", again)
    return table


def short_table(shown: Sequence[Shown]) -> Table:
    """The table of the README, without files that are translated and not migrated."""
    table = Table(["store", "rows", RATE, "of a bare copy", "on the clock"])
    for one in shown:
        if one.scheme in ("npy", "parquet"):
            continue
        rate = f"{one.rows / one.moving:,.0f}"
        shares = (
            share.replace(" ", "") for share in (one.share(one.moving), one.share_on_the_clock)
        )
        table.add(one.title, [f"{one.rows:,}", rate, *shares])
    return table


def write_pages(kept: Path, options: argparse.Namespace) -> None:
    """Writes what the stores have shown into the results, the guide and the README."""
    shown = [read_shown(path) for path in sorted(kept.glob("*.json"))]
    shown.sort(key=lambda one: (-one.rows, one.title))
    title = f"{options.old} to MPNet, killed twice: moving a store"
    section = Section("migrate")
    section.add(title, table_of(shown))
    section.write(options.command_line, page=PAGE)
    write_section(GUIDE, "migrate table", table_of(shown).to_markdown())
    write_section(README, "migrate table", short_table(shown).to_markdown().replace(" | ", "|"))


def articles(old: str, rows: int) -> Material:
    """Articles as both models see them, then passages; headlines look for the articles."""
    from quality.data import LIMITED, TEXT, load, read_bbc

    from hf_latent_bridge import AffineTranslator, load_encoder

    sides = load("bbc", [old, "MPNet"]).sides
    source, bbc = TEXT[old], read_bbc()
    passages = read_passages(max(0, rows - len(bbc.items)))
    limit = MAX_LENGTH if source in LIMITED else None
    encoders = [
        load_encoder(source, max_length=limit),
        load_encoder(MPNET, max_length=MAX_LENGTH),
    ]
    fitted, seen, asked = [], [], []
    for side in (sides[old], sides["MPNet"]):
        if side.asking is None:
            raise RuntimeError("BBC News has headlines")
        fitted.append(torch.cat([side.pool, side.asking.pool]))
        seen.append(torch.cat([side.test, side.pool]))
        asked.append(side.asking.test)
    whole = [*bbc.items[-bbc.n_test :], *bbc.items[: -bbc.n_test]]
    return Material(
        old,
        [*(" ".join(text.split())[:300] for text in whole), *passages],
        torch.cat([seen[0], encode(encoders[0], passages)]) if passages else seen[0],
        seen[1],
        (asked[0], asked[1]),
        AffineTranslator(alpha=0.03).fit(*fitted),
        encoders[1].encode,
    )


def digits(rows: int) -> Material:
    """Digits as pixels, and as random features of them; noisy ones look for the clean ones."""
    from sklearn.datasets import load_digits

    from hf_latent_bridge import LinearTranslator

    pixels = torch.from_numpy(load_digits().data.astype(np.float32) / 16)
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(pixels.shape[1], 96, generator=drawn) / 8

    def encode(rows: Tensor) -> Tensor:
        return torch.tanh(rows @ weight)

    fitted, held = pixels[:900], pixels[900 : 900 + rows]
    if len(held) < rows:
        raise ValueError(f"needed {rows:,} rows, there are {len(pixels) - 900:,} digits")
    asked = held[:200] + 0.05 * torch.randn(held[:200].shape, generator=drawn)
    translator = LinearTranslator().fit(fitted, encode(fitted))
    return Material(
        "digits",
        [f"digit {i}" for i in range(len(held))],
        held,
        encode(held),
        (asked, encode(asked)),
        translator,
        lambda texts: encode(held[: len(texts)]),
    )
