"""The two halves of a small convolutional autoencoder, as plain torch modules."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from hf_latent_bridge.config_checks import check_fields, check_sizes
from hf_latent_bridge.errors import ConfigError


@dataclass(frozen=True)
class ConvShape:
    """What fixes the layers of both halves.

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
            ConfigError: A value is missing, unknown, or no positive integer.
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
