"""One side of the pairs: how its items become latents."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hf_latent_bridge.data import Chunk
from hf_latent_bridge.data.items import Items, Screen, as_matrix
from hf_latent_bridge.encoders import Encoder, EncoderLike, encode, space_of
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError, LatentBridgeError
from hf_latent_bridge.latents import as_tensor
from hf_latent_bridge.spaces import SpaceSpec


@dataclass
class Side:
    """The items of one side are encoded, or are latents already.

    Attributes:
        name: "source" or "target".
        encoder: What encodes the items; for latents their space, or None where it is not known.
    """

    name: str
    encoder: EncoderLike | SpaceSpec | None
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.screen = Screen(latents=self.holds_latents)

    @property
    def holds_latents(self) -> bool:
        """Whether the items are latents already."""
        return self.encoder is None or isinstance(self.encoder, SpaceSpec)

    def latents(self, items: Items, *, batch_size: int) -> Tensor:
        """Latents (n, d) of screened items.

        Raises:
            InvalidLatentsError: Items of another width than their space.
            EncoderError: The encoder gave no row per item.
        """
        if self.encoder is not None and not isinstance(self.encoder, SpaceSpec):
            return encode(self.encoder, list(items), batch_size=batch_size)
        latents = as_tensor(as_matrix(items))
        if self.encoder is not None and latents.shape[1] != self.encoder.dim:
            raise InvalidLatentsError(
                f"the {self.name} items must be latents of {self.encoder}, "
                f"got vectors that are {latents.shape[1]} wide"
            )
        return latents

    def read(self, chunk: Chunk, *, batch_size: int) -> Tensor:
        """Latents (n, d) of this side of a chunk.

        Raises:
            InvalidPairsError: An item is unusable; says which.
            LatentBridgeError: As `latents`, and which pairs it is about.
        """
        items = chunk.source if self.name == "source" else chunk.target
        for position, reason in self.screen.reasons(items).items():
            raise InvalidPairsError(f"{chunk.bad_row(position, self.name, reason)}: drop this pair")
        with located(chunk):
            return self.latents(items, batch_size=batch_size).detach()

    def space(self, dim: int) -> SpaceSpec:
        """The space of the latents; only the width where nothing else is known."""
        if self.encoder is None or isinstance(self.encoder, SpaceSpec):
            return self.encoder or SpaceSpec(dim)
        return space_of(self.encoder, dim)

    def identity(self) -> object:
        """JSON values that tell this side from another in a checkpoint."""
        if self.encoder is None:
            return "latents"
        if isinstance(self.encoder, SpaceSpec):
            return {"latents": True, **self.encoder.to_dict()}
        if isinstance(self.encoder, Encoder):
            return {**self.encoder.space.to_dict(), **_running(self.encoder)}
        return getattr(self.encoder, "__qualname__", type(self.encoder).__qualname__)


@contextlib.contextmanager
def located(chunk: Chunk) -> Iterator[None]:
    """Says which pairs an error is about; rows in its text count from the first of them."""
    try:
        yield
    except LatentBridgeError as error:
        where = f"among pairs {chunk.rows[0]} to {chunk.rows[-1]}"
        where += f" of shard {chunk.place.shard}" if chunk.sharded else ""
        raise type(error)(f"{where}: {error}") from error


def _running(encoder: Encoder) -> dict[str, str]:
    """In what precision an encoder runs, and its weights where no commit tells them."""
    inner = getattr(encoder, "encoder", encoder)  # behind a cache
    facts = {name: str(getattr(inner, name, None)) for name in ("dtype", "autocast")}
    model = getattr(inner, "model", None)
    if encoder.space.revision is None and isinstance(model, torch.nn.Module):
        digest = hashlib.blake2b(digest_size=16)
        for tensor in model.state_dict().values():
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        facts["weights"] = digest.hexdigest()
    return facts
