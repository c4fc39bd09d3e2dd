"""Choice among maps by cross-validation: scores from fold moments or held-out pairs, and a rule.

A held-out fold is the total minus the fold, so moments of k folds, summed in one pass, are all that
a choice by reconstruction needs. Choices by search or by classes also need some held-out pairs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.errors import ConfigError, InvalidLatentsError, SolverError
from hf_latent_bridge.metrics import counterpart_ranks, similarity_blocks
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Decomposed, MapFamily, RidgePath, Scaling

Objective = Literal["reconstruction", "counterpart", "ranking", "classification"]
OBJECTIVES: tuple[Objective, ...] = ("reconstruction", "counterpart", "ranking", "classification")

Rule = Literal["best", "sure_lead", "one_standard_error"]
RULES: tuple[Rule, ...] = ("best", "sure_lead", "one_standard_error")

N_FOLDS = 5
RISK = 0.05
"""Probability that a lead is outside the interval that is counted on (half of it below)."""
COARSE: tuple[Objective, ...] = ("ranking", "classification")
"""Objectives of which the best of many candidates on few pairs is the luckiest."""
N_NEIGHBORS = 10
_FEW_PAIRS = 100
ALPHAS = tuple(float(f"{10 ** (3 - 8 * i / 59):.6g}") for i in range(60))
"""Penalties to try, relative to the mean variance of the source, the strongest first."""


@dataclass(frozen=True)
class Trial:
    """One candidate, and how it did on pairs that it was not fitted on.

    Attributes:
        translator_type: Its type.
        params: Its parameters, those that differ from the defaults.
        score: Mean over the held-out pairs, for reconstruction over the folds; higher is better.
        error: Standard error of that mean.
    """

    translator_type: str
    params: dict[str, Any]
    score: float
    error: float

    @property
    def penalty(self) -> float | None:
        """Its `alpha`; None if it is not stated, or no number."""
        alpha = self.params.get("alpha")
        return float(alpha) if alpha == "inf" or isinstance(alpha, int | float) else None

    def shown_params(self) -> str:
        """The parameters in a line, numbers rounded."""
        return ", ".join(f"{name}={_short(value)}" for name, value in self.params.items())

    def __str__(self) -> str:
        return f"{self.translator_type}({self.shown_params()}), {self.score:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Selection:
    """How a map was chosen.

    Attributes:
        objective: What the scores are. "reconstruction": R². "counterpart": mean reciprocal rank
            of the same item. "ranking": overlap of the nearest with those of the target's own
            latent. "classification": mean of whether the right class is first and of the share
            of the others that it is ahead of.
        trials: All candidates, in the order in which they were given.
        chosen: Index of the one that was fitted.
        chance: Score of the chosen one where held-out counterparts are shuffled.
        n_folds: Number of folds.
        n_held_out: Held-out pairs behind the scores, over all folds.
        rule: How it was chosen. "best": the highest score. "sure_lead": the first candidate, unless
            another is surely ahead of it on the same pairs. "one_standard_error": the simplest
            whose score is within one standard error of the highest.
    """

    objective: Objective
    trials: tuple[Trial, ...]
    chosen: int
    chance: float
    n_folds: int
    n_held_out: int
    rule: Rule = "best"

    @property
    def choice(self) -> Trial:
        """The candidate that was chosen."""
        return self.trials[self.chosen]

    @property
    def kept_in_doubt(self) -> bool:
        """Whether it is the first candidate, and not for its score."""
        higher = any(trial.score > self.choice.score for trial in self.trials)
        in_doubt = self.rule == "sure_lead" and self.chosen == 0
        return in_doubt and (higher or self.objective in COARSE)

    @property
    def leads(self) -> bool:
        """Whether it has a higher score than all others, and is not kept in doubt."""
        others = (trial for trial in self.trials if trial is not self.choice)
        return not self.kept_in_doubt and all(trial.score < self.choice.score for trial in others)

    @property
    def edge(self) -> str | None:
        """The penalty that was chosen, if it is the first or last of its curve; else None.

        A candidate that is kept in doubt is not chosen for its penalty, and nor is one that
        another penalty equals. There is none below 0 or above infinity.
        """
        choice = self.choice
        if self.kept_in_doubt or (alpha := choice.penalty) is None:
            return None
        others = [trial for trial in self.curve() if trial is not choice]
        if any(trial.score >= choice.score for trial in others):
            return None
        tried = {alpha, *(t.penalty for t in others if t.penalty is not None)}
        on_edge = len(tried) > 2 and alpha in (min(tried), max(tried))
        return f"alpha={alpha:.3g}" if on_edge and 0 < alpha < math.inf else None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "trials": [asdict(trial) for trial in self.trials]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "selection") -> Self:
        """Reads what `to_dict` wrote.

        Raises:
            ConfigError: A field is missing, unknown or of the wrong type.
        """
        try:
            trials = tuple(Trial(**trial) for trial in content["trials"])
            selection = cls(**{**content, "trials": trials})
            selection._check()
        except (TypeError, KeyError, ValueError) as error:
            raise ConfigError(f"{where} is not the record of a selection: {error}") from error
        return selection

    def _check(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {self.objective!r}")
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {self.rule!r}")
        counts = (self.chosen, self.n_folds, self.n_held_out)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"chosen, n_folds, n_held_out must be counts, got {counts}")
        if self.chosen >= len(self.trials):
            raise ValueError(f"chosen must be among {len(self.trials)} trials")
        for trial in self.trials:
            if not isinstance(trial.translator_type, str) or not isinstance(trial.params, dict):
                raise ValueError(f"a trial needs a translator_type and params, got {trial}")
        numbers = [self.chance, *(n for trial in self.trials for n in (trial.score, trial.error))]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError("scores must be finite numbers")

    def leaders(self) -> list[Trial]:
        """The best trial of each type, the best type first."""
        best: dict[str, Trial] = {}
        for trial in self.trials:
            known = best.get(trial.translator_type)
            if known is None or trial.score > known.score:
                best[trial.translator_type] = trial
        return sorted(best.values(), key=lambda trial: -trial.score)

    def curve(self) -> list[Trial]:
        """The trials of the chosen type that differ from the choice in `alpha` alone.

        The strongest penalty comes first where all are stated; else they are as given.
        """

        def others(trial: Trial) -> dict[str, Any]:
            return {name: value for name, value in trial.params.items() if name != "alpha"}

        found = [
            trial
            for trial in self.trials
            if trial.translator_type == self.choice.translator_type
            and others(trial) == others(self.choice)
        ]
        if all(trial.penalty is not None for trial in found):
            found.sort(key=lambda trial: -(trial.penalty or 0.0))
        return found

    def plot(self, *, rows: int = 20, width: int = 40) -> str:
        """The curve as lines of text, one bar for each penalty; else one for each type's best.

        Bars start at the lowest score that is shown; if that is below 0 and chance, at the lower of
        these.

        Args:
            rows: About so many lines; the choice is always there.
            width: Characters of the longest bar.
        """
        choice, curve = self.choice, self.curve()
        by_penalty = len(curve) > 1
        if not by_penalty:
            leaders = self.leaders()
            curve = leaders if choice in leaders else [choice, *leaders]
        step = max(1, len(curve) // rows)
        shown = [t for number, t in enumerate(curve) if number % step == 0 or t is choice]
        low = max(min(trial.score for trial in shown), min(self.chance, 0.0))
        high = max(trial.score for trial in shown)
        lines = []
        for trial in shown:
            share = max(0.0, trial.score - low) / (high - low) if high > low else 1.0
            name = trial.translator_type
            if by_penalty:
                name = _short(trial.params["alpha"]) if "alpha" in trial.params else "default"
            mark = "chosen" if trial is choice else ""
            bar = "█" * round(share * width)
            lines.append(
                f"{name:>9} {bar:{width}} {trial.score:.3f} ± {trial.error:.3f} {mark}".rstrip()
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        """The choice in words."""
        choice = self.choice
        return (
            f"{choice.translator_type}({choice.shown_params()}) of {len(self.trials)} candidates, "
            f"by {self.objective}: {choice.score:.3f} ± {choice.error:.3f} over {self.n_folds} "
            f"folds, by chance {self.chance:.3f}"
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def standard_error(scores: Float[Tensor, "trials n"]) -> Float[Tensor, " trials"]:
    """Standard error of each candidate's mean."""
    return scores.std(1) / math.sqrt(scores.shape[1])


