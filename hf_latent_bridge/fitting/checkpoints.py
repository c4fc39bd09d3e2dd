"""Checkpoints of a fit: the moments so far and the last chunk in them, so that it can resume."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_latent_bridge.atomic import check_writable, locked, write_atomic, writing
from hf_latent_bridge.data.chunks import ChunkNumber, Stamps
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.encoders.base import Encoder
from hf_latent_bridge.errors import CheckpointError, InvalidPairsError
from hf_latent_bridge.files import check_fields, parse_config, seal, unseal
from hf_latent_bridge.fitting.encoding import EncodedChunk, Side
from hf_latent_bridge.fitting.samples import RowSample
from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.spaces import SpaceSpec


@dataclass
class FitState:
    """How far one process has come.

    Attributes:
        moments: Sums over the usable pairs so far, by name: one for each fold, for example, and for
            each two encoders.
        after: The last chunk in the sums.
        rows: Number of pairs read.
        bad_rows: The pairs that were skipped.
        resumed_rows: How many of `rows` an earlier run had read.
        samples: Latents of some of the pairs, by what they are kept for.
        checksum: CRC-32 of the pairs read; 0 where the fit's identity is of their content.
        stamps: Those of the files that they were read from.
    """

    moments: dict[str, PairedMoments] = field(default_factory=dict)
    after: ChunkNumber | None = None
    rows: int = 0
    bad_rows: list[BadRow] = field(default_factory=list)
    resumed_rows: int = 0
    samples: dict[str, RowSample] = field(default_factory=dict)
    checksum: int = 0
    stamps: Stamps = field(default_factory=list)

    def add(self, encoded: EncodedChunk, moments: Mapping[str, PairedMoments]) -> None:
        """Adds a chunk and the moments of its usable pairs, under any names."""
        self.after = encoded.chunk.number
        self.rows += encoded.n_read
        self.checksum = encoded.checksum
        self.bad_rows.extend(encoded.bad_rows)
        self.samples = {name: part.with_chunk(encoded) for name, part in self.samples.items()}
        for name, part in moments.items():
            before = self.moments.get(name)  # on the CPU if it comes from a checkpoint
            self.moments[name] = part if before is None else before.to(part.sxx.device) + part

    def on_cpu(self) -> "FitState":
        """The same state with its moments on the CPU."""
        return replace(self, moments={name: m.to("cpu") for name, m in self.moments.items()})


def add_states(states: Sequence[FitState]) -> dict[str, PairedMoments]:
    """The moments of all processes, added in the order of their ranks.

    Raises:
        InvalidPairsError: None of them has a usable pair.
    """
    total = add_moments([state.moments for state in states])
    if not total:
        bad = [row for state in states for row in state.bad_rows]
        reason = f"none of {len(bad)} is usable, {bad[0]}" if bad else "got none"
        raise InvalidPairsError(f"pairs need at least one item, {reason}")
    return total


def add_moments(parts: Sequence[Mapping[str, PairedMoments]]) -> dict[str, PairedMoments]:
    """Named sums of disjoint sets of pairs, added name by name."""
    total: dict[str, PairedMoments] = {}
    for moments in parts:
        for name, part in moments.items():
            total[name] = total[name] + part if name in total else part
    return dict(sorted(total.items()))


class Checkpoint:
    """The checkpoint of one process, in a folder that all processes of a fit share."""

    def __init__(
        self, folder: str | Path, *, rank: int, identity: dict[str, Any], every: int
    ) -> None:
        """Names the file; writes nothing yet.

        Args:
            folder: Folder of the checkpoints; made if it is not there.
            rank: Number of the process.
            identity: What must be the same for the fit to resume; JSON values, with the number
                of `processes` among them.
            every: Pairs to read between two saves.
        """
        self._folder = Path(folder)
        self._identity = json.loads(json.dumps(identity))
        self._path = self._folder / f"fit-{rank}-of-{identity['processes']}.safetensors"
        self._every = every
        self._saved_rows = 0

    def load(self) -> FitState:
        """The saved state; a fresh one if nothing was saved.

        Raises:
            CheckpointError: The folder holds the checkpoint of another fit, or a damaged one.
        """
        for path in sorted(self._folder.glob("fit-*-of-*.safetensors")):
            identity, state = _read(path)
            self._check(identity)
            if path == self._path:
                self._saved_rows = state.rows
                return state
        return FitState()

    def check_read_again(self, state: FitState, checksum: int) -> None:
        """Compares the checksum of what was read again with that of what is in the sums.

        Raises:
            CheckpointError: It is another one.
        """
        if checksum != state.checksum:
            raise CheckpointError(
                f"the first {state.rows:,} pairs are not those that the checkpoint in "
                f"{self._folder} has summed: they were changed since, though the size and time of "
                "their file are the same. Put it back, or delete the folder to start again"
            )

    def save_if_due(self, state: FitState) -> None:
        """Saves the state if enough pairs were read since the last save."""
        if state.rows - self._saved_rows >= self._every:
            self.save(state)

    def finish(self, state: FitState) -> None:
        """Saves the state at the end, so that nothing is lost until the translator is saved."""
        if state.rows != self._saved_rows:
            self.save(state)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other fits away from the file.

        Raises:
            InUseError: Another fit is using it.
            OSError: The folder cannot be written.
        """
        with contextlib.ExitStack() as held:
            held.callback(self._remove_if_empty)
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                check_writable(self._folder)
                lock = self._path.with_name(f".{self._path.name}.claim")
                held.enter_context(locked(lock, self._path, patience=0))
            yield

    def save(self, state: FitState) -> None:
        """Writes the state, in one step."""
        facts: dict[str, Any] = {
            "identity": self._identity,
            "after": [state.after.shard, state.after.index] if state.after else [],
            "rows": state.rows,
            "bad_rows": [bad.to_dict() for bad in state.bad_rows],
            "checksum": state.checksum,
            "stamps": state.stamps,
        }
        facts["moments"] = {name: [m.n, m.eps] for name, m in state.moments.items()}
        tensors = {
            f"{name} {key}": tensor.cpu().contiguous()
            for name, m in state.moments.items()
            for key, tensor in m.to_tensors().items()
        }
        facts["samples"] = {name: [s.size, s.sides, s.seed] for name, s in state.samples.items()}
        tensors |= {
            f"{name} {key}": tensor
            for name, sample in state.samples.items()
            for key, tensor in sample.to_tensors().items()
        }
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        tensors["state"] = torch.from_numpy(text.copy())
        write_atomic(self._path, seal(tensors))
        self._saved_rows = state.rows

    def remove(self) -> None:
        """Deletes the files of all processes, what killed ones left, and the folder if empty."""
        files = f"fit-*-of-{self._identity['processes']}.safetensors"
        with contextlib.suppress(OSError):  # what stays is harmless: the fit would end at once
            for path in (*self._folder.glob(files), *self._folder.glob(f".{files}.*")):
                path.unlink(missing_ok=True)
        self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # it holds something
            self._folder.rmdir()

    def _check(self, found: dict[str, Any]) -> None:
        changed = [
            f"{name} was {json.dumps(found.get(name))}, is {json.dumps(self._identity.get(name))}"
            for name in sorted(found.keys() | self._identity.keys())
            if found.get(name) != self._identity.get(name)
        ]
        if changed:
            raise CheckpointError(
                f"the checkpoint in {self._folder} is of another fit: {'; '.join(changed)}. "
                "Call as before to resume it, or delete the folder to start again"
            )


