"""What `fit` and `evaluate` work on: the pairs and encoders that the arguments name."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_latent_bridge.cli.items import is_text_file, read_columns, read_lines
from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from hf_latent_bridge import Encoder, Pairs, TranslatorChoice
    from hf_latent_bridge.data.streams import StreamedPairs
    from hf_latent_bridge.encoders.base import EncoderLike
    from hf_latent_bridge.latents import Array
    from hf_latent_bridge.translation.folding import Folding
    from hf_latent_bridge.vectors.reader import VectorSource

SIDES = ("source", "target")
HELD_OUT = 1000  # pairs that --until-retention searches, where no number is given
N_NEIGHBORS = 10  # of a bank, where no number is given
_POOL = 4  # rows of a store for each anchor that is chosen from them


def open_pairs(args: argparse.Namespace, split: str | None) -> "Pairs | StreamedPairs":
    """All pairs of the datasets, or of two files of vectors.

    Raises:
        ValueError: Arguments that do not go together.
    """
    if not has_vectors(args):
        pairs: Pairs | StreamedPairs = _columns(args, split, args.source_column, decode=True)
        return pairs
    if args.text_field is not None:
        return _stored_pairs(args)
    sides = tuple(_vectors(args, side) for side in SIDES)
    if args.id_field is not None:
        from hf_latent_bridge import load_matched_pairs

        columns = args.source_column, args.target_column or args.source_column
        named = [replace(side, column=one) for side, one in zip(sides, columns, strict=True)]
        _check_scales(args, dict(zip(SIDES, named, strict=True)))
        return load_matched_pairs(
            *named,
            id_field=args.id_field,
            max_pairs=_pool_size(args),
            seed=args.seed,
            on_bad_row=args.on_bad_row,
        )
    from hf_latent_bridge import load_pairs

    pairs = load_pairs(sides, source=args.source_column, target=args.target_column)
    _check_scales(args, {side: getattr(pairs, side).reader.source for side in SIDES})
    return pairs


def choose(
    args: argparse.Namespace, pairs: "Pairs | StreamedPairs", source: "EncoderLike | None"
) -> "Pairs | StreamedPairs":
    """The pairs, sampled as asked."""
    from hf_latent_bridge import choose_anchors

    if args.max_pairs is None:
        return pairs
    if args.anchors == "uniform":
        return pairs.sample(args.max_pairs, seed=args.seed)
    return choose_anchors(
        pairs,
        args.max_pairs,
        args.anchors,
        source=source,
        labels=_labels(args, pairs) if args.anchors == "balanced" else None,
        seed=args.seed,
        batch_size=args.batch_size,
        chunk_size=args.chunk_size,
        progress=args.progress,
    )


def check_encoders(args: argparse.Namespace) -> None:
    """Refuses a side without an encoder and without latents.

    Raises:
        ValueError: Says which.
    """
    for side in SIDES:
        if getattr(args, side) is None and not is_given(args, side):
            raise ValueError(
                f"--{side} is needed, the repo id or folder of the {side} encoder: without it, "
                f"latents must be given by --{side}-vectors or --precomputed {side}"
            )


def check_choice(args: argparse.Namespace) -> None:
    """Refuses arguments of `fit` that do not go together.

    Raises:
        ValueError: Says which.
    """
    if args.evaluate_split and has_vectors(args):
        raise ValueError("--evaluate-split is a split of --dataset: use `latent-bridge evaluate`")
    if args.objective == "classification" and not (args.decoder or args.label_column):
        raise ValueError(
            "--objective classification needs --label-column or --decoder: a column of --dataset "
            "or of the file of --source-vectors, or what reads classes from target latents"
        )
    if args.objective == "classification" and args.label_column and _has_queries(args):
        raise ValueError(
            "--queries have no labels, by which --label-column lets the map be chosen: leave them "
            "out, or choose by --decoder alone"
        )
    check_queries(args)
    if args.anchors != "uniform" and args.max_pairs is None:
        raise ValueError(f"--anchors {args.anchors} needs --max-pairs, how many to choose")
    if args.anchors == "balanced" and (args.label_column is None or args.deduplicate):
        raise ValueError("--anchors balanced needs --label-column, and no --deduplicate")


@dataclass(frozen=True)
class QueryLog:
    """Queries that are anchors.

    Attributes:
        texts: What encoders read; None where the latents of both sides are given.
        latents: By side, where they are given.
    """

    texts: Sequence[str] | None
    latents: "Mapping[str, Array]"

    def __len__(self) -> int:
        return len(next(iter(self.latents.values())) if self.texts is None else self.texts)

    def select(self, rows: Sequence[int]) -> "QueryLog":
        """Those at these places."""
        texts = None if self.texts is None else [self.texts[row] for row in rows]
        return QueryLog(texts, {side: x[list(rows)] for side, x in self.latents.items()})


def _has_queries(args: argparse.Namespace) -> bool:
    files = [getattr(args, f"queries_{side}_vectors") for side in SIDES]
    return any(path is not None for path in (args.queries, *files))


def check_queries(args: argparse.Namespace) -> None:
    """Refuses queries that lack one side, before anything is read.

    Raises:
        ValueError: Says what is needed.
    """
    if not _has_queries(args):
        return
    given = [side for side in SIDES if getattr(args, f"queries_{side}_vectors") is not None]
    for side in given:
        if not is_given(args, side):
            raise ValueError(
                f"--queries-{side}-vectors goes with --{side}-vectors: the {side} items are "
                "encoded here, and so are the queries"
            )
    for side in SIDES:
        unnamed = is_given(args, side) and getattr(args, side) is None
        if side not in given and (args.queries is None or unnamed):
            raise ValueError(
                f"queries are anchors only where both encoders have seen them: the {side} side's "
                f"latents of them are missing. Name the {side} encoder by --{side} and the texts "
                f"by --queries, or give the latents by --queries-{side}-vectors"
            )


def read_queries(args: argparse.Namespace) -> QueryLog | None:
    """The queries, each once; None where none are named.

    Raises:
        InvalidPairsError: No such column, a text that is missing or empty, or another number of
            latents than of texts.
    """
    named = {side: getattr(args, f"queries_{side}_vectors") for side in SIDES}
    latents = read_sides({side: path for side, path in named.items() if path is not None})
    sizes = {f"--queries-{side}-vectors": len(x) for side, x in latents.items()}
    if args.queries is None:
        if not latents:
            return None
        kept, texts = list(range(min(sizes.values()))), None
    else:
        (texts,) = read_columns(args.queries, None, [args.queries_column or "text"])
        sizes["--queries"] = len(texts)
        kept = _usable(args, texts)
    if len(set(sizes.values())) > 1:
        raise InvalidPairsError(f"row i of all must be the same query, got rows: {sizes}")
    log = QueryLog(texts, latents).select(kept)
    if not len(log):
        raise InvalidPairsError(f"{args.queries or next(iter(sizes))} has no queries")
    return log


def _usable(args: argparse.Namespace, texts: Sequence[Any]) -> list[int]:
    """Where texts come for the first time; blank lines of a text file do not count."""
    bad = {row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()}
    if bad and args.on_bad_row == "stop" and not is_text_file(args.queries):
        raise InvalidPairsError(
            f"{args.queries}: row {min(bad)} has no text: fix it, or pass --on-bad-row skip"
        )
    first = {text: row for row, text in reversed([*enumerate(texts)]) if row not in bad}
    return sorted(first.values())


def with_queries(
    args: argparse.Namespace,
    pairs: "Pairs | StreamedPairs",
    queries: QueryLog | None,
    encoders: "Sequence[EncoderLike | None]",
) -> "Pairs | StreamedPairs":
    """The pairs, followed by queries as both encoders see them; as they are without queries.

    Raises:
        ValueError: The pairs are a stream.
    """
    from hf_latent_bridge import Pairs

    if queries is None:
        return pairs
    if not isinstance(pairs, Pairs):
        raise ValueError("queries are added to pairs that can be counted, not to --stream")
    source, target = query_pairs(args, queries, encoders)
    return pairs + Pairs(source, target)


def query_pairs(
    args: argparse.Namespace,
    queries: QueryLog,
    encoders: "Sequence[EncoderLike | None]",
    sides: Sequence[str] = SIDES,
) -> "tuple[Any, Any]":
    """Both sides of queries: as texts, or as latents where the items of a side are latents.

    Args:
        args: The arguments of `fit`.
        queries: Texts, latents, or both.
        encoders: Of the source and the target; None where latents are given.
        sides: Which sides are needed; the others are None.
    """
    from hf_latent_bridge.encoders.base import encode

    found: dict[str, Any] = dict.fromkeys(SIDES)
    for side, encoder in zip(SIDES, encoders, strict=True):
        if side not in sides:
            continue
        if side in queries.latents:
            found[side] = queries.latents[side]
            continue
        texts = list(queries.texts or [])
        if encoder is not None:
            found[side] = texts
            continue
        latents = encode(_side_encoder(args, side), texts, batch_size=args.batch_size)
        found[side] = latents.float().cpu().numpy()
    return found["source"], found["target"]


def read_choice(args: argparse.Namespace, pairs: "Pairs | StreamedPairs") -> "TranslatorChoice":
    """What `--type auto` is to do, with the labels of the chosen pairs."""
    from hf_latent_bridge import TranslatorChoice, load_decoder

    labels = None
    if args.objective == "classification" and args.label_column is not None:
        labels = _labels(args, pairs)
    decoder = None
    if args.decoder is not None:
        decoder = load_decoder(args.decoder, force_download=args.force_download)
    choice = TranslatorChoice(
        args.objective or "ranking",
        labels=labels,
        decoder=decoder,
        seed=args.seed,
        shared=not (args.no_shared or args.remove_shift),
        rule=args.rule,
    )
    if not args.remove_shift:
        return choice
    return replace(choice, among=[one for one in choice.candidates() if one.affine])


def load_side(args: argparse.Namespace, side: str, name: Any) -> "Encoder | None":
    """The encoder of a side, cached; None where its latents are given."""
    return None if is_given(args, side) else cached_encoder(args, name)


def named_encoders(args: argparse.Namespace) -> "tuple[Encoder | None, Encoder | None]":
    """The encoders that `--source` and `--target` name; None where latents are given."""
    source, target = (None if is_given(args, side) else _side_encoder(args, side) for side in SIDES)
    check_max_length(args, (source, target))
    return source, target


def _side_encoder(args: argparse.Namespace, side: str) -> "Encoder":
    own = {name: getattr(args, f"{side}_{name}") for name in ("revision", "modality")}
    return cutting_encoder(args, getattr(args, side), **own)


def cutting_encoder(args: argparse.Namespace, name: Any, **own: Any) -> "Encoder":
    """An encoder that cuts its items at --max-length if they are texts, cached."""
    from hf_latent_bridge.errors import NoTokensError

    try:
        return cached_encoder(args, name, max_length=args.max_length, **own)
    except NoTokensError:
        return cached_encoder(args, name, **own)


def check_max_length(args: argparse.Namespace, encoders: "Iterable[Encoder | None]") -> None:
    """Refuses --max-length where no encoder cuts anything by tokens."""
    lengths = [encoder.space.max_length for encoder in encoders if encoder is not None]
    if args.max_length is not None and not any(lengths):
        raise ValueError("--max-length cuts texts, and no encoder here reads texts: leave it out")


def cached_encoder(args: argparse.Namespace, name: Any, **own: Any) -> "Encoder":
    """An encoder whose latents are cached.

    A folder's encoder is not cached, for no commit tells its latents apart.
    """
    import torch

    from hf_latent_bridge import CachedEncoder, load_encoder

    autocast = args.autocast and getattr(torch, args.autocast)
    running = {"device": args.device, "autocast": autocast, "compile": args.compile}
    running["force_download"] = args.force_download
    encoder: Encoder = load_encoder(name, **running, **own)
    if args.no_cache or encoder.space.revision is None:
        return encoder
    return CachedEncoder(encoder, args.cache_dir)


def given_spaces(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What is known of the encoders that latents were given of, by side.

    A name may be of a model that is not on the Hub, which is asked only for a revision.
    """
    from hf_latent_bridge.hub import client

    spaces = {}
    for side in SIDES:
        name, revision, modality = (
            getattr(args, f"{side}{part}") for part in ("", "_revision", "_modality")
        )
        if not is_given(args, side) or name is None or Path(name).is_dir():
            continue
        known = {"repo_id": name, "modality": modality}
        if revision is not None:
            known["revision"] = client.resolve(name, revision=revision).commit
        spaces[side] = {key: value for key, value in known.items() if value is not None}
    return spaces


