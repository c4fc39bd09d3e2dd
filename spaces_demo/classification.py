"""Labels that a head gives to its own encoder's latents, to translated and untranslated ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import look
import numpy as np
import torch
from limits import check_choice, check_text
from parts import Parts

from hf_latent_bridge import (
    AffineTranslator,
    Head,
    LinearTranslator,
    LOrthoTranslator,
    OrthoTranslator,
    SpaceSpec,
    Translator,
    fit_head,
    fit_translator,
    load_pairs,
)
from hf_latent_bridge.translators.latent_map import Map

READERS = {"MiniLM": "MPNet", "MPNet": "MiniLM"}  # encoder -> whose head classifies
METHODS: dict[str, Callable[[], Translator]] = {
    "ortho": OrthoTranslator,
    "linear": LinearTranslator,
    "affine": partial(AffineTranslator, alpha=0.1),
    "l_ortho": LOrthoTranslator,
}
LABELS = {
    "ortho": "ortho (rotation)",
    "linear": "linear",
    "affine": "affine (alpha 0.1)",
    "l_ortho": "l_ortho",
}
ANCHORS = (25, 50, 100, 250, 500, 1000)

Bars = dict[str, Any]
Facts = list[dict[str, str]]


@dataclass(frozen=True)
class Side:
    """An encoder's view of the news.

    Attributes:
        name: What people call the encoder.
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
    """A map into a head's space: how it was made, and how often the head is right behind it."""

    map: Map
    accuracy: float
    anchors: int = 0
    seconds: float = 0.0


def classify_by_each(
    parts: Parts, text: str, reader: str, method: str, anchors: int
) -> tuple[Bars, Bars, Bars, Facts]:
    """What a head makes of a text that its own encoder reads, and that another one reads.

    Args:
        parts: What the Space has loaded.
        text: What to classify.
        reader: The other encoder, "MiniLM" or "MPNet".
        method: The method of the translator.
        anchors: How many articles to fit it on.

    Returns:
        The labels of the native, the stitched and the untranslated model, each with its accuracy
        on held-out articles, and the time of each step.
    """
    text = check_text(text, "a text")
    check_choice(reader, READERS, "The encoder")
    check_choice(method, METHODS, "The method")
    anchors = check_choice(anchors, ANCHORS, "The number of anchors")
    source, target = side(parts, reader), side(parts, READERS[reader])
    stitched, raw = (
        bridge(parts, source, target, method, anchors),
        untranslated(parts, source, target),
    )
    native = parts.once(("native", target.name), lambda: target.accuracy(target.test))
    times: Facts = []
    with look.timed(times, f"{source.name} encodes in"):
        latents = parts.encoder(source.space).encode([text])
    with look.timed(times, "translated in"):
        carried = stitched.map(latents)
    with look.timed(times, "classified in"):
        (labels,) = target.head(carried, top_k=len(target.head.labels))
    with look.timed(times, f"{target.name} encodes in"):
        own = parts.encoder(target.space).encode([text])
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


def side(parts: Parts, name: str) -> Side:
    """What is published of an encoder; a head of MiniLM's is trained here, on the same articles."""

    def load() -> Side:
        published = parts.translator("minilm-to-mpnet")
        column = "source" if name == "MiniLM" else "target"
        space: SpaceSpec = getattr(published, f"{column}_")
        train, test = (parts.latents("demo-news", split) for split in ("train", "test"))
        latents = getattr(train, column)
        if name == "MPNet":
            head = parts.decoder("news-head")
        else:
            head = fit_head(latents, train.rows["label"][:], space=space)
        return Side(name, space, latents, getattr(test, column), head, test.rows["label"][:])

    return parts.once(("side", name), load)


def bridge(parts: Parts, source: Side, target: Side, method: str, anchors: int) -> Bridge:
    """A map fitted on some of the published articles, once for each choice."""

    def fit() -> Bridge:
        pairs = load_pairs([source.train, target.train], max_pairs=anchors)
        start = time.perf_counter()
        fitted = fit_translator(METHODS[method](), source.space, target.space, pairs)
        seconds = time.perf_counter() - start
        accuracy = target.accuracy(fitted.transform(source.test))
        return Bridge(fitted.map_, accuracy, len(pairs), seconds)

    return parts.once(("bridge", source.name, method, anchors), fit)


def untranslated(parts: Parts, source: Side, target: Side) -> Bridge:
    """The map that only pads with zeros, or cuts."""

    def measure() -> Bridge:
        absolute = parts.untranslated(source.space.dim, target.space.dim)
        return Bridge(absolute, target.accuracy(absolute(torch.from_numpy(source.test))))

    return parts.once(("untranslated", source.name), measure)


def _bars(target: Side, title: str, accuracy: float, ranked: list[dict[str, Any]]) -> Bars:
    scores, best = {answer["label"]: answer["score"] for answer in ranked}, ranked[0]["label"]
    rows = [
        {"label": label, "percent": round(100 * scores[label], 1), "best": label == best}
        for label in target.head.labels
    ]
    note = f"right for {100 * accuracy:.1f} % of {len(target.classes):,} held-out articles"
    return {"title": title, "note": note, "labels": rows}
