"""What each command does."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.cli import growing, inputs, shared

if TYPE_CHECKING:
    from hf_latent_bridge import (
        Information,
        LearningCurve,
        SharedSpace,
        Translator,
        TranslatorChoice,
    )
    from hf_latent_bridge.data.chunks import PairSource
    from hf_latent_bridge.encoders.base import EncoderLike


Result = tuple[dict[str, Any], str]  # facts for --json, and text for people


def translate(args: argparse.Namespace) -> Result:
    """Translates a file, a dataset's column or a stream of latents."""
    from hf_latent_bridge import AutoTranslator, translate_file

    # its processes are given rows in memory, and would each need a share of a GPU
    loaded = AutoTranslator.from_pretrained(
        args.translator, subfolder=args.subfolder, device="cpu", **_where(args)
    )
    translator = loaded if args.side == "source" else _of_target(loaded)
    written = translate_file(
        translator,
        args.input,
        args.output,
        column=args.column,
        name=args.name,
        split=args.split,
        revision=args.input_revision,
        scale=args.scale,
        folding=inputs.read_folding(args),
        dtype=args.dtype,
        chunk_size=args.chunk_size,
        checkpoint_every=args.checkpoint_every,
        processes=args.processes,
        timeout=args.timeout,
        resume=not args.restart,
        progress=args.progress,
    )
    facts = {
        "output": written.path,
        "shape": list(written.shape),
        "dtype": written.dtype,
        "kept": list(written.kept),
        "dropped": list(written.dropped),
        "commit": loaded.commit,
    }
    return facts, str(written)


def _of_target(translator: "Translator") -> "Translator":
    """What translates the target's latents.

    Raises:
        ValueError: They are searched as they are.
    """
    if (found := translator.target_translator_) is None:
        raise ValueError(
            f"--side target is for translators of type shared: one of type "
            f"{translator.translator_type} leaves the target's latents as they are"
        )
    return found


def gate(args: argparse.Namespace) -> Result:
    """Judges whether search by a translator is good enough."""
    from hf_latent_bridge import AutoTranslator, SharedSpace
    from hf_latent_bridge.cli import judged

    judged.check_reports(args.report)
    judged.has_vectors(args)
    judged.check_way(args)
    if args.gradual:
        report: Any = judged.judge_gradual(
            args, SharedSpace.from_pretrained(args.translator, **_where(args))
        )
    else:
        translator = AutoTranslator.from_pretrained(args.translator, **_where(args))
        report = judged.judge(args, translator)
    for path in args.report:
        judged.write_report(report, Path(path))
    return report.to_dict(), str(report)


def migrate(args: argparse.Namespace) -> Result:
    """Moves the vectors of a store, says what that would be, or undoes it."""
    import hf_latent_bridge as bridge
    from hf_latent_bridge.cli import judged

    judged.check_migration(args)
    if args.rollback:
        done = bridge.roll_back_migration(
            args.source, args.target, state_dir=args.state_dir, timeout=args.timeout
        )
        return {"done": done}, done
    if args.translator is None:
        raise ValueError("--translator is needed: the repo or folder of a fitted translator")
    if args.queries_only:
        return _serve_queries(args)
    what: Any
    plan: Callable[..., Any]
    move: Callable[..., Any]
    found: Any
    if args.gradual:
        what = bridge.SharedSpace.from_pretrained(args.translator, device="cpu", **_where(args))
        plan, move = bridge.plan_gradual_migration, bridge.migrate_gradually
        how: dict[str, Any] = {"view": args.view}
    else:
        what = bridge.AutoTranslator.from_pretrained(args.translator, device="cpu", **_where(args))
        plan, move = bridge.plan_migration, bridge.migrate
        how = {"hubness": args.hubness, "bank": inputs.read_bank(args)}
        how["n_neighbors"] = inputs.neighbors(args)
    if args.dry_run:
        how |= {"text_field": args.text_field, "price_per_million_tokens": args.price}
        found = plan(what, args.source, args.target, **how, timeout=args.timeout)
    else:
        running = ("alias", "serve_dir", "batch_size", "state_dir", "progress")
        how |= {name: getattr(args, name) for name in running}
        found = move(what, args.source, args.target, **how, timeout=args.timeout)
    return found.to_dict(), str(found)


def _serve_queries(args: argparse.Namespace) -> Result:
    """Leaves the store as it is, and records how its vectors are asked."""
    from hf_latent_bridge import AutoTranslator, serve_queries
    from hf_latent_bridge.cli import judged

    judged.check_reports(args.report)
    into_old = AutoTranslator.from_pretrained(args.translator, device="cpu", **_where(args))
    quality = judged.compare(args, into_old)
    served = serve_queries(
        into_old, args.source, args.serve_dir, quality=quality, timeout=args.timeout
    )
    if quality is not None:
        for path in args.report:
            judged.write_report(quality, Path(path))
    return served.to_dict(), str(served)


