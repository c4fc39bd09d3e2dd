"""Times `load_encoder` against `SentenceTransformer.encode`: same model, same texts, one run.

Both sides take turns, so that whatever else the machine does meets both alike; what counts is the
ratio of the medians.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from assets.cache import cache_root
from local_hub import LocalHub

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DATASET = "local/bbc-news"


def main() -> None:
    """Prints texts per second of both for articles and for their first sentences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=150, help="how many (default 150)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default 3)")
    args = parser.parse_args()
    with LocalHub(root=cache_root() / "hub") as hub:
        os.environ.update(hub.environment(cache_root() / "home"))
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        from seed_hub import seed

        seed(["minilm", "bbc-news"], quiet=True)
        compare(args.texts, args.repeats)


def compare(n: int, repeats: int) -> None:
    """Encodes `n` texts by turns, and prints medians, their ratio and the largest difference."""
    from sentence_transformers import SentenceTransformer

    from hf_latent_bridge import load_encoder, load_pairs

    articles = list(load_pairs(DATASET, split="test", source="text", max_pairs=n).source)
    ours, theirs = load_encoder(MODEL, device="cpu"), SentenceTransformer(MODEL, device="cpu")
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


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
