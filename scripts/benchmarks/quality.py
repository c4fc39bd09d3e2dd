"""Compares this library's maps with other libraries' on real encoders, and writes docs/results.md.

Every two encoders of each data set, several numbers of anchors and draws of them: accuracy of the
target's head, R@1, MRR, P@10 (same class), overlap@10 and cosine; queries that are not documents;
one index while it is re-encoded; one index for all encoders. Results are in docs/measured, and
new ones in the cache folder until `--write`: a run that was interrupted goes on, and computes only
what nobody has computed yet. `--report` only makes the tables.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import positive
from experiments.results_page import Section
from quality.cells import ANCHORS, all_cells
from quality.data import SOURCES, Data, digits, load_all
from quality.methods import methods
from quality.report import add_tables, choice_table, plot
from quality.rivals import missing
from quality.store import Store

SECTION = "quality"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--data", nargs="+", choices=SOURCES, default=list(SOURCES), help="which data sets"
    )
    parser.add_argument(
        "--anchors", nargs="+", type=positive, default=list(ANCHORS), help="how many anchors"
    )
    parser.add_argument("--encoders", nargs="+", metavar="NAME", help="these in place of all")
    parser.add_argument("--draws", type=positive, default=3, help="draws of anchors (default 3)")
    parser.add_argument(
        "--again", nargs="+", metavar="METHOD", default=[], help="rows to compute anew"
    )
    parser.add_argument("--report", action="store_true", help="compute nothing, show what is kept")
    parser.add_argument("--quick", action="store_true", help="in seconds, on digits, with no Hub")
    parser.add_argument("--write", action="store_true", help="write docs/results.md and the plots")


def run(options: argparse.Namespace) -> int:
    """Computes what is not kept yet and prints the tables; returns the exit code."""
    if absent := missing():
        print(f"left out: {', '.join(absent)} (pip install 'hf-latent-bridge[benchmark]')")
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            store = Store("digits", root=Path(folder))
            fill(store, digits(), anchors=[200], draws=1, quick=True)
            add_tables(Section(SECTION), "Digits", "digits", store.read())
        return 0
    if not options.report:
        for name, data in load_all(options.data, options.encoders).items():
            fill(
                Store(name),
                data,
                anchors=options.anchors,
                draws=options.draws,
                again=options.again,
            )
    report(options)
    return 0


def fill(
    store: Store,
    data: Data,
    *,
    anchors: list[int],
    draws: int,
    again: Sequence[str] = (),
    quick: bool = False,
) -> None:
    """Computes the cells and methods that nobody has computed yet."""
    chosen = methods(quick=quick)
    start = time.perf_counter()
    for cell in all_cells(data, anchors=anchors, draws=draws):
        if store.fill(cell, chosen, again=again) and not quick:
            print(f"{time.perf_counter() - start:7.0f} s  {data.name} {cell.name}", flush=True)


def report(options: argparse.Namespace) -> None:
    """Prints the tables of the data sets; publishes their cells and writes the tables if asked."""
    for name in options.data if options.write else []:
        Store(name).publish()
    kept = {name: cells for name in SOURCES if (cells := Store(name).read())}
    by_title = {SOURCES[name].title: cells for name, cells in kept.items()}
    section = Section(SECTION)
    section.add(*choice_table(by_title))
    if options.write:
        plot(by_title)
        section.write(f"python scripts/benchmark.py {SECTION} --report --write")
    for name in options.data:
        section = Section(f"{SECTION} {name}")
        add_tables(section, SOURCES[name].title, SOURCES[name].query, kept.get(name, []))
        if options.write and name in kept:
            section.write(f"python scripts/benchmark.py {SECTION} --data {name} --write")
