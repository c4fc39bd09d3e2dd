"""Moves a config and tensors between memory, folders and Hub repos; knows no translator."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2
import safetensors
import safetensors.torch
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    HfApi,
    hf_hub_download,
    resolve_revision,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from torch import Tensor

from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import (
    ConfigError,
    HubUnavailableError,
    RepoAccessError,
    RepoNotFoundError,
    WeightsError,
)
from hf_latent_bridge.files import write_atomic

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
LIBRARY_NAME = "hf-latent-bridge"


@dataclass(frozen=True)
class RepoFiles:
    """The two files of a translator repo, both of one commit.

    Attributes:
        config: Parsed `config.json`.
        weights: Path of `model.safetensors`.
        commit: The commit they were downloaded at; None for a folder.
    """

    config: dict[str, Any]
    weights: Path
    commit: str | None


def fetch(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> RepoFiles:
    """Finds config and weights in a folder or downloads both at one resolved commit.

    Raises:
        RepoNotFoundError: No such folder, repo, revision or file.
        RepoAccessError: The repo is gated for this token.
        HubUnavailableError: The Hub cannot be reached and the files are not cached.
        ConfigError: `config.json` is not a JSON object.
    """
    _check_subfolder(subfolder)
    folder = Path(name_or_path)
    if folder.is_dir():
        return _fetch_local(folder / subfolder)
    repo_id = str(name_or_path)
    with _clear_errors(repo_id, revision):
        resolved = resolve_commit(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        config, weights = (
            hf_hub_download(
                repo_id,
                name,
                subfolder=subfolder or None,
                revision=resolved,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                library_name=LIBRARY_NAME,
                library_version=__version__,
            )
            for name in (CONFIG_NAME, WEIGHTS_NAME)
        )
    return RepoFiles(_read_json(Path(config)), Path(weights), resolved)


def resolve_commit(
    repo_id: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> str:
    """The commit that a branch, tag or PR of a repo points to now (or in the cache, offline).

    Raises:
        RepoNotFoundError: No such repo or revision.
        HubUnavailableError: The Hub cannot be reached and the revision is not cached.
    """
    with _clear_errors(repo_id, revision):
        return resolve_revision(
            repo_id,
            repo_type=repo_type,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).resolved


def has_file(
    name_or_path: str, file: str, *, revision: str | None, token: str | bool | None = None
) -> bool:
    """Whether a folder, or a repo at a commit, holds a file; answered from the cache offline."""
    if Path(name_or_path).is_dir():
        return (Path(name_or_path) / file).is_file()
    cached = try_to_load_from_cache(name_or_path, file, revision=revision)
    if cached is not None:
        return isinstance(cached, str)
    with _clear_errors(name_or_path, revision):
        try:
            hf_hub_download(name_or_path, file, revision=revision, token=token)
        except RemoteEntryNotFoundError:
            return False
    return True


def read_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], sha256: str
) -> dict[str, Tensor]:
    """Reads exactly the expected tensors, or nothing.

    Args:
        path: A safetensors file.
        shapes: Name and shape of every tensor that must be there.
        sha256: Hash of the whole file, as the config states it.

    Raises:
        WeightsError: Truncated file, missing, unexpected, misshapen or non-finite tensors, or
            weights that belong to another config.
    """
    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is truncated or no safetensors file: {error}") from error
    missing, unexpected = (
        sorted(shapes.keys() - tensors.keys()),
        sorted(tensors.keys() - shapes.keys()),
    )
    if missing or unexpected:
        raise WeightsError(
            f"{path} must hold exactly {sorted(shapes)}: missing {missing}, unexpected {unexpected}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise WeightsError(
                f"{path}: {name} must be floating point of shape {shape}, "
                f"got {tensor.dtype} of {tuple(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise WeightsError(f"{path}: {name} holds NaN or infinity")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{path} is not the file that {CONFIG_NAME} describes (SHA-256 differs): "
            "the two come from different saves; save or download the translator again"
        )
    return tensors


def to_files(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Config and weights as file contents; equal input gives equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    weights = safetensors.torch.save(plain, metadata={"format": "pt"})
    stated = {**config, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    text = json.dumps(stated, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return {CONFIG_NAME: text.encode(), WEIGHTS_NAME: weights}


def save_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes each file whole or not at all, weights before the config that states their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, reverse=True):
        write_atomic(folder / name, files[name])


def read_card(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> str | None:
    """The repo's README.md, or None if there is none yet."""
    with _clear_errors(repo_id, revision):
        try:
            path = hf_hub_download(repo_id, CARD_NAME, revision=revision, token=token)
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            return None
    return Path(path).read_text(encoding="utf-8")


def prepare_repo(
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Creates the repo and the branch if they are not there; returns the full repo id.

    Raises:
        RepoAccessError: The token may not write there.
    """
    api = HfApi(token=token, library_name=LIBRARY_NAME, library_version=__version__)
    with _clear_errors(repo_id, revision):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
    return repo_id


def commit_files(
    repo_id: str,
    files: Mapping[str, bytes],
    *,
    commit_message: str,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> CommitInfo:
    """Commits all files at once; where none differs, no commit is made and the last is returned.

    Raises:
        RepoAccessError: The token may not write there.
        HubUnavailableError: The Hub cannot be reached.
    """
    api = HfApi(token=token, library_name=LIBRARY_NAME, library_version=__version__)
    with _clear_errors(repo_id, revision):
        return api.create_commit(
            repo_id,
            [CommitOperationAdd(name, content) for name, content in sorted(files.items())],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )


def _fetch_local(folder: Path) -> RepoFiles:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise RepoNotFoundError(
                f"a translator folder holds {CONFIG_NAME} and {WEIGHTS_NAME}, "
                f"but {folder} has no {name}"
            )
    return RepoFiles(_read_json(folder / CONFIG_NAME), folder / WEIGHTS_NAME, None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _check_subfolder(subfolder: str) -> None:
    path = PurePosixPath(subfolder.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise RepoNotFoundError(f"subfolder must stay inside the repo, got {subfolder!r}")


@contextlib.contextmanager
def _clear_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turns the client's many exceptions into the three that a caller can act on."""
    place = f"{repo_id!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        yield
    except HFValidationError as error:
        raise RepoNotFoundError(
            f"{repo_id!r} is neither an existing folder nor a repo id such as 'me/minilm-to-mpnet'"
        ) from error
    except GatedRepoError as error:
        raise RepoAccessError(
            f"{place} is gated: ask for access on its page and pass a token that has it"
        ) from error
    except RepositoryNotFoundError as error:
        raise RepoNotFoundError(
            f"no repo {place} is visible: check the name; a private repo needs token=..., "
            "or `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise RepoNotFoundError(f"repo {repo_id!r} has no revision {revision!r}") from error
    except (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled) as error:
        raise HubUnavailableError(
            f"{place} is not in the cache and the Hub was not reached: {error}"
        ) from error
    except EntryNotFoundError as error:
        raise RepoNotFoundError(f"repo {place} lacks a file: {error}") from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise RepoAccessError(f"the Hub refused {place}: {error}") from error
        raise HubUnavailableError(f"the Hub failed on {place}: {error}") from error
    except httpx2.TransportError as error:
        raise HubUnavailableError(f"the Hub was not reached for {place}: {error!r}") from error
