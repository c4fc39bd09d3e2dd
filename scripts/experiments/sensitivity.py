"""Varies the number of anchors, the width, the scaling and the norm, for each method.

Prints the accuracy of a head behind another encoder, and how often the nearest target latent is the
true counterpart.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from common import Table
from torch import Tensor

from experiments.crossing import Crossing, add_task_arguments, majority, run_on_tasks
from experiments.methods import draw_anchors, fit_all, translators
from experiments.results_page import Section
from experiments.views import Views

if TYPE_CHECKING:
    from hf_latent_bridge import Translator

ANCHORS = (25, 50, 100, 250, 500, 1000, 2000)
WIDTHS = (16, 32, 64, 128, 256, 512)
SCALINGS = ("standard", "center", "none")

add_arguments = add_task_arguments


@dataclass(frozen=True)
class Setting:
    """One column of a table.

    Attributes:
        crossing: The latents.
        anchors: How many are drawn.
        params: Parameters that every translator gets.
    """

    crossing: Crossing
    anchors: int
    params: Mapping[str, str]


def run(options: argparse.Namespace) -> int:
    """Prints six tables for each dataset; returns the exit code."""
    return run_on_tasks("sensitivity", sweep, options)


def sweep(
    section: Section, title: str, train: Views, test: Views, *, anchors: int, seeds: int
) -> None:
    """Adds the tables of one dataset, from the first encoder to the second."""
    source, target = list(train.latents)[:2]
    crossing = Crossing.of(train, test, source, target)
    where = f"{title}, {source} → {target}"
    facts = f"{len(train):,} rows to train heads, {len(test):,} to score"
    for by, settings in (
        ("number of anchors", by_anchors(crossing)),
        (f"width after PCA, {anchors:,} anchors", by_width(crossing, anchors)),
        (f"scaling and L2 norm, {anchors:,} anchors", by_scaling(crossing, anchors)),
    ):
        accuracy, recall = measure(dict(settings), seeds=seeds)
        section.add(f"{where}: accuracy by {by}; {facts}, {seeds} draws", accuracy)
        section.add(f"{where}: recall@1 by {by}", recall)


def by_anchors(crossing: Crossing) -> Iterator[tuple[str, Setting]]:
    """A setting for each number of anchors that the rows are enough for."""
    for anchors in ANCHORS:
        if anchors <= len(crossing.x):
            yield f"{anchors:,}", Setting(crossing, anchors, {})


def by_width(crossing: Crossing, anchors: int) -> Iterator[tuple[str, Setting]]:
    """A setting for each width below both encoders', and the full one."""
    shared = min(crossing.x.shape[1], crossing.y.shape[1])
    for width in WIDTHS:
        if width < shared:
            narrow = crossing.through(
                principal_components(crossing.x, width), principal_components(crossing.y, width)
            )
            yield str(width), Setting(narrow, anchors, {})
    yield "full", Setting(crossing, anchors, {})


def by_scaling(crossing: Crossing, anchors: int) -> Iterator[tuple[str, Setting]]:
    """A setting for each scaling, of latents as they are and of unit ones."""
    unit = crossing.through(unit_norm, unit_norm)
    for norm, latents in (("", crossing), (", L2", unit)):
        for scaling in SCALINGS:
            yield f"{scaling}{norm}", Setting(latents, anchors, {"scaling": scaling})


def principal_components(latents: Tensor, width: int) -> Callable[[Tensor], Tensor]:
    """Makes a map from latents (n, d) to their first principal components (n, width).

    Args:
        latents: The latents to decompose, (n, d).
        width: How many to keep.
    """
    from sklearn.decomposition import PCA

    pca = PCA(width, svd_solver="covariance_eigh").fit(latents.double().numpy())
    return lambda t: torch.from_numpy(pca.transform(t.double().numpy())).float()


def unit_norm(latents: Tensor) -> Tensor:
    """Latents (n, d) scaled to an L2 norm of 1 each."""
    return torch.nn.functional.normalize(latents, dim=1)


def measure(settings: Mapping[str, Setting], *, seeds: int) -> tuple[Table, Table]:
    """Tables of accuracy and recall@1: methods down, settings across."""
    accuracy, recall = (Table([name, *settings]) for name in ("accuracy", "recall@1"))
    found = [results(setting, seeds=seeds) for setting in settings.values()]
    crossings = [setting.crossing for setting in settings.values()]
    accuracy.add("native", [crossing.accuracy(crossing.test_y) for crossing in crossings])
    for name in found[0]:
        both = [list(zip(*cells[name], strict=True)) for cells in found]
        accuracy.add(name, [values[0] for values in both])
        recall.add(name, [values[1] for values in both])
    accuracy.add("chance", [majority(crossing.test_labels) for crossing in crossings])
    recall.add("chance", [1 / len(crossing.test_x) for crossing in crossings])
    return accuracy, recall


def results(setting: Setting, *, seeds: int) -> dict[str, list[tuple[float, float]]]:
    """Accuracy and recall@1 of each draw of anchors, by method."""
    crossing, found = setting.crossing, defaultdict[str, list[tuple[float, float]]](list)
    for seed in range(seeds):
        rows = draw_anchors(len(crossing.x), setting.anchors, seed=seed)
        methods: dict[str, Translator] = {
            name: method.set_params(**setting.params) for name, method in translators().items()
        }
        for name, method in fit_all(crossing.x[rows], crossing.y[rows], methods).items():
            predicted = method.transform(crossing.test_x)
            found[name].append((crossing.accuracy(predicted), crossing.recall_at_1(predicted)))
    return found
