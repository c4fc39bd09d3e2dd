"""Compares the choice by cross-validation with fixed methods, for each objective.

Behind decision 17. Prints one table per dataset: for each objective, number of anchors and draw the
score of the chosen map and of each fixed method on held-out pairs, the difference to the best of
these with its standard error over the pairs, and the choice. Then the CPU time of choosing ridge's
penalty from fold moments, and of scikit-learn's RidgeCV on the same folds.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from common import Table, embedded_hub, positive, show
from experiments.crossing import Crossing
from experiments.views import TASKS
from torch import Tensor

if TYPE_CHECKING:
    from hf_latent_bridge import Translator
    from hf_latent_bridge.selection import Objective

Method = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]
OBJECTIVES: "tuple[Objective, ...]" = ("reconstruction", "counterpart", "ranking", "classification")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["bbc-news"], help="datasets")
    parser.add_argument("--anchors", nargs="+", type=positive, default=[100, 300, 1000])
    parser.add_argument("--draws", type=positive, default=2, help="draws of anchors (default 2)")


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    warnings.simplefilter("ignore")
    tasks = {key: TASKS[key] for key in options.tasks}
    with embedded_hub(list(dict.fromkeys(a for task in tasks.values() for a in task.assets))):
        for task in tasks.values():
            train, test = task.load(train=1500, test=750)
            source, target = train.latents
            crossing = Crossing.of(train, test, source, target)
            print(f"\n{task.title}, {source} to {target}\n")
            print(table(crossing, options.anchors, options.draws), flush=True)
            print(f"\n{cpu_seconds(crossing)}", flush=True)
    return 0


def table(crossing: Crossing, anchors: list[int], draws: int) -> Table:
    """One row per objective, number of anchors and draw."""
    result = Table(
        ["objective, anchors, draw", "chosen", *_fixed(), "difference", "its error", "choice"]
    )
    for n in anchors:
        for draw in range(draws):
            for objective, cells in rows(crossing, n, draw):
                result.add(f"{objective}, {n:,}, {draw}", cells)
    return result


def rows(crossing: Crossing, n: int, draw: int) -> Iterator[tuple[str, list[float | str]]]:
    """The cells of each objective for one draw of anchors."""
    from hf_latent_bridge import select_translator

    picked = np.random.default_rng(draw).choice(len(crossing.x), n, replace=False)
    x, y = crossing.x[picked], crossing.y[picked]
    labels = [crossing.labels[row] for row in picked.tolist()]
    predicted = {name: fit(x, y) for name, fit in _fixed().items()}
    for objective in OBJECTIVES:
        given = labels if objective == "classification" else None
        chosen = select_translator(x, y, objective=objective, labels=given)
        score = scorer(crossing, objective)
        fixed = {name: score(translate(crossing.test_x)) for name, translate in predicted.items()}
        best = max(fixed.values(), key=np.mean)
        own = score(chosen.transform(crossing.test_x))
        difference = own - best
        error = float(difference.std() / len(difference) ** 0.5)
        scores = [float(values.mean()) for values in (own, *fixed.values())]
        choice = f"{chosen.translator_type} {_changed(chosen)}"
        yield objective, [*scores, float(difference.mean()), error, choice]


def scorer(crossing: Crossing, objective: str) -> Callable[[Tensor], np.ndarray]:
    """What gives each test row its value, whose mean is the score."""
    from hf_latent_bridge.selection import neighbors, overlaps, reciprocal_ranks

    y = crossing.test_y
    spread = (y - y.mean(0)).square().sum(1).mean()
    native = neighbors(y, y, 10)
    return {
        "reconstruction": lambda p: (1 - (y - p).square().sum(1) / spread).numpy(),
        "counterpart": lambda p: reciprocal_ranks(p, y).numpy(),
        "ranking": lambda p: overlaps(neighbors(p, y, 10), native).numpy(),
        "classification": lambda p: np.array(
            [
                float(answer["label"] == label)
                for answer, label in zip(crossing.head(p), crossing.test_labels, strict=True)
            ]
        ),
    }[objective]


def _fixed() -> dict[str, Method]:
    """The fixed methods; ridge takes the penalty of the best held-out R²."""
    from hf_latent_bridge import (
        AffineTranslator,
        LinearTranslator,
        LOrthoTranslator,
        OrthoTranslator,
    )

    made: dict[str, Translator] = {
        "ortho": OrthoTranslator(),
        "linear": LinearTranslator(),
        "l_ortho": LOrthoTranslator(),
        "ridge by R²": AffineTranslator(alpha="auto"),
        "ridge .1": AffineTranslator(alpha=0.1),
    }
    return {name: _fitting(translator) for name, translator in made.items()}


def _fitting(translator: "Translator") -> Method:
    def fit(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        return translator.fit(x, y).transform

    return fit


def _changed(chosen: "Translator") -> str:
    """The parameters that differ from the defaults."""
    defaults = type(chosen)().get_params()
    params = {k: v for k, v in chosen.params_.items() if v != defaults[k]}
    return ", ".join(f"{k}={show(v)}" for k, v in params.items())


def cpu_seconds(crossing: Crossing) -> str:
    """CPU time of 60 penalties on 5 folds of 1,000 pairs, here and in scikit-learn."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import PredefinedSplit

    from hf_latent_bridge import PairedMoments
    from hf_latent_bridge.selection import select_ridge

    x, y = crossing.x[:1000].double(), crossing.y[:1000].double()
    start = time.process_time()
    folds = [PairedMoments.from_batch(x[fold::5], y[fold::5]) for fold in range(5)]
    selection = select_ridge(folds, "center")
    ours = time.process_time() - start
    alphas = [800 * trial.params["alpha"] for trial in selection.trials]
    start = time.process_time()
    RidgeCV(alphas, cv=PredefinedSplit(np.arange(len(x)) % 5)).fit(x.numpy(), y.numpy())
    theirs = time.process_time() - start
    return (
        f"60 penalties on 5 folds of {len(x):,} pairs, CPU seconds: {ours:.2f} from moments, "
        f"{theirs:.2f} by RidgeCV"
    )
