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
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from common import ROOT, Table, positive
from experiments.killed_migration import cpu_seconds

PAGE = ROOT / "docs" / "scale.md"
NEEDS = {"datasets": "datasets", "Ray Data": "ray", "Spark": "pyspark"}
WIDTHS = 768, 768
ROWS, FEW = 100_000, 1000
FILES = 4
PATIENCE = 1500  # seconds for one engine; on a busy machine Ray takes minutes to start
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is sent anywhere
TRANSLATE = ("-m", "hf_latent_bridge", "translate", "old-to-new")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--rows", type=positive, default=ROWS, help=f"rows (default {ROWS:,})")
    parser.add_argument(
        "--engines", nargs="+", choices=[*NEEDS, "command line"], help="(default: all)"
    )


def run(options: argparse.Namespace) -> int:
    """Prints rows per second of each; returns the exit code."""
    table = Table(["engine", "rows", "start, s", "all, s", "rows/s"])
    for engine in options.engines or ["command line", *installed()]:
        start, whole = (measured(engine, rows) for rows in (FEW, options.rows))
        rate = (options.rows - FEW) / (whole - start)
        table.add(engine, [f"{options.rows:,}", f"{start:.1f}", f"{whole:.1f}", f"{rate:,.0f}"])
        print(table.rows[-1], flush=True)
    print(f"\n{WIDTHS[0]} to {WIDTHS[1]} wide\n\n{table}")
    return 0


def measured(engine: str, rows: int) -> float:
    """CPU seconds of one engine for some rows."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), rows)
        return translated_by(engine, Path(folder))


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


def translated_by(engine: str, folder: Path) -> float:
    """CPU seconds of one engine, which writes to `new` in the folder.

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
            env={**os.environ, **QUIET, "PYTHONPATH": paths, "PYSPARK_PYTHON": sys.executable},
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