def is_given(args: argparse.Namespace, side: str) -> bool:
    """Whether the items of a side are latents already."""
    if has_vectors(args):
        return getattr(args, f"{side}_vectors") is not None
    return args.precomputed in (side, "both")


def has_vectors(args: argparse.Namespace) -> bool:
    """Whether pairs come from two files of vectors.

    Raises:
        ValueError: Neither two files nor a dataset with a column, or both.
    """
    files = args.source_vectors, args.target_vectors
    if args.text_field is not None:
        if all(files) or not any(files) or args.dataset:
            raise ValueError(
                "--text-field is read beside one side's vectors: give --source-vectors or "
                "--target-vectors, and neither both nor --dataset"
            )
    elif any(files) != all(files) or bool(args.dataset) == any(files):
        raise ValueError(
            "pairs come from --dataset and --source-column, from --source-vectors and "
            "--target-vectors, or from one of these with --text-field"
        )
    if args.dataset and not args.source_column:
        raise ValueError("--dataset needs --source-column, what the source encodes")
    if args.id_field is not None and not all(files):
        raise ValueError("--id-field is for --source-vectors with --target-vectors")
    if any(files) and len(args.name or []) > 1:
        raise ValueError("of a dataset of vectors, one --name is read")
    return any(files)


def _stored_pairs(args: argparse.Namespace) -> "Pairs":
    """A sample of stored vectors and the texts beside them."""
    from hf_latent_bridge import load_stored_pairs

    side: Literal["source", "target"] = "source" if args.source_vectors else "target"
    size = _pool_size(args)
    if size is None:
        raise ValueError("--text-field needs --max-pairs, how many of the texts are encoded")
    if side == "source" and args.target_column is not None:
        raise ValueError("--target-column is for --target-vectors: the texts are of --text-field")
    column = args.source_column if side == "source" else args.target_column or args.source_column
    vectors = replace(_vectors(args, side), column=column)
    _check_scales(args, {side: vectors})
    return load_stored_pairs(
        vectors,
        args.text_field,
        side=side,
        max_pairs=size,
        seed=args.seed,
        on_bad_row=args.on_bad_row,
        progress=args.progress,
    )


