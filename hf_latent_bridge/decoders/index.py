"""A retrieval index over the latents of one space: from a latent to the items nearest to it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from hf_latent_bridge.data.load import load_pairs
from hf_latent_bridge.decoders.base import best_of, check_latents, check_top_k
from hf_latent_bridge.decoders.search import METRICS, FaissSearch, Metric, search_exactly
from hf_latent_bridge.encoders.base import EncoderLike, encode, space_of
from hf_latent_bridge.errors import ConfigError, DecoderError, WeightsError
from hf_latent_bridge.files import check_fields, check_sizes, parse_json
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec

ITEMS_NAME = "items.jsonl"


class LatentIndex(Component):
    """A retrieval index: from a latent to the items whose latents are nearest.

    Attributes:
        vectors: The items' latents, (n, d), float32.
        items: What is found, one for each vector.
        space: The space of the vectors.
        metric: "cosine", "dot" or "euclidean".
        faiss: FAISS's description of its index; None for exact search.
    """

    kind_key = "decoder_type"
    kind = "index"
    extra_names: ClassVar[tuple[str, ...]] = (ITEMS_NAME,)

    def __init__(
        self,
        vectors: Latents,
        items: Sequence[Any],
        space: SpaceSpec,
        *,
        metric: Metric = "cosine",
        faiss: str | None = None,
    ) -> None:
        self.space = space
        self.metric = metric
        self.faiss = faiss
        if metric not in METRICS:
            raise DecoderError(f"metric must be one of {METRICS}, got {metric!r}")
        self.vectors = torch.empty(0, space.dim, device=as_tensor(vectors).device)
        self.items: list[Any] = []
        self.add(vectors, items)
        if not self.items:
            raise DecoderError("an index needs at least one vector, got none")

    @classmethod
    def from_latents(
        cls,
        vectors: Latents,
        items: Sequence[Any],
        *,
        space: SpaceSpec | None = None,
        metric: Metric = "cosine",
        faiss: str | None = None,
    ) -> Self:
        """An index over latents that are there already.

        Args:
            vectors: (n, d); kept as float32.
            items: What to find, one for each vector; JSON values if the index shall be saved.
            space: Whose latents they are; recorded, so that queries of others are refused.
            metric: "cosine", "dot" or "euclidean".
            faiss: FAISS's description of an index, such as "Flat", "HNSW32" or "IVF100,Flat"; None
                for exact search without FAISS.

        Raises:
            InvalidLatentsError: No matrix, another width than the space's, NaN or infinity.
            DecoderError: Not one item per vector, none at all, or FAISS refuses.
        """
        tensor = as_tensor(vectors)
        width = tensor.shape[1] if tensor.ndim == 2 and tensor.shape[1] else 1
        return cls(tensor, items, space or SpaceSpec(width), metric=metric, faiss=faiss)

    @classmethod
    def from_dataset(
        cls,
        encoder: EncoderLike,
        dataset: Any,
        column: str,
        *,
        item: str | None = None,
        split: str | None = None,
        **options: Any,
    ) -> Self:
        """An index over a column of a dataset.

        Args:
            encoder: Encodes the column.
            dataset: A Hub dataset's repo id, a folder, a `datasets.Dataset` or columns by name.
            column: What to encode.
            item: The column to find; None for the encoded one. For images take a column of names,
                for pictures cannot be saved as items.
            split: Split of a Hub dataset or folder.
            options: `metric` and `faiss`, as `from_latents` takes them.

        Raises:
            InvalidPairsError: No such split or column, or an empty row.
        """
        pairs = load_pairs(dataset, split=split, source=column, target=item)
        ((inputs, items),) = pairs.batches(len(pairs))
        vectors = encode(encoder, inputs)
        return cls(vectors, items, space_of(encoder, vectors.shape[1]), **options)

    def add(self, vectors: Latents, items: Sequence[Any]) -> Self:
        """Appends vectors and their items.

        Raises:
            InvalidLatentsError: Another width than the index's, NaN or infinity.
            DecoderError: Not one item per vector.
        """
        new = check_latents(vectors, self.space, like=self.vectors).detach()
        if isinstance(items, str) or len(items) != len(new):
            raise DecoderError(
                f"an index needs one item per vector: got {len(new)} vectors and "
                f"{'one text' if isinstance(items, str) else len(items)} items"
            )
        if self.repo_id is not None:  # what lies there is no longer this
            self._came_from(None, None)
        self.vectors = torch.cat([self.vectors, new])
        self.items = [*self.items, *items]
        self._search: FaissSearch | None = None
        if self.faiss is not None and len(self):
            self._search = FaissSearch(self.vectors, self.faiss, self.metric)
        return self

    def search(self, queries: Latents, top_k: int = 10) -> list[list[dict[str, Any]]]:
        """The nearest items of each query, best first, as {"item", "score", "row"}.

        The score is the cosine, the dot product or minus the distance: higher is better.

        Args:
            queries: (m, d).
            top_k: How many to find; all where there are fewer.

        Raises:
            InvalidLatentsError: Another width, NaN or infinity.
            DecoderError: `top_k` is less than 1.
        """
        k = min(check_top_k(top_k), len(self))
        x = check_latents(queries, self.space, like=self.vectors).detach()
        if len(x) == 0:
            return []
        if self._search is None:
            scores, rows = search_exactly(x, self.vectors, k, self.metric)
        else:
            scores, rows = self._search.search(x, k)
        return [
            [
                {"item": self.items[row], "score": score, "row": row}
                for row, score in zip(found, values, strict=True)
                if row >= 0
            ]
            for found, values in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> list[Any]:
        """The nearest item of each row, or with `top_k` the list of the nearest, as `search`."""
        return best_of(self.search(latents, check_top_k(top_k)), top_k)

    def __len__(self) -> int:
        return len(self.items)

    def _params(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._extras()[ITEMS_NAME]).hexdigest()
        faiss = self.faiss or ""
        return {"metric": self.metric, "faiss": faiss, "n": len(self), "items_sha256": digest}

    def _tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    def _extras(self) -> dict[str, bytes]:
        lines = [_to_line(row, item) for row, item in enumerate(self.items)]
        return {ITEMS_NAME: b"".join(lines)}

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        check_fields(params, {"metric": str, "faiss": str, "n": int, "items_sha256": str}, "params")
        check_sizes("n", [params["n"]])
        if params["metric"] not in METRICS:
            raise ConfigError(f"params: metric must be one of {METRICS}, got {params['metric']!r}")
        return {"vectors": (params["n"], space.dim)}

    @classmethod
    def _build(
        cls,
        space: SpaceSpec,
        params: dict[str, Any],
        tensors: dict[str, Tensor],
        paths: Mapping[str, Path],
    ) -> Self:
        items = _read_items(paths[ITEMS_NAME], params["n"], params["items_sha256"])
        faiss = params["faiss"] or None
        return cls(tensors["vectors"], items, space, metric=params["metric"], faiss=faiss)

    def __repr__(self) -> str:
        return f"LatentIndex({len(self):,} items, {self.metric}) of {self.space}"


def _to_line(row: int, item: Any) -> bytes:
    try:
        return json.dumps(item, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"items are saved as JSON, but item {row} is {type(item).__name__} {item!r:.60} "
            f"({error}): index names or numbers instead"
        ) from error


def _read_items(path: Path, n: int, sha256: str) -> list[Any]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{path} is not the file that config.json describes (SHA-256 differs)")
    lines = content.split(b"\n")[:-1]
    if len(lines) != n:
        raise WeightsError(f"{path} must hold {n} items, got {len(lines)}")
    return [parse_json(line, f"{path}: item {number}") for number, line in enumerate(lines)]
