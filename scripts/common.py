"""What the scripts share: the embedded Hub, subcommands, timings and tables.

A script imports `hf_latent_bridge` inside functions: huggingface_hub, which comes with it, reads
the address of the Hub when it is imported, so the embedded Hub has to run before that.
"""

import argparse
import hashlib
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from assets import AssetError
from assets.cache import cache_root

ROOT = Path(__file__).resolve().parent.parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MPNET = "sentence-transformers/all-mpnet-base-v2"
MAX_LENGTH = 64  # tokens, for every text encoder
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",  # it warns of a push that changes nothing
}

Cell = str | float | Sequence[float]


@contextmanager
def embedded_hub(assets: Sequence[str] = ()) -> Iterator[None]:
    """Runs the Hub that keeps its repos between runs, and points this process to it.

    Args:
        assets: Names in `assets.CATALOGUE` that the Hub must hold, such as "minilm".

    Raises:
        AssetError: This machine cannot get one of them.
    """
    from assets.publish import seed
    from local_hub import LocalHub

    with LocalHub(root=cache_root() / "hub") as hub:
        os.environ.update(hub.environment(cache_root() / "home"), **QUIET)
        commits = seed(assets, quiet=True)
        missing = [name for name in assets if name not in commits]
        if missing:
            raise AssetError(f"needed {', '.join(missing)}: the lines above say what failed")
        yield


class Command(Protocol):
    """A file that is one subcommand; its docstring is the help."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Does the work; returns the exit code."""


def run_command(
    description: str | None,
    commands: Mapping[str, Command],
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs the subcommand that the command line names; returns the exit code.

    The subcommand finds the command line, as one would type it in the project's root, in
    `options.command_line`.

    Args:
        description: For `--help`.
        commands: Name -> subcommand.
        arguments: The command line; None for that of the process.
    """
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=kept)
    listed = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        text = command.__doc__ or ""
        added = listed.add_parser(
            name, help=text.partition("\n")[0], description=text, formatter_class=kept
        )
        command.add_arguments(added)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    options.command_line = shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *given])
    try:
        return commands[options.command].run(options)
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def positive(text: str) -> int:
    """An integer of at least 1, for `add_argument(type=...)`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def say(step: str) -> None:
    """Prints the headline of a step."""
    print(f"\n{step}", flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long the block took."""
    start = time.perf_counter()
    yield
    print(f"  {what:52} {time.perf_counter() - start:6.1f} s", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Kept:
    """Results of one script in the cache folder, so that a run that was interrupted goes on.

    Attributes:
        folder: Where they are, a JSON file each.
    """

    def __init__(self, name: str) -> None:
        self.folder = cache_root() / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, *key: object) -> dict[str, Any] | None:
        """What is kept under a key of JSON values; None if nothing is."""
        path = self._path(key)
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, result: dict[str, Any], *key: object) -> None:
        """Keeps a result, whole or not at all."""
        path = self._path(key)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1))
        os.replace(partial, path)

    def _path(self, key: tuple[object, ...]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:16]}.json"


class Table:
    """Rows with a name and one cell per column.

    A cell is a text, one score, or the scores of several seeds, shown as their mean and sample
    standard deviation (ddof=1).

    Attributes:
        header: Names of the columns; the first is that of the rows' names.
        rows: The cells as texts; the first is the row's name.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self.header = list(header)
        self.rows: list[list[str]] = []

    def add(self, name: str, cells: Sequence[Cell]) -> None:
        """Adds a row.

        Raises:
            ValueError: The number of cells differs from the number of columns.
        """
        if len(cells) != len(self.header) - 1:
            raise ValueError(
                f"a row needs {len(self.header) - 1} cells under {self.header[1:]}, "
                f"got {len(cells)}: {list(cells)}"
            )
        self.rows.append([name, *map(show, cells)])

    def to_markdown(self) -> str:
        """The table in Markdown, numbers to the right."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))

    def __str__(self) -> str:
        rows = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in rows
        )


def show(cell: Cell) -> str:
    """A cell as text: "0.942 ± 0.003" for several seeds, "0.942" for one score."""
    if isinstance(cell, str):
        return cell
    values = [float(cell)] if isinstance(cell, int | float) else [float(v) for v in cell]
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
