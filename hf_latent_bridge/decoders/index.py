"""A retrieval index over the latents of one space: from a latent to the items nearest to it."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from hf_latent_bridge.data.load import load_pairs
from hf_latent_bridge.decoders.base import best_of, check_latents, check_top_k
from hf_latent_bridge.decoders.search import METRICS, Metric, find_search
from hf_latent_bridge.encoders.base import EncoderLike, encode, space_of
from hf_latent_bridge.errors import ConfigError, DecoderError, WeightsError
from hf_latent_bridge.files import check_fields, check_sizes, parse_json
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.latents import Latents, as_tensor
from hf_latent_bridge.spaces import SpaceSpec

ITEMS_NAME = "items.jsonl"


class LatentIndex(Component):
    """A retrieval index: from a latent to the items whose latents are nearest.

    What an index holds is read-only; `add` appends to it.

    Attributes:
        vectors: The items' latents, (n, d), float32.
        items: What is found, one for each vector.
        space: The space of the vectors.
        metric: "cosine", "dot" or "euclidean".
        search_type: Name of the search backend, "exact" or "faiss".
        search_params: The backend's parameters.
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
        search: str = "exact",
        search_params: Mapping[str, Any] | None = None,
    ) -> None:
        if metric not in METRICS:
            raise DecoderError(f"metric must be one of {METRICS}, got {metric!r}")
        self.space, self._metric = space, metric
        self._search_type, self._search_params = search, dict(search_params or {})
        self._build_search = find_search(search, self._search_params)
        self._vectors = torch.empty(0, space.dim, device=as_tensor(vectors).device)
        self._items: tuple[Any, ...] = ()
        self.add(vectors, items)
        if not self._items:
            raise DecoderError("an index needs at least one vector, got none")

    @classmethod
    def from_latents(
        cls,
        vectors: Latents,
        items: Sequence[Any],
        *,
        space: SpaceSpec | None = None,
        **options: Any,
    ) -> Self:
        """An index over latents that are there already.

        Args:
            vectors: (n, d); kept as float32.
            items: What to find, one for each vector; JSON values if the index is to be saved.
            space: Whose latents they are; recorded, so that queries of others are refused.
            options: `metric` is "cosine" (the default), "dot" or "euclidean". `search` is "exact"
                (the default), "faiss" or another registered backend, and `search_params` are its
                parameters, such as `{"factory": "HNSW32"}` for "faiss".

        Raises:
            InvalidLatentsError: No matrix, another width than the space's, NaN or infinity.
            DecoderError: Not one item per vector, none at all, or an option that is refused.
            MissingExtraError: The backend needs a package that is not installed.
        """
        tensor = as_tensor(vectors)
        width = tensor.shape[1] if tensor.ndim == 2 and tensor.shape[1] else 1
        return cls(tensor, items, space or SpaceSpec(width), **options)

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
            item: The column to find; None for the encoded one. For images take a column of names:
                pictures cannot be saved as items.
            split: Split of a Hub dataset or folder.
            options: `metric`, `search` and `search_params`, as `from_latents` takes them.

        Raises:
            InvalidPairsError: No such split or column, or an empty row.
        """
        pairs = load_pairs(dataset, split=split, source=column, target=item)
        ((inputs, items),) = pairs.batches(len(pairs))
        vectors = encode(encoder, inputs)
        return cls(vectors, items, space_of(encoder, vectors.shape[1]), **options)

    @property
    def vectors(self) -> Tensor:
        """The items' latents, (n, d), float32."""
        return self._vectors

    @property
    def items(self) -> tuple[Any, ...]:
        """What is found, one for each vector."""
        return self._items

    @property
    def metric(self) -> Metric:
        """How a query is compared with a vector."""
        return self._metric

    @property
    def search_type(self) -> str:
        """Name of the search backend."""
        return self._search_type

    @property
    def search_params(self) -> dict[str, Any]:
        """A copy of the backend's parameters."""
        return copy.deepcopy(self._search_params)

    def add(self, vectors: Latents, items: Sequence[Any]) -> Self:
        """Appends vectors and their items.

        Raises:
            InvalidLatentsError: Another width than the index's, NaN or infinity.
            DecoderError: Not one item per vector.
        """
        new = check_latents(vectors, self.space, like=self._vectors).detach()
        if isinstance(items, str) or len(items) != len(new):
            raise DecoderError(
                f"an index needs one item per vector: got {len(new)} vectors and "
                f"{'one text' if isinstance(items, str) else len(items)} items"
            )
        if not len(new):
            return self
        everything = torch.cat([self._vectors, new])
        self._search = self._build_search(everything, self._metric, **self._search_params)
        self._vectors, self._items = everything, (*self._items, *items)
        self._came_from(None, None)  # the repo holds fewer vectors
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
        x = check_latents(queries, self.space, like=self._vectors).detach()
        if len(x) == 0:
            return []
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
        return {
            "metric": self._metric,
            "search": self._search_type,
            "search_params": self.search_params,
            "n": len(self),
            "items_sha256": hashlib.sha256(self._extras()[ITEMS_NAME]).hexdigest(),
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    def _extras(self) -> dict[str, bytes]:
        lines = [_to_line(row, item) for row, item in enumerate(self.items)]
        return {ITEMS_NAME: b"".join(lines)}

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        params = _current(params)
        check_fields(params, _FIELDS, "params")
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
        extras: Mapping[str, bytes],
    ) -> Self:
        params = _current(params)
        items = _read_items(extras[ITEMS_NAME], params["n"], params["items_sha256"])
        options = {name: params[name] for name in ("metric", "search", "search_params")}
        try:
            return cls(tensors["vectors"], items, space, **options)
        except DecoderError as error:
            raise ConfigError(f"params: {error}") from error

    def __repr__(self) -> str:
        return f"LatentIndex({len(self):,} items, {self.metric}) of {self.space}"


_FIELDS = {"metric": str, "search": str, "search_params": dict, "n": int, "items_sha256": str}


def _current(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a config; those of version 0.1.0 held FAISS's description or ""."""
    if "search" in params or not isinstance(params.get("faiss"), str):
        return dict(params)
    others = {name: value for name, value in params.items() if name != "faiss"}
    if params["faiss"] == "":
        return {**others, "search": "exact", "search_params": {}}
    return {**others, "search": "faiss", "search_params": {"factory": params["faiss"]}}


def _to_line(row: int, item: Any) -> bytes:
    try:
        return json.dumps(item, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"items are saved as JSON, but item {row} is {type(item).__name__} {item!r:.60} "
            f"({error}): index names or numbers instead"
        ) from error


def _read_items(content: bytes, n: int, sha256: str) -> list[Any]:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{ITEMS_NAME} is not the file that config.json describes (SHA-256 differs)"
        )
    lines = content.split(b"\n")[:-1]
    if len(lines) != n:
        raise WeightsError(f"{ITEMS_NAME} must hold {n} items, got {len(lines)}")
    return [parse_json(line, f"{ITEMS_NAME}: item {number}") for number, line in enumerate(lines)]
