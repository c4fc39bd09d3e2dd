"""What all encoders that run a model share: batches made ahead, precision, one row per item."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_latent_bridge.encoders.base import LoadOptions
from hf_latent_bridge.encoders.batching import Batch, prefetch
from hf_latent_bridge.spaces import SpaceSpec


class ModelEncoder(ABC):
    """A model as an encoder.

    Attributes:
        space: The space of its latents.
        model: The model.
        dtype: Floating dtype of the latents.
        device: Where it runs.
        autocast: Dtype in which the model's products are taken; None for its own.
    """

    model: nn.Module
    space: SpaceSpec

    def __init__(self, model: nn.Module, options: LoadOptions) -> None:
        self.model = model
        first = next(model.parameters())
        self.dtype, self.device = first.dtype, first.device
        self.autocast = options.autocast
        self._forward: Callable[[Mapping[str, Any]], Tensor] = (
            torch.compile(self._latents, dynamic=True) if options.compile else self._latents
        )

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Latents (n, d) of items, in input order.

        Args:
            items: Texts or images, as the encoder takes them.
            batch_size: Images per forward pass; of texts, so many that they have 64 tokens for
                each on a CPU and 256 elsewhere.
            progress: Show a bar.

        Raises:
            InvalidPairsError: Not a list of such items, or one that holds nothing; names its row.
        """
        from tqdm.auto import tqdm

        items = self._check(items)
        order: list[int] = []
        parts = [torch.empty(0, self.space.dim, device=self.device, dtype=self.dtype)]
        with tqdm(total=len(items), unit="item", desc="encode", disable=not progress) as bar:
            for rows, inputs in prefetch(map(self._pin, self._batches(items, batch_size))):
                parts.append(self._run(inputs))
                order += rows
                bar.update(len(rows))
        latents = torch.cat(parts)
        # Tensors made in inference mode cannot take part in autograd; this one can.
        return torch.empty_like(latents).index_copy_(
            0, torch.tensor(order, dtype=torch.long, device=self.device), latents
        )

    @abstractmethod
    def _check(self, items: Sequence[Any]) -> list[Any]:
        """The items as a list, if the encoder can take them."""

    @abstractmethod
    def _batches(self, items: list[Any], batch_size: int) -> Iterator[Batch]:
        """The items' positions and the model's inputs, batch by batch; runs in a thread."""

    @abstractmethod
    def _latents(self, inputs: Mapping[str, Any]) -> Tensor:
        """Latents (k, d) of a batch, before the norm."""

    def _pin(self, batch: Batch) -> Batch:
        """Locks the inputs into memory, from where a GPU can fetch them while it works."""
        if self.device.type != "cuda":
            return batch
        rows, inputs = batch
        return rows, {k: v.pin_memory() if isinstance(v, Tensor) else v for k, v in inputs.items()}

    @torch.inference_mode()
    def _run(self, inputs: Mapping[str, Any]) -> Tensor:
        inputs = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        on = self.autocast is not None
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=on):
            latents = self._forward(inputs).to(self.dtype)
        return nn.functional.normalize(latents, dim=1) if self.space.normalize else latents

    def _width(self, example: Any) -> int:
        """The width of the latents, found out on one item without compiling anything."""
        _, inputs = next(self._batches(self._check([example]), 1))
        with torch.inference_mode():
            moved = {
                k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in inputs.items()
            }
            return self._latents(moved).shape[1]
