"""select_translator: type and parameters of a map by cross-validation, for what it is to do."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, product
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.data.sampling import priorities, smallest
from hf_latent_bridge.decoders.base import as_decoder
from hf_latent_bridge.decoders.head import Head, fit_head
from hf_latent_bridge.errors import InvalidLatentsError, SelectionWarning
from hf_latent_bridge.latents import Latents, as_targets, as_tensor
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import (
    N_FOLDS,
    N_NEIGHBORS,
    OBJECTIVES,
    Objective,
    Selection,
    doubts,
    neighbors,
    overlaps,
    reciprocal_ranks,
    select,
    training_folds,
)
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator, methods

MAX_HELD_OUT = 2000
_FEWEST = 3  # held-out pairs in a fold

Judge = Callable[[Tensor], tuple[float, float]]  # score of predictions, and of shuffled ones


def candidates() -> list[Translator]:
    """All that the registered types offer for a selection, the simplest first."""
    kinds = [kind for kind in methods().values() if kind.grid is not None]
    kinds.sort(key=lambda kind: (kind.complexity, kind.translator_type))
    return [
        kind.from_params(dict(zip(kind.grid, values, strict=True)))
        for kind in kinds
        if kind.grid is not None
        for values in product(*kind.grid.values())
    ]


@dataclass(frozen=True)
class Purpose:
    """What a map is to do, and what is needed to tell how well it does.

    Attributes:
        objective: "reconstruction", "counterpart", "ranking" or "classification".
        decoder: Reads the target's latents, for "classification"; None for a head that is fitted
            on the native latents of the other folds.
        labelled: Whether labels are given, for "classification".
    """

    objective: Objective = "reconstruction"
    decoder: Any = None
    labelled: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {self.objective!r}")
        if self.objective == "classification" and self.decoder is None and not self.labelled:
            raise ValueError("objective='classification' needs labels, a decoder, or both")
        if self.objective != "classification" and (self.decoder is not None or self.labelled):
            raise ValueError(
                f"labels and a decoder are for objective='classification', got {self.objective!r}"
            )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Some of the pairs themselves, for objectives that moments cannot tell.

    Attributes:
        x: Source latents, (n, d_source).
        y: Target latents, (n, d_target).
        folds: In which fold each pair is, (n,).
        labels: Its label; None where no labels are given.
    """

    x: Tensor
    y: Tensor
    folds: Tensor
    labels: Sequence[Any] | None = None

    def of_fold(self, number: int, *, others: bool = False) -> "HeldOut":
        """The pairs of one fold, or of all the others."""
        rows = ((self.folds == number) != others).nonzero().flatten()
        labels = self.labels and [self.labels[row] for row in rows.tolist()]
        return HeldOut(self.x[rows], self.y[rows], self.folds[rows], labels)


def select_translator(
    X: Latents,
    y: Latents,
    *,
    objective: Objective = "reconstruction",
    among: Sequence[Translator] | None = None,
    labels: Sequence[Any] | None = None,
    decoder: Any = None,
    max_held_out: int = MAX_HELD_OUT,
    seed: int = 0,
    source: SpaceSpec | None = None,
    target: SpaceSpec | None = None,
) -> Translator:
    """Fits the simplest map that does about as well as the best of many on held-out pairs.

    Pairs are dealt to five folds, one by one. Each candidate is fitted on four of them and scored
    on the fifth; the simplest one that is not worse than the best by more than one standard error
    of the difference is fitted on all pairs. The same data give the same choice.

    Args:
        X: Source latents, (n, d_source).
        y: Target latents, (n, d_target); row i is the counterpart of row i of `X`.
        objective: What the map is for. "reconstruction": R², from moments alone. "counterpart":
            mean reciprocal rank of the same item, by cosine. "ranking": the 10 nearest target
            latents are those that the target's own latent finds. "classification": a decoder or
            head of the target gives the right label.
        among: Candidates, the simplest first; None for those that all registered types offer.
        labels: The class of each pair, for "classification". Without a decoder, a head is fitted
            on the native target latents of the other folds.
        decoder: What reads the target's latents, for "classification": from `load_decoder`, a
            fitted estimator or a callable. Without labels, its answers on native latents count.
        max_held_out: At most so many pairs, drawn at random, are scored by objectives other than
            "reconstruction".
        seed: Seeds that draw.
        source: The space of `X`, recorded in the config.
        target: The space of `y`, recorded in the config.

    Returns:
        The fitted translator; `selection_` keeps all scores, and is saved with it.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity, or too few pairs for the folds.
        ValueError: An unknown objective, labels or a decoder that are missing or not used.
        SolverError: The target latents of a fold are all equal.

    Warns:
        SelectionWarning: The penalty is on the edge of those tried, or there are few pairs.
    """
    purpose = Purpose(objective, decoder, labels is not None)
    tried = list(candidates() if among is None else among)
    summing = check_candidates(tried)
    folds = summing.fold_moments(X, y, n_folds=N_FOLDS)
    held_out = None
    if objective != "reconstruction":
        held_out = _sample(as_tensor(X), as_targets(y), labels, max_held_out, seed)
    return fit_best(tried, folds, purpose, held_out, source=source, target=target)


