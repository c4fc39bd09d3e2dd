"""Image encoders that are plain transformers models, pooled over positions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import LoadOptions
from hf_latent_bridge.encoders.batching import Batch, chunks
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.pictures import check_images, decode_image, to_rgb
from hf_latent_bridge.encoders.strict_load import quiet_load
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BaseImageProcessor, PreTrainedModel

IMAGE_POOLINGS = ("cls", "mean", "pooler")
_CLASS_TOKENS = ("cls_token", "class_embedding")


class ImageEncoder(ModelEncoder):
    """A transformers image model as an encoder.

    Attributes:
        space: The space of its latents.
        model: The transformers model.
        processor: Its image processor.
    """

    model: "PreTrainedModel"

    def __init__(
        self,
        model: "PreTrainedModel",
        processor: "BaseImageProcessor",
        space: SpaceSpec,
        options: LoadOptions,
    ) -> None:
        super().__init__(model, options)
        self.processor = processor
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "ImageEncoder":
        """Loads model and processor, and tries them on an image.

        Raises:
            EncoderError: Missing weights, or a pooling that the model does not have.
        """
        from transformers import AutoModel

        with quiet_load(options.name):
            processor = load_processor(options)
            model, info = AutoModel.from_pretrained(
                options.name,
                dtype=options.dtype or "auto",
                output_loading_info=True,
                **options.common,
            )
        model = model.to(options.device).eval()
        space = options.space("image", options.pooling, None)
        encoder = cls(model, processor, space, options)
        pooling = encoder._choose_pooling(options, info["missing_keys"])
        encoder.space = replace(space, pooling=pooling)
        encoder.space = replace(encoder.space, dim=encoder._width(blank_image()))
        return encoder

    def _check(self, items: Sequence[Any]) -> list[Any]:
        return check_images(items)

    def _batches(self, items: list[Any], batch_size: int) -> Iterator[Batch]:
        for rows, images in image_batches(items, batch_size):
            inputs = self.processor(images, return_tensors="pt")
            yield rows, dict(inputs.to(self.dtype))

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        output = self.model(**inputs)
        if self.space.pooling == "pooler":
            pooled: Tensor = output.pooler_output
            return pooled.flatten(1)
        states: Tensor = output.last_hidden_state
        if self.space.pooling == "cls":
            return states[:, 0]
        positions = states.flatten(2) if states.ndim == 4 else states.mT
        return positions.float().mean(2)

    @torch.inference_mode()
    def _choose_pooling(self, options: LoadOptions, missing_keys: Sequence[str]) -> str:
        """The pooling that is asked for, or else the model's own; the map of a CNN goes last."""
        _, inputs = next(self._batches([blank_image()], 1))
        output = self.model(**{name: value.to(self.device) for name, value in inputs.items()})
        if output.last_hidden_state.ndim == 4:
            torch.nn.Module.to(  # type: ignore[call-overload]
                self.model, memory_format=torch.channels_last
            )
        usable = _usable_poolings(self.model, output, missing_keys)
        if options.pooling is None:
            return next(pooling for pooling in ("cls", "pooler", "mean") if usable[pooling] is None)
        if reason := usable[options.pooling]:
            others = [name for name, why in usable.items() if why is None]
            raise EncoderError(
                f"{options.name!r} cannot be pooled by {options.pooling!r}: {reason}; "
                f"use one of {others}"
            )
        return options.pooling


def image_batches(
    items: Sequence[Any], batch_size: int
) -> Iterator[tuple[list[int], list["Image"]]]:
    """Positions of `batch_size` images at a time, and the images in RGB.

    Raises:
        InvalidPairsError: An image that cannot be read; names its row.
        ValueError: `batch_size` is less than 1.
    """
    for part in chunks(len(items), batch_size):
        yield list(part), [to_rgb(decode_image(items[row], row)) for row in part]


def load_processor(options: LoadOptions) -> "BaseImageProcessor":
    """The image processor of a repo."""
    from transformers import AutoImageProcessor

    load: Any = AutoImageProcessor.from_pretrained
    processor: BaseImageProcessor = load(options.name, **options.common)
    return processor


def blank_image() -> "Image":
    """An image to try a model on."""
    from PIL import Image

    return Image.new("RGB", (64, 64), "gray")


def _usable_poolings(
    model: "PreTrainedModel", output: Any, missing_keys: Sequence[str]
) -> dict[str, str | None]:
    """Each pooling, with the reason for which it cannot be used, if there is one."""
    pooler = cls = None
    if getattr(output, "pooler_output", None) is None:
        pooler = "the model has no pooler"
    elif any("pooler" in key for key in missing_keys):
        pooler = "the repo lacks the weights of the pooler, which would be random"
    names = [name.rpartition(".")[2] for name, _ in model.named_parameters()]
    if output.last_hidden_state.ndim != 3 or not set(names) & set(_CLASS_TOKENS):
        cls = "the model has no class token"
    return {"cls": cls, "mean": None, "pooler": pooler}
