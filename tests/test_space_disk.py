"""What visitors put on the Space's disk has a limit: encoders that they name, and uploads."""

import asyncio
import os
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from repos import Repos
from space import attack as space_attack
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
def test_encoders_that_visitors_name_do_not_fill_hf_home_nor_the_disk(repos, tmp_path):
    from huggingface_hub import constants

    def in_hf_home():
        return space_attack.disk(Path(constants.HF_HOME))

    hub = items.Hub(Repos(repos.settings))
    hub._disk = disk.VisitorCache(tmp_path, most=1)  # byte: the one used last, and no other
    hub.encoders()  # loads the Space's own translators
    named = [bert_repo(hidden=20, seed=seed) for seed in (31, 32, 33)]
    before = in_hf_home()
    kept = []
    for repo_id in named:
        assert hub.encoder(repo_id, TEXT).space.dim == 20
        kept.append(space_attack.disk(tmp_path))
    assert in_hf_home() == before
    assert len(list(tmp_path.rglob("model.safetensors"))) == 1
    assert kept[0] > 0
    assert max(kept) < 2 * min(kept)


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
