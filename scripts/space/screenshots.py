"""Takes the README's pictures of the Space: starts it as `make demo` does, and walks through it."""

import argparse
import sys

from common import ROOT
from demo import fill_hub, running_demo

from space.walk import WIDTHS, chromium, find_chromium, walk

PORT = 7861
KEPT = (("desk", False), ("phone", True))
FOLDER = ROOT / "docs" / "images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds none."""


def run(options: argparse.Namespace) -> int:
    """Walks at both widths, in light and dark; returns the exit code."""
    if find_chromium() is None:
        print("needed: Chromium on the PATH, such as Debian's package", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    with running_demo(PORT) as (url, _, progress), chromium() as browser:
        fill_hub(progress)
        for size in WIDTHS:
            for dark in (False, True):
                folder = FOLDER if (size, dark) in KEPT else None
                problems += walk(browser, url, size, dark=dark, folder=folder).problems
    print("\n".join(problems) or f"no problem met; pictures are in {FOLDER}")
    return bool(problems)
