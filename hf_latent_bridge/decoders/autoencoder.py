"""Convolutional autoencoders in two halves, so that one's encoder can meet another's decoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from hf_latent_bridge.decoders.base import check_latents
from hf_latent_bridge.decoders.convolutions import ConvShape
from hf_latent_bridge.decoders.images import read_images
from hf_latent_bridge.decoders.training import train
from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.latents import Latents
from hf_latent_bridge.published import Fetched, Part
from hf_latent_bridge.spaces import SpaceSpec

POOLING = "autoencoder"
_ROWS_PER_BLOCK = 256


class _ConvHalf(Part):
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
        cls, space: SpaceSpec, params: dict[str, Any], tensors: dict[str, Tensor], fetched: Fetched
    ) -> Self:
        shape = ConvShape.from_params(space.dim, params)
        with torch.device("meta"):
            layers = cls._layers(shape)
        layers.load_state_dict(tensors, assign=True)
        return cls(layers, shape, space)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}) of {self.space}"


class ConvEncoder(_ConvHalf):
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
            items: PIL images, which are resized, or arrays or tensors of the exact size, with
                values between 0 and 1, or 0 and 255 if they are uint8.
            batch_size: Taken for the sake of the `Encoder` protocol.
            progress: Likewise.

        Raises:
            InvalidPairsError: Something else than images of this size and these channels.
        """
        images = read_images(items, self.shape.channels, self.shape.image_size)
        return self._run(images, torch.empty(0, self.shape.latent_dim))

    def _came_from(self, repo_id: str, commit: str) -> None:
        super()._came_from(repo_id, commit)
        self.space = replace(self.space, repo_id=repo_id, revision=commit)

    def _stated_space(self) -> SpaceSpec:
        return replace(self.space, repo_id=None, revision=None)  # no commit can name itself


class ConvDecoder(_ConvHalf):
    """The decoder half of a convolutional autoencoder: from latents to images.

    Attributes:
        layers: The torch module.
        shape: What fixes its layers.
        space: The space of the latents that it reads: its encoder's. After pushing the encoder,
            set `decoder.space = encoder.space`, so that the decoder's config names it.
    """

    kind_key = "decoder_type"
    kind = "conv"

    @staticmethod
    def _layers(shape: ConvShape) -> nn.Sequential:
        return shape.decoder()

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> Tensor:
        """Images (n, channels, height, width) with values between 0 and 1.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k`, for images are not ranked.
        """
        if top_k is not None:
            raise DecoderError(f"a ConvDecoder gives one image: leave top_k out, got {top_k!r}")
        size = self.shape.image_size
        empty = torch.empty(0, self.shape.channels, size, size)
        return self._run(check_latents(latents, self.space), empty)


class Autoencoder(NamedTuple):
    """Both halves of an autoencoder; `decoder(encoder.encode(images))` reconstructs.

    Attributes:
        encoder: From images to latents.
        decoder: From latents to images.
    """

    encoder: ConvEncoder
    decoder: ConvDecoder


def fit_autoencoder(
    images: Sequence[Any] | Tensor,
    *,
    latent_dim: int = 32,
    widths: Sequence[int] = (16, 32),
    epochs: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Autoencoder:
    """Trains a convolutional autoencoder on the squared error; equal seeds give equal models.

    Args:
        images: A tensor or array (n, channels, size, size) with values between 0 and 1 (or uint8),
            or PIL images, all of the first one's size and mode.
        latent_dim: Width of the latents.
        widths: Channels after each layer; each layer halves the image.
        epochs: Passes over the images.
        seed: Seeds the weights and the order of the images.
        device: Where to train; both halves stay there.

    Raises:
        InvalidPairsError: No images, or not square ones of one size.
        ConfigError: A size is no positive integer, or does not halve as often as `widths` asks.
    """
    data = read_images(images)
    shape = ConvShape(latent_dim, data.shape[2], data.shape[1], tuple(widths))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, decoder = shape.encoder().to(device), shape.decoder().to(device)
    both = nn.Sequential(encoder, decoder)
    loss = nn.MSELoss()
    train(both, (data,), lambda x: loss(both(x), x), epochs=epochs, seed=seed)
    space = SpaceSpec(latent_dim, modality="image", pooling=POOLING, normalize=False)
    return Autoencoder(ConvEncoder(encoder, shape, space), ConvDecoder(decoder, shape, space))
