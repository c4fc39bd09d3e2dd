"""Makes the repos about news: latents of two encoders, an index, a head, a translator, a space."""

import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

from common import MAX_LENGTH
from datasets import Features, List, Value, load_dataset
from huggingface_hub import HfApi

from demo_repos.inputs import Inputs
from demo_repos.latents import (
    dataset_card,
    published_pairs,
    push_dataset,
    push_translator,
    stack,
    text_encoder,
    to_column,
)
from hf_latent_bridge import (
    LatentIndex,
    OrthoTranslator,
    SpaceSpec,
    fit_head,
    fit_shared_space,
    load_pairs,
)
from hf_latent_bridge.errors import RankWarning

SMALL, LARGE = 0.01, 0.06  # seconds that a text takes on two cores, with each encoder
MAX_CHARACTERS = 2000
MAX_TITLE = 120
_STRINGS = {name: Value("string") for name in ("text", "title", "label")}
_VECTORS = {name: List(Value("float32")) for name in ("source", "target")}
_CARD = """\
Texts of the dataset `{news}`, cut to {characters:,} characters, with their first line as `title`,
the name of their class as `label`, and their latents at {length} tokens: `source` by
`{small}`, `target` by `{large}`. Split `train` holds up to {n:,} texts of its train split, split
`test` its test split."""


def publish(api: HfApi, inputs: Inputs) -> Iterator[str]:
    """Publishes the repos one by one; yields the id of each when it is there."""
    source, target = (
        text_encoder(name, inputs) for name in (inputs.small_encoder, inputs.text_encoder)
    )
    splits = {
        "train": _read(inputs, "train", inputs.train_texts),
        "test": _read(inputs, "test", None),
    }
    for columns in splits.values():
        columns["source"] = to_column(source, columns["text"], inputs.progress, SMALL)
        columns["target"] = to_column(target, columns["text"], inputs.progress, LARGE)
    features = Features(_STRINGS | _VECTORS)
    dataset = inputs.repo_id("demo-news")
    commit = push_dataset(api, dataset, splits, features, _card(api, inputs))
    yield dataset
    yield _publish_index(inputs, splits["test"], target.space)
    yield _publish_head(inputs, splits["train"], target.space)
    spaces = (source.space, target.space)
    yield _publish_translator(inputs, commit, spaces)
    yield _publish_shared_space(inputs, commit, spaces)


def _publish_index(inputs: Inputs, columns: dict[str, list[Any]], space: SpaceSpec) -> str:
    articles = enumerate(zip(columns["title"], columns["label"], strict=True))
    items = [{"title": title, "label": label, "row": row} for row, (title, label) in articles]
    index = LatentIndex.from_latents(stack(columns["target"]), items, space=space)
    index.push_to_hub(repo_id := inputs.repo_id("news-index"))
    return repo_id


def _publish_head(inputs: Inputs, columns: dict[str, list[Any]], space: SpaceSpec) -> str:
    head = fit_head(stack(columns["target"]), columns["label"], space=space)
    head.push_to_hub(repo_id := inputs.repo_id("news-head"))
    return repo_id


def _publish_translator(inputs: Inputs, commit: str, spaces: tuple[SpaceSpec, SpaceSpec]) -> str:
    pairs = published_pairs(inputs.repo_id("demo-news"), commit)
    repo_id = inputs.repo_id("minilm-to-mpnet")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* source columns are constant", RankWarning)
        push_translator(repo_id, OrthoTranslator(), spaces, pairs)
    return repo_id


def _publish_shared_space(inputs: Inputs, commit: str, spaces: tuple[SpaceSpec, SpaceSpec]) -> str:
    train, _ = published_pairs(inputs.repo_id("demo-news"), commit)
    views = dict(zip(("MiniLM", "MPNet"), spaces, strict=True))
    fit_shared_space(views, train).push_to_hub(repo_id := inputs.repo_id("news-shared"))
    return repo_id


def _read(inputs: Inputs, split: str, n: int | None) -> dict[str, list[Any]]:
    data = load_dataset(inputs.news, split=split)
    names = getattr(data.features[inputs.news_label], "names", None)
    pairs = load_pairs(data, source=inputs.news_text, target=inputs.news_label, max_pairs=n)
    texts = [text[:MAX_CHARACTERS] for text in pairs.source]
    return {
        "text": texts,
        "title": [_title(text) for text in texts],
        "label": [names[label] if names else str(label) for label in pairs.target],
    }


def _title(text: str) -> str:
    return textwrap.shorten(text.strip().partition("\n")[0], MAX_TITLE, placeholder=" …")


def _card(api: HfApi, inputs: Inputs) -> str:
    text = _CARD.format(
        news=inputs.news,
        characters=MAX_CHARACTERS,
        length=MAX_LENGTH,
        small=inputs.small_encoder,
        large=inputs.text_encoder,
        n=inputs.train_texts,
    )
    return dataset_card(api, "News with the latents of two encoders", text, inputs.news)
