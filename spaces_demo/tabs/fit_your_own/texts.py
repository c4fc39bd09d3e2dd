"""Finds the encoders and datasets that a visitor names, and checks their size before loading."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import httpx2
import numpy as np
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from limits import MAX_TEXT, Refusal
from repos import Repos

from hf_latent_bridge import Pairs, load_encoder, load_pairs
from hf_latent_bridge.errors import EncoderError
from tabs.fit_your_own.fit import Clock
from tabs.fit_your_own.uploads import read_table

MAX_TOKENS = 64
MAX_ANCHORS = 800
MAX_BYTES = 10**9
CHUNK = 32  # texts encoded between two looks at the clock
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_OTHER_FORMATS = (".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".gguf", ".xml", ".mlmodel")

Progress = Callable[..., Any]


@dataclass(frozen=True)
class TextColumns:
    """The columns that hold a visitor's texts.

    Attributes:
        dataset: Repo id of a dataset.
        split: Its split.
        source: Column for the source encoder.
        target: Column for the target encoder; the same where it is empty.
        table: A csv file to take instead of the dataset.
    """

    dataset: str
    split: str
    source: str
    target: str
    table: str | None = None


class Hub:
    """The repos that a visitor may name: the Space's own, and public ones of any owner.

    The Space's token opens its own repos only, so that nobody sees its owner's other repos.
    """

    def __init__(self, repos: Repos) -> None:
        self._repos = repos
        self.encoder = lru_cache(maxsize=3)(self._encoder)

    def encoders(self) -> list[str]:
        """The two encoders of the Space's own translator."""
        translator = self._repos.translator("minilm-to-mpnet")
        return [str(space.repo_id) for space in (translator.source_, translator.target_)]

    def first_rows(self, where: TextColumns, n: int) -> Pairs:
        """The first `n` pairs of a csv file, or of a dataset, not downloaded as a whole."""
        if where.table:
            pairs = read_table(where.table, where.source, where.target or where.source)
            return pairs.select(np.arange(min(n, len(pairs))))
        token = self._check(where.dataset, "dataset", {self._repos.settings.repo_id("demo-news")})
        stream = load_pairs(
            where.dataset,
            split=where.split or None,
            source=where.source,
            target=where.target or None,
            streaming=True,
            token=token,
        )
        source: list[Any] = []
        target: list[Any] = []
        for chunk in stream.chunks(n):
            source += list(chunk.source)
            target += list(chunk.target)
            if len(source) >= n:
                break
        return Pairs(source[:n], target[:n], {**stream.dataset, "first_rows": len(source[:n])})

    def _encoder(self, repo_id: str) -> Any:
        token = self._check(repo_id, "model", set(self.encoders()))
        try:
            return load_encoder(repo_id, modality="text", max_length=MAX_TOKENS, token=token)
        except EncoderError:
            raise Refusal(
                f"{repo_id} holds no text encoder of {MAX_TOKENS} tokens that loads without code "
                "of its own."
            ) from None

    def _check(self, repo_id: str, kind: Literal["model", "dataset"], own: set[str]) -> bool | None:
        """The token to use: the Space's for its own repos, none for a visitor's choice."""
        check_repo_id(repo_id, kind)
        token = None if repo_id in own else False
        size = download_size(repo_id, kind, token)
        if size > MAX_BYTES:
            raise Refusal(
                f"{repo_id} holds {size / 10**9:,.1f} GB; {kind}s may have "
                f"{MAX_BYTES / 10**9:,.0f} GB here."
            )
        return token


def check_repo_id(repo_id: str | None, kind: str) -> str:
    """A repo id on the Hub, never a folder of this machine.

    Raises:
        Refusal: It is none.
    """
    if not isinstance(repo_id, str) or not _REPO_ID.fullmatch(repo_id) or Path(repo_id).exists():
        raise Refusal(f"Please name a {kind} by its repo id on the Hub, such as owner/name.")
    return repo_id


def download_size(repo_id: str, kind: Literal["model", "dataset"], token: bool | None) -> int:
    """Bytes that loading a repo may take: of a model those in its largest format for PyTorch.

    Raises:
        Refusal: No such public repo, or the Hub cannot be reached.
    """
    try:
        api = HfApi(token=token)
        describe = api.model_info if kind == "model" else api.dataset_info
        info = describe(repo_id, files_metadata=True)
    except RepositoryNotFoundError:
        raise Refusal(f"There is no public {kind} {repo_id} on the Hub.") from None
    except (OSError, httpx2.TransportError):
        raise Refusal(f"The Hub does not answer for {repo_id}; please try again.") from None
    sizes: Counter[str] = Counter()
    for file in info.siblings or ():
        suffix = PurePosixPath(file.rfilename).suffix
        if kind == "dataset" or suffix not in _OTHER_FORMATS:
            sizes["all" if kind == "dataset" else suffix] += file.size or 0
    return max(sizes.values(), default=0)


def encode(
    encoder: Any, texts: Sequence[str], clock: Clock, progress: Progress, what: str
) -> torch.Tensor:
    """Latents (n, d), chunk by chunk, while there is time."""
    latents = []
    for start in range(0, len(texts), CHUNK):
        clock.check()
        progress((start, len(texts)), desc=what, unit="texts")
        latents.append(encoder.encode([text[:MAX_TEXT] for text in texts[start : start + CHUNK]]))
    return torch.cat(latents)


def check_texts(pairs: Pairs) -> tuple[list[str], list[str]]:
    """Both sides as texts.

    Raises:
        InvalidPairsError: A text is missing or empty; names its row.
        Refusal: A column holds something else.
    """
    ((source, target),) = pairs.batches(len(pairs))
    if not all(isinstance(item, str) for item in (*source, *target)):
        raise Refusal("Both columns must hold texts.")
    return source, target
