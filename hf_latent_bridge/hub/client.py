"""Resolves, downloads and commits files of Hub repos: bounded waits, errors in our own words."""

import contextlib
import errno
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypedDict, Unpack

import httpx2
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    HfApi,
    RepoFile,
    constants,
    hf_hub_download,
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
from hf_latent_bridge.atomic import NO_ROOM, read_files, writing
from hf_latent_bridge.errors import (
    ConfigError,
    DamagedFileError,
    HubUnavailableError,
    InUseError,
    LatentBridgeError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.files import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    loader_of,
    parse_config,
    parse_text,
    read_text,
    stated_types,
)
from hf_latent_bridge.hub.waits import BUSY, bounded_waits, is_cut_short, is_passing, patiently
from hf_latent_bridge.names import check_name, without_secrets

_REPO = "a repo id such as 'me/minilm-to-mpnet'"
REPO_OR_FOLDER = f"{_REPO} or a folder ('.' for the current one)"
_OFFLINE = (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.TransportError)
_NOT_SENT = (OfflineModeIsEnabled, httpx2.ConnectError)  # raised before the Hub gets a request
_ACCESS = ("token", "cache_dir", "local_files_only")
_TRIES = 10  # to read a folder that others save to
_ATTRIBUTES = ".gitattributes"  # which the Hub puts into every new repo
_CLOCKS_DIFFER = timedelta(minutes=1)  # at most, between the Hub and here
_FULL = (*NO_ROOM, errno.EROFS, errno.EFBIG)  # what a disk says, and no network
_LARGE = 1 << 20  # bytes: about where the Hub takes a file by LFS or Xet
_MALFORMED = (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError)
_URLS = re.compile(r" for url '[^']*'| For more information check: \S+")
_Kinds = type[Exception] | tuple[type[Exception], ...]
_MEANINGS: tuple[tuple[_Kinds, type[LatentBridgeError], str], ...] = (
    (
        HFValidationError,
        RepoNotFoundError,
        "{repo} is neither an existing folder nor a repo id such as 'me/minilm-to-mpnet' (a folder "
        "in a repo is its subfolder)",
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
        (FileMetadataError, *_MALFORMED),
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
        with naming(repo_id), bounded_waits():
            yield
    except LatentBridgeError:
        raise
    except Exception as error:
        meaning = _meaning(error, repo_id, revision)
        if meaning is None and isinstance(error, OSError) and error.errno in _FULL:
            with writing(Path(constants.HF_HUB_CACHE)):
                raise
        if meaning is None:
            raise
        raise meaning from error


@contextlib.contextmanager
def naming(repo_id: str) -> Iterator[None]:
    """Within the block, a Hub that is given up is given up for this repo, which the error names."""
    try:
        yield
    except HubUnavailableError as error:
        if repo_id in str(error):
            raise
        raise type(error)(f"{repo_id!r}: {error}") from error


def _meaning(error: Exception, repo_id: str, revision: str | None) -> LatentBridgeError | None:
    if isinstance(error, RevisionResolutionError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the Hub was reached, and was busy
    name = f"{repo_id!r} at revision {revision!r}" if revision else repr(repo_id)
    facts = {"repo": repr(repo_id), "revision": repr(revision), "endpoint": endpoint()}
    facts |= {"name": name, "detail": _detail(error)}
    for kinds, ours, text in _MEANINGS:
        if isinstance(error, kinds):
            return ours(text.format(**facts))
    if is_cut_short(error):
        return HubUnavailableError(
            f"a file of {name} on {endpoint()} came cut short: try again later"
        )
    if not isinstance(error, HfHubHTTPError):
        return None
    status, where = error.response.status_code, f"{name} on {endpoint()}"
    if status == 412:
        return HubUnavailableError(f"{where} was changed by someone in the meantime: push again")
    if status in BUSY or status >= 500:
        return HubUnavailableError(f"the Hub failed on {where}, try again later: {facts['detail']}")
    cure = "; check the token, or log in anew with `hf auth login`" if status == 401 else ""
    return RepoAccessError(f"the Hub refused {where}: {facts['detail']}{cure}")


def endpoint() -> str:
    """The URL of the Hub, to be shown: without a user or password that HF_ENDPOINT holds."""
    return without_secrets(constants.ENDPOINT)


def _detail(error: Exception) -> str:
    """What the client says, on one line and without URLs that tell nothing or hold a password."""
    told = " ".join(str(error).split()) or repr(error)
    return without_secrets(_URLS.sub("", told))


def _check_token(token: str | bool | None) -> None:
    """The client would quote a malformed token in its own error."""
    if isinstance(token, str) and not (
        token.isascii() and token.isprintable() and " " not in token
    ):
        raise RepoAccessError(
            "token holds a space, a line break or another character that no token has: "
            "pass token.strip()"
        )


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
        DamagedFileError: A file came damaged, twice, or cannot be fetched again without a network.
    """
    check_name(pretrained_model_name_or_path, wanted=REPO_OR_FOLDER)
    subfolder = clean_subfolder(subfolder)
    if Path(pretrained_model_name_or_path).exists():
        return _fetch_local(Path(pretrained_model_name_or_path), names, revision, subfolder)
    repo_id = str(pretrained_model_name_or_path)
    cache: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    commit, reached = resolve(repo_id, revision=revision, token=token, **cache)
    if not reached:
        cache["local_files_only"], force_download = True, False
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
                paths[name] = _intact(functools.partial(download, name))
            except RemoteEntryNotFoundError as error:
                where = f"{repo_id}/{subfolder}" if subfolder else repo_id
                there = f"repo {where!r} on {endpoint()}"
                raise _lacks(there, names, Fetched(paths)) from error
    return Fetched(paths, repo_id, commit, subfolder)


def fetch_parts(
    pretrained_model_name_or_path: str | Path,
    parts_of: Callable[[Fetched], list[str]],
    **options: Unpack[HubOptions],
) -> Fetched:
    """A config and the translators in the folders that it names, of one commit or one save.

    Args:
        pretrained_model_name_or_path: Repo id or folder.
        parts_of: The names of the folders, from the config.
        options: As for `fetch`.

    Raises:
        InUseError: It was saved again and again with other folders while it was read.
    """
    parts: list[str] = []
    for _ in range(_TRIES):
        files = [f"{part}/{file}" for part in parts for file in (CONFIG_NAME, WEIGHTS_NAME)]
        fetched = fetch(pretrained_model_name_or_path, (CONFIG_NAME, *files), **options)
        if parts == (stated := parts_of(fetched)):
            return fetched
        parts = stated
        if fetched.commit is not None:
            options["revision"] = fetched.commit
    raise InUseError(f"{pretrained_model_name_or_path} was changed again and again: load it later")


def _intact(download: Callable[..., str]) -> Path:
    """Downloads a file, and once more if what is in the cache has not the hash that the Hub states.

    Raises:
        DamagedFileError: It came damaged twice, or there is no network to mend it.
    """
    path = _downloaded(download)
    if is_intact(path):
        return path
    try:
        path = _downloaded(functools.partial(download, force_download=True))
    except (
        LocalEntryNotFoundError,
        ValueError,
        HubUnavailableError,
        httpx2.TransportError,
    ) as error:
        raise _damaged(path) from error
    if not is_intact(path):
        raise _damaged(path)
    return path


def _downloaded(download: Callable[..., str]) -> Path:
    def attempt() -> Path:
        try:
            return Path(download())
        except ValueError as error:  # with force_download, the client wraps what it got
            if isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise
        except RuntimeError as error:  # from hf_xet
            raise HubUnavailableError(
                f"a download from {endpoint()} through Xet failed: {_detail(error)}; try "
                "again later, or set HF_HUB_DISABLE_XET=1 before Python starts"
            ) from error

    return patiently(attempt)


def _damaged(path: Path) -> DamagedFileError:
    return DamagedFileError(
        f"{path} was damaged on its way or on this disk: its content has not the hash that the Hub "
        "states. Load it again with force_download=True (--force-download) and a network that "
        "delivers it whole"
    )


def is_intact(path: Path) -> bool:
    """Whether a downloaded file has the hash that the Hub states, which names it in the cache.

    True where no hash is known: for files outside the cache, and for servers whose ETags are none.
    """
    stated = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", stated):
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == stated
    if re.fullmatch("[0-9a-f]{40}", stated):
        content = path.read_bytes()
        plain = hashlib.sha1(content, usedforsecurity=False).hexdigest()  # of some mirrors
        return stated in (_git_hash(content), plain)
    return True


def mend(
    repo_id: str,
    commit: str,
    *,
    repo_type: str = "model",
    since: float = 0.0,
    **where: Unpack[HubOptions],
) -> list[str]:
    """Fetches damaged files of a repo in the cache once more; returns their names.

    Args:
        repo_id: The repo.
        commit: The commit that failed to load.
        repo_type: "model" or "dataset".
        since: Look only at files that came after this moment, in seconds since the epoch.
        where: `token`, `cache_dir` and `local_files_only`, as huggingface_hub takes them.

    Raises:
        DamagedFileError: A file came damaged again, or may not be fetched.
    """
    cache = Path(where.get("cache_dir") or constants.HF_HUB_CACHE).expanduser()
    owner = (
        f"{repo_type}s--{repo_id.replace('/', '--')}"  # as the client names folders of its cache
    )
    folder = cache / owner / "snapshots" / commit
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_mtime >= since
    ]
    names = [path.relative_to(folder).as_posix() for path in files if not is_intact(path)]
    access: dict[str, Any] = {k: v for k, v in where.items() if k in _ACCESS}
    with clear_errors(repo_id, revision=commit, token=where.get("token")):
        for name in names:
            download = functools.partial(hf_hub_download, repo_id, name, repo_type=repo_type)
            _intact(functools.partial(download, revision=commit, **access))
    return names


def busy_cause(error: BaseException) -> Exception | None:
    """The reason why a loader failed, if it is that the Hub was busy or the line broke."""
    return next((cause for cause in _causes(error) if is_passing(cause)), None)


def clear_cause(
    error: BaseException, repo_id: str, *, revision: str | None = None
) -> LatentBridgeError | None:
    """What went wrong with the Hub, in our own words, if that is why a loader failed.

    Args:
        error: What the loader raised, which may wrap what the client raised.
        repo_id: What was loaded.
        revision: At which commit.
    """
    for cause in _causes(error):
        if isinstance(cause, LatentBridgeError):
            return cause
        if isinstance(cause, (GatedRepoError, *_OFFLINE)) or is_passing(cause):
            return _meaning(cause, repo_id, revision)
    return None


def _causes(error: BaseException) -> Iterator[Exception]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Exception):
            yield cause
        cause = cause.__cause__ or cause.__context__


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Resolved(NamedTuple):
    """What a branch, tag or PR points to.

    Attributes:
        commit: The commit.
        reached: Whether the Hub may be asked for files; if not, the commit is what the cache knows.
    """

    commit: str
    reached: bool


def resolve(
    repo_id: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Resolved:
    """The commit that a branch, tag or PR points to now, or in the cache if there is no Hub.

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
    api = _PatientApi(token=token, library_name=LIBRARY_NAME, library_version=__version__)
    with clear_errors(repo_id, revision=revision, token=token):
        found = api.resolve_revision(
            repo_id,
            repo_type=repo_type,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    return Resolved(found.resolved, not (local_files_only or api.failed))


def spelling(repo_id: str, *, token: str | bool | None = None) -> str:
    """The id of a model as the Hub spells it; as it is given where the Hub has no such model."""
    try:
        return str(patiently(functools.partial(_api(token).model_info, repo_id)).id)
    except (RepositoryNotFoundError, GatedRepoError):
        return repo_id


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
        self._asked: tuple[str, datetime] | None = None  # for a repo, and no answer came so far

    def repo(self, repo_id: str, private: bool | None) -> str:
        """The full id of the repo, which is made if it is not there."""
        create = functools.partial(self._api.create_repo, repo_id, private=private)
        tries, arrived = 0, False

        def attempt() -> str:
            nonlocal tries, arrived
            tries += 1
            try:
                return _checked_id(create().repo_id, repo_id)
            except Exception as error:
                arrived = arrived or not isinstance(error, _NOT_SENT)
                raise

        self._asked = repo_id, datetime.now(UTC)
        try:
            full = patiently(attempt)
        except HfHubHTTPError:  # it is there already, or else the next try says why not
            found = patiently(functools.partial(create, exist_ok=True))
            full = _checked_id(found.repo_id, repo_id)
            if tries == 1 or not self._is_new(full, self._asked[1]):
                self._asked = None
                return full
        except _NOT_SENT:
            self._asked = self._asked if arrived else None
            raise
        self._remember(full, None)
        return full

    def branch(self, repo_id: str, branch: str) -> None:
        """Makes the branch if it is not there."""
        create = functools.partial(self._api.create_branch, repo_id, branch=branch)
        try:
            patiently(create)
        except HfHubHTTPError:
            patiently(functools.partial(create, exist_ok=True))
            return
        if self._new is None:
            self._remember(repo_id, branch)

    def undo(self) -> str | None:
        """Deletes the new repo or branch if nothing was committed; returns a note if it stays."""
        repo_id, branch = self._new or (self._asked[0] if self._asked else None, None)
        if repo_id is None:
            return None
        what = f"the branch {branch!r} of {repo_id!r}" if branch else f"the repo {repo_id!r}"
        made = f"{what} {'may have been' if self._new is None else 'was'} made for this push"
        try:
            with bounded_waits(anew=True), clear_errors(repo_id, revision=branch):
                if self._new is None and self._asked and not self._is_new(*self._asked):
                    return None
                # no start: the push failed before it could commit
                if self._start and self._start != self._head(repo_id, branch):
                    return f"{made} and holds a commit, so it was kept"
                if branch:
                    patiently(functools.partial(self._api.delete_branch, repo_id, branch=branch))
                else:
                    patiently(functools.partial(self._api.delete_repo, repo_id, missing_ok=True))
        except RepoNotFoundError:
            return None
        except LatentBridgeError as error:
            return f"{made} and could not be deleted: {error}"
        return None

    def _is_new(self, repo_id: str, asked: datetime) -> bool:
        """Whether a repo is empty and was made since it was asked for, by the Hub's own clock."""
        info = patiently(functools.partial(self._api.model_info, repo_id))
        files = {file.rfilename for file in info.siblings or ()}
        if info.created_at is None or files - {_ATTRIBUTES}:
            return False
        return info.created_at > asked - _CLOCKS_DIFFER

    def _remember(self, repo_id: str, branch: str | None) -> None:
        self._new, self._asked = (repo_id, branch), None
        self._start = self._head(repo_id, branch)

    def _head(self, repo_id: str, branch: str | None) -> str:
        info = functools.partial(self._api.model_info, repo_id, revision=branch)
        return str(patiently(info).sha)


def _checked_id(full: str, repo_id: str) -> str:
    """The full id of a repo as the Hub gave it, if it is the one that was asked for."""
    if full != repo_id and full.rpartition("/")[2] != repo_id:
        raise HubUnavailableError(
            f"{endpoint()} does not answer as a Hub does: asked to make {repo_id!r}, it "
            f"names {full!r}; try again, and check HF_ENDPOINT and your proxy"
        )
    return full


class Head(NamedTuple):
    """Where a branch stands, as the Hub and not the cache knows it.

    Attributes:
        commit: The newest commit.
        card: Text of its README.md; None if it has none.
        files: The names of all its files.
    """

    commit: str
    card: str | None
    files: frozenset[str]


def read_head(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> Head:
    """The newest commit of a branch, with its card and the names of its files.

    Raises:
        HubUnavailableError: The Hub cannot be reached.
    """
    with clear_errors(repo_id, revision=revision, token=token):
        info = patiently(functools.partial(_api(token).model_info, repo_id, revision=revision))
    commit, files = str(info.sha), frozenset(file.rfilename for file in info.siblings or ())
    if CARD_NAME not in files:
        return Head(commit, None, files)
    path = _read(repo_id, CARD_NAME, commit=commit, token=token)
    if path is None:
        raise HubUnavailableError(
            f"{repo_id!r} on {endpoint()} lists a {CARD_NAME} and does not give it: try again later"
        )
    return Head(commit, read_text(path), files)


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
        create = functools.partial(
            api.create_commit,
            repo_id,
            operations,
            commit_message=commit_message,
            parent_commit=parent_commit,
            **target,
        )
        if create_pr:  # of which a lost answer would leave two
            return patiently(create, only=(429,))
        try:
            return patiently(create)
        except (HfHubHTTPError, httpx2.TransportError):
            made = _committed(api, repo_id, operations, revision, parent_commit)
            if made is None:
                raise
            return made


def _committed(
    api: HfApi,
    repo_id: str,
    operations: Sequence[CommitOperationAdd],
    revision: str | None,
    parent_commit: str,
) -> CommitInfo | None:
    """The commit that went through although its answer got lost; None if there is none."""
    with bounded_waits(anew=True):
        head = str(patiently(functools.partial(api.model_info, repo_id, revision=revision)).sha)
        if head == parent_commit:
            return None
        names = [operation.path_in_repo for operation in operations]
        paths = functools.partial(api.get_paths_info, repo_id, names, revision=head)
        found = {file.path: file for file in patiently(paths) if isinstance(file, RepoFile)}
    if not all(_same_content(found.get(one.path_in_repo), one) for one in operations):
        return None
    url = f"{endpoint()}/{repo_id}/commit/{head}"
    return CommitInfo(commit_url=url, commit_message="", commit_description="", oid=head)


def _same_content(file: RepoFile | None, operation: CommitOperationAdd) -> bool:
    if file is None:
        return False
    if file.lfs is not None:
        return file.lfs.sha256 == operation.upload_info.sha256.hex()
    with operation.as_file() as stream:
        return file.blob_id == _git_hash(stream.read())


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
            f"the upload to {repo_id!r} on {endpoint()} through Xet failed: {_detail(error)}. "
            "If this server has no Xet, set HF_HUB_DISABLE_XET=1 before Python starts"
        ) from error
    except RuntimeError as error:  # wraps what the upload of one file raised
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise HubUnavailableError(
            f"the upload to {repo_id!r} on {endpoint()} failed: {_detail(error)}"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the Hub at {endpoint()} does not take the files for {repo_id!r}, or the "
            f"metadata of {CARD_NAME}: {error}"
        ) from error


class _PatientApi(HfApi):
    """Asks a busy Hub about a repo again, before `resolve_revision` turns to the cache.

    Attributes:
        failed: Whether the last time was in vain.
    """

    failed = False

    def repo_info(self, *arguments: Any, **options: Any) -> Any:
        self.failed = True
        found = patiently(functools.partial(super().repo_info, *arguments, **options))
        self.failed = False
        return found


def _api(token: str | bool | None) -> HfApi:
    return HfApi(token=token, library_name=LIBRARY_NAME, library_version=__version__)


def _read(
    repo_id: str, file: str, *, commit: str | None, token: str | bool | None, **where: Any
) -> Path | None:
    with clear_errors(repo_id, revision=commit, token=token):
        try:
            download = functools.partial(hf_hub_download, repo_id, file, revision=commit)
            return _intact(functools.partial(download, token=token, **where))
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
        views = found.config.get("views")
        such = f", such as {next(iter(views))!r}" if isinstance(views, dict) and views else ""
        text += (
            f"; its {CONFIG_NAME} states {stated}: load it with {loader_of(found.config)}, or name "
            f"a subfolder{such}"
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
