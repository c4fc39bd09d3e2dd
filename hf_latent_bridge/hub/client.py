"""Resolves, downloads and commits files of Hub repos: bounded waits, errors in our own words."""

import contextlib
import functools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

import httpx2
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    HfApi,
    constants,
    get_session,
    hf_hub_download,
    resolve_revision,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
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

from hf_latent_bridge._version import LIBRARY_NAME, __version__
from hf_latent_bridge.atomic import read_files
from hf_latent_bridge.errors import (
    ConfigError,
    HubUnavailableError,
    LatentBridgeError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.files import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    parse_config,
    parse_text,
    read_text,
    stated_types,
)
from hf_latent_bridge.names import check_name

_REPO = "a repo id such as 'me/minilm-to-mpnet'"
REPO_OR_FOLDER = f"{_REPO} or a folder ('.' for the current one)"
_LARGE = 1 << 20  # bytes: about where the Hub takes a file by LFS or Xet
_Kinds = type[Exception] | tuple[type[Exception], ...]
_MEANINGS: tuple[tuple[_Kinds, type[LatentBridgeError], str], ...] = (
    (
        HFValidationError,
        RepoNotFoundError,
        "{repo} is neither an existing folder nor a repo id such as 'me/minilm-to-mpnet'",
    ),
    (
        GatedRepoError,
        RepoAccessError,
        "{name} on {endpoint} is gated: ask for access on its page and pass a token that has it",
    ),
    (
        RepositoryNotFoundError,
        RepoNotFoundError,
        "no repo {name} on {endpoint} is visible: check the name; a private repo needs token=..., "
        "or `hf auth login`",
    ),
    (
        RevisionNotFoundError,
        RepoNotFoundError,
        "repo {repo} on {endpoint} has no revision {revision}: name one of its branches, tags or "
        "commits",
    ),
    (
        LocalTokenNotFoundError,
        RepoAccessError,
        "token=True needs a token that is logged in: run `hf auth login`",
    ),
    (
        (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled),
        HubUnavailableError,
        "the Hub at {endpoint} was not reached and {name} is not in the cache: {detail}",
    ),
    (EntryNotFoundError, RepoNotFoundError, "repo {name} on {endpoint} lacks a file: {detail}"),
    (
        httpx2.TimeoutException,
        HubUnavailableError,
        "the Hub at {endpoint} did not answer in time for {name} ({detail}): try again later, or "
        "set HF_HUB_DOWNLOAD_TIMEOUT to more seconds",
    ),
    (
        httpx2.TransportError,
        HubUnavailableError,
        "the Hub at {endpoint} was not reached for {name}: {detail}",
    ),
    (
        (FileMetadataError, json.JSONDecodeError),
        HubUnavailableError,
        "{endpoint} does not answer as a Hub does for {name}; check HF_ENDPOINT and your proxy: "
        "{detail}",
    ),
)


@contextlib.contextmanager
def clear_errors(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> Iterator[None]:
    """Within the block, waits are bounded and the client's errors are raised in our own words.

    Raises:
        RepoNotFoundError: No such repo, revision or file, or none that the token may see.
        RepoAccessError: The Hub refuses, or the token is malformed.
        HubUnavailableError: The Hub cannot be reached, does not answer in time, or fails.
    """
    _check_token(token)
    try:
        with bounded_waits():
            yield
    except LatentBridgeError:
        raise
    except Exception as error:
        meaning = _meaning(error, repo_id, revision)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: Exception, repo_id: str, revision: str | None) -> LatentBridgeError | None:
    endpoint = constants.ENDPOINT
    name = f"{repo_id!r} at revision {revision!r}" if revision else repr(repo_id)
    facts = {"repo": repr(repo_id), "revision": repr(revision), "endpoint": endpoint}
    facts |= {"name": name, "detail": " ".join(str(error).split()) or repr(error)}
    for kinds, ours, text in _MEANINGS:
        if isinstance(error, kinds):
            return ours(text.format(**facts))
    if not isinstance(error, HfHubHTTPError):
        return None
    status, where = error.response.status_code, f"{name} on {endpoint}"
    if status == 412:
        return HubUnavailableError(f"{where} was changed by someone in the meantime: push again")
    if status in (408, 429) or status >= 500:
        return HubUnavailableError(f"the Hub failed on {where}, try again later: {facts['detail']}")
    return RepoAccessError(f"the Hub refused {where}: {facts['detail']}")


def _check_token(token: str | bool | None) -> None:
    """The client would quote a malformed token in its own error."""
    if isinstance(token, str) and not (
        token.isascii() and token.isprintable() and " " not in token
    ):
        raise RepoAccessError(
            "token holds a space, a line break or another character that no token has: "
            "pass token.strip()"
        )