def _pool_size(args: argparse.Namespace) -> int | None:
    """How many rows of a store to choose the pairs from; None for all."""
    if args.max_pairs is None:
        return None
    chosen = getattr(args, "anchors", "uniform") != "uniform" or getattr(args, "deduplicate", False)
    until = getattr(args, "until_retention", None) is not None
    held_out = (args.held_out or HELD_OUT) if until else 0
    return int(args.max_pairs) * (_POOL if chosen else 1) + held_out


def _vectors(args: argparse.Namespace, side: str) -> "VectorSource":
    from hf_latent_bridge.vectors.reader import VectorSource
    from hf_latent_bridge.vectors.stores.registry import is_store_url

    path, own = getattr(args, f"{side}_vectors"), getattr(args, f"{side}_scale")
    source = VectorSource(path, scale=args.scale if own is None else own)
    if not (Path(path).is_file() or is_store_url(path)):
        config = args.name[0] if args.name else None
        source = replace(source, config=config, split=args.split, revision=args.dataset_revision)
    return source


def _check_scales(args: argparse.Namespace, sources: "Mapping[str, VectorSource]") -> None:
    """Refuses a scale where there are no integers; one for both sides may be for one of them.

    Raises:
        InvalidLatentsError: A file that holds floating numbers.
    """
    from hf_latent_bridge.vectors.formats import open_vectors

    shared = []
    for side, source in sources.items():
        if getattr(args, f"{side}_scale") is not None:
            open_vectors(source).check_scale()
        elif args.scale is not None:
            shared.append(open_vectors(source))
    if shared and not any(reader.integers for reader in shared):
        shared[0].check_scale()


