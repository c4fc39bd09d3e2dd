"""Publishes what the Space loads: datasets with latents, translators, decoders and indexes.

The Hub is the one that HF_ENDPOINT names, as the user of HF_TOKEN. Parts that are there already,
made of the same inputs, are left alone.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assets.cache import cache_root
from demo_parts.inputs import FLAGS, Inputs

DATA = {"news": "news", "pictures": "pictures", "autoencoders": "clothes"}
NAMES = tuple(DATA)
NAMESPACE = "LATENT_BRIDGE_NAMESPACE"
PUBLIC_HUB = "https://huggingface.co"
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

EPILOG = """\
The defaults name what `python scripts/seed_hub.py` publishes on an embedded Hub. BBC News is for
research only, so for the public Hub you name the dataset of news yourself; what you publish there
keeps the license that its card states.

example:
  python scripts/publish_demo_parts.py --only news --namespace me \\
    --news me/articles --news-text body --news-label topic
"""


def publish(inputs: Inputs, only: Sequence[str] = NAMES) -> None:
    """Publishes the named groups of parts where the Hub lacks them."""
    from demo_parts.groups import GROUPS
    from huggingface_hub import HfApi

    api = HfApi()
    for name in only:
        GROUPS[name].publish(api, inputs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    only = options.pop("only")
    problem = _refusal(options, only)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    os.environ.update(QUIET)
    given = {name: value for name, value in options.items() if value is not None}
    publish(Inputs(**given), only)
    return 0


def _refusal(options: dict[str, Any], only: Sequence[str]) -> str | None:
    """Why these options must not be published to this Hub."""
    public = os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/") == PUBLIC_HUB
    unnamed = [f"--{DATA[name]}" for name in only if public and options[DATA[name]] is None]
    if unnamed:
        return (
            f"on the public Hub name the datasets yourself, needed {' and '.join(unnamed)}: the "
            "default news are for research only and must not be published there; or set "
            "HF_ENDPOINT to a Hub of your own (python scripts/local_hub)"
        )
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Publish what the Space loads to the Hub at HF_ENDPOINT.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, help="publish these groups only"
    )
    parser.add_argument(
        "--cache", type=Path, default=cache_root() / "latents", help="folder of cached latents"
    )
    environment = {"namespace": os.environ.get(NAMESPACE)}
    for flag in FLAGS:
        parser.add_argument(
            f"--{flag.name.replace('_', '-')}",
            type=type(flag.default),
            default=environment.get(flag.name),
            help=f"{flag.metadata['help']} (default: {flag.default})",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
