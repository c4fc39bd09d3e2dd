"""fit_translator and fit_shared_space: from pairs and encoders to the maps, in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar, Unpack, overload

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.canonical import ViewMoments, join_sets
from hf_latent_bridge.data.chunks import PairSource, Rows
from hf_latent_bridge.data.pairs import Pairs, as_pairs, as_views, combined_record
from hf_latent_bridge.encoders.base import BatchSize, EncoderLike
from hf_latent_bridge.errors import InvalidLatentsError, InvalidPairsError
from hf_latent_bridge.fitting.choice import HeldOut, TranslatorChoice, as_fitted
from hf_latent_bridge.fitting.encoding import OnBadRow, Side
from hf_latent_bridge.fitting.samples import RowSample
from hf_latent_bridge.fitting.sums import FitKeywords, FitOptions, MomentSums, Summed
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.selection import N_FOLDS
from hf_latent_bridge.spaces import SpaceSpec
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.shared_space import SharedSpace
from hf_latent_bridge.vectors.columns import read_rows

# Share of variance that is a network's rounding, not a direction. Mean-pooled layer norms, for
# example, leave all latents in a hyperplane; products in float64 would take the noise for signal.
_NOISE = (16 * torch.finfo(torch.float32).eps) ** 2

Items = PairSource | Mapping[str, Sequence[Any]] | Sequence[Any]
FittedTranslator = TypeVar("FittedTranslator", bound=Translator)


@dataclass(frozen=True)
class FitSummary:
    """What a fit did; `print(summary)` shows it.

    Attributes:
        n_pairs: Pairs in the fit, over all processes.
        n_skipped: Pairs with a bad row that were skipped, over all processes.
        n_read: Pairs that this process read in this run.
        n_resumed: Pairs that this process had read in an earlier run, before it was killed.
        processes: Number of processes.
        seconds: Time of this process by step.
        total_seconds: Time from call to result.
    """

    n_pairs: int
    n_skipped: int
    n_read: int
    n_resumed: int
    processes: int
    seconds: dict[str, float]
    total_seconds: float

    @property
    def pairs_per_second(self) -> float:
        """Pairs that this process read per second of the total time."""
        return self.n_read / self.total_seconds if self.total_seconds else 0.0

    def __str__(self) -> str:
        several = f" by each of {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"{self.n_pairs:,} pairs in {self.total_seconds:.1f} s, "
            f"{self.pairs_per_second:,.0f} pairs/s{several}"
        ]
        if self.n_skipped:
            lines.append(f"{self.n_skipped:,} pairs with bad rows were skipped")
        if self.n_resumed:
            lines.append(f"resumed after {self.n_resumed:,} pairs of an earlier run")
        if slow := [f"{step} {took:.1f} s" for step, took in self.seconds.items() if took >= 0.05]:
            lines.append(", ".join(slow))
        return "\n".join(lines)


@overload
def fit_translator(
    translator: FittedTranslator,
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    **options: Unpack[FitKeywords],
) -> FittedTranslator: ...
@overload
def fit_translator(
    translator: TranslatorChoice | Literal["auto"],
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    **options: Unpack[FitKeywords],
) -> Translator: ...
def fit_translator(
    translator: Translator | TranslatorChoice | Literal["auto"],
    source: EncoderLike | SpaceSpec | None,
    target: EncoderLike | SpaceSpec | None,
    pairs: PairSource | tuple[Sequence[Any], Sequence[Any]],
    *,
    batch_size: BatchSize = "auto",
    chunk_size: int | Literal["auto"] = "auto",
    gemm_dtype: torch.dtype = torch.float64,
    on_bad_row: OnBadRow = "stop",
    bad_rows_file: str | Path | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100_000,
    bank_size: int = 0,
    progress: bool = False,
) -> Translator:
    """Fits `translator` on the pairs as the two encoders see them, in one pass.

    Latents are summed into float64 moments chunk by chunk, so memory does not grow with the
    number of pairs; the map is kept in float32. Under `torchrun` or `accelerate launch` each
    process reads and encodes its share, and all end with the same translator; save it in the
    first.

    Args:
        translator: The translator to fit; earlier pairs are forgotten. A `TranslatorChoice` for the
            one that does best for a purpose, by cross-validation on these pairs, or "auto" for the
            one that finds most of the target's own nearest neighbours.
        source: Encoder of the source side, or a callable from a list of items to (n, d). If the
            items are latents already: their space, or None if it is unknown.
        target: The same for the target side.
        pairs: From `load_pairs`, or two lists or arrays of equal length.
        batch_size: Items per forward pass; "auto" for as many as suit the encoder's device.
        chunk_size: Pairs that are read, encoded and summed at a time; "auto" for 16,384 where both
            sides are latents already, and 1,024 otherwise. Processes share the work in chunks:
            lower it to give several of them work on few pairs.
        gemm_dtype: Dtype of the products of latents, float64 or float32. Next to encoding,
            float64 costs little; for precomputed latents float32 is faster, with a relative error
            near 1e-5 in a map that few pairs determine.
        on_bad_row: "stop" at the first row that is missing, empty, unreadable, NaN or ragged, or
            "skip" such rows, count them in `dataset_` and list them in `bad_rows_file`.
        bad_rows_file: Where to write the skipped rows, one JSON object a line.
        checkpoint_dir: Folder for the moments so far, one file per process. After a kill the same
            call resumes from there. The files stay until the translator is saved or pushed.
        checkpoint_every: Pairs that a process reads between two checkpoints.
        bank_size: How many translated source items, drawn at random, to keep as a bank of queries
            for searches (`keep_bank`), which is published with the translator; 0 for none.
        progress: Show a progress bar in the first process.

    Returns:
        `translator` (or the one that was chosen), with both spaces and the dataset recorded, and a
        `FitSummary` in `fit_summary_`.

    Raises:
        InvalidPairsError: A bad row, or no good one; or labels are given for a stream.
        InvalidLatentsError: An encoder gave NaN or infinity, or latents are not of their space.
        EncoderError: An encoder gave another number of rows, or another dim than before.
        CheckpointError: The checkpoint is of another fit, and what changed is listed; or it is
            damaged.
        InUseError: Another fit is using the same checkpoint.
        OSError: A checkpoint or `bad_rows_file` cannot be written.
        ProcessError: Another process failed or was lost.
        FileNotFoundError: The folder of `bad_rows_file` does not exist.
        ValueError: An unknown `on_bad_row` or `gemm_dtype`, or a size below 1.

    Warns:
        RankWarning: The latents do not determine the map; the minimum-norm one is taken.
        SelectionWarning: A choice rests on few pairs, or is on the edge of the penalties tried.
    """
    started = perf_counter()
    options = FitOptions(
        batch_size=batch_size,
        chunk_size=chunk_size,
        gemm_dtype=gemm_dtype,
        on_bad_row=on_bad_row,
        bad_rows_file=bad_rows_file,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        bank_size=bank_size,
        progress=progress,
    )
    fit = _Fit.of(translator, as_pairs(pairs))
    sides = Side("source", source), Side("target", target)
    sums = MomentSums(fit.pairs, sides, options, what=fit.identity, held_out=fit.empty_sample())

    def batch_moments(latents: Sequence[Tensor], start: int) -> dict[str, PairedMoments]:
        return {
            f"fold {number} {of}": fold
            for of, summing in enumerate(fit.summing)
            for number, fold in enumerate(
                summing.fold_moments(*latents, start=start, n_folds=fit.n_folds)
            )
            if fold is not None
        }

    summed = sums.run(batch_moments, first_look=(fit.sample_size, fit.begin))
    with sums.loop.timing("solve"):
        on_gpu = fit.choice is None and sums.device.type == "cuda"
        where = sums.device if on_gpu else torch.device("cpu")
        folds = _by_translator({name: m.to(where) for name, m in summed.moments.items()})
        dims = fit.summing[0].dims_of(folds[0][0])
        spaces = [side.space(dim) for side, dim in zip(sides, dims, strict=True)]
        fitted = fit.solve(folds, spaces, summed, sums.loop.chunk_size)
        fitted.to("cpu", torch.float32)
        fitted.move_moments("cpu")
        _keep_bank(fitted, summed)
    fitted.dataset_ = summed.dataset
    fitted._when_saved = summed.remove_checkpoint
    fitted.fit_summary_ = _summary([sums], [summed], fitted.n_pairs_, started)
    return fitted


@dataclass(frozen=True)
class _Fit:
    """What is fitted on which pairs: a translator, or the best of several.

    Attributes:
        pairs: The pairs.
        summing: What sums the moments; for a choice one for each kind of moments.
        choice: How to choose among candidates; None for `summing` itself.
    """

    pairs: PairSource
    summing: Sequence[Translator]
    choice: TranslatorChoice | None

    @classmethod
    def of(
        cls, translator: Translator | TranslatorChoice | Literal["auto"], pairs: PairSource
    ) -> "_Fit":
        choice = as_fitted(translator)
        if isinstance(choice, Translator):
            return cls(pairs, [choice], None)
        if choice.labels is not None:
            known = len(pairs) if isinstance(pairs, Pairs) else "streamed"
            if known != len(choice.labels):
                raise InvalidPairsError(
                    f"labels must be one for each pair, in their order: {known} pairs need pairs "
                    f"that can be counted and as many labels, got {len(choice.labels)}"
                )
        return cls(pairs, choice.summing(), choice)

    @property
    def identity(self) -> dict[str, Any]:
        if self.choice is not None:
            return self.choice.identity()
        (translator,) = self.summing
        return {translator.translator_type: translator.fit_identity()}

    @property
    def sample_size(self) -> int:
        """How many source latents must be seen before pairs are summed."""
        return max(translator.sample_size for translator in self.summing)

    def begin(self, X: Tensor) -> None:
        """Shows them to each translator, as many as it asks for."""
        for translator in self.summing:
            translator.begin(X[: translator.sample_size] if translator.sample_size else X)

    @property
    def n_folds(self) -> int | None:
        return N_FOLDS if self.choice is not None else None

    def empty_sample(self) -> RowSample | None:
        if self.choice is None or not self.choice.needs_pairs:
            return None
        return RowSample(self.choice.max_held_out, sides=2, seed=self.choice.seed)

    def solve(
        self,
        folds: Sequence[Sequence[PairedMoments]],
        spaces: Sequence[SpaceSpec],
        summed: Summed,
        chunk_size: int,
    ) -> Translator:
        source, target = spaces
        if self.choice is None:
            return self.summing[0].fit_moments(folds[0], source=source, target=target)
        held_out = None
        if sample := summed.samples.get("held out"):
            positions = sample.places[:, 0] * chunk_size + sample.places[:, 1]
            labels = self._labels(sample.places[:, 2])
            held_out = HeldOut.of(sample.latents, positions, labels)
        sums = list(zip(self.summing, folds, strict=True))
        return self.choice.fit_folds(sums, held_out, source=source, target=target)

    def _labels(self, rows: Rows) -> list[Any] | None:
        """The labels of rows, which are numbered as in the dataset that pairs were taken from."""
        if self.choice is None or self.choice.labels is None:
            return None
        numbers = self.pairs.rows if isinstance(self.pairs, Pairs) else None
        if numbers is not None:
            place = {row: number for number, row in enumerate(numbers.tolist())}
            rows = np.array([place[row] for row in rows.tolist()])
        return list(read_rows(self.choice.labels, rows))


def _by_translator(moments: Mapping[str, PairedMoments]) -> list[list[PairedMoments]]:
    """The folds of each summing translator, in order, from their names."""
    found: dict[int, dict[int, PairedMoments]] = {}
    for name, fold in moments.items():
        _, number, of = name.split(" ")
        found.setdefault(int(of), {})[int(number)] = without_noise(fold)
    return [[fold for _, fold in sorted(folds.items())] for _, folds in sorted(found.items())]


def _keep_bank(translator: Translator, summed: Summed) -> None:
    if "bank" in summed.samples and (latents := summed.samples["bank"].latents):
        translator.keep_bank(latents[0], size=len(latents[0]))


def fit_shared_space(
    encoders: Mapping[str, EncoderLike | SpaceSpec | None],
    pairs: Items | Sequence[PairSource | Mapping[str, Sequence[Any]]],
    dim: int | Literal["auto"] = 64,
    *,
    alpha: float | Literal["auto"] = "auto",
    shrink: float = 0.9,
    n_folds: int = 5,
    batch_size: BatchSize = "auto",
    chunk_size: int | Literal["auto"] = "auto",
    gemm_dtype: torch.dtype = torch.float64,
    on_bad_row: OnBadRow = "stop",
    bad_rows_file: str | Path | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100_000,
    progress: bool = False,
) -> SharedSpace:
    """Fits a space that two or more encoders share, in one pass over items that all of them see.

    It runs as `fit_translator` does: memory does not grow with the number of items, `torchrun` and
    `accelerate launch` share the work, and a killed fit resumes from its checkpoint.

    Args:
        encoders: For each view its encoder, or a callable from a list of items to (n, d). Where
            items are latents already: their space, or None if it is unknown.
        pairs: The items: from `load_views`, or a mapping from each view to its list or array; one
            list of items that all encoders read; or, for two encoders, from `load_pairs` or two
            lists or arrays. Where not all encoders have seen all items: a list of these, one for
            each set of items that the same views have seen; every two views need items that both
            have seen.
        dim: As for `SharedSpace`, like `alpha`, `shrink` and `n_folds`.
        alpha: The penalty.
        shrink: Factor on the correlations.
        n_folds: Folds for what is "auto".
        batch_size: As for `fit_translator`, like all that follow.
        chunk_size: Items that are read, encoded and summed at a time.
        gemm_dtype: Dtype of the products of latents.
        on_bad_row: "stop" or "skip"; an item that one view cannot use is skipped for all.
        bad_rows_file: Where to write the skipped rows.
        checkpoint_dir: Folder for the moments so far, kept until the space is saved or pushed.
        checkpoint_every: Items that a process reads between two checkpoints.
        progress: Show a progress bar in the first process.

    Returns:
        The space, with the encoders' spaces and the dataset recorded, and a `FitSummary` in
        `fit_summary_`.

    Raises:
        InvalidPairsError: No column for an encoder, a bad row, or no good one.
        InvalidLatentsError: Encoders without names or fewer than two, too few items for the folds,
            an encoder gave NaN or infinity, or latents are not of their space.
        EncoderError: An encoder gave another number of rows, or another dim than before.
        CheckpointError: The checkpoint is of another fit, and what changed is listed; or it is
            damaged.
        InUseError: Another fit is using the same checkpoint.
        ProcessError: Another process failed or was lost.
        FileNotFoundError: The folder of `bad_rows_file` does not exist.
        ValueError: A parameter out of range, or a name that cannot be a folder.

    Warns:
        UnrelatedPairsWarning: Two views agree no more than on shuffled items.
    """
    started = perf_counter()
    options = FitOptions(
        batch_size=batch_size,
        chunk_size=chunk_size,
        gemm_dtype=gemm_dtype,
        on_bad_row=on_bad_row,
        bad_rows_file=bad_rows_file,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    space = SharedSpace(dim, alpha=alpha, shrink=shrink, n_folds=n_folds)
    if not isinstance(encoders, Mapping):
        raise InvalidLatentsError(
            '{"a": encoder, "b": encoder} is needed, encoders by the name of their view, got '
            f"{type(encoders).__name__} {encoders!r:.60}"
        )
    space.check(encoders)
    passes = _passes(space, encoders, _sources(pairs), options)
    summed = [
        one.run(partial(_view_moments, space, [side.name for side in one.loop.sides]))
        for one in passes
    ]
    with passes[0].loop.timing("solve"):
        folds = join_sets([_folds(one.moments, space) for one in summed], list(encoders))
        dims = {
            view: dim
            for pair, m in folds[0].items()
            for view, dim in zip(pair, m.sxy.shape, strict=True)
        }
        spaces = {name: Side(name, encoders[name]).space(dim) for name, dim in dims.items()}
        space.fit_moments(folds, spaces=spaces)
        space.to(dtype=torch.float32)
    dataset: dict[str, Any] = reduce(combined_record, [one.dataset for one in summed])
    space.record(dataset)
    space._when_saved = partial(_remove_checkpoints, summed)
    space.fit_summary_ = _summary(passes, summed, space.n_pairs_, started)
    return space


def _sources(pairs: Items | Sequence[PairSource | Mapping[str, Sequence[Any]]]) -> list[PairSource]:
    """The sets of items, one after another."""
    sets = list(pairs) if isinstance(pairs, list | tuple) else []
    if sets and all(isinstance(one, PairSource | Mapping) for one in sets):
        return [as_views(one) for one in sets]
    return [as_views(pairs)]


def _passes(
    space: SharedSpace,
    encoders: Mapping[str, EncoderLike | SpaceSpec | None],
    sources: list[PairSource],
    options: FitOptions,
) -> list[MomentSums]:
    """A pass over each set of items, with the checkpoint of each in a folder of its own.

    Raises:
        InvalidPairsError: A view is in none of several sets, or a set has a column of no view.
    """
    what = {"shared": [space.dim, space.alpha, space.shrink, space.n_folds], "all": list(encoders)}
    if len(sources) == 1:
        sides = _views(encoders, sources[0].names)
        return [MomentSums(sources[0], sides, options, what=what)]
    if options.bad_rows_file is not None:
        raise ValueError(f"bad_rows_file is for one set of items, got {len(sources)}")
    columns = dict.fromkeys(name for source in sources for name in source.names)
    if columns.keys() != encoders.keys():
        raise InvalidPairsError(
            f"several sets of items need columns named as the views, {list(encoders)}, each in one "
            f"of them at least, got columns {list(columns)}"
        )
    found = []
    for number, source in enumerate(sources):
        folder = options.checkpoint_dir and Path(options.checkpoint_dir, f"set-{number}")
        own = replace(options, checkpoint_dir=folder)
        seen = {name: encoder for name, encoder in encoders.items() if name in source.names}
        found.append(MomentSums(source, _views(seen, source.names), own, what=what))
    return found


def _view_moments(
    space: SharedSpace, views: list[str], latents: Sequence[Tensor], start: int
) -> dict[str, PairedMoments]:
    """The moments of every two views for each fold, by names that `_folds` reads."""
    folds = space.fold_moments(dict(zip(views, latents, strict=True)), start=start)
    return {
        f"fold {number} {a} {b}": m
        for number, fold in enumerate(folds)
        for (a, b), m in (fold or {}).items()
    }


def _remove_checkpoints(summed: list[Summed]) -> None:
    for one in summed:
        if one.remove_checkpoint is not None:
            one.remove_checkpoint()


def _summary(
    passes: Sequence[MomentSums], summed: Sequence[Summed], n_pairs: int, started: float
) -> FitSummary:
    steps = dict.fromkeys(step for one in passes for step in one.loop.seconds)
    return FitSummary(
        n_pairs=n_pairs,
        n_skipped=sum(one.n_skipped for one in summed),
        n_read=sum(one.n_read for one in summed),
        n_resumed=sum(one.n_resumed for one in summed),
        processes=summed[0].processes,
        seconds={step: sum(one.loop.seconds.get(step, 0.0) for one in passes) for step in steps},
        total_seconds=perf_counter() - started,
    )


def without_noise(moments: PairedMoments) -> PairedMoments:
    """The moments, whose solvers take what may be a network's rounding for no direction."""
    return replace(moments, eps=max(moments.eps, _NOISE))


