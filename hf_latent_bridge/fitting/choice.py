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

from hf_latent_bridge.data.chunks import Rows
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

    @classmethod
    def of(
        cls, latents: Sequence[Tensor], positions: Rows, labels: Sequence[Any] | None
    ) -> "HeldOut":
        """Pairs by their position among all, which decides their fold."""
        x, y = (z.to(torch.promote_types(z.dtype, torch.float32)) for z in latents)
        return cls(x, y, torch.from_numpy(positions % N_FOLDS), labels)

    def of_fold(self, number: int, *, others: bool = False) -> "HeldOut":
        """The pairs of one fold, or of all the others."""
        rows = ((self.folds == number) != others).nonzero().flatten()
        labels = self.labels and [self.labels[row] for row in rows.tolist()]
        return HeldOut(self.x[rows], self.y[rows], self.folds[rows], labels)


@dataclass(frozen=True, eq=False)
class TranslatorChoice:
    """What a map is for, and the candidates; `fit_translator` takes it in place of a translator.

    Attributes:
        objective: "reconstruction", "counterpart", "ranking" or "classification", as for
            `select_translator`.
        among: Candidates, the simplest first; None for those that all registered types offer.
        labels: The class of each pair, for "classification".
        decoder: What reads the target's latents, for "classification".
        max_held_out: At most so many pairs are kept to be scored.
        seed: Seeds their draw.
    """

    objective: Objective = "reconstruction"
    among: Sequence[Translator] | None = None
    labels: Sequence[Any] | None = None
    decoder: Any = None
    max_held_out: int = MAX_HELD_OUT
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what does not go together.

        Raises:
            ValueError: An unknown objective, labels or a decoder that are missing or not used, or
                candidates that cannot be compared.
        """
        given = self.labels is not None or self.decoder is not None
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {self.objective!r}")
        if self.objective == "classification" and not given:
            raise ValueError("objective='classification' needs labels, a decoder, or both")
        if self.objective != "classification" and given:
            raise ValueError(
                f"labels and a decoder are for objective='classification', got {self.objective!r}"
            )
        if self.max_held_out < _FEWEST * N_FOLDS:
            raise ValueError(
                f"max_held_out must be at least {_FEWEST * N_FOLDS}, got {self.max_held_out}"
            )
        check_candidates(self.candidates())

    def candidates(self) -> list[Translator]:
        """The candidates, the simplest first."""
        return list(candidates() if self.among is None else self.among)

    @property
    def needs_pairs(self) -> bool:
        """Whether moments do not suffice."""
        return self.objective != "reconstruction"

    def identity(self) -> dict[str, Any]:
        """JSON values that change when the choice might."""
        tried = [[one.translator_type, one.get_params()] for one in self.candidates()]
        return {"auto": [self.objective, self.max_held_out, self.seed, tried]}

    def fit(
        self,
        X: Latents,
        y: Latents,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Translator:
        """Chooses on these pairs and fits on all of them, as `select_translator` does."""
        folds = self.candidates()[0].fold_moments(X, y, n_folds=N_FOLDS)
        held_out = self._sample(as_tensor(X), as_targets(y)) if self.needs_pairs else None
        return self.fit_folds(folds, held_out, source=source, target=target)

    def _sample(self, x: Tensor, y: Tensor) -> HeldOut:
        """A uniform sample of the pairs, the same as in a fit on the same rows.

        Raises:
            InvalidLatentsError: There is not one label for each pair.
        """
        if self.labels is not None and len(self.labels) != len(x):
            raise InvalidLatentsError(f"{len(x)} pairs need as many labels, got {len(self.labels)}")
        rows = smallest(priorities(np.arange(len(x)), self.seed), self.max_held_out)
        labels = None if self.labels is None else [self.labels[row] for row in rows.tolist()]
        kept = torch.from_numpy(rows)
        return HeldOut.of((x[kept], y[kept]), rows, labels)

    def fit_folds(
        self,
        folds: Sequence[PairedMoments | None],
        held_out: HeldOut | None,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Translator:
        """Scores the candidates on each fold, and fits the chosen one on all of them.

        Args:
            folds: Moments of the folds; None for one without a pair, which is refused.
            held_out: Pairs of all folds; not needed for "reconstruction".
            source: The source space.
            target: The target space.

        Raises:
            InvalidLatentsError: Too few pairs for the folds.
            SolverError: The target latents of a fold are all equal.
        """
        full = [fold for fold in folds if fold is not None]
        if len(full) < N_FOLDS:
            raise InvalidLatentsError(
                f"a choice by {N_FOLDS} folds needs a pair in each, got "
                f"{sum(fold.n for fold in full)} in all"
            )
        tried, whole = self.candidates(), reduce(add, full)
        columns = [
            list(_score_fold(tried, whole - fold, fold, self._judged(held_out, number)))
            for number, fold in enumerate(full)
        ]
        scores, chances = torch.tensor(columns, dtype=torch.float64).permute(2, 1, 0)
        names = [(candidate.translator_type, _changed(candidate)) for candidate in tried]
        n_held_out = whole.n if held_out is None else len(held_out.x)
        selection = select(self.objective, names, scores, chances, n_held_out)
        _warn(selection, whole)
        winner = type(tried[selection.chosen]).from_params(tried[selection.chosen].get_params())
        winner.fit_moments(whole, source=source, target=target)
        winner.selection_ = selection
        return winner

    def _judged(self, held_out: HeldOut | None, number: int) -> tuple[Tensor, Judge] | None:
        """The held-out source latents of a fold, and what scores their translations.

        Raises:
            InvalidLatentsError: The fold has too few pairs.
        """
        if held_out is None:
            return None
        own, others = held_out.of_fold(number), held_out.of_fold(number, others=True)
        if len(own.x) < _FEWEST:
            raise InvalidLatentsError(
                f"objective={self.objective!r} needs at least {_FEWEST} held-out pairs in each "
                f"fold, got {len(own.x)}"
            )
        if self.objective == "counterpart":
            return own.x, _counterpart(torch.cat([own.y, others.y]))
        if self.objective == "ranking":
            return own.x, _ranking(own.y, torch.cat([own.y, others.y]))
        return own.x, _classification(own, others, self.decoder)


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
            mean reciprocal rank of the same item, by cosine, among the targets of all folds.
            "ranking": the 10 nearest of them are those that the target's own latent finds.
            "classification": a decoder or head of the target gives the right label.
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
    choice = TranslatorChoice(objective, among, labels, decoder, max_held_out, seed)
    return choice.fit(X, y, source=source, target=target)


def check_candidates(tried: Sequence[Translator]) -> None:
    """Refuses candidates that cannot be compared on the same moments.

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


def _counterpart(index: Tensor) -> Judge:
    """Searches an index that holds the counterparts first, and the other held-out pairs after."""
    n = len(index)
    chance = float((1 / torch.arange(1, n + 1, dtype=torch.float64)).mean())
    return lambda predicted: (float(reciprocal_ranks(predicted, index).mean()), chance)


def _ranking(own: Tensor, index: Tensor) -> Judge:
    """Compares with what the targets' own latents find in the same index."""
    n, k = len(own), min(N_NEIGHBORS, (len(index) - 1) // 2)
    native = neighbors(own, index, k)
    often = torch.bincount(native.flatten(), minlength=len(index)).double()

    def judge(predicted: Tensor) -> tuple[float, float]:
        found = neighbors(predicted, index, k)
        counts = torch.bincount(found.flatten(), minlength=len(index)).double()
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