def re_encode(args: argparse.Namespace) -> Result:
    """Encodes items of a shared collection with a view's encoder."""
    from hf_latent_bridge import SharedSpace, re_encode

    space = SharedSpace.from_pretrained(args.space, **_where(args))
    named = args.encoder or space.translator(args.view).source_
    if not isinstance(named, str) and named.repo_id is None:
        raise ValueError(f"--encoder is needed: the space names none for the view {args.view!r}")
    encoder = inputs.cached_encoder(args, named, max_length=args.max_length)
    done = re_encode(
        space,
        args.target,
        encoder,
        view=args.view,
        field=args.field,
        ids=inputs.read_ids(args.ids),
        max_rows=args.max_rows,
        batch_size=32 if args.batch_size == "auto" else args.batch_size,
        timeout=args.timeout,
        progress=args.progress,
    )
    return done.to_dict(), str(done)


def push(args: argparse.Namespace) -> Result:
    """Publishes a saved translator."""
    if not Path(args.folder).is_dir():
        raise FileNotFoundError(
            f"there is no folder {args.folder}: name one that `latent-bridge fit --output` or "
            "save_pretrained wrote"
        )
    published = _load(args.folder)
    commit = published.push_to_hub(
        args.repo_id,
        private=True if args.private else None,
        revision=args.revision,
        commit_message=args.commit_message,
        create_pr=args.create_pr,
        tags=args.tag,
    )
    url = commit.pr_url or commit.commit_url
    return {"repo_id": published.repo_id, "commit": commit.oid, "url": url}, url


def _where(args: argparse.Namespace) -> dict[str, Any]:
    """How the repo of a translator is loaded."""
    return {"revision": args.revision, "force_download": args.force_download}


def _load(place: str, **options: Any) -> "Translator | SharedSpace":
    """The translator or shared space in a repo or folder."""
    from hf_latent_bridge import AutoTranslator, SharedSpace
    from hf_latent_bridge.files import CONFIG_NAME
    from hf_latent_bridge.hub import client

    config = client.fetch(place, (CONFIG_NAME,), **options).config
    kind = SharedSpace if "space_type" in config else AutoTranslator
    return kind.from_pretrained(place, device="cpu", **options)


def search(args: argparse.Namespace) -> Result:
    """Finds translators on the Hub."""
    from hf_latent_bridge import search_translators

    found = search_translators(args.source, args.target, author=args.author, limit=args.limit)
    text = "\n".join(map(str, found)) or "no translator found"
    return {"translators": [one.to_dict() for one in found]}, text


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
    """Says what a translator or a shared space joins and how it was fitted."""
    from hf_latent_bridge import SharedSpace

    loaded = _load(args.translator, subfolder=args.subfolder, **_where(args))
    if isinstance(loaded, SharedSpace):
        facts = shown = shared.describe(loaded)
    else:
        facts = describe(loaded)
        shown = facts | {"metrics": _scores(loaded.metrics_), "selection": loaded.selection_}
    return facts, "\n".join(f"{key:16} {_plain(value)}" for key, value in shown.items())


def _scores(metrics: dict[str, Any]) -> dict[str, Any]:
    """The scores alone of what `evaluate` reports; other results as they are."""
    if "translated" not in metrics:
        return metrics
    return {"n_pairs": metrics.get("n_pairs"), **metrics["translated"]}


def describe(translator: "Translator") -> dict[str, Any]:
    """What a translator joins and how it was fitted, as JSON values."""
    return {
        "translator_type": translator.translator_type,
        "params": translator.params_,
        "source": translator.source_.to_dict(),
        "target": translator.target_.to_dict(),
        "items": translator.target_translator_ and translator.target_translator_.source_.to_dict(),
        "n_pairs": translator.n_pairs_,
        "selection": translator.selection_ and translator.selection_.to_dict(),
        **({} if (told := _information(translator)) is None else shared.bits_of(told)),
        "dataset": translator.dataset_,
        "metrics": translator.metrics_,
        "commit": translator.commit,
    }


def _information(translator: "Translator") -> "Information | None":
    """How much its two sides share, where a fit has measured that."""
    from hf_latent_bridge import SharedTranslator

    return translator.information_ if isinstance(translator, SharedTranslator) else None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return f"[{'; '.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def evaluate(args: argparse.Namespace) -> Result:
    """Reports how well a translator does on held-out pairs."""
    from hf_latent_bridge import AutoTranslator, evaluate

    where = _where(args)
    translator = AutoTranslator.from_pretrained(args.translator, subfolder=args.subfolder, **where)
    _check_place(translator, args)
    other = args.target_subfolder
    searched = other and AutoTranslator.from_pretrained(args.translator, subfolder=other, **where)
    pairs = inputs.open_pairs(args, args.split)
    if args.max_pairs is not None:
        pairs = pairs.sample(args.max_pairs, seed=args.seed)
    labels, bank = inputs.sampled_labels(args, pairs), inputs.read_bank(args)
    source = inputs.load_side(args, "source", translator.source_)
    read = searched.source_ if searched else translator.pair_spaces_[1]
    target = inputs.load_side(args, "target", read)
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
        on_bad_row=args.on_bad_row,
        hubness=args.hubness,
        bank=bank,
        n_neighbors=inputs.neighbors(args),
        labels=labels,
        target_translator=searched,
    )
    kept = {name: translator.metrics_[name] for name in growing.KEPT if name in translator.metrics_}
    found = report.to_dict() | kept
    place = _write_results(translator, found, args)
    told = [f"saved in {where}" if kind == "saved" else where for kind, where in place.items()]
    curves = [growing.shown(curve) for curve in kept.values()]
    return found | place, "\n".join([str(report), *curves, *told])


