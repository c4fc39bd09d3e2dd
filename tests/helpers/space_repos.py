"""The repos that the Space loads, small and made of random models, on the tests' embedded Hub.

The fixtures `repos` and `space` of conftest.py are built on it.
"""

import functools
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import space_encoders
import tiny_models
import torch
from warm import BASE, DEMO, Warm

NAMESPACE = "acme"
ANIMALS = {"dog", "cat", "bird"}
TRAIN, TEST = 240, 60  # rows of demo-news and demo-pictures
CLOTHES = {"train": 80, "test": 24}
APP = Path(__file__).parents[2] / "spaces_demo" / "app.py"


@functools.cache
def publish_repos() -> str:
    """Pushes every repo of `settings.NAMES`, once per run; returns their namespace."""
    from datasets import disable_progress_bars

    disable_progress_bars()
    publish_news()
    publish_pictures()
    publish_clothes()
    return NAMESPACE


def publish_news() -> None:
    """demo-news, and the index, head, translator and shared space of its two encoders."""
    from datasets import Features, Value

    from hf_latent_bridge import LatentIndex, OrthoTranslator, SharedSpace, fit_head

    encoders = text_encoders()
    splits = {"train": news_rows(TRAIN, seed=0), "test": news_rows(TEST, seed=1)}
    for columns in splits.values():
        for side, encoder in zip(("source", "target"), encoders, strict=True):
            columns[side] = encoder.encode(columns["text"]).numpy()
    push_dataset(
        "demo-news", splits, Features(dict.fromkeys(("text", "title", "label"), Value("string")))
    )
    train, test = splits["train"], splits["test"]
    spaces = [encoder.space for encoder in encoders]
    items = [
        {"title": title, "label": label, "row": row}
        for row, (title, label) in enumerate(zip(test["title"], test["label"], strict=True))
    ]
    index = LatentIndex.from_latents(test["target"], items, space=spaces[1])
    index.push_to_hub(f"{NAMESPACE}/news-index")
    head = fit_head(train["target"], train["label"], space=spaces[1])
    head.push_to_hub(f"{NAMESPACE}/news-head")
    push_translator("minilm-to-mpnet", OrthoTranslator(), splits, spaces)
    names = {"MiniLM": "source", "MPNet": "target"}
    shared = SharedSpace().fit(
        {name: np.asarray(train[side]) for name, side in names.items()},
        spaces=dict(zip(names, spaces, strict=True)),
    )
    shared.push_to_hub(f"{NAMESPACE}/news-shared")


def publish_pictures() -> None:
    """demo-pictures, both translators and both indexes, between titles and pictures."""
    from datasets import Features, Image, Value

    from hf_latent_bridge import AffineTranslator, LatentIndex

    encoders = [text_encoders()[1], space_encoders.picture_encoder(hidden=40)]
    splits = {"train": picture_rows(TRAIN, seed=2), "test": picture_rows(TEST, seed=3)}
    for columns in splits.values():
        columns["source"] = encoders[0].encode(columns["title"]).numpy()
        columns["target"] = encoders[1].encode(columns["image"]).numpy()
    splits["train"]["image"] = [None] * TRAIN
    features = {"image": Image(), "title": Value("string"), "folder": Value("string")}
    push_dataset("demo-pictures", splits, Features(features))
    spaces = [encoder.space for encoder in encoders]
    items = [{"title": title, "row": row} for row, title in enumerate(splits["test"]["title"])]
    for name, side, space in zip(
        ("title-index", "picture-index"), ("source", "target"), spaces, strict=True
    ):
        index = LatentIndex.from_latents(splits["test"][side], items, space=space)
        index.push_to_hub(f"{NAMESPACE}/{name}")
    push_translator("title-to-picture", AffineTranslator(alpha=0.1), splits, spaces)
    swapped = {
        split: {"source": columns["target"], "target": columns["source"]}
        for split, columns in splits.items()
    }
    push_translator("picture-to-title", AffineTranslator(alpha=0.1), swapped, spaces[::-1])


