"""Checks that the Space, as it is published, starts from its own requirements.

Pushes it to an embedded Hub, downloads it into an empty folder, installs its requirements.txt into
a new virtual environment, starts it and calls its API. Takes minutes and 2 GB of disk.
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets.cache import cache_root
from common import ROOT, embedded_hub, say, timed
from demo import answers, fill_hub

REPO = "local/latent-bridge"
QUERY = "central bank raises interest rates again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds none."""


def run(options: argparse.Namespace) -> int:
    """Runs the steps; returns the exit code."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with embedded_hub(), tempfile.TemporaryDirectory(dir=cache_root()) as name:
        fill_hub()
        folder = Path(name)
        say(f"Push the Space, and download {REPO} into an empty folder")
        with timed(REPO):
            download(folder / "space")
        say("Install its requirements.txt into an empty virtual environment")
        with timed("pip install"):
            python = install(folder)
        say("Start it there and call its API")
        with running(python, folder / "space") as url:
            return call(url)


def download(folder: Path) -> None:
    """Pushes the Space and downloads it from the Hub."""
    from huggingface_hub import snapshot_download

    from space.publish import publish_space

    publish_space(REPO)
    snapshot_download(REPO, repo_type="space", local_dir=folder)


def install(folder: Path) -> Path:
    """Makes the environment; returns its Python."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    requirements, constraints = folder / "space/requirements.txt", ROOT / "constraints.txt"
    command = [str(python), "-m", "pip", "install", "-qq", "--retries", "1"]
    subprocess.run([*command, "-r", requirements, "-c", constraints], check=True, timeout=1800)
    return python


@contextmanager
def running(python: Path, space: Path) -> Iterator[str]:
    """Runs the app with nothing of this tree on its path; yields its address."""
    shutil.rmtree(space / ".cache", ignore_errors=True)
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "LATENT_BRIDGE_NAMESPACE")
    environment = {name: text for name, text in os.environ.items() if name not in hidden}
    environment |= {"GRADIO_SERVER_PORT": str(port := free_port())}
    start = time.perf_counter()
    app = subprocess.Popen([python, "app.py"], cwd=space, env=environment)
    try:
        if not answers(url := f"http://127.0.0.1:{port}", app):
            raise RuntimeError(f"the Space did not start (exit code {app.poll()})")
        print(f"  {url} answers after {time.perf_counter() - start:.1f} s", flush=True)
        yield url
    finally:
        app.terminate()
        app.wait(60)


def call(url: str) -> int:
    """Searches twice, first with nothing loaded; returns 1 if it finds nothing right."""
    from gradio_client import Client  # type: ignore[import-untyped]

    client = Client(url, verbose=False, analytics_enabled=False)
    for attempt in ("first", "second"):
        with timed(f"/search, {attempt} call"):
            *rankings, facts, minilm, mpnet = client.predict(QUERY, api_name="/search")
    for ranking in (*rankings, minilm, mpnet):
        print(f"  {ranking['title']}: {ranking['note']}")
        for hit in ranking["found"][:1]:
            print(f"    {hit['title']}")
    print("  " + ", ".join(f"{fact['name']} {fact['value']}" for fact in facts))
    asked = (rankings[1], minilm, mpnet)
    return 0 if all(any(hit["same"] for hit in found["found"]) for found in asked) else 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
