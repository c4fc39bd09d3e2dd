"""Turns the Hub client's many exceptions into the few that a caller can act on."""

import contextlib
from collections.abc import Iterator

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from hf_latent_bridge.errors import (
    HubUnavailableError,
    LatentBridgeError,
    RepoAccessError,
    RepoNotFoundError,
)

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
