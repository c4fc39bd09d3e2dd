"""The command line, latent-bridge: fit, evaluate, translate, gate, migrate, push, and more."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from hf_latent_bridge._version import __version__
from hf_latent_bridge.cli import commands, options, shared, unread
from hf_latent_bridge.cli.commands import evaluate, fit
from hf_latent_bridge.errors import InvalidNameError, LatentBridgeError

_EXAMPLE = {
    "fit": """\
latent-bridge fit --source sentence-transformers/all-MiniLM-L6-v2 \\
      --target sentence-transformers/all-mpnet-base-v2 \\
      --dataset fancyzhx/ag_news --split train --source-column text \\
      --max-pairs 1000 --evaluate-split test --output minilm-to-mpnet""",
    "evaluate": """\
latent-bridge evaluate minilm-to-mpnet --dataset fancyzhx/ag_news \\
      --split test --source-column text --max-pairs 1000""",
    "fit-shared": """\
latent-bridge fit-shared --view minilm=sentence-transformers/all-MiniLM-L6-v2 \\
      --view mpnet=sentence-transformers/all-mpnet-base-v2 \\
      --dataset fancyzhx/ag_news --split train --column text --max-pairs 1000 --output shared""",
    "translate": "latent-bridge translate me/minilm-to-mpnet minilm.npy mpnet.npy",
    "gate": """\
latent-bridge gate --translator me/minilm-to-mpnet --queries questions.jsonl \\
      --corpus documents.jsonl --relevance qrels.tsv --report gate.html""",
    "migrate": """\
latent-bridge migrate qdrant:./store/docs qdrant:./store/docs-mpnet \\
      --translator me/minilm-to-mpnet --alias search""",
    "re-encode": """\
latent-bridge re-encode qdrant:./store/docs-shared --space me/shared --view mpnet \\
      --max-rows 10000""",
    "push": "latent-bridge push minilm-to-mpnet me/minilm-to-mpnet --private",
    "search": """\
latent-bridge search --source sentence-transformers/all-MiniLM-L6-v2 \\
      --target sentence-transformers/all-mpnet-base-v2""",
    "cache": "latent-bridge cache clear --encoder sentence-transformers/all-MiniLM-L6-v2",
    "info": "latent-bridge info me/minilm-to-mpnet --revision v1",
}
# read when these libraries are imported, which is after the arguments are parsed
_NO_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
_BY_SEVERAL = ("fit", "fit-shared", "translate")

_VERDICTS: dict[Any, int] = {"pass": 0, "warn": 3, "fail": 4}

_Verb = Callable[[argparse.Namespace], commands.Result]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for a refusal or 130 when interrupted.

    A gate that warns or fails returns 3 or 4.

    Raises:
        SystemExit: With 2 for bad usage, with 0 after --help and --version.
    """
    args = build_parser().parse_args(argv)
    args.progress = not args.quiet and sys.stderr.isatty()
    if not args.progress:
        os.environ.update(_NO_BARS)
    if args.command not in _BY_SEVERAL and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _fail(f"{args.command} is the work of one process: start it without a launcher")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _refuse_blanks(args)
            unread.check(args)
            facts, text = args.run(args)
    except (LatentBridgeError, OSError, ValueError) as error:
        return _fail("; ".join([str(error), *getattr(error, "__notes__", [])]))
    except ImportError as error:
        return _fail(f"{error}; pip install 'hf-latent-bridge[encoders]' brings what is needed")
    except KeyboardInterrupt:
        print("latent-bridge: interrupted", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return 0
    to_stdout = getattr(args, "output", None) == "-"  # where the rows have gone
    _say(json.dumps(facts) if args.json else text, sys.stderr if to_stdout else sys.stdout)
    return _VERDICTS.get(facts.get("verdict"), 0)


def build_parser() -> options.Command:
    """The parser of all commands; `scripts/write_docs.py` prints its help."""
    parser = options.Command(
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
        fill(command)
        command.set_defaults(run=run, command=name, defaults=command.defaults())
        result = command.add_argument_group("what is printed")
        result.add_argument("--json", action="store_true", help="print one line of JSON")
        result.add_argument("--quiet", action="store_true", help="show no progress bars")
    return parser


def _say(text: str, stream: TextIO) -> None:
    """Prints a text, with escapes for what the terminal cannot show."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _fail(message: str) -> int:
    print(f"latent-bridge: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _refuse_blanks(args: argparse.Namespace) -> None:
    """Refuses an argument that is an empty text, as an unset variable of the shell leaves it."""
    for name, value in vars(args).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.strip():
                raise InvalidNameError(
                    f"{name.replace('_', '-')} must not be empty: give a value, or leave it out"
                )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"latent-bridge: warning: {message}", file=sys.stderr)


_COMMANDS: dict[str, tuple[_Verb, Callable[[options.Command], object], str]] = {
    "fit": (fit, options.add_fit, "fit a translator on a paired dataset"),
    "fit-shared": (
        shared.fit,
        options.add_fit_shared,
        "fit a space that several encoders share, for one index of all of them",
    ),
    "evaluate": (evaluate, options.add_evaluate, "report how well a translator does"),
    "translate": (
        commands.translate,
        options.add_translate,
        "translate a file, dataset or stream of latents",
    ),
    "gate": (
        commands.gate,
        options.add_gate,
        "judge whether search by a translator is good enough",
    ),
    "migrate": (
        commands.migrate,
        options.add_migrate,
        "move a vector store to a new model without encoding again",
    ),
    "re-encode": (
        commands.re_encode,
        options.add_re_encode,
        "encode items of a shared collection again, with the new model",
    ),
    "push": (
        commands.push,
        options.add_push,
        "publish a saved translator or shared space on the Hub",
    ),
    "search": (
        commands.search,
        options.add_search,
        "find translators on the Hub by the encoders that they join",
    ),
    "cache": (
        commands.cache,
        options.add_cache,
        "say what latents are kept on disk, or delete them",
    ),
    "info": (
        commands.info,
        options.add_info,
        "say what a translator joins and how it was fitted",
    ),
}
