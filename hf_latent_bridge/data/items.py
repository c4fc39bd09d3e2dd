"""Items of a column, and the reasons why one of them cannot be used."""

import hashlib
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_latent_bridge.encoders.modality import modality_of_item
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.latents import as_tensor

Array = npt.NDArray[Any]
Items = list[Any] | Array  # an array has one vector or picture per row


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an item that could not be decoded."""

    reason: str


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        row: Row number in the dataset, or in its shard where `shard` is given.
        side: "source" or "target".
        reason: Why the item cannot be used.
        shard: Number of the shard of a streamed dataset.
    """

    row: int
    side: str
    reason: str
    shard: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The known fields, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        shard = "" if self.shard is None else f" of shard {self.shard}"
        return f"row {self.row}{shard} of the {self.side} column {self.reason}"


def plain_labels(labels: Iterable[Any]) -> list[Any]:
    """Labels as Python values: the elements of a tensor would compare by identity.

    Raises:
        InvalidPairsError: One label, or an array of other than one dimension.
    """
    several = isinstance(labels, Iterable) and not isinstance(labels, str | bytes)
    if not several or getattr(labels, "ndim", 1) != 1:
        shape = tuple(getattr(labels, "shape", ()))
        got = f"shape {shape}" if shape else f"{labels!r:.40}"
        raise InvalidPairsError(f"labels must be a sequence, one label for each item, got {got}")
    if isinstance(labels, np.ndarray | torch.Tensor):
        return list(labels.tolist())
    scalars = np.generic | torch.Tensor
    return [label.item() if isinstance(label, scalars) else label for label in labels]


def class_labels(labels: Iterable[Any], n: int) -> list[Any]:
    """The class of each of `n` pairs, as Python values.

    Raises:
        InvalidPairsError: Not one for each pair, or one is missing or cannot be compared.
    """
    plain = plain_labels(labels)
    if len(plain) != n:
        raise InvalidPairsError(f"labels must be one for each of {n} pairs, got {len(plain)}")
    for row, label in enumerate(plain):
        nan = isinstance(label, float) and math.isnan(label)
        if label is None or nan or type(label).__name__ in _MISSING:
            raise InvalidPairsError(f"the label of pair {row} is missing ({label})")
        try:
            hash(label)
        except TypeError as error:
            raise InvalidPairsError(
                f"labels must be texts, numbers or the like, got {type(label).__name__} "
                f"{label!r:.40} for pair {row}"
            ) from error
    return plain


_MISSING = ("NAType", "NaTType")  # of pandas


class Screen:
    """Finds the unusable items of one side, chunk by chunk.

    Latents must be finite and have the dim of most rows of the first chunk; items to encode must
    not be missing, empty or unreadable. `finite=False` leaves matrices to a later check on a GPU.
    """

    def __init__(self, *, latents: bool, finite: bool = True) -> None:
        self._latents, self._finite = latents, finite
        self._dim: int | None = None

    def reasons(self, items: Items) -> dict[int, str]:
        """Why items of a chunk cannot be used, by their index."""
        if not self._latents:
            return _found([_reason(item) for item in items])
        vectors = items if _is_matrix(items) else [_vector(item) for item in items]
        if self._dim is None and isinstance(vectors, np.ndarray):
            self._dim = vectors.shape[1]
        elif self._dim is None:
            dims = Counter(len(vector) for vector in vectors if isinstance(vector, np.ndarray))
            self._dim = dims.most_common(1)[0][0] if dims else None
        if isinstance(vectors, np.ndarray) and vectors.shape[1] == self._dim:
            return _non_finite_rows(vectors) if self._finite else {}
        return _found([self._reason_of_vector(vector) for vector in vectors])

    def _reason_of_vector(self, vector: Any) -> str | None:
        if not isinstance(vector, np.ndarray):
            return _reason(vector)
        if vector.shape != (self._dim,):
            return f"has dim {len(vector)}, others have {self._dim}"
        return None if np.isfinite(vector).all() else NON_FINITE


def screened_matrix(items: Items) -> Array:
    """Screened latents as one matrix (n, d)."""
    if isinstance(items, np.ndarray):
        return items
    return np.stack([np.asarray(_vector(item)) for item in items])


def digest(item: Any) -> bytes:
    """16 bytes that tell an item's content from others'."""
    if isinstance(item, torch.Tensor):  # which prints only some of its digits
        item = item.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()
    if isinstance(item, np.ndarray):
        return _hash(b"".join(map(digest, item.flat)) if item.dtype.hasobject else item.tobytes())
    modality = modality_of_item(item)
    return _hash(repr(item).encode()) if modality is None else modality.digest(item)


def checksum(items: Items, before: int = 0) -> int:
    """CRC-32 of items in their order, going on from `before`, that of the items read so far.

    It tells versions of a file apart and takes a small part of the time in which rows are summed
    or translated, as a cryptographic hash would not.
    """
    if not isinstance(items, np.ndarray) or items.dtype.hasobject:
        return zlib.crc32(b"".join(map(digest, items)), before)
    kind = zlib.crc32(f"{items.dtype.str} {items.shape}".encode(), before)
    return zlib.crc32(np.ascontiguousarray(items).reshape(-1).view(np.uint8).data, kind)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


NON_FINITE = "holds NaN or infinity"


def _is_matrix(items: Items) -> bool:
    return isinstance(items, np.ndarray) and items.ndim == 2 and items.dtype.kind == "f"


def _vector(item: Any) -> Any:
    """A row of numbers as an array; None if it is missing, else Unreadable."""
    if item is None or isinstance(item, Unreadable):
        return item
    try:
        vector = as_tensor(item).detach().cpu()
    except InvalidLatentsError as error:
        return Unreadable(f"is not a vector: {error}")
    if vector.ndim != 1:
        return Unreadable(f"is not a vector: {item!r:.40}")
    return (vector.float() if vector.dtype == torch.bfloat16 else vector).numpy()


def _reason(item: Any) -> str | None:
    if item is None:
        return "is missing"
    if isinstance(item, Unreadable):
        return item.reason
    modality = modality_of_item(item)
    return None if modality is None else modality.flaw(item)


def _found(reasons: Sequence[str | None]) -> dict[int, str]:
    return {index: reason for index, reason in enumerate(reasons) if reason}


def _non_finite_rows(vectors: Array) -> dict[int, str]:
    with np.errstate(all="ignore"):
        if np.isfinite(vectors.sum(dtype=np.float64)):
            return {}
    return {int(row): NON_FINITE for row in np.flatnonzero(~np.isfinite(vectors).all(1))}
