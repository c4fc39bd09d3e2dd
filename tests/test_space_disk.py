"""What visitors put on the Space's disk has a limit: encoders that they name, and uploads."""

import asyncio
import os

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from repos import Repos
from space_repos import running_space
from tabs.fit_your_own import disk, items
from tiny_models import bert_repo

from hf_latent_bridge.encoders.text import TEXT


def test_the_encoders_used_longest_ago_make_room(tmp_path):
    cache = disk.VisitorCache(tmp_path / "encoders", most=2_500)
    for number, name in enumerate(("a/a", "b/b", "c/c")):
        folder = cache.folder(name)
        (folder / "weights").write_bytes(bytes(1_000))
        os.utime(folder, (number, number))
    used = cache.folder("a/a")
    assert len(list((tmp_path / "encoders").iterdir())) == 2
    assert (used / "weights").exists()
    assert not list(cache.folder("b/b").iterdir())
    assert list(cache.folder("c/c").iterdir())


@pytest.mark.slow
def test_an_encoder_that_a_visitor_names_is_kept_outside_hf_home(repos, tmp_path):
    from huggingface_hub import constants, scan_cache_dir

    hub = items.Hub(Repos(repos.settings))
    hub._disk = disk.VisitorCache(tmp_path)
    named = bert_repo(hidden=20, seed=31)
    assert hub.encoder(named, TEXT).space.dim == 20
    assert named not in {repo.repo_id for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos}
    assert list(tmp_path.rglob("model.safetensors"))


def test_uploads_beyond_the_limit_are_refused_until_the_hour_is_over(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(disk.time, "monotonic", lambda: now[0])
    received, answers = [], []

    async def app(scope, receive, send):
        received.append(await receive())
        await send({"status": 200})

    limit = disk.UploadLimit(app, most=1_000)

    def upload(visitor, size):
        async def receive():
            return {"type": "http.request", "body": bytes(size)}

        async def send(message):
            answers.append(message.get("status"))

        headers = [(b"x-forwarded-for", f"9.9.9.9, {visitor}".encode())]
        scope = {"type": "http", "path": "/gradio_api/upload", "headers": headers}
        asyncio.run(limit(scope, receive, send))
        return [answer for answer in answers if answer][-1]

    assert [upload("1.1.1.1", 600), upload("2.2.2.2", 600)] == [200, 200]
    upload("1.1.1.1", 600)
    assert received[-1] == {"type": "http.disconnect"}
    assert upload("1.1.1.1", 1) == 429
    assert upload("2.2.2.2", 100) == 200
    now[0] = 3601.0
    assert upload("1.1.1.1", 600) == 200


@pytest.mark.slow
def test_the_space_counts_uploads(repos, tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, np.random.default_rng(0).normal(size=(50_000, 4)))  # 1.6 MB
    plugin = "from tabs.fit_your_own import disk\n"
    plugin += "disk.UploadLimit.__init__.__defaults__ = (2_000_000,)"
    namespace = repos.settings.namespace

    def fit():
        client.predict(handle_file(file), None, "ortho", 0.1, 40, api_name="/fit_vectors")

    with running_space(namespace, tmp_path / "log.txt", plugin=plugin) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        with pytest.raises(AppError, match="Please upload a file of target vectors"):
            fit()
        for _ in range(2):
            with pytest.raises(httpx.HTTPError):  # the first is cut off, the second refused
                fit()
        client.close()
