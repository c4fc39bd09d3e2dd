"""Gives each repo its README.md: the Hub's metadata, what it is, where from, what was changed."""

import shutil
from pathlib import Path

CARDS = Path(__file__).with_name("cards")


def copy_card(name: str, repo: Path) -> None:
    """Write the card `name` as `README.md` into the folder `repo`."""
    shutil.copyfile(CARDS / f"{name}.md", repo / "README.md")
