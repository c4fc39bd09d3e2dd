"""Text encoders that are sentence-transformers repos, with their own pooling."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from hf_latent_bridge.encoders.base import check_texts
from hf_latent_bridge.encoders.loading import check_vocabulary, quiet_load, token_limit
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
        """Loads the model with its own modules, and tries it on a text.

        Raises:
            EncoderError: No vocabulary, missing weights, `max_length` beyond the model's, or
                `normalize=False`, but the repo normalises.
        """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize

        with quiet_load(options.name):
            model = SentenceTransformer(
                options.name,
                revision=options.commit,
                device=str(options.device),
                token=options.token,
                trust_remote_code=options.trust_remote_code,
                model_kwargs={} if options.dtype is None else {"dtype": options.dtype},
            )
        normalizes = isinstance(model[-1], Normalize)
        if normalizes and options.normalize is False:
            raise EncoderError(
                f"{options.name!r} normalises its latents itself: pass pooling='mean' (or what it "
                "uses) to load it without its own modules, or leave normalize=None"
            )
        max_length = _limit_tokens(model, options)
        pooling = _pooling_of(model)
        if options.normalize and not normalizes:
            model.append(Normalize())
        space = SpaceSpec(
            dim=model.encode(["a"], show_progress_bar=False).shape[1],
            repo_id=options.repo_id,
            revision=options.commit,
            modality="text",
            pooling=pooling,
            normalize=bool(normalizes or options.normalize),
            max_length=max_length,
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
        latents = self.model.encode(
            texts or ["a"],
            batch_size=batch_size,
            show_progress_bar=progress,
            convert_to_tensor=True,
        )
        # Tensors made in inference mode cannot take part in autograd; a clone can.
        return latents[: len(texts)].clone()


def _limit_tokens(model: "SentenceTransformer", options: LoadOptions) -> int | None:
    from transformers import PreTrainedTokenizerBase

    tokenizer = model.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None
    check_vocabulary(options.name, tokenizer)
    config = getattr(model.transformers_model, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    limit = token_limit(options.name, tokenizer, options.max_length, positions)
    tokenizer.model_max_length = limit or tokenizer.model_max_length
    return limit


def _pooling_of(model: "SentenceTransformer") -> str | None:
    """What follows the token states, such as "mean" or "mean+dense"; None for no pooling."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    names = [
        module.pooling_mode if isinstance(module, Pooling) else type(module).__name__.lower()
        for module in list(model)[1:]
        if not isinstance(module, Normalize)
    ]
    return "+".join(names) or None
