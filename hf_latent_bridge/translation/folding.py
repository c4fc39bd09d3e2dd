"""How a file of vectors is folded, so that a store without any idea of hubs corrects for them."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hf_latent_bridge.hubness import Metric, fold_items, fold_queries
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.translators.base import Translator

_CHOICES = {
    "side": ("items", "queries"),
    "metric": ("dot", "cosine", "euclidean"),
    "input_space": ("source", "target"),
}


@dataclass(frozen=True, eq=False)
class Folding:
    """How a file of vectors is folded by `translate_file`, for a store that ranks by CSLS.

    Attributes:
        side: "items" that are searched, or "queries" that search.
        bank: For items: latents of queries in the target space, (m, d); None for those that the
            translator keeps.
        n_neighbors: For items: how many of the bank's nearest count.
        metric: What the store ranks by.
        input_space: "source" if the vectors are translated first, "target" if they are latents of
            the target already.
    """

    side: Literal["items", "queries"]
    bank: Latents | None = None
    n_neighbors: int = 10
    metric: Metric = "dot"
    input_space: Literal["source", "target"] = "source"

    def __post_init__(self) -> None:
        """Refuses values that do not go together.

        Raises:
            ValueError: Says which.
        """
        for name, known in _CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        if self.side == "queries" and self.bank is not None:
            raise ValueError("a bank is for items: queries are folded without, leave it out")

    def width(self, dim: int) -> int:
        """Width of folded latents of `dim`."""
        return dim + (1 if self.metric == "dot" else 2)

    def fold(self, rows: Tensor) -> Tensor:
        """Target latents (n, d) as the store takes them, in float32 or float64.

        Raises:
            ValueError: Items without a bank: see `with_bank`.
        """
        x = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if self.side == "queries":
            return fold_queries(x, metric=self.metric)
        if self.bank is None:
            raise ValueError("items are folded by a bank of queries: give one, or see with_bank")
        return fold_items(x, self.bank, n_neighbors=self.n_neighbors, metric=self.metric)

    def to_dict(self) -> dict[str, Any]:
        """What it does, as JSON values, with a hash of the bank."""
        facts: dict[str, Any] = {
            "side": self.side,
            "metric": self.metric,
            "input_space": self.input_space,
        }
        if self.bank is None:
            return facts
        bank = as_tensor(self.bank).cpu().double().contiguous()
        digest = hashlib.sha256(bank.numpy().tobytes()).hexdigest()
        return {**facts, "n_neighbors": self.n_neighbors, "bank_sha256": digest}


def with_bank(folding: Folding, translator: Translator) -> Folding:
    """The folding with the translator's bank where it needs one and has none.

    Raises:
        ValueError: The translator keeps none, or one smaller than `n_neighbors`.
        InvalidLatentsError: The bank has another width than the translator's target.
    """
    if folding.side == "queries":
        return folding
    bank = translator.bank_or_own(folding.bank, folding.n_neighbors)
    return replace(folding, bank=bank.cpu())
