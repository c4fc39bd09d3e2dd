"""Encodes columns, publishes them as datasets, and fits translators on the published latents."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from assets.repo_files import shuffle_key, write_split
from common import MAX_LENGTH
from datasets import Features
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from demo_repos.inputs import Inputs
from demo_repos.progress import Progress
from demo_repos.publish import RECORD
from hf_latent_bridge import (
    AffineTranslator,
    CachedEncoder,
    OrthoTranslator,
    Pairs,
    SpaceSpec,
    Translator,
    evaluate_latents,
    fit_translator,
    load_encoder,
    load_pairs,
)

Matrix = npt.NDArray[np.float32]

ALPHAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SHARE = 0.2
CHUNK = 128  # items between two reports of progress
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


def text_encoder(name: str, inputs: Inputs) -> CachedEncoder:
    """An encoder of texts, all of one length."""
    return CachedEncoder(load_encoder(name, max_length=MAX_LENGTH), inputs.cache)


def to_column(
    encoder: CachedEncoder, items: Sequence[Any], progress: Progress, seconds: float
) -> list[Matrix]:
    """One latent (d,) for each item: a column of a dataset.

    Args:
        encoder: Encodes them.
        items: All of them.
        progress: Is told of each chunk.
        seconds: That an item takes on two cores.
    """
    progress.task(f"encoding {len(items):,} items by {encoder.space.repo_id}", seconds * len(items))
    chunks = [encoder.encode(chunk).float().numpy() for chunk in progress.each(items, CHUNK)]
    return [row for chunk in chunks for row in chunk]


def push_translator(
    repo_id: str,
    translator: Translator,
    spaces: tuple[SpaceSpec, SpaceSpec],
    splits: tuple[Pairs, Pairs],
) -> None:
    """Fits on the first split, and pushes with the report on the second."""
    train, test = splits
    fit_translator(translator, *spaces, train)
    report = evaluate_latents(
        translator, stack(test.source), stack(test.target), dataset=test.dataset
    )
    translator.push_to_hub(repo_id, metrics=report)


def published_pairs(
    repo_id: str, commit: str, source: str = "source", target: str = "target"
) -> tuple[Pairs, Pairs]:
    """Latents of the splits train and test of a published dataset."""
    train, test = (
        load_pairs(repo_id, split=split, source=source, target=target, revision=commit)
        for split in ("train", "test")
    )
    return train, test


def stack(column: Sequence[Any]) -> Matrix:
    """The latents of a column as a matrix (n, d)."""
    return np.stack(list(column)).astype(np.float32)


def candidates() -> list[Translator]:
    """A rotation, and ridge maps from hardly to strongly penalised."""
    return [OrthoTranslator(), *(AffineTranslator(alpha=alpha) for alpha in ALPHAS)]


def choose_method(pairs: Pairs, groups: npt.NDArray[np.str_]) -> Translator:
    """The candidate with the best mean reciprocal rank on held-out groups.

    Args:
        pairs: Latents to choose on.
        groups: The group of each pair, (n,); a fifth of the pairs is held out, in whole groups.
    """
    x, y = stack(pairs.source), stack(pairs.target)
    held = _held_out(groups)
    moments = OrthoTranslator().pair_moments(x[~held], y[~held])

    def score(translator: Translator) -> float:
        fitted = translator.fit_moments(moments)
        report = evaluate_latents(fitted, x[held], y[held], n_bootstrap=1, n_permutations=1)
        return report.translated.mrr

    return max(candidates(), key=score)


def _held_out(groups: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    names, sizes = np.unique(groups, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: shuffle_key(str(names[i])))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(groups, names[order][before < SHARE * len(groups)])


def push_dataset(
    api: HfApi,
    repo_id: str,
    splits: Mapping[str, Mapping[str, Sequence[Any]]],
    features: Features,
    card: str,
) -> str:
    """Commits the files that differ; returns the commit that holds the data.

    The record of repos that were made from older data is removed in the same commit.
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


def dataset_card(api: HfApi, title: str, text: str, made_from: str) -> str:
    """A card with the licence of the dataset that the rows come from, `made_from`."""
    import yaml

    data = api.dataset_info(made_from).card_data
    known: dict[str, Any] = data.to_dict() if data else {}  # type: ignore[no-untyped-call]
    kept = {field: known[field] for field in _LICENSE_FIELDS if known.get(field)}
    header = yaml.safe_dump(kept or {"license": "unknown"}, sort_keys=False).strip()
    return _CARD.format(license=header, title=title, text=text)
