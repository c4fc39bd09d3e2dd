"""Seeded samples without replacement, the same for streams, and deduplication."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.items import Items, digest
from hf_latent_bridge.errors import InvalidPairsError

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def priorities(rows: Rows, seed: int) -> npt.NDArray[np.uint64]:
    """A distinct pseudo-random number per row; the n smallest make a uniform sample.

    They depend on the row number and the seed alone (SplitMix64, Steele et al., 2014), so the
    sample is the same for any number of processes, any batch size, and for streams.

    Args:
        rows: Row numbers, (n,).
        seed: Any integer.
    """
    start = np.array([(seed * _GOLDEN) & _MASK], np.uint64)
    return _mix(_mix(start) + (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN))


def smallest(keys: npt.NDArray[np.uint64], n: int) -> Rows:
    """Indices of the `n` smallest keys, in ascending order."""
    if n >= len(keys):
        return np.arange(len(keys))
    return np.sort(np.argpartition(keys, n)[:n])


def check_size(n: int) -> None:
    """Refuses an empty sample.

    Raises:
        InvalidPairsError: `n` is less than 1.
    """
    check_count("max_pairs", n, error=InvalidPairsError)


class Deduplicator:
    """Remembers pairs by a hash of their content, in about 80 bytes each."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def first_times(self, columns: Mapping[str, Items]) -> Rows:
        """Indices of the pairs that have not come before."""
        return np.array(list(self._unseen(columns)), np.int64)

    def _unseen(self, columns: Mapping[str, Items]) -> Iterable[int]:
        for index, row in enumerate(zip(*columns.values(), strict=True)):
            key = digest(b"".join(map(digest, row)))
            if key not in self._seen:
                self._seen.add(key)
                yield index


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
