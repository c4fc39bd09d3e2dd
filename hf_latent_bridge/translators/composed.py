"""Translators in a row: from A by way of B to C, as one map where no norm lies between."""

from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import torch
from torch import Tensor

from hf_latent_bridge.errors import InvalidLatentsError, SpaceMismatchError
from hf_latent_bridge.latents import Array, Latents, as_tensor, check_finite, like
from hf_latent_bridge.solvers import AffineMap
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.latent_map import translate


@dataclass(frozen=True, eq=False)
class Step:
    """An affine map with a norm before or after it.

    Attributes:
        map: The map, in float64.
        normalize_input: Scale rows to unit L2 norm before.
        normalize_output: Scale rows to unit L2 norm after.
    """

    map: AffineMap
    normalize_input: bool
    normalize_output: bool

    def then(self, after: "Step") -> "list[Step]":
        """Both as one step if no norm lies between, else as two."""
        if self.normalize_output or after.normalize_input:
            return [self, after]
        folded = self.map.compose(after.map)
        return [Step(folded, self.normalize_input, after.normalize_output)]


class ComposedTranslator:
    """Translators in a row, as one; `compose` makes it.

    Attributes:
        translators: The translators, in the order in which latents pass them.
        steps: What they fold to.
        source_: Whose latents are translated.
        target_: Whose space they are carried into.
    """

    def __init__(self, translators: tuple[Translator, ...]) -> None:
        """Folds translators whose spaces meet."""
        self.translators = translators
        self.source_ = translators[0].source_
        self.target_ = translators[-1].target_
        self.steps = fold(translators)

    @overload
    def transform(self, X: Tensor) -> Tensor: ...
    @overload
    def transform(self, X: Array) -> Array: ...
    def transform(self, X: Latents) -> Latents:
        """Translates latents of the first source into the last target's space.

        Args:
            X: (n, d_source) or one latent (d_source,).

        Returns:
            (n, d_target) or (d_target,), in the form that `X` has.

        Raises:
            InvalidLatentsError: Another width than the source's, NaN or infinity.
        """
        x = as_tensor(X)
        if x.ndim not in (1, 2) or x.shape[-1] != self.source_.dim:
            raise InvalidLatentsError(
                f"latents of {self.source_} have shape (n, {self.source_.dim}), "
                f"got {tuple(x.shape)}"
            )
        check_finite(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        z = x.to(dtype)
        for step in self.steps:
            affine = step.map.to(x.device, dtype)
            z = translate(z, affine, step.normalize_input, step.normalize_output)
        return like(z.to(x.dtype), X)

    __call__ = transform

    @property
    def source_width(self) -> int:
        """Width of the source latents."""
        return self.source_.dim

    @property
    def target_width(self) -> int:
        """Width of the target latents."""
        return self.target_.dim

    def __repr__(self) -> str:
        names = ", ".join(type(translator).__name__ for translator in self.translators)
        return f"ComposedTranslator({names}) from {self.source_} to {self.target_}"


AnyTranslator = Translator | ComposedTranslator


def compose(first: AnyTranslator, *others: AnyTranslator) -> ComposedTranslator:
    """One translator from several: the target of each must be the source of the next.

    Args:
        first: A fitted translator, or a composed one.
        others: Those that follow it.

    Raises:
        SpaceMismatchError: Two neighbours do not meet.
        NotFittedError: One is not fitted.
        TypeError: One is no translator.
    """
    translators = tuple(part for given in (first, *others) for part in _parts(given))
    for before, after in pairwise(translators):
        check_meet(
            (f"translator {type(before).__name__}", before.target_),
            (f"translator {type(after).__name__}", after.source_),
        )
    return ComposedTranslator(translators)


def ends_of(translator: AnyTranslator) -> tuple[SpaceSpec, SpaceSpec]:
    """Source and target of a translator.

    Raises:
        NotFittedError: It is not fitted.
    """
    check_translator(translator)
    return translator.source_, translator.target_


def check_meet(giver: tuple[str, SpaceSpec], reader: tuple[str, SpaceSpec]) -> None:
    """Refuses two neighbours in a chain that differ in a field which both know.

    Args:
        giver: What gives latents and their space.
        reader: What reads them and the space that it expects.

    Raises:
        SpaceMismatchError: Names both sides, both spaces and what differs.
    """
    mismatches = giver[1].mismatches(reader[1])
    if mismatches:
        raise SpaceMismatchError(
            f"the {giver[0]} gives latents of {giver[1]}, but the {reader[0]} reads latents of "
            f"{reader[1]}: they differ in {'; '.join(mismatches)}"
        )


def fold(translators: tuple[Translator, ...]) -> list[Step]:
    """The fewest steps that do what the translators do, one after another."""
    steps: list[Step] = []
    for translator in translators:
        module = translator.as_module()
        affine = AffineMap(module.weight, module.bias).to(dtype=torch.float64)
        step = Step(affine, module.normalize_input, module.normalize_output)
        steps = [*steps[:-1], *steps[-1].then(step)] if steps else [step]
    return steps


def check_translator(translator: object) -> None:
    """Refuses what is no fitted translator.

    Raises:
        TypeError: It is none.
        NotFittedError: It is not fitted.
    """
    if not isinstance(translator, AnyTranslator):
        raise TypeError(
            "a translator comes from AutoTranslator.from_pretrained, fit_translator or compose; "
            f"got {type(translator).__name__} {translator!r:.60}"
        )
    if isinstance(translator, Translator):
        translator._require_fit()


def _parts(translator: AnyTranslator) -> tuple[Translator, ...]:
    check_translator(translator)
    return (translator,) if isinstance(translator, Translator) else translator.translators
