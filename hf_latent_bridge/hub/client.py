"""Resolves, downloads and commits files of Hub repos, with clear errors."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

import httpx2
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
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import (
    ConfigError,
    HubUnavailableError,
    LatentBridgeError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.files import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME, read_config, read_text

_UNREACHED = (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled)


@contextlib.contextmanager
def clear_errors(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> Iterator[None]:
    """Within the block, whatever the client raises about this repo is raised in our own words.

    Raises:
        RepoNotFoundError: No such repo, revision or file, or none that the token may see.
        RepoAccessError: The Hub refuses, or the token is none.
        HubUnavailableError: The Hub cannot be reached, or fails.
    """
    _check_token(token)
    place = repr(repo_id) + (f" at revision {revision!r}" if revision else "")
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
    except LocalTokenNotFoundError as error:
        raise RepoAccessError(
            "token=True needs a token that is logged in: run `hf auth login`"
        ) from error
    except _UNREACHED as error:
        raise HubUnavailableError(
            f"the Hub was not reached and {place} is not in the cache: {_line(error)}"
        ) from error
    except EntryNotFoundError as error:
        raise RepoNotFoundError(f"repo {place} lacks a file: {_line(error)}") from error
    except HfHubHTTPError as error:
        raise _refusal(place, error) from error
    except httpx2.TransportError as error:
        raise HubUnavailableError(f"the Hub was not reached for {place}: {error!r}") from error


def _refusal(place: str, error: HfHubHTTPError) -> LatentBridgeError:
    status = error.response.status_code
    if status == 412:
        return HubUnavailableError(f"{place} was changed by someone in the meantime: push again")
    if status in (408, 429) or status >= 500:
        return HubUnavailableError(f"the Hub failed on {place}, try again later: {_line(error)}")
    return RepoAccessError(f"the Hub refused {place}: {_line(error)}")


def _check_token(token: str | bool | None) -> None:
    """The client would quote a malformed token in its own error."""
    if isinstance(token, str) and not (
        token.isascii() and token.isprintable() and " " not in token
    ):
        raise RepoAccessError(
            "token holds a space, a line break or another character that no token has: "
            "pass token.strip()"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


LIBRARY_NAME = "hf-latent-bridge"


class HubOptions(TypedDict, total=False):
    """Where and how every `from_pretrained` looks for files, spelled as by huggingface_hub.

    Attributes:
        revision: Branch, tag, PR (`refs/pr/1`) or commit; resolved to a commit once.
        subfolder: Folder inside the repo.
        token: Hub token; None for the one that is logged in, False for none.
        cache_dir: Where downloads are kept.
        force_download: Download even if cached.
        local_files_only: Use the cache alone.
    """

    revision: str | None
    subfolder: str
    token: str | bool | None
    cache_dir: str | Path | None
    force_download: bool
    local_files_only: bool


@dataclass(frozen=True)
class Fetched:
    """Files of a repo, all of one commit, or of a folder.

    Attributes:
        paths: Where each file lies.
        repo_id: The repo; None for a folder.
        commit: The commit they were downloaded at; None for a folder.
        subfolder: The folder in the repo that holds them; empty for its root.
        card: Text of a folder's `README.md`; None for a repo or where there is none.
    """

    paths: dict[str, Path]
    repo_id: str | None = None
    commit: str | None = None
    subfolder: str = ""
    card: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The parsed `config.json`; raises ConfigError where it is no JSON object."""
        return read_config(self.paths[CONFIG_NAME])


