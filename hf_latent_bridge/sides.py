"""One side of the pairs: how its items become latents."""

from dataclasses import dataclass, field

from torch import Tensor

from hf_latent_bridge.data.items import Items, Screen, as_matrix
from hf_latent_bridge.encoders import EncoderLike, encode, space_of
from hf_latent_bridge.errors import InvalidLatentsError
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

    def space(self, dim: int) -> SpaceSpec:
        """The space of the latents; only the width where nothing else is known."""
        if self.encoder is None or isinstance(self.encoder, SpaceSpec):
            return self.encoder or SpaceSpec(dim)
        return space_of(self.encoder, dim)

    def identity(self) -> object:
        """JSON values that tell this side from another in a checkpoint."""
        if self.encoder is None:
            return "latents"
        space = getattr(self.encoder, "space", self.encoder)
        if isinstance(space, SpaceSpec):
            return {"latents": self.holds_latents, **space.to_dict()}
        return getattr(self.encoder, "__qualname__", type(self.encoder).__qualname__)
