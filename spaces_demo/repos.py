"""Loads encoders, translators, decoders and data of the Space, each once, on first use."""

import re
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
import numpy as np
import preparing
import torch
from limits import NO_ANSWER, Refusal, Unpublished
from settings import Settings

from hf_latent_bridge import (
    AutoTranslator,
    LatentMap,
    SharedSpace,
    SpaceSpec,
    Translator,
    load_decoder,
    load_encoder,
)
from hf_latent_bridge.errors import HubUnavailableError, RepoNotFoundError
from hf_latent_bridge.vectors.datasets import load_dataset

if TYPE_CHECKING:
    from datasets import Dataset

DEVICE = "cpu"  # of all parts, also where there is a GPU: published latents are in memory
AWAY = 20  # seconds in which a Hub that did not answer is not asked again

T = TypeVar("T")


@dataclass(frozen=True)
class Latents:
    """Rows that both encoders have encoded.

    Attributes:
        rows: The other columns, such as "text" and "label".
        source: (n, d_source).
        target: (n, d_target).
    """

    rows: "Dataset"
    source: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


class Repos:
    """The repos of the Space, and anything else that is worth making once.

    Two visitors who ask for the same thing at once wait for one load; after a failed load the next
    visitor tries again. While the Hub is away they are told so at once.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()
        self._away = float("-inf")

    def once(self, key: Hashable, load: Callable[[], T]) -> T:
        """The result of `load`, called the first time only.

        Raises:
            Unpublished: The Hub has no such repo.
            Refusal: The Hub does not answer, or did not a moment ago.
        """
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._loaded:
                self._loaded[key] = self._from_the_hub(load)
            value: T = self._loaded[key]
        return value

    def translator(self, name: str) -> Translator:
        """A published translator."""
        return self.once(name, lambda: self._load(AutoTranslator.from_pretrained, name))

    def shared_space(self, name: str) -> SharedSpace:
        """A published shared space."""
        return self.once(name, lambda: self._load(SharedSpace.from_pretrained, name))

    def decoder(self, name: str) -> Any:
        """A published head, index or autoencoder's decoder."""
        return self.once(name, lambda: self._load(load_decoder, name))

    def encoder(self, space: SpaceSpec) -> Any:
        """The encoder that a translator names, at its commit."""

        def load() -> Any:
            gr.Info(f"Loading {space.repo_id}: this happens once.")
            return load_encoder(space, device=DEVICE)

        return self.once(space, load)

    def latents(self, name: str, split: str) -> Latents:
        """A split of a published dataset with the columns "source" and "target"."""
        return self.once((name, split), lambda: self._read(name, split))

    def untranslated(self, source: int, target: int) -> LatentMap:
        """The map that only pads with zeros, or cuts, to the target's width."""
        return LatentMap(torch.eye(source, target), torch.zeros(target))

    def _check_made(self, name: str) -> None:
        """Refuses a repo that the demo is still making; an older one may be there."""
        now = preparing.status(self.settings.progress)
        if name in now["waiting"]:
            raise Unpublished(
                f"This part of the demo is still being made ({now['percent']} % of all is done, "
                f"{now['left']}); other tabs may be ready."
            )

    def _read(self, name: str, split: str) -> Latents:
        self._check_made(name)
        repo_id = self.settings.repo_id(name)
        data, _ = load_dataset(repo_id, split, revision=self.settings.revisions.get(name))
        vectors = data.with_format("numpy")
        columns = (np.asarray(vectors[side], dtype=np.float32) for side in ("source", "target"))
        return Latents(data.remove_columns(["source", "target"]), *columns)

    @contextmanager
    def asking_hub(self) -> Iterator[None]:
        """Within the block the Hub is asked; while it is away, nobody waits for it again.

        Raises:
            Refusal: The Hub does not answer, or did not a moment ago.
        """
        if time.monotonic() - self._away < AWAY:
            raise Refusal(NO_ANSWER)
        try:
            yield
        except HubUnavailableError:
            self._away = time.monotonic()
            raise Refusal(NO_ANSWER) from None

    def _from_the_hub(self, load: Callable[[], T]) -> T:
        try:
            with self.asking_hub():
                return load()
        except RepoNotFoundError as error:
            found = re.search(r"'([\w.-]+/[\w.-]+)'", str(error))
            name = found[1] if found else "a repo"
            raise Unpublished(f"This needs {name}, which is not published on this Hub.") from None

    def _load(self, load: Callable[..., T], name: str) -> T:
        self._check_made(name)
        revision = self.settings.revisions.get(name)
        return load(self.settings.repo_id(name), revision=revision, device=DEVICE)
