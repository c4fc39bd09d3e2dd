"""Prints the figures of the decisions in docs/adr, from the quickstart's latents.

After `make quickstart` this takes seconds.
"""

import argparse
import warnings

import numpy as np
import torch
from assets.cache import cache_root
from common import MAX_LENGTH, MINILM, MPNET, embedded_hub
from quickstart import ANCHORS, ASSETS, DATASET
from torch import Tensor

DRAWS = 3
FEW = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds none: the figures are those of the quickstart's articles."""


def run(options: argparse.Namespace) -> int:
    """Prints the figures of decisions 1, 2 and 3; returns the exit code."""
    warnings.simplefilter("ignore")
    with embedded_hub(ASSETS):
        x, y, test_x, test_y = load_latents()
    print(f"{ANCHORS:,} anchors, {len(test_x)} held out, {MAX_LENGTH} tokens\n")
    print_precision(x, y)
    print_completion(x, y, test_x, test_y)
    print_dead_columns(x, y)
    return 0


def load_latents() -> tuple[Tensor, ...]:
    """Anchors and held-out articles as both encoders see them."""
    from hf_latent_bridge import CachedEncoder, load_encoder, load_pairs

    cache = cache_root() / "latents"
    source, target = (
        CachedEncoder(load_encoder(name, max_length=MAX_LENGTH), cache) for name in (MINILM, MPNET)
    )
    train = list(load_pairs(DATASET, split="train", source="text", max_pairs=ANCHORS).source)
    test = list(load_pairs(DATASET, split="test", source="text").source)
    return tuple(encoder.encode(t) for t in (train, test) for encoder in (source, target))


def print_precision(x: Tensor, y: Tensor) -> None:
    """Decision 1: the distance of `linear` from NumPy's least squares, by precision."""
    from hf_latent_bridge import LinearTranslator

    live = x.double().std(0) > 1e-6
    a = np.hstack([x[:, live].double().numpy(), np.ones((len(x), 1))])
    reference = np.linalg.lstsq(a, y.double().numpy(), rcond=None)[0][:-1]
    print("linear against numpy.linalg.lstsq (live columns, with intercept):")
    for dtype in (torch.float32, torch.float64):
        fitted = LinearTranslator().fit(x.to(dtype), y.to(dtype))
        weight = fitted.map_.state_dict()["weight"].double().numpy()
        difference = weight[live.numpy()] - reference
        relative = np.linalg.norm(difference) / np.linalg.norm(reference)
        largest = np.abs(difference).max()
        print(f"  {dtype!s:16} largest {largest:.1e}, relative Frobenius {relative:.1e}")


def print_completion(x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> None:
    """Decision 2: recall@1 of the minimum-norm rotation and of the one that LAPACK completes."""
    from hf_latent_bridge import OrthoTranslator, evaluate_latents, metrics

    recalls: dict[str, list[float]] = {"minimum norm": [], "completed": []}
    for seed in range(DRAWS):
        rows = np.random.default_rng(seed).choice(len(x), FEW, replace=False)
        translator = OrthoTranslator(scaling="center").fit(x[rows], y[rows])
        report = evaluate_latents(translator, test_x, test_y)
        recalls["minimum norm"].append(report.translated.recall_at_1)
        centred = x[rows] - x[rows].mean(0), y[rows] - y[rows].mean(0)
        u, _, vh = torch.linalg.svd(centred[0].mT @ centred[1], full_matrices=False)
        predicted = (test_x - x[rows].mean(0)) @ u @ vh + y[rows].mean(0)
        ranks = metrics.counterpart_ranks(predicted, test_y)
        recalls["completed"].append(metrics.recall_at_k(ranks, 1))
    print(f"\northo (centred) from {FEW} anchors, recall@1, mean of {DRAWS} draws:")
    for name, values in recalls.items():
        print(f"  {name:16} {np.mean(values):.3f}")


def print_dead_columns(x: Tensor, y: Tensor) -> None:
    """Decision 3: the flattest columns of both encoders."""
    print("\ndeviation of the four flattest columns, and the median:")
    for name, latents in ((MINILM, x), (MPNET, y)):
        deviations = latents.double().std(0, correction=0).sort().values
        flat = ", ".join(f"{d:.0e}" for d in deviations[:4].tolist())
        print(f"  {name.split('/')[1]:20} {flat}; {deviations.median():.3f}")
