"""A collection on a server of Chroma is read, moved and found again after the server was killed."""

import contextlib
import gc
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from store_places import content, filled, rows
from stuck_server import StuckServer

from hf_latent_bridge import OrthoTranslator, migrate
from hf_latent_bridge.errors import StoreUnavailableError
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("chromadb") is None, reason="needs chromadb"),
    # Chroma's client leaves sockets open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


class Server:
    """`chroma run`, which can be killed and started again on the same port and folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self):
        command = shutil.which("chroma", path=str(Path(sys.executable).parent))
        options = ["--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([command, "run", *options], **quiet)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.1)
        raise RuntimeError("chroma did not start")

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)

    def url(self, name):
        return f"chroma://127.0.0.1:{self.port}/{name}"


@pytest.fixture(autouse=True)
def closed_sockets():
    """Chroma's client leaves its sockets open, of which Python would warn."""
    from chromadb.api.shared_system_client import SharedSystemClient

    running = threading.active_count()
    yield
    limit = time.monotonic() + 60
    while threading.active_count() > running and time.monotonic() < limit:
        time.sleep(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        SharedSystemClient.clear_system_cache()
        gc.collect()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "chroma")
    yield server
    server.kill()


def test_a_migration_goes_on_after_its_server_was_killed(server, tmp_path):
    old, new, state = server.url("docs"), server.url("docs-new"), tmp_path / "state"
    filled(old, rows(40, scheme="chroma"))
    x, y = rows(40, seed=1).vectors, rows(40, 6, seed=1).vectors
    translator = OrthoTranslator().fit(x, y)

    transform, batches = translator.transform, []

    def kill_at_the_third_batch(vectors):
        if len(vectors):  # the widths are checked with none
            batches.append(vectors)
            if len(batches) == 3:
                server.kill()
        return transform(vectors)

    translator.transform = kill_at_the_third_batch
    with pytest.raises(StoreUnavailableError, match="is the server running"):
        migrate(translator, old, new, batch_size=10, state_dir=state)
    server.start()
    moved = migrate(translator, old, new, batch_size=10, state_dir=state)
    assert (moved.rows, moved.written, moved.checked) == (40, 20, 40)
    before, after = content(old), content(new)
    assert after.keys() == before.keys()
    assert all(after[key][1] == before[key][1] for key in before)
    keys = sorted(before)
    wanted = transform(np.stack([before[key][0] for key in keys]))
    np.testing.assert_allclose([after[key][0] for key in keys], wanted, atol=1e-5)


def test_a_server_that_is_away_or_silent_is_named_in_time():
    with pytest.raises(StoreUnavailableError, match="chroma://127"):
        open_collection(f"chroma://127.0.0.1:{free_port()}/docs", timeout=20)
    with StuckServer() as stuck, pytest.raises(StoreUnavailableError, match=r"within 0\.5 s"):
        open_collection(f"chroma://{stuck.url.removeprefix('http://')}/docs", timeout=0.5)
