"""The options of each command, and what they may be."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Literal

Group = argparse._ArgumentGroup


class Command(argparse.ArgumentParser):
    """A parser whose help says what is registered; reading the registries imports torch."""

    def format_help(self) -> str:
        """The help, with `{formats}` and other words replaced by what is registered."""
        for action in self._actions:
            for word, list_registered in _REGISTERED.items():
                if action.help and f"{{{word}}}" in action.help:
                    action.help = action.help.replace(f"{{{word}}}", list_registered())
        return super().format_help()

    def defaults(self) -> dict[str, Any]:
        """The value of each option where it is not given."""
        return {action.dest: action.default for action in self._actions}


def _types() -> str:
    from hf_latent_bridge.translators.base import methods

    return ", ".join(sorted(methods(moving=True)))


def _formats() -> str:
    from hf_latent_bridge.vectors.formats import readable

    return readable()


def _written() -> str:
    from hf_latent_bridge.vectors.formats import writable

    return writable()


def _stores() -> str:
    from hf_latent_bridge.vectors.stores.registry import addressable

    return addressable()


_REGISTERED = {"types": _types, "formats": _formats, "written": _written, "stores": _stores}


def add_fit(command: Command) -> None:
    """Options of `fit`."""
    encoders = command.add_argument_group("encoders")
    for side in ("source", "target"):
        encoders.add_argument(
            f"--{side}",
            f"--{side}-encoder",
            metavar="REPO",
            help=f"{side} encoder: repo id or folder; where its latents are given, any name, "
            "such as openai/text-embedding-3-small, or none",
        )
        encoders.add_argument(f"--{side}-revision", metavar="REV", help="branch, tag or commit")
        encoders.add_argument(
            f"--{side}-modality",
            choices=_Modalities(),
            metavar="MODALITY",
            help="what it encodes, where it can do several, as CLIP: %(choices)s",
        )
    _add_max_length(encoders)
    _add_choice(_add_pairs(command, "fit on a sample of N pairs"))
    _add_rows(command)
    method = command.add_argument_group("translator")
    method.add_argument(
        "--type",
        default="ortho",
        help="one of {types}; or auto for the one that does best on held-out pairs "
        "(default: ortho)",
    )
    method.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the type, such as scaling=center; may be repeated",
    )
    method.add_argument(
        "--remove-shift",
        action="store_true",
        help="for search alone: take the direction of the target's mean out of the map, so that a "
        "store that ranks by plain cosine ranks as after centring; --type auto tries only maps "
        "that allow it",
    )
    method.add_argument(
        "--bank-size",
        type=_positive,
        default=0,
        metavar="N",
        help="publish N translated source items with it, by which searches correct for hubs",
    )
    method.add_argument(
        "--objective",
        choices=("reconstruction", "counterpart", "ranking", "classification"),
        help="what --type auto is to do best: R², the same item first, the target's own "
        "neighbours, or classes by --label-column or --decoder (default: ranking)",
    )
    method.add_argument(
        "--no-shared",
        action="store_true",
        help="with --objective counterpart: only maps into the target's own space, no shared one",
    )
    method.add_argument(
        "--rule",
        choices=("best", "sure_lead", "one_standard_error"),
        help="what --type auto takes: the best score, the first candidate unless another is surely "
        "ahead, or the simplest within one standard error of the best (default: by objective)",
    )
    method.add_argument(
        "--decoder", metavar="REPO", help="head of the target for --objective classification"
    )
    method.add_argument("--output", required=True, metavar="DIR", help="folder for the translator")
    _add_gemm_dtype(_add_running(command))


def add_fit_shared(command: Command) -> None:
    """Options of `fit-shared`."""
    views = command.add_argument_group("views")
    for flag, value, what in (
        ("view", "REPO", "a view and its encoder, repo id or folder; once for each encoder"),
        ("view-column", "COLUMN", "the column that a view reads, in place of --column"),
        ("view-modality", "MODALITY", "what its encoder encodes, where it can do several"),
        (
            "view-vectors",
            "FILE",
            "a view's latents, in place of encoders and a dataset ({formats})",
        ),
    ):
        views.add_argument(
            f"--{flag}", action="append", default=[], metavar=f"NAME={value}", help=what
        )
    views.add_argument(
        "--grow",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a view's latents of further items, in any order: pairs among those of two views are "
        "found, starting from the few of --view-vectors, or (experimental) from none",
    )
    _add_max_length(views)
    items = command.add_argument_group("items")
    _add_dataset(items)
    items.add_argument("--column", help="what the encoders read")
    _add_sample(items, "fit on a sample of N items")
    _add_deduplicate(items)
    space = command.add_argument_group("space")
    space.add_argument(
        "--dim",
        type=_or_auto(int),
        default=64,
        metavar="N",
        help="number of axes, or auto (default: 64)",
    )
    space.add_argument(
        "--alpha",
        type=_or_auto(float),
        default="auto",
        metavar="NUMBER",
        help="penalty; auto for the one with the most held-out information (default: auto)",
    )
    space.add_argument("--output", required=True, metavar="DIR", help="folder for the space")
    _add_rows(command)
    _add_gemm_dtype(_add_running(command))


def _add_gemm_dtype(running: Group) -> None:
    running.add_argument(
        "--gemm-dtype",
        choices=("float32", "float64"),
        help="in which products of latents are taken (default: float64)",
    )


def _or_auto(kind: type[int] | type[float]) -> Callable[[str], float | Literal["auto"]]:
    def read(text: str) -> float | Literal["auto"]:
        if text == "auto":
            return "auto"
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number or auto, got {text!r}") from None

    return read


def _add_choice(pairs: Group) -> None:
    pairs.add_argument(
        "--anchors",
        choices=("uniform", "kmeans++", "farthest", "balanced"),
        default="uniform",
        help="how the sample is drawn (default: uniform)",
    )
    pairs.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="classes for --anchors balanced and --objective classification: a column of "
        "--dataset, or beside the vectors of --source-vectors",
    )
    _add_deduplicate(pairs)
    pairs.add_argument(
        "--queries",
        metavar="LOG",
        help="further anchors: a file with a query a line, or a .jsonl, .csv or .parquet file; "
        "both encoders encode each query once",
    )
    for side in ("source", "target"):
        pairs.add_argument(
            f"--queries-{side}-vectors",
            metavar="FILE",
            help=f"their latents by the {side} encoder, row by row, where those of the pairs are "
            "given too and no encoder is at hand; both sides' without --queries",
        )
    pairs.add_argument(
        "--queries-column", metavar="COLUMN", help="with the queries (default: text)"
    )
    pairs.add_argument(
        "--until-retention",
        type=float,
        metavar="SHARE",
        help="fit on twice as many pairs each time, until the lower end of the 95 %% interval of "
        "the gate's retention on held-out queries reaches it; exit code 3 or 4 if it never does",
    )
    pairs.add_argument(
        "--score",
        metavar="NAME",
        help="with --until-retention: of which score, such as first@10, how often the native first "
        "result stays among ten (default: near@10, how near the best of ten is)",
    )
    pairs.add_argument(
        "--held-out",
        type=_positive,
        metavar="N",
        help="with --until-retention: pairs that are searched and not fitted on; half of them ask, "
        "where there are no --queries (default: 1000, or a third of the pairs)",
    )
    pairs.add_argument(
        "--translates",
        choices=("corpus", "queries"),
        help="with --until-retention: which side will be translated (default: corpus; queries with "
        "--target-vectors and --text-field)",
    )
    pairs.add_argument(
        "--evaluate-split",
        metavar="SPLIT",
        help="report on this held-out split and save the report",
    )


def _add_rows(command: Command) -> None:
    rows = command.add_argument_group("bad rows, checkpoints and shares")
    rows.add_argument(
        "--chunk-size",
        type=_positive_or_auto,
        default="auto",
        metavar="N",
        help="pairs that a process takes at a time: lower it to share few among many "
        "(default: 16384 of latents, 1024 of items to encode)",
    )
    _add_on_bad_row(rows)
    rows.add_argument("--bad-rows-file", metavar="FILE", help="list skipped rows here, as JSONL")
    rows.add_argument(
        "--checkpoint-dir", metavar="DIR", help="keep the moments here; go on from there if killed"
    )
    rows.add_argument(
        "--checkpoint-every",
        type=_positive,
        default=100_000,
        metavar="N",
        help="rows between checkpoints, per process (default: 100000)",
    )


def _add_on_bad_row(group: Group) -> None:
    group.add_argument(
        "--on-bad-row",
        choices=("stop", "skip"),
        default="stop",
        help="at a missing, empty, unreadable, NaN or ragged item (default: stop)",
    )


def add_evaluate(command: Command) -> None:
    """Options of `evaluate`."""
    add_translator(command)
    _add_on_bad_row(_add_pairs(command, "use a sample of N pairs"))
    report = command.add_argument_group("report")
    report.add_argument(
        "--target-subfolder",
        metavar="DIR",
        help="of a shared space: the view that is searched, which translates the target's latents",
    )
    for name, what in (("bootstrap", "draws behind the intervals"), ("permutations", "shuffles")):
        report.add_argument(
            f"--{name}", type=_positive, default=1000, metavar="N", help=f"{what} (default: 1000)"
        )
    report.add_argument(
        "--hubness",
        choices=("csls",),
        help="report searches too, plain and with correction for items that come up everywhere",
    )
    _add_bank(report, "for --hubness")
    report.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="classes of the pairs, to report how many neighbours share them: a column of "
        "--dataset, or beside the vectors of --source-vectors",
    )
    place = report.add_mutually_exclusive_group()
    place.add_argument(
        "--save", action="store_true", help="write it into the config and card of the folder"
    )
    place.add_argument(
        "--push",
        action="store_true",
        help="write it into the repo's config and model-index, in one commit to --revision",
    )
    report.add_argument(
        "--create-pr", action="store_true", help="with --push: open a pull request instead"
    )
    _add_running(command)


def _add_bank(group: Group, use: str) -> None:
    group.add_argument(
        "--bank",
        metavar="FILE",
        help=f"{use}: target latents of queries, in a file of {{formats}} "
        "(default: the bank that the translator keeps)",
    )
    group.add_argument(
        "--n-neighbors",
        type=_positive,
        metavar="N",
        help=f"{use}: how many of the bank's nearest count (default: 10)",
    )


def add_translate(command: Command) -> None:
    """Options of `translate`."""
    add_translator(command)
    add_force_download(command)
    command.add_argument(
        "input",
        help="file or folder of latents, one row per item ({formats}); Hub dataset or folder "
        "of one; - for JSON lines on stdin",
    )
    command.add_argument(
        "output",
        help="file to write, in the format of its suffix ({written}); - for JSON lines on stdout",
    )
    command.add_argument(
        "--side",
        choices=("source", "target"),
        default="source",
        help="whose latents these are; target is for translators of type shared, by which both "
        "sides move (default: source)",
    )
    reading = command.add_argument_group("input")
    reading.add_argument(
        "--column",
        help="column, key, tensor or array with the latents, where there are several; a path such "
        "as data[0].embedding, or a pattern such as 'dim_*' for one column per dimension",
    )
    reading.add_argument("--name", help="configuration of a Hub dataset")
    reading.add_argument("--split", help="split of a dataset, such as train")
    reading.add_argument("--input-revision", metavar="REV", help="branch, tag or commit of it")
    reading.add_argument(
        "--scale",
        type=_scale,
        help="what stored integers are multiplied by, or binary for bits packed in bytes",
    )
    folding = command.add_argument_group("folding, for a store that corrects for hubs by CSLS")
    folding.add_argument(
        "--fold",
        choices=("items", "queries"),
        help="fold the items that the store holds, or the queries that it is asked",
    )
    folding.add_argument(
        "--metric",
        choices=("dot", "cosine", "euclidean"),
        help="what the store ranks by (default: dot)",
    )
    folding.add_argument(
        "--input-space",
        choices=("source", "target"),
        help="source: translate the input first; target: it holds target latents already, fold "
        "them only (default: source)",
    )
    _add_bank(folding, "for --fold items")
    running = command.add_argument_group("running")
    running.add_argument(
        "--dtype",
        choices=("float16", "float32", "float64"),
        help="of the output (default: the input's)",
    )
    running.add_argument(
        "--chunk-size",
        type=_positive,
        default=8192,
        metavar="N",
        help="rows that are translated at a time (default: 8192)",
    )
    running.add_argument(
        "--checkpoint-every",
        type=_positive,
        default=65_536,
        metavar="N",
        help="rows between checkpoints, per process (default: 65536)",
    )
    running.add_argument(
        "--processes",
        type=_positive,
        default=1,
        metavar="N",
        help="start N processes (default: 1; under torchrun each takes its share)",
    )
    running.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="end with an error after so long without progress (default: 600)",
    )
    running.add_argument(
        "--restart", action="store_true", help="start over where a run was killed, not go on"
    )


def add_gate(command: Command) -> None:
    """Options of `gate`."""
    command.add_argument(
        "--translator", required=True, metavar="REPO", help="translator: repo id or folder"
    )
    _add_revision(command)
    for part, what in (("queries", "what is asked"), ("corpus", "what is searched, or a sample")):
        group = command.add_argument_group(f"{part}: {what}")
        _add_searched(group, part, ("source", "target"))
    gradual = command.add_argument_group("a shared index, encoded again little by little")
    gradual.add_argument(
        "--gradual",
        action="store_true",
        help="judge it at 0, 25, 50, 75 and 100 %% re-encoded items; --translator names a shared "
        "space, the source is the old encoder and the target the new one",
    )
    for age in ("old", "new"):
        gradual.add_argument(f"--{age}-view", metavar="NAME", help=f"view of the {age} encoder")
    judging = command.add_argument_group("judging")
    judging.add_argument(
        "--translates",
        choices=("corpus", "queries"),
        default="corpus",
        help="which side is translated (default: corpus)",
    )
    judging.add_argument(
        "--hubness",
        choices=("csls",),
        help="judge the folded form, as `migrate --hubness csls` writes it",
    )
    _add_bank(judging, "for --hubness csls")
    _add_judgements(judging)
    judging.add_argument("--slice-column", metavar="COLUMN", help="of --queries: shown apart")
    judging.add_argument(
        "--score",
        metavar="NAME",
        help="which score decides alone, such as mrr@10, or first@10 without judgements (default: "
        "recall@10, which low nDCG and reciprocal rank hold back, and near@10 without)",
    )
    judging.add_argument(
        "--pass-at",
        type=float,
        metavar="SHARE",
        help="retention that the lower end of the interval must reach (default: 0.95)",
    )
    judging.add_argument(
        "--warn-at",
        type=float,
        metavar="SHARE",
        help="mean retention below which it fails (default: 0.9, without judgements 0.8)",
    )
    _add_running(command)


def add_migrate(command: Command) -> None:
    """Options of `migrate`."""
    command.add_argument("source", help="URL of the old vectors ({stores})")
    command.add_argument(
        "target",
        nargs="?",
        help="URL of the new ones: another collection, or ?vector=NEW in the same one",
    )
    command.add_argument("--translator", metavar="REPO", help="translator: repo id or folder")
    _add_revision(command)
    add_force_download(command)
    command.add_argument(
        "--alias", metavar="NAME", help="the store's alias that is to name the new collection"
    )
    command.add_argument(
        "--serve-dir",
        metavar="DIR",
        help="write there how queries reach the vectors, with the translator, for "
        "TranslatedEncoder.from_pretrained",
    )
    folding = command.add_argument_group("folding, for a store that corrects for hubs by CSLS")
    folding.add_argument(
        "--hubness",
        choices=("csls",),
        help="write the folded form, one or two coordinates wider; queries are folded too",
    )
    _add_bank(folding, "for --hubness csls")
    gradual = command.add_argument_group("gradual")
    gradual.add_argument(
        "--gradual",
        action="store_true",
        help="move into a shared space, where old and new vectors meet in one index: --translator "
        "names the repo of the space; then `re-encode` items when there is time",
    )
    gradual.add_argument(
        "--view", metavar="NAME", help="the view of the space that the old vectors are of"
    )
    _add_queries_only(command)
    way = command.add_argument_group("instead of moving").add_mutually_exclusive_group()
    way.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )
    way.add_argument(
        "--rollback",
        action="store_true",
        help="give the alias back and remove the target that an earlier run has made",
    )
    plan = command.add_argument_group("with --dry-run: what encoding again would cost")
    plan.add_argument("--text-field", metavar="FIELD", help="field of the payload with the text")
    plan.add_argument("--price", type=float, metavar="P", help="of a million tokens")
    running = command.add_argument_group("running")
    running.add_argument(
        "--batch-size",
        type=_positive,
        default=1000,
        metavar="N",
        help="rows read, translated and written at a time (default: 1000)",
    )
    running.add_argument(
        "--state-dir",
        metavar="DIR",
        help="where it is noted which target a migration has made (default: "
        "latent-bridge/migrations in the folder HF_HOME)",
    )
    _add_timeout(running)


def _add_queries_only(command: Command) -> None:
    group = command.add_argument_group(
        "queries only: the store stays as it is, and each query of the new model is translated"
    )
    group.add_argument(
        "--queries-only",
        action="store_true",
        help="--translator leads from the new model to the stored vectors, and --serve-dir gets "
        "what serving code loads; no target",
    )
    group.add_argument(
        "--into-new",
        metavar="REPO",
        help="the translator that would move the items, to measure both ways on --queries and "
        "--corpus",
    )
    for part in ("queries", "corpus"):
        _add_searched(group, part, ("old", "new"))
    _add_judgements(group)


def _add_searched(group: Group, part: str, encoders: tuple[str, str]) -> None:
    group.add_argument(
        f"--{part}",
        metavar="DATA",
        help="items that both encoders encode: a Hub dataset, or a .jsonl, .csv or .parquet file",
    )
    group.add_argument(f"--{part}-split", metavar="SPLIT", help="split of a Hub dataset")
    group.add_argument(f"--{part}-column", default="text", metavar="COLUMN", help="(default: text)")
    group.add_argument(
        f"--{part}-id-column",
        metavar="COLUMN",
        help="ids, as --relevance names them (default: the number of the row, from 0)",
    )
    for encoder in encoders:
        group.add_argument(
            f"--{part}-{encoder}-vectors",
            metavar="FILE",
            help=f"latents by the {encoder} encoder, in place of items: a file as `fit` reads it",
        )


def _add_judgements(group: Group) -> None:
    group.add_argument(
        "--relevance",
        metavar="FILE",
        help="judgements: lines of query, item and gain, or qrels of TREC; without, the native "
        "ranking is the yardstick",
    )
    group.add_argument("--k", type=_positive, default=10, metavar="N", help="(default: 10)")
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the bootstrap (default: 0)"
    )
    group.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help="write it here too, as .md, .json or .html; may be repeated",
    )


def add_re_encode(command: Command) -> None:
    """Options of `re-encode`."""
    command.add_argument("target", help="URL of the collection that `migrate --gradual` has made")
    command.add_argument("--space", required=True, metavar="REPO", help="its shared space")
    _add_revision(command)
    command.add_argument("--view", required=True, metavar="NAME", help="view of the new encoder")
    command.add_argument(
        "--encoder", metavar="REPO", help="the encoder (default: the one that the space names)"
    )
    _add_max_length(command)
    chosen = command.add_argument_group("which items")
    chosen.add_argument(
        "--field", default="text", help="field of the payload with the item (default: text)"
    )
    chosen.add_argument(
        "--ids", metavar="FILE", help="only these rows, one id on a line, in this order"
    )
    chosen.add_argument("--max-rows", type=_positive, metavar="N", help="encode at most N")
    running = _add_running(command)
    _add_timeout(running)


def _add_timeout(running: Group) -> None:
    running.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="for one request to a store (default: 60)",
    )


def add_push(command: Command) -> None:
    """Options of `push`."""
    command.add_argument("folder", help="what `fit --output` or save_pretrained wrote")
    command.add_argument("repo_id", help="such as me/minilm-to-mpnet; created if it is not there")
    command.add_argument("--private", action="store_true", help="make a new repo private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to commit to")
    command.add_argument("--commit-message", metavar="TEXT", help="title of the commit")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument(
        "--tag", action="append", default=[], help="further tag for the card; may be repeated"
    )


def add_search(command: Command) -> None:
    """Options of `search`."""
    for side in ("source", "target"):
        command.add_argument(f"--{side}", metavar="REPO", help=f"{side} encoder (default: any)")
    command.add_argument("--author", metavar="NAME", help="who published them (default: anyone)")
    command.add_argument(
        "--limit", type=_positive, default=100, metavar="N", help="how many at most (default: 100)"
    )


def add_info(command: Command) -> None:
    """Options of `info`."""
    add_translator(command)
    add_force_download(command)


def add_translator(command: Command) -> None:
    """Which translator."""
    command.add_argument("translator", help="translator: repo id or folder")
    _add_revision(command)
    command.add_argument(
        "--subfolder", metavar="DIR", help="its folder, such as the name of a shared space's view"
    )


def _add_pairs(command: Command, sample: str) -> Group:
    pairs = command.add_argument_group("pairs")
    _add_dataset(pairs)
    pairs.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="REPO",
        help="a further dataset with the same columns and split; may be repeated",
    )
    pairs.add_argument(
        "--source-column",
        metavar="COLUMN",
        help="what the source encodes; in a file of vectors the column, key, tensor or array, "
        "where there are several: a path such as data[0].embedding, or a pattern such as 'dim_*' "
        "for one column per dimension",
    )
    pairs.add_argument(
        "--target-column",
        metavar="COLUMN",
        help="the same for the target (default: the source column)",
    )
    pairs.add_argument(
        "--precomputed",
        choices=("source", "target", "both"),
        help="columns that hold latents of these encoders already: nothing is encoded there",
    )
    for side in ("source", "target"):
        pairs.add_argument(
            f"--{side}-vectors",
            metavar="FILE",
            help=f"{side} latents, in place of a dataset to encode: a store ({{stores}}), a file "
            "or a folder of numbered files ({formats}), or a Hub dataset with its --split",
        )
    pairs.add_argument(
        "--text-field",
        metavar="FIELD",
        help="with one side's vectors: the field or column beside them with the texts, which the "
        "other side's encoder encodes, as far as they are sampled",
    )
    pairs.add_argument(
        "--id-field",
        metavar="FIELD",
        help="with both sides' vectors: pair the rows that have the same id in this field, in any "
        "order; in a store without it, the key of its rows (default: row by row)",
    )
    for flag, whose in (("", "both sides"), ("source-", "source"), ("target-", "target")):
        pairs.add_argument(
            f"--{flag}scale",
            type=_scale,
            metavar="NUMBER",
            help=f"{whose}: what integers in a file of vectors are multiplied by, or binary for "
            "bits packed in bytes",
        )
    _add_sample(pairs, sample)
    return pairs


def _add_dataset(group: Group) -> None:
    group.add_argument("--dataset", metavar="REPO", help="Hub dataset or folder")
    group.add_argument(
        "--name",
        action="append",
        help="its configuration, where it has several; may be repeated to read several",
    )
    group.add_argument("--split", help="such as train")
    group.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit of it")
    group.add_argument("--stream", action="store_true", help="read once, without downloading first")


def _add_sample(group: Group, sample: str) -> None:
    group.add_argument("--max-pairs", type=_positive, metavar="N", help=sample)
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seeds all that is random (default: 0)"
    )


def _add_deduplicate(group: Group) -> None:
    group.add_argument("--deduplicate", action="store_true", help="leave out what came before")


def _add_max_length(group: Command | Group) -> None:
    group.add_argument("--max-length", type=_positive, metavar="N", help="cut texts at N tokens")


def _add_revision(command: Command) -> None:
    command.add_argument("--revision", metavar="REV", help="its branch, tag or commit")


def add_force_download(command: Command | Group) -> None:
    """The cure of a damaged download."""
    command.add_argument(
        "--force-download",
        action="store_true",
        help="download what is loaded from the Hub again, such as after a download was damaged",
    )


def _add_running(command: Command) -> Group:
    running = command.add_argument_group("running")
    add_force_download(running)
    running.add_argument(
        "--batch-size",
        type=_positive_or_auto,
        default="auto",
        metavar="N",
        help="items per forward pass (default: as many as suit the device)",
    )
    running.add_argument(
        "--device",
        type=_device,
        help="such as cpu or cuda:0 (default: a GPU if there is one, each process its own)",
    )
    running.add_argument(
        "--autocast",
        choices=("bfloat16", "float16"),
        help="take the encoders' products in this dtype, where the device has it",
    )
    running.add_argument(
        "--compile", action="store_true", help="compile the encoders, which takes a minute"
    )
    _add_cache_dir(running)
    running.add_argument(
        "--no-cache", action="store_true", help="encode all items, and keep no latents"
    )
    return running


def add_cache(command: Command) -> None:
    """Options of `cache`."""
    command.add_argument("action", choices=["info", "clear"], help="say what is kept, or delete it")
    command.add_argument("--encoder", metavar="REPO", help="of this encoder only")
    _add_cache_dir(command)


def _add_cache_dir(command: Command | Group) -> None:
    command.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where the latents of encoded items are kept, to be encoded once "
        "(default: latent-bridge in the folder HF_HOME)",
    )


class _Modalities:
    """The names in the registry, which is imported for a help text or a value, not before."""

    def __iter__(self) -> Iterator[str]:
        from hf_latent_bridge.encoders.modality import MODALITIES

        return iter(sorted(MODALITIES))

    def __contains__(self, name: object) -> bool:
        return name in list(self)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^63 - 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


def _positive_or_auto(text: str) -> int | Literal["auto"]:
    return "auto" if text == "auto" else _positive(text)


def _scale(text: str) -> float | Literal["binary"]:
    if text == "binary":
        return "binary"
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or binary, got {text!r}") from None


def _device(text: str) -> str:
    import torch

    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f"no usable device {text!r}: {str(error).splitlines()[0]}"
        ) from error
    return text
