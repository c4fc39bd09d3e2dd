"""Publishes the splits of a dataset as parquet files in one commit, latents as float32."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.tables import write_split
from datasets import Features
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from demo_parts.record import NAME as RECORD

_CARD = """\
---
{license}
pretty_name: {title}
tags:
- hf-latent-bridge
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---

# {title}

{text}
"""
_LICENSE_FIELDS = ("license", "license_name", "license_link", "language")


def push_dataset(
    api: HfApi,
    repo_id: str,
    splits: Mapping[str, Mapping[str, Sequence[Any]]],
    features: Features,
    card: str,
) -> str:
    """Commits what differs; returns the commit that holds the data.

    A record of parts made of other data is removed in the same commit.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, columns in splits.items():
            write_split(folder, split, columns, features)
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet")}
        contents = {path: file.read_bytes() for path, file in files.items()}
    api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
    contents["README.md"] = card.encode()
    operations: list[Any] = [CommitOperationAdd(*item) for item in sorted(contents.items())]
    if api.file_exists(repo_id, RECORD, repo_type="dataset"):
        operations.append(CommitOperationDelete(RECORD))
    commit = api.create_commit(
        repo_id, repo_type="dataset", operations=operations, commit_message="Add latents"
    )
    return str(commit.oid)


def dataset_card(api: HfApi, title: str, text: str, made_of: str) -> str:
    """A card with the licence of the dataset that the rows come from."""
    import yaml

    data = api.dataset_info(made_of).card_data
    known: dict[str, Any] = data.to_dict() if data else {}  # type: ignore[no-untyped-call]
    kept = {field: known[field] for field in _LICENSE_FIELDS if known.get(field)}
    header = yaml.safe_dump(kept or {"license": "unknown"}, sort_keys=False).strip()
    return _CARD.format(license=header, title=title, text=text)