@dataclass
class _Watch:
    """How long the Hub has been silent during one operation.

    Attributes:
        patience: Seconds of silence after which the operation is given up.
        silent: Seconds waited since the Hub last sent something new.
        asked: When the present wait began; None while nothing is waited for.
        allowed: Seconds after which the present wait times out.
        furthest: Bytes received of each address, so that the same bytes again are not news.
    """

    patience: float = field(default_factory=lambda: 4.0 * constants.HF_HUB_DOWNLOAD_TIMEOUT)
    silent: float = 0.0
    asked: float | None = None
    allowed: float = 0.0
    furthest: dict[str, int] = field(default_factory=dict)

    def ask(self, request: httpx2.Request) -> None:
        """Limits the waits of a request to the rest of the patience."""
        if self.asked is not None:
            self.silent += min(time.monotonic() - self.asked, self.allowed)
        left = self.patience - self.silent
        if left <= 0:
            raise HubUnavailableError(
                f"the Hub at {request.url.copy_with(query=None)} has sent nothing for "
                f"{self.silent:.0f} seconds: try again later, or set HF_HUB_DOWNLOAD_TIMEOUT to "
                "more seconds"
            )
        reads = request.method in ("GET", "HEAD")
        given = request.extensions.get("timeout") or {}
        default = constants.HF_HUB_ETAG_TIMEOUT if reads else left
        waits = {kind: min(given.get(kind) or default, left) for kind in _WAITS}
        request.extensions = {**request.extensions, "timeout": waits}
        self.asked, self.allowed = time.monotonic(), waits["read"]

    def hear(self, *, more: bool) -> None:
        """Something new has come, and more is waited for or not."""
        self.silent, self.asked = 0.0, time.monotonic() if more else None


class _WatchedBody(httpx2.SyncByteStream):
    """The body of an answer; tells the watch of bytes that have not come before."""

    def __init__(
        self, stream: httpx2.SyncByteStream, response: httpx2.Response, watch: _Watch
    ) -> None:
        self._stream = stream
        self._watch = watch
        self._address = str(response.url)
        resumed = _RESUMED.match(response.headers.get("Content-Range", ""))
        self._start = int(resumed[1]) if resumed else 0

    def __iter__(self) -> Iterator[bytes]:
        position = self._start
        for chunk in self._stream:
            position += len(chunk)
            if position > self._watch.furthest.get(self._address, 0):
                self._watch.furthest[self._address] = position
                self._watch.hear(more=True)
            yield chunk
        self._watch.hear(more=False)

    def close(self) -> None:
        self._stream.close()


_WAITS = ("connect", "read", "write", "pool")
_RESUMED = re.compile(r"bytes (\d+)-")
_WATCH: ContextVar[_Watch | None] = ContextVar("hub_watch", default=None)


@contextlib.contextmanager
def bounded_waits() -> Iterator[None]:
    """Within the block, requests of this thread give up on a Hub that stays silent.

    A request without a timeout of its own gets HF_HUB_ETAG_TIMEOUT where it reads. The client tries
    a request again up to five times; the tries together wait four times HF_HUB_DOWNLOAD_TIMEOUT (40
    seconds by default) for anything new. Requests outside the block are left as they are.

    Raises:
        HubUnavailableError: The Hub has been silent for so long; names the address.
    """
    if _WATCH.get() is not None:
        yield
        return
    hooks = get_session().event_hooks
    for kind, hook in (("request", _on_request), ("response", _on_response)):
        if hook not in hooks[kind]:
            hooks[kind].append(hook)
    token = _WATCH.set(_Watch())
    try:
        yield
    finally:
        _WATCH.reset(token)


def _on_request(request: httpx2.Request) -> None:
    if (watch := _WATCH.get()) is not None:
        watch.ask(request)


