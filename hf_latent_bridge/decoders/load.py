"""Loads the decoder of a repo or folder, whatever it decodes to."""

from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from torch import nn

from hf_latent_bridge.autoencoder import ConvDecoder
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.index import LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.encoders.classifier import ClassifierEncoder, modality_of
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
    repo_or_folder: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> SplitClassifier:
    """Splits a transformers sequence or image classifier into encoder and head.

    The split is proven on a dry run: the head gives the model's own logits for the latents.

    Args:
        repo_or_folder: Repo id or folder.
        revision: Branch, tag or commit; resolved to a commit once, which `space` records.
        token: Hub token; None for the one that is logged in.
        device: Where to run; None for a GPU if there is one.
        dtype: Floating dtype of the model; None for the saved one.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.

    Raises:
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: No classifier, one without a single linear head, or with random weights.
    """
    try:
        encoder = load_encoder(
            repo_or_folder,
            pooling="classifier",
            revision=revision,
            token=token,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
    except EncoderError as error:
        raise DecoderError(f"{str(repo_or_folder)!r} cannot be split: {error}") from error
    assert isinstance(encoder, ClassifierEncoder)
    return SplitClassifier(encoder, _head(encoder))


def _head(encoder: ClassifierEncoder) -> Head:
    linear, config = encoder.head, encoder.model.config
    names: Any = config.id2label
    if linear.bias is None:
        linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
    labels = [str(names[number]) for number in range(linear.out_features)]
    problem_type = config.problem_type or "single_label_classification"
    head = Head(nn.Sequential(linear), labels, encoder.space, problem_type)
    if encoder.space.repo_id is not None:
        head._came_from(encoder.space.repo_id, encoder.space.revision)
    return head


PublishedDecoder = Head | LatentIndex | LabelDecoder | ConvDecoder
DECODERS: dict[str, type[PublishedDecoder]] = {
    kind.kind: kind for kind in (Head, LatentIndex, LabelDecoder, ConvDecoder)
}


def load_decoder(
    repo_or_folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    **options: Unpack[HubOptions],
) -> PublishedDecoder:
    """Loads a decoder that this library published, or the head of a transformers classifier.

    Args:
        repo_or_folder: Repo id or folder.
        device: Where to put its tensors.
        trust_remote_code: Run Python code that a classifier's repo brings. Off unless you say so.
        options: `revision` (resolved to a commit once), `subfolder`, `token`, `cache_dir`,
            `force_download`, `local_files_only`, as huggingface_hub takes them; classifiers are
            kept where transformers keeps its downloads.

    Raises:
        RepoNotFoundError: No such repo, revision or file.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: The repo holds no decoder, or a classifier that cannot be split.
        ConfigError: The config is not what a decoder's must be.
        WeightsError: The weights are not exactly what the config describes.
    """
    found = fetch(repo_or_folder, (CONFIG_NAME,), **options)
    config = found.config
    if found.commit is not None:
        options["revision"] = found.commit
    if "decoder_type" in config:
        decoder = _class_of(config["decoder_type"])
        return decoder.from_pretrained(repo_or_folder, device=device, **options)
    if modality_of(config.get("architectures")) is not None:
        if options.get("subfolder"):
            raise DecoderError(
                "a classifier is loaded from the root of its repo: leave subfolder out, got "
                f"{options['subfolder']!r}"
            )
        return split_classifier(
            repo_or_folder,
            revision=found.commit,
            token=options.get("token"),
            device=device,
            trust_remote_code=trust_remote_code,
        ).head
    raise DecoderError(
        f"{str(repo_or_folder)!r} holds no decoder: a decoder's config.json has a decoder_type, or "
        f"architectures that end in Classification; it states {_describe(config)}"
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
