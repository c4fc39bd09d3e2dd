"""What all encoders that run a model share: batches made ahead, precision, one row per item."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from hf_latent_bridge.encoders.base import BatchSize
from hf_latent_bridge.encoders.batching import Batch, items_per_pass, prefetch
from hf_latent_bridge.encoders.strict_load import LoadOptions
from hf_latent_bridge.spaces import SpaceSpec


@dataclass(frozen=True)
class Preparer:
    """Turns items into the inputs of one model.

    Attributes:
        check: Gives the items as a list, or refuses them.
        batches: `batches(items, batch_size, device)` gives the positions of some items and the
            model's inputs for them, until all have come.
        tool: The tokenizer, image processor or the like; None where the model has its own.
        max_length: Number of tokens at which texts are cut; None where nothing cuts them.
    """

    check: Callable[[Sequence[Any]], list[Any]]
    batches: Callable[[list[Any], int, torch.device], Iterator[Batch]]
    tool: Any = None
    max_length: int | None = None


class ModelEncoder(ABC):
    """A model as an encoder.

    Attributes:
        space: The space of its latents; read-only.
        model: The model.
        preparer: What turns items into the model's inputs.
        dtype: Floating dtype of the latents.
        device: Where it runs.
        autocast: Dtype in which the model's products are taken; None for its own.
    """

    model: nn.Module

    def __init__(
        self, model: nn.Module, preparer: Preparer, space: SpaceSpec, options: LoadOptions
    ) -> None:
        self.model = model
        self.preparer = preparer
        self._space = space
        first = next(model.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.autocast = options.autocast
        self._forward: Callable[[Mapping[str, Any]], Tensor] = (
            torch.compile(self._latents, dynamic=True) if options.compile else self._latents
        )

    @property
    def space(self) -> SpaceSpec:
        """The space of its latents."""
        return self._space

    def encode(
        self, items: Sequence[Any], *, batch_size: BatchSize = "auto", progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of items, in input order.

        Args:
            items: Items of the encoder's modality, such as texts or images.
            batch_size: Items per forward pass; "auto" for 32 on a CPU and 256 elsewhere. Of texts,
                as many are taken as have 64 tokens for each of these on a CPU, and 256 elsewhere.
                A batch that does not fit into a GPU's memory is halved.
            progress: Show a bar.

        Raises:
            InvalidPairsError: Not a list of such items, or an empty one among them; names its row.
        """
        from tqdm.auto import tqdm

        items = self.preparer.check(items)
        order: list[int] = []
        parts = [torch.empty(0, self.space.dim, device=self.device, dtype=self.dtype)]
        size = items_per_pass(batch_size, self.device)
        batches = self.preparer.batches(items, size, self.device)
        with tqdm(total=len(items), unit="item", desc="encode", disable=not progress) as bar:
            for rows, inputs in prefetch(map(self._ready, batches)):
                parts.append(self._run_halved(inputs, len(rows)))
                order += rows
                bar.update(len(rows))
        latents = torch.cat(parts)
        # Tensors made in inference mode cannot take part in autograd; this one can.
        places = self._as_input(torch.tensor(order, dtype=torch.long))
        places = places.to(self.device, non_blocking=True)
        return torch.empty_like(latents).index_copy_(0, places, latents)

    @abstractmethod
    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        """Latents (k, d) of a batch, before the norm."""

    def _ready(self, batch: Batch) -> Batch:
        """Floating inputs in the model's dtype, and pinned so that a GPU can fetch them."""
        rows, inputs = batch
        return rows, {name: self._as_input(value) for name, value in inputs.items()}

    def _as_input(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(self.dtype) if value.is_floating_point() else value
        return value.pin_memory() if self.device.type == "cuda" else value

    def _run_halved(self, inputs: Mapping[str, Any], n: int) -> Tensor:
        """The latents of `n` items; by halves where the memory does not suffice for all."""
        try:
            return self._run(inputs)
        except torch.OutOfMemoryError:
            tensors = [value for value in inputs.values() if isinstance(value, Tensor)]
            if n == 1 or any(len(value) != n for value in tensors):
                raise
        halves = slice(0, n // 2), slice(n // 2, n)
        return torch.cat([self._run_halved(_cut(inputs, h), h.stop - h.start) for h in halves])

    @torch.inference_mode()
    def _run(self, inputs: Mapping[str, Any]) -> Tensor:
        on = self.autocast is not None
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=on):
            latents = self._forward(self._moved(inputs)).to(self.dtype)
        return nn.functional.normalize(latents, dim=1) if self.space.normalize else latents

    def _moved(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }

    def _inputs(self, items: Sequence[Any]) -> dict[str, Any]:
        """The model's inputs for a few items, on its device, as one batch."""
        checked = self.preparer.check(items)
        _, inputs = self._ready(next(self.preparer.batches(checked, len(checked), self.device)))
        return self._moved(inputs)

    def _measured(self, example: Any) -> Self:
        """This encoder with the width of its latents, found on one item without compiling."""
        with torch.inference_mode():
            width = self._latents(self._inputs([example])).shape[1]
        self._space = replace(self._space, dim=width)
        return self


def _cut(inputs: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """The inputs of some of the items of a batch."""
    return {k: v[rows] if isinstance(v, Tensor) else v for k, v in inputs.items()}
