"""Translators in a row, from A by way of B to C, as one translator."""

import copy
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor

from hf_latent_bridge.errors import ConfigError
from hf_latent_bridge.files import check_fields, check_sizes
from hf_latent_bridge.latents import unit_rows
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Solution
from hf_latent_bridge.spaces import SpaceSpec, check_meet
from hf_latent_bridge.translators.base import Translator, TranslatorConfig
from hf_latent_bridge.translators.kernel import KernelMap
from hf_latent_bridge.translators.latent_map import LatentMap, Map, MapChain, check_unit_norm

_RECORD = {
    "translator_type": str,
    "params": dict,
    "source": dict,
    "target": dict,
    "n_pairs": int,
}
_ADDRESS = ("repo_id", "revision", "subfolder")


class ComposedTranslator(Translator, translator_type="composed"):
    """Several translators in a row, as one map; `compose` makes it.

    It does what any fitted translator does, except to be fitted: fit its translators, then compose
    them again. Translators with no norm between them are folded into one affine map. Of a shared
    space it keeps the way in, so that `inverse_transform` is the least-squares solution there, too.
    Its `n_pairs_` is the smallest of its translators'.

    Attributes:
        translators_: What it was made of, in the order in which latents pass: for each its
            `translator_type`, `params`, `source`, `target`, `n_pairs` and, where it has them,
            `repo_id`, `revision` (the commit) and `subfolder`, all as they were when composed.
    """

    learns: ClassVar[bool] = False
    translators_: list[dict[str, Any]]

    def __init__(self) -> None:
        """Makes an empty one; use `compose`."""

    def _check_params(self) -> None:
        _refuse_fit()

    def _solve(self, moments: PairedMoments) -> Solution:
        _refuse_fit()

    def _learn_from(self, translators: Sequence[Translator]) -> Self:
        maps = [_affine(translator.map_).moved(dtype=torch.float64) for translator in translators]
        whole = reduce(Map.then, maps)
        dtypes = [translator.map_.dtype for translator in translators]
        self._maps = {"fitted": whole.moved(dtype=reduce(torch.promote_types, dtypes))}
        self.source_, self.target_ = translators[0].source_, translators[-1].target_
        self.translators_ = [record for part in translators for record in _records(part)]
        self.params_ = _params(whole, self.translators_)
        self.moments_, self._n_pairs = None, min(part.n_pairs_ for part in translators)
        self._unrelated_pairs = any(part.unrelated_pairs_ for part in translators)
        self.dataset_, self.metrics_ = {}, {}
        if (bank := translators[0].query_bank_) is not None:
            rest = [translator.transform for translator in translators[1:]]
            self._query_bank = unit_rows(reduce(lambda rows, step: step(rows), rest, bank))
        return self

    @classmethod
    def _from_saved(cls, params: Mapping[str, Any]) -> Self:
        kinds = {"dims": list, "unit_norms": list, "translators": list}
        kinds |= {"landmarks": list} if "landmarks" in params else {}
        check_fields(params, kinds, "params")
        check_sizes("dims", params["dims"])
        _check_landmarks(params)
        if len(params["dims"]) != len(params["unit_norms"]) + 1 or not params["unit_norms"]:
            raise ConfigError("params: dims must have one number more than unit_norms")
        for unit_norm in params["unit_norms"]:
            check_unit_norm(unit_norm)
        for record in params["translators"]:
            _check_record(record)
        composed = cls()
        composed.params_, composed.translators_ = dict(params), params["translators"]
        return composed

    def _shapes(self, config: TranslatorConfig) -> dict[str, tuple[int, ...]]:
        dims = self.params_["dims"]
        if (dims[0], dims[-1]) != (config.source.dim, config.target.dim):
            raise ConfigError(
                f"params: dims must lead from {config.source.dim} to {config.target.dim}, as the "
                f"spaces do, got {dims}"
            )
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (source_dim, target_dim) in enumerate(pairwise(dims)):
            if landmarks := _landmarks(self.params_, number):
                step = KernelMap.shapes(source_dim, landmarks, target_dim)
            else:
                step = {"weight": (source_dim, target_dim), "bias": (target_dim,)}
            shapes |= {f"{number}.{name}": shape for name, shape in step.items()}
        return shapes

    def _to_map(self, tensors: Mapping[str, Tensor]) -> Map:
        steps: list[Map] = []
        for number, unit_norm in enumerate(self.params_["unit_norms"]):
            start = f"{number}."
            step = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
            if _landmarks(self.params_, number):
                steps.append(KernelMap(step, unit_norm=unit_norm))
            else:
                steps.append(LatentMap(step["weight"], step["bias"], unit_norm=unit_norm))
        return reduce(Map.then, steps)

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{number}.{name}": tensor.clone()  # the same step may come twice
            for number, step in enumerate(self.map_.steps)
            for name, tensor in step.state_dict().items()
        }

    def _restore(self, config: TranslatorConfig, fitted: Map) -> None:
        params = self.params_
        super()._restore(config, fitted)
        self.params_ = params

    def __repr__(self) -> str:
        if not self._is_fitted():
            return "ComposedTranslator()"
        types = ", ".join(record["translator_type"] for record in self.translators_)
        return (
            f"ComposedTranslator({types}) from {self.source_} to {self.target_}, "
            f"{self.n_pairs_:,} pairs"
        )


