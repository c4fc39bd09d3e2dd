"""The Encoder protocol, and how an encoder or a callable is asked for latents."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from hf_latent_bridge.errors import EncoderError, InvalidPairsError
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec

BatchSize = int | Literal["auto"]


@runtime_checkable
class Encoder(Protocol):
    """Anything that encodes items and says into which space."""

    @property
    def space(self) -> SpaceSpec:
        """The space of the latents."""

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents of the items, (n, d), in their order."""


EncoderLike = Encoder | Callable[[Sequence[Any]], Latents]


def encode(
    encoder: EncoderLike,
    items: Sequence[Any],
    *,
    batch_size: BatchSize = "auto",
    progress: bool = False,
) -> Tensor:
    """Latents (n, d) from an `Encoder`, or from a callable that takes a list of items.

    Args:
        encoder: The encoder.
        items: The items, several of them.
        batch_size: Items per forward pass; "auto" for what the encoder does by itself.
        progress: Show a bar.

    Raises:
        EncoderError: Neither of the two, or what came back is not one row per item.
    """
    check_encoder(encoder)
    if isinstance(encoder, Encoder):
        options: dict[str, Any] = {} if batch_size == "auto" else {"batch_size": batch_size}
        latents = as_tensor(encoder.encode(items, progress=progress, **options))
    else:
        latents = as_tensor(encoder(items))
    if latents.ndim != 2 or len(latents) != len(items):
        raise EncoderError(
            f"an encoder must give one row per item, ({len(items)}, d), "
            f"got shape {tuple(latents.shape)} from {encoder!r}"
        )
    return latents


def as_items(items: Any) -> tuple[Any, bool]:
    """Items as encoders take them, and whether a single one was given.

    Lists, arrays, tensors and columns hold several; a text, bytes, a path, a picture or a mapping
    is one.

    Raises:
        InvalidPairsError: An iterator or a table.
    """
    if isinstance(items, Iterator):
        raise InvalidPairsError(
            f"items must be a list, an array or a single item, got {type(items).__name__}: pass "
            "list(items)"
        )
    one = isinstance(items, str | bytes | bytearray | memoryview | Mapping)
    several = hasattr(items, "__getitem__") and hasattr(items, "__len__")
    if one or not several or getattr(items, "shape", None) == ():
        return [items], True
    return (items if isinstance(items, Tensor | np.ndarray) else as_list(items)), False


def as_list(items: Any) -> list[Any]:
    """Several items as a list of Python values.

    Raises:
        InvalidPairsError: A table, which would give the names of its columns.
    """
    if hasattr(items, "columns") or hasattr(items, "column_names"):
        raise InvalidPairsError(
            f"items must be one column, got a table ({type(items).__name__}): pass its column"
        )
    return list(items.to_pylist() if hasattr(items, "to_pylist") else items)  # of pyarrow


def check_encoder(encoder: object) -> None:
    """Refuses what is neither an `Encoder` nor a callable.

    Raises:
        EncoderError: It is neither; or it has an `encode` of another kind, which is not called.
    """
    if not isinstance(encoder, Encoder) and (not callable(encoder) or hasattr(encoder, "encode")):
        raise EncoderError(
            "an encoder comes from load_encoder, or is a callable from a list of items to their "
            f"latents, such as model.encode; got {type(encoder).__name__} {encoder!r:.60}"
        )


def space_of(encoder: EncoderLike, dim: int) -> SpaceSpec:
    """The encoder's space; for a plain callable only the width is known."""
    return encoder.space if isinstance(encoder, Encoder) else SpaceSpec(dim)
