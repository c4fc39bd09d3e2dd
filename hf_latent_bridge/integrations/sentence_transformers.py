"""A translated encoder as a sentence-transformers model, for those who do not use this library."""

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hf_latent_bridge.encoders.base import Encoder
from hf_latent_bridge.encoders.dual import DualEncoder
from hf_latent_bridge.encoders.sentence import SentenceTransformerEncoder
from hf_latent_bridge.encoders.strict_load import quiet_load
from hf_latent_bridge.encoders.text import TransformerEncoder
from hf_latent_bridge.errors import EncoderError
from hf_latent_bridge.extras import require
from hf_latent_bridge.spaces import check_meet
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.composed import ComposedTranslator, compose
from hf_latent_bridge.translators.latent_map import LatentMap, Map

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


_POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken"}


def to_sentence_transformer(
    encoder: Encoder,
    translator: Translator | Sequence[Translator],
) -> "SentenceTransformer":
    """Appends the translation to a text encoder, as a `Dense` module and norms where it has them.

    The result is an ordinary sentence-transformers model: `save_pretrained` or `push_to_hub` it,
    and `SentenceTransformer(...)` loads it where this library is not installed.

    Args:
        encoder: From `load_encoder`. Its model is shared with a sentence-transformers repo's
            encoder, and copied from a plain transformers one's.
        translator: A fitted translator, or a list of them to apply in a row.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        EncoderError: No text encoder from `load_encoder`, one tower of a dual encoder, or one
            that sentence-transformers reads differently.
        SpaceMismatchError: The translator's source is not the encoder.
        NotFittedError: The translator is not fitted.
    """
    require("encoders", "sentence_transformers", "transformers", purpose="to_sentence_transformer")
    from sentence_transformers import SentenceTransformer

    chain = compose(*translator) if isinstance(translator, Sequence) else compose(translator)
    if not isinstance(encoder, SentenceTransformerEncoder | TransformerEncoder):
        raise _refusal(f"got {_describe(encoder)}")
    check_meet(("encoder", encoder.space), ("translator", chain.source_))
    options: dict[str, Any] = {}
    if isinstance(encoder, SentenceTransformerEncoder):
        _refuse_other_modalities(encoder)
        modules: list[nn.Module] = list(encoder.model)
        options["prompts"] = encoder.model.prompts
        options["default_prompt_name"] = encoder.model.default_prompt_name
    else:
        modules = list(_copy_modules(encoder))
    first = next(modules[0].parameters())
    for step in chain.map_.steps:
        modules += [module.to(first) for module in _modules_of(step)]
    model = SentenceTransformer(modules=modules, device=str(first.device), **options)
    _check_same(model, encoder, chain)
    return model


def _refuse_other_modalities(encoder: SentenceTransformerEncoder) -> None:
    # a message is a chat of texts, or of whatever else is listed
    others = {str(name) for name in encoder.model.modalities} - {"text", "message"}
    if others:
        raise _refusal(
            f"the model of {encoder.space} also reads {' and '.join(sorted(others))}, "
            "and all that it reads would be translated"
        )


def _describe(encoder: object) -> str:
    if isinstance(encoder, DualEncoder):
        return f"the {encoder.space.modality} tower of a dual encoder, {encoder.space}"
    name = type(encoder).__name__
    return f"{name} of {encoder.space}" if isinstance(encoder, Encoder) else name


def _refusal(reason: str) -> EncoderError:
    return EncoderError(
        "only an encoder of texts alone, as load_encoder gives it with the repo's own, mean, cls "
        f"or last pooling, becomes a sentence-transformers model: {reason}"
    )


def _check_same(
    model: "SentenceTransformer",
    encoder: SentenceTransformerEncoder | TransformerEncoder,
    translator: ComposedTranslator,
) -> None:
    """Checks on two texts that the export gives the same vectors."""
    texts = ["a", "one sentence, and another one"]
    expected = translator.transform(encoder.encode(texts)).float()
    got = model.encode(texts, convert_to_tensor=True, show_progress_bar=False).float()
    precision = torch.finfo(encoder.autocast or encoder.dtype).eps ** 0.5
    if not torch.allclose(got, expected, rtol=0, atol=precision * float(expected.abs().max())):
        raise EncoderError(
            f"{encoder.space} cannot be exported: sentence-transformers gives other vectors for it"
        )


def _modules_of(step: Map) -> Iterator[nn.Module]:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    if not isinstance(step, LatentMap):
        raise EncoderError(
            f"sentence-transformers has no module for a {type(step).__name__}: only translators "
            "that are affine maps can be exported"
        )
    if step.norms_source:
        yield Normalize()
    yield Dense(
        step.source_dim,
        step.target_dim,
        activation_function=nn.Identity(),
        init_weight=step.weight.mT.contiguous().float(),
        init_bias=step.bias.float(),
    )
    if step.norms_target:
        yield Normalize()


def _copy_modules(encoder: TransformerEncoder) -> Iterator[nn.Module]:
    """The transformers model, its pooling and its norm, as sentence-transformers modules."""
    from sentence_transformers.sentence_transformer import modules

    with tempfile.TemporaryDirectory() as folder:
        encoder.model.save_pretrained(folder)
        encoder.preparer.tool.save_pretrained(folder)
        options: dict[str, Any] = {"model_kwargs": {"dtype": encoder.model.dtype}}
        with quiet_load(str(encoder.space)):
            transformer = modules.Transformer(
                folder, max_seq_length=encoder.space.max_length, **options
            )
    yield transformer.to(torch.device(encoder.model.device))
    mode: Any = _POOLINGS[encoder.space.pooling or "mean"]
    yield modules.Pooling(transformer.get_embedding_dimension(), pooling_mode=mode)
    if encoder.space.normalize:
        yield modules.Normalize()