def _views(
    encoders: Mapping[str, EncoderLike | SpaceSpec | None], names: tuple[str, ...]
) -> tuple[Side, ...]:
    """A side for each encoder, with the column that it reads.

    Raises:
        InvalidPairsError: It is not clear which.
    """
    if set(names) == set(encoders):
        columns = dict(zip(encoders, encoders, strict=True))
    elif len(names) == 1:
        columns = dict.fromkeys(encoders, names[0])
    elif names == ("source", "target") and len(encoders) == 2:
        columns = dict(zip(encoders, names, strict=True))
    else:
        raise InvalidPairsError(
            f"each of the views {list(encoders)} needs a column of items, got columns "
            f"{list(names)}: name them by load_views(data, {{view: column, ...}})"
        )
    return tuple(Side(name, encoder, columns[name]) for name, encoder in encoders.items())


def _folds(moments: Mapping[str, PairedMoments], space: SharedSpace) -> list[ViewMoments]:
    """The moments of every two views for each fold, from their names; none where it is empty."""
    folds: list[dict[tuple[str, str], PairedMoments]] = [{} for _ in range(space._fold_count)]
    for name, m in moments.items():
        _, number, a, b = name.split(" ")
        folds[int(number)][a, b] = without_noise(m)
    return list(folds)
