"""select_translator: type and parameters of a map by cross-validation, for what it is to do."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.sampling import priorities, smallest
from hf_latent_bridge.decoders.base import as_decoder
from hf_latent_bridge.decoders.head import Head, fit_head
from hf_latent_bridge.errors import DecoderError, InvalidLatentsError, SelectionWarning
from hf_latent_bridge.latents import Latents, as_targets, as_tensor
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import (
    COARSE,
    N_FOLDS,
    N_NEIGHBORS,
    OBJECTIVES,
    RULES,
    Folds,
    Objective,
    Rule,
    Selection,
    doubts,
    neighbors,
    overlaps,
    reciprocal_ranks,
    select,
)
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Grid, Translator, methods
from hf_latent_bridge.translators.estimator import plain
from hf_latent_bridge.translators.spectral import SpectralTranslator
from hf_latent_bridge.vectors.columns import read_rows

MAX_HELD_OUT = 2000
_FEWEST = 3  # held-out pairs in a fold
_LEAST_HELD_OUT = 100  # of which each fold gets so many, with any luck
_COPIES = 0.02  # share of held-out pairs with copies from which on they are warned of
_ITEMS_PER_NEIGHBOR = 50
_EVERY = 4  # of a path of penalties, where each costs a search
_PATH = 20  # values that make a path


@dataclass(frozen=True, eq=False)
class Judged:
    """How a candidate does on a fold.

    Attributes:
        scores: Of each held-out pair, (n,); of the fold, (1,), where there are moments alone.
        chance: Their mean if the counterparts were shuffled.
    """

    scores: Tensor
    chance: float


Judge = Callable[[Tensor, Tensor], Judged]  # of queries and items, their counterparts first


def candidates(objective: Objective = "ranking", *, shared: bool = True) -> list[Translator]:
    """All that the registered types offer for a selection.

    The first is a map that does well everywhere, to keep in doubt: a shared space where that is
    offered. The others follow from the simplest on. Of a path of penalties every fourth is tried,
    but all by reconstruction, where moments make them cheap.

    Args:
        objective: What the map is for. Those that move the target's latents, too, are offered for
            "counterpart" alone.
        shared: Whether they are offered at all.
    """
    known = methods(moving=shared and objective == "counterpart")
    offered = [kind for kind in known.values() if kind.grid is not None]
    offered.sort(key=lambda kind: (kind.complexity, kind.translator_type))
    found = [
        kind.from_params(dict(zip(grid, values, strict=True)))
        for kind in offered
        for grid in _grids(kind)
        for values in product(*(_thinned(tried, objective) for tried in grid.values()))
    ]
    safe = SpectralTranslator(alpha="auto", gamma="auto", scaling="pareto")
    moving = [one for one in found if one.moves_target]
    rest = [one for one in found if not one.moves_target and repr(one) != repr(safe)]
    return [*moving, safe, *rest]


def _thinned(tried: Sequence[Any], objective: Objective) -> Sequence[Any]:
    fine = objective == "reconstruction" or len(tried) < _PATH
    return tried if fine else tried[::_EVERY]


def _grids(kind: type[Translator]) -> tuple[Grid, ...]:
    if kind.grid is None:
        return ()
    return kind.grid if isinstance(kind.grid, tuple) else (kind.grid,)


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
        """Pairs by their position among all, which decides their fold; both sides in one dtype."""
        dtype = reduce(torch.promote_types, (z.dtype for z in latents), torch.float32)
        x, y = (z.to(dtype) for z in latents)
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
        among: Candidates, first the one to keep in doubt; None for those that all registered types
            offer.
        labels: The class of each pair, for "classification".
        decoder: What reads the target's latents, for "classification".
        max_held_out: At most so many pairs are kept to be scored.
        seed: Seeds their draw.
        shared: Whether a shared space may be chosen, for "counterpart".
        rule: "best", "sure_lead" or "one_standard_error", as for `select_translator`; None for that
            of the objective.
    """

    objective: Objective = "ranking"
    among: Sequence[Translator] | None = None
    labels: Sequence[Any] | None = None
    decoder: Any = None
    max_held_out: int = MAX_HELD_OUT
    seed: int = 0
    shared: bool = True
    rule: Rule | None = None

    def __post_init__(self) -> None:
        """Refuses what does not go together.

        Raises:
            ValueError: An unknown objective, labels or a decoder that are missing or not used, or
                candidates that cannot be compared.
        """
        given = self.labels is not None or self.decoder is not None
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {self.objective!r}")
        _check_labels(self.labels)
        if self.objective == "classification" and not given:
            raise ValueError("objective='classification' needs labels, a decoder, or both")
        if self.objective != "classification" and given:
            raise ValueError(
                f"labels and a decoder are for objective='classification', got {self.objective!r}"
            )
        check_count("max_held_out", self.max_held_out, least=_LEAST_HELD_OUT)
        check_count("seed", self.seed, least=0)
        if self.rule not in (None, *RULES):
            raise ValueError(f"rule must be one of {RULES}, or None, got {self.rule!r}")
        if not isinstance(self.shared, bool | np.bool_):
            raise ValueError(f"shared must be True or False, got {self.shared!r}")
        tried = self.candidates()
        check_candidates(tried)
        if self.objective != "counterpart" and any(one.moves_target for one in tried):
            raise ValueError(
                "candidates that move the target's latents, too, are for objective='counterpart', "
                f"got {self.objective!r}"
            )

    def candidates(self) -> list[Translator]:
        """The candidates, first the one to keep in doubt."""
        if self.among is None:
            return candidates(self.objective, shared=self.shared)
        return [copy.copy(candidate) for candidate in self.among]

    def summing(self) -> list[Translator]:
        """Translators that sum moments: one for each kind of moments that candidates need."""
        found: dict[tuple[Any, ...], Translator] = {}
        for candidate in self.candidates():
            known = found.setdefault(candidate.summed_by, candidate)
            if candidate.full_syy and not known.full_syy:
                found[candidate.summed_by] = candidate
        return list(found.values())

    @property
    def needs_pairs(self) -> bool:
        """Whether moments do not suffice."""
        return self.objective != "reconstruction"

    def identity(self) -> dict[str, Any]:
        """JSON values that change when the choice might."""
        tried = [[one.translator_type, one.fit_identity()] for one in self.candidates()]
        return {"auto": [self.objective, self.max_held_out, self.seed, self.rule, tried]}

    def fit(
        self,
        X: Latents,
        y: Latents,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Translator:
        """Chooses on these pairs and fits on all of them, as `select_translator` does."""
        summing = self.summing()
        for one in summing:
            one.begin(X)
        sums = [(one, one.fold_moments(X, y, n_folds=N_FOLDS)) for one in summing]
        held_out = self._sample(as_tensor(X), as_targets(y)) if self.needs_pairs else None
        return self.fit_folds(sums, held_out, source=source, target=target)

    def _sample(self, x: Tensor, y: Tensor) -> HeldOut:
        """A uniform sample of the pairs, the same as in a fit on the same rows.

        Raises:
            InvalidLatentsError: There is not one label for each pair.
        """
        if self.labels is not None and len(self.labels) != len(x):
            raise InvalidLatentsError(f"{len(x)} pairs need as many labels, got {len(self.labels)}")
        rows = smallest(priorities(np.arange(len(x)), self.seed), self.max_held_out)
        labels = None if self.labels is None else list(read_rows(self.labels, rows))
        kept = torch.from_numpy(rows)
        return HeldOut.of((x[kept], y[kept]), rows, labels)

    def fit_folds(
        self,
        sums: Sequence[tuple[Translator, Sequence[PairedMoments | None]]],
        held_out: HeldOut | None,
        *,
        source: SpaceSpec | None = None,
        target: SpaceSpec | None = None,
    ) -> Translator:
        """Scores the candidates on each fold, and fits the chosen one on all of them.

        Args:
            sums: For each of `summing` the moments of the folds; None for one without a pair,
                which is refused.
            held_out: Pairs of all folds; not needed for "reconstruction".
            source: The source space.
            target: The target space.

        Raises:
            InvalidLatentsError: Too few pairs for the folds.
            SolverError: The target latents of a fold are all equal.
        """
        groups = _grouped(self.candidates(), sums)
        tried = [candidate for group in groups for candidate in group.tried]
        if held_out is not None:
            _warn_of_copies(held_out)
            if self.objective == "classification":
                _check_classes(held_out, self.decoder)
        rows: list[list[Judged]] = [[] for _ in tried]
        for number in range(N_FOLDS):
            fold = self._held_out_fold(held_out, number)
            found = (judged for group in groups for judged in group.scores(number, fold))
            for row, judged in zip(rows, found, strict=True):
                row.append(judged)
        names = [(candidate.translator_type, _changed(candidate)) for candidate in tried]
        n_held_out = groups[0].n_pairs if held_out is None else len(held_out.x)
        selection = select(
            self.objective,
            names,
            torch.stack([torch.cat([judged.scores for judged in row]) for row in rows]),
            torch.tensor([[judged.chance for judged in row] for row in rows]).double(),
            n_held_out,
            rule=self.rule or ("sure_lead" if self._doubtful(tried[0]) else "best"),
            complexities=[candidate.complexity for candidate in tried],
        )
        winner = tried[selection.chosen]
        group = next(group for group in groups if any(winner is one for one in group.tried))
        penalties = [penalty for group in groups for penalty in group.penalties]
        _warn(selection, groups[0].n_pairs, groups[0].widest, penalties[selection.chosen])
        information = winner._information
        winner.fit_moments(group.folds.whole, source=source, target=target)
        winner.selection_, winner._information = selection, information
        return winner

    def _doubtful(self, first: Translator) -> bool:
        """Whether the best score may be luck, or worse than what the first mostly gives."""
        return self.objective in COARSE or first.moves_target

    def _held_out_fold(self, held_out: HeldOut | None, number: int) -> "_Fold | None":
        """The held-out latents of a fold, and what scores their translations.

        Raises:
            InvalidLatentsError: The fold has too few pairs.
        """
        if held_out is None:
            return None
        own, others = held_out.of_fold(number), held_out.of_fold(number, others=True)
        if len(own.x) < _FEWEST:
            raise InvalidLatentsError(
                f"objective={self.objective!r} needs at least {_FEWEST} held-out pairs in each "
                f"of {N_FOLDS} folds, got {len(own.x)} in one: add pairs"
            )
        index = torch.cat([own.y, others.y])
        if self.objective == "counterpart":
            return _Fold(own.x, index, _counterpart)
        if self.objective == "ranking":
            return _Fold(own.x, index, _ranking(own.y, index))
        return _Fold(own.x, index, _classification(own, others, self.decoder))


@dataclass(frozen=True, eq=False)
class _Fold:
    """Held-out latents of a fold, and what scores them.

    Attributes:
        x: Source latents, (n, d_source).
        index: Their targets, and those of the other folds after them, (m, d_target).
        judge: Scores queries and items.
    """

    x: Tensor
    index: Tensor
    judge: Judge


@dataclass(frozen=True, eq=False)
class _Group:
    """Neighbouring candidates of one type that are fitted on the same moments.

    Attributes:
        tried: The candidates, with a number for each "auto".
        penalties: For each of them how its penalty was chosen; None where it was given.
        folds: The moments.
    """

    tried: Sequence[Translator]
    penalties: Sequence[Selection | None]
    folds: Folds

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self.folds.whole.n

    @property
    def widest(self) -> int:
        """The larger width of the two sides."""
        return max(self.tried[0].dims_of(self.folds.whole))

    def scores(self, number: int, held_out: _Fold | None) -> Iterator[Judged]:
        """How each candidate does on a fold, fitted on the others."""
        fold, rest = self.folds.fold(number), self.folds.others(number)
        kind, share = type(self.tried[0]), rest.moments.n / self.n_pairs
        tried = [one.on_part(share) for one in self.tried]
        if held_out is None:
            for score, chance in kind.held_out_r2(tried, rest, fold):
                yield Judged(torch.tensor([score], dtype=torch.float64), chance)
        else:
            for queries, items in kind.searches(tried, rest, held_out.x, held_out.index):
                yield held_out.judge(queries, items)


def _grouped(
    tried: Sequence[Translator],
    sums: Sequence[tuple[Translator, Sequence[PairedMoments | None]]],
) -> list[_Group]:
    """The candidates in their order, each once and with the moments that it needs.

    Raises:
        InvalidLatentsError: A fold has fewer than 2 pairs, of which one has no R².
    """
    by_key: dict[tuple[Any, ...], tuple[Translator, Folds]] = {}
    for summing, folds in sums:
        full = [fold for fold in folds if fold is not None]
        if len(full) < N_FOLDS or min(fold.n for fold in full) < 2:
            raise InvalidLatentsError(
                f"a choice by {N_FOLDS} folds needs at least 2 pairs in each, got "
                f"{sum(fold.n for fold in full)} in all: add pairs"
            )
        by_key[summing.summed_by] = summing, Folds(full)
    groups, seen = [], set[tuple[Any, ...]]()
    for (kind, key), same in groupby(tried, lambda one: (one.translator_type, one.summed_by)):
        group = list(same)
        summing, shared = by_key[key]
        for one in group:
            one.share_sums(summing)
        settled = [one.settle(shared) if one.n_folds > 1 else (one, None) for one in group]
        named = {(kind, *map(repr, one[0].get_params().items())): one for one in settled}
        if new := [one for name, one in named.items() if name not in seen]:
            groups.append(_Group([one for one, _ in new], [how for _, how in new], shared))
        seen.update(named)
    return groups


def select_translator(
    X: Latents,
    y: Latents,
    *,
    objective: Objective = "ranking",
    among: Sequence[Translator] | None = None,
    labels: Sequence[Any] | None = None,
    decoder: Any = None,
    max_held_out: int = MAX_HELD_OUT,
    seed: int = 0,
    shared: bool = True,
    rule: Rule | None = None,
    source: SpaceSpec | None = None,
    target: SpaceSpec | None = None,
) -> Translator:
    """Fits the map that does best of many on held-out pairs.

    Pairs are dealt to five folds, one by one. Each candidate is fitted on four of them and scored
    on the fifth; the chosen one is fitted on all pairs. The same data give the same choice.

    Args:
        X: Source latents, (n, d_source).
        y: Target latents, (n, d_target); row i is the counterpart of row i of `X`.
        objective: What the map is for; by ranking it does well for the others, too.
            "reconstruction": R², from moments alone. "counterpart":
            mean reciprocal rank of the same item, by cosine, among the targets of all folds.
            "ranking": the nearest of them are those that the target's own latent finds, one in
            fifty and at most 10. "classification": a head of the target puts the right label
            before the others, or any other decoder gives it.
        among: Candidates, first the one to keep in doubt; None for those that all registered types
            offer, of which that is a `SharedTranslator`, or
            `SpectralTranslator(alpha="auto", gamma="auto", scaling="pareto")` where both sides
            may not move.
        labels: The class of each pair, for "classification". Without a decoder, a head is fitted
            on the native target latents of the other folds.
        decoder: What reads the target's latents, for "classification": from `load_decoder`, a
            fitted estimator or a callable. Without labels, its answers on native latents count.
        max_held_out: At most so many pairs, drawn at random, are scored by objectives other than
            "reconstruction".
        seed: Seeds that draw.
        shared: Whether a shared space may be chosen, for "counterpart": a `SharedTranslator`, by
            which both sides move. Pass False for an index or decoder that reads the target's own
            latents.
        rule: "best": the highest score. "sure_lead": the first candidate, unless another is surely
            ahead of it on the same pairs. "one_standard_error": the simplest of those within one
            standard error of the highest score: rotations before ridge, ridge before spectral and
            kernel maps, a shared space last; of one type the first in `among`, which for the
            penalties that are offered is the strongest. None for "sure_lead" where the score is
            coarse, for ranking and classification, and for counterparts where a shared space is
            the first candidate; else "best".
        source: The space of `X`, recorded in the config.
        target: The space of `y`, recorded in the config.

    Returns:
        The fitted translator; `selection_` keeps all scores, and is saved with it.

    Raises:
        InvalidLatentsError: Wrong shapes, NaN or infinity, or too few pairs for the folds.
        DecoderError: Labels of one kind, or neither texts nor integers.
        ValueError: An unknown objective or rule, labels or a decoder that are missing or not used.
        SolverError: The target latents of a fold are all equal.

    Warns:
        SelectionWarning: The penalty is on the edge of those tried, or there are few pairs.
    """
    choice = TranslatorChoice(objective, among, labels, decoder, max_held_out, seed, shared, rule)
    return choice.fit(X, y, source=source, target=target)


def as_fitted(
    translator: Translator | TranslatorChoice | Literal["auto"],
) -> Translator | TranslatorChoice:
    """What is to be fitted; "auto" is the choice by ranking.

    Raises:
        ValueError: It is neither a translator nor a choice.
    """
    if isinstance(translator, str) and translator == "auto":
        return TranslatorChoice()
    if not isinstance(translator, Translator | TranslatorChoice):
        raise ValueError(
            "fit a translator such as OrthoTranslator(), a TranslatorChoice or 'auto', got "
            f"{translator!r:.60}"
        )
    return translator


def check_candidates(tried: Sequence[Translator]) -> None:
    """Refuses candidates that cannot be compared on the same moments.

    Raises:
        ValueError: There are fewer than two, one is no translator or not fitted on pairs, or they
            do not have the same `unit_norm`.
    """
    for candidate in tried:
        if not isinstance(candidate, Translator):
            raise ValueError(
                f"among takes translators such as OrthoTranslator(), got {candidate!r:.60}"
            )
    if len(tried) < 2:
        raise ValueError(f"a choice needs at least 2 candidates, got {len(tried)}")
    for candidate in tried:
        if candidate.n_folds not in (1, N_FOLDS) or not candidate.learns:
            raise ValueError(f"a candidate must be fitted on pairs, got {candidate!r}")
    if len(norms := {candidate.unit_norm for candidate in tried}) > 1:
        raise ValueError(f"all candidates need the same unit_norm, got {sorted(map(str, norms))}")


def _warn(selection: Selection, n_pairs: int, widest: int, penalty: Selection | None) -> None:
    if found := doubts(selection, n_pairs, widest, penalty):
        warnings.warn("; ".join(found), SelectionWarning, stacklevel=4)


def _changed(candidate: Translator) -> dict[str, Any]:
    """The parameters that differ from the defaults, as a config states them."""
    defaults = type(candidate)().get_params()
    return {k: plain(v) for k, v in candidate.get_params().items() if v != defaults[k]}


def _counterpart(queries: Tensor, items: Tensor) -> Judged:
    """Searches items that hold the counterparts first, and the other held-out pairs after."""
    by_chance = (1 / torch.arange(1, len(items) + 1, dtype=torch.float64)).mean()
    return Judged(reciprocal_ranks(queries, items).cpu(), float(by_chance))


def _ranking(own: Tensor, index: Tensor) -> Judge:
    """Compares with what the targets' own latents find in the same index.

    In an index of few items the ten nearest are a large part of all, which only tells whether the
    coarse order is right: there fewer are compared, one in fifty.
    """
    n, k = len(own), min(N_NEIGHBORS, max(1, len(index) // _ITEMS_PER_NEIGHBOR))
    native = neighbors(own, index, k)
    often = torch.bincount(native.flatten(), minlength=len(index)).double()

    def judge(queries: Tensor, items: Tensor) -> Judged:
        found = neighbors(queries, items, k)
        counts = torch.bincount(found.flatten(), minlength=len(items)).double()
        by_chance = float(counts @ often) / (k * n * n)
        return Judged(overlaps(found, native).cpu(), by_chance)

    return judge


def _classification(own: HeldOut, others: HeldOut, decoder: Any) -> Judge:
    if decoder is None:
        decoder = fit_head(others.y, _two_kinds(others.labels or ()))
    reader = as_decoder(decoder)
    true = _answers(reader, own.y) if own.labels is None else _labels(own.labels)

    def judge(queries: Tensor, _: Tensor) -> Judged:
        if isinstance(reader, Head):
            return Judged(*_ahead_of_others(reader, queries, true))
        found = _answers(reader, queries)
        hits = [float(a == b) for a, b in zip(found, true, strict=True)]
        by_chance = sum(found.count(label) * true.count(label) for label in set(true))
        return Judged(torch.tensor(hits, dtype=torch.float64), by_chance / len(true) ** 2)

    return judge


def _check_classes(held_out: HeldOut, decoder: Any) -> None:
    """Refuses labels and answers by which no map could be told from another.

    Raises:
        DecoderError: No two pairs have one label, a decoder always gives the same answer, or it
            knows none of the labels.
    """
    labels = None if held_out.labels is None else _labels(held_out.labels)
    if decoder is None:
        if labels and len(set(labels)) == len(labels):
            raise DecoderError(
                "objective='classification' needs labels that several pairs have, got a different "
                f"one for each of {len(labels)} pairs, such as {labels[0]!r}"
            )
        return
    reader = as_decoder(decoder)
    if isinstance(reader, Head) and labels is not None:
        answers = set(reader.labels)
    else:
        answers = set(_answers(reader, held_out.y))
    if len(answers) < 2:
        raise DecoderError(
            "objective='classification' needs a decoder that tells latents apart, got the answer "
            f"{answers.pop()!r} for each of {len(held_out.y)} native target latents"
        )
    if labels is not None and not answers & set(labels):
        raise DecoderError(
            "objective='classification' needs labels that the decoder gives, got labels such as "
            f"{labels[0]!r} and answers such as {answers.pop()!r}"
        )


def _warn_of_copies(held_out: HeldOut) -> None:
    """Warns where pairs are repeated, which lets maps that remember pairs look best."""
    for name, side in (("source", held_out.x), ("target", held_out.y)):
        rows = side.detach().cpu().contiguous()
        counts = Counter(row.tobytes() for row in rows.view(torch.uint8).numpy())
        copies = len(rows) - list(counts.values()).count(1)
        if copies > _COPIES * len(rows):
            warnings.warn(
                f"{copies:,} of {len(rows):,} held-out pairs have a {name} latent that another "
                "pair has, too: where one is held out and the other is not, maps that remember "
                "pairs look best. Leave copies out (deduplicate=True, --deduplicate)",
                SelectionWarning,
                stacklevel=4,
            )
            return


def _check_labels(labels: object) -> None:
    """Refuses labels that are not one after another, such as a mapping or an iterator.

    Raises:
        ValueError: Says what came.
    """
    if isinstance(labels, str | Mapping) or not (labels is None or hasattr(labels, "__getitem__")):
        raise ValueError(
            f"labels must be a list or array, one for each pair, got {type(labels).__name__} "
            f"{labels!r:.60}"
        )


def _two_kinds(labels: Sequence[Any]) -> list[Any]:
    """The labels that a head is fitted on.

    Raises:
        DecoderError: They are all the same.
    """
    plain = _labels(labels)
    if len(kinds := set(plain)) < 2:
        raise DecoderError(
            f"objective='classification' needs two kinds of labels in any {N_FOLDS - 1} of "
            f"{N_FOLDS} folds, got only {kinds}: add pairs of others, or pass a decoder"
        )
    return plain


def _ahead_of_others(head: Head, queries: Tensor, true: Sequence[Any]) -> tuple[Tensor, float]:
    """How far ahead the right label is of all others, and the mean if queries were shuffled.

    It is the mean of two shares: of the other labels those that it is ahead of, which says more
    where pairs are few, and whether it is first, which is what is wanted. A label that the head
    does not know is ahead of none.
    """
    logits = head.logits(queries).double().cpu()
    places = {label: number for number, label in enumerate(head.labels)}
    unknown = torch.tensor([label not in places for label in true])
    columns = logits[:, [places.get(label, 0) for label in true]]  # query i, right label of query j
    behind = torch.searchsorted(logits.sort(dim=1).values, columns).double()
    behind = (behind / max(1, logits.shape[1] - 1)).masked_fill(unknown, 0)
    ahead = (behind + behind.eq(1)) / 2
    return ahead.diagonal(), float(ahead.mean())


def _answers(reader: Any, latents: Tensor) -> list[Any]:
    if isinstance(reader, Head):
        return [reader.labels[best] for best in reader.logits(latents).argmax(1).tolist()]
    return _labels(map(_answer, reader(latents)), "a decoder that answers with")


def _answer(found: Any) -> Any:
    """The label, or of an index the item, that a decoder answers with."""
    if not isinstance(found, Mapping):
        return found
    return next((found[key] for key in ("label", "item") if key in found), found)


def _labels(values: Iterable[Any], what: str = "") -> list[Any]:
    """Labels as values of Python.

    Raises:
        DecoderError: One is no text and no whole number.
    """
    found = []
    for value in values:
        single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0)
        label = value.item() if single else value
        whole = isinstance(label, float) and label.is_integer()
        if not (whole or isinstance(label, str | int)):
            raise DecoderError(
                f"objective='classification' needs {what or 'for each pair'} one label, a text or "
                f"a whole number, got {label!r:.60}"
            )
        found.append(label)
    return found
