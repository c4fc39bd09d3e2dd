"""The command line: latent-bridge fit | evaluate | translate | push | cache | info."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hf_latent_bridge import commands
from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import LatentBridgeError

_EXAMPLE = {
    "fit": """\
latent-bridge fit --source sentence-transformers/all-MiniLM-L6-v2 \\
      --target sentence-transformers/all-mpnet-base-v2 \\
      --dataset fancyzhx/ag_news --split train --source-column text \\
      --max-pairs 1000 --evaluate-split test --output minilm-to-mpnet""",
    "evaluate": """\
latent-bridge evaluate minilm-to-mpnet --dataset fancyzhx/ag_news \\
      --split test --source-column text --max-pairs 1000""",
    "translate": "latent-bridge translate me/minilm-to-mpnet minilm.npy mpnet.npy",
    "push": "latent-bridge push minilm-to-mpnet me/minilm-to-mpnet --private",
    "cache": "latent-bridge cache clear --encoder sentence-transformers/all-MiniLM-L6-v2",
    "info": "latent-bridge info me/minilm-to-mpnet --revision v1",
}
# read when these libraries are imported, which is after the arguments are parsed
_NO_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

Command = argparse.ArgumentParser
Group = argparse._ArgumentGroup
_Verb = Callable[[argparse.Namespace], commands.Result]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for a refusal or 130 when interrupted.

    Raises:
        SystemExit: With 2 for bad usage, with 0 after --help and --version.
    """
    args = build_parser().parse_args(argv)
    args.progress = not args.quiet and sys.stderr.isatty()
    if not args.progress:
        os.environ.update(_NO_BARS)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            facts, text = args.run(args)
    except ImportError as error:
        return _fail(f"{error}; pip install 'hf-latent-bridge[encoders]' brings what is needed")
    except (LatentBridgeError, OSError, ValueError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("latent-bridge: interrupted", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return 0
    to_stdout = getattr(args, "output", None) == "-"  # where the rows have gone
    print(json.dumps(facts) if args.json else text, file=sys.stderr if to_stdout else sys.stdout)
    return 0


def build_parser() -> Command:
    """The parser of all commands; `scripts/write_cli_docs.py` prints its help."""
    parser = argparse.ArgumentParser(
        prog="latent-bridge",
        description="Fit, check and share maps between the latent spaces of encoders.",
        epilog="`latent-bridge COMMAND --help` explains one command and gives an example.",
    )
    parser.add_argument("--version", action="version", version=f"latent-bridge {__version__}")
    listed = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name, (run, fill, summary) in _COMMANDS.items():
        command = listed.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {_EXAMPLE[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        fill(command)
        result = command.add_argument_group("what is printed")
        result.add_argument("--json", action="store_true", help="print one line of JSON")
        result.add_argument("--quiet", action="store_true", help="show no progress bars")
    return parser


def _add_fit(command: Command) -> None:
    encoders = command.add_argument_group("encoders")
    for side in ("source", "target"):
        encoders.add_argument(
            f"--{side}", required=True, metavar="REPO", help=f"{side} encoder: repo id or folder"
        )
        encoders.add_argument(f"--{side}-revision", metavar="REV", help="branch, tag or commit")
    encoders.add_argument("--max-length", type=_positive, metavar="N", help="cut texts at N tokens")
    pairs = _add_pairs(command, "fit on a sample of N pairs", required=False)
    pairs.add_argument(
        "--evaluate-split",
        metavar="SPLIT",
        help="report on this held-out split and save the report",
    )
    _add_more_pairs(pairs)
    _add_rows(command)
    method = command.add_argument_group("translator")
    method.add_argument(
        "--type", default="ortho", help="affine, linear, l_ortho or ortho (default: ortho)"
    )
    method.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the type, such as scaling=center; may be repeated",
    )
    method.add_argument("--output", required=True, metavar="DIR", help="folder for the translator")
    _add_running(command)


def _add_more_pairs(pairs: Group) -> None:
    pairs.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="REPO",
        help="a further dataset with the same columns and split; may be repeated",
    )
    pairs.add_argument("--stream", action="store_true", help="read once, without downloading first")
    for side in ("source", "target"):
        pairs.add_argument(
            f"--{side}-vectors",
            metavar="FILE",
            help=f".npy, .safetensors or .parquet file of {side} latents, in place of a dataset",
        )
    pairs.add_argument(
        "--precomputed",
        choices=("source", "target", "both"),
        help="columns that hold latents of these encoders already: nothing is encoded there",
    )
    pairs.add_argument(
        "--anchors",
        choices=("uniform", "kmeans++", "farthest", "balanced"),
        default="uniform",
        help="how the sample is drawn (default: uniform)",
    )
    pairs.add_argument("--label-column", metavar="COLUMN", help="classes for --anchors balanced")
    pairs.add_argument(
        "--deduplicate", action="store_true", help="leave out pairs that came before"
    )


def _add_rows(command: Command) -> None:
    rows = command.add_argument_group("bad rows, checkpoints and shares")
    rows.add_argument(
        "--chunk-size",
        type=_positive,
        metavar="N",
        help="pairs that a process takes at a time: lower it to share few among many "
        "(default: 1024)",
    )
    rows.add_argument(
        "--on-bad-row",
        choices=("stop", "skip"),
        default="stop",
        help="at a missing, empty, unreadable, NaN or ragged item (default: stop)",
    )
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


def _add_evaluate(command: Command) -> None:
    _add_translator(command)
    _add_pairs(command, "use a sample of N pairs")
    report = command.add_argument_group("report")
    for name, what in (("bootstrap", "draws behind the intervals"), ("permutations", "shuffles")):
        report.add_argument(
            f"--{name}", type=_positive, default=1000, metavar="N", help=f"{what} (default: 1000)"
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


def _add_translate(command: Command) -> None:
    _add_translator(command)
    command.add_argument(
        "input",
        help=".npy, .safetensors, .parquet or .jsonl file of latents, one row per item; Hub "
        "dataset or folder of one; - for JSON lines on stdin",
    )
    command.add_argument(
        "output", help=".npy, .safetensors, .parquet or .jsonl file; - for JSON lines on stdout"
    )
    reading = command.add_argument_group("input")
    reading.add_argument(
        "--column", help="column, key or tensor with the latents, where there are several"
    )
    reading.add_argument("--name", help="configuration of a Hub dataset")
    reading.add_argument("--split", help="split of a dataset, such as train")
    reading.add_argument("--input-revision", metavar="REV", help="branch, tag or commit of it")
    running = command.add_argument_group("running")
    running.add_argument(
        "--dtype", choices=("float16", "float32"), help="of the output (default: the input's)"
    )
    running.add_argument(
        "--processes",
        type=_positive,
        default=1,
        metavar="N",
        help="start N processes (default: 1; under torchrun each takes its share)",
    )
    running.add_argument(
        "--restart", action="store_true", help="start over where a run was killed, not go on"
    )


def _add_push(command: Command) -> None:
    command.add_argument("folder", help="what `fit --output` or save_pretrained wrote")
    command.add_argument("repo_id", help="such as me/minilm-to-mpnet; created if it is not there")
    command.add_argument("--private", action="store_true", help="make a new repo private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to commit to")
    command.add_argument("--commit-message", metavar="TEXT", help="title of the commit")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument(
        "--tag", action="append", default=[], help="further tag for the card; may be repeated"
    )


def _add_translator(command: Command) -> None:
    command.add_argument("translator", help="translator: repo id or folder")
    command.add_argument("--revision", metavar="REV", help="its branch, tag or commit")


def _add_pairs(command: Command, sample: str, *, required: bool = True) -> Group:
    pairs = command.add_argument_group("pairs")
    pairs.add_argument("--dataset", required=required, metavar="REPO", help="Hub dataset or folder")
    pairs.add_argument("--name", help="its configuration, where it has several")
    pairs.add_argument("--split", help="such as train")
    pairs.add_argument(
        "--source-column", required=required, metavar="COLUMN", help="what the source encodes"
    )
    pairs.add_argument(
        "--target-column",
        metavar="COLUMN",
        help="what the target encodes (default: the source column)",
    )
    pairs.add_argument("--max-pairs", type=_positive, metavar="N", help=sample)
    pairs.add_argument("--seed", type=int, default=0, help="seeds all that is random (default: 0)")
    return pairs


def _add_running(command: Command) -> None:
    running = command.add_argument_group("running")
    running.add_argument(
        "--batch-size",
        type=_positive,
        default=32,
        metavar="N",
        help="items per forward pass (default: 32)",
    )
    running.add_argument(
        "--device", type=_device, help="such as cpu or cuda:0 (default: a GPU if there is one)"
    )
    _add_cache_dir(running)
    running.add_argument(
        "--no-cache", action="store_true", help="encode all items, and keep no latents"
    )


def _add_cache(command: Command) -> None:
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


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _device(text: str) -> str:
    import torch

    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f"no usable device {text!r}: {str(error).splitlines()[0]}"
        ) from error
    return text


def _fail(message: str) -> int:
    print(f"latent-bridge: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"latent-bridge: warning: {message}", file=sys.stderr)


_COMMANDS: dict[str, tuple[_Verb, Callable[[Command], object], str]] = {
    "fit": (commands.fit, _add_fit, "fit a translator on a paired dataset"),
    "evaluate": (commands.evaluate, _add_evaluate, "report how well a translator does"),
    "translate": (
        commands.translate,
        _add_translate,
        "translate a file, dataset or stream of latents",
    ),
    "push": (commands.push, _add_push, "publish a saved translator on the Hub"),
    "cache": (commands.cache, _add_cache, "say what latents are kept on disk, or delete them"),
    "info": (commands.info, _add_translator, "say what a translator joins and how it was fitted"),
}


if __name__ == "__main__":
    sys.exit(main())
