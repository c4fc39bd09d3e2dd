"""How models are loaded: with which options, quietly, and with nothing left random or empty."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import EncoderError, NoTokensError
from hf_latent_bridge.hub import client
from hf_latent_bridge.spaces import SpaceSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_UNLIMITED = 10**20  # tokenizers without a limit state 10**30
_MISSING = re.compile(r"^(\S.*?)\s*\|.*\bMISSING\b", re.MULTILINE)


@dataclass(frozen=True)
class LoadOptions:
    """The arguments of `load_encoder`, resolved.

    Attributes:
        name: Repo id or folder; of a folder, the subfolder that was asked for.
        commit: Commit of the repo; None for a folder.
        hub: Where and how to look for the files of a repo; empty for a folder.
        modality: Name of the modality; None for the only one that the repo has.
        pooling: How to pool; None for the repo's own way.
        normalize: Scale latents to unit L2 norm; None for the repo's own habit.
        max_length: Cut texts at this many tokens; None for the model's own limit.
        device: Where to run.
        dtype: Floating dtype of the model; None for the saved one.
        autocast: Dtype in which products are taken; None for the model's.
        compile: Compile the model on first use.
        trust_remote_code: Run Python code that the repo brings.
    """

    name: str
    commit: str | None
    hub: client.HubOptions
    modality: str | None
    pooling: str | None
    normalize: bool | None
    max_length: int | None
    device: torch.device
    dtype: torch.dtype | None
    autocast: torch.dtype | None
    compile: bool
    trust_remote_code: bool

    @property
    def common(self) -> dict[str, Any]:
        """The keywords that every `from_pretrained` of transformers takes."""
        return {
            **self.hub,
            "revision": self.commit or "main",
            "trust_remote_code": self.trust_remote_code,
        }

    def has_file(self, file: str) -> bool:
        """Whether the repo or folder holds a file."""
        hub: Any = {**self.hub, "revision": self.commit}
        return client.has_file(self.name, file, **hub)

    def check_max_length(self, *, tokenized: bool) -> None:
        """Refuses a length that would cut nothing.

        Raises:
            NoTokensError: `max_length` is given, and the model's items are not cut by tokens.
        """
        if self.max_length is not None and not tokenized:
            raise NoTokensError(
                f"max_length={self.max_length} is the number of tokens at which texts are cut, and "
                f"{self.name!r} cuts nothing by tokens: leave max_length out"
            )

    def space(self, modality: str, pooling: str | None, max_length: int | None) -> SpaceSpec:
        """The encoder's space but for its width, which is known once the model has run.

        Raises:
            NoTokensError: `max_length` was asked for, and nothing is cut at it.
        """
        self.check_max_length(tokenized=max_length is not None)
        return SpaceSpec(
            dim=1,
            repo_id=None if self.commit is None else self.name,
            revision=self.commit,
            subfolder=self.hub.get("subfolder") or None,
            modality=modality,
            pooling=pooling,
            normalize=bool(self.normalize),
            max_length=max_length,
        )


class _MissingWeights(logging.Handler):
    """Collects the weights that transformers' load report calls missing, of this thread's load."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.keys += _MISSING.findall(record.getMessage())


@contextlib.contextmanager
def quiet_load(name: str) -> Iterator[None]:
    """Loads without transformers' bars and reports; bars of downloads stay as the user set them.

    Raises:
        EncoderError: The repo lacks weights of the model, which would be left random.
    """
    from transformers.utils import logging as reports

    missing, verbosity = _MissingWeights(), reports.get_verbosity()
    reports.set_verbosity(logging.WARNING)
    reports.disable_default_handler()
    reports.add_handler(missing)
    try:
        with _no_bars():
            yield
    finally:
        reports.remove_handler(missing)
        reports.enable_default_handler()
        reports.set_verbosity(verbosity)
    keys = [key for key in missing.keys if "pooler" not in key]
    if keys:
        raise EncoderError(
            f"{name!r} lacks weights of its model, which would be random: "
            f"{', '.join(keys[:3])} and {max(len(keys) - 3, 0)} more"
        )


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as reports

    if not reports.is_progress_bar_enabled():
        yield
        return
    downloads_shown = not are_progress_bars_disabled()
    reports.disable_progress_bar()  # type: ignore[no-untyped-call]
    if downloads_shown:
        enable_progress_bars()
    try:
        yield
    finally:
        reports.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_vocabulary(name: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuses the tokenizer without words that transformers makes where a repo lacks one.

    Raises:
        EncoderError: The tokenizer knows special tokens only.
    """
    if len(tokenizer) - len(tokenizer.all_special_ids) <= 2:
        raise EncoderError(
            f"{name!r} has no vocabulary: it lacks the files of {type(tokenizer).__name__}, such "
            "as tokenizer.json; save the tokenizer into the repo"
        )


def token_limit(
    name: str, tokenizer: "PreTrainedTokenizerBase", max_length: int | None, positions: int | None
) -> int | None:
    """The number of tokens at which texts are cut; None where nothing limits it.

    Args:
        name: The repo, for the error.
        tokenizer: Its tokenizer.
        max_length: What the user asks for; None for the smaller of the model's limits.
        positions: Most tokens that the model can take; None where any number will do.

    Raises:
        EncoderError: `max_length` leaves no room for a word, or exceeds `positions`.
    """
    if max_length is None:
        limits = (tokenizer.model_max_length, positions)
        return min((int(k) for k in limits if k and 0 < k < _UNLIMITED), default=None)
    least = tokenizer.num_special_tokens_to_add() + 1
    bounds: Any = {"least": least, "most": positions or None, "also": " (with special tokens)"}
    return check_count(f"max_length of {name!r}", max_length, error=EncoderError, **bounds)
