"""Measures speed and memory beside bare products and other libraries, and writes docs/results.md.

Works of a contest take turns; the table has medians, the ratios turn by turn with their quartiles,
and peak memory in a process of its own. Results are kept in the cache folder, so that rows can be
measured one by one, here or on a machine with a GPU, and `--report` only writes the table.
"""

import argparse
import datetime
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from assets.cache import cache_root
from common import positive
from experiments.results_page import PAGE, Section, write_section
from speed import cpu, cuda
from speed.accuracy import accuracy_table
from speed.contest import ROWS, Measured, Row, Scale, keep, kept, measure
from speed.memory import peak_in_own_process, print_peak
from speed.model import scaling_table
from speed.report import PLOT, plot, table

SECTION = "speed"
ACCURACY = "accuracy"  # for --rows
FILES = (cpu, cuda)  # which enter their rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose rows")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only rows with this in the name")
    parser.add_argument("--repeats", type=positive, default=5, help="turns (default 5)")
    parser.add_argument(
        "--processor", action="store_true", help="count seconds of the processor, on a busy machine"
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, in under a minute")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where results are kept")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the table")
    parser.add_argument("--peak", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Measures the rows and prints their table; returns the exit code."""
    scale = Scale(options.quick, 1 if options.quick else options.repeats, options.processor)
    folder = options.keep or cache_root() / "speed"
    if options.peak:
        print_peak(options.peak, scale)
    elif options.report:
        report(folder, PAGE, PLOT)
    else:
        for one in chosen(options.device, options.rows):
            measure_row(one, scale, None if options.quick else folder)
        if options.rows is None or ACCURACY in options.rows:
            compare_accuracy(options.device, None if options.quick else folder)
    return 0


def chosen(device: str, names: list[str] | None) -> list[Row]:
    """The rows of a device, or some of them.

    Raises:
        SystemExit: There is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda needs a GPU, and torch finds none")
    of_device = [one for one in ROWS.values() if one.device == device]
    if names is None:
        return of_device
    return [one for one in of_device if any(name in one.name for name in names)]


def measure_row(one: Row, scale: Scale, folder: Path | None) -> None:
    """Measures and prints the contests of a row, and keeps them in a folder if one is given."""
    for contest in one.contests(scale):
        measured = measure(contest, one.name, scale)
        if folder is not None:
            peaks = {
                work: peak_in_own_process(one.name, contest.case, work) for work in contest.memory
            }
            measured = replace(measured, peak_mib=peaks, facts=facts(one, scale))
            keep(folder / f"{one.device}.json", measured)
        print(f"\n{table([measured])}", flush=True)


def compare_accuracy(device: str, folder: Path | None) -> None:
    """Prints the errors of fits on the CPU, and keeps them."""
    if device != "cpu":
        return
    errors = accuracy_table(2_000 if folder is None else 50_000)
    print(f"\n{errors}", flush=True)
    if folder is not None:
        (folder / "accuracy.md").write_text(errors.to_markdown())


def facts(one: Row, scale: Scale) -> dict[str, Any]:
    """The machine and the versions behind a measurement."""
    found = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "day": str(datetime.datetime.now(datetime.UTC).date()),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "clock": "processor" if scale.processor else "wall",
    }
    return found | ({"gpu": torch.cuda.get_device_name()} if one.device == "cuda" else {})


def report(folder: Path, page: Path, image: Path) -> None:
    """Writes the tables of all kept results into a page, and the plot."""
    section = Section(SECTION)
    if results := _in_order(folder / "cpu.json"):
        section.add("On the CPU", table(results))
    if (errors := folder / "accuracy.md").exists():
        title = "Error of fits on float32 latents, relative to fits in float64 throughout"
        section.add(title, errors.read_text())
    from_texts = [one for one in kept(folder / "cuda.json") if "fit from texts" in one.row]
    texts = from_texts[0] if from_texts else None
    if model := scaling_table(kept(folder / "cpu.json"), cpu.PROCESSES, texts):
        section.add("A model of fits by several processes", model)
    plot(kept(folder / "cpu.json"), image)
    section.write("python scripts/benchmark.py speed", page=page)
    if results := _in_order(folder / "cuda.json"):
        write_section(page, f"{SECTION} cuda", _on_gpu(results))


def _in_order(path: Path) -> list[Measured]:
    """The kept results of a device, in the order of the rows."""
    order = list(ROWS)
    known = [one for one in kept(path) if one.row in ROWS]
    return sorted(known, key=lambda one: (order.index(one.row), one.size or 0))


def _on_gpu(results: list[Measured]) -> str:
    """The table of a GPU, and where and when it was measured."""
    facts = results[0].facts
    machine = f"{facts['gpu']}, {facts['cores']} cores, Python {facts['python']}"
    command = "`python scripts/benchmark.py speed --device cuda`"
    source = f"{command}, {facts['day']}, torch {facts['torch']}, {machine}."
    return f"**On a GPU**\n\n{table(results).to_markdown()}\n\n{source}"
