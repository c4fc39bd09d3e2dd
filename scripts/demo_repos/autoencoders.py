"""Makes two autoencoders of clothes, the map between their latents, and a dataset of latents.

In an autoencoder's repo `main` holds the decoder; its space names the commit on the branch
`encoder` that holds the encoder.
"""

from typing import TYPE_CHECKING, Any

from demo_repos.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_latent_bridge import ConvEncoder, Pairs

DATASET = "local/fashion-mnist"
NAMES = ("autoencoder-a", "autoencoder-b")
TRANSLATOR = "autoencoder-a-to-b"
LATENTS = "demo-fashion"
SIZES: tuple[dict[str, Any], ...] = (
    {"seed": 0, "widths": (8, 16), "latent_dim": 64},
    {"seed": 1, "widths": (16, 32), "latent_dim": 64},
)
ANCHORS = 1000
HELD_OUT = 1000
TRAINING = 45.0  # seconds that one takes on two cores


def publish(
    namespace: str = "local",
    dataset: str = DATASET,
    *,
    images: int = 5000,
    epochs: int = 8,
    anchors: int = ANCHORS,
    progress: Progress | None = None,
) -> bool:
    """Trains, fits and pushes, unless the dataset of latents, which comes last, is there.

    Args:
        namespace: User or organisation of the four repos.
        dataset: A Hub dataset with a column `image` and the splits "train" and "test".
        images: How many pictures of "train" the autoencoders learn from.
        epochs: Passes over them.
        anchors: How many pictures of "train" the translator is fitted on.
        progress: Is told of each step.

    Returns:
        False if all was there.
    """
    from huggingface_hub import HfApi

    from hf_latent_bridge import AffineTranslator, evaluate, fit_translator, load_pairs

    if HfApi().repo_exists(f"{namespace}/{LATENTS}", repo_type="dataset"):
        return False
    pictures = load_pairs(dataset, split="train", source="image", max_pairs=images)
    told = progress or Progress()
    halves = []
    for name, sizes in zip(NAMES, SIZES, strict=True):
        told.task(f"training {name} on {len(pictures):,} pictures", TRAINING)
        halves.append(push_autoencoder(f"{namespace}/{name}", pictures, epochs=epochs, **sizes))
    source, target = halves
    told.task("fitting a translator between the autoencoders")
    pairs = load_pairs(dataset, split="train", source="image", max_pairs=anchors, seed=1)
    translator = fit_translator(AffineTranslator(alpha=0.01), source, target, pairs)
    held_out = load_pairs(dataset, split="test", source="image", max_pairs=HELD_OUT)
    report = evaluate(translator, source, target, held_out)
    translator.push_to_hub(f"{namespace}/{TRANSLATOR}", metrics=report)
    splits = {"train": pairs, "test": held_out}
    push_latents(f"{namespace}/{LATENTS}", dataset, splits, (source, target))
    return True


def push_autoencoder(repo_id: str, pictures: "Pairs", **options: Any) -> "ConvEncoder":
    """Trains an autoencoder on the pairs' source side and pushes both halves."""
    from hf_latent_bridge import fit_autoencoder

    encoder, decoder = fit_autoencoder(list(pictures.source), **options)
    encoder.push_to_hub(repo_id, revision="encoder")
    decoder.space = encoder.space
    decoder.push_to_hub(repo_id)
    return encoder


def push_latents(
    repo_id: str,
    dataset: str,
    splits: "Mapping[str, Pairs]",
    encoders: "tuple[ConvEncoder, ConvEncoder]",
) -> None:
    """Pushes the dataset's rows with the latents of both encoders as "source" and "target"."""
    import numpy as np
    from datasets import DatasetDict, List, Value, load_dataset

    vectors = List(Value("float32"))
    published = DatasetDict()
    for split, pairs in splits.items():
        numbers = pairs.row_numbers(np.arange(len(pairs)))
        rows = load_dataset(dataset, split=split, revision=pairs.dataset["revision"])
        rows = rows.select(numbers)
        for name, encoder in zip(("source", "target"), encoders, strict=True):
            latents = encoder.encode(list(pairs.source)).tolist()
            rows = rows.add_column(name, latents, feature=vectors)
        published[split] = rows
    published.push_to_hub(repo_id)
