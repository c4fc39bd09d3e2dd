"""Fits that a test runs alone and as several real processes; as a script, under torchrun."""

import json
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import torch

from hf_latent_bridge import (
    KernelTranslator,
    LinearTranslator,
    OrthoTranslator,
    Pairs,
    TranslatorChoice,
    choose_anchors,
    fit_shared_space,
    fit_translator,
    load_encoder,
    load_pairs,
)
from hf_latent_bridge.errors import SelectionWarning
from hf_latent_bridge.fitting.processes import Processes

TEXTS = "alice/tiny-texts-in-6-shards"
N_TEXTS = 199  # no multiple of 2 or 3
ENCODERS = ("alice/tiny-sbert-16-0-unit", "alice/tiny-sbert-16-1-unit")
COLUMNS = {"split": "train", "source": "text", "target": "de"}
CHUNK_SIZE = 16


def of_texts(repo_id, **options):
    """A fit on the texts of the embedded Hub."""
    source, target = (load_encoder(name, device="cpu") for name in ENCODERS)
    pairs = load_pairs(repo_id, **COLUMNS, **options)
    return fit_translator(OrthoTranslator(), source, target, pairs, chunk_size=CHUNK_SIZE)


def of_vectors(n, *, spoil=(), **options):
    """A fit on `n` random vectors, some of them spoiled."""
    draw = np.random.default_rng(0)
    x, y = (draw.normal(size=(n, width)).astype(np.float32) for width in (5, 7))
    x[list(spoil)] = np.nan
    return fit_translator(LinearTranslator(), None, None, (x, y), chunk_size=CHUNK_SIZE, **options)


def of_similarities(n):
    """A fit of a map that is not affine, with landmarks from the first vectors."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(n, 5)), draw.normal(size=(n, 7))
    kernel = KernelTranslator(n_landmarks=10)
    return fit_translator(kernel, None, None, (x, y), chunk_size=CHUNK_SIZE)


def of_a_generator(n):
    """A fit on a stream of the user's own, which has one shard."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(n, 5)), draw.normal(size=(n, 7))

    def rows():
        for a, b in zip(x, y, strict=True):
            yield {"a": a, "b": b}

    stream = datasets.IterableDataset.from_generator(rows)
    pairs = load_pairs(stream, source="a", target="b")
    return fit_translator(LinearTranslator(), None, None, pairs, chunk_size=CHUNK_SIZE)


def of_anchors(n):
    """A fit on some of 151 random vectors, which all processes encode to choose them."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(151, 5)), draw.normal(size=(151, 7))
    anchors = choose_anchors(
        Pairs(range(151), y), n, "farthest", source=lambda rows: x[rows], chunk_size=CHUNK_SIZE
    )
    return fit_translator(LinearTranslator(), lambda rows: x[rows], None, anchors)


def of_a_choice(n):
    """The best of several translators at finding counterparts, on a sample of random vectors."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 5))
    y = x @ draw.normal(size=(5, 7)) + 0.3 * draw.normal(size=(n, 7))
    choice = TranslatorChoice("counterpart", max_held_out=100)
    with warnings.catch_warnings():  # so few dimensions like the largest penalty
        warnings.simplefilter("ignore", SelectionWarning)
        return fit_translator(choice, None, None, (x, y), chunk_size=CHUNK_SIZE)


def failing_at(item):
    """An encoder that fails on one item."""

    def encode(items):
        if item in items:
            raise RuntimeError("out of memory")
        return np.eye(4, dtype=np.float32)[[number % 4 for number in items]]

    return encode


FAILURES = {
    "a bad row in one process": lambda: of_vectors(100, spoil=(20,)),
    "only bad rows": lambda: of_vectors(10, spoil=range(10), on_bad_row="skip"),
    "a failing encoder in one process": lambda: fit_translator(
        OrthoTranslator(),
        failing_at(20),
        failing_at(-1),
        (range(100), range(100)),
        chunk_size=CHUNK_SIZE,
    ),
}
FITS = {
    "map-style": lambda: of_texts(TEXTS),
    "streamed": lambda: of_texts(TEXTS, streaming=True),
    "streamed, without duplicates": lambda: of_texts(TEXTS, streaming=True, deduplicate=True),
    "a sample of a stream": lambda: of_texts(TEXTS, streaming=True, max_pairs=77, seed=3),
    "vectors": lambda: of_vectors(1001),
    "vectors, multiplied in float32": lambda: of_vectors(1001, gemm_dtype=torch.float32),
    "a map that is not affine": lambda: of_similarities(151),
    "a stream of the user's own": lambda: of_a_generator(151),
    "more processes than chunks": lambda: of_vectors(20),
    "the best of several": lambda: of_a_choice(151),
    "anchors far apart": lambda: of_anchors(30),
    "bad rows skipped": lambda: of_vectors(151, spoil=(3, 40, 41, 150), on_bad_row="skip"),
}


def of_views(n):
    """A shared space of `n` random vectors of three views, which is chosen by folds."""
    draw = np.random.default_rng(0)
    signal = draw.normal(size=(n, 4))
    views = {name: signal @ draw.normal(size=(4, d)) for name, d in (("a", 5), ("b", 7), ("c", 6))}
    views = {name: x + draw.normal(size=x.shape) for name, x in views.items()}
    return fit_shared_space(dict.fromkeys("abc"), views, 4, chunk_size=CHUNK_SIZE)


SPACES = {"a shared space": lambda: of_views(199)}
CASES = {
    **FAILURES,
    **FITS,
    **SPACES,
}  # a fit after a failed one must not take its failure for its own


def outcome(name):
    """What a case gives: its moments and map, or its error."""
    try:
        fitted = CASES[name]()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if name in SPACES:
        return {
            "n": fitted.n_pairs_,
            "bits": fitted.information_.bits,
            "weights": [view.map_.weight.abs().tolist() for view in fitted.views_.values()],
            "processes": fitted.fit_summary_.processes,
        }
    moments = {k: v.tolist() for k, v in fitted.moments_.to_tensors().items()}
    return {
        "n": fitted.n_pairs_,
        "moments": moments,
        "weight": fitted.map_.weight.tolist(),
        "dataset": fitted.dataset_,
        "processes": fitted.fit_summary_.processes,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for number, case in enumerate(CASES):
        content = json.dumps(outcome(case))
        (folder / f"{number}-{Processes.current().share.rank}.json").write_text(content)
