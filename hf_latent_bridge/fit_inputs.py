"""What `latent-bridge fit` fits on: its pairs and encoders, as the arguments say."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_latent_bridge import Translator
    from hf_latent_bridge.data import Pairs, StreamedPairs
    from hf_latent_bridge.encoders import EncoderLike

SIDES = ("source", "target")


def choose_pairs(args: argparse.Namespace) -> "Pairs | StreamedPairs":
    """The pairs of all datasets or files, without duplicates and sampled as asked.

    Raises:
        ValueError: Arguments that do not go together.
    """
    from hf_latent_bridge.anchor_choice import choose_anchors

    pairs: Pairs | StreamedPairs = (
        _vectors(args) if _has_vectors(args) else _columns(args, args.source_column)
    )
    if args.deduplicate:
        pairs = pairs.deduplicate()
    if args.max_pairs is None:
        if args.anchors != "uniform":
            raise ValueError(f"--anchors {args.anchors} needs --max-pairs, how many to choose")
        return pairs
    if args.anchors == "uniform":
        return pairs.sample(args.max_pairs, seed=args.seed)
    return choose_anchors(
        pairs,
        args.max_pairs,
        args.anchors,
        source=encoders(args, _plain_encoder)[0] if args.anchors != "balanced" else None,
        labels=_labels(args) if args.anchors == "balanced" else None,
        seed=args.seed,
        batch_size=args.batch_size,
    )


def encoders(
    args: argparse.Namespace, load: Callable[..., Any]
) -> tuple["EncoderLike | None", "EncoderLike | None"]:
    """Source and target encoder; None for a side whose latents are given."""
    from hf_latent_bridge.processes import local_device

    args.device = args.device or local_device()
    source, target = (
        None
        if _is_given(args, side)
        else load(
            args,
            getattr(args, side),
            revision=getattr(args, f"{side}_revision"),
            max_length=args.max_length,
        )
        for side in SIDES
    )
    return source, target


def name_spaces(translator: "Translator", args: argparse.Namespace) -> None:
    """Records the named encoder, at its commit, as the space of latents that were given."""
    from hf_latent_bridge import hub

    for side in SIDES:
        name = getattr(args, side)
        if _is_given(args, side) and not Path(name).is_dir():
            commit = hub.resolve_commit(name, revision=getattr(args, f"{side}_revision"))
            space = getattr(translator, f"{side}_")
            setattr(translator, f"{side}_", replace(space, repo_id=name, revision=commit))


def for_report(encoder: "EncoderLike | None") -> "EncoderLike":
    """The encoder, or for latents that are given a callable that passes them on."""
    import numpy as np

    return np.stack if encoder is None else encoder


def _is_given(args: argparse.Namespace, side: str) -> bool:
    return _has_vectors(args) or args.precomputed in (side, "both")


def _has_vectors(args: argparse.Namespace) -> bool:
    files = args.source_vectors, args.target_vectors
    if any(files) != all(files) or bool(args.dataset) == any(files):
        raise ValueError(
            "fit takes --dataset and --source-column, or --source-vectors and --target-vectors"
        )
    if args.dataset and not args.source_column:
        raise ValueError("--dataset needs --source-column, what the source encodes")
    return all(files)


def _vectors(args: argparse.Namespace) -> "Pairs":
    from hf_latent_bridge import load_pairs

    return load_pairs(
        (Path(args.source_vectors), Path(args.target_vectors)),
        source=args.source_column,
        target=args.target_column,
    )


def _columns(args: argparse.Namespace, source: str, *, stream: bool | None = None) -> Any:
    from hf_latent_bridge import load_pairs

    return reduce(
        add,
        [
            load_pairs(
                dataset,
                args.name,
                split=args.split,
                source=source,
                target=args.target_column,
                streaming=args.stream if stream is None else stream,
            )
            for dataset in [args.dataset, *args.also]
        ],
    )


def _labels(args: argparse.Namespace) -> Sequence[Any]:
    if args.label_column is None or args.deduplicate:
        raise ValueError("--anchors balanced needs --label-column, and no --deduplicate")
    labels: Sequence[Any] = _columns(args, args.label_column, stream=False).source
    return labels


def _plain_encoder(args: argparse.Namespace, name: str, **options: Any) -> "EncoderLike":
    from hf_latent_bridge import load_encoder

    return load_encoder(name, device=args.device, **options)
