"""Classifies a text by a head: from its own encoder's latents, translated and untranslated ones."""

import time
from dataclasses import dataclass
from typing import Any

import look
import numpy as np
import torch
from limits import check_choice, check_text
from methods import methods
from repos import Repos

from hf_latent_bridge import (
    Head,
    SpaceSpec,
    fit_head,
    fit_translator,
    load_pairs,
)
from hf_latent_bridge.translators.latent_map import Map

READERS = {"MiniLM": "MPNet", "MPNet": "MiniLM"}  # encoder -> the encoder of the head
ANCHORS = (25, 50, 100, 250, 500, 1000)

Bars = dict[str, Any]
Facts = list[dict[str, str]]


@dataclass(frozen=True)
class Side:
    """An encoder's view of the news.

    Attributes:
        name: Its short name.
        space: The space of its latents.
        train: Latents that heads and maps are fitted on, (n, d).
        test: Latents that nothing is fitted on, (m, d).
        head: A classifier of its latents.
        classes: The true classes of the held-out articles, m of them.
    """

    name: str
    space: SpaceSpec
    train: np.ndarray
    test: np.ndarray
    head: Head
    classes: list[str]

    def accuracy(self, latents: Any) -> float:
        """Share of the held-out articles that the head classifies right by these latents."""
        found = self.head(latents)
        return float(np.mean([a["label"] == b for a, b in zip(found, self.classes, strict=True)]))


@dataclass(frozen=True)
class Bridge:
    """A map into a head's space, how it was made, and the head's accuracy on translated latents."""

    map: Map
    accuracy: float
    anchors: int = 0
    seconds: float = 0.0


def classify_by_each(
    repos: Repos, text: str, reader: str, method: str, anchors: int
) -> tuple[Bars, Bars, Bars, Facts]:
    """Classifies a text by a head, from latents of its own encoder and of another one.

    Args:
        repos: The repos of the Space.
        text: The text to classify.
        reader: The other encoder, "MiniLM" or "MPNet".
        method: The method of the translator.
        anchors: How many articles to fit it on.

    Returns:
        The labels of the native, the stitched and the untranslated model, each with its accuracy
        on held-out articles, and the time of each step.
    """
    text = check_text(text, "a text")
    check_choice(reader, READERS, "The encoder")
    check_choice(method, methods(), "The method")
    anchors = check_choice(anchors, ANCHORS, "The number of anchors")
    source, target = side(repos, reader), side(repos, READERS[reader])
    stitched, raw = (
        bridge(repos, source, target, method, anchors),
        untranslated(repos, source, target),
    )
    native = repos.once(("native", target.name), lambda: target.accuracy(target.test))
    times: Facts = []
    with look.timed(times, f"{source.name} encodes in"):
        latents = repos.encoder(source.space).encode([text])
    with look.timed(times, "translated in"):
        carried = stitched.map(latents)
    with look.timed(times, "classified in"):
        (labels,) = target.head(carried, top_k=len(target.head.labels))
    with look.timed(times, f"{target.name} encodes in"):
        own = repos.encoder(target.space).encode([text])
    (native_labels,) = target.head(own, top_k=len(labels))
    (raw_labels,) = target.head(raw.map(latents), top_k=len(labels))
    took = {"name": f"map fitted on {stitched.anchors:,} anchors in"}
    times.append(took | {"value": look.milliseconds(stitched.seconds)})
    return (
        _bars(target, f"{target.name} itself", native, native_labels),
        _bars(target, f"{source.name}, stitched to the head", stitched.accuracy, labels),
        _bars(target, f"{source.name}, untranslated", raw.accuracy, raw_labels),
        times,
    )


def side(repos: Repos, name: str) -> Side:
    """An encoder's published latents and head; MiniLM's head is trained here on the same texts."""

    def load() -> Side:
        published = repos.translator("minilm-to-mpnet")
        column = "source" if name == "MiniLM" else "target"
        space: SpaceSpec = getattr(published, f"{column}_")
        train, test = (repos.latents("demo-news", split) for split in ("train", "test"))
        latents = getattr(train, column)
        if name == "MPNet":
            head = repos.decoder("news-head")
        else:
            head = fit_head(latents, train.rows["label"][:], space=space)
        return Side(name, space, latents, getattr(test, column), head, test.rows["label"][:])

    return repos.once(("side", name), load)


def bridge(repos: Repos, source: Side, target: Side, method: str, anchors: int) -> Bridge:
    """A map fitted on some of the published articles, once for each choice."""

    def fit() -> Bridge:
        pairs = load_pairs([source.train, target.train], max_pairs=anchors)
        start = time.perf_counter()
        fitted = fit_translator(methods()[method], source.space, target.space, pairs)
        seconds = time.perf_counter() - start
        accuracy = target.accuracy(fitted.transform(source.test))
        return Bridge(fitted.map_, accuracy, len(pairs), seconds)

    return repos.once(("bridge", source.name, method, anchors), fit)


def untranslated(repos: Repos, source: Side, target: Side) -> Bridge:
    """The map that only pads with zeros, or cuts."""

    def measure() -> Bridge:
        absolute = repos.untranslated(source.space.dim, target.space.dim)
        return Bridge(absolute, target.accuracy(absolute(torch.from_numpy(source.test))))

    return repos.once(("untranslated", source.name), measure)


def _bars(target: Side, title: str, accuracy: float, ranked: list[dict[str, Any]]) -> Bars:
    scores, best = {answer["label"]: answer["score"] for answer in ranked}, ranked[0]["label"]
    rows = [
        {"label": label, "percent": round(100 * scores[label], 1), "best": label == best}
        for label in target.head.labels
    ]
    note = f"right for {100 * accuracy:.1f} % of {len(target.classes):,} held-out articles"
    return {"title": title, "note": note, "labels": rows}
