"""Keeps latents on disk, so that the same texts are not encoded twice by the same encoder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from hf_latent_bridge.encoders.base import Encoder, check_texts
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.files import write_atomic
from hf_latent_bridge.spaces import SpaceSpec


class CachedEncoder:
    """An encoder that first looks whether it has encoded this list of texts before.

    The key is the encoder's space (repo, commit, pooling, norm, length) and every text, so a
    stale answer is not possible; files are written whole or not at all, so that processes may
    share a folder.

    Attributes:
        encoder: The encoder behind the cache.
        space: Its space.
    """

    def __init__(self, encoder: Encoder, cache_dir: str | Path) -> None:
        """Wraps a text encoder.

        Args:
            encoder: A text encoder from a repo at a known commit.
            cache_dir: Folder for the latents; made if it is not there.

        Raises:
            EncoderError: The encoder names no commit, so its latents cannot be told apart.
        """
        if encoder.space.repo_id is None or encoder.space.revision is None:
            raise EncoderError(
                f"only latents of a repo at a known commit can be cached, got {encoder.space}"
            )
        self.encoder = encoder
        self._folder = Path(cache_dir)

    @property
    def space(self) -> SpaceSpec:
        """The space of the latents."""
        return self.encoder.space

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts, in input order, from the cache where they are known."""
        texts = check_texts(items)
        path = self._folder / f"{self._key(texts)}.safetensors"
        try:
            return safetensors.torch.load_file(path)["latents"]
        except (FileNotFoundError, safetensors.SafetensorError):
            latents = self.encoder.encode(texts, batch_size=batch_size, progress=progress)
        self._folder.mkdir(parents=True, exist_ok=True)
        plain = {"latents": latents.cpu().contiguous()}
        write_atomic(path, safetensors.torch.save(plain, metadata={"format": "pt"}))
        return latents

    def _key(self, texts: list[str]) -> str:
        digest = hashlib.sha256(json.dumps(self.space.to_dict(), sort_keys=True).encode())
        for text in texts:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.hexdigest()
