"""Publishes the Space in one commit, with the library inside, as no package index has it.

The Hub is the one at HF_ENDPOINT.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

SPACE = ROOT / "spaces_demo"
PACKAGE = ROOT / "hf_latent_bridge"
SETTINGS = "settings.json"
README = "README.md"
EXTRAS = ("encoders", "demo")
KEYWORDS = ("namespace", "private", "create_pr", "token")
OWN = "local"  # the namespace in the header of spaces_demo/README.md


def publish_space(
    repo_id: str,
    *,
    namespace: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> "CommitInfo":
    """Commits all files of the Space; none if nothing changed.

    Args:
        repo_id: Such as "me/latent-bridge"; created if it is not there.
        namespace: User or organisation whose repos the Space loads; None for the Space's own.
        private: Visibility of a new Space; None for the account's default.
        create_pr: Open a pull request instead of committing.
        token: Hub token; None for the one that is logged in.

    Raises:
        ValueError: requirements.txt lacks a dependency of the library.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if lacking := missing_requirements():
        raise ValueError(f"spaces_demo/requirements.txt must name and pin {', '.join(lacking)}")
    api = HfApi(token=token)
    repo_id = api.create_repo(
        repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True
    ).repo_id
    files = space_files(namespace or repo_id.split("/")[0])
    held = api.list_repo_files(repo_id, repo_type="space")
    stale = [path for path in held if path.endswith(".py") and path not in files]
    operations: list[Any] = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(
        repo_id,
        repo_type="space",
        operations=operations + [CommitOperationDelete(path) for path in stale],
        commit_message="Upload the Space",
        create_pr=create_pr,
    )


def space_files(namespace: str) -> dict[str, bytes]:
    """Path in the repo -> content: the app, the library and its licence."""
    files = {path.relative_to(SPACE).as_posix(): path for path in _files_in(SPACE)}
    files |= {path.relative_to(ROOT).as_posix(): path for path in _files_in(PACKAGE)}
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    contents[README] = _with_namespace(contents[README].decode(), namespace).encode()
    settings = json.loads(contents.get(SETTINGS, b"{}")) | {"namespace": namespace}
    contents[SETTINGS] = (json.dumps(settings, indent=2) + "\n").encode()
    return dict(sorted(contents.items()))


def missing_requirements() -> list[str]:
    """Dependencies of the library and the app that requirements.txt lacks or pins too low."""
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    versions = {pin.name.lower(): next(iter(pin.specifier)).version for pin in pinned}
    return [
        str(needed)
        for needed in _dependencies()
        if not needed.specifier.contains(versions.get(needed.name.lower(), ""))
    ]


def _dependencies() -> Iterator[Requirement]:
    """Dependencies in pyproject.toml: the library's own and the extras that the Space uses."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    for line in [*project["dependencies"], *extras]:
        requirement = Requirement(line)
        if requirement.name != project["name"]:
            yield requirement


def _files_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def _with_namespace(text: str, namespace: str) -> str:
    """The README with the repo ids in its header under another namespace."""
    header, end, body = text.partition("\n---\n")
    return re.sub(rf"^- {OWN}/", f"- {namespace}/", header, flags=re.MULTILINE) + end + body


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("repo_id", help='such as "me/latent-bridge"')
    parser.add_argument("--namespace", help="whose repos it loads (default: the Space's own)")
    parser.add_argument("--private", action="store_true", default=None)
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--token", help="Hub token (default: the one that is logged in)")


def run(options: argparse.Namespace) -> int:
    """Publishes and prints the address of the commit; returns the exit code."""
    from huggingface_hub.errors import HfHubHTTPError

    keywords = {name: getattr(options, name) for name in KEYWORDS}
    try:
        commit = publish_space(options.repo_id, **keywords)
    except (HfHubHTTPError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(commit.pr_url or commit.commit_url)
    return 0
