"""Describes a translator from its repo and from published latents."""

import re
import tempfile
import time
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import look
import numpy as np
import torch
from huggingface_hub import HfApi
from limits import Refusal
from repos import DEVICE, Latents, Repos

from hf_latent_bridge import AutoTranslator, LatentMap, SpaceSpec, Translator
from hf_latent_bridge.errors import (
    ConfigError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.hub.client import clear_errors

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
MAX_CONFIG = 2**20  # bytes
MAX_WEIGHTS = 2**25  # bytes: a float32 map between two spaces of 2,896 dimensions
LATENTS = {
    "minilm-to-mpnet": "demo-news",
    "title-to-picture": "demo-pictures",
    "autoencoder-a-to-b": "demo-fashion",
}
SHOWN = 48  # items in the projection
MAX_SCORES, MAX_NAME = 20, 40
MAX_LINES, MAX_LINE = 40, 100  # of the curve of a selection
BINS = 40  # of cosines between -1 and 1
FEW_PAIRS = 100

Numbers = dict[str, Any]
Vectors = np.ndarray


def inspect_repo(repos: Repos, repo_id: str | None) -> Numbers:
    """All numbers about the translator in a repo.

    Raises:
        Refusal: No repo id, no such repo, or one that is too large.
        LatentBridgeError: The repo holds no translator, or a broken one.
    """
    start = time.perf_counter()
    translator = open_translator(repos, repo_id)
    loaded = time.perf_counter()
    spectrum = torch.linalg.svdvals(_linear_part(translator))
    scores = read_scores(translator.metrics_)
    numbers: Numbers = {
        "repo_id": translator.repo_id,
        "commit": translator.commit,
        "method": translator.translator_type,
        "params": translator.params_,
        "source": asdict(translator.source_),
        "target": asdict(translator.target_),
        "n_pairs": translator.n_pairs_,
        "dataset": translator.dataset_,
        "n_test_pairs": _number(translator.metrics_, "n_pairs"),
        "scores": scores,
        "selection": read_selection(translator),
        "singular_values": spectrum.tolist(),
        "rank": int((spectrum > spectrum[0] * 1e-5).sum()),
    }
    numbers["warnings"] = find_weaknesses(numbers)
    numbers |= look_at_items(repos, translator)
    seconds = {"load": loaded - start, "compute": time.perf_counter() - loaded}
    return numbers | {"seconds": seconds}


def _linear_part(translator: Translator) -> torch.Tensor:
    """The weight of the whole map, norms left out, in float32."""
    steps = translator.map_.steps
    weights = [step.weight.float() for step in steps if isinstance(step, LatentMap)]
    if len(weights) < len(steps):
        raise Refusal(
            "This translator is not an affine map, so it has no singular values to show. "
            "The other tabs can use it."
        )
    width, widest = translator.source_.dim, max(weight.shape[1] for weight in weights)
    if 4 * width * widest > MAX_WEIGHTS:  # of a product: its narrow factors are small files
        raise Refusal(
            f"The map of this repo has {width:,} times {widest:,} numbers; up to "
            f"{MAX_WEIGHTS // 4:,} can be looked at."
        )
    return reduce(torch.matmul, weights)


def open_translator(repos: Repos, repo_id: str | None) -> Translator:
    """One of the Space's own translators, or a public one; its size is checked first."""
    name = repo_id.strip() if isinstance(repo_id, str) else ""
    if not REPO_ID.fullmatch(name) or ".." in name:
        raise Refusal("Please type the id of a translator's repo, such as me/minilm-to-mpnet.")
    for own in (*LATENTS, "picture-to-title"):
        if name == repos.settings.repo_id(own):
            return repos.translator(own)
    commit = _check_size(repos, name)
    if Path(name).exists():
        raise Refusal("This id cannot be looked up here: please try another repo.")
    with tempfile.TemporaryDirectory() as folder:  # visitors' repos are not kept
        try:
            load = AutoTranslator.from_pretrained
            return load(name, revision=commit, token=False, cache_dir=folder, device=DEVICE)
        except (ConfigError, RepoNotFoundError) as error:
            reason = str(error).removeprefix(f"{name}: ")
            raise Refusal(f"{name} holds no translator: {reason}.") from None


def read_scores(metrics: Any) -> list[Numbers]:
    """Each score with its interval, beside no translation and chance; None if the repo lacks it."""
    translated = metrics.get("translated") if isinstance(metrics, dict) else None
    names = list(translated)[:MAX_SCORES] if isinstance(translated, dict) else []
    return [
        {
            "score": name,
            "translated": _number(metrics, "translated", name),
            "interval": [_number(metrics, "intervals", name, end) for end in (0, 1)],
            "untranslated": _number(metrics, "untranslated", name),
            "chance": _number(metrics, "shuffled", name),
            "p_value": _number(metrics, "chance", name, "p_value"),
        }
        for name in names
        if len(name) <= MAX_NAME and _number(metrics, "translated", name) is not None
    ]


def read_selection(translator: Translator) -> Numbers | None:
    """How the map was chosen by cross-validation, and the curve as text; None where it was not."""
    selection = translator.selection_
    if selection is None:
        return None
    lines = [line[:MAX_LINE] for line in selection.plot().splitlines()[:MAX_LINES]]
    return {"summary": str(selection)[: 3 * MAX_LINE], "curve": "\n".join(lines)}


def find_weaknesses(numbers: Numbers) -> list[str]:
    """The reasons to doubt the fit, one sentence each."""
    n, width = numbers["n_pairs"], numbers["source"]["dim"]
    n_test, scores = numbers["n_test_pairs"], numbers["scores"]
    worse = [
        look.score_name(s["score"]) for s in scores if _at_most(s["translated"], s["untranslated"])
    ]
    by_chance = [
        look.score_name(s["score"])
        for s in scores
        if _at_most(s["interval"][0], s["chance"]) or _at_most(0.05, s["p_value"])
    ]
    found = {
        f"Fitted on {n:,} pairs, fewer than the {width:,} dimensions of the source: "
        "directions that no pair shows are guessed.": n < width,
        "The repo states no scores: nobody has said how well the map does.": not scores,
        f"Scored on {n_test or 0:,.0f} pairs only.": bool(scores) and (n_test or 0) < FEW_PAIRS,
        f"No better than no translation in {', '.join(worse)}.": bool(worse),
        f"Perhaps no better than chance in {', '.join(by_chance)}: the interval reaches it, "
        "or p is 0.05 or more.": bool(by_chance),
    }
    return [sentence for sentence, applies in found.items() if applies]


def look_at_items(repos: Repos, translator: Translator) -> Numbers:
    """Compares translated latents with the true ones, if latents of both are published."""
    items = find_latents(repos, translator)
    if items is None:
        return {"points": [], "explained": None, "cosines": [], "mean_cosine": None, "n_items": 0}
    translated = translator.transform(items.source)
    return {
        **project(repos, items, translated),
        **compare_cosines(translated, items.target),
        "n_items": len(items),
    }


def find_latents(repos: Repos, translator: Translator) -> Latents | None:
    """Published latents of the two spaces that a translator joins, in either direction."""
    for name, data in LATENTS.items():
        try:
            own = repos.translator(name)
        except Refusal:  # a part of the Space is missing, which says nothing about this repo
            continue
        ends = own.source_, own.target_
        if _same(translator.source_, ends[0]) and _same(translator.target_, ends[1]):
            return repos.latents(data, "test")
        if _same(translator.source_, ends[1]) and _same(translator.target_, ends[0]):
            found = repos.latents(data, "test")
            return Latents(found.rows, found.target, found.source)
    return None


def project(repos: Repos, items: Latents, translated: Vectors) -> Numbers:
    """A few items in the plane in which the target latents spread most."""
    from sklearn.decomposition import PCA

    padded = repos.untranslated(items.source.shape[1], items.target.shape[1])
    spaces = {
        "target": items.target,
        "translated": translated,
        "source": padded(torch.from_numpy(items.source)).numpy(),
    }
    plane = PCA(2, random_state=0).fit(items.target)
    points = [
        {"item": name, "latents": space, "x": float(x), "y": float(y)}
        for space, latents in spaces.items()
        for name, (x, y) in zip(_names(items), plane.transform(latents[:SHOWN]), strict=True)
    ]
    return {"points": points, "explained": float(plane.explained_variance_ratio_.sum())}


def compare_cosines(translated: Vectors, target: Vectors) -> Numbers:
    """Cosines of each translated item with its counterpart, and with every other item (chance)."""
    from sklearn.metrics.pairwise import cosine_similarity

    cosines = cosine_similarity(translated, target).clip(-1, 1)
    own, others = np.diagonal(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    counts, edges = zip(*(np.histogram(c, BINS, (-1, 1)) for c in (own, others)), strict=True)
    shares = 100 * counts[0] / len(own), 100 * counts[1] / len(others)
    return {
        "cosines": [
            {"cosine": round(float(edge + 1 / BINS), 3), "own": float(a), "others": float(b)}
            for edge, a, b in zip(edges[0][:-1], *shares, strict=True)
        ],
        "mean_cosine": {"own": float(own.mean()), "others": float(others.mean())},
    }


def _names(items: Latents) -> list[str]:
    """Names of the first items: their titles, or their classes."""
    if "title" in items.rows.column_names:
        return list(items.rows["title"][:SHOWN])
    names = items.rows.features["label"].names
    return [names[label] for label in items.rows["label"][:SHOWN]]


def _check_size(repos: Repos, name: str) -> str:
    """The newest commit of a public repo, if its files are small enough to download."""
    try:
        with repos.asking_hub(), clear_errors(name, token=False):
            info = HfApi(token=False).model_info(name, files_metadata=True)
    except (RepoNotFoundError, RepoAccessError):
        raise Refusal(f"There is no public repo {name} on this Hub.") from None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    for file, most in (("config.json", MAX_CONFIG), ("model.safetensors", MAX_WEIGHTS)):
        if sizes.get(file, 0) > most:
            raise Refusal(
                f"{file} of this repo has {sizes[file]:,} bytes; up to {most:,} can be looked at."
            )
    return str(info.sha)


def _same(one: SpaceSpec, other: SpaceSpec) -> bool:
    return one.repo_id is not None and one.repo_id == other.repo_id and not one.mismatches(other)


def _at_most(value: float | None, other: float | None) -> bool:
    return value is not None and other is not None and value <= other


def _number(content: Any, *keys: str | int) -> float | None:
    """The number at these keys of untrusted JSON; None if there is none."""
    for key in keys:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return None
    known = isinstance(content, int | float) and not isinstance(content, bool)
    return content if known else None
