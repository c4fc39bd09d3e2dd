"""The user's side of the quickstart: knows a dataset and translators by their names on the Hub.

A classifier is trained on latents of the target encoder alone; then it reads what the translators
make of the source encoder's latents.
"""

import sys
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from hf_latent_bridge import (
    AutoTranslator,
    CachedEncoder,
    Report,
    Translator,
    evaluate_latents,
    load_encoder,
    load_pairs,
)

HEADER = f"  {'':14}{'recall@1':>10}{'recall@10':>11}{'MRR':>8}{'cosine':>8}{'accuracy':>10}"


def main(dataset: str, cache: str, *repo_ids: str) -> None:
    """Prints a table: how well counterparts are found, and how well the classifier reads."""
    translators = {repo_id: AutoTranslator.from_pretrained(repo_id) for repo_id in repo_ids}
    first = next(iter(translators.values()))
    source, target = (
        CachedEncoder(load_encoder(space), cache) for space in (first.source_, first.target_)
    )
    anchors = load_pairs(
        dataset,
        split="train",
        source="text",
        target="label",
        max_pairs=first.dataset_["max_pairs"],
        seed=first.dataset_["seed"],
    )
    held_out = load_pairs(dataset, split="test", source="text", target="label")
    texts, labels = list(held_out.source), list(held_out.target)
    start = time.perf_counter()
    x, y = source.encode(texts), target.encode(texts)
    print(f"  {f'encode {len(texts)} held-out articles':52} {time.perf_counter() - start:6.1f} s")
    head = LogisticRegression(max_iter=1000)
    head.fit(target.encode(list(anchors.source)).numpy(), list(anchors.target))
    print_table(head, translators, x, y, labels)


def print_table(
    head: LogisticRegression,
    translators: dict[str, Translator],
    x: Tensor,
    y: Tensor,
    labels: list[int],
) -> None:
    """One row for the native latents, each translator, no translation and chance."""
    reports = {repo_id: evaluate_latents(t, x, y) for repo_id, t in translators.items()}
    padded = torch.nn.functional.pad(x, (0, y.shape[1] - x.shape[1]))
    print(f"\n{HEADER}")
    print(f"  {'native':14}{'':37}{head.score(y.numpy(), labels):10.3f}")
    for repo_id, translator in translators.items():
        accuracy = head.score(translator.transform(x).numpy(), labels)
        print_row(translator.translator_type, reports[repo_id], "translated", accuracy)
    report = reports[min(reports)]
    print_row("untranslated", report, "untranslated", head.score(padded.numpy(), labels))
    print_row("chance", report, "shuffled", np.bincount(labels).max() / len(labels))


def print_row(name: str, report: Report, row: str, accuracy: float) -> None:
    """One row of the table."""
    scores = getattr(report, row)
    print(
        f"  {name:14}{scores.recall_at_1:10.3f}{scores.recall_at_10:11.3f}{scores.mrr:8.3f}"
        f"{scores.cosine:8.3f}{accuracy:10.3f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
