"""What an encoder is, how one is asked for latents, and how it is to be loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from hf_latent_bridge.errors import EncoderError, InvalidPairsError
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec


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
    encoder: EncoderLike, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
) -> Tensor:
    """Latents (n, d) from an `Encoder`, or from a callable that takes a list of items.

    Raises:
        EncoderError: Neither of the two, or what came back is not one row per item.
    """
    check_encoder(encoder)
    if isinstance(encoder, Encoder):
        latents = as_tensor(encoder.encode(items, batch_size=batch_size, progress=progress))
    else:
        latents = as_tensor(encoder(items))
    if latents.ndim != 2 or len(latents) != len(items):
        raise EncoderError(
            f"an encoder must give one row per item, ({len(items)}, d), "
            f"got shape {tuple(latents.shape)} from {encoder!r}"
        )
    return latents


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


def check_texts(items: Sequence[str]) -> list[str]:
    """The items as a list, if they are texts.

    Raises:
        InvalidPairsError: One text instead of a list, or an item that is no text.
    """
    if isinstance(items, str):
        raise InvalidPairsError("encode takes a list of texts, got one text: wrap it in a list")
    texts = list(items)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidPairsError(f"item {row} must be a text, got {type(text).__name__}")
    return texts


@dataclass(frozen=True)
class LoadOptions:
    """The arguments of `load_encoder`, resolved.

    Attributes:
        name: Repo id or folder.
        commit: Commit of the repo; None for a folder.
        modality: "text" or "image"; None for the only one that the repo has.
        pooling: How to pool; None for the repo's own way.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut texts at this many tokens; None for the model's own limit.
        device: Where to run.
        dtype: Floating dtype of the model; None for the saved one.
        autocast: Dtype in which products are taken; None for the model's.
        compile: Compile the model on first use.
        token: Hub token.
        trust_remote_code: Run Python code that the repo brings.
    """

    name: str
    commit: str | None
    modality: str | None
    pooling: str | None
    normalize: bool | None
    max_length: int | None
    device: torch.device
    dtype: torch.dtype | None
    autocast: torch.dtype | None
    compile: bool
    token: str | bool | None
    trust_remote_code: bool

    @property
    def repo_id(self) -> str | None:
        """The repo id; None for a folder."""
        return None if self.commit is None else self.name

    @property
    def common(self) -> dict[str, Any]:
        """What every `from_pretrained` of transformers takes."""
        return {
            "revision": self.commit or "main",
            "token": self.token,
            "trust_remote_code": self.trust_remote_code,
        }

    def space(self, modality: str, pooling: str | None, max_length: int | None) -> SpaceSpec:
        """The encoder's space, all but its width, which is only known when it has run."""
        return SpaceSpec(
            dim=1,
            repo_id=self.repo_id,
            revision=self.commit,
            modality=modality,
            pooling=pooling,
            normalize=bool(self.normalize),
            max_length=max_length,
        )


def choose_modality(name: str, asked: str | None, has: set[str]) -> str:
    """What an encoder is to encode: what is asked for, or the only thing that it can.

    Raises:
        EncoderError: The model cannot encode that, or both and nothing was asked for.
    """
    if asked is None and len(has) == 1:
        return next(iter(has))
    if asked in has:
        return str(asked)
    known = " and ".join(sorted(has)) or "nothing that this library knows"
    advice = (
        "say which: pass modality='text' or modality='image'"
        if asked is None
        else (f"not {asked}: leave modality out, or name another repo")
    )
    raise EncoderError(f"{name!r} encodes {known}; {advice}")
