"""The command line: latent-bridge fit | evaluate | translate | push | info."""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_latent_bridge._version import __version__
from hf_latent_bridge.errors import LatentBridgeError

if TYPE_CHECKING:
    from hf_latent_bridge import Pairs, Translator

_FIT_EXAMPLE = """example:
  latent-bridge fit --source sentence-transformers/all-MiniLM-L6-v2 \\
      --target sentence-transformers/all-mpnet-base-v2 \\
      --dataset fancyzhx/ag_news --split train --source-column text \\
      --type ortho --max-pairs 1000 --evaluate-split test --output minilm-to-mpnet
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 1 for a refusal, 2 for bad usage or 130 when interrupted."""
    args = _parser().parse_args(argv)
    warnings.formatwarning = _format_warning
    try:
        args.run(args)
    except (LatentBridgeError, OSError, ValueError) as error:
        print(f"latent-bridge: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("latent-bridge: interrupted", file=sys.stderr)
        return 130
    return 0


def _fit(args: argparse.Namespace) -> None:
    from hf_latent_bridge import evaluate, fit_translator, load_encoder

    translator = _new_translator(args.type, args.param)
    options = {"max_length": args.max_length, "device": args.device}
    source = load_encoder(args.source, revision=args.source_revision, **options)
    target = load_encoder(args.target, revision=args.target_revision, **options)
    common = {"batch_size": args.batch_size, "progress": _show_progress(args)}
    fit_translator(translator, source, target, _pairs(args, args.split), **common)
    if args.evaluate_split:
        report = evaluate(translator, source, target, _pairs(args, args.evaluate_split), **common)
        translator.metrics_ = report.to_dict()
    translator.save_pretrained(args.output)
    _print(
        args,
        {"output": args.output, **_describe(translator)},
        f"{translator}\nsaved in {args.output}",
    )
    if args.evaluate_split and not args.json:
        print(report)


def _evaluate(args: argparse.Namespace) -> None:
    from hf_latent_bridge import AutoTranslator, evaluate, load_encoder

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    source = load_encoder(translator.source_, device=args.device)
    target = load_encoder(translator.target_, device=args.device)
    report = evaluate(
        translator,
        source,
        target,
        _pairs(args, args.split),
        batch_size=args.batch_size,
        progress=_show_progress(args),
    )
    _print(args, report.to_dict(), str(report))


def _translate(args: argparse.Namespace) -> None:
    from hf_latent_bridge import AutoTranslator
    from hf_latent_bridge.bulk import translate_file

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    shape = translate_file(translator, args.input, args.output, progress=_show_progress(args))
    rows = {"output": args.output, "shape": list(shape), "commit": translator.commit}
    _print(args, rows, f"{shape[0]:,} latents, {shape[1]} wide, in {args.output}")


def _push(args: argparse.Namespace) -> None:
    from hf_latent_bridge import AutoTranslator

    commit = AutoTranslator.from_pretrained(args.folder).push_to_hub(
        args.repo_id,
        private=True if args.private else None,
        revision=args.revision,
        commit_message=args.commit_message,
        create_pr=args.create_pr,
        tags=args.tag,
    )
    url = commit.pr_url or commit.commit_url
    _print(args, {"repo_id": args.repo_id, "commit": commit.oid, "url": url}, url)


def _info(args: argparse.Namespace) -> None:
    from hf_latent_bridge import AutoTranslator

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    facts = _describe(translator)
    text = "\n".join(f"{key:16} {_plain(value)}" for key, value in facts.items())
    _print(args, facts, text)


def _describe(translator: "Translator") -> dict[str, Any]:
    return {
        "translator_type": translator.translator_type,
        "params": translator.get_params(),
        "source": translator.source_.to_dict(),
        "target": translator.target_.to_dict(),
        "n_pairs": translator.n_pairs_,
        "dataset": translator.dataset_,
        "metrics": translator.metrics_,
        "commit": translator.commit,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items()) or "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value or "-")


def _new_translator(kind: str, params: Sequence[str]) -> "Translator":
    from hf_latent_bridge.translators import TRANSLATORS

    if kind not in TRANSLATORS:
        raise ValueError(f"--type must be one of {', '.join(sorted(TRANSLATORS))}, got {kind!r}")
    values = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise ValueError(f"--param takes NAME=VALUE, got {param!r}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return TRANSLATORS[kind]().set_params(**values)


def _pairs(args: argparse.Namespace, split: str | None) -> "Pairs":
    from hf_latent_bridge import load_pairs

    return load_pairs(
        args.dataset,
        args.name,
        split=split,
        source=args.source_column,
        target=args.target_column,
        max_pairs=args.max_pairs if split == args.split else None,
        seed=args.seed,
    )


def _show_progress(args: argparse.Namespace) -> bool:
    return not args.quiet and sys.stderr.isatty()


def _print(args: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    print(json.dumps(facts) if args.json else text)


def _format_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    return f"latent-bridge: warning: {message}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latent-bridge",
        description="Fit, check and share maps between the latent spaces of encoders.",
    )
    parser.add_argument("--version", action="version", version=f"latent-bridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_evaluate(commands)
    _add_translate(commands)
    _add_push(commands)
    _add_info(commands)
    return parser


Commands = Any  # argparse keeps the type of add_subparsers' result private


def _add_fit(commands: Commands) -> None:
    command = _add(commands, "fit", _fit, "fit a translator on a paired dataset", _FIT_EXAMPLE)
    command.add_argument("--source", required=True, metavar="REPO", help="source encoder")
    command.add_argument("--target", required=True, metavar="REPO", help="target encoder")
    command.add_argument("--source-revision", metavar="REV", help="its branch, tag or commit")
    command.add_argument("--target-revision", metavar="REV", help="its branch, tag or commit")
    _add_pairs_options(command)
    command.add_argument("--max-pairs", type=int, metavar="N", help="fit on a sample of N pairs")
    command.add_argument(
        "--type", default="ortho", help="affine, linear, l_ortho or ortho (default)"
    )
    command.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="such as alpha=0.1"
    )
    command.add_argument("--evaluate-split", metavar="SPLIT", help="report on this held-out split")
    command.add_argument("--max-length", type=int, metavar="N", help="cut texts at N tokens")
    command.add_argument("--output", required=True, metavar="DIR", help="folder for the translator")


def _add_evaluate(commands: Commands) -> None:
    command = _add(commands, "evaluate", _evaluate, "report how well a translator does")
    _add_translator(command)
    _add_pairs_options(command)
    command.add_argument("--max-pairs", type=int, metavar="N", help="use a sample of N pairs")


def _add_translate(commands: Commands) -> None:
    command = _add(commands, "translate", _translate, "translate a .npy file of latents")
    _add_translator(command)
    command.add_argument("input", help=".npy file, (n, d_source)")
    command.add_argument("output", help=".npy file to write, (n, d_target)")


def _add_push(commands: Commands) -> None:
    command = _add(commands, "push", _push, "publish a saved translator on the Hub")
    command.add_argument("folder", help="what `fit --output` or save_pretrained wrote")
    command.add_argument("repo_id", help="such as me/minilm-to-mpnet")
    command.add_argument("--private", action="store_true", help="make a new repo private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to commit to")
    command.add_argument("--commit-message", metavar="TEXT", help="title of the commit")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--tag", action="append", default=[], help="further tag for the card")


def _add_info(commands: Commands) -> None:
    command = _add(commands, "info", _info, "say what a translator joins and how it was fitted")
    _add_translator(command)


def _add(
    commands: Commands, name: str, run: Any, summary: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print one line of JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress bars")
    return command


def _add_translator(command: argparse.ArgumentParser) -> None:
    command.add_argument("translator", help="repo id or folder")
    command.add_argument("--revision", metavar="REV", help="its branch, tag or commit")


def _add_pairs_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dataset", required=True, help="Hub dataset or folder")
    command.add_argument("--name", help="its configuration, where it has several")
    command.add_argument("--split", metavar="SPLIT", help="such as train")
    command.add_argument("--source-column", required=True, metavar="COLUMN")
    command.add_argument("--target-column", metavar="COLUMN", help="default: the source column")
    command.add_argument("--seed", type=int, default=0, help="seeds the sample (default 0)")
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    command.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")


if __name__ == "__main__":
    sys.exit(main())
