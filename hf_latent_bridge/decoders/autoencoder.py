"""Convolutional autoencoders in two halves, so that one's encoder can meet another's decoder."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_latent_bridge.decoders.base import check_latents
from hf_latent_bridge.decoders.training import train
from hf_latent_bridge.encoders.conv import POOLING, ConvEncoder, ConvHalf
from hf_latent_bridge.encoders.convolutions import ConvShape
from hf_latent_bridge.encoders.pixels import read_images
from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.latents import Latents
from hf_latent_bridge.spaces import SpaceSpec


class ConvDecoder(ConvHalf):
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