def fetch(
    name_or_path: str | Path,
    names: Sequence[str] = (CONFIG_NAME, WEIGHTS_NAME),
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Fetched:
    """Finds files in a folder, or downloads them, all at one resolved commit.

    Raises:
        RepoNotFoundError: No such folder, repo, revision or file.
        RepoAccessError: The repo is gated for this token.
        HubUnavailableError: The Hub cannot be reached and the files are not cached.
    """
    subfolder = clean_subfolder(subfolder)
    if Path(name_or_path).exists():
        return _fetch_local(Path(name_or_path), names, revision, subfolder)
    repo_id = str(name_or_path)
    where: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    commit = resolve_commit(repo_id, revision=revision, token=token, **where)
    download = functools.partial(
        hf_hub_download,
        repo_id,
        subfolder=subfolder,
        revision=commit,
        token=token,
        force_download=force_download,
        library_name=LIBRARY_NAME,
        library_version=__version__,
        **where,
    )
    with clear_errors(repo_id, revision=revision, token=token):
        paths = {name: Path(download(name)) for name in names}
    return Fetched(paths, repo_id, commit, subfolder)


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
    with clear_errors(repo_id, revision=revision, token=token):
        return resolve_revision(
            repo_id,
            repo_type=repo_type,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        ).resolved


def folder_without_revisions(path: str | Path, revision: str) -> RepoNotFoundError:
    """The refusal to take a folder for the repo whose revision was asked for."""
    return RepoNotFoundError(
        f"{path} is a folder here and has no revision {revision!r}: leave revision out, or run "
        "elsewhere to load a repo of this name"
    )


def has_file(
    name_or_path: str,
    file: str,
    *,
    revision: str | None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> bool:
    """Whether a folder, or a repo at a commit, holds a file; answered from the cache offline.

    Raises:
        HubUnavailableError: Neither the cache nor the Hub can tell.
    """
    name = "/".join(filter(None, [subfolder, file]))
    if Path(name_or_path).is_dir():
        return (Path(name_or_path) / name).is_file()
    cached = try_to_load_from_cache(name_or_path, name, revision=revision, cache_dir=cache_dir)
    if cached is not None:
        return isinstance(cached, str)
    where: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    return _read(name_or_path, name, commit=revision, token=token, **where) is not None


def prepare_repo(
    repo_id: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Creates the repo and the branch if they are not there; returns the full repo id.

    Raises:
        RepoNotFoundError: No valid repo id.
        RepoAccessError: The token may not write there.
    """
    api = _api(token)
    with clear_errors(repo_id, revision=branch, token=token):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if branch and not branch.startswith("refs/"):
            api.create_branch(repo_id, branch=branch, exist_ok=True)
    return repo_id


def read_card(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> tuple[str, str | None]:
    """The newest commit, as the Hub and not the cache knows it, and the README.md that it holds.

    Raises:
        HubUnavailableError: The Hub cannot be reached.
    """
    with clear_errors(repo_id, revision=revision, token=token):
        commit = str(_api(token).repo_info(repo_id, revision=revision).sha)
    path = _read(repo_id, CARD_NAME, commit=commit, token=token)
    return commit, None if path is None else read_text(path)


def commit_files(
    repo_id: str,
    files: Mapping[str, bytes],
    *,
    commit_message: str,
    parent_commit: str,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> CommitInfo:
    """Commits all files at once; where none differs, no commit is made and the last is returned.

    Raises:
        RepoAccessError: The token may not write there.
        HubUnavailableError: The Hub cannot be reached, or has gone beyond the parent commit.
        ConfigError: The Hub does not take the card.
    """
    with clear_errors(repo_id, revision=revision, token=token):
        try:
            return _api(token).create_commit(
                repo_id,
                [CommitOperationAdd(name, content) for name, content in sorted(files.items())],
                commit_message=commit_message,
                parent_commit=parent_commit,
                revision=revision,
                create_pr=create_pr,
            )
        except (HfHubHTTPError, HFValidationError):
            raise
        except ValueError as error:
            raise ConfigError(f"the Hub does not take {CARD_NAME}: {error}") from error


def _api(token: str | bool | None) -> HfApi:
    return HfApi(token=token, library_name=LIBRARY_NAME, library_version=__version__)


def _read(
    repo_id: str, file: str, *, commit: str | None, token: str | bool | None, **where: Any
) -> Path | None:
    with clear_errors(repo_id, revision=commit, token=token):
        try:
            return Path(hf_hub_download(repo_id, file, revision=commit, token=token, **where))
        except RemoteEntryNotFoundError:
            return None


def _fetch_local(path: Path, names: Sequence[str], revision: str | None, subfolder: str) -> Fetched:
    if not path.is_dir():
        raise RepoNotFoundError(f"{path} is a file: pass the folder that holds {CONFIG_NAME}")
    if revision is not None:
        raise folder_without_revisions(path, revision)
    folder = path / subfolder
    paths = {name: folder / name for name in names}
    for name, file in paths.items():
        if not file.is_file():
            raise RepoNotFoundError(f"{folder} has no {name}, and must hold {', '.join(names)}")
    return Fetched(paths, card=read_text(folder / CARD_NAME))


def clean_subfolder(subfolder: str | None) -> str:
    """A folder inside a repo as a relative path with slashes; empty for the root.

    Raises:
        RepoNotFoundError: It lies outside the repo.
    """
    path = PurePosixPath((subfolder or "").replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise RepoNotFoundError(f"subfolder must stay inside the repo, got {subfolder!r}")
    return "/".join(path.parts)
