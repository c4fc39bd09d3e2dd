"""Repeats the paper's experiments: one subcommand prints the tables of one in docs/results.md.

`python scripts/reproduce.py cross-architecture`, and so on; each is a file in experiments/. The
first time downloads encoders and data, and encodes for some minutes; `--quick` takes seconds.
"""

import sys
from collections.abc import Sequence

from common import run_command
from experiments import cross_architecture, cross_modality, generation, migrate, sensitivity

COMMANDS = {
    "cross-architecture": cross_architecture,
    "cross-modality": cross_modality,
    "generation": generation,
    "migrate": migrate,
    "sensitivity": sensitivity,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return run_command(__doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
