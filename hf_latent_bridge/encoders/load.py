"""Loads text encoders from the Hub, a folder, or as a `SpaceSpec` names them."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from hf_latent_bridge import hub
from hf_latent_bridge.encoders.options import LoadOptions
from hf_latent_bridge.encoders.sentence_transformer import SentenceTransformerEncoder
from hf_latent_bridge.encoders.transformer import POOLINGS, Pooling, TransformerEncoder
from hf_latent_bridge.errors import (
    EncoderError,
    HubUnavailableError,
    LatentBridgeError,
    SpaceMismatchError,
)
from hf_latent_bridge.spaces import SpaceSpec

TextEncoder = SentenceTransformerEncoder | TransformerEncoder


def load_encoder(
    repo_or_folder: str | Path | SpaceSpec,
    *,
    revision: str | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> TextEncoder:
    """Loads a text encoder from the Hub or a folder, or the very one that a `SpaceSpec` names.

    A repo with `modules.json` is loaded through sentence-transformers and keeps its own pooling;
    any other, or any with `pooling` given, through `AutoModel` and `AutoTokenizer`.

    Args:
        repo_or_folder: Repo id, folder, or a space such as `translator.source_`, which brings its
            own commit, pooling, norm and length, so that none of these may be given.
        revision: Branch, tag or commit; resolved to a commit once, which `space` records.
        pooling: "mean" (over real tokens), "cls" (first token) or "last" (last real token); None
            for the repo's own, or "mean" where it has none.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut inputs at this many tokens; None for the model's own limit.
        device: Where to run; None for a GPU if there is one.
        dtype: Floating dtype of the model; None for the saved one.
        token: Hub token; None for the one that is logged in.
        trust_remote_code: Run Python code that the repo brings. Off unless you say so.

    Raises:
        RepoNotFoundError: No such repo or revision.
        RepoAccessError: The repo is gated.
        HubUnavailableError: The Hub cannot be reached and nothing is cached.
        SpaceMismatchError: The repo does not give the space.
        EncoderError: The repo holds no usable text encoder.
        ValueError: An unknown `pooling`, or an option beside a space that brings its own.
    """
    if isinstance(repo_or_folder, SpaceSpec):
        if any(given is not None for given in (revision, pooling, normalize, max_length)):
            raise ValueError(
                "a space brings its own revision, pooling, normalize and max_length: "
                "leave them out, or pass its repo_id"
            )
        return _load_space(
            repo_or_folder,
            device=device,
            dtype=dtype,
            token=token,
            trust_remote_code=trust_remote_code,
        )
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {POOLINGS} or None, got {pooling!r}")
    local = Path(repo_or_folder).is_dir()
    name = str(repo_or_folder)
    commit = None if local else hub.resolve_commit(name, revision=revision, token=token)
    has_modules = hub.has_file(name, "modules.json", revision=commit, token=token)
    own_modules = has_modules and pooling is None
    options = LoadOptions(
        name=name,
        commit=commit,
        pooling=pooling or "mean",
        normalize=normalize,
        max_length=max_length,
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        dtype=dtype,
        token=token,
        trust_remote_code=trust_remote_code,
    )
    try:
        loader = SentenceTransformerEncoder if own_modules else TransformerEncoder
        return loader.load(options)
    except LatentBridgeError:
        raise
    except Exception as error:  # loaders raise anything, AssertionError and RuntimeError included
        raise _clear_error(name, error) from error


def _clear_error(name: str, error: BaseException) -> LatentBridgeError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return HubUnavailableError(f"{name!r} is not wholly cached and the Hub was not reached")
        cause = cause.__cause__ or cause.__context__
    return EncoderError(f"no text encoder could be loaded from {name!r}: {error}")


def _load_space(space: SpaceSpec, **options: Any) -> TextEncoder:
    if space.repo_id is None:
        raise EncoderError(f"the space names no repo to load an encoder from: {space}")
    options |= {
        "revision": space.revision,
        "normalize": space.normalize or None,
        "max_length": space.max_length,
    }
    encoder = load_encoder(space.repo_id, **options)
    if space.mismatches(encoder.space) and space.pooling in POOLINGS:
        encoder = load_encoder(space.repo_id, pooling=space.pooling, **options)
    mismatches = space.mismatches(encoder.space)
    if mismatches:
        raise SpaceMismatchError(
            f"{space.repo_id!r} does not give {space}: {'; '.join(mismatches)}"
        )
    return encoder