def _on_response(response: httpx2.Response) -> None:
    watch = _WATCH.get()
    if watch is None:
        return
    if response.is_error or not isinstance(response.stream, httpx2.SyncByteStream):
        watch.hear(more=False)
    else:
        response.stream = _WatchedBody(response.stream, response, watch)


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
        paths: Path of each file.
        repo_id: The repo; None for a folder.
        commit: The commit they were downloaded at; None for a folder.
        subfolder: The folder in the repo that holds them; empty for its root.
        card: Text of a folder's `README.md`; None for a repo or where there is none.
        contents: What a folder's files held when they were found; empty for a repo.
    """

    paths: dict[str, Path]
    repo_id: str | None = None
    commit: str | None = None
    subfolder: str = ""
    card: str | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """The parsed `config.json`; raises ConfigError if it is not a JSON object."""
        return parse_config(self.read(CONFIG_NAME), str(self.paths[CONFIG_NAME]))

    def inside(self, name: str) -> "Fetched":
        """What was found of a folder inside."""
        prefix = f"{name}/"
        files = [file for file in self.paths if file.startswith(prefix)]
        return Fetched(
            {file.removeprefix(prefix): self.paths[file] for file in files},
            self.repo_id,
            self.commit,
            f"{self.subfolder}/{name}".lstrip("/"),
            contents={file.removeprefix(prefix): self.read(file) for file in files},
        )

    def read(self, name: str) -> bytes:
        """The content of a file, from the same save as all others."""
        return self.contents[name] if name in self.contents else self.paths[name].read_bytes()


def fetch(
    pretrained_model_name_or_path: str | Path,
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

    Args:
        pretrained_model_name_or_path: Repo id or folder.
        names: The files.
        revision: Branch, tag, PR (`refs/pr/1`) or commit.
        subfolder: Folder inside the repo or folder.
        token: Hub token; None for the one that is logged in, False for none.
        cache_dir: Where downloads are kept.
        force_download: Download even if cached.
        local_files_only: Use the cache alone.

    Raises:
        InvalidNameError: The name is empty, or not a text or path.
        RepoNotFoundError: No such folder, repo, revision or file.
        RepoAccessError: The repo is gated for this token.
        HubUnavailableError: The Hub cannot be reached and the files are not cached.
    """
    check_name(pretrained_model_name_or_path, wanted=REPO_OR_FOLDER)
    subfolder = clean_subfolder(subfolder)
    if Path(pretrained_model_name_or_path).exists():
        return _fetch_local(Path(pretrained_model_name_or_path), names, revision, subfolder)
    repo_id = str(pretrained_model_name_or_path)
    cache: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    commit = resolve_commit(repo_id, revision=revision, token=token, **cache)
    download = functools.partial(
        hf_hub_download,
        repo_id,
        subfolder=subfolder,
        revision=commit,
        token=token,
        force_download=force_download,
        library_name=LIBRARY_NAME,
        library_version=__version__,
        **cache,
    )
    with clear_errors(repo_id, revision=revision, token=token):
        paths: dict[str, Path] = {}
        for name in names:
            try:
                paths[name] = Path(download(name))
            except RemoteEntryNotFoundError as error:
                where = f"{repo_id}/{subfolder}" if subfolder else repo_id
                there = f"repo {where!r} on {constants.ENDPOINT}"
                raise _lacks(there, names, Fetched(paths)) from error
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

    Args:
        repo_id: The repo.
        repo_type: "model" or "dataset".
        revision: Branch, tag, PR or commit; None for the main branch.
        token: Hub token; None for the one that is logged in, False for none.
        cache_dir: Where downloads are kept.
        local_files_only: Ask the cache alone.

    Raises:
        InvalidNameError: The name is empty, or not a text or path.
        RepoNotFoundError: No such repo or revision.
        HubUnavailableError: The Hub cannot be reached and the revision is not cached.
    """
    check_name(repo_id, wanted=REPO_OR_FOLDER)
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
    """The error for a revision that is asked of a folder."""
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


@contextlib.contextmanager
def prepared_repo(
    repo_id: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    token: str | bool | None = None,
) -> Iterator[str]:
    """Gives the full id of a repo that exists within the block, as does the branch.

    If the block fails, a repo or branch that was made for it is deleted, unless it has a commit.
    If that fails too, a note on the error names the repo or branch that is left.

    Args:
        repo_id: The repo.
        private: Visibility of a new repo; None for the account's default.
        branch: Made from main if it is not there; None for main.
        token: Hub token; None for the one that is logged in.

    Raises:
        InvalidNameError: The name is empty or not a text.
        RepoNotFoundError: The name is not a repo id.
        RepoAccessError: The token may not write there.
        HubUnavailableError: The Hub cannot be reached.
    """
    check_name(repo_id, wanted=_REPO)
    made = _Made(_api(token))
    with bounded_waits():
        try:
            with clear_errors(repo_id, revision=branch, token=token):
                repo_id = made.repo(repo_id, private)
                if branch and not branch.startswith("refs/"):
                    made.branch(repo_id, branch)
            yield repo_id
        except BaseException as error:
            if left := made.undo():
                error.add_note(left)
            raise


class _Made:
    """What one push has made on the Hub, to be taken back if it fails."""

    def __init__(self, api: HfApi) -> None:
        self._api = api
        self._new: tuple[str, str | None] | None = None
        self._start: str | None = None

    def repo(self, repo_id: str, private: bool | None) -> str:
        """The full id of the repo, which is made if it is not there."""
        try:
            full = self._api.create_repo(repo_id, private=private).repo_id
        except HfHubHTTPError:  # it is there already, or else the second try says why not
            return self._api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        self._remember(full, None)
        return full

    def branch(self, repo_id: str, branch: str) -> None:
        """Makes the branch if it is not there."""
        try:
            self._api.create_branch(repo_id, branch=branch)
        except HfHubHTTPError:
            self._api.create_branch(repo_id, branch=branch, exist_ok=True)
            return
        if self._new is None:
            self._remember(repo_id, branch)

    def undo(self) -> str | None:
        """Deletes the new repo or branch if nothing was committed; returns a note if it stays."""
        if self._new is None:
            return None
        repo_id, branch = self._new
        what = f"the branch {branch!r} of {repo_id!r}" if branch else f"the repo {repo_id!r}"
        try:
            with clear_errors(repo_id, revision=branch):
                # no start: the push failed before it could commit
                if self._start and self._start != self._head(repo_id, branch):
                    return f"{what} was made for this push and holds a commit, so it was kept"
                if branch:
                    self._api.delete_branch(repo_id, branch=branch)
                else:
                    self._api.delete_repo(repo_id)
        except LatentBridgeError as error:
            return f"{what} was made for this push and could not be deleted: {error}"
        return None

    def _remember(self, repo_id: str, branch: str | None) -> None:
        self._new = repo_id, branch
        self._start = self._head(repo_id, branch)

    def _head(self, repo_id: str, branch: str | None) -> str:
        return str(self._api.repo_info(repo_id, revision=branch).sha)


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

    Args:
        repo_id: The repo, which exists.
        files: Contents by name.
        commit_message: Title of the commit.
        parent_commit: The commit that the branch must stand at.
        revision: The branch; None for main.
        create_pr: Open a pull request instead.
        token: Hub token; None for the one that is logged in.

    Raises:
        RepoAccessError: The token may not write there.
        HubUnavailableError: The Hub cannot be reached, or has gone beyond the parent commit.
        ConfigError: The Hub does not take the card.
    """
    api = _api(token)
    operations = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
    target: dict[str, Any] = {"revision": revision, "create_pr": create_pr}
    with clear_errors(repo_id, revision=revision, token=token), _clear_uploads(repo_id):
        for operation in _many_large(operations):
            api.preupload_lfs_files(repo_id, [operation], **target)
        commit: CommitInfo = api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message,
            parent_commit=parent_commit,
            **target,
        )
    return commit


