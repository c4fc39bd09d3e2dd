"""Kills every job that writes files, fails its disk, runs two at once and flips bits.

The jobs are those of tests/helpers/crash_jobs.py. By default each is killed at every one of its
file-system events, which takes hours; `--sample 10` tries ten events of each kind.
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

from common import ROOT, Table, positive
from experiments.results_page import write_section

HELPERS = ROOT / "tests" / "helpers"
KINDS = ("killed", "full disk", "read-only disk", "small files", "two at once", "flipped bits")
PAGE = ROOT / "docs" / "reliability.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is tried, and how often."""
    parser.add_argument("--jobs", nargs="*", help="names of jobs (default: all)")
    parser.add_argument("--sample", type=positive, help="events of each kind (default: every one)")
    parser.add_argument("--rounds", type=positive, default=50, help="of two at once (default: 50)")
    parser.add_argument("--flips", type=positive, default=1000, help="bits (default: 1000)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")


def run(options: argparse.Namespace) -> int:
    """Prints a table, and the problems; returns 1 if there are any."""
    table, problems = Table(["job", "what is promised", *KINDS, "problems"]), []
    for report in reports(options):
        print(report["job"], *report["problems"], sep="\n  ", flush=True)
        problems += report["problems"]
        cells = [f"{report.get(kind, 0):,}" for kind in KINDS]
        if report.get("flipped bits"):
            cells[-1] += f" ({report['of these refused']} refused)"
        table.add(report["job"], [report.get("promise", ""), *cells, str(len(report["problems"]))])
    markdown = f"`{options.command_line}`\n\n{table.to_markdown()}"
    print(f"\n{markdown}")
    if options.write:
        write_section(PAGE, "crashes", markdown)
    return 1 if problems else 0


def reports(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the harness says of each job, from a process that has loaded everything once."""
    from local_hub import LocalHub

    how = {"sample": options.sample, "rounds": options.rounds, "flips": options.flips}
    request = json.dumps([options.jobs or [], how])
    command = [sys.executable, str(HELPERS / "crashes.py")]
    pipe = subprocess.PIPE
    with LocalHub() as hub, tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, **hub.environment(Path(home)), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, text=True
        ) as process:
            if process.stdin and process.stdout:
                print(request, file=process.stdin)
                process.stdin.close()
                yield from map(json.loads, process.stdout)
