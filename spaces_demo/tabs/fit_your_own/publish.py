"""Saves a fitted translator as a file, or pushes it with the visitor's own token."""

import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from limits import Refusal
from repos import DEVICE

from hf_latent_bridge import AutoTranslator, Report, Translator
from hf_latent_bridge.errors import HubUnavailableError, RepoAccessError
from hf_latent_bridge.hub.client import clear_errors
from tabs.fit_your_own.items import check_repo_id

_TOKEN = re.compile(r"hf_[A-Za-z0-9._-]{3,2000}")


def save(translator: Translator, report: Report | None, folder: Path) -> str:
    """Writes a zip file of the files that `save_pretrained` writes; returns its path.

    Args:
        translator: Fitted.
        report: For its card; None for none.
        folder: The folder of visitors' files, which are deleted after a while.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(dir=folder))
    with tempfile.TemporaryDirectory() as content:
        translator.save_pretrained(content, metrics=report)
        return shutil.make_archive(str(own / "translator"), "zip", content)


def push(archive: str | None, repo_id: str, token: str, private: bool) -> list[dict[str, str]]:
    """Pushes a saved translator to a new repo; the token is used once and kept nowhere.

    Returns:
        The repo, its commit, and who can see it.

    Raises:
        Refusal: Nothing is fitted, no valid token, a token that may not write, a repo that exists.
    """
    if archive is None:
        raise Refusal("There is nothing to push yet: fit a translator first.")
    if not Path(archive).is_file():
        raise Refusal("Your translator was deleted, as all are after an hour: please fit it again.")
    check_repo_id(repo_id, "new repo")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token.strip()):
        raise Refusal("This is not a token of the Hub: one starts with hf_ and has no spaces.")
    token = token.strip()
    try:
        commit = _push_new(archive, repo_id, token=token, private=private is not False)
    except HubUnavailableError:
        raise Refusal(f"The Hub does not answer for {repo_id}; please try again later.") from None
    except RepoAccessError:
        raise Refusal(
            f"The Hub does not let this token write {repo_id}: it takes a valid token with the "
            "permission to write there."
        ) from None
    return [
        {"name": "pushed to", "value": repo_id},
        {"name": "commit", "value": commit[:7]},
        {"name": "visible to", "value": "everyone" if private is False else "its owner alone"},
    ]


def _push_new(archive: str, repo_id: str, *, token: str, private: bool) -> str:
    with clear_errors(repo_id, token=token):
        exists = HfApi(token=token).repo_exists(repo_id)
    if exists:
        raise Refusal(f"{repo_id} exists already: choose a new name, nothing is overwritten.")
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder)
        translator = AutoTranslator.from_pretrained(folder, device=DEVICE)
        return translator.push_to_hub(repo_id, private=private, token=token).oid
