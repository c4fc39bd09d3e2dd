"""Publishes to the Hub at HF_ENDPOINT: encoders and datasets, the Space, and what it loads.

`python scripts/publish.py assets`, and so on; each is the file publish.py in a folder.
"""

import sys
from collections.abc import Sequence

import assets.publish
import demo_repos.publish
import space.publish
from common import run_command

COMMANDS = {
    "assets": assets.publish,
    "demo": demo_repos.publish,
    "space": space.publish,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return run_command(__doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main())