def sure_leads(scores: Float[Tensor, "trials n"]) -> Float[Tensor, " trials"]:
    """By how much each candidate is surely ahead of the first one, by empirical Bayes.

    True leads are taken to vary around 0 by what the measured ones vary beyond their errors. Given
    that, each is known to an interval, of probability 1 - `RISK`, and its lower end is returned.
    Where the leads are such as luck alone gives, none is above 0; where they vary much, each must
    be two standard errors. Source: Efron & Morris (1973).

    Args:
        scores: Score of each candidate on the same held-out pairs.
    """
    ahead = scores - scores[0]
    leads, noise = ahead.mean(1), standard_error(ahead).square()
    variance = (leads.square() - noise).sum().clamp(min=0) / max(1, len(scores) - 1)
    kept = variance / (variance + noise).clamp(min=torch.finfo(noise.dtype).tiny)
    n_errors = float(torch.special.ndtri(torch.tensor(1 - RISK / 2, dtype=torch.float64)))
    return kept * leads - n_errors * (kept * noise).sqrt()


def select(
    objective: Objective,
    candidates: Sequence[tuple[str, dict[str, Any]]],
    scores: Float[Tensor, "trials pairs"],
    chances: Float[Tensor, "trials folds"],
    n_held_out: int,
    *,
    rule: Rule = "best",
    complexities: Sequence[int] | None = None,
) -> Selection:
    """Makes the choice, and keeps what it was made from.

    Args:
        objective: What the scores are.
        candidates: Type and parameters of each candidate.
        scores: Score of each candidate on each held-out pair, or on each fold.
        chances: Mean score on each fold with the held-out counterparts shuffled.
        n_held_out: Held-out pairs behind the scores.
        rule: "best": the highest score. "sure_lead": the first candidate is kept unless another is
            surely ahead of it on the same pairs (`sure_leads`); of those, the one that is ahead by
            most. "one_standard_error": the simplest that is within one standard error of the
            highest score (Breiman et al. 1984).
        complexities: How simple each is, the lowest the simplest; of equal ones the first is taken.
            None for equal ones.

    Raises:
        SolverError: A score is not finite.
    """
    if not bool(scores.isfinite().all()):
        raise SolverError(
            f"held-out scores ({objective}) must be finite: the target latents of a fold are all "
            "equal, or wild; add pairs, or look at them"
        )
    means, errors = scores.mean(1), standard_error(scores)
    best = int((sure_leads(scores) if rule == "sure_lead" else means).argmax())
    chosen = best
    if rule == "one_standard_error":
        level = (means >= means[best] - errors[best]).nonzero().flatten().tolist()
        chosen = min(level, key=lambda one: complexities[one] if complexities else 0)
    rows = zip(candidates, means.tolist(), errors.tolist(), strict=True)
    trials = tuple(Trial(kind, params, score, error) for (kind, params), score, error in rows)
    chance = float(chances[chosen].mean())
    return Selection(objective, trials, chosen, chance, chances.shape[1], n_held_out, rule)


