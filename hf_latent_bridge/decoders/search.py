"""Ways to find the nearest vectors: a registry with exact search and FAISS."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.extras import require
from hf_latent_bridge.latents import unit_rows

Metric = Literal["cosine", "dot", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean")


class Search(Protocol):
    """Finds the nearest of the vectors that it was built from."""

    def search(
        self, queries: Float[Tensor, "m d"], k: int
    ) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """Scores and rows of the `k` best vectors for each query, best first.

        The score is the cosine, the dot product or minus the distance: higher is better. A row is
        -1 where fewer than `k` are found.
        """


@runtime_checkable
class GrowingSearch(Search, Protocol):
    """A search that takes more vectors; one without `add` is built again from all of them.

    A copy of an index holds a deep copy of it.
    """

    def add(self, vectors: Float[Tensor, "n d"]) -> bool:
        """Appends vectors; False, with nothing changed, if it must be built again instead."""


class Backend(NamedTuple):
    """An entry of the registry.

    Attributes:
        build: `build(vectors, metric, **search_params)` prepares a search in vectors (n, d).
        needs: The extra that it needs, then the modules of that extra; empty for no extra.
    """

    build: Callable[..., Search]
    needs: tuple[str, ...] = ()


SEARCHES: dict[str, Backend] = {}
Build = TypeVar("Build", bound=Callable[..., Search])


def register_search(name: str, *, needs: tuple[str, ...] = ()) -> Callable[[Build], Build]:
    """Registers what it decorates: a class or function `build(vectors, metric, **params)`.

    Args:
        name: What `LatentIndex(search=...)` and config.json call it.
        needs: The extra that it needs, then the modules of that extra; empty for no extra.

    Raises:
        ValueError: Another has that name. One that is defined again takes its own place.
    """

    def register(build: Build) -> Build:
        known = SEARCHES[name].build if name in SEARCHES else build
        if known.__qualname__ != build.__qualname__:
            raise ValueError(f"search {name!r} is taken by {known.__qualname__}")
        SEARCHES[name] = Backend(build, needs)
        return build

    return register


def find_search(name: str, params: Mapping[str, Any]) -> Callable[..., Search]:
    """What builds the search of that name, if it can be used here with these parameters.

    Raises:
        DecoderError: No search has that name, or it takes other parameters.
        MissingExtraError: It needs a package that is not installed.
    """
    if name not in SEARCHES:
        raise DecoderError(f"search must be one of {sorted(SEARCHES)}, got {name!r}")
    build, needs = SEARCHES[name]
    if needs:
        require(*needs, purpose=f"LatentIndex(search={name!r})")
    try:
        inspect.signature(build).bind(None, None, **params)
    except TypeError as error:
        raise DecoderError(f"search_params of {name!r}: {error}, got {dict(params)}") from error
    return build


@register_search("exact")
class ExactSearch:
    """Compares each query with every vector, in blocks of bounded memory."""

    def __init__(self, vectors: Float[Tensor, "n d"], metric: Metric) -> None:
        self._vectors = vectors
        self._metric = metric

    def search(self, queries: Float[Tensor, "m d"], k: int) -> tuple[Tensor, Tensor]:
        """As `search_exactly`."""
        return search_exactly(queries, self._vectors, k, self._metric)


@register_search("faiss", needs=("index", "faiss"))
class FaissSearch:
    """A FAISS index, trained and filled in memory."""

    def __init__(
        self,
        vectors: Float[Tensor, "n d"],
        metric: Metric,
        *,
        factory: str = "Flat",
        parameters: str = "",
    ) -> None:
        """Trains and fills the index.

        Args:
            vectors: The vectors to search in.
            metric: "cosine", "dot" or "euclidean".
            factory: FAISS's own description of an index, such as "Flat", "HNSW32" or
                "IVF100,Flat".
            parameters: FAISS's own description of how to search, such as "nprobe=16" for lists,
                of which FAISS reads a single one by default, or "efSearch=64" for graphs.

        Raises:
            DecoderError: FAISS refuses the description, the vectors or the parameters.
        """
        import faiss

        kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        self._metric = metric
        data = _plain(vectors, metric)
        try:
            self._index = faiss.index_factory(vectors.shape[1], factory, kind)
            self._most = None if self._index.is_trained else 2 * len(data)
            self._index.train(data)
            self._index.add(data)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise DecoderError(
                f"FAISS builds no index {factory!r} of {tuple(vectors.shape)} vectors: "
                f"{_one_line(error)}"
            ) from error
        if not isinstance(parameters, str):
            raise DecoderError(f"FAISS's parameters are a text, got {parameters!r:.80}")
        try:
            space: Any = faiss.ParameterSpace()  # its types know another form of the call only
            space.set_index_parameters(self._index, parameters)
            self._index.search(data[:1], 1)  # nprobe=0 is refused by a search only
        except RuntimeError as error:
            raise DecoderError(
                f"FAISS cannot search an index {factory!r} with parameters {parameters!r}: "
                f"{_one_line(error)}"
            ) from error

    def add(self, vectors: Float[Tensor, "n d"]) -> bool:
        """Appends vectors, except where training on all of them, or their kind, asks for more.

        Clusters and codes that were trained on fewer than half of the vectors are trained again.
        Graphs of some kinds (NSG) take no vectors once they are built.
        """
        if self._most is not None and self._index.ntotal + len(vectors) > self._most:
            return False
        try:
            self._index.add(_plain(vectors, self._metric))
        except RuntimeError:
            return False
        return True

    def search(self, queries: Float[Tensor, "m d"], k: int) -> tuple[Tensor, Tensor]:
        """As `Search.search`, on the CPU."""
        scores, rows = self._index.search(_plain(queries, self._metric), k)
        found = torch.from_numpy(scores)
        if self._metric == "euclidean":
            found = -found.clamp(min=0).sqrt()
        return found, torch.from_numpy(rows)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def search_exactly(
    queries: Float[Tensor, "m d"],
    vectors: Float[Tensor, "n d"],
    k: int,
    metric: Metric,
    *,
    block: tuple[int, int] = (256, 16384),
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Scores and rows of the k best vectors for each query, best first.

    Args:
        queries: (m, d).
        vectors: (n, d).
        k: How many to find; all where there are fewer.
        metric: The score is the cosine, the dot product or minus the Euclidean distance, so that
            higher is always better.
        block: Queries and vectors compared at once; no more scores than that are held.
    """
    k = min(k, len(vectors))
    empty = queries.new_empty(0, k), torch.empty(0, k, dtype=torch.long, device=queries.device)
    blocks = torch.split(queries, block[0]) if len(queries) else ()
    parts = [empty, *(_search_block(q, vectors, k, metric, block[1]) for q in blocks)]
    return torch.cat([scores for scores, _ in parts]), torch.cat([rows for _, rows in parts])


