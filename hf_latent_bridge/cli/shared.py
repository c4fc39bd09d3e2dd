"""`fit-shared`: the views that the arguments name, and the space that is fitted on them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.cli import inputs

if TYPE_CHECKING:
    from hf_latent_bridge import Encoder, Information, SharedSpace
    from hf_latent_bridge.data.chunks import PairSource


def fit(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Fits a space that several encoders share, and saves it."""
    import torch

    from hf_latent_bridge import fit_shared_space
    from hf_latent_bridge.atomic import check_writable
    from hf_latent_bridge.fitting.processes import Processes
    from hf_latent_bridge.hub.published import check_save_directory

    views, vectors = named(args.view, "--view"), named(args.view_vectors, "--view-vectors")
    _check(args, views, vectors)
    check_save_directory(args.output)
    check_writable(Path(args.output))
    if args.grow:
        return _grow(args, vectors)
    items = _items(args, views, vectors)
    space = fit_shared_space(
        _encoders(args, views, vectors),
        items,
        args.dim,
        alpha=args.alpha,
        batch_size=args.batch_size,
        chunk_size=args.chunk_size,
        gemm_dtype=getattr(torch, args.gemm_dtype or "float64"),
        on_bad_row=args.on_bad_row,
        bad_rows_file=args.bad_rows_file,
        checkpoint_dir=args.checkpoint_dir,
        checkpoint_every=args.checkpoint_every,
        progress=args.progress,
    )
    if not Processes.current().is_first:
        return {}, ""
    return _saved(args, space, str(space.fit_summary_))


def _grow(args: argparse.Namespace, vectors: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Fits a space of two views on given pairs and on those that grow from them."""
    from hf_latent_bridge import SharedSpace

    more = {name: inputs.read_vectors(path) for name, path in named(args.grow, "--grow").items()}
    given = inputs.read_sides(vectors)
    space = SharedSpace(args.dim, alpha=args.alpha).fit_growing(given or None, more)
    result, text = _saved(args, space, str(space.growth_))
    grown = space.growth_
    return {**result, "growth": grown and grown.to_dict()}, text


def _saved(args: argparse.Namespace, space: "SharedSpace", how: str) -> tuple[dict[str, Any], str]:
    space.save_pretrained(args.output)
    facts = describe(space)
    text = f"{space}\nsaved in {args.output}\n{how}"
    if space.information_ is not None:
        text += f"\n{space.information_}"
    return {"output": args.output, **facts}, text


def describe(space: "SharedSpace") -> dict[str, Any]:
    """What a space joins and how it was fitted, as JSON values."""
    curve = space.information_
    return {
        "space_type": "shared",
        "space": space.space_.to_dict(),
        "params": space.params_,
        "views": {name: view.source_.to_dict() for name, view in space.views_.items()},
        "n_pairs": space.n_pairs_,
        "dataset": space.dataset_,
        **({"bits": None, "bits_by_alpha": {}} if curve is None else bits_of(curve)),
        "commit": space.commit,
    }


def bits_of(information: "Information") -> dict[str, Any]:
    """The bits that encoders share, with the best penalty and with each, as JSON values."""
    tried = zip(information.alphas, information.bits, strict=True)
    return {
        "bits": max(information.bits),
        "bits_by_alpha": {f"{alpha:g}": bits for alpha, bits in tried},
    }


def named(given: Sequence[str], flag: str) -> dict[str, str]:
    """The values of a flag by the name of their view.

    Raises:
        ValueError: One is not NAME=VALUE, or a name is there twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{flag} takes NAME=VALUE, got {text!r}")
        if name in found:
            raise ValueError(f"{flag} names {name!r} twice")
        found[name] = value
    return found


def _check(args: argparse.Namespace, views: Mapping[str, str], vectors: Mapping[str, str]) -> None:
    """Refuses arguments that do not go together.

    Raises:
        ValueError: Says which.
    """
    if both := sorted(views.keys() & vectors.keys()):
        raise ValueError(f"view {both[0]!r} has an encoder and a file of vectors: give one of them")
    if vectors and (views or args.dataset):
        raise ValueError(
            "views come from --view and --dataset, or all of them from --view-vectors: save the "
            "latents of the other encoders as files first"
        )
    if args.grow and (views or args.dataset):
        raise ValueError(
            "--grow takes latents: save those of both views as files, and give the known pairs by "
            "--view-vectors"
        )
    if not vectors and not args.dataset and not args.grow:
        raise ValueError("--dataset is needed, the items that the encoders read")
    columns = named(args.view_column, "--view-column")
    for flag, names in (
        ("column", columns),
        ("modality", named(args.view_modality, "--view-modality")),
    ):
        if unknown := sorted(names.keys() - views.keys()):
            raise ValueError(f"--view-{flag} names {unknown[0]!r}, which no --view does")
    if lacking := sorted(views.keys() - columns.keys()) if args.column is None else []:
        raise ValueError(f"--column is needed, or --view-column {lacking[0]}=COLUMN")


def _items(
    args: argparse.Namespace, views: Mapping[str, str], vectors: Mapping[str, str]
) -> "PairSource":
    from hf_latent_bridge import load_views

    if vectors:
        items: Any = load_views(vectors)
    else:
        columns = dict.fromkeys(views, args.column)
        columns |= named(args.view_column, "--view-column")
        items = load_views(
            args.dataset,
            columns,
            args.name or None,
            split=args.split,
            revision=args.dataset_revision,
            streaming=args.stream,
        )
    if args.deduplicate:
        items = items.deduplicate()
    source: PairSource = (
        items if args.max_pairs is None else items.sample(args.max_pairs, seed=args.seed)
    )
    return source


def _encoders(
    args: argparse.Namespace, views: Mapping[str, str], vectors: Mapping[str, str]
) -> "dict[str, Encoder | None]":
    modalities = named(args.view_modality, "--view-modality")
    found: dict[str, Encoder | None] = dict.fromkeys(vectors)
    for name, repo in views.items():
        found[name] = inputs.cutting_encoder(args, repo, modality=modalities.get(name))
    inputs.check_max_length(args, found.values())
    return found
