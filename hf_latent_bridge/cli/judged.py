"""What `gate` works on: queries, corpus and judgements that the arguments name."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.cli import inputs
from hf_latent_bridge.cli.items import read_columns, read_lines
from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from hf_latent_bridge import (
        DirectionReport,
        GateReport,
        GradualReport,
        SharedSpace,
        Translator,
    )
    from hf_latent_bridge.latents import Array

PARTS = ("queries", "corpus")

# how encoders run where a command has no options for it
_PLAIN_RUNNING: dict[str, Any] = {
    "device": None,
    "autocast": None,
    "compile": False,
    "no_cache": False,
    "cache_dir": None,
}


@dataclass(frozen=True)
class Judged:
    """Queries or a corpus.

    Attributes:
        items: What both encoders encode.
        ids: A name for each; None for its number.
        slices: Of the queries, a name for each by which they are shown apart.
    """

    items: Sequence[Any]
    ids: Sequence[str] | None = None
    slices: Sequence[str] | None = None


def has_vectors(args: argparse.Namespace) -> bool:
    """Whether latents are given, in place of items to encode.

    Raises:
        ValueError: Both are, or neither.
    """
    vectors = [getattr(args, f"{part}_target_vectors") for part in PARTS]
    items = [getattr(args, part) for part in PARTS]
    if all(items) and not any(vectors):
        if any(getattr(args, f"{part}_source_vectors") for part in PARTS):
            raise ValueError("give --queries and --corpus, or latents by both encoders, not both")
        return False
    if all(vectors) and not any(items):
        return True
    raise ValueError(
        "a gate needs --queries and --corpus, or --queries-target-vectors and "
        "--corpus-target-vectors with the vectors of the side that is translated"
    )


def judge(args: argparse.Namespace, translator: "Translator") -> "GateReport":
    """Judges a translator on what the arguments name."""
    from hf_latent_bridge import gate, gate_latents

    settings: dict[str, Any] = {
        "translates": args.translates,
        "score": args.score,
        "hubness": args.hubness,
        "bank": inputs.read_bank(args),
        "n_neighbors": inputs.neighbors(args),
        "k": args.k,
        "pass_at": args.pass_at,
        "warn_at": args.warn_at,
        "seed": args.seed,
    }
    if has_vectors(args):
        return gate_latents(
            translator,
            queries=_vectors(args, "queries"),
            corpus=_vectors(args, "corpus"),
            relevance=_relevance(args.relevance, None, None),
            **settings,
        )
    queries, corpus = _parts(args)
    return gate(
        translator,
        inputs.cached_encoder(args, translator.source_),
        inputs.cached_encoder(args, translator.pair_spaces_[1]),
        queries=(queries.items, queries.items),
        corpus=(corpus.items, corpus.items),
        batch_size=args.batch_size,
        progress=args.progress,
        relevance=_relevance(args.relevance, queries.ids, corpus.ids),
        slices=queries.slices,
        query_ids=queries.ids,
        **settings,
    )


def check_way(args: argparse.Namespace) -> None:
    """Refuses options of `gate` that do not go together.

    Raises:
        ValueError: Says which.
    """
    named = args.old_view, args.new_view
    if args.gradual and not all(named):
        raise ValueError("--gradual needs --old-view and --new-view, two views of the shared space")


def judge_gradual(args: argparse.Namespace, space: "SharedSpace") -> "GradualReport":
    """Judges a shared index, encoded again little by little, on what the arguments name."""
    from hf_latent_bridge import gate_gradual
    from hf_latent_bridge.gating import both_latents

    settings: dict[str, Any] = {
        "old": args.old_view,
        "new": args.new_view,
        "score": args.score,
        "k": args.k,
        "pass_at": args.pass_at,
        "warn_at": args.warn_at,
        "seed": args.seed,
    }
    if has_vectors(args):
        queries, corpus = (_vectors(args, part) for part in PARTS)
        if queries[0] is None or corpus[0] is None:
            raise ValueError(
                "--gradual needs --queries-source-vectors and --corpus-source-vectors too, the "
                "latents by the old encoder"
            )
        relevance = _relevance(args.relevance, None, None)
        return gate_gradual(
            space,
            queries=(queries[0], queries[1]),
            corpus=(corpus[0], corpus[1]),
            relevance=relevance,
            **settings,
        )
    asked, held = _parts(args)
    views = [space.translator(name).source_ for name in (args.old_view, args.new_view)]
    sides = [inputs.cached_encoder(args, view) for view in views]
    encoded = both_latents(
        (sides[0], sides[1]),
        (views[0], views[1]),
        [(part.items, part.items) for part in (asked, held)],
        batch_size=args.batch_size,
        progress=args.progress,
    )
    relevance = _relevance(args.relevance, asked.ids, held.ids)
    return gate_gradual(
        space, queries=encoded[0], corpus=encoded[1], relevance=relevance, **settings
    )


def check_migration(args: argparse.Namespace) -> None:
    """Refuses options of `migrate` that do not go together.

    Raises:
        ValueError: Says which.
    """
    if args.queries_only:
        if args.target or not args.serve_dir:
            raise ValueError(
                "--queries-only takes the URL of the old vectors, --translator and --serve-dir"
                + (", and no target" if args.target else "")
            )
        return
    if args.target is None:
        raise ValueError("a target is needed, the URL of the new vectors")
    if args.gradual and args.view is None and not args.rollback:
        raise ValueError("--gradual needs --view, the view of the space that the vectors are of")


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def compare(args: argparse.Namespace, into_old: "Translator") -> "DirectionReport | None":
    """Measures both directions on what the arguments name; None where they name nothing.

    Raises:
        ValueError: Only a part of what is needed is named.
    """
    from hf_latent_bridge import AutoTranslator, compare_directions
    from hf_latent_bridge.gating import both_latents

    files = {(p, age): getattr(args, f"{p}_{age}_vectors") for p in PARTS for age in ("old", "new")}
    items = [getattr(args, part) for part in PARTS]
    if not any(files.values()) and not any(items):
        return None
    from_files = all(files.values()) and not any(items)
    if args.into_new is None or not (from_files or (all(items) and not any(files.values()))):
        raise ValueError(
            "to measure both ways, --into-new is needed and either --queries and --corpus or all "
            f"four of {_flags([f'{p}_{age}_vectors' for p, age in files])}"
        )
    into_new = AutoTranslator.from_pretrained(
        args.into_new, device="cpu", force_download=args.force_download
    )
    settings = {"k": args.k, "seed": args.seed}
    if from_files:
        queries, corpus = (
            inputs.read_sides({age: str(files[part, age]) for age in ("new", "old")})
            for part in PARTS
        )
        relevance = _relevance(args.relevance, None, None)
        return compare_directions(
            into_new,
            into_old,
            queries=(queries["old"], queries["new"]),
            corpus=(corpus["old"], corpus["new"]),
            relevance=relevance,
            **settings,
        )
    asked, held = _parts(args)
    spaces = into_new.pair_spaces_
    running = argparse.Namespace(**_PLAIN_RUNNING, force_download=args.force_download)
    sides = [inputs.cached_encoder(running, space) for space in spaces]
    encoded = both_latents(
        (sides[0], sides[1]),
        spaces,
        [(part.items, part.items) for part in (asked, held)],
        progress=args.progress,
    )
    relevance = _relevance(args.relevance, asked.ids, held.ids)
    return compare_directions(
        into_new, into_old, queries=encoded[0], corpus=encoded[1], relevance=relevance, **settings
    )


def check_reports(paths: Sequence[str]) -> None:
    """Refuses reports that are not written, before anything is encoded.

    Raises:
        ValueError: Another suffix.
        OSError: No such folder, or nothing can be written there.
    """
    from hf_latent_bridge.atomic import check_writable

    for path in map(Path, paths):
        if path.suffix not in (".md", ".json", ".html"):
            raise ValueError(f"--report must end in .md, .json or .html, got {path.name}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} for --report")
        check_writable(path.parent)


def write_report(report: "GateReport | GradualReport | DirectionReport", path: Path) -> None:
    """Writes a report in the format of its file's suffix."""
    from hf_latent_bridge.atomic import write_atomic

    if path.suffix == ".html":
        content = report.to_html()
    elif path.suffix == ".json":
        content = json.dumps(report.to_dict(), indent=2) + "\n"
    else:
        content = report.to_markdown()
    write_atomic(path, content.encode())