def _search_block(
    queries: Tensor, vectors: Tensor, k: int, metric: Metric, size: int
) -> tuple[Tensor, Tensor]:
    scores = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(vectors), size):
        found = _SCORES[metric](queries, vectors[start : start + size])
        numbers = torch.arange(start, start + found.shape[1], device=rows.device)
        scores = torch.cat([scores, found], dim=1)
        rows = torch.cat([rows, numbers.expand(len(queries), -1)], dim=1)
        scores, best = scores.topk(min(k, scores.shape[1]), dim=1)
        rows = rows.gather(1, best)
    return scores, rows


def _cosine(queries: Tensor, vectors: Tensor) -> Tensor:
    return unit_rows(queries) @ unit_rows(vectors).mT


def _minus_distance(queries: Tensor, vectors: Tensor) -> Tensor:
    exact = "donot_use_mm_for_euclid_dist"  # the product form loses near neighbours to rounding
    return -torch.cdist(queries, vectors, compute_mode=exact)


_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "dot": lambda queries, vectors: queries @ vectors.mT,
    "euclidean": _minus_distance,
}


def _plain(vectors: Tensor, metric: Metric) -> Any:
    scaled = unit_rows(vectors) if metric == "cosine" else vectors
    return scaled.float().cpu().contiguous().numpy()
