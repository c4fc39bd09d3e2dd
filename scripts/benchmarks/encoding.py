"""Times `load_encoder` against `SentenceTransformer.encode`: same model, same texts, one run.

The two take turns, so that other work on the machine slows both alike; compare the medians.
"""

import argparse

import numpy as np
from common import MINILM, embedded_hub, positive, seconds

DATASET = "local/bbc-news"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--texts", type=positive, default=150, help="how many (default 150)")
    parser.add_argument("--repeats", type=positive, default=3, help="runs of each (default 3)")


def run(options: argparse.Namespace) -> int:
    """Prints texts per second of both, for articles and their beginnings; returns the exit code."""
    with embedded_hub(["minilm", "bbc-news"]):
        compare(options.texts, options.repeats)
    return 0


def compare(n: int, repeats: int) -> None:
    """Encodes `n` texts by turns, and prints medians, their ratio and the largest difference."""
    from sentence_transformers import SentenceTransformer

    from hf_latent_bridge import load_encoder, load_pairs

    articles = list(load_pairs(DATASET, split="test", source="text", max_pairs=n).source)
    ours, theirs = load_encoder(MINILM, device="cpu"), SentenceTransformer(MINILM, device="cpu")
    print(f"{'':18}{'load_encoder':>16}{'SentenceTransformer':>22}{'ratio':>8}{'max |diff|':>12}")
    for name, texts in (
        ("articles", articles),
        ("first 60 letters", [text[:60] for text in articles]),
    ):
        gap = np.abs(ours.encode(texts).numpy() - theirs.encode(texts)).max()
        runs = [
            (seconds(lambda t=texts: ours.encode(t)), seconds(lambda t=texts: theirs.encode(t)))  # type: ignore[misc]
            for _ in range(repeats)
        ]
        a, b = np.median(runs, axis=0)
        print(f"{name:18}{n / a:14.1f}/s{n / b:20.1f}/s{b / a:8.2f}{gap:12.1e}", flush=True)
