"""The methods that are compared, all as two functions: where queries go, and where items go.

A translator into the target's space leaves items where they are; a shared space moves both. New
registered translator types appear by themselves, with their suggested parameters.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from experiments.methods import RIDGE, fit_all, translators
from torch import Tensor
from torch.nn.functional import normalize

from quality import rivals

if TYPE_CHECKING:
    from hf_latent_bridge import SharedSpace
    from hf_latent_bridge.selection import Objective

Group = Literal["the paper's", "ridge", "rivals", "ours"]
ALPHAS = tuple(10.0 ** (power / 4) for power in range(-16, 9))  # 1e-4 to 100
LEAST_FREE = 0.2
OBJECTIVES: "tuple[Objective, ...]" = (
    "reconstruction",
    "counterpart",
    "ranking",
    "classification",
)
PAPER = ("affine", "linear", "l_ortho", "ortho")
SHARED, HUBS = "shared space", "shared space, hubs"
AUTO_WIDTH = "shared space, auto"
MOVE_BOTH = (SHARED, "auto, counterpart")
"""With what the names of rows begin where both sides move, into a space of two encoders."""
SHARED_WIDTHS: dict[str, int | None] = {SHARED: 64, AUTO_WIDTH: None}  # None: as suggested

Latents = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Fitted:
    """A fit from one encoder to another.

    Attributes:
        query: From the source's latents to where they are compared.
        item: The same for the target's latents.
        centre: The anchors' mean there, for the centred cosine; None if it is centred already.
        bank: Anchors as queries there, for the correction of hubs; None for no correction.
        readable: Whether queries become latents of the target, which its heads can read.
    """

    query: Latents
    item: Latents
    centre: Tensor | None = None
    bank: Tensor | None = None
    readable: bool = True


class FitBoth(Protocol):
    """Fits both directions at once."""

    def __call__(
        self, x: Tensor, y: Tensor, labels: Sequence[int] = (), /
    ) -> tuple[Fitted, Fitted]:
        """From x to y and from y to x, row by row the same items, of these classes."""


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        name: Of the row.
        group: Where it comes from.
        fit_both: The fit, in both directions.
        hubs: Whether items that come up too often are corrected.
        slow: Whether gradient descent takes seconds, so that one draw of anchors must do.
        pairwise: Whether both sides may move, into a space of these two encoders alone.
        labelled: Whether it reads the classes of the anchors.
    """

    name: str
    group: Group
    fit_both: FitBoth
    hubs: bool = False
    slow: bool = False
    pairwise: bool = False
    labelled: bool = False


def methods(*, quick: bool = False) -> list[Method]:
    """All methods, in the order of the tables.

    Args:
        quick: Only those that take little time, and one of those that choose among all.
    """
    found = list(_registered())
    found.append(Method("ridge, GCV", "ridge", plain(ridge_gcv)))
    found += [
        Method(name, "rivals", plain(fit), slow=name in rivals.SLOW)
        for name, fit in rivals.found().items()
    ]
    found += [
        Method(SHARED, "ours", shared(SHARED_WIDTHS[SHARED])),
        Method(AUTO_WIDTH, "ours", shared(SHARED_WIDTHS[AUTO_WIDTH])),
        Method(HUBS, "ours", shared(SHARED_WIDTHS[SHARED], hubs=True), hubs=True),
    ]
    found += [
        Method(
            f"auto, {objective}",
            "ours",
            chosen_by(objective),
            pairwise=objective == "counterpart",
            labelled=objective == "classification",
        )
        for objective in (("counterpart",) if quick else OBJECTIVES)
    ]
    if quick:
        found = [method for method in found if not method.slow]
    order = ["the paper's", "ridge", "rivals", "ours"]
    return sorted(found, key=lambda method: order.index(method.group))


def plain(fit: Callable[[Tensor, Tensor], Latents]) -> FitBoth:
    """Both directions of a map that reads the source and gives latents of the target."""

    def one(x: Tensor, y: Tensor) -> Fitted:
        return Fitted(fit(x, y), lambda latents: latents, centre=y.mean(0))

    return lambda x, y, _=(): (one(x, y), one(y, x))


