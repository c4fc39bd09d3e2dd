"""The sections of docs/results.md: each is printed by a script, and replaced by it alone."""

import datetime
import os
import platform
from pathlib import Path

from experiments.tables import Table

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


class Section:
    """What a script prints, kept to be written into a page as well.

    Attributes:
        name: Names the section's markers in the page.
        parts: Markdown of what was printed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[str] = []

    def add(self, title: str, content: Table | str) -> None:
        """Prints a table, or Markdown, under its title, and keeps it."""
        print(f"\n{title}\n\n{content}", flush=True)
        markdown = content.to_markdown() if isinstance(content, Table) else content
        self.parts.append(f"**{title}**\n\n{markdown}")

    def write(self, command: str, *, page: Path = PAGE) -> None:
        """Writes what was printed into the page, with what it takes to repeat it.

        Args:
            command: The command line that printed it.
            page: The Markdown file.
        """
        write_section(page, self.name, "\n\n".join([*self.parts, provenance(command)]))


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
    """Replaces what stands between a section's markers; all else in the page stays as it is.

    A page without the section gets it at its end.

    Raises:
        ValueError: The page has not both markers, once and in order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if (text.count(begin), text.count(end)) == (0, 0):
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n".lstrip()
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed) or begin in after or end in after:
        raise ValueError(f"{page} needs {begin!r} once and behind it {end!r} once")
    page.write_text(f"{before}{begin}\n{markdown}\n{end}{after}", encoding="utf-8")