def _many_large(operations: Sequence[CommitOperationAdd]) -> list[CommitOperationAdd]:
    """Two large files or more: the client would upload them in threads that no watch limits."""
    large = [operation for operation in operations if operation.upload_info.size > _LARGE]
    return large if len(large) > 1 else []


@contextlib.contextmanager
def _clear_uploads(repo_id: str) -> Iterator[None]:
    """Within the block, what uploads raise besides the client's errors is raised in our words."""
    try:
        yield
    except (LatentBridgeError, HfHubHTTPError, HFValidationError, json.JSONDecodeError):
        raise
    except (ConnectionError, PermissionError) as error:  # from hf_xet
        raise HubUnavailableError(
            f"the upload to {repo_id!r} on {constants.ENDPOINT} through Xet failed: {error}. If "
            "this server has no Xet, set HF_HUB_DISABLE_XET=1 before Python starts"
        ) from error
    except RuntimeError as error:  # wraps what the upload of one file raised
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise HubUnavailableError(
            f"the upload to {repo_id!r} on {constants.ENDPOINT} failed: {error}"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the Hub at {constants.ENDPOINT} does not take the files for {repo_id!r}, or the "
            f"metadata of {CARD_NAME}: {error}"
        ) from error


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
    contents = read_files(folder, {*names, CARD_NAME})
    card = contents.get(CARD_NAME)
    fetched = Fetched(
        {name: folder / name for name in names if name in contents},
        card=None if card is None else parse_text(card, str(folder / CARD_NAME)),
        contents=contents,
    )
    if len(fetched.paths) < len(names):
        raise _lacks(str(folder), names, fetched)
    return fetched


def _lacks(where: str, names: Sequence[str], found: Fetched) -> RepoNotFoundError:
    """The error for files that are missing; tells what the repo holds instead, if it says so."""
    missing = next(name for name in names if name not in found.paths)
    text = f"{where} has no {missing}, and must hold {', '.join(names)}"
    if CONFIG_NAME in found.paths and (stated := stated_types(found.config)):
        text += (
            f"; its {CONFIG_NAME} states {stated}: load it with the class for that, or name a "
            "subfolder"
        )
    return RepoNotFoundError(text)


def clean_subfolder(subfolder: str | None) -> str:
    """A folder inside a repo as a relative path with slashes; empty for the root.

    Raises:
        RepoNotFoundError: It is outside the repo.
    """
    path = PurePosixPath((subfolder or "").replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise RepoNotFoundError(f"subfolder must stay inside the repo, got {subfolder!r}")
    return "/".join(path.parts)