class Folds:
    """Moments of disjoint sets of pairs, one of which is held out at a time.

    Args:
        held_out: The moments of each fold.

    Raises:
        InvalidLatentsError: There are fewer than two folds.
    """

    def __init__(self, held_out: Sequence[PairedMoments]) -> None:
        if len(held_out) < 2:
            raise InvalidLatentsError(
                f"at least 2 folds are needed to hold one out, got {len(held_out)}"
            )
        self.held_out = held_out
        self._each = [Decomposed(moments) for moments in held_out]
        self._others: tuple[int, Decomposed] | None = None
        self._ridge: dict[Scaling, RidgeScores] = {}

    @cached_property
    def whole(self) -> PairedMoments:
        """The moments of all folds."""
        return reduce(add, self.held_out)

    def fold(self, number: int) -> Decomposed:
        """The moments of one fold."""
        return self._each[number]

    def others(self, number: int) -> Decomposed:
        """The moments of all folds but one; kept until another fold is asked for."""
        if self._others is None or self._others[0] != number:
            self._others = number, Decomposed(self.whole - self.held_out[number])
        return self._others[1]

    def ridge(self, scaling: Scaling) -> "RidgeScores":
        """How ridge regression does with each of `ALPHAS`, computed once."""
        if scaling not in self._ridge:
            self._ridge[scaling] = self._score_ridge(scaling)
        return self._ridge[scaling]

    def _score_ridge(self, scaling: Scaling) -> "RidgeScores":
        whole = ridge_path(Decomposed(self.whole), scaling)
        alphas = ridge_alphas(whole)
        found = []
        for number, fold in enumerate(self._each):
            rest = self.others(number)
            on_part = [alpha * self.whole.n / rest.moments.n for alpha in alphas]
            found.append(family_r2(ridge_path(rest, scaling).family(on_part), fold))
        scores, chances = (torch.stack(part, dim=1).cpu() for part in zip(*found, strict=True))
        freedom = [whole.freedom(alpha) for alpha in alphas]
        return RidgeScores(alphas, scores, chances, freedom)


