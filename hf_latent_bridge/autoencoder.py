"""Small convolutional autoencoders: both halves, and the training that heads share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.decoders.base import check_latents
from hf_latent_bridge.encoders.base import BatchSize
from hf_latent_bridge.encoders.pictures import read_images
from hf_latent_bridge.errors import ConfigError, DecoderError
from hf_latent_bridge.files import check_fields, check_sizes
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.latents import Latents
from hf_latent_bridge.spaces import SpaceSpec

POOLING = "autoencoder"
_ROWS_PER_BLOCK = 256
_BATCH_SIZE = 128
_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class ConvShape:
    """The sizes that fix the layers of both halves.

    Attributes:
        latent_dim: Width of the latents.
        image_size: Height and width of the images.
        channels: Colours of the images: 1 for grey, 3 for RGB.
        widths: Channels after each layer of the encoder; each layer halves the image.
    """

    latent_dim: int
    image_size: int
    channels: int
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        check_sizes("widths", self.widths)
        check_sizes("sizes", [self.latent_dim, self.image_size, self.channels])
        if self.image_size % 2 ** len(self.widths):
            raise ConfigError(
                f"{len(self.widths)} widths halve the image as many times, so its size must be a "
                f"multiple of {2 ** len(self.widths)}, got {self.image_size}"
            )

    @classmethod
    def from_params(cls, latent_dim: int, params: Any) -> "ConvShape":
        """Reads what `to_params` wrote.

        Raises:
            ConfigError: A value is missing, unknown, or not a positive integer.
        """
        check_fields(params, {"image_size": int, "channels": int, "widths": list}, "params")
        return cls(latent_dim, params["image_size"], params["channels"], tuple(params["widths"]))

    def to_params(self) -> dict[str, Any]:
        """JSON values, without the width of the latents, which the space states."""
        params = {**asdict(self), "widths": list(self.widths)}
        del params["latent_dim"]
        return params

    @property
    def smallest(self) -> int:
        """Height and width of the innermost feature map."""
        return int(self.image_size // 2 ** len(self.widths))

    def encoder(self) -> nn.Sequential:
        """From images (n, channels, image_size, image_size) to latents (n, latent_dim)."""
        layers: list[nn.Module] = []
        for wide, out in pairwise([self.channels, *self.widths]):
            layers += [nn.Conv2d(wide, out, kernel_size=3, stride=2, padding=1), nn.GELU()]
        features = self.widths[-1] * self.smallest**2
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, self.latent_dim))

    def decoder(self) -> nn.Sequential:
        """From latents (n, latent_dim) to images with values between 0 and 1."""
        features = self.widths[-1] * self.smallest**2
        unflatten = nn.Unflatten(1, (self.widths[-1], self.smallest, self.smallest))
        layers: list[nn.Module] = [nn.Linear(self.latent_dim, features), unflatten]
        for wide, out in pairwise([*reversed(self.widths), self.channels]):
            layers += [nn.GELU(), nn.ConvTranspose2d(wide, out, 4, stride=2, padding=1)]
        return nn.Sequential(*layers, nn.Sigmoid())


class ConvHalf(Component):
    """What both halves share: layers of a known shape, which are read-only."""

    def __init__(self, layers: nn.Sequential, shape: ConvShape, space: SpaceSpec) -> None:
        self._layers = layers.eval().requires_grad_(False)
        self._shape = shape
        self.space = space

    @property
    def layers(self) -> nn.Sequential:
        """The torch module."""
        return self._layers

    @property
    def shape(self) -> ConvShape:
        """The sizes that fix its layers."""
        return self._shape

    @staticmethod
    def _new_layers(shape: ConvShape) -> nn.Sequential:
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
            layers = cls._new_layers(ConvShape.from_params(space.dim, params))
        return {name: tuple(tensor.shape) for name, tensor in layers.state_dict().items()}

    @classmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        extras: Mapping[str, bytes],
    ) -> Self:
        shape = ConvShape.from_params(space.dim, params)
        with torch.device("meta"):
            layers = cls._new_layers(shape)
        layers.load_state_dict(tensors, assign=True)
        return cls(layers, shape, space)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}) of {self.space}"


class ConvEncoder(ConvHalf):
    """The encoder half of a convolutional autoencoder.

    Attributes:
        layers: The torch module.
        shape: The sizes that fix its layers.
        space: The space of its latents; names the encoder's own repo once it is pushed.
    """

    kind_key = "encoder_type"
    kind = "conv"

    @staticmethod
    def _new_layers(shape: ConvShape) -> nn.Sequential:
        return shape.encoder()

    def encode(
        self,
        items: Sequence[Any] | Tensor,
        *,
        batch_size: BatchSize = "auto",
        progress: bool = False,
    ) -> Tensor:
        """Latents (n, d) of images; they are encoded in blocks, whatever `batch_size` says.

        Args:
            items: Pictures (PIL, paths, bytes, rows of an image column), which are resized, or
                arrays or tensors of the exact size, with values between 0 and 1, or 0 and 255 if
                they are uint8.
            batch_size: Ignored; every `Encoder` takes it.
            progress: Ignored; every `Encoder` takes it.

        Raises:
            InvalidPairsError: Not images, or images of another size or other channels.
        """
        images = read_images(items, self.shape.channels, self.shape.image_size)
        return self._run(images, torch.empty(0, self.shape.latent_dim))

    def _came_from(self, repo_id: str | None, commit: str | None, subfolder: str = "") -> None:
        super()._came_from(repo_id, commit, subfolder)
        self.space = replace(
            self.space, repo_id=repo_id, revision=commit, subfolder=subfolder or None
        )

    def _stated_space(self) -> SpaceSpec:
        # no commit can name itself
        return replace(self.space, repo_id=None, revision=None, subfolder=None)


class ConvDecoder(ConvHalf):
    """The decoder half of a convolutional autoencoder: from latents to images.

    Attributes:
        layers: The torch module.
        shape: The sizes that fix its layers.
        space: The space of the latents that it reads: its encoder's. After pushing the encoder,
            set `decoder.space = encoder.space`, so that the decoder's config names it.
    """

    kind_key = "decoder_type"
    kind = "conv"

    @staticmethod
    def _new_layers(shape: ConvShape) -> nn.Sequential:
        return shape.decoder()

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> Tensor:
        """Images (n, channels, height, width) with values between 0 and 1.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k` is given: images are not ranked.
        """
        if top_k is not None:
            raise DecoderError(f"a ConvDecoder gives one image: leave top_k out, got {top_k!r}")
        size = self.shape.image_size
        empty = torch.empty(0, self.shape.channels, size, size)
        first = next(self.layers.parameters())
        return self._run(check_latents(latents, self.space, like=first), empty)


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
        device: Where to train; both halves stay there. The CPU unless you say so, where equal seeds
            give equal models.

    Raises:
        InvalidPairsError: No images, or not square ones of one size.
        ConfigError: A size is not a positive integer, or cannot be halved once for each width.
        ValueError: `epochs` is less than 1.
    """
    check_count("epochs", epochs)
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


def train(
    model: nn.Module,
    data: Sequence[Tensor],
    loss: Callable[..., Tensor],
    *,
    epochs: int = 100,
    seed: int = 0,
    decay: float = 0.0,
) -> None:
    """Minimises a loss by AdamW over shuffled batches; equal seeds give equal models.

    Args:
        model: What is trained, in place.
        data: Tensors of equal length; a batch takes the same rows of each.
        loss: From a batch of each tensor to the mean loss.
        epochs: Passes over the data.
        seed: Seeds the order of the rows.
        decay: AdamW's weight decay.
    """
    draw = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=decay)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data[0]), generator=draw), _BATCH_SIZE):
            optimizer.zero_grad()
            torch.autograd.backward(loss(*(tensor[rows].to(device) for tensor in data)))
            optimizer.step()