def compose(
    first: Translator, *others: Translator, allow_mismatch: bool = False
) -> ComposedTranslator:
    """One translator from several: the target of each must be the source of the next.

    Args:
        first: A fitted translator, or a composed one.
        others: Those that follow it.
        allow_mismatch: Accept neighbours whose spaces do not meet, as long as their widths do.

    Raises:
        SpaceMismatchError: Two neighbours do not meet.
        InvalidLatentsError: With `allow_mismatch`, two neighbours of different widths.
        NotFittedError: One is not fitted.
        TypeError: One is not a translator.
    """
    translators = (first, *others)
    for translator in translators:
        check_translator(translator)
    for before, after in pairwise(translators) if not allow_mismatch else ():
        check_meet(
            (f"translator {type(before).__name__}", before.target_),
            (f"translator {type(after).__name__}", after.source_),
        )
    return ComposedTranslator()._learn_from(translators)


def check_translator(translator: object) -> None:
    """Refuses what is not a fitted translator.

    Raises:
        TypeError: It is not a translator.
        NotFittedError: It is not fitted.
    """
    if not isinstance(translator, Translator):
        raise TypeError(
            "a translator comes from AutoTranslator.from_pretrained, fit_translator or compose; "
            f"got {type(translator).__name__} {translator!r:.60}"
        )
    translator._require_fit()


def _affine(map_: Map) -> Map:
    """The same map with affine steps that hold nothing else, such as a shared space's way back."""
    steps = [
        LatentMap(step.weight, step.bias, unit_norm=step.unit_norm)
        if isinstance(step, LatentMap)
        else step
        for step in map_.steps
    ]
    return steps[0] if len(steps) == 1 else MapChain(steps)


def _records(translator: Translator) -> list[dict[str, Any]]:
    if isinstance(translator, ComposedTranslator):
        return translator.translators_
    record = {
        "translator_type": translator.translator_type,
        "params": copy.deepcopy(translator.params_),
        "source": translator.source_.to_dict(),
        "target": translator.target_.to_dict(),
        "n_pairs": translator.n_pairs_,
    }
    address = (translator.repo_id, translator.commit, translator.subfolder)
    return [record | {k: v for k, v in zip(_ADDRESS, address, strict=True) if v}]


def _params(whole: Map, translators: list[dict[str, Any]]) -> dict[str, Any]:
    steps = [step for step in whole.steps if isinstance(step, LatentMap | KernelMap)]
    params: dict[str, Any] = {
        "dims": [whole.source_dim, *(step.target_dim for step in steps)],
        "unit_norms": [step.unit_norm for step in steps],
        "translators": translators,
    }
    landmarks = [step.n_landmarks if isinstance(step, KernelMap) else 0 for step in steps]
    return params | ({"landmarks": landmarks} if any(landmarks) else {})


def _landmarks(params: Mapping[str, Any], number: int) -> int:
    """Number of landmarks of a step; 0 for an affine one."""
    return params["landmarks"][number] if "landmarks" in params else 0


def _check_landmarks(params: Mapping[str, Any]) -> None:
    numbers = params.get("landmarks", [0] * len(params["unit_norms"]))
    wrong = [m for m in numbers if type(m) is not int or m < 0]
    if wrong or len(numbers) != len(params["unit_norms"]):
        raise ConfigError(
            f"params: landmarks must be a number >= 0 for each of unit_norms, got {numbers}"
        )


def _check_record(record: object) -> None:
    if not isinstance(record, dict):
        raise ConfigError(f"params: each of translators must be an object, got {record!r}")
    address = {name: str for name in _ADDRESS if name in record}
    check_fields(record, {**_RECORD, **address}, "params: a translator")
    for side in ("source", "target"):
        SpaceSpec.from_dict(record[side])


def _refuse_fit() -> NoReturn:
    raise TypeError(
        "a composed translator is not fitted on pairs: fit its translators and compose them again"
    )
