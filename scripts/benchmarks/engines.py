"""Times the examples of docs/scale.md: datasets, Ray Data and Spark, beside the command line.

Each runs in a process of its own on the same Parquet files. Seconds are CPU time of all its
processes, which does not depend on what else the machine does. What a run on a thousand rows takes
is the engine's start, and is taken off before rows are divided by seconds.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
from common import ROOT, Table, positive
from experiments.killed_migration import ENVIRONMENT, cpu_seconds
from experiments.results_page import provenance, write_section

PAGE = ROOT / "docs" / "scale.md"
NEEDS = {"datasets": "datasets", "Ray Data": "ray", "Spark": "pyspark"}
WIDTHS = 768, 768
ROWS, FEW = 100_000, 1000
FILES = 4
BILLION, MACHINES, CORES = 10**9, 8, 16  # of the table of costs
PATIENCE = 1500  # seconds for one engine; on a busy machine Ray takes minutes to start
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is sent anywhere
TRANSLATE = ("-m", "hf_latent_bridge", "translate", "old-to-new")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--rows", type=positive, default=ROWS, help=f"rows (default {ROWS:,})")
    parser.add_argument(
        "--rounds", type=positive, default=1, help="each engine in turn, so often (default 1)"
    )
    parser.add_argument("--write", action="store_true", help="write the tables to docs/scale.md")
    parser.add_argument(
        "--engines", nargs="+", choices=[*NEEDS, "command line"], help="(default: all)"
    )


def run(options: argparse.Namespace) -> int:
    """Prints rows per second of each, and what a billion rows need; returns the exit code."""
    timings: dict[str, list[Timing]] = {}
    for _ in range(options.rounds):
        for engine in options.engines or ["command line", *installed()]:
            start, whole = (measured(engine, rows) for rows in (FEW, options.rows))
            timings.setdefault(engine, []).append(Timing(options.rows, start, whole))
            print(engine, timings[engine][-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    tables = table_of(timings), cost_of(timings)
    print(f"\n{WIDTHS[0]} to {WIDTHS[1]} wide\n\n{tables[0]}\n\n{tables[1]}")
    if options.write:
        measures, costs = (table.to_markdown() for table in tables)
        said = f"{provenance(options.command_line)} {engine_versions(list(timings))}"
        write_section(PAGE, "engines", f"{measures}\n\n{said}")
        write_section(PAGE, "engine costs", costs)
    return 0


@dataclass(frozen=True)
class Timing:
    """CPU seconds of one engine in one round.

    Attributes:
        rows: How many the long run had.
        start: Seconds of the short run, on a thousand rows.
        whole: Seconds of the long one.
    """

    rows: int
    start: float
    whole: float

    @property
    def rate(self) -> float:
        """Rows per second of one core, the start taken off."""
        return (self.rows - FEW) / (self.whole - self.start)


def rate_of(timings: Sequence[Timing]) -> float:
    """The rows of all rounds by their seconds, so that what a start varies by weighs little."""
    seconds = sum(one.whole - one.start for one in timings)
    return sum(one.rows - FEW for one in timings) / seconds


def table_of(timings: Mapping[str, Sequence[Timing]]) -> Table:
    """What was measured: in all rounds together, and the rates of the slowest and the fastest."""
    columns = ["rounds", "rows", "start, CPU s", "translating, CPU s"]
    columns += ["rows/CPU s", "lowest to highest"]
    table = Table(["engine", *columns, "of the command line"])
    line = timings.get("command line")
    for engine, rounds in timings.items():
        rates = sorted(one.rate for one in rounds)
        cells = [str(len(rounds)), f"{sum(one.rows for one in rounds):,}"]
        cells += [f"{mean(one.start for one in rounds):.1f}"]
        cells += [f"{sum(one.whole - one.start for one in rounds):.1f}", f"{rate_of(rounds):,.0f}"]
        cells += [f"{rates[0]:,.0f} to {rates[-1]:,.0f}"]
        table.add(engine, [*cells, f"{rate_of(rounds) / rate_of(line):.2f}" if line else ""])
    return table


def cost_of(timings: Mapping[str, Sequence[Timing]]) -> Table:
    """What a billion rows need at the measured rates."""
    table = Table(["engine", "rows/s of a core", "core hours", "minutes of computing"])
    for engine, rounds in timings.items():
        seconds = BILLION / rate_of(rounds)
        minutes = seconds / (MACHINES * CORES) / 60
        table.add(engine, [f"{rate_of(rounds):,.0f}", f"{seconds / 3600:,.0f}", f"{minutes:,.0f}"])
    return table


def engine_versions(engines: Sequence[str]) -> str:
    """The versions of the engines, as a sentence."""
    packages = [NEEDS[engine] for engine in engines if engine in NEEDS]
    return f"Engines: {', '.join(f'{package} {version(package)}' for package in packages)}."


def measured(engine: str, rows: int) -> float:
    """CPU seconds of one engine for some rows."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), rows)
        return translated_by(engine, Path(folder), ENVIRONMENT)  # a core a process


def installed() -> list[str]:
    """The engines that can be imported."""
    return [engine for engine, package in NEEDS.items() if find_spec(package)]


def example(engine: str) -> str:
    """The code of an engine's example."""
    found = re.search(
        rf"\*\*{engine}\*\*.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"{PAGE} has no example of {engine}")
    return found[1]


def prepare(folder: Path, rows: int) -> None:
    """Writes a translator, and files with rows to translate by it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hf_latent_bridge import OrthoTranslator

    drawn = np.random.default_rng(0)
    both = drawn.standard_normal((2000, max(WIDTHS)), np.float32)
    OrthoTranslator().fit(*(both[:, :width] for width in WIDTHS)).save_pretrained(
        folder / "old-to-new"
    )
    (folder / "old").mkdir()
    for number, share in enumerate(np.array_split(np.arange(rows), FILES)):
        flat = drawn.standard_normal(len(share) * WIDTHS[0], np.float32)
        starts = np.arange(0, flat.size + 1, WIDTHS[0], dtype=np.int32)
        vectors = pa.ListArray.from_arrays(starts, flat)
        table = pa.table({"id": share, "embedding": vectors})
        pq.write_table(table, folder / "old" / f"part-{number:05}.parquet")


def translated_by(engine: str, folder: Path, environment: Mapping[str, str] | None = None) -> float:
    """CPU seconds of one engine, which writes to `new` in the folder.

    Args:
        engine: Its name.
        folder: What `prepare` has filled.
        environment: Further variables of its processes.

    Raises:
        RuntimeError: It failed, or took too long.
    """
    command: tuple[str, ...] = (*TRANSLATE, "old", "new.parquet", "--column", "embedding")
    if engine != "command line":
        (folder / "example.py").write_text(example(engine), "utf-8")
        command = ("example.py",)
    begun, cpu = time.perf_counter(), 0.0
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (
        (folder / "said").open("wb") as said,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=said,
            stderr=said,
            env={
                **os.environ,
                **(environment or {}),
                **QUIET,
                "HF_DATASETS_CACHE": str(folder / "cache"),
                "PYTHONPATH": paths,
                "PYSPARK_PYTHON": sys.executable,
            },
        ) as process,
    ):
        while process.poll() is None:
            cpu = max(cpu, cpu_seconds(process.pid))
            if time.perf_counter() - begun > PATIENCE:
                process.kill()
            time.sleep(0.1)
    if process.returncode:
        text = (folder / "said").read_text("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{engine} ended with {process.returncode}: {text}")
    return cpu
