"""Reads and checks the YAML header of a README, and derives the repo's tags from it."""

import re
from typing import Any

import yaml

from .blobs import Blobs
from .errors import HubError
from .messages import Reply, Request, json_reply
from .repository import Commit, Repo
from .store import Store

_HEADER = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)


def header_problems(text: str) -> list[str]:
    """The problems of a README's YAML header."""
    header = _HEADER.match(text)
    try:
        metadata = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError as error:
        return [str(error)]
    if metadata is None:
        return []
    if not isinstance(metadata, dict):
        return ["metadata must be an object"]
    if not isinstance(metadata.get("license", ""), str | list):
        return ['"license" must be a string or a list']
    return []


def check_header(text: str) -> None:
    """Refuses a README with an invalid YAML header."""
    if problems := header_problems(text):
        errors = [{"message": problem} for problem in problems]
        message = f"Invalid metadata in README.md: {problems[0]}"
        raise HubError(400, message, details={"errors": errors, "warnings": []})


def validate_yaml(store: Store, request: Request) -> Reply:
    """Checks a README before it is committed."""
    text = request.json["content"]
    check_header(text)
    missing = {"message": "empty or missing yaml metadata in repo card"}
    return json_reply({"errors": [], "warnings": [] if _HEADER.match(text) else [missing]})


def metadata(blobs: Blobs, commit: Commit) -> dict[str, Any]:
    """The header of a commit's README; an invalid one counts as empty."""
    readme = commit.tree.get("README.md")
    text = blobs.read(readme).decode("utf-8", "replace") if readme else ""
    header = _HEADER.match(text)
    if header is None or header_problems(text):
        return {}
    return yaml.safe_load(header[1]) or {}


def tags(repo: Repo, commit: Commit, card: dict[str, Any]) -> list[str]:
    """The tags by which the Hub's search finds a repo."""
    found = [card.get("library_name"), card.get("pipeline_tag"), *_list(card, "tags")]
    if any(path.endswith(".safetensors") for path in commit.tree):
        found.append("safetensors")
    if card.get("model-index"):
        found.append("model-index")
    language = "language:" if repo.kind == "datasets" else ""
    found += [f"{language}{value}" for value in _list(card, "language")]
    found += [f"dataset:{value}" for value in _list(card, "datasets")]
    found += [f"license:{value}" for value in _list(card, "license")]
    for field in ("task_categories", "size_categories"):
        found += [f"{field}:{value}" for value in _list(card, field)]
    found += _base_models(card)
    return list(dict.fromkeys(tag for tag in found if tag))


def _base_models(card: dict[str, Any]) -> list[str]:
    models, relation = _list(card, "base_model"), card.get("base_model_relation")
    related = [f"base_model:{relation}:{model}" for model in models if relation]
    return [f"base_model:{model}" for model in models] + related


def _list(card: dict[str, Any], field: str) -> list[str]:
    value = card.get(field) or []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
