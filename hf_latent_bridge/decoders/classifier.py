"""Both halves of a classification model on the Hub: its encoder, and its head as a decoder."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.encoders import load_encoder
from hf_latent_bridge.encoders.classifier import ClassifierEncoder
from hf_latent_bridge.errors import DecoderError, EncoderError


class Split(NamedTuple):
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
) -> Split:
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
    return Split(encoder, _head(encoder))


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