def _parts(args: argparse.Namespace) -> tuple[Judged, Judged]:
    """Queries and corpus, as items to encode."""
    return _items(args, "queries"), _items(args, "corpus")


def _vectors(args: argparse.Namespace, part: str) -> "tuple[Array | None, Array]":
    named = {side: getattr(args, f"{part}_{side}_vectors") for side in inputs.SIDES}
    found = inputs.read_sides({side: path for side, path in named.items() if path is not None})
    return found.get("source"), found["target"]


def _items(args: argparse.Namespace, part: str) -> Judged:
    name, split = getattr(args, part), getattr(args, f"{part}_split")
    columns = [getattr(args, f"{part}_column"), getattr(args, f"{part}_id_column")]
    columns.append(getattr(args, "slice_column", None) if part == "queries" else None)
    wanted = [column for column in columns if column is not None]
    found = dict(zip(wanted, read_columns(name, split, wanted), strict=True))
    items, ids, slices = map(found.get, columns)
    return Judged(
        items or [],
        None if ids is None else [str(key) for key in ids],
        None if slices is None else [str(key) for key in slices],
    )


def _relevance(
    path: str | None, queries: Sequence[str] | None, corpus: Sequence[str] | None
) -> dict[int, dict[int, float]] | None:
    """Gains by the numbers of query and item.

    Raises:
        InvalidPairsError: A line that is not a judgement, names a row that is not there, or
            gives another gain than an earlier line.
    """
    if path is None:
        return None
    numbers = [_by_id(ids) for ids in (queries, corpus)]
    found: dict[int, dict[int, float]] = {}
    for line, text in enumerate(read_lines(path), 1):
        words = text.replace(",", " ").split()
        if not words or (line == 1 and _is_header(words, numbers)):
            continue
        if len(words) == 4:  # TREC: query, iteration, item, gain
            del words[1]
        if len(words) not in (2, 3) or not all(map(_is_number, words[2:])):
            raise InvalidPairsError(
                f"{path}, line {line}: a query, an item and a gain are needed, got {text[:80]!r}"
            )
        query, item = (
            _number(word, known, path, line) for word, known in zip(words, numbers, strict=False)
        )
        gain = float(words[2]) if len(words) == 3 else 1.0
        if (before := found.setdefault(query, {}).setdefault(item, gain)) != gain:
            raise InvalidPairsError(
                f"{path}, line {line}: query {words[0]!r} and item {words[1]!r} have the gain "
                f"{gain:g} here, and {before:g} in an earlier line: leave one out"
            )
    gains = {query: {i: gain for i, gain in of.items() if gain > 0} for query, of in found.items()}
    return {query: of_query for query, of_query in gains.items() if of_query}


