"""Says what the cache of latents holds and takes up, and clears it."""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_latent_bridge.encoders.cached import default_cache_dir
from hf_latent_bridge.encoders.latent_store import ABOUT, locked, whole_rows


@dataclass(frozen=True)
class CacheEntry:
    """The latents that are kept of one encoder.

    Attributes:
        repo_id: The encoder's repo.
        revision: Its commit.
        space: All that is known of the latents' space.
        dtype: Their dtype, and behind "by" that of the products.
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
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    found = [entry for path in root.glob(f"*/{ABOUT}") if (entry := _read(path)) is not None]
    entries = [entry for entry in found if encoder in (None, entry.repo_id)]
    return sorted(entries, key=lambda entry: entry.last_used, reverse=True)


def clear_cache(
    cache_dir: str | Path | None = None, encoder: str | None = None
) -> list[CacheEntry]:
    """Deletes the latents of one encoder or of all; whoever is encoding goes on unharmed.

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
        about = json.loads(path.read_bytes())
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


_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
