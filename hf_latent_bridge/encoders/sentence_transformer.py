"""Text encoders that are sentence-transformers repos, with their own pooling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_latent_bridge.encoders.base import check_texts
from hf_latent_bridge.encoders.options import LoadOptions
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceTransformerEncoder:
    """A sentence-transformers model as an encoder.

    Attributes:
        space: The space of its latents.
        model: The sentence-transformers model.
    """

    def __init__(self, model: "SentenceTransformer", space: SpaceSpec) -> None:
        self.model = model
        self.space = space

    @classmethod
    def load(cls, options: LoadOptions) -> "SentenceTransformerEncoder":
        """Loads the model with its own modules.

        Raises:
            EncoderError: `normalize=False`, but the repo normalises.
        """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

        model = SentenceTransformer(
            options.name,
            revision=options.commit,
            device=str(options.device),
            token=options.token,
            trust_remote_code=options.trust_remote_code,
            model_kwargs={} if options.dtype is None else {"dtype": options.dtype},
        )
        modules = list(model)
        normalizes = any(isinstance(m, Normalize) for m in modules)
        if normalizes and options.normalize is False:
            raise EncoderError(
                f"{options.name!r} normalises its latents itself: pass pooling='mean' (or what it uses) "
                "to load it without its own modules, or leave normalize=None"
            )
        if options.normalize and not normalizes:
            model.append(Normalize())
        if options.max_length is not None:
            model.max_seq_length = options.max_length
        poolings = [m.pooling_mode for m in modules if isinstance(m, Pooling)]
        space = SpaceSpec(
            dim=int(model.get_embedding_dimension() or 0),
            repo_id=options.repo_id,
            revision=options.commit,
            modality="text",
            pooling="+".join(poolings) or None,
            normalize=bool(normalizes or options.normalize),
            max_length=model.max_seq_length,
        )
        return cls(model, space)

    def encode(
        self, items: Sequence[str], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of texts, in input order.

        Raises:
            InvalidPairsError: Not a list of strings.
        """
        texts = check_texts(items)
        if not texts:
            return torch.empty(0, self.space.dim)
        latents = self.model.encode(
            texts, batch_size=batch_size, show_progress_bar=progress, convert_to_tensor=True
        )
        # Tensors made in inference mode cannot take part in autograd; a clone can.
        return latents.clone()
