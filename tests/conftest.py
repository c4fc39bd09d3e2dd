"""One embedded Hub for the whole run: huggingface_hub reads HF_* when it is imported."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from local_hub import LocalHub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = LocalHub().start()
HOME = tempfile.TemporaryDirectory(prefix="hf-home-")
os.environ.update(HUB.environment(Path(HOME.name)))
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

numbers = itertools.count(1)


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
