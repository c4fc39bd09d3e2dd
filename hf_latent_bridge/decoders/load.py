"""Loads the decoder of a repo or folder, whatever it decodes to."""

from pathlib import Path
from typing import Any, NamedTuple, Unpack, cast

import torch
from torch import nn

from hf_latent_bridge.autoencoder import ConvDecoder
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.index import LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.encoders.classifier import POOLING as CLASSIFIER
from hf_latent_bridge.encoders.classifier import ClassifierEncoder
from hf_latent_bridge.encoders.load import load_encoder
from hf_latent_bridge.errors import DecoderError, EncoderError
from hf_latent_bridge.files import CONFIG_NAME
from hf_latent_bridge.hub.client import HubOptions, fetch


class SplitClassifier(NamedTuple):
    """Both halves of a classification model; `head(encoder.encode(items))` is what it answers.

    Attributes:
        encoder: From items to latents.
        head: From latents to labels.
    """

    encoder: ClassifierEncoder
    head: Head


def split_classifier(
    pretrained_model_name_or_path: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
    **options: Unpack[HubOptions],
) -> SplitClassifier:
    """Splits a transformers classifier, such as one of texts or images, into encoder and head.

    The split is checked on two items: the head gives the model's own logits for their latents.

    Args:
        pretrained_model_name_or_path: Repo id or folder.
        device: Where to run; None for a GPU if there is one.
        dtype: Floating dtype of the model; None for the saved one.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.
        options: `revision` (resolved to a commit once, which `space` records), `subfolder`,
            `token`, `cache_dir`, `force_download`, `local_files_only`, as transformers takes them.

    Raises:
        MissingExtraError: transformers or sentence-transformers is not installed.
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: No classifier, one without a single linear head, or with random weights.
    """
    name = pretrained_model_name_or_path
    try:
        encoder = load_encoder(
            name,
            pooling=CLASSIFIER,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            **options,
        )
    except EncoderError as error:
        raise DecoderError(f"{str(name)!r} cannot be split: {error}") from error
    split = cast("ClassifierEncoder", encoder)
    return SplitClassifier(split, _head(split))


def _head(encoder: ClassifierEncoder) -> Head:
    linear, config = encoder.head, encoder.model.config
    names: Any = config.id2label
    if linear.bias is None:
        linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
    labels = [str(names[number]) for number in range(linear.out_features)]
    problem_type = config.problem_type or "single_label_classification"
    head = Head(nn.Sequential(linear), labels, encoder.space, problem_type)
    if encoder.space.repo_id is not None:
        head._came_from(
            encoder.space.repo_id, encoder.space.revision, encoder.space.subfolder or ""
        )
    return head


PublishedDecoder = Head | LatentIndex | LabelDecoder | ConvDecoder
DECODERS: dict[str, type[PublishedDecoder]] = {
    kind.kind: kind for kind in (Head, LatentIndex, LabelDecoder, ConvDecoder)
}


def load_decoder(
    pretrained_model_name_or_path: str | Path,
    *,
    device: torch.device | str | None = None,
    trust_remote_code: bool = False,
    **options: Unpack[HubOptions],
) -> PublishedDecoder:
    """Loads a decoder that this library published, or the head of a transformers classifier.

    Args:
        pretrained_model_name_or_path: Repo id or folder.
        device: Where to put its tensors; None for a GPU if there is one. An index that does not fit
            there needs "cpu".
        trust_remote_code: Run Python code that a classifier's repo brings. Off unless you say so.
        options: `revision` (resolved to a commit once), `subfolder`, `token`, `cache_dir`,
            `force_download`, `local_files_only`, as huggingface_hub takes them.

    Raises:
        RepoNotFoundError: No such repo, revision or file.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: The repo holds no decoder, or a classifier that cannot be split.
        ConfigError: The config is not what a decoder's must be.
        WeightsError: The weights are not exactly what the config describes.
    """
    name = pretrained_model_name_or_path
    found = fetch(name, (CONFIG_NAME,), **options)
    config = found.config
    if found.commit is not None:
        options["revision"] = found.commit
    if "decoder_type" in config:
        return _class_of(config["decoder_type"]).from_pretrained(name, device=device, **options)
    if _is_classifier(config.get("architectures")):
        trusted = trust_remote_code
        return split_classifier(name, device=device, trust_remote_code=trusted, **options).head
    raise DecoderError(
        f"{str(name)!r} holds no decoder: a decoder's config.json has a decoder_type, or "
        f"architectures that end in Classification; it states {_describe(config)}"
    )


def _is_classifier(architectures: Any) -> bool:
    return isinstance(architectures, list) and any(
        str(name).endswith("Classification") for name in architectures[:1]
    )


def _class_of(decoder_type: Any) -> type[PublishedDecoder]:
    if not isinstance(decoder_type, str) or decoder_type not in DECODERS:
        raise DecoderError(
            f"unknown decoder_type {decoder_type!r}: this library knows {sorted(DECODERS)}"
        )
    return DECODERS[decoder_type]


def _describe(config: dict[str, Any]) -> str:
    known = {k: v for k, v in config.items() if k.endswith("_type") or k == "architectures"}
    return ", ".join(f"{k} {v!r}" for k, v in known.items()) or "neither"
