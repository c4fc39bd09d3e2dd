"""Runs the Space on this machine: an embedded Hub with the repos that it loads, and the app.

Run it with `make demo`. Nothing leaves the machine once the encoders and the data are downloaded.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assets import AssetError
from assets.cache import cache_root
from common import ROOT, embedded_hub, say

if TYPE_CHECKING:
    from demo_repos.progress import Progress

APP = ROOT / "spaces_demo" / "app.py"
FETCHING = 15.0  # seconds that an asset may take
PATIENCE = 120
POLL = 0.1


@dataclass(frozen=True)
class Part:
    """A part of what the Space loads, which some tabs need.

    Attributes:
        name: As `scripts/publish.py demo --only` takes it.
        assets: What it is made from.
        repos: What is made.
        seconds: How long that took on two cores, with nothing in the cache.
    """

    name: str
    assets: tuple[str, ...]
    repos: tuple[str, ...]
    seconds: float


PARTS = (
    Part(
        "news",
        ("minilm", "mpnet", "bbc-news"),
        ("demo-news", "news-index", "news-head", "minilm-to-mpnet", "news-shared"),
        240,
    ),
    Part(
        "autoencoders",
        ("fashion-mnist",),
        ("demo-fashion", "autoencoder-a", "autoencoder-b", "autoencoder-a-to-b"),
        120,
    ),
    Part(
        "pictures",
        ("efficientnet-lite0", "openclipart"),
        ("demo-pictures", "title-to-picture", "picture-to-title", "picture-index", "title-index"),
        480,
    ),
)


def main() -> int:
    """Starts everything, and stops everything on ctrl-c or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7860, help="port of the app (default: 7860)")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_demo(port) as (url, app, progress):
            say(f"Open {url} (tabs open as their parts are made; ctrl-c stops it)")
            fill_hub(progress)
            say(f"All is ready at {url}")
            return app.wait()
    except AssetError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped", flush=True)
        return 0


@contextmanager
def running_demo(port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]", "Progress"]]:
    """The embedded Hub, yet to be filled, and the app.

    Yields the app's address and process, and the progress for `fill_hub`, which the page shows.

    Raises:
        AssetError: The port is in use, or the app does not start.
    """
    from demo_repos.progress import Progress

    if not is_free(port):  # Gradio would take another one
        raise AssetError(f"port {port} is in use: stop what runs there or pass --port")
    with embedded_hub(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "progress.json"
        waiting = [name for part in PARTS for name in part.repos]
        progress = Progress(sum(part.seconds for part in PARTS), waiting=waiting, file=file)
        progress.task("starting")
        say("Start the Space")
        environment = app_environment(port) | {"LATENT_BRIDGE_PROGRESS": str(file)}
        app = subprocess.Popen([sys.executable, APP], env=os.environ | environment)
        try:
            if not answers(url := f"http://127.0.0.1:{port}", app):
                raise AssetError("the Space did not start: its output above says why")
            yield url, app, progress
        finally:
            app.terminate()
            app.wait(60)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def fill_hub(progress: "Progress | None" = None) -> None:
    """Publishes encoders, data and what the Space loads, part by part, unless they are there."""
    from assets.publish import seed
    from demo_repos.inputs import Inputs
    from demo_repos.progress import Progress
    from demo_repos.publish import publish

    # both encoders have a few constant columns
    warnings.filterwarnings("ignore", ".* pairs determine .* directions")
    say(f"Fill an embedded Hub at {os.environ['HF_ENDPOINT']} (the first time takes minutes)")
    progress = progress or Progress(sum(part.seconds for part in PARTS))
    inputs = Inputs(cache=cache_root() / "latents", progress=progress)
    with progress.ticking():
        for part in PARTS:
            with progress.part(part.seconds, part.repos):
                for asset in part.assets:
                    progress.task(f"fetching {asset}", FETCHING)
                    seed([asset])
                progress.task(f"making the part on {part.name}")
                publish(inputs, [part.name])
    progress.finish()


def app_environment(port: int) -> dict[str, str]:
    """The app's variables, besides those of the Hub."""
    return {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DOWNLOAD_TIMEOUT": "10",  # the Hub shares this machine's cores
        "LATENT_BRIDGE_NAMESPACE": "local",
        "PYTHONPATH": str(ROOT),
    }


def answers(url: str, app: "subprocess.Popen[bytes]") -> bool:
    """Waits until the app answers; False if it has ended or does not within two minutes."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while app.poll() is None and time.monotonic() < end:
        try:
            with opener.open(url, timeout=PATIENCE):
                return True
        except OSError:
            time.sleep(POLL)
    return False


if __name__ == "__main__":
    sys.exit(main())