def publish_clothes() -> None:
    """The autoencoders, their translator and latents, by the script that makes the real ones."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
    from demo_repos import autoencoders

    features = Features({"image": Image(), "label": ClassLabel(names=["shirt", "boot"])})
    data = DatasetDict()
    for seed, (split, n) in enumerate(CLOTHES.items()):
        rows = {"image": garments(n, seed=seed), "label": [row % 2 for row in range(n)]}
        data[split] = Dataset.from_dict(rows, features)
    data.push_to_hub(f"{NAMESPACE}/tiny-clothes")
    autoencoders.publish(NAMESPACE, f"{NAMESPACE}/tiny-clothes", images=80, epochs=2, anchors=80)


def text_encoders() -> list[Any]:
    """The encoder of queries, 24 wide, and that of texts and titles, 32 wide."""
    return [space_encoders.text_encoder(hidden=24 + 8 * seed, seed=seed) for seed in (0, 1)]


def news_rows(n: int, *, seed: int) -> dict[str, Any]:
    """Sentences, their first three words as titles, and whether an animal is in them."""
    texts = tiny_models.sentences(n, tiny_models.EN, seed=seed)
    return {
        "text": texts,
        "title": [" ".join(text.split()[:3]) for text in texts],
        "label": ["animals" if ANIMALS & {*text.split()} else "things" for text in texts],
    }


def picture_rows(n: int, *, seed: int) -> dict[str, Any]:
    """Sentences as titles of pictures that show them."""
    titles = tiny_models.sentences(n, tiny_models.EN, seed=seed)
    folders = [f"folder-{seed}"] * n
    return {
        "image": [space_encoders.draw(title) for title in titles],
        "title": titles,
        "folder": folders,
    }


def garments(n: int, *, seed: int) -> list[Any]:
    """Grey pictures, 8 by 8 pixels, of bright rectangles."""
    from PIL import Image

    draw = np.random.default_rng(seed)
    pixels = np.zeros((n, 8, 8), dtype=np.uint8)
    for picture in pixels:
        top, left = draw.integers(0, 4, 2)
        height, width = draw.integers(2, 5, 2)
        picture[top : top + height, left : left + width] = draw.integers(100, 256)
    return [Image.fromarray(picture) for picture in pixels]


def push_dataset(name: str, splits: dict[str, dict[str, Any]], features: Any) -> None:
    """Columns with latents as a dataset, float32 as in the real ones."""
    from datasets import Dataset, DatasetDict, Features, List, Value

    sides = dict.fromkeys(("source", "target"), List(Value("float32")))
    tables = {
        split: Dataset.from_dict(
            {**columns, **{side: list(columns[side]) for side in sides}},
            Features({**features, **sides}),
        )
        for split, columns in splits.items()
    }
    DatasetDict(tables).push_to_hub(f"{NAMESPACE}/{name}")


def push_translator(name: str, translator: Any, splits: Any, spaces: list[Any]) -> None:
    """Fits on the split train, reports on the split test and pushes."""
    from hf_latent_bridge import evaluate_latents
    from hf_latent_bridge.errors import RankWarning

    pairs = {
        split: [torch.from_numpy(np.asarray(columns[side])) for side in ("source", "target")]
        for split, columns in splits.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)  # layer norms leave a direction out
        translator.fit(*pairs["train"], source=spaces[0], target=spaces[1])
    report = evaluate_latents(translator, *pairs["test"], n_bootstrap=50, n_permutations=50)
    translator.push_to_hub(f"{NAMESPACE}/{name}", metrics=report)


@contextmanager
def running_space(
    namespace: str, log: Path, *, plugin: str = "", **environment: str
) -> Iterator[str]:
    """The Space in a process of its own, as on the Hub; gives its address.

    With an endpoint of its own, the process loads all that reads settings of the Hub anew.
    Gradio leaves event loops unclosed, which would fail the tests in their own process.

    Args:
        namespace: Whose repos it loads.
        log: File for what it prints.
        plugin: Python that runs before the app, such as one that registers something.
        environment: More variables of its process.
    """
    code = f"{plugin}\nimport runpy\nrunpy.run_path({str(APP)!r}, run_name='__main__')"
    loaded = BASE if "HF_ENDPOINT" in environment else DEMO
    environment = os.environ | environment | {"LATENT_BRIDGE_NAMESPACE": namespace}
    with Warm("-c", code, env=environment, loaded=loaded, log=log) as process:
        yield _address(process, log)


def _address(process: Warm, log: Path) -> str:
    for _ in range(3000):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the Space did not start:\n{log.read_text()}")
