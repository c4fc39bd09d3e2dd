"""Finds the encoders and the items that a visitor names, and checks their size before loading."""

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub import HfApi
from limits import MAX_TEXT, Refusal, Unpublished, check_choice, check_name
from repos import DEVICE, Repos

from hf_latent_bridge import Pairs, load_encoder, load_pairs
from hf_latent_bridge.encoders.modality import (
    MODALITIES,
    Modality,
    find_modality,
    modality_of_item,
)
from hf_latent_bridge.errors import (
    EncoderError,
    InvalidPairsError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.hub.client import clear_errors
from hf_latent_bridge.vectors.datasets import load_dataset
from tabs.fit_your_own.disk import VisitorCache
from tabs.fit_your_own.fit import Clock
from tabs.fit_your_own.uploads import check_files, read_table

MAX_TOKENS = 64
MAX_ANCHORS = 800
MAX_BYTES = 10**9
MAX_SIZE = 2**24  # of an item, and of all that are decoded at a time: pixels of a picture
CHUNK = 32  # items encoded between two looks at the clock
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_OTHER_FORMATS = (".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".gguf", ".xml", ".mlmodel")

Progress = Callable[..., Any]


@dataclass(frozen=True)
class Side:
    """One side of a visitor's pairs.

    Attributes:
        modality: Name of the modality of its items.
        encoder: Repo id.
        column: Column of the dataset or of the csv file.
        files: Files with the items, to take instead of a column.
    """

    modality: str
    encoder: str
    column: str
    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_choice(self.modality, MODALITIES, "The kind of items")
        check_repo_id(self.encoder, f"{self.modality} encoder")
        check_name(self.column, "The name of a column")

    @property
    def kind(self) -> Modality:
        """The modality of its items."""
        return find_modality(self.modality)


@dataclass(frozen=True)
class Table:
    """The table that holds a visitor's items, where they are not uploaded as files.

    Attributes:
        dataset: Repo id of a dataset.
        split: Its split.
        file: A csv file to take instead of the dataset.
    """

    dataset: str
    split: str
    file: str | None = None

    def __post_init__(self) -> None:
        check_name(self.split, "The name of a split")


class Hub:
    """The repos that a visitor may name: the Space's own, and public ones of any owner.

    The Space's token opens its own repos only, so that nobody sees its owner's other repos.
    """

    def __init__(self, repos: Repos) -> None:
        self._repos = repos
        self.encoder = lru_cache(maxsize=3)(self._encoder)
        self._disk = VisitorCache(Path(tempfile.gettempdir()) / "latent-bridge-encoders")

    def encoders(self) -> dict[str, list[str]]:
        """The encoders of the Space's own translators, by modality; of those that are published."""
        known: dict[str, list[str]] = {name: [] for name in MODALITIES}
        for name in ("minilm-to-mpnet", "title-to-picture"):
            with suppress(Unpublished):
                translator = self._repos.translator(name)
                for space in (translator.source_, translator.target_):
                    if space.repo_id not in known[str(space.modality)]:
                        known[str(space.modality)].append(str(space.repo_id))
        return known

    def first_rows(self, table: Table, source: Side, target: Side, n: int) -> Pairs:
        """The first `n` pairs: of files, of a csv file, or of a dataset that is read as far."""
        if source.files or target.files:
            return _uploaded(source, target, n)
        columns = source.column, target.column or source.column
        if table.file:
            pairs = read_table(table.file, *columns)
            return pairs.select(np.arange(min(n, len(pairs))))
        own = {self._repos.settings.repo_id(name) for name in ("demo-news", "demo-pictures")}
        token = self._check(table.dataset, "dataset", own)
        # pictures stay bytes: decoding could open a file of this machine that a row names
        stream, record = load_dataset(
            table.dataset, table.split or None, streaming=True, token=token
        )
        stream = stream.decode(False) if stream.features else stream
        streamed = load_pairs(stream, source=columns[0], target=columns[1], streaming=True)
        sides: tuple[list[Any], list[Any]] = ([], [])
        for chunk in streamed.chunks(min(n, 1024)):
            for items, more in zip(sides, (chunk.source, chunk.target), strict=True):
                items.extend(more[: n - len(items)])
            if len(sides[0]) >= n:
                break
        read = {"source": columns[0], "target": columns[1], "first_rows": len(sides[0])}
        return Pairs(*sides, record | read)

    def _encoder(self, repo_id: str, modality: Modality) -> Any:
        own = {name for names in self.encoders().values() for name in names}
        token = self._check(repo_id, "model", own)
        limit = MAX_TOKENS if modality.tokenized else None
        place: Any = {"device": DEVICE, "token": token}
        if token is not None:
            place["cache_dir"] = self._disk.folder(repo_id)
        try:
            return load_encoder(repo_id, modality=modality.name, max_length=limit, **place)
        except EncoderError:
            tokens = f" of {limit} tokens" if limit else ""
            raise Refusal(
                f"{repo_id} holds no {modality.name} encoder{tokens} that loads without code of "
                "its own."
            ) from None

    def _check(self, repo_id: str, kind: Literal["model", "dataset"], own: set[str]) -> bool | None:
        """The token to use: the Space's for its own repos, none for a visitor's choice."""
        check_repo_id(repo_id, kind)
        token = None if repo_id in own else False
        with self._repos.asking_hub():
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
        article = "an" if kind[0] in "aeiou" else "a"
        raise Refusal(f"Please name {article} {kind} by its repo id on the Hub, as in owner/name.")
    return repo_id


def download_size(repo_id: str, kind: Literal["model", "dataset"], token: bool | None) -> int:
    """Bytes that loading a repo may take: of a model those in its largest format for PyTorch.

    Raises:
        Refusal: No such public repo.
        HubUnavailableError: The Hub cannot be reached.
    """
    try:
        with clear_errors(repo_id, token=token):
            api = HfApi(token=token)
            describe = api.model_info if kind == "model" else api.dataset_info
            info = describe(repo_id, files_metadata=True)
    except (RepoNotFoundError, RepoAccessError):
        raise Refusal(f"There is no public {kind} {repo_id} on the Hub.") from None
    sizes: Counter[str] = Counter()
    for file in info.siblings or ():
        suffix = PurePosixPath(file.rfilename).suffix
        if kind == "dataset" or suffix not in _OTHER_FORMATS:
            sizes["all" if kind == "dataset" else suffix] += file.size or 0
    return max(sizes.values(), default=0)


def encode(
    encoder: Any, items: Sequence[Any], clock: Clock, progress: Progress, what: str
) -> torch.Tensor:
    """Latents (n, d), chunk by chunk, while there is time."""
    modality, latents, done = find_modality(encoder.space.modality), [], 0
    for chunk in _chunks(modality, items):
        clock.check()
        progress((done, len(items)), desc=what, unit="items")
        start = time.monotonic()
        latents.append(encoder.encode(chunk))
        done += len(chunk)
        needed = (time.monotonic() - start) / len(chunk) * (len(items) - done)
        if needed > clock.left:
            raise Refusal(
                f"Encoding {len(items):,} items would take about {needed:.0f} more seconds and "
                f"{max(0, clock.left):.0f} are left: take fewer anchors or a smaller encoder."
            )
    return torch.cat(latents)


def check_items(items: Sequence[Any], modality: Modality, side: str) -> None:
    """Refuses items that are missing, empty, of another modality, or not in the column itself.

    Raises:
        InvalidPairsError: An item is missing or empty; names its row.
        Refusal: A column holds something else.
    """
    for row, item in enumerate(items):
        if item is None:
            raise InvalidPairsError(f"row {row} of the {side} column is missing")
        other = modality_of_item(item)
        if other is not None and other is not modality:
            raise Refusal(f"Row {row} of the {side} column is {other.name}, not {modality.name}.")
        if isinstance(item, Mapping) and item.get("path") and not item.get("bytes"):
            raise Refusal(
                f"Row {row} of the {side} column names a file; a column must hold its items "
                "themselves, as datasets that are pushed to the Hub do."
            )
        try:
            modality.check([item])
        except InvalidPairsError:
            raise Refusal(f"The {side} column must hold items of {modality.name}.") from None
        if flaw := modality.flaw(item):
            raise InvalidPairsError(f"row {row} of the {side} column {flaw}")
        if not modality.tokenized and modality.size(item, row) > MAX_SIZE:
            raise Refusal(
                f"Row {row} of the {side} column has a size of {modality.size(item, row):,}; "
                f"an item may have {MAX_SIZE:,} here."
            )


def _uploaded(source: Side, target: Side, n: int) -> Pairs:
    """Items of uploaded files, paired in the order of the files' names; one side may be both."""
    read: list[list[Any]] = []
    for side in (source, target):
        check_files(side.files)
        files = sorted(map(Path, side.files), key=lambda file: file.name)
        read.append([item for file in files for item in side.kind.read_file(file)])
    items = [one or other for one, other in (read, read[::-1])]
    if len(items[0]) != len(items[1]):
        raise Refusal(
            f"The files hold {len(items[0]):,} source and {len(items[1]):,} target items; "
            "needed are as many of both."
        )
    return Pairs(items[0][:n], items[1][:n])


def _chunks(modality: Modality, items: Sequence[Any]) -> Iterator[list[Any]]:
    """Some items at a time, so few that they fit in memory once they are decoded."""
    chunk: list[Any] = []
    total = 0
    for row, item in enumerate(items):
        cut = item[:MAX_TEXT] if modality.tokenized else item
        size = modality.size(cut, row)
        if chunk and (len(chunk) == CHUNK or total + size > MAX_SIZE):
            yield chunk
            chunk, total = [], 0
        chunk.append(modality.decode(cut, row))
        total += size
    if chunk:
        yield chunk
