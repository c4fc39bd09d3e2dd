"""Spoils each request of loads and pushes in turn, in every way that a bad network does.

The jobs are those of tests/helpers/network_jobs.py, the faults those of faulty_proxy.py beside it.
All of them take about an hour.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Table
from experiments.results_page import write_section

HELPERS = ROOT / "tests" / "helpers"
PAGE = ROOT / "docs" / "reliability.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is tried."""
    parser.add_argument("--jobs", nargs="*", help="names of jobs (default: all)")
    parser.add_argument("--faults", nargs="*", help="names of faults (default: all)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")


def run(options: argparse.Namespace) -> int:
    """Prints a table, and what went wrong; returns 1 if anything did."""
    cells: dict[str, dict[str, str]] = {}
    wrong: list[str] = []
    for report in reports(options):
        refused = report["requests"] - report["done"]
        cells.setdefault(report["fault"], {})[report["job"]] = f"{report['done']} / {refused}"
        wrong += report["wrong"]
    jobs = list(dict.fromkeys(job for row in cells.values() for job in row))
    table = Table(["fault", *jobs])
    for fault, row in cells.items():
        table.add(fault, [row.get(job, "") for job in jobs])
    markdown = f"`{options.command_line}`\n\n{table.to_markdown()}\n\nWrong: {len(wrong)}."
    print(markdown, *wrong, sep="\n")
    if options.write:
        write_section(PAGE, "network", markdown)
    return 1 if wrong else 0


def reports(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the harness says of each job and fault, from a process of its own."""
    from local_hub import LocalHub

    command = [sys.executable, str(HELPERS / "network_jobs.py")]
    command += [json.dumps(options.jobs or []), json.dumps(options.faults or [])]
    with LocalHub() as hub, tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, **hub.environment(Path(home)), "OMP_NUM_THREADS": "1"}
        environment["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout or ():
                report = json.loads(line)
                print(f"{report['job']}, {report['fault']}: {len(report['wrong'])} wrong")
                yield report
    if process.returncode:
        raise RuntimeError(f"the harness ended with {process.returncode}")
