"""The text tower or the image tower of a CLIP-like model, with its projection."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hf_latent_bridge.encoders.base import LoadOptions, check_texts
from hf_latent_bridge.encoders.batching import Batch, text_batches, token_budget
from hf_latent_bridge.encoders.image import blank_image, image_batches, load_processor
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.pictures import check_images
from hf_latent_bridge.encoders.strict_load import quiet_load, token_limit
from hf_latent_bridge.encoders.text import load_tokenizer
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POOLING = "projection"
_PADDED_WHOLE = ("siglip", "siglip2")  # they read the last position, padding or not


class DualEncoder(ModelEncoder):
    """One tower of a dual encoder, with the projection into the space that both share.

    Attributes:
        space: The space of its latents; its modality says which tower it is.
        model: The transformers model, with both towers.
        preparer: The tokenizer or the image processor.
    """

    model: "PreTrainedModel"

    def __init__(
        self, model: "PreTrainedModel", preparer: Any, space: SpaceSpec, options: LoadOptions
    ) -> None:
        super().__init__(model, options)
        self.preparer = preparer
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "DualEncoder":
        """Loads the model and what prepares the inputs of one tower, and tries them.

        Raises:
            EncoderError: Missing weights, a pooling, or a model without two towers.
        """
        from transformers import AutoModel

        if options.pooling not in (None, POOLING):
            raise EncoderError(
                f"{options.name!r} is a dual encoder with projections of its own, and takes no "
                f"pooling: leave pooling={options.pooling!r} out"
            )
        of_texts = options.modality == "text"
        with quiet_load(options.name):
            preparer: Any = load_tokenizer(options) if of_texts else load_processor(options)
            model = AutoModel.from_pretrained(
                options.name, dtype=options.dtype or "auto", **options.common
            )
        if not all(hasattr(model, f"get_{tower}_features") for tower in ("text", "image")):
            raise EncoderError(f"{type(model).__name__} of {options.name!r} is no dual encoder")
        limit = None
        if of_texts:
            positions = getattr(model.config.text_config, "max_position_embeddings", None)
            limit = token_limit(options.name, preparer, options.max_length, positions)
        space = options.space(str(options.modality), POOLING, limit)
        encoder = cls(model.to(options.device).eval(), preparer, space, options)
        encoder.space = replace(space, dim=encoder._width("a" if of_texts else blank_image()))
        return encoder

    def _check(self, items: Sequence[Any]) -> list[Any]:
        return check_texts(items) if self.space.modality == "text" else check_images(items)

    def _batches(self, items: list[Any], batch_size: int) -> Iterator[Batch]:
        if self.space.modality == "text":
            yield from text_batches(items, self._tokenize, token_budget(batch_size, self.device))
            return
        for rows, images in image_batches(items, batch_size):
            yield rows, dict(self.preparer(images, return_tensors="pt").to(self.dtype))

    def _tokenize(self, texts: list[str]) -> Mapping[str, Any]:
        whole = self.model.config.model_type in _PADDED_WHOLE
        tokens: Mapping[str, Any] = self.preparer(
            texts,
            padding="max_length" if whole else True,
            truncation=self.space.max_length is not None,
            max_length=self.space.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        if whole:
            tokens = {
                **tokens,
                "attention_mask": tokens["attention_mask"].new_ones(tokens["input_ids"].shape),
            }
        return tokens

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        output = getattr(self.model, f"get_{self.space.modality}_features")(**inputs)
        latents: Tensor = getattr(output, "pooler_output", output)
        return latents
