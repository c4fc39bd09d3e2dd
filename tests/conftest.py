"""One embedded Hub for the whole run: huggingface_hub reads HF_* when it is imported."""

import functools
import importlib
import itertools
import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from local_hub import LocalHub

if TYPE_CHECKING:
    from gradio_client import Client
    from huggingface_hub import HfApi
    from repos import Repos

# A shell's background job ignores SIGINT, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

HUB = LocalHub().start()
HOME = tempfile.TemporaryDirectory(prefix="hf-home-")
os.environ.update(HUB.environment(Path(HOME.name)))
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

# Results are on a GPU if there is one, expected values on the CPU: values are compared, not places.
torch.testing.assert_close = functools.partial(torch.testing.assert_close, check_device=False)

if os.environ.get("SECOND_DEVICE"):
    importlib.import_module("second_device")

numbers = itertools.count(1)

# Fixtures that take long to make, once in each worker: the tests that use one stay in one worker.
GROUPS = {
    "repos": "space",
    "space": "space",
    "seeded": "readme",
    "readme": "readme",
    "outcomes": "processes",
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in GROUPS.keys() & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.xdist_group(GROUPS[fixture]))
    if hasattr(config, "workerinput"):  # or one worker would have a long test left at the end
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def hub() -> Iterator[LocalHub]:
    yield HUB
    HUB.stop()
    HOME.cleanup()


@pytest.fixture
def api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(token="hf_alice")


@pytest.fixture
def repo_id() -> str:
    """An id that no other test uses."""
    return f"alice/repo-{next(numbers)}"


@pytest.fixture
def run(capsys):
    """Run a command here; returns its exit code and what it printed."""

    def run(*arguments):
        capsys.readouterr()
        from hf_latent_bridge.cli import main

        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def facts(run):
    """Run a command that succeeds, with --json; returns what it printed, parsed."""

    def facts(*arguments):
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, "")
        (line,) = out.splitlines()
        return json.loads(line)

    return facts


@pytest.fixture
def refusal(run):
    """Run a command that refuses; returns its one line."""

    def refusal(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith("latent-bridge: error: ")
        assert not re.search("hf_(alice|bob|reader)", line)
        return line.removeprefix("latent-bridge: error: ")

    return refusal


@pytest.fixture(scope="session")
def repos() -> "Repos":
    """The small repos of space_repos.py, as the Space loads them."""
    from repos import Repos
    from settings import Settings
    from space_repos import publish_repos

    return Repos(Settings(namespace=publish_repos()))


@pytest.fixture(scope="session")
def space_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that holds what the Space of `space` printed."""
    return tmp_path_factory.mktemp("space") / "log.txt"


@pytest.fixture(scope="session")
def space(repos: "Repos", space_log: Path) -> "Iterator[Client]":
    """A client of the whole Space, which runs at `space.src` and shows the small repos."""
    from gradio_client import Client
    from space_repos import running_space

    with running_space(repos.settings.namespace, space_log) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        yield client
        client.close()
