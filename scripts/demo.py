"""Runs the Space on this machine: an embedded Hub with the repos that it loads, and the app.

Run it with `make demo`. Nothing leaves the machine once the encoders and the data are downloaded.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from assets import AssetError
from assets.cache import cache_root
from common import ROOT, embedded_hub, say

APP = ROOT / "spaces_demo" / "app.py"
ASSETS = ("minilm", "mpnet", "bbc-news", "efficientnet-lite0", "openclipart", "fashion-mnist")
PATIENCE = 120
POLL = 0.1


def main() -> int:
    """Starts everything, and stops everything on ctrl-c or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7860, help="port of the app (default: 7860)")
    port = parser.parse_args().port
    if not is_free(port):
        print(f"demo: port {port} is in use: stop what runs there or pass --port", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_demo(port) as (url, app, seconds):
            say(f"Open {url} (ready in {seconds:.1f} s; ctrl-c stops it)")
            return app.wait()
    except AssetError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped", flush=True)
        return 0


@contextmanager
def running_demo(port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]", float]]:
    """The embedded Hub, filled, and the app; yields its address, process and seconds to start."""
    with embedded_hub():
        fill_hub()
        say("Start the Space")
        start = time.perf_counter()
        app = subprocess.Popen([sys.executable, APP], env=os.environ | app_environment(port))
        try:
            if not answers(url := f"http://127.0.0.1:{port}", app):
                raise AssetError("the Space did not start: its output above says why")
            yield url, app, time.perf_counter() - start
        finally:
            app.terminate()
            app.wait(60)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def fill_hub() -> None:
    """Publishes encoders, data and what the Space loads, unless they are there."""
    from assets.publish import seed
    from demo_repos.inputs import Inputs
    from demo_repos.publish import publish

    # both encoders have a few constant columns
    warnings.filterwarnings("ignore", ".* pairs determine .* directions")
    say(f"Fill an embedded Hub at {os.environ['HF_ENDPOINT']} (the first time takes minutes)")
    seed(ASSETS)
    publish(Inputs(cache=cache_root() / "latents"))


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
