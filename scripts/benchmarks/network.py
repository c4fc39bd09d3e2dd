"""Spoils each request of loads and pushes in turn, in every way that a bad network does.

The jobs are those of tests/helpers/network_jobs.py, the faults those of faulty_proxy.py beside it.
All of them take about an hour. The result of each job and fault is kept in the cache folder, so a
run that was interrupted goes on.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from common import Kept, Table
from experiments.results_page import write_section

from benchmarks.reliability import PAGE, harness


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is tried."""
    parser.add_argument("--jobs", nargs="*", help="names of jobs (default: all)")
    parser.add_argument("--faults", nargs="*", help="names of faults (default: all)")
    parser.add_argument("--again", action="store_true", help="also what is kept from earlier runs")
    parser.add_argument("--report", action="store_true", help="only show what is kept")
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
    markdown = (
        f"`{options.command_line}`\n\n{table.to_markdown()}\n\nWrong afterwards: {len(wrong)}."
    )
    print(markdown, *wrong, sep="\n")
    if options.write:
        write_section(PAGE, "network", markdown)
    return 1 if wrong else 0


def reports(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the harness says of each job and fault, now or in an earlier run."""
    kept = Kept("network")
    with harness("network_jobs.py") as (jobs, faults, ask):
        for job in options.jobs or jobs:
            found = {
                fault: None if options.again else kept.read(job, fault)
                for fault in options.faults or faults
            }
            yield from filter(None, found.values())
            missing = [fault for fault, report in found.items() if report is None]
            for report in ask(job, missing) if missing and not options.report else ():
                print(job, report["fault"], *report["wrong"], sep="; ", flush=True)
                kept.write(report, job, report["fault"])
                yield report
