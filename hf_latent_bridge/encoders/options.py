"""How an encoder is to be loaded, passed from `load_encoder` to the loaders."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LoadOptions:
    """The arguments of `load_encoder`, resolved.

    Attributes:
        name: Repo id or folder.
        commit: Commit of the repo; None for a folder.
        pooling: How to pool tokens where the repo does not say.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut inputs at this many tokens; None for the model's own limit.
        device: Where to run.
        dtype: Floating dtype of the model; None for the saved one.
        token: Hub token.
        trust_remote_code: Run Python code that the repo brings.
    """

    name: str
    commit: str | None
    pooling: str
    normalize: bool | None
    max_length: int | None
    device: torch.device
    dtype: torch.dtype | None
    token: str | bool | None
    trust_remote_code: bool

    @property
    def repo_id(self) -> str | None:
        """The repo id; None for a folder."""
        return None if self.commit is None else self.name
