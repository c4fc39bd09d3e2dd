"""One tower of a dual encoder such as CLIP, with its projection."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hf_latent_bridge.encoders.modality import find_modality
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.strict_load import LoadOptions, quiet_load
from hf_latent_bridge.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POOLING = "projection"


class DualEncoder(ModelEncoder):
    """One tower of a dual encoder, with the projection into the space that both share.

    The modality of its space says which tower it is; the model holds both.
    """

    model: "PreTrainedModel"

    @classmethod
    def load(cls, options: LoadOptions) -> "DualEncoder":
        """Loads the model and what prepares the inputs of one tower, and tries them.

        Raises:
            EncoderError: Missing weights, a pooling, or a model without that tower.
        """
        from transformers import AutoModel

        if options.pooling not in (None, POOLING):
            raise EncoderError(
                f"{options.name!r} is a dual encoder with projections of its own, and takes no "
                f"pooling: leave pooling={options.pooling!r} out"
            )
        modality = find_modality(str(options.modality))
        with quiet_load(options.name):
            model = AutoModel.from_pretrained(
                options.name, dtype=options.dtype or "auto", **options.common
            )
            preparer = modality.preparer(options, model.config)
        if not hasattr(model, f"get_{modality.name}_features"):
            raise EncoderError(
                f"{options.name!r} is not a dual encoder: {type(model).__name__} has no "
                f"get_{modality.name}_features"
            )
        space = options.space(modality.name, POOLING, preparer.max_length)
        encoder = cls(model.to(options.device).eval(), preparer, space, options)
        return encoder._measured(modality.examples()[0])

    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        output = getattr(self.model, f"get_{self.space.modality}_features")(**inputs)
        latents: Tensor = getattr(output, "pooler_output", output)
        return latents
