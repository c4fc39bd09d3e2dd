"""`fit --until-retention`: pairs are added until search keeps enough, and the curve is kept."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_latent_bridge.cli import inputs
from hf_latent_bridge.errors import InvalidPairsError

if TYPE_CHECKING:
    from hf_latent_bridge import LearningCurve, Pairs, Translator, TranslatorChoice
    from hf_latent_bridge.data.streams import StreamedPairs
    from hf_latent_bridge.encoders.base import EncoderLike

KEPT = ("learning_curve",)  # metrics of a fit, which an evaluation leaves in the config
_JUDGES = 500  # queries of a log that judge, at most half of it; the others are anchors


def fit_until(
    args: argparse.Namespace,
    translator: "Translator | TranslatorChoice",
    encoders: "Sequence[EncoderLike | None]",
    pairs: "Pairs | StreamedPairs",
) -> "LearningCurve":
    """Fits on ever more of the pairs that the arguments name.

    Raises:
        InvalidPairsError: A stream, too few pairs, or too few queries.
    """
    from hf_latent_bridge import Pairs, learning_curve

    if not isinstance(pairs, Pairs):
        raise InvalidPairsError("--until-retention needs pairs that can be counted, not --stream")
    n_held_out = min(args.held_out or inputs.HELD_OUT, len(pairs) // 3)
    corpus, rest = pairs.split(max(1, n_held_out), seed=args.seed)
    anchors = inputs.choose(args, rest, encoders[0])
    stored = args.text_field is not None and args.target_vectors is not None
    translates = args.translates or ("queries" if stored else "corpus")
    asked: Any
    if (log := inputs.read_queries(args)) is not None:
        judges, others = _shared_out(log, args.seed)
        sides = ("target",) if translates == "corpus" else inputs.SIDES
        asked = inputs.query_pairs(args, judges, encoders, sides)
        anchors = inputs.with_queries(args, anchors, others, encoders)
    elif len(corpus) < 2:
        raise InvalidPairsError(f"pairs to fit on and to hold out are needed, got {len(pairs)}")
    else:
        asked, corpus = corpus.split(len(corpus) // 2, seed=args.seed)
    return learning_curve(
        translator,
        encoders[0],
        encoders[1],
        anchors,
        queries=asked,
        corpus=corpus,
        until_retention=args.until_retention,
        seed=args.seed,
        batch_size=args.batch_size,
        chunk_size=args.chunk_size,
        on_bad_row=args.on_bad_row,
        progress=args.progress,
        translates=translates,
        score=args.score,
    )


def kept(curve: "LearningCurve") -> dict[str, Any]:
    """What the config and the card keep of a curve: all but the gate's report."""
    return {name: value for name, value in curve.to_dict().items() if name != "gate"}


def shown(curve: dict[str, Any]) -> str:
    """The table of a curve that a config has kept."""
    from hf_latent_bridge.fitting.curve import shown

    return shown(curve)


def facts(curve: "LearningCurve") -> dict[str, Any]:
    """The curve for `--json`; its verdict becomes the exit code."""
    verdict = "pass" if curve.reached else curve.report.verdict
    return {
        "learning_curve": curve.to_dict(),
        "verdict": "warn" if verdict == "pass" and not curve.reached else verdict,
    }


def _shared_out(log: "inputs.QueryLog", seed: int) -> "tuple[inputs.QueryLog, inputs.QueryLog]":
    """Queries that judge, and those that are anchors."""
    import numpy as np

    n = len(log)
    if n < 4:
        raise InvalidPairsError(f"at least 4 different queries are needed, got {n}")
    order = np.random.default_rng(seed).permutation(n).tolist()
    cut = min(_JUDGES, n // 2)
    return log.select(order[:cut]), log.select(order[cut:])
