"""Linear heads: as published, and fitted on labelled latents."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from hf_latent_bridge.autoencoder import train
from hf_latent_bridge.counts import check_count, is_number
from hf_latent_bridge.data.items import plain_labels
from hf_latent_bridge.decoders.base import check_latents, rank_labels
from hf_latent_bridge.errors import ConfigError, DecoderError, InvalidLatentsError
from hf_latent_bridge.extras import require
from hf_latent_bridge.files import check_fields, check_sizes
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.latents import Latents, as_tensor, check_finite
from hf_latent_bridge.solvers import is_flat
from hf_latent_bridge.spaces import SpaceSpec, check_space

Label = str | int
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


class Head(Component):
    """A classifier head: from the latents of one encoder to labels with scores.

    Its layers, labels and problem type are read-only: make another head to change one.

    Attributes:
        layers: One linear layer, or two with a ReLU between.
        labels: One for each output.
        space: The space of the latents that it reads.
        problem_type: What scores are: a softmax ("single_label_classification"), a sigmoid each
            ("multi_label_classification") or the plain outputs ("regression").
    """

    kind_key = "decoder_type"
    kind = "head"

    def __init__(
        self,
        layers: nn.Sequential,
        labels: Sequence[Label],
        space: SpaceSpec,
        problem_type: ProblemType = "single_label_classification",
    ) -> None:
        """Puts a head together.

        Raises:
            DecoderError: Other layers, labels that are not texts or integers, one per output, or an
                unknown problem type.
        """
        check_space(space, or_none=False)
        _check_layers(layers, space)
        self._layers = layers.eval().requires_grad_(False)
        self._labels = tuple(labels)
        self.space = space
        self._problem_type = problem_type
        n_outputs = _linears(layers)[-1].out_features
        if problem_type not in PROBLEM_TYPES:
            raise DecoderError(f"problem_type must be one of {PROBLEM_TYPES}, got {problem_type!r}")
        if not {type(label) for label in self._labels} <= {str, int}:
            raise DecoderError(f"labels must be texts or integers, got {self._labels[:5]!r}")
        if len(self._labels) != n_outputs:
            raise DecoderError(
                f"a head with {n_outputs} outputs needs as many labels, "
                f"got {len(self._labels)}: {self._labels[:5]!r}"
            )

    @property
    def layers(self) -> nn.Sequential:
        """One linear layer, or two with a ReLU between."""
        return self._layers

    @property
    def labels(self) -> tuple[Label, ...]:
        """One for each output."""
        return self._labels

    @property
    def problem_type(self) -> ProblemType:
        """Which scores `__call__` gives."""
        return self._problem_type

    def logits(self, latents: Latents) -> Tensor:
        """The plain outputs, (n, n_labels), in the head's dtype and on its device.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
        """
        first = _linears(self.layers)[0].weight
        logits: Tensor = self.layers(check_latents(latents, self.space, like=first))
        return logits

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> list[Any]:
        """The best label of each row as {"label", "score"}, or with `top_k` a list of the best.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k` is less than 1.
        """
        logits = self.logits(latents).float()
        if self.problem_type == "regression":
            scores = logits
        elif self.problem_type == "multi_label_classification" or len(self.labels) == 1:
            scores = logits.sigmoid()
        else:
            scores = logits.softmax(dim=1)
        return rank_labels(scores, self.labels, top_k)

    def _params(self) -> dict[str, Any]:
        linears = _linears(self.layers)
        return {
            "labels": list(self.labels),
            "problem_type": self.problem_type,
            "hidden": [layer.out_features for layer in linears[:-1]],
        }

    def _tensors(self) -> dict[str, Tensor]:
        return self.layers.state_dict()

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        check_fields(params, {"labels": list, "problem_type": str, "hidden": list}, "params")
        if params["problem_type"] not in PROBLEM_TYPES:
            raise ConfigError(
                f"params: problem_type must be one of {PROBLEM_TYPES}, "
                f"got {params['problem_type']!r}"
            )
        check_sizes("hidden", [1, *params["hidden"]])
        widths = [space.dim, *params["hidden"], len(params["labels"])]
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (wide, out) in enumerate(pairwise(widths)):
            shapes |= {f"{2 * number}.weight": (out, wide), f"{2 * number}.bias": (out,)}
        return shapes

    @classmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        extras: Mapping[str, bytes],
    ) -> Self:
        with torch.device("meta"):
            layers = build_layers(space.dim, params["hidden"], len(params["labels"]))
        layers.load_state_dict(tensors, assign=True)
        try:
            return cls(layers, params["labels"], space, params["problem_type"])
        except DecoderError as error:
            raise ConfigError(f"params: {error}") from error

    def __repr__(self) -> str:
        return f"Head({len(self.labels)} labels) of {self.space}"


def build_layers(dim: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    """Linear layers with a ReLU between them.

    Args:
        dim: Width of the latents.
        hidden: Widths of the layers between.
        n_outputs: Number of outputs.
    """
    layers: list[nn.Module] = []
    widths = [dim, *hidden, n_outputs]
    for wide, out in pairwise(widths):
        layers += [nn.Linear(wide, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _check_layers(layers: nn.Sequential, space: SpaceSpec) -> None:
    """Refuses layers that a saved head could not say."""
    if not isinstance(layers, nn.Sequential):
        raise DecoderError(f"a head is made of a torch.nn.Sequential, got {layers}")
    linears = _linears(layers)
    between = [type(layer) for layer in layers]
    if between != [nn.Linear, *[nn.ReLU, nn.Linear] * (len(linears) - 1)] or not linears:
        raise DecoderError(f"a head is made of linear layers with a ReLU between, got {layers}")
    if linears[-1].out_features < 1:
        raise DecoderError(f"a head needs at least one output, got {layers}")
    if linears[0].in_features != space.dim or any(layer.bias is None for layer in linears):
        raise DecoderError(
            f"a head of {space} needs {space.dim} inputs and linear layers with a bias, "
            f"got {layers}"
        )


def _linears(layers: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


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
        space: The space of the latents; the head records it and refuses others.
        hidden: None for scikit-learn's LogisticRegression; a width for an MLP with one layer
            between, trained by Adam.
        C: Inverse strength of the penalty, as in scikit-learn; the MLP takes 1 / (C n) as its
            weight decay.
        seed: Seeds the MLP.

    Raises:
        MissingExtraError: `hidden` is None and scikit-learn is not installed.
        InvalidLatentsError: No rows, another width than the space's, NaN or infinity.
        DecoderError: Labels that are not one text or integer per row, of at least two kinds, or
            `C` not positive, or `hidden` not a positive integer.
    """
    if hidden is None:
        require("encoders", "sklearn", purpose="fit_head(hidden=None)")
    check_space(space)
    x = as_tensor(latents).detach()
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != (space.dim if space else x.shape[1]):
        raise InvalidLatentsError(
            f"a head needs latents (n, {space.dim if space else 'd'}) of at least one row, "
            f"got {tuple(x.shape)}"
        )
    check_finite(x)
    known, codes = _encode_labels(labels, len(x))
    if not is_number(C) or not float(C) > 0:
        raise DecoderError(f"C must be positive, got {C!r}")
    if hidden is not None:
        check_count("hidden", hidden, also=" or None", error=DecoderError)
    x = x.double().cpu()
    shift, scale = _standardise(x)
    z = (x - shift) / scale
    if hidden is None:
        layers = _fit_linear(z, codes, C)
    else:
        layers = _fit_mlp(z.float(), codes, hidden, 1 / (C * len(x)), seed)
    _fold(layers[0], shift, scale)
    return Head(layers.float(), known, space or SpaceSpec(x.shape[1]))


def _encode_labels(labels: Any, n: int) -> tuple[list[Label], Tensor]:
    if getattr(labels, "ndim", 1) != 1:
        raise DecoderError(f"labels must have one dimension, got shape {tuple(labels.shape)}")
    plain = plain_labels(labels)
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

    with warnings.catch_warnings():
        # scikit-learn takes many classes of few rows each for a regression; these are labels
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
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
