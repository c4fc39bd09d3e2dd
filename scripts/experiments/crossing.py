"""From one encoder to another: the latents of both, and the head that waits on the other side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from experiments import scores
from experiments.latents import Views

if TYPE_CHECKING:
    from hf_latent_bridge import Head


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
        return scores.accuracy(self.head, predicted, self.test_labels)

    def recall_at_1(self, predicted: Tensor) -> float:
        """How often the nearest target latent of a test row is its true counterpart."""
        return scores.recall_at_1(predicted, self.test_y)
