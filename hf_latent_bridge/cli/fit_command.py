"""`latent-bridge fit`: from arguments to a saved translator, in one or several processes."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_latent_bridge.cli import inputs
from hf_latent_bridge.cli.commands import Result, describe

if TYPE_CHECKING:
    from hf_latent_bridge import Translator
    from hf_latent_bridge.data import PairSource
    from hf_latent_bridge.encoders import EncoderLike


def fit(args: argparse.Namespace) -> Result:
    """Fits a translator on paired items and saves it."""
    from hf_latent_bridge import evaluate
    from hf_latent_bridge.processes import Processes

    translator = _new_translator(args.type, args.param)
    if Path(args.output).exists() and not Path(args.output).is_dir():
        raise NotADirectoryError(f"--output must name a folder, and {args.output} is a file")
    inputs.check_choice(args)
    pairs = inputs.open_pairs(args, args.split)
    held_out = inputs.open_pairs(args, args.evaluate_split) if args.evaluate_split else None
    given = inputs.given_spaces(args)
    source, target = (inputs.named_encoder(args, side) for side in inputs.SIDES)
    _fit(translator, source, target, inputs.choose(args, pairs, source), args)
    for side, facts in given.items():
        setattr(translator, f"{side}_", replace(getattr(translator, f"{side}_"), **facts))
    if not Processes.current().is_first:
        return {}, ""
    translator.save_pretrained(args.output)
    text = f"{translator}\nsaved in {args.output}\n{translator.fit_summary_}"
    if held_out is not None:
        common = {"batch_size": args.batch_size, "progress": args.progress}
        report = evaluate(translator, source, target, held_out, **common)
        translator.metrics_ = report.to_dict()
        translator.save_pretrained(args.output)
        text += f"\n{report}"
    return {"output": args.output, **describe(translator)}, text


def _fit(
    translator: "Translator",
    source: "EncoderLike | None",
    target: "EncoderLike | None",
    pairs: "PairSource",
    args: argparse.Namespace,
) -> None:
    import torch

    from hf_latent_bridge import fit_translator

    fit_translator(
        translator,
        source,
        target,
        pairs,
        batch_size=args.batch_size,
        chunk_size=args.chunk_size,
        gemm_dtype=getattr(torch, args.gemm_dtype),
        on_bad_row=args.on_bad_row,
        bad_rows_file=args.bad_rows_file,
        checkpoint_dir=args.checkpoint_dir,
        checkpoint_every=args.checkpoint_every,
        progress=args.progress,
    )


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
