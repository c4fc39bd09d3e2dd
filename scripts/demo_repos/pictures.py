"""Makes the repos about pictures: latents of both sides, maps both ways, and two indexes."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from assets.openclipart import on_white
from assets.repo_files import png_cell, shuffle_key
from common import MAX_LENGTH
from datasets import Features, Image, List, Value, load_dataset
from huggingface_hub import HfApi

from demo_repos.inputs import Inputs
from demo_repos.latents import (
    choose_method,
    dataset_card,
    published_pairs,
    push_dataset,
    push_translator,
    stack,
    text_encoder,
    to_column,
)
from hf_latent_bridge import CachedEncoder, LatentIndex, SpaceSpec, load_encoder

SIDE = 192  # pixels
TITLE, PICTURE = 0.02, 0.05  # seconds that one takes on two cores
_FEATURES = {
    "image": Image(),
    "title": Value("string"),
    "folder": Value("string"),
    "source": List(Value("float32")),
    "target": List(Value("float32")),
}
_CARD = """\
Pictures of the dataset `{pictures}` on white, at most {side} pixels a side, their titles and the
latents of both: `source` of the title by `{text}` at {length} tokens, `target` of the picture by
`{image}`. Split `test` holds {n:,} pairs of whole folders, each title once, and `train` those of
all other folders, without the pictures (`image` is null)."""


def publish(api: HfApi, inputs: Inputs) -> Iterator[str]:
    """Publishes the repos one by one; yields the id of each when it is there."""
    texts = text_encoder(inputs.text_encoder, inputs)
    images = CachedEncoder(load_encoder(inputs.image_encoder), inputs.cache)
    splits = _read(inputs, texts, images)
    dataset = inputs.repo_id("demo-pictures")
    commit = push_dataset(api, dataset, splits, Features(_FEATURES), _card(api, inputs))
    yield dataset
    spaces = {"source": texts.space, "target": images.space}
    groups = np.array(splits["train"]["folder"])
    for name, sides in (
        ("title-to-picture", ("source", "target")),
        ("picture-to-title", ("target", "source")),
    ):
        pairs = published_pairs(dataset, commit, *sides)
        both = spaces[sides[0]], spaces[sides[1]]
        push_translator(inputs.repo_id(name), choose_method(pairs[0], groups), both, pairs)
        yield inputs.repo_id(name)
    yield _publish_index(inputs, "picture-index", splits["test"], "target", images.space)
    yield _publish_index(inputs, "title-index", splits["test"], "source", texts.space)


def _publish_index(
    inputs: Inputs, name: str, columns: dict[str, list[Any]], side: str, space: SpaceSpec
) -> str:
    items = [{"title": title, "row": row} for row, title in enumerate(columns["title"])]
    index = LatentIndex.from_latents(stack(columns[side]), items, space=space)
    index.push_to_hub(repo_id := inputs.repo_id(name))
    return repo_id


def _read(
    inputs: Inputs, texts: CachedEncoder, images: CachedEncoder
) -> dict[str, dict[str, list[Any]]]:
    data = load_dataset(inputs.pictures, split="train")
    titles, folders = data[inputs.picture_title][:], data[inputs.picture_folder][:]
    test = held_out(titles, folders, inputs.test_pictures)
    outside = {folders[row] for row in test}
    train = [row for row, folder in enumerate(folders) if folder not in outside]
    pictures = [_shrink(image) for image in data[inputs.picture_image]]
    source = to_column(texts, titles, inputs.progress, TITLE)
    target = to_column(images, pictures, inputs.progress, PICTURE)
    columns = {"title": titles, "folder": folders, "source": source, "target": target}
    splits = {
        split: {name: [column[row] for row in rows] for name, column in columns.items()}
        for split, rows in (("train", train), ("test", test))
    }
    splits["train"]["image"] = [None] * len(train)
    splits["test"]["image"] = [_png(pictures[row]) for row in test]
    return splits


def held_out(titles: Sequence[str], folders: Sequence[str], n: int) -> list[int]:
    """Rows of whole folders, in an order given by a hash of their names, each title once.

    A folder of more than n / 10 pictures stays in the train split, so that the held-out pictures
    vary.

    Raises:
        ValueError: There are fewer than `n`.
    """
    sizes = Counter(folders)
    small = sorted((name for name, size in sizes.items() if size <= n / 10), key=shuffle_key)
    rows: dict[str, int] = {}
    for name in small:
        for row in (row for row, folder in enumerate(folders) if folder == name):
            rows.setdefault(titles[row].lower(), row)
        if len(rows) >= n:
            break
    if len(rows) < n:
        raise ValueError(
            f"needed {n} titles in folders of at most {n // 10} pictures, got {len(rows)}: ask for "
            "fewer with --test-pictures"
        )
    return sorted(list(rows.values())[:n])


def _shrink(image: Any) -> Any:
    picture = on_white(image)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _png(picture: Any) -> dict[str, object]:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return png_cell(stream.getvalue())


def _card(api: HfApi, inputs: Inputs) -> str:
    text = _CARD.format(
        pictures=inputs.pictures,
        side=SIDE,
        text=inputs.text_encoder,
        length=MAX_LENGTH,
        image=inputs.image_encoder,
        n=inputs.test_pictures,
    )
    return dataset_card(api, "Pictures and titles with their latents", text, inputs.pictures)