def check_candidates(tried: Sequence[Translator]) -> Translator:
    """The first candidate, if their moments are the same.

    Raises:
        ValueError: There are fewer than two, one has a parameter to choose, or they do not have
            the same `unit_norm`.
    """
    if len(tried) < 2:
        raise ValueError(f"a choice needs at least 2 candidates, got {len(tried)}")
    for candidate in tried:
        if candidate.n_folds > 1 or not candidate.learns:
            raise ValueError(f"a candidate must have all its parameters, got {candidate!r}")
    if len(norms := {candidate.get_params().get("unit_norm") for candidate in tried}) > 1:
        raise ValueError(f"all candidates need the same unit_norm, got {sorted(map(str, norms))}")
    return tried[0]


def fit_best(
    tried: Sequence[Translator],
    folds: Sequence[PairedMoments | None],
    purpose: Purpose,
    held_out: HeldOut | None,
    *,
    source: SpaceSpec | None = None,
    target: SpaceSpec | None = None,
) -> Translator:
    """Scores the candidates on each fold, and fits the one that is chosen on all of them.

    Args:
        tried: Candidates, the simplest first.
        folds: Moments of the folds; None for one without a pair, which is refused.
        purpose: What the map is to do.
        held_out: Pairs of all folds; not needed for "reconstruction".
        source: The source space.
        target: The target space.
    """
    full = [fold for fold in folds if fold is not None]
    if len(full) < len(folds):
        n = sum(fold.n for fold in full)
        raise InvalidLatentsError(
            f"a choice by {len(folds)} folds needs a pair in each, got {n} in all"
        )
    columns = [
        list(_score_fold(tried, rest, fold, _judged(purpose, held_out, number)))
        for number, (rest, fold) in enumerate(zip(training_folds(full), full, strict=True))
    ]
    table = torch.tensor(columns, dtype=torch.float64).permute(2, 1, 0)
    names = [(candidate.translator_type, _changed(candidate)) for candidate in tried]
    n_held_out = sum(fold.n for fold in full) if held_out is None else len(held_out.x)
    selection = select(purpose.objective, names, table[0], table[1], n_held_out)
    whole = reduce(add, full)
    _warn(selection, whole)
    winner = type(tried[selection.chosen]).from_params(tried[selection.chosen].get_params())
    winner.fit_moments(whole, source=source, target=target)
    winner.selection_ = selection
    return winner


def _warn(selection: Selection, moments: PairedMoments) -> None:
    if found := doubts(selection, moments.n, max(moments.sxy.shape)):
        warnings.warn("; ".join(found), SelectionWarning, stacklevel=4)


def _changed(candidate: Translator) -> dict[str, Any]:
    """The parameters that differ from the defaults."""
    defaults = type(candidate)().get_params()
    return {k: v for k, v in candidate.get_params().items() if v != defaults[k]}


def _score_fold(
    tried: Sequence[Translator],
    rest: PairedMoments,
    fold: PairedMoments,
    judged: tuple[Tensor, Judge] | None,
) -> Iterator[tuple[float, float]]:
    """Score and chance of each candidate, fitted on `rest`, on a fold."""
    for _, same in groupby(tried, lambda candidate: candidate.translator_type):
        group = list(same)
        kind = type(group[0])
        if judged is None:
            yield from kind.held_out_r2(group, rest, fold)
        else:
            x, judge = judged
            yield from map(judge, kind.predictions(group, rest, x))


