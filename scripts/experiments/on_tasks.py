"""The command line of the experiments that run over the classification tasks."""

from collections.abc import Sequence
from typing import Protocol

from experiments.digits import digit_views
from experiments.hub import seeded_hub
from experiments.latents import Views
from experiments.options import command, exit_code, parser, positive
from experiments.results_page import Section
from experiments.tasks import TASKS

QUICK_ANCHORS = 300


class AddTables(Protocol):
    """Adds the tables of one dataset to a section."""

    def __call__(
        self, section: Section, title: str, train: Views, test: Views, *, anchors: int, seeds: int
    ) -> None:
        """Adds them."""


def run_on_tasks(
    name: str, description: str, add_tables: AddTables, arguments: Sequence[str] | None
) -> int:
    """Runs an experiment on each task that the command line names; returns the exit code.

    Args:
        name: Names its sections in docs/results.md, one for each task.
        description: For `--help`.
        add_tables: The experiment.
        arguments: The command line, None for that of the process.
    """
    made = parser(description)
    made.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which datasets"
    )
    made.add_argument("--train", type=positive, default=1500, help="rows to train heads on")
    made.add_argument("--test", type=positive, default=750, help="rows to score")
    options = made.parse_args(arguments)

    if options.quick:
        views = digit_views()
        add_tables(Section(name), "Digits", *views, anchors=QUICK_ANCHORS, seeds=options.seeds)
        return 0

    def work() -> None:
        tasks = {key: TASKS[key] for key in options.tasks}
        assets = dict.fromkeys(asset for task in tasks.values() for asset in task.assets)
        with seeded_hub(list(assets)):
            for key, task in tasks.items():
                section = Section(f"{name} {key}")
                views = task.load(train=options.train, test=options.test)
                add_tables(section, task.title, *views, anchors=task.anchors, seeds=options.seeds)
                if options.write:
                    section.write(command(arguments))

    return exit_code(work)
