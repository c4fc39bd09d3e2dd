"""Loads whatever decoder a repo or folder holds."""

from pathlib import Path
from typing import Any

import torch

from hf_latent_bridge.decoders.autoencoder import ConvDecoder
from hf_latent_bridge.decoders.classifier import is_classifier, split_classifier
from hf_latent_bridge.decoders.head import Head
from hf_latent_bridge.decoders.index import LatentIndex
from hf_latent_bridge.decoders.labels import LabelDecoder
from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.published import fetch_files
from hf_latent_bridge.serialization import CONFIG_NAME, read_config

PublishedDecoder = Head | LatentIndex | LabelDecoder | ConvDecoder
DECODERS: dict[str, type[PublishedDecoder]] = {
    kind.kind: kind for kind in (Head, LatentIndex, LabelDecoder, ConvDecoder)
}


def load_decoder(
    repo_or_folder: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
) -> PublishedDecoder:
    """Loads a decoder that this library published, or the head of a transformers classifier.

    Args:
        repo_or_folder: Repo id or folder.
        revision: Branch, tag or commit; resolved to a commit once.
        token: Hub token; None for the one that is logged in.
        cache_dir: Where downloads of published decoders are kept.
        device: Where to put its tensors.
        trust_remote_code: Run Python code that a classifier's repo brings. Off unless you say so.

    Raises:
        RepoNotFoundError: No such repo, revision or file.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        DecoderError: The repo holds no decoder, or a classifier that cannot be split.
        ConfigError: The config is not what a decoder's must be.
        WeightsError: The weights are not exactly what the config describes.
    """
    where: dict[str, Any] = {"token": token, "cache_dir": cache_dir}
    found = fetch_files(repo_or_folder, (CONFIG_NAME,), revision=revision, **where)
    config = read_config(found.paths[CONFIG_NAME])
    pinned = revision if found.commit is None else found.commit
    if "decoder_type" in config:
        decoder = _class_of(config["decoder_type"])
        return decoder.from_pretrained(repo_or_folder, revision=pinned, device=device, **where)
    if is_classifier(config):
        return split_classifier(
            repo_or_folder,
            revision=pinned,
            token=token,
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
