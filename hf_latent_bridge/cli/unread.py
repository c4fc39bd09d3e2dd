"""Refuses options that nothing would read, before a command begins."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_latent_bridge.cli import inputs

Read = Callable[[argparse.Namespace], object]


@dataclass(frozen=True)
class Rule:
    """Options that are read in some cases only.

    Attributes:
        options: Their names in the arguments.
        read: Whether they are, with these arguments.
        why: What the error says after the option.
    """

    options: tuple[str, ...]
    read: Read
    why: str


def check(args: argparse.Namespace) -> None:
    """Refuses an option that was given and that the command would not read.

    Raises:
        ValueError: Says which, and what it is for.
    """
    for rule in _RULES.get(args.command, ()):
        for name in rule.options:
            if _is_given(args, name) and not rule.read(args):
                raise ValueError(f"--{name.replace('_', '-')} {rule.why}")


def _is_given(args: argparse.Namespace, name: str) -> bool:
    """Whether an option has another value than without it."""
    return bool(getattr(args, name) != args.defaults[name])


def _any_of(*names: str) -> Read:
    return lambda args: any(_is_given(args, name) for name in names)


def _none_of(*names: str) -> Read:
    return lambda args: not any(_is_given(args, name) for name in names)


def _is(name: str, *values: Any) -> Read:
    return lambda args: getattr(args, name) in values


def _is_not(name: str, value: Any) -> Read:
    return lambda args: getattr(args, name) != value


def _from_hub(*names: str) -> Read:
    """Whether one of these is named, and is not a file or folder."""
    return lambda args: any(_remote(getattr(args, name)) for name in names)


def _remote(name: str | None) -> bool:
    return name is not None and not Path(name).exists()


def _encoded(args: argparse.Namespace) -> list[str]:
    """The sides of which `fit` or `evaluate` encodes items or queries."""
    asked = getattr(args, "queries", None) is not None
    return [
        side
        for side in inputs.SIDES
        if not inputs.is_given(args, side)
        or (asked and getattr(args, f"queries_{side}_vectors") is None)
    ]


def _caches(args: argparse.Namespace) -> bool:
    return any(_remote(getattr(args, side)) for side in _encoded(args))


def _loads(args: argparse.Namespace) -> bool:
    return _caches(args) or any(map(_remote, (args.dataset, *args.also, args.decoder)))


def _loads_to_evaluate(args: argparse.Namespace) -> bool:
    return bool(_encoded(args)) or any(map(_remote, (args.translator, args.dataset, *args.also)))


def _has_no_vectors(args: argparse.Namespace) -> bool:
    return not inputs.has_vectors(args)


def _has_dataset(args: argparse.Namespace) -> bool:
    """Whether pairs, or the vectors of a side, may be of a dataset."""
    from hf_latent_bridge.vectors.stores.registry import is_store_url

    paths = [path for side in inputs.SIDES if (path := getattr(args, f"{side}_vectors"))]
    return not paths or any(not (Path(p).is_file() or is_store_url(p)) for p in paths)


def _has_latents_of(side: str) -> Read:
    return lambda args: inputs.is_given(args, side) and not args.stream


def _has_latents_without_scale(args: argparse.Namespace) -> bool:
    own = {side: getattr(args, f"{side}_scale") for side in inputs.SIDES}
    return any(own[side] is None and _has_latents_of(side)(args) for side in inputs.SIDES)


def _has_view_from_hub(args: argparse.Namespace) -> bool:
    return any(_remote(view.partition("=")[2]) for view in args.view)


_PARTS = ("queries", "corpus")
_ENCODING = ("batch_size", "device", "autocast", "compile", "cache_dir", "no_cache")
_OF_ITEMS = tuple(f"{part}_{what}" for part in _PARTS for what in ("split", "column", "id_column"))
_MEASURED = tuple(f"{p}{what}" for p in _PARTS for what in ("", "_old_vectors", "_new_vectors"))
_GIVEN = "is for encoders, and latents were given of both sides"
_LOCAL = "is for what is loaded from the Hub, and nothing is"

_CACHED = Rule(
    ("cache_dir",), _none_of("no_cache"), "does not go with --no-cache, which keeps no latents"
)
_BANK = Rule(("bank", "n_neighbors"), _any_of("hubness"), "is for --hubness csls")
_TRANSLATOR = Rule(("force_download",), _from_hub("translator"), _LOCAL)
_CHECKPOINTS = (
    Rule(("checkpoint_every",), _any_of("checkpoint_dir"), "is for --checkpoint-dir"),
    Rule(
        ("bad_rows_file",),
        _is("on_bad_row", "skip"),
        "is for --on-bad-row skip: without it, the first bad row ends the run",
    ),
)
_PAIRS = (
    Rule(("also", "stream"), _has_no_vectors, "is for --dataset, and vectors were given"),
    Rule(("precomputed",), _has_no_vectors, "is for columns of --dataset, and vectors were given"),
    Rule(
        ("name", "split", "dataset_revision"),
        _has_dataset,
        "is of a dataset, and the vectors come from files or stores",
    ),
    *(
        Rule(
            (f"{side}_scale",),
            _has_latents_of(side),
            f"is for --{side}-vectors, or for --precomputed {side} without --stream",
        )
        for side in inputs.SIDES
    ),
    Rule(
        ("scale",),
        _has_latents_without_scale,
        "is for vectors or --precomputed columns without a scale of their own, and not for "
        "--stream",
    ),
    Rule(_ENCODING, _encoded, _GIVEN),
    _CACHED,
)
_WITHOUT_UNTIL = {
    "bank_size": "fit once more with --max-pairs at the number of pairs that it finds; encoders "
    "from the Hub encode no item twice",
    "bad_rows_file": "fit once more with --max-pairs at the number of pairs that it finds",
    "checkpoint_dir": "started again it fits from the first pairs, but encoders from the Hub "
    "encode no item twice",
    "checkpoint_every": "it keeps no checkpoints",
    "stream": "its pairs are counted and taken in a random order: download them, or leave "
    "--until-retention out",
    "gemm_dtype": "its products are taken in float64",
    "label_column": "the pairs are taken in an order of their own: choose for another objective, "
    "or by --decoder",
}
_FIT = (
    *_PAIRS,
    Rule(("max_length",), _encoded, _GIVEN),
    *(
        Rule(
            (f"{side}_revision", f"{side}_modality"),
            _any_of(side),
            f"is of the encoder that --{side} names",
        )
        for side in inputs.SIDES
    ),
    Rule(("cache_dir",), _caches, "is for encoders from the Hub: latents of folders are not kept"),
    Rule(("force_download",), _loads, _LOCAL),
    Rule(("objective", "rule", "decoder"), _is("type", "auto"), "is for --type auto"),
    Rule(("param",), _is_not("type", "auto"), "is left out: --type auto chooses the parameters"),
    Rule(
        ("no_shared",),
        _is("objective", "counterpart"),
        "is for --type auto with --objective counterpart",
    ),
    Rule(("decoder",), _is("objective", "classification"), "is for --objective classification"),
    Rule(("queries_column",), _any_of("queries"), "is a column of --queries"),
    Rule(
        ("score", "held_out", "translates"), _any_of("until_retention"), "is for --until-retention"
    ),
    *(
        Rule((name,), _none_of("until_retention"), f"does not go with --until-retention: {instead}")
        for name, instead in _WITHOUT_UNTIL.items()
    ),
    Rule(
        ("label_column",),
        lambda args: args.objective == "classification" or args.anchors == "balanced",
        "is for --anchors balanced or --objective classification",
    ),
    *_CHECKPOINTS,
    Rule(
        ("bad_rows_file",),
        _none_of("text_field", "id_field"),
        "does not go with --text-field or --id-field: the rows that these leave out are counted, "
        "not listed",
    ),
)
_EVALUATE = (
    *_PAIRS,
    Rule(("force_download",), _loads_to_evaluate, _LOCAL),
    _BANK,
    Rule(("create_pr",), _any_of("push"), "is for --push"),
)
_GROWING = (
    "max_pairs",
    "deduplicate",
    "on_bad_row",
    "bad_rows_file",
    "checkpoint_dir",
    "checkpoint_every",
    "chunk_size",
    "gemm_dtype",
)
_FIT_SHARED = (
    Rule(
        ("column", "name", "split", "dataset_revision", "stream", "max_length"),
        lambda args: args.view or not (args.view_vectors or args.grow),
        "is for --view and --dataset, and latents were given",
    ),
    Rule(_GROWING, _none_of("grow"), "does not go with --grow, which holds all latents in memory"),
    Rule(_ENCODING, _any_of("view"), "is for encoders, and latents were given"),
    _CACHED,
    Rule(
        ("cache_dir",),
        _has_view_from_hub,
        "is for encoders from the Hub: latents of folders are not kept",
    ),
    Rule(
        ("force_download",), lambda args: _has_view_from_hub(args) or _remote(args.dataset), _LOCAL
    ),
    *_CHECKPOINTS,
)
_TRANSLATE = (
    _TRANSLATOR,
    Rule(
        ("name", "split", "input_revision"),
        _is_not("input", "-"),
        "is of a dataset, and the vectors come from stdin",
    ),
    Rule(
        ("restart", "checkpoint_every"),
        lambda args: "-" not in (args.input, args.output),
        "is for files: the translation of a stream cannot go on where it was killed",
    ),
    Rule(("timeout",), _is_not("output", "-"), "is for files, and the rows go to stdout"),
    Rule(
        ("metric", "input_space", "bank", "n_neighbors"),
        _any_of("fold"),
        "is for --fold items or queries",
    ),
    Rule(
        ("bank", "n_neighbors"),
        _is("fold", "items"),
        "is for --fold items: queries are folded without a bank",
    ),
)
_GATE = (
    Rule(
        ("hubness", "bank", "n_neighbors", "slice_column", "translates"),
        _none_of("gradual"),
        "does not go with --gradual",
    ),
    Rule(("old_view", "new_view"), _any_of("gradual"), "is for --gradual"),
    _BANK,
    Rule(
        (*_OF_ITEMS, "slice_column"),
        _any_of(*_PARTS),
        "is of --queries and --corpus, and vectors were given",
    ),
    Rule(_ENCODING, _any_of(*_PARTS), "is for encoders, and vectors were given"),
    _CACHED,
    Rule(("force_download",), lambda args: args.queries or _remote(args.translator), _LOCAL),
)
_MIGRATE = (
    Rule(
        (
            *("gradual", "view", "hubness", "bank", "n_neighbors", "alias", "dry_run", "rollback"),
            *("text_field", "price", "batch_size", "state_dir"),
        ),
        _none_of("queries_only"),
        "does not go with --queries-only, which leaves the store as it is",
    ),
    Rule(
        (*_MEASURED, *_OF_ITEMS, "into_new", "relevance", "report", "k", "seed"),
        _any_of("queries_only"),
        "is for --queries-only",
    ),
    Rule(
        ("into_new", "relevance", "report", "k", "seed"),
        _any_of(*_MEASURED),
        "is for measuring both ways, which needs --queries and --corpus",
    ),
    Rule(_OF_ITEMS, _any_of(*_PARTS), "is of --queries and --corpus, and none are given"),
    Rule(
        ("hubness", "bank", "n_neighbors"),
        _none_of("gradual"),
        "is for a plain migration, not for --gradual",
    ),
    _BANK,
    Rule(("view",), _any_of("gradual"), "is for --gradual, the view that the old vectors are of"),
    Rule(("text_field", "price"), _any_of("dry_run"), "is for --dry-run"),
    Rule(
        ("force_download",),
        lambda args: args.queries or _from_hub("translator", "into_new")(args),
        _LOCAL,
    ),
)
_RE_ENCODE = (
    _CACHED,
    Rule(
        ("force_download",),
        lambda args: args.encoder is None or _from_hub("space", "encoder")(args),
        _LOCAL,
    ),
)
# in the order in which they are looked at; other options of a command are always read
_RULES: dict[str, tuple[Rule, ...]] = {
    "fit": _FIT,
    "fit-shared": _FIT_SHARED,
    "evaluate": _EVALUATE,
    "translate": _TRANSLATE,
    "gate": _GATE,
    "migrate": _MIGRATE,
    "re-encode": _RE_ENCODE,
    "info": (_TRANSLATOR,),
}
