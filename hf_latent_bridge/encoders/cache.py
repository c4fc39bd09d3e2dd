"""Keeps latents on disk so that no item is encoded twice, and tells what is kept."""

import contextlib
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import BatchSize, Encoder, encode
from hf_latent_bridge.encoders.modality import Modality, find_modality
from hf_latent_bridge.encoders.store import ABOUT, LatentStore, locked, whole_rows
from hf_latent_bridge.errors import CacheWarning, EncoderError
from hf_latent_bridge.files import read_config
from hf_latent_bridge.names import check_name
from hf_latent_bridge.spaces import SpaceSpec

FORMAT = 1  # goes into the key: count up where the same encoder would give other latents
_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_ITEMS_AT_ONCE = 8192
_BYTES_AT_ONCE = 1 << 26  # as `Modality.size` counts them


class CachedEncoder:
    """An encoder that keeps the latents of every item that it has encoded.

    What is kept is found again by the encoder (repo, commit, modality, pooling, norm, length,
    dtype) and the item itself, whatever dataset, sample or batch it comes in. Processes may share
    a folder; what is damaged is encoded again.

    Attributes:
        encoder: The encoder that is asked for latents that are not kept yet; read-only.
        cache_dir: Folder of the cache; read-only.
        space: The encoder's space.
    """

    def __init__(self, encoder: Encoder, cache_dir: str | Path | None = None) -> None:
        """Wraps an encoder.

        Args:
            encoder: An encoder from a repo at a known commit. Where its space names no modality,
                its items are texts.
            cache_dir: Folder of the cache, made if it is not there; None for `latent-bridge` in
                the folder that HF_HOME names.

        Raises:
            EncoderError: The encoder names no commit, so its latents cannot be told apart, or a
                modality that is not registered.
        """
        check_name(cache_dir, wanted="a folder as cache_dir", optional=True)
        if encoder.space.repo_id is None or encoder.space.revision is None:
            raise EncoderError(
                f"only latents of a repo at a known commit can be cached, got {encoder.space}"
            )
        self._encoder = encoder
        self._modality = find_modality(encoder.space.modality or "text")
        self._cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self._found_dtype: torch.dtype | None = None
        self._stored: LatentStore | None = None
        self._warned = False

    @property
    def encoder(self) -> Encoder:
        """The encoder that is asked for latents that are not kept yet."""
        return self._encoder

    @property
    def cache_dir(self) -> Path:
        """Folder of the cache."""
        return self._cache_dir

    @property
    def space(self) -> SpaceSpec:
        """The space of the latents."""
        return self.encoder.space

    @property
    def device(self) -> torch.device:
        """Where the latents are put: where the encoder runs, or the CPU if it does not say."""
        return torch.device(getattr(self.encoder, "device", "cpu"))

    def encode(
        self, items: Sequence[Any], *, batch_size: BatchSize = "auto", progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of items, in input order, from the cache where they are known.

        Raises:
            InvalidPairsError: Not a list of such items; names the row.
            EncoderError: The encoder gave another width than its space says.

        Warns:
            CacheWarning: The folder cannot be read or written, so that nothing is kept.
        """
        parts = [
            self._encode(window, batch_size=batch_size, progress=progress)
            for window in _windows(self._modality, self._modality.check(items))
        ]
        if not parts:
            dtype = getattr(self.encoder, "dtype", self._found_dtype)
            return torch.empty(0, self.space.dim, dtype=dtype, device=self.device)
        return torch.cat(parts).to(self.device)

    def _encode(self, items: dict[int, tuple[bytes, Any]], **options: Any) -> Tensor:
        keys = [key for key, _ in items.values()]
        dtype = self._dtype_of(next(iter(items.values()))[1])
        store = self._store(dtype)
        rows = dict[bytes, bytes]()
        with self._without_it():
            rows = store.read(keys)
        missing = {key: item for key, item in items.values() if key not in rows}
        if missing:
            latents = encode(self.encoder, list(missing.values()), **options)
            fresh = dict(zip(missing, self._to_bytes(latents, dtype), strict=True))
            with self._without_it():
                store.write(fresh)
            rows |= fresh
        content = bytearray().join(rows[key] for key in keys)
        return torch.frombuffer(content, dtype=dtype).view(len(keys), self.space.dim)

    @contextlib.contextmanager
    def _without_it(self) -> Iterator[None]:
        """Goes on where the cache cannot be used, with one warning."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"latents are not kept in {self.cache_dir}, and are encoded again next time: "
                    f"{error}",
                    CacheWarning,
                    stacklevel=5,
                )

    def _to_bytes(self, latents: Tensor, dtype: torch.dtype) -> list[bytes]:
        if latents.shape[1] != self.space.dim or latents.dtype != dtype:
            raise EncoderError(
                f"an encoder of {self.space} must give latents (n, {self.space.dim}) of {dtype}, "
                f"got (n, {latents.shape[1]}) of {latents.dtype}"
            )
        plain = latents.detach().cpu().contiguous().view(torch.uint8).numpy()
        return [row.tobytes() for row in plain]

    def _dtype_of(self, example: Any) -> torch.dtype:
        """The latents' dtype; an encoder that does not state it is tried on an example once."""
        stated: torch.dtype | None = getattr(self.encoder, "dtype", None)
        if stated is not None:
            return stated
        if self._found_dtype is None:
            self._found_dtype = encode(self.encoder, [example]).dtype
        return self._found_dtype

    def _store(self, dtype: torch.dtype) -> LatentStore:
        """The store for what the encoder is now, should its precision or space have changed."""
        autocast: torch.dtype | None = getattr(self.encoder, "autocast", None)
        precision = {"dtype": _name(dtype), "autocast": _name(autocast)}
        about = {"format": FORMAT, "space": self.space.to_dict(), **precision}
        content = json.dumps(about, sort_keys=True).encode()
        if self._stored is None or self._stored.about != content:
            folder = self.cache_dir / hashlib.sha256(content).hexdigest()[:32]
            self._stored = LatentStore(folder, self.space.dim * dtype.itemsize, content)
        return self._stored


