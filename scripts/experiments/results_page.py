"""The sections of docs/results.md, each printed and replaced by one experiment; its options."""

import argparse
import datetime
import os
import platform
from pathlib import Path

from common import ROOT, Table, positive

PAGE = ROOT / "docs" / "results.md"


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every experiment has: `seeds`, `quick` and `write`."""
    parser.add_argument(
        "--seeds", type=positive, default=3, help="draws to average over (default 3)"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="in seconds, on digits, with no Hub")
    mode.add_argument("--write", action="store_true", help="write the tables to docs/results.md")


class Section:
    """Prints tables, and keeps them to be written into a page as well.

    Attributes:
        name: Names the section's markers in the page.
        texts: Markdown of the printed tables.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.texts: list[str] = []

    def add(self, title: str, content: Table | str) -> None:
        """Prints a table, or Markdown, under its title, and keeps it."""
        print(f"\n{title}\n\n{content}", flush=True)
        markdown = content.to_markdown() if isinstance(content, Table) else content
        self.texts.append(f"**{title}**\n\n{markdown}")

    def write(self, command: str, *, page: Path = PAGE) -> None:
        """Writes the printed tables into the page, with the command and versions behind them.

        Args:
            command: The command line that printed it.
            page: The Markdown file.
        """
        write_section(page, self.name, "\n\n".join([*self.texts, provenance(command)]))


def provenance(command: str) -> str:
    """The command, the day, the versions and the machine, as a line of Markdown."""
    from importlib.metadata import version

    from hf_latent_bridge import __version__

    versions = [f"{name} {version(name)}" for name in ("torch", "transformers")]
    today = datetime.datetime.now(datetime.UTC).date()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return (
        f"`{command}`, {today}, hf_latent_bridge {__version__}, {', '.join(versions)}, {machine}."
    )


def write_section(page: Path, name: str, markdown: str) -> None:
    """Replaces the text between a section's markers, or appends the section to the page.

    Raises:
        ValueError: The page lacks one of the markers, or has one twice or in the wrong order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if (text.count(begin), text.count(end)) == (0, 0):
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed) or begin in after or end in after:
        raise ValueError(f"{page} needs {begin!r} once and then {end!r} once")
    page.write_text(f"{before}{begin}\n{markdown}\n{end}{after}", encoding="utf-8")
