"""From one encoder to another's head: the latents of both, the scores, and the loop over tasks."""

import argparse
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from common import embedded_hub, positive
from torch import Tensor

from experiments.results_page import Section, add_shared_arguments
from experiments.views import TASKS, Views, digit_views

if TYPE_CHECKING:
    from hf_latent_bridge import Head

QUICK_ANCHORS = 300


@dataclass(frozen=True)
class Crossing:
    """The same rows as the source and as the target encoder see them.

    Attributes:
        x: Source latents to fit on, (n, d_source).
        y: Target latents to fit on, (n, d_target).
        labels: Their classes, (n,).
        test_x: Source latents that no fit has seen, (m, d_source).
        test_y: Target latents of the same.
        test_labels: Their classes, (m,).
    """

    x: Tensor
    y: Tensor
    labels: Sequence[int]
    test_x: Tensor
    test_y: Tensor
    test_labels: Sequence[int]

    @classmethod
    def of(cls, train: Views, test: Views, source: str, target: str) -> "Crossing":
        """From the views of two encoders, by their names."""
        first, second = (
            (views.latents[source], views.latents[target], views.labels) for views in (train, test)
        )
        return cls(*first, *second)

    def through(
        self, change_x: Callable[[Tensor], Tensor], change_y: Callable[[Tensor], Tensor]
    ) -> "Crossing":
        """The same rows in other latents.

        Args:
            change_x: From source latents (n, d_source) to others.
            change_y: The same for the target's.
        """
        return Crossing(
            change_x(self.x),
            change_y(self.y),
            self.labels,
            change_x(self.test_x),
            change_y(self.test_y),
            self.test_labels,
        )

    @cached_property
    def head(self) -> "Head":
        """Logistic regression on the target's own latents of the train rows."""
        from hf_latent_bridge import fit_head

        return fit_head(self.y, self.labels)

    def accuracy(self, predicted: Tensor) -> float:
        """How often the head reads the test rows rightly, given as target latents (m, d_target)."""
        return accuracy(self.head, predicted, self.test_labels)

    def recall_at_1(self, predicted: Tensor) -> float:
        """How often the nearest target latent of a test row is its true counterpart."""
        return recall_at_1(predicted, self.test_y)


def accuracy(head: "Head", latents: Tensor, labels: Sequence[Hashable]) -> float:
    """Share of rows whose best label is the true one."""
    answers = [answer["label"] for answer in head(latents)]
    return fmean(a == b for a, b in zip(answers, labels, strict=True))


def majority(labels: Sequence[Hashable]) -> float:
    """The accuracy of always answering the most frequent label: that of chance."""
    return max(Counter(labels).values()) / len(labels)


def recall_at_1(predicted: Tensor, target: Tensor) -> float:
    """Share of predictions whose true counterpart is the nearest of all targets, by cosine."""
    from hf_latent_bridge import metrics

    return metrics.recall_at_k(metrics.counterpart_ranks(predicted, target), 1)


class AddTables(Protocol):
    """Adds the tables of one dataset to a section."""

    def __call__(
        self, section: Section, title: str, train: Views, test: Views, *, anchors: int, seeds: int
    ) -> None:
        """Adds them."""


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of an experiment on the classification tasks."""
    add_shared_arguments(parser)
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which datasets"
    )
    parser.add_argument(
        "--train", type=positive, default=1500, help="rows to train heads on (default 1500)"
    )
    parser.add_argument("--test", type=positive, default=750, help="rows to score (default 750)")


def run_on_tasks(name: str, add_tables: AddTables, options: argparse.Namespace) -> int:
    """Runs an experiment on each task that the options name; returns the exit code.

    Args:
        name: Names its sections in docs/results.md, one for each task.
        add_tables: The experiment.
        options: Of `add_task_arguments`.
    """
    if options.quick:
        views = digit_views()
        add_tables(Section(name), "Digits", *views, anchors=QUICK_ANCHORS, seeds=options.seeds)
        return 0
    tasks = {key: TASKS[key] for key in options.tasks}
    assets = dict.fromkeys(asset for task in tasks.values() for asset in task.assets)
    with embedded_hub(list(assets)):
        for key, task in tasks.items():
            section = Section(f"{name} {key}")
            views = task.load(train=options.train, test=options.test)
            add_tables(section, task.title, *views, anchors=task.anchors, seeds=options.seeds)
            if options.write:
                section.write(options.command_line)
    return 0