@dataclass(frozen=True, eq=False)
class RidgeScores:
    """R² of ridge regression on held-out pairs.

    Attributes:
        alphas: The penalties, in the units of the scaled source latents.
        scores: By penalty and fold, (alphas, folds).
        chances: The mean of the same if the pairs were shuffled.
        freedom: For each penalty the effective degrees of freedom with all pairs, as a share.
    """

    alphas: Sequence[float]
    scores: Float[Tensor, "alphas folds"]
    chances: Float[Tensor, "alphas folds"]
    freedom: Sequence[float]


def r2_from_moments(
    weight: Float[Tensor, "d_x d_y"], bias: Float[Tensor, " d_y"], held_out: Decomposed
) -> tuple[float, float]:
    """R² of an affine map on pairs known by their moments, and its mean if they were shuffled.

    Equals `metrics.r2_score` on the pairs themselves.
    """
    m = held_out.moments
    spread = m.syy_diagonal.sum()
    offset = m.mean_y - m.mean_x @ weight - bias
    explained = 2 * (weight * m.sxy).sum()
    a, b = held_out.sxx_factors(weight)
    size = (a * b).sum() + m.n * offset.square().sum()
    return float((explained - size) / spread), float(-size / spread)


def family_r2(
    family: MapFamily, held_out: Decomposed
) -> tuple[Float[Tensor, " maps"], Float[Tensor, " maps"]]:
    """R² of a family's maps on pairs known by their moments, and its mean if they were shuffled.

    Between the factors the squared error is a quadratic form in the values, so that a map costs
    k² operations.
    """
    m = held_out.moments
    left, right, values = family.left, family.right, family.values
    off_x, off_y = m.mean_x - family.shift_x, m.mean_y - family.shift_y
    inside = off_x @ left
    a, b = held_out.sxx_factors(left)
    second = a.mT @ b + m.n * torch.outer(inside, inside)
    shift = m.n * (right @ off_y) * inside
    linear = (right * (left.mT @ m.sxy)).sum(1)
    square = (right @ right.mT) * second
    size = ((values @ square) * values).sum(1) - 2 * values @ shift + m.n * off_y.square().sum()
    spread = m.syy_diagonal.sum()
    return (2 * values @ linear - size) / spread, -size / spread


def ridge_path(pairs: Decomposed, scaling: Scaling) -> RidgePath:
    """The moments decomposed; "none" is taken as "center", for ridge has an intercept."""
    return pairs.path("center" if scaling == "none" else scaling)


def ridge_alphas(path: RidgePath) -> list[float]:
    """The penalties to try, in the units of the scaled source latents.

    Raises:
        SolverError: The source latents are all equal.
    """
    if not path.spread > 0:
        raise SolverError("the source latents are all equal: there is nothing to choose from")
    return [float(f"{alpha * path.spread:.6g}") for alpha in ALPHAS]  # the rest is rounding


