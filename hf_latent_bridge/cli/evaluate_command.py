"""`latent-bridge evaluate`: a report, and the folder or repo that it is written into."""

import argparse
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.cli import inputs
from hf_latent_bridge.cli.commands import Result

if TYPE_CHECKING:
    from hf_latent_bridge import Translator


def evaluate(args: argparse.Namespace) -> Result:
    """Reports how well a translator does on held-out pairs."""
    from hf_latent_bridge import AutoTranslator, evaluate

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    _check_place(translator, args)
    pairs = inputs.open_pairs(args, args.split)
    if args.max_pairs is not None:
        pairs = pairs.sample(args.max_pairs, seed=args.seed)
    source = inputs.load_side(args, "source", translator.source_)
    target = inputs.load_side(args, "target", translator.target_)
    report = evaluate(
        translator,
        source,
        target,
        pairs,
        batch_size=args.batch_size,
        progress=args.progress,
        seed=args.seed,
        n_bootstrap=args.bootstrap,
        n_permutations=args.permutations,
    )
    place = _write_results(translator, report.to_dict(), args)
    return report.to_dict() | place, "\n".join([str(report), *place.values()])


def _check_place(translator: "Translator", args: argparse.Namespace) -> None:
    if args.push and translator.repo_id is None:
        raise ValueError(f"--push writes to a repo, and {args.translator} is a folder: use --save")
    if args.save and translator.repo_id is not None:
        raise ValueError(f"--save writes to a folder, and {args.translator} is a repo: use --push")


def _write_results(
    translator: "Translator", metrics: dict[str, Any], args: argparse.Namespace
) -> dict[str, str]:
    """Writes where --save or --push says; returns the place."""
    from hf_latent_bridge.results import push_results, save_results

    if args.save:
        save_results(args.translator, metrics)
        return {"saved": args.translator}
    if not args.push:
        return {}
    commit = push_results(
        args.translator,
        metrics,
        commit=str(translator.commit),
        revision=args.revision,
        create_pr=args.create_pr,
    )
    return {"url": str(commit.pr_url or commit.commit_url)}
