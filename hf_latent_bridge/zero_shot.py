"""Classification without labelled data: items meet label sentences in one space."""

from collections.abc import Sequence

from hf_latent_bridge.composition import AnyTranslator
from hf_latent_bridge.decoders import LabelDecoder
from hf_latent_bridge.decoders.labels import check_labels
from hf_latent_bridge.encoders import EncoderLike, encode, space_of
from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.stitching import StitchedModel, TranslatorLike, stitch


def zero_shot(
    encoder: EncoderLike,
    translator: TranslatorLike | Sequence[AnyTranslator] | None,
    text_encoder: EncoderLike,
    labels: Sequence[str],
    *,
    template: str = "{}",
    allow_mismatch: bool = False,
) -> StitchedModel:
    """A classifier of whatever `encoder` encodes, from nothing but the names of the classes.

    Args:
        encoder: Encodes the items, such as images.
        translator: Carries its latents into the text encoder's space, as `stitch` takes it.
        text_encoder: Encodes the label sentences.
        labels: Names of the classes, distinct texts.
        template: The sentence for a label, such as "a photo of a {}".
        allow_mismatch: Accept parts whose spaces do not meet.

    Returns:
        A model that ranks the labels by cosine; push its decoder, and it can be pushed itself.

    Raises:
        DecoderError: A template without {}, no labels, or some that are equal or no texts.
        SpaceMismatchError: The spaces do not meet.
    """
    if "{}" not in template:
        raise DecoderError(f"template must hold {{}} where the label goes, got {template!r}")
    names = check_labels(labels)
    vectors = encode(text_encoder, [template.replace("{}", name) for name in names])
    decoder = LabelDecoder(vectors, names, space_of(text_encoder, vectors.shape[1]))
    return stitch(encoder, translator, decoder, allow_mismatch=allow_mismatch)