def _columns(
    args: argparse.Namespace,
    split: str | None,
    source: str,
    *,
    stream: bool | None = None,
    decode: bool = False,
) -> Any:
    from hf_latent_bridge import load_pairs
    from hf_latent_bridge.vectors.reader import VectorSource

    options = {"split": split, "source": source, "target": args.target_column}
    options |= {"revision": args.dataset_revision, "force_download": args.force_download}
    options |= {"streaming": args.stream if stream is None else stream}
    parts = []
    for data in [args.dataset, *args.also]:
        for name in args.name or [None]:
            pairs = load_pairs(data, name, **options)
            place = VectorSource(data, None, name, split, args.dataset_revision)
            parts.append(_decoded(args, pairs, place) if decode else pairs)
    return reduce(add, parts)


def _decoded(args: argparse.Namespace, pairs: Any, place: "VectorSource") -> Any:
    """The pairs, with latents that a column holds as texts or integers read as those of files."""
    from hf_latent_bridge.vectors.columns import VectorColumn
    from hf_latent_bridge.vectors.formats import open_vectors

    columns = {}
    for side in SIDES:
        own = getattr(args, f"{side}_scale")
        scale = args.scale if own is None else own
        if args.precomputed not in (side, "both") or args.stream:
            continue
        if scale is None and not isinstance(getattr(pairs, side)[0], str | bytes):
            continue
        column = replace(place, column=pairs.dataset[side], scale=scale)
        record = pairs.dataset | ({} if scale is None else {f"{side}_scale": scale})
        pairs = replace(pairs, dataset=record, **{side: VectorColumn(open_vectors(column))})
        columns[side] = column
    _check_scales(args, columns)
    return pairs