def select_ridge(
    folds: Folds,
    scaling: Scaling,
    translator_type: str = "affine",
    *,
    relative: bool = False,
) -> Selection:
    """Chooses ridge regression's penalty by held-out R², from fold moments alone.

    The best penalty on the sum over pairs hardly depends on their number, the best one on their
    mean does. So a fold's fit, on fewer pairs, has the penalty on the sum that all pairs will have.

    Args:
        folds: Moments of the pairs.
        scaling: Coordinates in which the penalty applies.
        translator_type: The type that the record names.
        relative: Whether the record's penalties are relative to the mean variance of the source.

    Raises:
        InvalidLatentsError: A fold has fewer than two pairs.
        SolverError: The latents of a fold are all equal.
    """
    if any(fold.n < 2 for fold in folds.held_out):
        raise InvalidLatentsError(
            f"R² on held-out pairs needs at least 2 of them in each of {len(folds.held_out)} "
            f"folds, got {folds.whole.n} in all: add pairs, or pass a number as alpha"
        )
    ridge = folds.ridge(scaling)
    named = ALPHAS if relative else ridge.alphas
    candidates = [(translator_type, {"alpha": alpha}) for alpha in named]
    return select("reconstruction", candidates, ridge.scores, ridge.chances, folds.whole.n)


def reciprocal_ranks(
    predicted: Float[Tensor, "n d"], target: Float[Tensor, "m d"]
) -> Float[Tensor, " n"]:
    """1 / rank of each prediction's counterpart among all targets, by cosine.

    Args:
        predicted: Predictions.
        target: Their counterparts, in order, and other targets after them.
    """
    return counterpart_ranks(predicted, target).double().reciprocal()


def neighbors(
    queries: Float[Tensor, "n d"], targets: Float[Tensor, "m d"], k: int
) -> Int[Tensor, "n k"]:
    """The k targets nearest to each query by cosine, its own counterpart left out.

    Args:
        queries: Queries.
        targets: Their counterparts, in order, and other targets after them.
        k: How many.
    """
    found = []
    for start, block in similarity_blocks(queries, targets):
        rows = torch.arange(len(block), device=block.device)
        block[rows, rows + start] = -torch.inf
        found.append(block.topk(k, dim=1).indices)
    return torch.cat(found)


def overlaps(a: Int[Tensor, "n k"], b: Int[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Share of the neighbours in each row of `a` that are in that row of `b`, too."""
    return (a[:, :, None] == b[:, None, :]).any(2).double().mean(1)


def doubts(
    selection: Selection, n_pairs: int, widest: int, penalty: Selection | None = None
) -> list[str]:
    """Reasons to doubt a choice, in words.

    Args:
        selection: The choice.
        n_pairs: Number of pairs.
        widest: The larger of the two widths.
        penalty: How the penalty of the chosen candidate was chosen, where it was "auto".
    """
    found = []
    edge = selection.edge or (penalty and selection.leads and penalty.edge)
    if edge:
        found.append(
            f"the choice, {edge}, is the first or last of the penalties tried: a better "
            "one may be outside"
        )
    if n_pairs < 2 * widest:
        found.append(
            f"{n_pairs:,} pairs are fewer than twice the larger width ({widest}): the choice may "
            "change with other pairs"
        )
    rotations = [trial for trial in selection.trials if trial.translator_type == "ortho"]
    plain, choice = [*rotations, selection.trials[0]][0], selection.choice
    better = plain is not choice and choice.score - plain.score > choice.error
    several = len(selection.curve()) < len(selection.trials)
    if several and n_pairs < _FEW_PAIRS and not better:
        found.append(
            f"on {n_pairs:,} pairs nothing is clearly better than {plain.translator_type} "
            f"({_compared(choice, plain)}): give more pairs, or let them grow by "
            "SharedSpace.fit_growing"
        )
    return found


def _compared(choice: Trial, plain: Trial) -> str:
    """The scores of the choice and of a plain candidate, which may be the choice."""
    scored = f"{choice.score:.3f} ± {choice.error:.3f}"
    if choice is plain:
        return scored
    if f"{choice.score:.3f}" == f"{plain.score:.3f}":
        return f"both it and {choice.translator_type} score {scored}"
    return f"{choice.translator_type} scores {scored}, it {plain.score:.3f}"