def _judged(purpose: Purpose, held_out: HeldOut | None, number: int) -> tuple[Tensor, Judge] | None:
    """The held-out source latents of a fold, and what scores their translations."""
    if held_out is None:
        return None
    own = held_out.of_fold(number)
    return own.x, _judge(purpose, own, held_out.of_fold(number, others=True))


def _judge(purpose: Purpose, own: HeldOut, others: HeldOut) -> Judge:
    """What tells how well predictions for the pairs of a fold do.

    Raises:
        InvalidLatentsError: The fold has too few pairs.
    """
    if len(own.x) < _FEWEST:
        raise InvalidLatentsError(
            f"objective={purpose.objective!r} needs at least {_FEWEST} held-out pairs in each "
            f"fold, got {len(own.x)}"
        )
    if purpose.objective == "counterpart":
        return _counterpart(own)
    if purpose.objective == "ranking":
        return _ranking(own)
    return _classification(own, others, purpose.decoder)


def _counterpart(own: HeldOut) -> Judge:
    n = len(own.y)
    chance = float((1 / torch.arange(1, n + 1, dtype=torch.float64)).mean())
    return lambda predicted: (float(reciprocal_ranks(predicted, own.y).mean()), chance)


def _ranking(own: HeldOut) -> Judge:
    n = len(own.y)
    k = min(N_NEIGHBORS, (n - 1) // 2)
    native = neighbors(own.y, own.y, k)
    often = torch.bincount(native.flatten(), minlength=n).double()

    def judge(predicted: Tensor) -> tuple[float, float]:
        found = neighbors(predicted, own.y, k)
        counts = torch.bincount(found.flatten(), minlength=n).double()
        return float(overlaps(found, native).mean()), float(counts @ often) / (k * n * n)

    return judge


def _classification(own: HeldOut, others: HeldOut, decoder: Any) -> Judge:
    if decoder is None:
        decoder = fit_head(others.y, list(others.labels or ()))
    reader = as_decoder(decoder)
    true = _answers(reader, own.y) if own.labels is None else [_plain(v) for v in own.labels]

    def judge(predicted: Tensor) -> tuple[float, float]:
        found = _answers(reader, predicted)
        hits = np.mean([a == b for a, b in zip(found, true, strict=True)])
        by_chance = sum(found.count(label) * true.count(label) for label in set(true))
        return float(hits), by_chance / len(true) ** 2

    return judge


def _answers(reader: Any, latents: Tensor) -> list[Any]:
    if isinstance(reader, Head):
        return [reader.labels[best] for best in reader.logits(latents).argmax(1).tolist()]
    return [_plain(answer) for answer in reader(latents)]


def _plain(answer: Any) -> Any:
    """The label of an answer, which may be a dictionary with a score."""
    label = answer["label"] if isinstance(answer, Mapping) else answer
    return label.item() if isinstance(label, np.generic | Tensor) else label


def _sample(x: Tensor, y: Tensor, labels: Sequence[Any] | None, n: int, seed: int) -> HeldOut:
    """A uniform sample of the pairs, the same as in a fit on the same rows.

    Raises:
        InvalidLatentsError: There is not one label for each pair.
        ValueError: `n` is too small.
    """
    if n < _FEWEST * N_FOLDS:
        raise ValueError(f"max_held_out must be at least {_FEWEST * N_FOLDS}, got {n}")
    if labels is not None and len(labels) != len(x):
        raise InvalidLatentsError(f"{len(x)} pairs need as many labels, got {len(labels)}")
    rows = torch.from_numpy(smallest(priorities(np.arange(len(x)), seed), n))
    kept = None if labels is None else [labels[row] for row in rows.tolist()]
    return HeldOut(_wide(x[rows]), _wide(y[rows]), rows % N_FOLDS, kept)


def _wide(latents: Tensor) -> Tensor:
    """Latents in float32 at least."""
    return latents.to(torch.promote_types(latents.dtype, torch.float32))