def sampled_labels(
    args: argparse.Namespace, pairs: "Pairs | StreamedPairs"
) -> Sequence[Any] | None:
    """The labels of the pairs that `evaluate` uses; None where no column is named."""
    if args.label_column is None:
        return None
    if has_vectors(args):
        return _labels(args, pairs)
    labels = _columns(args, args.split, args.label_column, stream=False)
    if args.max_pairs is not None:
        labels = labels.sample(args.max_pairs, seed=args.seed)
    return list(labels.source)


def read_bank(args: argparse.Namespace) -> "Array | None":
    """The latents in the file that `--bank` names, (m, d); None without."""
    return None if args.bank is None else read_vectors(args.bank)


def neighbors(args: argparse.Namespace) -> int:
    """How many of a bank's nearest count."""
    return args.n_neighbors or N_NEIGHBORS


def read_vectors(path: str) -> "Array":
    """All latents in a file, (n, d).

    Raises:
        InvalidPairsError: It has no rows.
    """
    return read_sides({"": path})[""]


def read_sides(paths: Mapping[str, str]) -> "dict[str, Array]":
    """All latents in files of the same items, each (n, d), by the name of the side or view.

    Raises:
        InvalidPairsError: A file has no rows, or two have ids that differ in a row.
        InvalidLatentsError: A file holds NaN or infinity.
    """
    import numpy as np

    from hf_latent_bridge.latents import as_tensor, check_finite
    from hf_latent_bridge.vectors.formats import open_vectors
    from hf_latent_bridge.vectors.ids import check_same_ids

    readers = {side: open_vectors(path) for side, path in paths.items()}
    check_same_ids(*readers.values())
    blocks = {side: [b.vectors for b in reader.blocks()] for side, reader in readers.items()}
    for side, path in paths.items():
        if not blocks[side]:
            raise InvalidPairsError(f"{path} has no rows")
    found = {side: np.concatenate(parts) for side, parts in blocks.items()}
    for side, path in paths.items():
        check_finite(as_tensor(found[side]), path)
    return found


def read_ids(path: str | None) -> list[str] | None:
    """The ids in a file, one on a line; None without."""
    if path is None:
        return None
    return [word for line in read_lines(path) if (word := line.strip())]


def read_folding(args: argparse.Namespace) -> "Folding | None":
    """How `translate` folds; None where it only translates."""
    from hf_latent_bridge.translation.folding import Folding

    if args.fold is None:
        return None
    given = {name: getattr(args, name) for name in ("metric", "input_space")}
    given = {name: value for name, value in given.items() if value is not None}
    return Folding(args.fold, bank=read_bank(args), n_neighbors=neighbors(args), **given)


def _labels(args: argparse.Namespace, pairs: "Pairs | StreamedPairs") -> list[Any]:
    """The label of each pair, from the dataset or from beside the stored vectors.

    Raises:
        ValueError: The pairs can be read once only.
        InvalidPairsError: There is no such column.
    """
    from hf_latent_bridge import Pairs
    from hf_latent_bridge.data.stored import read_field

    if not isinstance(pairs, Pairs):
        raise ValueError("--label-column needs pairs that can be read twice, not --stream or stdin")
    if has_vectors(args):
        side = "source" if args.source_vectors else "target"
        column = getattr(args, f"{side}_column") or args.source_column
        every = read_field(replace(_vectors(args, side), column=column), args.label_column)
    else:
        every = _columns(args, args.split, args.label_column, stream=False).source
    return list(every) if pairs.rows is None else [every[row] for row in pairs.rows.tolist()]
