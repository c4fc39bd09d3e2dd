"""Loads the encoder of a repo or folder, whatever it encodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from hf_latent_bridge.autoencoder import POOLING as AUTOENCODER
from hf_latent_bridge.autoencoder import ConvEncoder
from hf_latent_bridge.devices import as_device, check_autocast
from hf_latent_bridge.encoders.base import (
    LoadOptions,
    choose_modality,
)
from hf_latent_bridge.encoders.classifier import POOLING as CLASSIFIER
from hf_latent_bridge.encoders.classifier import ClassifierEncoder
from hf_latent_bridge.encoders.dual import DualEncoder
from hf_latent_bridge.encoders.image import IMAGE_POOLINGS, ImageEncoder
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.text import (
    TEXT_POOLINGS,
    SentenceTransformerEncoder,
    TransformerEncoder,
)
from hf_latent_bridge.errors import (
    EncoderError,
    HubUnavailableError,
    LatentBridgeError,
    SpaceMismatchError,
)
from hf_latent_bridge.extras import require
from hf_latent_bridge.hub import client
from hf_latent_bridge.spaces import SpaceSpec

Modality = Literal["text", "image"]
Pooling = Literal["mean", "cls", "last", "pooler", "classifier"]
_POOLINGS = {"text": TEXT_POOLINGS, "image": IMAGE_POOLINGS}
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def load_encoder(
    repo_or_folder: str | Path | SpaceSpec,
    *,
    revision: str | None = None,
    modality: Modality | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    autocast: torch.dtype | None = None,
    compile: bool = False,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> ModelEncoder | ConvEncoder:
    """Loads an encoder from the Hub or a folder, or the very one that a `SpaceSpec` names.

    A repo with `modules.json` is loaded through sentence-transformers and keeps its own pooling;
    any other, or any with `pooling` given, through `AutoModel` and `AutoTokenizer` or
    `AutoImageProcessor`. Of a dual encoder such as CLIP, `modality` chooses the tower.

    Args:
        repo_or_folder: Repo id, folder, or a space such as `translator.source_`, which brings its
            own commit, modality, pooling, norm and length, so that none of these may be given.
        revision: Branch, tag or commit; resolved to a commit once, which `space` records.
        modality: "text" or "image"; None for the only one that the repo has.
        pooling: Of tokens "mean" (over real ones), "cls" (the first) or "last" (the last real
            one); of images "cls" (the class token), "mean" (over all positions) or "pooler" (the
            model's own); "classifier" for what a classifier's own head reads. None for the repo's
            own; where it has none, "mean" for texts and the first of "cls", "pooler" and "mean"
            that the model has for images.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut texts at this many tokens; None for the model's own limit.
        device: Where to run; None for a GPU if there is one, under torchrun each process's own.
        dtype: Floating dtype of the model; None for the saved one.
        autocast: Take products in this dtype, such as `torch.bfloat16`; latents keep `dtype`.
        compile: Compile the model, which takes a minute at first use.
        token: Hub token; None for the one that is logged in.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.

    Raises:
        MissingExtraError: transformers or sentence-transformers is not installed.
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        SpaceMismatchError: The repo does not give the space.
        EncoderError: The repo holds no usable encoder, or two and no `modality` is given.
        ValueError: An unknown `pooling`, or an option beside a space that brings its own.
    """
    require("encoders", "transformers", "sentence_transformers", purpose="load_encoder")
    place = as_device(device)
    check_autocast(autocast, place)
    running: dict[str, Any] = {"device": place, "dtype": dtype, "autocast": autocast}
    running |= {"compile": compile, "token": token, "trust_remote_code": trust_remote_code}
    own: dict[str, Any] = {"revision": revision, "modality": modality, "pooling": pooling}
    own |= {"normalize": normalize, "max_length": max_length}
    if not isinstance(repo_or_folder, SpaceSpec):
        client.check_name(repo_or_folder, wanted=client.REPO_OR_FOLDER)
        return _load(str(repo_or_folder), **own, **running)
    if given := [name for name, value in own.items() if value is not None]:
        raise ValueError(
            f"a space brings its own {', '.join(own)}: leave {', '.join(given)} out, or pass its "
            "repo_id"
        )
    return _load_space(repo_or_folder, running)


def _load(
    name: str, *, revision: str | None, token: str | bool | None, **others: Any
) -> ModelEncoder:
    known = sorted({CLASSIFIER, *TEXT_POOLINGS, *IMAGE_POOLINGS})
    if others["pooling"] not in (None, *known):
        raise ValueError(f"pooling must be one of {known} or None, got {others['pooling']!r}")
    commit = None
    if not Path(name).is_dir():
        commit = client.resolve_commit(name, revision=revision, token=token)
    elif revision is not None:
        raise client.folder_without_revisions(name, revision)
    options = LoadOptions(name=name, commit=commit, token=token, **others)
    try:
        with client.bounded_waits():
            return _loader(options)
    except LatentBridgeError:
        raise
    except Exception as error:  # loaders raise anything, AssertionError and RuntimeError included
        raise _clear_error(options, error) from error


def _loader(options: LoadOptions) -> ModelEncoder:
    """Loads by way of the library that the repo's files are for."""
    if options.pooling == CLASSIFIER:
        return ClassifierEncoder.load(options)
    if options.pooling is None and _has(options, "modules.json"):
        return SentenceTransformerEncoder.load(options)
    towers, options = _towers(options)
    if len(towers) > 1:
        return DualEncoder.load(options)
    if options.pooling not in (None, *_POOLINGS[str(options.modality)]):
        raise EncoderError(
            f"pooling of {options.modality}s must be one of {_POOLINGS[str(options.modality)]}, "
            f"got {options.pooling!r}"
        )
    return (TransformerEncoder if options.modality == "text" else ImageEncoder).load(options)


def _towers(options: LoadOptions) -> tuple[set[str], LoadOptions]:
    """What a transformers repo can encode, and the options with one of it chosen."""
    from transformers import AutoConfig

    of_images = any(_has(options, file) for file in _PROCESSORS)
    config = AutoConfig.from_pretrained(options.name, **options.common)
    if {"text_config", "vision_config"} <= config.sub_configs.keys():
        has = {"text", "image"}
    else:
        has = {"image"} if of_images else {"text"}
    modality = choose_modality(options.name, options.modality, has)
    return has, replace(options, modality=modality)


def _has(options: LoadOptions, file: str) -> bool:
    return client.has_file(options.name, file, revision=options.commit, token=options.token)


def _clear_error(options: LoadOptions, error: BaseException) -> LatentBridgeError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return HubUnavailableError(
                f"{options.name!r} is not wholly cached and the Hub was not reached"
            )
        cause = cause.__cause__ or cause.__context__
    return EncoderError(f"no encoder could be loaded from {options.name!r}: {error}")


def _load_space(space: SpaceSpec, running: dict[str, Any]) -> ModelEncoder | ConvEncoder:
    if space.repo_id is None:
        raise EncoderError(f"the space names no repo to load an encoder from: {space}")
    if Path(space.repo_id).is_dir():  # spaces name repos alone
        raise client.folder_without_revisions(space.repo_id, space.revision or "main")
    if space.pooling == AUTOENCODER:
        encoder: ModelEncoder | ConvEncoder = _load_conv(space, running)
    else:
        encoder = _load_model(space, space.repo_id, running)
    mismatches = space.mismatches(encoder.space)
    if mismatches:
        raise SpaceMismatchError(
            f"{space.repo_id!r} does not give {space}: {'; '.join(mismatches)}"
        )
    return encoder


def _load_model(space: SpaceSpec, repo_id: str, running: dict[str, Any]) -> ModelEncoder:
    options = running | {
        "revision": space.revision,
        "modality": space.modality,
        "normalize": space.normalize or None,
        "max_length": space.max_length,
    }
    if space.pooling == CLASSIFIER:
        return _load(repo_id, pooling=CLASSIFIER, **options)
    encoder = _load(repo_id, pooling=None, **options)
    if space.mismatches(encoder.space) and space.pooling in {*TEXT_POOLINGS, *IMAGE_POOLINGS}:
        encoder = _load(repo_id, pooling=space.pooling, **options)
    return encoder


def _load_conv(space: SpaceSpec, running: dict[str, Any]) -> ConvEncoder:
    if given := [name for name in ("dtype", "autocast", "compile") if running[name]]:
        raise EncoderError(
            f"the encoder half of an autoencoder takes no {', '.join(given)}: leave them out"
        )
    return ConvEncoder.from_pretrained(
        str(space.repo_id),
        revision=space.revision,
        token=running["token"],
        device=running["device"],
    )
