"""What a killed fit needs to go on: the moments so far and the place they reach to."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from hf_latent_bridge.data.chunks import Place
from hf_latent_bridge.data.items import BadRow
from hf_latent_bridge.errors import CheckpointError
from hf_latent_bridge.files import parse_json, write_atomic
from hf_latent_bridge.moments import PairedMoments


@dataclass
class FitState:
    """How far one process has come.

    Attributes:
        moments: Sum over the good rows so far; None before the first.
        after: Place of the last chunk in it.
        rows: Number of rows read.
        bad_rows: Those that were skipped.
    """

    moments: PairedMoments | None = None
    after: Place | None = None
    rows: int = 0
    bad_rows: list[BadRow] = field(default_factory=list)


class Checkpoint:
    """One process's file in a folder that the processes of a fit share."""

    def __init__(self, folder: str | Path, *, rank: int, identity: dict[str, Any]) -> None:
        """Names the file.

        Args:
            folder: Made if it is not there.
            rank: Which process this is.
            identity: What must be the same when the fit goes on; JSON values, `processes` among
                them.
        """
        self._folder = Path(folder)
        self._identity = json.loads(json.dumps(identity))
        self._path = self._folder / f"fit-{rank}-of-{identity['processes']}.safetensors"

    def load(self) -> FitState:
        """Where the fit stopped; a fresh state if nothing was saved.

        Raises:
            CheckpointError: The folder holds another fit, or a file that is no checkpoint.
        """
        found = sorted(self._folder.glob("fit-*-of-*.safetensors"))
        for path in found:
            state, content = _read(path)
            self._check(state["identity"])
            if path == self._path:
                return _to_fit_state(state, content)
        return FitState()

    def save(self, state: FitState) -> None:
        """Writes the state, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {
            "identity": self._identity,
            "after": state.after and [state.after.shard, state.after.index],
            "rows": state.rows,
            "bad_rows": [bad.to_dict() for bad in state.bad_rows],
        }
        tensors = {}
        if state.moments is not None:
            moments = state.moments
            facts |= {"n": moments.n, "eps": moments.eps}
            tensors = {k: t.cpu().contiguous() for k, t in moments.to_tensors().items()}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        tensors["state"] = torch.from_numpy(text.copy())
        write_atomic(self._path, safetensors.torch.save(tensors, metadata={"format": "pt"}))

    def remove(self) -> None:
        """Deletes the file, its halves that kills have left, and the folder when it is empty."""
        for path in (self._path, *self._folder.glob(f".{self._path.name}.*")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty yet, or another process was faster
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
                "Call as before to go on with it, or delete the folder to start again"
            )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        tensors = safetensors.torch.load(path.read_bytes())
        return parse_json(tensors.pop("state").numpy().tobytes(), str(path)), tensors
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a fit, delete it: {error}") from error


def _to_fit_state(state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> FitState:
    moments = None
    if tensors:
        moments = PairedMoments.from_tensors(tensors, n=state["n"], eps=state["eps"])
    return FitState(
        moments=moments,
        after=state["after"] and Place(*state["after"]),
        rows=state["rows"],
        bad_rows=[BadRow(**bad) for bad in state["bad_rows"]],
    )