def side_identity(side: Side) -> object:
    """JSON values that change when the latents of a side would."""
    encoder = side.encoder
    if encoder is None:
        return "latents"
    if isinstance(encoder, SpaceSpec):
        return {"latents": True, **encoder.to_dict()}
    if isinstance(encoder, Encoder):
        return {**encoder.space.to_dict(), **_precision_and_weights(encoder)}
    return getattr(encoder, "__qualname__", type(encoder).__qualname__)


def _precision_and_weights(encoder: Encoder) -> dict[str, str]:
    """The precision in which an encoder runs, and a hash of its weights if it has no commit."""
    inner = getattr(encoder, "encoder", encoder)  # of a CachedEncoder
    facts = {name: str(getattr(inner, name, None)) for name in ("dtype", "autocast")}
    model = getattr(inner, "model", None)
    if encoder.space.revision is None and isinstance(model, torch.nn.Module):
        digest = hashlib.blake2b(digest_size=16)
        for tensor in model.state_dict().values():
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        facts["weights"] = digest.hexdigest()
    return facts


_FACTS = {
    "identity": dict,
    "after": list,
    "rows": int,
    "bad_rows": list,
    "moments": dict,
    "samples": dict,
    "checksum": int,
    "stamps": list,
}


def _read(path: Path) -> tuple[dict[str, Any], FitState]:
    """The identity of the fit, and how far it had come."""
    try:
        tensors = unseal(path.read_bytes(), str(path))
        facts = parse_config(tensors.pop("state").numpy().tobytes(), str(path))
        check_fields(facts, _FACTS, "state")
        return facts["identity"], _to_fit_state(facts, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of a fit, or is damaged: delete it ({error})"
        ) from error


def _to_fit_state(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> FitState:
    parts: dict[str, dict[str, torch.Tensor]] = {
        name: {} for name in [*facts["moments"], *facts["samples"]]
    }
    for label, tensor in tensors.items():
        name, key = label.rsplit(" ", 1)
        parts[name][key] = tensor
    moments = {
        name: PairedMoments.from_tensors(parts[name], n=n, eps=eps)
        for name, (n, eps) in facts["moments"].items()
    }
    samples = {
        name: RowSample(*numbers).with_tensors(parts[name])
        for name, numbers in facts["samples"].items()
    }
    return FitState(
        moments=moments,
        after=ChunkNumber(*facts["after"]) if facts["after"] else None,
        rows=facts["rows"],
        bad_rows=[BadRow(**bad) for bad in facts["bad_rows"]],
        resumed_rows=facts["rows"],
        samples=samples,
        checksum=facts["checksum"],
        stamps=[tuple(stamp) for stamp in facts["stamps"]],
    )
