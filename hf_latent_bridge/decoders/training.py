"""The one training loop of the library, for what has no closed form: small heads, autoencoders."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_BATCH_SIZE = 128
_LEARNING_RATE = 3e-3


def train(
    model: nn.Module,
    data: Sequence[Tensor],
    loss: Callable[..., Tensor],
    *,
    epochs: int = 100,
    seed: int = 0,
    decay: float = 0.0,
) -> None:
    """Minimises a loss by AdamW over shuffled batches; equal seeds give equal models.

    Args:
        model: What is trained, in place.
        data: Tensors of equal length; a batch takes the same rows of each.
        loss: From a batch of each tensor to the mean loss.
        epochs: Passes over the data.
        seed: Seeds the order of the rows.
        decay: AdamW's weight decay.
    """
    draw = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=decay)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data[0]), generator=draw), _BATCH_SIZE):
            optimizer.zero_grad()
            torch.autograd.backward(loss(*(tensor[rows].to(device) for tensor in data)))
            optimizer.step()
    model.eval()
