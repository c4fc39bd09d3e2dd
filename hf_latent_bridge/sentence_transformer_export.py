"""A translated encoder as a sentence-transformers model, for those who do not use this library."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hf_latent_bridge.composition import AnyTranslator, Step, check_meet, compose
from hf_latent_bridge.encoders.sentence_transformer import SentenceTransformerEncoder
from hf_latent_bridge.encoders.transformer import TransformerEncoder
from hf_latent_bridge.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}


def to_sentence_transformer(
    encoder: SentenceTransformerEncoder | TransformerEncoder,
    translator: AnyTranslator | Sequence[AnyTranslator],
) -> "SentenceTransformer":
    """Appends the translation to a text encoder, as a `Dense` module and norms where it has them.

    The result is an ordinary sentence-transformers model: `save_pretrained` or `push_to_hub` it,
    and `SentenceTransformer(...)` loads it where this library is not installed.

    Args:
        encoder: From `load_encoder`. Its model is shared with a sentence-transformers repo's
            encoder, and copied from a plain transformers one's.
        translator: A fitted translator, or a list of them to apply in a row.

    Raises:
        EncoderError: No text encoder from `load_encoder`.
        SpaceMismatchError: The translator's source is not the encoder.
        NotFittedError: The translator is not fitted.
    """
    from sentence_transformers import SentenceTransformer

    chain = compose(*translator) if isinstance(translator, Sequence) else compose(translator)
    if isinstance(encoder, SentenceTransformerEncoder):
        modules: list[nn.Module] = list(encoder.model)
    elif isinstance(encoder, TransformerEncoder):
        modules = list(_copy_modules(encoder))
    else:
        raise EncoderError(
            f"only a text encoder from load_encoder can be exported, got {type(encoder).__name__}"
        )
    check_meet(("encoder", encoder.space), ("translator", chain.source_))
    first = next(modules[0].parameters())
    for step in chain.steps:
        modules += [module.to(first) for module in _modules_of(step)]
    return SentenceTransformer(modules=modules, device=str(first.device))


def _modules_of(step: Step) -> Iterator[nn.Module]:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    if step.normalize_input:
        yield Normalize()
    d_source, d_target = step.map.weight.shape
    yield Dense(
        d_source,
        d_target,
        activation_function=nn.Identity(),
        init_weight=step.map.weight.mT.contiguous().float(),
        init_bias=step.map.bias.float(),
    )
    if step.normalize_output:
        yield Normalize()


def _copy_modules(encoder: TransformerEncoder) -> Iterator[nn.Module]:
    """The transformers model, its pooling and its norm, as sentence-transformers modules."""
    from sentence_transformers.sentence_transformer import modules

    with tempfile.TemporaryDirectory() as folder:
        encoder.model.save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
        options: dict[str, Any] = {"model_kwargs": {"dtype": encoder.model.dtype}}
        transformer = modules.Transformer(
            folder, max_seq_length=encoder.space.max_length, **options
        )
    yield transformer.to(torch.device(encoder.model.device))
    mode: Any = _POOLINGS[encoder.space.pooling or "mean"]
    yield modules.Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)
    if encoder.space.normalize:
        yield modules.Normalize()