def default_cache_dir() -> Path:
    """The folder of latents in the cache of Hugging Face's libraries."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "latent-bridge"


def _windows(modality: Modality, items: list[Any]) -> Iterator[dict[int, tuple[bytes, Any]]]:
    """Keys and decoded items by row, as many at a time as memory holds well."""
    window, size = dict[int, tuple[bytes, Any]](), 0
    for row, given in enumerate(items):
        item = modality.decode(given, row)
        window[row] = modality.digest(item), item
        size += modality.size(item)
        if size >= _BYTES_AT_ONCE or len(window) >= _ITEMS_AT_ONCE:
            yield window
            window, size = {}, 0
    if window:
        yield window


def _name(dtype: torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class CacheEntry:
    """The latents that are kept of one encoder.

    Attributes:
        repo_id: The encoder's repo.
        revision: Its commit.
        space: All that is known of the latents' space.
        dtype: Their dtype, then "by" and the dtype of the products where autocast was on.
        items: How many there are.
        bytes: What they take up.
        last_used: When they were last read or written, ISO 8601 in UTC.
        folder: Where they are.
    """

    repo_id: str
    revision: str
    space: dict[str, Any]
    dtype: str
    items: int
    bytes: int
    last_used: str
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        pooling = self.space.get("pooling") or "own"
        name = f"{self.repo_id}@{self.revision[:7]} ({pooling}, {self.dtype})"
        return f"{name:64} {self.items:>11,} items {self.bytes / 1e6:>10,.1f} MB  {self.last_used}"


def cache_info(cache_dir: str | Path | None = None, encoder: str | None = None) -> list[CacheEntry]:
    """What the cache holds, encoder by encoder, the last used first.

    Args:
        cache_dir: Folder of the cache; None for `latent-bridge` in the folder of HF_HOME.
        encoder: Repo id; None for all encoders.
    """
    check_name(cache_dir, wanted="a folder as cache_dir", optional=True)
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    found = [entry for path in root.glob(f"*/{ABOUT}") if (entry := _read(path)) is not None]
    entries = [entry for entry in found if encoder in (None, entry.repo_id)]
    return sorted(entries, key=lambda entry: entry.last_used, reverse=True)


def clear_cache(
    cache_dir: str | Path | None = None, encoder: str | None = None
) -> list[CacheEntry]:
    """Deletes the latents of one encoder or of all; a running encode writes its own again.

    Args:
        cache_dir: Folder of the cache; None for `latent-bridge` in the folder of HF_HOME.
        encoder: Repo id; None for all encoders.

    Returns:
        What was deleted.
    """
    entries = cache_info(cache_dir, encoder)
    for entry in entries:
        with locked(Path(entry.folder)):
            shutil.rmtree(entry.folder, ignore_errors=True)
    return entries


def _read(path: Path) -> CacheEntry | None:
    """One encoder's entry; None where the file is not one of this library's, or just deleted."""
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest()[:32] != path.parent.name:
            return None  # damaged; the next write mends it
        about = read_config(path)
        space, dtype = about["space"], about["dtype"]
        dtype += f" by {about['autocast']}" if about["autocast"] else ""
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        used = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        return CacheEntry(
            repo_id=space["repo_id"],
            revision=space["revision"],
            space=space,
            dtype=dtype,
            items=whole_rows(path.parent, space["dim"] * _WIDTHS[about["dtype"]]),
            bytes=size,
            last_used=used,
            folder=str(path.parent),
        )
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return None