def _check_place(translator: "Translator", args: argparse.Namespace) -> None:
    from hf_latent_bridge.atomic import check_writable

    if args.subfolder and (args.push or args.save):
        raise ValueError("--save and --push are for a translator with a repo or folder of its own")
    if args.push and translator.repo_id is None:
        raise ValueError(f"--push writes to a repo, and {args.translator} is a folder: use --save")
    if args.save and translator.repo_id is not None:
        raise ValueError(f"--save writes to a folder, and {args.translator} is a repo: use --push")
    if args.save:
        check_writable(Path(args.translator))


def _write_results(
    translator: "Translator", metrics: dict[str, Any], args: argparse.Namespace
) -> dict[str, str]:
    """Writes where --save or --push says; returns the place."""
    from hf_latent_bridge.hub.published import push_results, save_results

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


def fit(args: argparse.Namespace) -> Result:
    """Fits a translator on paired items and saves it."""
    from hf_latent_bridge import evaluate
    from hf_latent_bridge.atomic import check_writable
    from hf_latent_bridge.fitting.processes import Processes
    from hf_latent_bridge.hub.published import check_save_directory

    given_type = None if args.type == "auto" else _new_translator(args.type, args.param)
    if args.remove_shift and given_type is not None:
        given_type.check_shift()
    check_save_directory(args.output, config={"translator_type": args.type})
    check_writable(Path(args.output))
    inputs.check_choice(args)
    inputs.check_encoders(args)
    pairs = inputs.open_pairs(args, args.split)
    if args.deduplicate:
        pairs = pairs.deduplicate()
    held_out = inputs.open_pairs(args, args.evaluate_split) if args.evaluate_split else None
    given = inputs.given_spaces(args)
    source, target = inputs.named_encoders(args)
    curve: LearningCurve | None = None
    if args.until_retention is not None:
        wanted = given_type or inputs.read_choice(args, pairs)
        curve = growing.fit_until(args, wanted, (source, target), pairs)
        translator = curve.translator
    else:
        anchors = inputs.choose(args, pairs, source)
        anchors = inputs.with_queries(args, anchors, inputs.read_queries(args), (source, target))
        translator = _fit(
            given_type or inputs.read_choice(args, anchors), source, target, anchors, args
        )
    spaces = zip(inputs.SIDES, translator.pair_spaces_, strict=True)
    translator.record_spaces(*(replace(space, **given.get(side, {})) for side, space in spaces))
    if args.remove_shift:
        translator.remove_shift()
    if not Processes.current().is_first:
        return {}, ""
    metrics = {} if curve is None else {"learning_curve": growing.kept(curve)}
    translator.save_pretrained(args.output, metrics=metrics or None)
    text = f"{translator}\nsaved in {args.output}\n{curve or translator.fit_summary_}"
    for record in (translator.selection_, _information(translator)):
        text += "" if record is None else f"\n{record}"
    if held_out is not None:
        options = {"batch_size": args.batch_size, "progress": args.progress}
        if (bank := translator.query_bank_) is not None:
            options |= {"hubness": "csls", "n_neighbors": min(10, len(bank))}
        report = evaluate(translator, source, target, held_out, **options)
        translator.save_pretrained(args.output, metrics=report.to_dict() | metrics)
        text += f"\n{report}"
    facts = {"output": args.output, **describe(translator)}
    return facts | ({} if curve is None else growing.facts(curve)), text


def _fit(
    translator: "Translator | TranslatorChoice",
    source: "EncoderLike | None",
    target: "EncoderLike | None",
    pairs: "PairSource",
    args: argparse.Namespace,
) -> "Translator":
    import torch

    from hf_latent_bridge import fit_translator

    fitted: Translator = fit_translator(
        translator,
        source,
        target,
        pairs,
        batch_size=args.batch_size,
        chunk_size=args.chunk_size,
        gemm_dtype=getattr(torch, args.gemm_dtype or "float64"),
        on_bad_row=args.on_bad_row,
        bad_rows_file=args.bad_rows_file,
        checkpoint_dir=args.checkpoint_dir,
        checkpoint_every=args.checkpoint_every,
        bank_size=args.bank_size,
        progress=args.progress,
    )
    return fitted


def _new_translator(kind: str, params: Sequence[str]) -> "Translator":
    from hf_latent_bridge.translators.base import methods

    if kind not in (known := methods(moving=True)):
        types = ", ".join([*sorted(known), "auto"])
        raise ValueError(f"--type must be one of {types}, got {kind!r}")
    named = shared.named(params, "--param")
    return known[kind].from_params({name: _value(text) for name, text in named.items()})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
