"""The commands that work on a finished translator, and the one for the cache."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

Result = tuple[dict[str, Any], str]  # facts for --json, and text for people

if TYPE_CHECKING:
    from hf_latent_bridge import Translator


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


def info(args: argparse.Namespace) -> Result:
    """Says what a translator joins and how it was fitted."""
    from hf_latent_bridge import AutoTranslator

    translator = AutoTranslator.from_pretrained(args.translator, revision=args.revision)
    facts = describe(translator)
    return facts, "\n".join(f"{key:16} {_plain(value)}" for key, value in facts.items())


def describe(translator: "Translator") -> dict[str, Any]:
    """What a translator joins and how it was fitted, as JSON values."""
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
