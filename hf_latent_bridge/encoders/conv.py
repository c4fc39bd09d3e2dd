"""The encoder half of a convolutional autoencoder, and what both halves share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from hf_latent_bridge.encoders.convolutions import ConvShape
from hf_latent_bridge.encoders.pixels import read_images
from hf_latent_bridge.part import Part
from hf_latent_bridge.spaces import SpaceSpec

POOLING = "autoencoder"
_ROWS_PER_BLOCK = 256


class ConvHalf(Part):
    """What both halves share: layers of a known shape."""

    def __init__(self, layers: nn.Sequential, shape: ConvShape, space: SpaceSpec) -> None:
        self.layers = layers.eval().requires_grad_(False)
        self.shape = shape
        self.space = space

    @staticmethod
    def _layers(shape: ConvShape) -> nn.Sequential:
        """The layers of this half, with random weights."""
        raise NotImplementedError

    def _run(self, inputs: Tensor, empty: Tensor) -> Tensor:
        first = next(self.layers.parameters())
        with torch.no_grad():
            blocks = torch.split(inputs, _ROWS_PER_BLOCK) if len(inputs) else ()
            return torch.cat([empty.to(first), *(self.layers(block.to(first)) for block in blocks)])

    def _params(self) -> dict[str, Any]:
        return self.shape.to_params()

    def _tensors(self) -> dict[str, Tensor]:
        return self.layers.state_dict()

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            layers = cls._layers(ConvShape.from_params(space.dim, params))
        return {name: tuple(tensor.shape) for name, tensor in layers.state_dict().items()}

    @classmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        paths: Mapping[str, Path],
    ) -> Self:
        shape = ConvShape.from_params(space.dim, params)
        with torch.device("meta"):
            layers = cls._layers(shape)
        layers.load_state_dict(tensors, assign=True)
        return cls(layers, shape, space)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}) of {self.space}"


class ConvEncoder(ConvHalf):
    """The encoder half of a convolutional autoencoder.

    Attributes:
        layers: The torch module.
        shape: What fixes its layers.
        space: The space of its latents; names the encoder's own repo once it is pushed.
    """

    kind_key = "encoder_type"
    kind = "conv"

    @staticmethod
    def _layers(shape: ConvShape) -> nn.Sequential:
        return shape.encoder()

    def encode(
        self, items: Sequence[Any] | Tensor, *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of images; they are encoded in blocks, whatever `batch_size` says.

        Args:
            items: Pictures (PIL, paths, bytes, rows of an image column), which are resized, or
                arrays or tensors of the exact size, with values between 0 and 1, or 0 and 255 if
                they are uint8.
            batch_size: Taken for the sake of the `Encoder` protocol.
            progress: Likewise.

        Raises:
            InvalidPairsError: Something else than images of this size and these channels.
        """
        images = read_images(items, self.shape.channels, self.shape.image_size)
        return self._run(images, torch.empty(0, self.shape.latent_dim))

    def _came_from(self, repo_id: str | None, commit: str | None, subfolder: str = "") -> None:
        super()._came_from(repo_id, commit, subfolder)
        if not subfolder:  # a space names whole repos
            self.space = replace(self.space, repo_id=repo_id, revision=commit)

    def _stated_space(self) -> SpaceSpec:
        return replace(self.space, repo_id=None, revision=None)  # no commit can name itself
