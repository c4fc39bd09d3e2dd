"""Trains a head on latents and labels: logistic regression, or a small MLP."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_latent_bridge.decoders.head import Head, Label, build_layers
from hf_latent_bridge.decoders.training import train
from hf_latent_bridge.errors import DecoderError, InvalidLatentsError
from hf_latent_bridge.latents import Latents, as_tensor, check_finite
from hf_latent_bridge.solvers import is_flat
from hf_latent_bridge.spaces import SpaceSpec


def fit_head(
    latents: Latents,
    labels: Sequence[Any],
    *,
    space: SpaceSpec | None = None,
    hidden: int | None = None,
    C: float = 1.0,
    seed: int = 0,
) -> Head:
    """Trains a classifier head; latents are standardised, and the scaling folded into the head.

    Args:
        latents: (n, d).
        labels: One text or integer per row.
        space: Whose latents they are; recorded in the head, so that it refuses others.
        hidden: None for scikit-learn's LogisticRegression; a width for an MLP with one layer
            between, trained by Adam.
        C: Inverse strength of the penalty, as in scikit-learn; the MLP takes 1 / (C n) as its
            weight decay.
        seed: Seeds the MLP.

    Raises:
        InvalidLatentsError: No rows, another width than the space's, NaN or infinity.
        DecoderError: Labels that are not one text or integer per row, of at least two kinds, or
            `hidden` or `C` not positive.
    """
    x = as_tensor(latents).detach()
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != (space.dim if space else x.shape[1]):
        raise InvalidLatentsError(
            f"a head needs latents (n, {space.dim if space else 'd'}) of at least one row, "
            f"got {tuple(x.shape)}"
        )
    check_finite(x)
    known, codes = _encode_labels(labels, len(x))
    if not C > 0 or (hidden is not None and hidden < 1):
        raise DecoderError(f"C and hidden must be positive, got {C!r} and {hidden!r}")
    x = x.double().cpu()
    shift, scale = _standardise(x)
    z = (x - shift) / scale
    if hidden is None:
        layers = _fit_linear(z, codes, C)
    else:
        layers = _fit_mlp(z.float(), codes, hidden, 1 / (C * len(x)), seed)
    _fold(layers[0], shift, scale)
    return Head(layers.float(), known, space or SpaceSpec(x.shape[1]))


def _encode_labels(labels: Sequence[Any], n: int) -> tuple[list[Label], Tensor]:
    plain = [getattr(label, "item", lambda label=label: label)() for label in labels]
    if len(plain) != n:
        raise DecoderError(f"a head needs one label per row, {n} here, got {len(plain)}")
    if len({type(label) for label in plain}) > 1 or type(plain[0]) not in (str, int):
        odd = next((label for label in plain if type(label) not in (str, int)), plain[0])
        raise DecoderError(f"labels must be all texts or all integers, got {odd!r}")
    known = sorted(set(plain))
    if len(known) < 2:
        raise DecoderError(f"a head needs at least two kinds of labels, got only {known[0]!r}")
    numbers = {label: number for number, label in enumerate(known)}
    return known, torch.tensor([numbers[label] for label in plain])


def _standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return mean, torch.where(is_flat(variance, mean), 1.0, variance.sqrt())


def _fit_linear(z: Tensor, codes: Tensor, C: float) -> nn.Sequential:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=1000).fit(z.numpy(), codes.numpy())
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes have one margin: half of it for, half against
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    layers = build_layers(z.shape[1], [], len(weight)).double()
    layers.load_state_dict({"0.weight": torch.from_numpy(weight), "0.bias": torch.from_numpy(bias)})
    return layers


def _fit_mlp(z: Tensor, codes: Tensor, hidden: int, decay: float, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = build_layers(z.shape[1], [hidden], int(codes.max()) + 1)
    loss = nn.CrossEntropyLoss()
    train(layers, (z, codes), lambda x, y: loss(layers(x), y), seed=seed, decay=decay)
    return layers.double()


@torch.no_grad()
def _fold(layer: nn.Module, shift: Tensor, scale: Tensor) -> None:
    """Makes the first layer read plain latents instead of standardised ones."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight.div_(scale)
    bias.sub_(weight @ shift)
