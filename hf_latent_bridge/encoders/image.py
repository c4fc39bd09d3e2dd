"""Images as a modality, and transformers image models pooled over positions."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_latent_bridge.encoders.batching import Batch
from hf_latent_bridge.encoders.modality import Modality, register
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.pictures import check_images, count_pixels, decode_image, to_rgb
from hf_latent_bridge.encoders.strict_load import LoadOptions, quiet_load
from hf_latent_bridge.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLASS_TOKENS = ("cls_token", "class_embedding")


class ImageEncoder(ModelEncoder):
    """A transformers image model as an encoder."""

    model: "PreTrainedModel"

    @classmethod
    def load(cls, options: LoadOptions) -> "ImageEncoder":
        """Loads model and processor, and tries them on an image.

        Raises:
            EncoderError: Missing weights, or a pooling that the model does not have.
        """
        from transformers import AutoModel

        with quiet_load(options.name):
            model, info = AutoModel.from_pretrained(
                options.name,
                dtype=options.dtype or "auto",
                output_loading_info=True,
                **options.common,
            )
            preparer = IMAGE.preparer(options, model.config)
        space = options.space(IMAGE.name, options.pooling, None)
        encoder = cls(model.to(options.device).eval(), preparer, space, options)
        pooling = encoder._choose_pooling(options, info["missing_keys"])
        encoder._space = replace(space, pooling=pooling)
        return encoder._measured(IMAGE.examples()[0])

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
        output = self.model(**self._inputs(IMAGE.examples()[:1]))
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


class Image(Modality):
    """Images: PIL images, paths, the bytes of files, or mappings that hold one of these."""

    name = "image"
    poolings = ("cls", "mean", "pooler")
    main_inputs = ("pixel_values",)
    files = ("preprocessor_config.json", "processor_config.json")
    classifier = "AutoModelForImageClassification"
    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

    def recognises(self, item: Any) -> bool:
        """Whether it is a PIL image; a path or bytes could hold something else."""
        return hasattr(item, "convert") and hasattr(item, "getexif")

    def check(self, items: Sequence[Any]) -> list[Any]:
        """The items as a list, as `check_images` does it."""
        return check_images(items)

    def decode(self, item: Any, row: int) -> Any:
        """The whole image, as `decode_image` gives it."""
        return decode_image(item, row)

    def digest(self, item: Any) -> bytes:
        """16 bytes of the hash of its mode, size and pixels."""
        header = f"{item.mode} {item.width} {item.height}".encode()
        return hashlib.blake2b(header + b"\0" + item.tobytes(), digest_size=16).digest()

    def read_file(self, path: Path) -> list[Any]:
        """The one image in a file, not decoded yet.

        Raises:
            InvalidPairsError: Another suffix.
        """
        if path.suffix.lower() not in self.suffixes:
            return super().read_file(path)
        return [{"bytes": path.read_bytes(), "path": path.name}]

    def size(self, item: Any, row: int = 0) -> int:
        """Number of pixels, as `count_pixels` reads it."""
        return count_pixels(item, row)

    def examples(self) -> list[Any]:
        """Two images of random pixels."""
        from PIL import Image as pil

        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2, 48, 64, 3), dtype=torch.uint8, generator=draw).numpy()
        return [pil.fromarray(image) for image in pixels]

    def batches(
        self, items: list[Any], prepare: Any, batch_size: int, device: torch.device
    ) -> Iterator[Batch]:
        """Batches of `batch_size` images in RGB."""
        return super().batches(
            items, lambda images: prepare([to_rgb(image) for image in images]), batch_size, device
        )

    def preparer(self, options: LoadOptions, config: Any) -> Preparer:
        """The image processor."""
        from transformers import AutoImageProcessor

        load: Any = AutoImageProcessor.from_pretrained
        processor = load(options.name, **options.common)

        def batches(items: list[Any], batch_size: int, device: torch.device) -> Iterator[Batch]:
            return self.batches(
                items, lambda images: processor(images, return_tensors="pt"), batch_size, device
            )

        return Preparer(self.check, batches, processor)

    def load(self, options: LoadOptions) -> ModelEncoder:
        """As `ImageEncoder.load`."""
        return ImageEncoder.load(options)


IMAGE = register(Image())
