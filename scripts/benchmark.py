"""Measures quality, speed, memory, reliability and the decisions in docs/adr.

One subcommand for each, such as `python scripts/benchmark.py fit`; each is a file in benchmarks/.
"""

import sys
from collections.abc import Sequence

from benchmarks import (
    at_scale,
    decisions,
    encoding,
    engines,
    fit,
    gate,
    growth,
    hubness,
    maps,
    memory,
    migration,
    network,
    pairs,
    quality,
    reliability,
    selection,
    speed,
    translate,
)
from common import run_command

COMMANDS = {
    "speed": speed,
    "fit": fit,
    "encoding": encoding,
    "engines": engines,
    "translate": translate,
    "memory": memory,
    "network": network,
    "pairs": pairs,
    "at-scale": at_scale,
    "decisions": decisions,
    "hubness": hubness,
    "growth": growth,
    "gate": gate,
    "migration": migration,
    "quality": quality,
    "maps": maps,
    "selection": selection,
    "reliability": reliability,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return run_command(__doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