def shared(dim: int | None, *, hubs: bool = False) -> FitBoth:
    """Both directions by a shared space of the two, with its penalty from the anchors.

    Args:
        dim: How many of its axes are used; None for as many as the fit suggests.
        hubs: Correct for hubs, with the anchors as the bank.
    """
    return lambda x, y, _=(): _through_shared(x, y, dim, hubs)


def _through_shared(x: Tensor, y: Tensor, dim: int | None, hubs: bool) -> tuple[Fitted, Fitted]:
    space = _shared_of_two(x, y)
    width = space.information_.n_axes if dim is None and space.information_ else dim

    def into(view: str) -> Latents:
        return lambda latents: normalize(
            space.translator(view).transform(latents)[:, :width], dim=1
        )

    def one(query: Latents, item: Latents, anchors: Tensor) -> Fitted:
        return Fitted(query, item, bank=query(anchors) if hubs else None, readable=False)

    return one(into("x"), into("y"), x), one(into("y"), into("x"), y)


@lru_cache(maxsize=1)  # tensors are told apart by identity: the rows of one cell are fitted once
def _shared_of_two(x: Tensor, y: Tensor) -> "SharedSpace":
    return fit_shared({"x": x, "y": y}, min(x.shape[1], y.shape[1]))


def fit_shared(views: Mapping[str, Tensor], dim: int) -> "SharedSpace":
    """A shared space of several encoders, with its penalty from the anchors."""
    from hf_latent_bridge import SharedSpace
    from hf_latent_bridge.errors import UnrelatedPairsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrelatedPairsWarning)
        return SharedSpace(dim).fit(views)


def ridge_gcv(x: Tensor, y: Tensor) -> Latents:
    """Ridge regression of standardised latents, its penalty by generalised cross-validation.

    A penalty that leaves nearly as many degrees of freedom as there are pairs is not tried: there
    the score is a small number over a small one, and its minimum means nothing.
    Source: Golub, Heath & Wahba (1979).
    """
    from hf_latent_bridge import AffineTranslator

    z, t = (_standardised(latents.double()) for latents in (x, y))
    n = len(z)
    u, s, _ = torch.linalg.svd(z, full_matrices=False)
    explained, total = (u.mT @ t).square().sum(1), t.square().sum()

    def score(alpha: float) -> float:
        kept = s.square() / (s.square() + n * alpha)
        free = 1 - (1 + kept.sum()) / n
        if free < LEAST_FREE and alpha < ALPHAS[-1]:
            return float("inf")
        residual = total - ((2 * kept - kept.square()) * explained).sum()
        return float(residual / free.square())

    best: float = min(ALPHAS, key=score)
    return fit_all(x, y, {"": AffineTranslator(alpha=best)})[""].transform


def _standardised(latents: Tensor) -> Tensor:
    deviation = latents.std(0, correction=0)
    return (latents - latents.mean(0)) / torch.where(deviation > 1e-6, deviation, torch.inf)


def chosen_by(objective: "Objective") -> FitBoth:
    """Fits the map that the library chooses by itself, by this objective."""

    def one(x: Tensor, y: Tensor, labels: Sequence[int]) -> Fitted:
        from hf_latent_bridge import select_translator
        from hf_latent_bridge.errors import RankWarning, SelectionWarning, UnrelatedPairsWarning

        with warnings.catch_warnings():
            for kind in (RankWarning, SelectionWarning, UnrelatedPairsWarning):
                warnings.simplefilter("ignore", kind)
            given = labels if objective == "classification" else None
            chosen = select_translator(x, y, objective=objective, labels=given)
        centre = None if chosen.moves_target else y.mean(0)
        return Fitted(
            chosen.transform,
            chosen.transform_target,
            centre=centre,
            readable=not chosen.moves_target,
        )

    return lambda x, y, labels=(): (one(x, y, labels), one(y, x, labels))


def _registered() -> Iterator[Method]:
    for name in translators():
        group: Group = "the paper's" if name in PAPER else "ridge" if name == RIDGE else "ours"

        def fit(x: Tensor, y: Tensor, name: str = name) -> Latents:
            return fit_all(x, y, {name: translators()[name]})[name].transform

        yield Method(name, group, plain(fit), slow=name == "affine")
