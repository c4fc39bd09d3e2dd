"""Classification with label sentences: the nearest label vector wins, nothing is trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from hf_latent_bridge.decoders.base import check_latents, rank_labels
from hf_latent_bridge.errors import ConfigError, DecoderError, InvalidLatentsError
from hf_latent_bridge.files import check_fields
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.latents import Latents, as_tensor, check_finite, unit_rows
from hf_latent_bridge.spaces import SpaceSpec, check_space


class LabelDecoder(Component):
    """A zero-shot classifier: it ranks labels by the cosine of their vectors with a latent.

    Attributes:
        labels: The labels, distinct texts.
        vectors: The latent of each label's sentence, (n_labels, d), float32.
        space: The space of the vectors.
    """

    kind_key = "decoder_type"
    kind = "labels"

    def __init__(self, vectors: Latents, labels: Sequence[str], space: SpaceSpec) -> None:
        """Puts labels and their vectors together.

        Raises:
            DecoderError: Labels that are not distinct texts, one per vector.
            InvalidLatentsError: Vectors of another width than the space's, NaN or infinity.
        """
        check_space(space, or_none=False)
        self._labels = tuple(check_labels(labels))
        self._vectors = as_tensor(vectors).detach().to(torch.float32, copy=True)
        self.space = space
        if self.vectors.shape != (len(self.labels), space.dim):
            raise InvalidLatentsError(
                f"{len(self.labels)} labels of {space} need vectors of shape "
                f"({len(self.labels)}, {space.dim}), got {tuple(self.vectors.shape)}"
            )
        check_finite(self.vectors)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels."""
        return self._labels

    @property
    def vectors(self) -> Tensor:
        """The latent of each label's sentence, (n_labels, d), float32."""
        return self._vectors

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> list[Any]:
        """The nearest label of each row as {"label", "score"}, or with `top_k` a list of them.

        The score is the cosine.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k` is less than 1.
        """
        x = unit_rows(check_latents(latents, self.space, like=self.vectors))
        return rank_labels(x @ unit_rows(self.vectors).mT, self.labels, top_k)

    def _params(self) -> dict[str, Any]:
        return {"labels": list(self.labels)}

    def _tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        check_fields(params, {"labels": list}, "params")
        return {"vectors": (len(params["labels"]), space.dim)}

    @classmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        extras: Mapping[str, bytes],
    ) -> Self:
        try:
            return cls(tensors["vectors"], params["labels"], space)
        except DecoderError as error:
            raise ConfigError(f"params: {error}") from error

    def __repr__(self) -> str:
        return f"LabelDecoder({len(self.labels)} labels) of {self.space}"


def check_labels(labels: Sequence[Any]) -> list[str]:
    """The labels as a list.

    Raises:
        DecoderError: They are not distinct texts, at least one.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise DecoderError(f"labels must be a list of texts, got {labels!r:.40}")
    plain = list(labels)
    texts = all(isinstance(label, str) for label in plain)
    if not plain or not texts or len(set(plain)) != len(plain):
        raise DecoderError(f"labels must be distinct texts, at least one, got {plain!r}")
    return [str(label) for label in plain]  # NumPy's texts are texts too
