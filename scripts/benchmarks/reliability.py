"""Kills every job that writes files, fails its disk, runs two at once and flips bits.

The jobs are those of tests/helpers/crash_jobs.py. By default each is killed at every one of its
file-system events, which takes an hour of one core; `--sample 10` tries ten events of each kind.
The result of each job and kind is kept in the cache folder, so a run that was interrupted goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import QUIET, ROOT, Kept, Table, positive
from experiments.results_page import write_section

HELPERS = ROOT / "tests" / "helpers"
PAGE = ROOT / "docs" / "reliability.md"
NONE = "-"  # where a kind does not apply to a job

Report = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is tried, and how often."""
    parser.add_argument("--jobs", nargs="*", help="names of jobs (default: all)")
    parser.add_argument("--kinds", nargs="*", help="ways to disturb them (default: all)")
    parser.add_argument("--sample", type=positive, help="events of each kind (default: every one)")
    parser.add_argument(
        "--rounds", type=positive, default=50, help="of two at once, of each job (default: 50)"
    )
    parser.add_argument(
        "--flips", type=positive, default=1000, help="bits of each job, or, midway, of each row"
    )
    parser.add_argument("--again", action="store_true", help="also what is kept from earlier runs")
    parser.add_argument("--report", action="store_true", help="only show what is kept")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")


def run(options: argparse.Namespace) -> int:
    """Prints a table, and the problems; returns 1 if there are any."""
    found = list(reports(options))
    problems = [problem for report in found for problem in report["problems"]]
    markdown = f"`{options.command_line}`\n\n{table(found).to_markdown()}"
    print(f"\n{markdown}\n\n{len(problems)} problems", *problems, sep="\n")
    if options.write:
        write_section(PAGE, "crashes", markdown)
    return 1 if problems else 0


def reports(options: argparse.Namespace) -> Iterator[Report]:
    """What the harness says of each job and kind, now or in an earlier run."""
    kept = Kept("reliability")
    with harness("crashes.py") as (jobs, kinds, ask):
        sharing = Counter(map(row_of, jobs))
        for job in options.jobs or jobs:
            effort = efforts(options, sharing[row_of(job)])
            found = {
                kind: None if options.again else kept.read(*key(job, kind, effort))
                for kind in options.kinds or kinds
            }
            yield from filter(None, found.values())
            missing = [kind for kind, report in found.items() if report is None]
            for report in ask(job, missing, effort) if missing and not options.report else ():
                print(
                    job, report["kind"], report["runs"], *report["problems"], sep="; ", flush=True
                )
                kept.write(report, *key(job, report["kind"], effort))
                yield report


def efforts(options: argparse.Namespace, sharing: int) -> dict[str, Any]:
    """How often what is tried of a job.

    Jobs that share a row do the same with other content, so they share the flips midway.
    """
    return {
        "sample": options.sample,
        "rounds": options.rounds,
        "flips": options.flips,
        "midway": -(-options.flips // sharing),
    }


def row_of(job: str) -> str:
    """The row of the table that a job is in."""
    return job.partition(": ")[0]


def key(job: str, kind: str, effort: Mapping[str, Any]) -> tuple[Any, ...]:
    """Under what a result is kept."""
    counted = {"two at once": "rounds", "flipped bits": "flips", "flipped midway": "midway"}
    return job, kind, effort[counted.get(kind, "sample")]


@contextmanager
def harness(script: str) -> Iterator[tuple[Any, Any, Callable[..., Iterator[Report]]]]:
    """A warm process that tries jobs, with a Hub of its own.

    Args:
        script: The file in tests/helpers that it runs.

    Yields:
        The jobs, the ways to try them, and a function that asks for the reports of a job.
    """
    from local_hub import LocalHub

    command, pipe = [sys.executable, str(HELPERS / script)], subprocess.PIPE
    with LocalHub() as hub, tempfile.TemporaryDirectory() as home:
        hub.store.page_size = 2
        environment = {**os.environ, **QUIET, **hub.environment(Path(home))}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "scripts")}
        with subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, text=True
        ) as process:
            into, out = process.stdin, process.stdout
            if into is None or out is None:
                raise RuntimeError("the harness has no pipes")

            def ask(*request: Any) -> Iterator[Report]:
                print(json.dumps(request), file=into, flush=True)
                while line := out.readline().strip():
                    yield json.loads(line)

            jobs, ways = json.loads(out.readline())
            yield jobs, ways, ask
            into.close()


def table(found: Sequence[Report]) -> Table:
    """A row for each job, or for jobs that share one, with the runs of each kind."""
    kinds = list(dict.fromkeys(report["kind"] for report in found))
    made = Table(["job", "what is promised", *kinds, "problems"])
    rows: dict[str, list[Report]] = {}
    for report in found:
        rows.setdefault(row_of(report["job"]), []).append(report)
    for row, of_row in rows.items():
        cells = [cell([report for report in of_row if report["kind"] == kind]) for kind in kinds]
        problems = sum(len(report["problems"]) for report in of_row)
        made.add(title(row, of_row), [of_row[0]["promise"], *cells, str(problems)])
    return made


def cell(of_kind: Sequence[Report]) -> str:
    """How often a kind was tried, and how often the answer was a refusal; empty if it was not."""
    if not of_kind:
        return ""
    runs = sum(report["runs"] for report in of_kind)
    refused = [report["refused"] for report in of_kind if report["refused"] is not None]
    if not runs:
        return NONE
    return f"{runs:,} ({sum(refused):,} refused)" if refused else f"{runs:,}"


def title(row: str, of_row: Sequence[Report]) -> str:
    """The name of a row, with what differs between its jobs."""
    members = dict.fromkeys(report["job"].removeprefix(row) for report in of_row)
    return row + ", ".join(members).replace(", : ", ", ")