def _by_id(ids: Sequence[str] | None) -> dict[str, int] | None:
    """The number of each row by its id; None where rows have none.

    Raises:
        InvalidPairsError: Two rows have one id.
    """
    if ids is None:
        return None
    numbers = dict(zip(ids, range(len(ids)), strict=True))
    if len(numbers) < len(ids):
        twice = next(key for row, key in enumerate(ids) if numbers[key] != row)
        raise InvalidPairsError(
            f"judgements name rows by id, and several have the id {twice!r}: give each its own"
        )
    return numbers


def _is_header(words: Sequence[str], known: Sequence[dict[str, int] | None]) -> bool:
    """Whether the first line names columns: no gain at its end, and neither a query nor an item."""
    pairs = zip(words, known, strict=False)
    named = any(word.isdecimal() if ids is None else word in ids for word, ids in pairs)
    return not named and not _is_number(words[-1])


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _number(word: str, known: dict[str, int] | None, path: str, line: int) -> int:
    if known is not None:
        if word in known:
            return known[word]
        raise InvalidPairsError(f"{path}, line {line}: there is no row with the id {word!r}")
    if not word.isdecimal():
        raise InvalidPairsError(
            f"{path}, line {line}: rows are named by their number, as no id column is given; got "
            f"{word!r}"
        )
    return int(word)
