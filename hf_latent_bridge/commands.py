"""What each command of the command line does, given its parsed arguments."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

Result = tuple[dict[str, Any], str]  # facts for --json, and text for people

if TYPE_CHECKING:
    from hf_latent_bridge import Encoder, Pairs, Translator


def fit(args: argparse.Namespace) -> Result:
    """Fits a translator on a paired dataset and saves it."""
    from hf_latent_bridge import evaluate, fit_inputs, fit_translator
    from hf_latent_bridge.processes import Processes

    translator = _new_translator(args.type, args.param)
    if Path(args.output).exists() and not Path(args.output).is_dir():
        raise NotADirectoryError(f"--output must name a folder, and {args.output} is a file")
    pairs = fit_inputs.choose_pairs(args)
    held_out = _pairs(args, args.evaluate_split) if args.evaluate_split else None
    source, target = fit_inputs.encoders(args, _encoder)
    common = {"batch_size": args.batch_size, "progress": args.progress}
    fit_translator(
        translator,
        source,
        target,
        pairs,
        **common,
        chunk_size=args.chunk_size,
        on_bad_row=args.on_bad_row,
        bad_rows_file=args.bad_rows_file,
        checkpoint_dir=args.checkpoint_dir,
        checkpoint_every=args.checkpoint_every,
    )
    fit_inputs.name_spaces(translator, args)
    text = f"{translator}\nsaved in {args.output}\n{translator.fit_summary_}"
    if not Processes.current().is_first:
        return {}, ""
    translator.save_pretrained(args.output)
    if held_out:
        report = evaluate(
            translator,
            fit_inputs.for_report(source),
            fit_inputs.for_report(target),
            held_out,
            **common,
        )
        translator.metrics_ = report.to_dict()
        translator.save_pretrained(args.output)
        text += f"\n{report}"
    return {"output": args.output, **_describe(translator)}, text


def evaluate(args: argparse.Namespace) -> Result:
    """Reports how well a translator does on held-out pairs."""
    from hf_latent_bridge import AutoTranslator, evaluate

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    _check_place(translator, args)
    pairs = _pairs(args, args.split, args.max_pairs)
    source = _encoder(args, translator.source_)
    target = _encoder(args, translator.target_)
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


def translate(args: argparse.Namespace) -> Result:
    """Translates a file, a dataset's column or a stream of latents."""
    from hf_latent_bridge import AutoTranslator
    from hf_latent_bridge.bulk import translate_file

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    shape = translate_file(
        translator,
        args.input,
        args.output,
        column=args.column,
        name=args.name,
        split=args.split,
        revision=args.input_revision,
        dtype=args.dtype,
        processes=args.processes,
        resume=not args.restart,
        progress=args.progress,
    )
    facts = {"output": args.output, "shape": list(shape), "commit": translator.commit}
    return facts, f"{shape[0]:,} latents, {shape[1]} wide, in {args.output}"


def push(args: argparse.Namespace) -> Result:
    """Publishes a saved translator."""
    from hf_latent_bridge import AutoTranslator

    if not Path(args.folder).is_dir():
        raise FileNotFoundError(
            f"there is no folder {args.folder}: name one that `latent-bridge fit --output` or "
            "save_pretrained wrote"
        )
    translator = AutoTranslator.from_pretrained(args.folder)
    commit = translator.push_to_hub(
        args.repo_id,
        private=True if args.private else None,
        revision=args.revision,
        commit_message=args.commit_message,
        create_pr=args.create_pr,
        tags=args.tag,
    )
    url = commit.pr_url or commit.commit_url
    return {"repo_id": translator.repo_id, "commit": commit.oid, "url": url}, url


def cache(args: argparse.Namespace) -> Result:
    """Says what latents are kept on disk, or deletes them."""
    from hf_latent_bridge import cache_info, clear_cache

    if args.action == "clear":
        entries, what = clear_cache(args.cache_dir, args.encoder), "deleted"
    else:
        entries, what = cache_info(args.cache_dir, args.encoder), "kept"
    total = sum(entry.bytes for entry in entries)
    lines = [*map(str, entries), f"{total / 1e6:,.1f} MB {what}"]
    facts = {"bytes": total, "entries": [entry.to_dict() for entry in entries]}
    return facts, "\n".join(lines)


def _encoder(args: argparse.Namespace, name: Any, **options: Any) -> "Encoder":
    """An encoder, cached unless it is a folder's, whose latents no commit tells apart."""
    from hf_latent_bridge import CachedEncoder, load_encoder

    encoder = load_encoder(name, device=args.device, **options)
    if args.no_cache or encoder.space.revision is None:
        return encoder
    return CachedEncoder(encoder, args.cache_dir)


def info(args: argparse.Namespace) -> Result:
    """Says what a translator joins and how it was fitted."""
    from hf_latent_bridge import AutoTranslator

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    facts = _describe(translator)
    return facts, "\n".join(f"{key:16} {_plain(value)}" for key, value in facts.items())


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
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _new_translator(kind: str, params: Sequence[str]) -> "Translator":
    from hf_latent_bridge.translators.base import translator_class

    values = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise ValueError(f"--param takes NAME=VALUE, got {param!r}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return translator_class(kind).from_params(values)


def _pairs(args: argparse.Namespace, split: str | None, max_pairs: int | None = None) -> "Pairs":
    from hf_latent_bridge import load_pairs

    return load_pairs(
        args.dataset,
        args.name,
        split=split,
        source=args.source_column,
        target=args.target_column,
        max_pairs=max_pairs,
        seed=args.seed,
    )
