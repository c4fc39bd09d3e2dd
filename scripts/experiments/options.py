"""The command line that the experiments share."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from assets import AssetError

from experiments.results_page import Section


def parser(description: str, *, seeds: int = 3) -> argparse.ArgumentParser:
    """A parser with the options that every experiment has: `quick`, `write` and `seeds`."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--seeds", type=positive, default=seeds, help="draws to average over")
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="in seconds, on digits, with no Hub")
    mode.add_argument("--write", action="store_true", help="write the tables to docs/results.md")
    return made


def positive(text: str) -> int:
    """An integer of at least 1, for `add_argument(type=...)`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def run(
    section: Section,
    experiment: Callable[[Section], None],
    *,
    arguments: Sequence[str] | None,
    write: bool,
) -> int:
    """Runs an experiment, which adds its tables to the section; returns the exit code.

    Args:
        section: Where the tables go.
        experiment: Adds them.
        arguments: The command line, None for that of the process.
        write: Whether to write the section into the page.
    """

    def work() -> None:
        experiment(section)
        if write:
            section.write(command(arguments))

    return exit_code(work)


def exit_code(work: Callable[[], None]) -> int:
    """Does the work; returns 0, or 1 where an asset is not to be had, and says which."""
    try:
        work()
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def command(arguments: Sequence[str] | None) -> str:
    """The command line as a reader would type it in the project's root."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *given])
