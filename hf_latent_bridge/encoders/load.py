"""Loads the encoder of a repo or folder, of whatever modality."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

from hf_latent_bridge.autoencoder import POOLING as AUTOENCODER
from hf_latent_bridge.autoencoder import ConvEncoder
from hf_latent_bridge.devices import as_device, check_autocast
from hf_latent_bridge.encoders.classifier import POOLING as CLASSIFIER
from hf_latent_bridge.encoders.classifier import ClassifierEncoder
from hf_latent_bridge.encoders.dual import DualEncoder
from hf_latent_bridge.encoders.modality import MODALITIES, choose_modality, modalities_of
from hf_latent_bridge.encoders.model import ModelEncoder
from hf_latent_bridge.encoders.sentence import SentenceTransformerEncoder
from hf_latent_bridge.encoders.strict_load import LoadOptions
from hf_latent_bridge.errors import (
    EncoderError,
    LatentBridgeError,
    RepoNotFoundError,
    SpaceMismatchError,
)
from hf_latent_bridge.extras import require
from hf_latent_bridge.hub import client
from hf_latent_bridge.hub.waits import bounded_waits, patiently
from hf_latent_bridge.names import check_name
from hf_latent_bridge.spaces import SpaceSpec


def load_encoder(
    pretrained_model_name_or_path: str | Path | SpaceSpec,
    *,
    modality: str | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    autocast: torch.dtype | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
    **options: Unpack[client.HubOptions],
) -> ModelEncoder | ConvEncoder:
    """Loads an encoder from the Hub or a folder, or the very one that a `SpaceSpec` names.

    A repo with `modules.json` is loaded through sentence-transformers and keeps its own pooling;
    any other, or any with `pooling` given, through `AutoModel` and `AutoTokenizer` or
    `AutoImageProcessor`. Of a dual encoder such as CLIP, `modality` chooses the tower.

    Args:
        pretrained_model_name_or_path: Repo id, folder, or a space such as `translator.source_`,
            which brings its own commit, subfolder, modality, pooling, norm and length, so that
            none of these may be given.
        modality: "text", "image" or another registered one; None for the only one that the repo
            has.
        pooling: Of tokens "mean" (over real ones), "cls" (the first) or "last" (the last real
            one); of images "cls" (the class token), "mean" (over all positions) or "pooler" (the
            model's own); "classifier" for what a classifier's own head reads. None for the repo's
            own; where it has none, "mean" for texts and the first of "cls", "pooler" and "mean"
            that the model has for images.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut texts at this many tokens; None for the model's own limit, and for items
            that are not texts.
        device: Where to run; None for a GPU if there is one, under torchrun each process's own.
        dtype: Floating dtype of the model; None for the saved one.
        autocast: Take products in this dtype, such as `torch.bfloat16`; latents keep `dtype`.
        compile: Compile the model, which takes a minute at first use.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.
        options: `revision` (resolved to a commit once, which `space` records), `subfolder`,
            `token`, `cache_dir`, `force_download`, `local_files_only`, as transformers takes them.

    Raises:
        MissingExtraError: transformers or sentence-transformers is not installed.
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        SpaceMismatchError: The repo does not give the space.
        EncoderError: The repo holds no usable encoder, or two and no `modality` is given.
        NoTokensError: `max_length` is given for an encoder that cuts nothing by tokens.
        ValueError: An unknown `pooling`, or an option beside a space that brings its own.
    """
    require("encoders", "transformers", "sentence_transformers", purpose="load_encoder")
    where = as_device(device)
    check_autocast(autocast, where)
    running: dict[str, Any] = {"device": where, "dtype": dtype, "autocast": autocast}
    running |= {"compile": compile, "trust_remote_code": trust_remote_code}
    own: dict[str, Any] = {"modality": modality, "pooling": pooling}
    own |= {"normalize": normalize, "max_length": max_length}
    name = pretrained_model_name_or_path
    if not isinstance(name, SpaceSpec):
        check_name(name, wanted=client.REPO_OR_FOLDER)
        return _load(str(name), options, **own, **running)
    brought = {**own, "revision": options.get("revision"), "subfolder": options.get("subfolder")}
    if given := [key for key, value in brought.items() if value not in (None, "")]:
        raise ValueError(
            f"a space brings its own {', '.join(brought)}: leave {', '.join(given)} out, or pass "
            "its repo_id"
        )
    return _load_space(name, options, running)


def _load(name: str, hub: client.HubOptions, **others: Any) -> ModelEncoder:
    known = sorted({CLASSIFIER, *(p for m in MODALITIES.values() for p in m.poolings)})
    if others["pooling"] not in (None, *known):
        raise ValueError(f"pooling must be one of {known} or None, got {others['pooling']!r}")
    options = LoadOptions(**_located(name, hub), **others)
    try:
        return _load_whole(options)
    except EncoderError:
        if options.commit is None or not client.mend(name, options.commit, **options.hub):
            raise
        return _load_whole(options)


def _load_whole(options: LoadOptions) -> ModelEncoder:
    """Loads with no file left out: again where the Hub was busy, if the loader minded or not."""

    def attempt() -> ModelEncoder:
        with bounded_waits() as watch:
            try:
                encoder = _loader(options)
            except Exception as error:
                if (cause := client.busy_cause(error)) is not None:
                    raise cause from error
                if client.clear_cause(error, options.name) is None:
                    watch.require_answers()  # loaders hide that a file could not be fetched
                raise
            watch.require_answers()
        return encoder

    try:
        with client.naming(options.name):
            return patiently(attempt)
    except LatentBridgeError:
        raise
    except Exception as error:  # loaders raise anything, AssertionError and RuntimeError included
        clear = client.clear_cause(error, options.name, revision=options.commit)
        raise clear or EncoderError(
            f"no encoder could be loaded from {options.name!r}: {error}"
        ) from error


def _located(name: str, hub: client.HubOptions) -> dict[str, Any]:
    """Name, commit and how to look for files: of a folder the subfolder, of a repo the commit."""
    subfolder, revision = client.clean_subfolder(hub.get("subfolder")), hub.get("revision")
    if Path(name).is_dir():
        if revision is not None:
            raise client.folder_without_revisions(name, revision)
        folder = Path(name) / subfolder
        if not folder.is_dir():
            raise RepoNotFoundError(f"{name} has no folder {subfolder!r}")
        return {"name": str(folder), "commit": None, "hub": {}}
    looked: dict[str, Any] = {"token": hub.get("token"), "cache_dir": hub.get("cache_dir")}
    looked["local_files_only"] = hub.get("local_files_only", False)
    commit, reached = client.resolve(name, revision=revision, **looked)
    looked["local_files_only"] = not reached
    looked["force_download"] = reached and hub.get("force_download", False)
    return {"name": name, "commit": commit, "hub": {**looked, "subfolder": subfolder}}


def _loader(options: LoadOptions) -> ModelEncoder:
    """Loads with the library that the repo's files are made for."""
    from transformers import AutoConfig

    if options.pooling == CLASSIFIER:
        return ClassifierEncoder.load(options)
    if options.pooling is None and options.has_file("modules.json"):
        return SentenceTransformerEncoder.load(options)
    config = AutoConfig.from_pretrained(options.name, **options.common)
    has, by_tower = modalities_of(options, config)
    modality = choose_modality(options, has)
    options = replace(options, modality=modality.name)
    if by_tower:
        return DualEncoder.load(options)
    if options.pooling not in (None, *modality.poolings):
        raise EncoderError(
            f"pooling of {modality.name}s must be one of {modality.poolings}, "
            f"got {options.pooling!r}"
        )
    return modality.load(options)


def _load_space(
    space: SpaceSpec, hub: client.HubOptions, running: dict[str, Any]
) -> ModelEncoder | ConvEncoder:
    if space.repo_id is None:
        raise EncoderError(f"the space names no repo to load an encoder from: {space}")
    if Path(space.repo_id).is_dir():  # a space names a repo, never a folder
        raise client.folder_without_revisions(space.repo_id, space.revision or "main")
    hub = {**hub, "revision": space.revision, "subfolder": space.subfolder or ""}
    if space.pooling == AUTOENCODER:
        encoder: ModelEncoder | ConvEncoder = _load_conv(space.repo_id, hub, running)
    else:
        encoder = _load_model(space, space.repo_id, hub, running)
    mismatches = space.mismatches(encoder.space)
    if mismatches:
        raise SpaceMismatchError(
            f"{space.repo_id!r} does not give {space}: {'; '.join(mismatches)}"
        )
    return encoder


def _load_model(
    space: SpaceSpec, repo_id: str, hub: client.HubOptions, running: dict[str, Any]
) -> ModelEncoder:
    options = {**running, "modality": space.modality, "max_length": space.max_length}
    options["normalize"] = space.normalize or None
    if space.pooling == CLASSIFIER:
        return _load(repo_id, hub, pooling=CLASSIFIER, **options)
    encoder = _load(repo_id, hub, pooling=None, **options)
    poolings = {pooling for modality in MODALITIES.values() for pooling in modality.poolings}
    if space.mismatches(encoder.space) and space.pooling in poolings:
        encoder = _load(repo_id, hub, pooling=space.pooling, **options)
    return encoder


def _load_conv(repo_id: str, hub: client.HubOptions, running: dict[str, Any]) -> ConvEncoder:
    if given := [name for name in ("dtype", "autocast", "compile") if running[name]]:
        raise EncoderError(
            f"the encoder half of an autoencoder takes no {', '.join(given)}: leave them out"
        )
    return ConvEncoder.from_pretrained(repo_id, device=running["device"], **hub)
