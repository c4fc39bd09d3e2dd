"""Loads encoders, translators, decoders and data of the Space, each once, on first use."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
import numpy as np
import torch
from settings import Settings

from hf_latent_bridge import (
    AutoTranslator,
    LatentMap,
    SpaceSpec,
    Translator,
    load_decoder,
    load_encoder,
)

if TYPE_CHECKING:
    from datasets import Dataset

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
    visitor tries again.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()

    def once(self, key: Hashable, load: Callable[[], T]) -> T:
        """The result of `load`, called the first time only."""
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._loaded:
                self._loaded[key] = load()
            value: T = self._loaded[key]
        return value

    def translator(self, name: str) -> Translator:
        """A published translator."""
        return self.once(name, lambda: self._load(AutoTranslator.from_pretrained, name))

    def decoder(self, name: str) -> Any:
        """A published head, index or autoencoder's decoder."""
        return self.once(name, lambda: self._load(load_decoder, name))

    def encoder(self, space: SpaceSpec) -> Any:
        """The encoder that a translator names, at its commit."""

        def load() -> Any:
            gr.Info(f"Loading {space.repo_id}: this happens once.")
            return load_encoder(space)

        return self.once(space, load)

    def latents(self, name: str, split: str) -> Latents:
        """A split of a published dataset with the columns "source" and "target"."""
        return self.once((name, split), lambda: self._read(name, split))

    def untranslated(self, source: int, target: int) -> LatentMap:
        """The map that only pads with zeros, or cuts, to the target's width."""
        return LatentMap(torch.eye(source, target), torch.zeros(target))

    def _read(self, name: str, split: str) -> Latents:
        from datasets import load_dataset

        repo_id = self.settings.repo_id(name)
        data = load_dataset(repo_id, split=split, revision=self.settings.revisions.get(name))
        vectors = data.with_format("numpy")
        columns = (np.asarray(vectors[side], dtype=np.float32) for side in ("source", "target"))
        return Latents(data.remove_columns(["source", "target"]), *columns)

    def _load(self, load: Callable[..., T], name: str) -> T:
        return load(self.settings.repo_id(name), revision=self.settings.revisions.get(name))
