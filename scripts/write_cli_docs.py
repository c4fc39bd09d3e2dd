"""Writes docs/cli.md, the help of every command: python scripts/write_cli_docs.py."""

import argparse
import os
from pathlib import Path

from hf_latent_bridge.cli import build_parser

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 90


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    actions = build_parser()._actions
    (listed,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(listed.choices)


def render() -> str:
    """The page, as the parser of the command line now stands."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        return "# Command line\n\n" + "\n".join(
            map(_section, [build_parser(), *commands().values()])
        )
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _section(parser: argparse.ArgumentParser) -> str:
    return f"## {parser.prog}\n\n```\n{parser.format_help()}```\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
