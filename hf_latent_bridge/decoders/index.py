"""A retrieval index over the latents of one space: from a latent to the items nearest to it."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import numpy as np
import torch
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.data.load import load_pairs
from hf_latent_bridge.decoders.base import best_of, check_latents, check_top_k
from hf_latent_bridge.decoders.search import METRICS, GrowingSearch, Metric, Search, find_search
from hf_latent_bridge.encoders.base import EncoderLike, encode, space_of
from hf_latent_bridge.errors import ConfigError, DecoderError, InvalidLatentsError, WeightsError
from hf_latent_bridge.files import check_fields, check_sizes, parse_json
from hf_latent_bridge.hub.published import Component
from hf_latent_bridge.hubness import (
    Hubness,
    append_similarity,
    check_neighbors,
    fold_queries,
    neighbor_similarity,
)
from hf_latent_bridge.latents import Latents, unit_rows
from hf_latent_bridge.spaces import SpaceSpec, check_meet
from hf_latent_bridge.translators.base import Translator

ITEMS_NAME = "items.jsonl"
_SMALLEST, _LARGEST = 1e-12, 1e15  # beyond, squares and sums of products may leave float32


@dataclass(frozen=True)
class _Rows:
    """Rows in memory with room for more, so that many additions copy each row a few times only."""

    room: Tensor
    n: int

    @property
    def tensor(self) -> Tensor:
        """The rows, (n, ...)."""
        return self.room[: self.n]

    def grown(self, rows: Tensor) -> "_Rows":
        """These rows and more; where the room is too small, an eighth more is made."""
        n, room = self.n + len(rows), self.room
        if n > len(room):
            room = room.new_empty(max(n, self.n * 9 // 8), *room.shape[1:])
            room[: self.n] = self.tensor
        room[self.n : n] = rows
        return _Rows(room, n)


class LatentIndex(Component):
    """A retrieval index: from a latent to the items whose latents are nearest.

    What an index holds is read-only; `add` appends to it.

    Attributes:
        vectors: The items' latents, (n, d), float32.
        items: The items that a search finds, one for each vector.
        space: The space of the vectors.
        metric: "cosine", "dot" or "euclidean".
        search_type: Name of the search backend, "exact" or "faiss".
        search_params: The backend's parameters.
        hubness: "csls" if items that come up for all kinds of queries are taken down, else None.
        n_neighbors: How many of the bank's nearest queries count for that.
        bank: Latents of queries, (m, d), of unit norm, by which added items are corrected; None
            without.
    """

    kind_key = "decoder_type"
    kind = "index"
    extra_names: ClassVar[tuple[str, ...]] = (ITEMS_NAME,)
    _search: Search

    def __init__(
        self,
        vectors: Latents,
        items: Sequence[Any],
        space: SpaceSpec | None,
        *,
        metric: Metric = "cosine",
        search: str = "exact",
        search_params: Mapping[str, Any] | None = None,
        hubness: Hubness | None = None,
        bank: Latents | Translator | None = None,
        n_neighbors: int = 10,
    ) -> None:
        if metric not in METRICS:
            raise DecoderError(f"metric must be one of {METRICS}, got {metric!r}")
        if not isinstance(search_params, Mapping | None):
            raise DecoderError(f"search_params must be a mapping, got {search_params!r:.80}")
        vectors = check_latents(vectors, space)
        self.space, self._metric = space or SpaceSpec(vectors.shape[1]), metric
        self._search_type, self._search_params = search, dict(search_params or {})
        self._build_search = find_search(search, self._search_params)
        empty = torch.empty(0, self.space.dim, device=vectors.device)
        self._vectors, self._similarity = _Rows(empty, 0), _Rows(empty.new_empty(0), 0)
        self._items, self._listed = list[Any](), tuple[Any, ...]()
        self._hubness = _check_hubness(hubness, bank, metric)
        self._n_neighbors = check_count("n_neighbors", n_neighbors, error=DecoderError)
        self._bank = None if bank is None else self._to_bank(bank)
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
            items: What to find, one for each vector. If the index is to be saved, JSON values: a
                list instead of a tuple, and dicts with texts as keys.
            space: The space of the latents; the index records it and refuses queries of others.
            options: `metric` is "cosine" (the default), "dot" or "euclidean". `search` is "exact"
                (the default), "faiss" or another registered backend, and `search_params` are its
                parameters, such as `{"factory": "IVF100,Flat", "parameters": "nprobe=16"}` for
                "faiss". `hubness="csls"` corrects the ranking by a `bank` of queries: their
                latents in this space, (m, d), or a translator into it that keeps one
                (`keep_bank`); `n_neighbors` of them count.

        Raises:
            InvalidLatentsError: No matrix, another width than the space's, NaN or infinity.
            DecoderError: Not one item per vector, none at all, or an option that is refused.
            MissingExtraError: The backend needs a package that is not installed.
        """
        return cls(vectors, items, space, **options)

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
            options: `metric`, `search`, `search_params`, `hubness`, `bank` and `n_neighbors`, as
                `from_latents` takes them.

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
        return self._vectors.tensor

    @property
    def items(self) -> tuple[Any, ...]:
        """The items that a search finds, one for each vector."""
        if len(self._listed) < len(self._items):
            self._listed = tuple(self._items)
        return self._listed

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

    @property
    def hubness(self) -> Hubness | None:
        """Which correction the ranking has."""
        return self._hubness

    @property
    def n_neighbors(self) -> int:
        """How many of the bank's nearest queries count for an item."""
        return self._n_neighbors

    @property
    def bank(self) -> Tensor | None:
        """Latents of queries, (m, d), of unit norm; None without."""
        return self._bank

    def drop_bank(self) -> Self:
        """Forgets the bank, so that it is not published; no item can be added after that."""
        if self._bank is not None:
            self._bank = None
            self._came_from(None, None)
        return self

    def add(self, vectors: Latents, items: Sequence[Any]) -> Self:
        """Appends vectors and their items, at a cost that does not grow with the index.

        FAISS indexes are appended to. Those that are trained (IVF, PQ) are trained again on all
        vectors each time they have doubled, and once more when a saved index is loaded.

        Raises:
            InvalidLatentsError: Another width than the index's, NaN or infinity.
            DecoderError: Not one item per vector, or the index corrects for hubs and has no bank.
        """
        new = self._check(vectors)
        if isinstance(items, str | Mapping | None):
            raise DecoderError(
                f"an index needs a list of items, one per vector, got {type(items).__name__} "
                f"{items!r:.60}"
            )
        found = items.tolist() if isinstance(items, np.ndarray | Tensor) else list(items)
        found = [item.item() if isinstance(item, np.generic) else item for item in found]
        if len(found) != len(new):
            raise DecoderError(
                f"an index needs one item per vector: got {len(new)} vectors and {len(found)} items"
            )
        if not len(new):
            return self
        self._append(new, self._similarity_of(new))
        self._items.extend(found)
        self._came_from(None, None)  # the repo holds fewer vectors
        return self

    def search(self, queries: Latents, top_k: int = 10) -> list[list[dict[str, Any]]]:
        """The nearest items of each query, best first, as {"item", "score", "row"}.

        The score is the cosine, the dot product or minus the distance: higher is better. With
        `hubness="csls"` it is the cosine minus half the item's mean cosine with the queries of the
        bank that are nearest to it.

        Args:
            queries: (m, d).
            top_k: How many to find; all where there are fewer.

        Raises:
            InvalidLatentsError: Another width, NaN, infinity, or too large or small for the metric.
            DecoderError: `top_k` is less than 1.
        """
        k = min(check_top_k(top_k), len(self))
        x = self._check(queries)
        if len(x) == 0:
            return []
        if self._hubness:
            x = fold_queries(x, metric="cosine")
        scores, rows = self._search.search(x, k)
        return [
            [
                {"item": self._items[row], "score": score, "row": row}
                for row, score in zip(found, values, strict=True)
                if row >= 0
            ]
            for found, values in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def __call__(self, latents: Latents, *, top_k: int | None = None) -> list[Any]:
        """The nearest item of each row, or with `top_k` the list of the nearest, as `search`.

        Raises:
            DecoderError: Without `top_k`, an approximate search has found nothing for a row.
        """
        found = self.search(latents, check_top_k(top_k))
        if top_k is None and not all(found):
            raise DecoderError(
                f"the search {self._search_type!r} with {self._search_params} finds nothing for "
                f"row {found.index([])}: take other search_params, or search='exact'"
            )
        return best_of(found, top_k)

    def __len__(self) -> int:
        return len(self._items)

    def __copy__(self) -> Self:
        """An index that answers as this one does; each of the two grows alone."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._items = list(self._items)
        other._vectors = _Rows(self.vectors, len(self))  # without the room behind them
        other._similarity = _Rows(self._similarity.tensor, self._similarity.n)
        if isinstance(self._search, GrowingSearch):  # others are replaced, never changed
            other._search = copy.deepcopy(self._search)
        return other

    def _check(self, latents: Latents) -> Tensor:
        """Latents like the vectors, of a size that the metric can compare in float32."""
        x = check_latents(latents, self.space, like=self.vectors).detach()
        if self._metric == "cosine" or not x.numel():
            return x
        largest = float(torch.linalg.vector_norm(x, torch.inf))
        if largest and not _SMALLEST <= largest <= _LARGEST:
            raise InvalidLatentsError(
                f"a search by {self._metric!r} needs latents up to {_SMALLEST:g} to {_LARGEST:g} "
                f"in size, got up to {largest:.2g}: multiply all of them by one constant, or "
                'search by metric="cosine"'
            )
        return x

    def _to_bank(self, bank: Latents | Translator) -> Tensor:
        """The bank as unit rows like the vectors."""
        if isinstance(bank, Translator):
            kept = bank.query_bank_
            check_meet(("bank's translator", bank.target_), ("index", self.space))
            if kept is None:
                raise DecoderError(
                    f"{bank!r} has no bank of queries: call its keep_bank(X), or pass latents"
                )
            bank = kept
        rows = check_latents(bank, self.space, like=self.vectors).detach()
        self._n_neighbors = check_neighbors(self._n_neighbors, len(rows), DecoderError)
        return unit_rows(rows)

    def _similarity_of(self, vectors: Tensor) -> Tensor:
        """Each vector's r, (n,), by the bank; nothing where no correction is made."""
        if self._hubness is None:
            return vectors.new_empty(0)
        if self._bank is None:
            raise DecoderError(
                f"items cannot be added without the bank of queries that the other {len(self):,} "
                "were corrected by: make a new index with a bank"
            )
        return neighbor_similarity(vectors, self._bank, n_neighbors=self._n_neighbors)

    def _append(self, vectors: Tensor, similarity: Tensor) -> None:
        """Makes more vectors searchable, and keeps them."""
        kept, known = self._vectors.grown(vectors), self._similarity.grown(similarity)
        search = self._search if self._items else None
        if not (
            isinstance(search, GrowingSearch) and search.add(self._searched(vectors, similarity))
        ):
            self._search = self._search_in(kept, known)
        self._vectors, self._similarity = kept, known

    def _search_in(self, vectors: _Rows, similarity: _Rows) -> Search:
        searched = self._searched(vectors.tensor, similarity.tensor)
        metric = "dot" if self._hubness else self._metric
        return self._build_search(searched, metric, **self._search_params)

    def _searched(self, vectors: Tensor, similarity: Tensor) -> Tensor:
        """Vectors as the backend has them: corrected ones are folded.

        All are of one norm then, so that a graph or clusters of FAISS serve too.
        """
        if not self._hubness:
            return vectors
        return append_similarity(vectors, similarity, metric="cosine")

    def _params(self) -> dict[str, Any]:
        params = {
            "metric": self._metric,
            "search": self._search_type,
            "search_params": self.search_params,
            "n": len(self),
            "items_sha256": hashlib.sha256(self._extras()[ITEMS_NAME]).hexdigest(),
        }
        if self._hubness is None:
            return params
        bank_size = 0 if self._bank is None else len(self._bank)
        correction = {"hubness": self._hubness, "n_neighbors": self._n_neighbors}
        return {**params, **correction, "bank_size": bank_size}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"vectors": self.vectors}
        if self._hubness:
            tensors["similarity"] = self._similarity.tensor
        if self._bank is not None:
            tensors["bank"] = self._bank
        return tensors

    def _extras(self) -> dict[str, bytes]:
        lines = [_to_line(row, item) for row, item in enumerate(self.items)]
        return {ITEMS_NAME: b"".join(lines)}

    @classmethod
    def _shapes(cls, space: SpaceSpec, params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        params = _current(params)
        corrected = "hubness" in params
        check_fields(params, _FIELDS | (_CORRECTION if corrected else {}), "params")
        check_sizes("n", [params["n"]])
        if params["metric"] not in METRICS:
            raise ConfigError(f"params: metric must be one of {METRICS}, got {params['metric']!r}")
        shapes: dict[str, tuple[int, ...]] = {"vectors": (params["n"], space.dim)}
        if corrected:
            _check_correction(params)
            shapes["similarity"] = (params["n"],)
            if params["bank_size"]:
                shapes["bank"] = (params["bank_size"], space.dim)
        return shapes

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
        index = cls.__new__(cls)
        index.space, index._metric = space, params["metric"]
        index._search_type, index._search_params = params["search"], params["search_params"]
        index._hubness, index._n_neighbors = params.get("hubness"), params.get("n_neighbors", 10)
        index._bank, index._items, index._listed = tensors.get("bank"), items, ()
        similarity = tensors.get("similarity", torch.empty(0))
        index._vectors = _Rows(tensors["vectors"], params["n"])
        index._similarity = _Rows(similarity, len(similarity))
        try:
            index._build_search = find_search(index._search_type, index._search_params)
            index._search = index._search_in(index._vectors, index._similarity)
        except DecoderError as error:
            raise ConfigError(f"params: {error}") from error
        return index

    def __repr__(self) -> str:
        how = f"{self.metric}, hubness={self.hubness!r}" if self.hubness else self.metric
        return f"LatentIndex({len(self):,} items, {how}) of {self.space}"


_FIELDS = {"metric": str, "search": str, "search_params": dict, "n": int, "items_sha256": str}
_CORRECTION = {"hubness": str, "n_neighbors": int, "bank_size": int}


def _check_hubness(hubness: Hubness | None, bank: object, metric: Metric) -> Hubness | None:
    if hubness not in (None, *get_args(Hubness)):
        raise DecoderError(f"hubness must be one of {get_args(Hubness)} or None, got {hubness!r}")
    if (hubness is None) != (bank is None):
        raise DecoderError(
            "hubness='csls' needs a bank of queries, latents (m, d) or a translator that keeps one"
            if hubness
            else "a bank of queries is for hubness='csls': state it, or leave the bank out"
        )
    if hubness and metric != "cosine":
        raise DecoderError(f"hubness={hubness!r} compares cosines, got metric={metric!r}")
    return hubness


def _check_correction(params: Mapping[str, Any]) -> None:
    if params["hubness"] not in get_args(Hubness):
        raise ConfigError(
            f"params: hubness must be one of {get_args(Hubness)}, got {params['hubness']!r}"
        )
    if params["metric"] != "cosine":
        raise ConfigError(f"params: hubness needs metric 'cosine', got {params['metric']!r}")
    check_sizes("n_neighbors", [params["n_neighbors"]])
    if params["bank_size"] and params["bank_size"] < params["n_neighbors"]:
        raise ConfigError(
            f"params: bank_size must be 0 or at least n_neighbors, {params['n_neighbors']}, got "
            f"{params['bank_size']}"
        )


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
        line = json.dumps(item, ensure_ascii=False, allow_nan=False).encode()
        if (read := parse_json(line, "its JSON")) != item:  # texts as keys, and no tuples
            raise TypeError(f"it would come back as {_shown(read)}")
        return line + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"items are saved as JSON, but item {row} is {type(item).__name__} {_shown(item)} "
            f"({error}): index texts, numbers, or lists and dicts of them"
        ) from error


def _shown(item: Any) -> str:
    """The start of an item, for an error."""
    try:
        return f"{item!r:.60}"
    except (ValueError, RecursionError):  # Python writes no number of 5,000 digits, no deep list
        return "that is too large to be shown"


def _read_items(content: bytes, n: int, sha256: str) -> list[Any]:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(
            f"{ITEMS_NAME} is not the file that config.json describes (SHA-256 differs)"
        )
    lines = content.split(b"\n")[:-1]
    if len(lines) != n:
        raise WeightsError(f"{ITEMS_NAME} must hold {n} items, got {len(lines)}")
    return [parse_json(line, f"{ITEMS_NAME}: item {number}") for number, line in enumerate(lines)]
