"""Checks, attacks and photographs the Space: `python scripts/space check`, `attack` and so on."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as `python scripts/space`
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from common import run_command

from space import attack, check, screenshots

if __name__ == "__main__":
    sys.exit(run_command(__doc__, {"attack": attack, "check": check, "screenshots": screenshots}))
