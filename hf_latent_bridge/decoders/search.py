"""Nearest neighbours among vectors: exact in blocks of bounded memory, or through FAISS."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_latent_bridge.errors import DecoderError
from hf_latent_bridge.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable

Metric = Literal["cosine", "dot", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean")
_QUERIES_PER_BLOCK = 256
_VECTORS_PER_BLOCK = 16384


def search_exactly(
    queries: Float[Tensor, "m d"], vectors: Float[Tensor, "n d"], k: int, metric: Metric
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Scores and rows of the k best vectors for each query, best first.

    No more than a block of 256 by 16,384 scores is held at once. The score is the cosine, the dot
    product or minus the Euclidean distance, so that higher is always better.
    """
    empty = queries.new_empty(0, k), torch.empty(0, k, dtype=torch.long, device=queries.device)
    parts = [empty, *(_search_block(q, vectors, k, metric) for q in _blocks(queries))]
    return torch.cat([scores for scores, _ in parts]), torch.cat([rows for _, rows in parts])


def _blocks(queries: Tensor) -> tuple[Tensor, ...]:
    return torch.split(queries, _QUERIES_PER_BLOCK) if len(queries) else ()


def _search_block(
    queries: Tensor, vectors: Tensor, k: int, metric: Metric
) -> tuple[Tensor, Tensor]:
    scores = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(vectors), _VECTORS_PER_BLOCK):
        block = _SCORES[metric](queries, vectors[start : start + _VECTORS_PER_BLOCK])
        numbers = torch.arange(start, start + block.shape[1], device=rows.device)
        scores = torch.cat([scores, block], dim=1)
        rows = torch.cat([rows, numbers.expand(len(queries), -1)], dim=1)
        scores, best = scores.topk(min(k, scores.shape[1]), dim=1)
        rows = rows.gather(1, best)
    return scores, rows


def _cosine(queries: Tensor, vectors: Tensor) -> Tensor:
    return unit(queries) @ unit(vectors).mT


def _minus_distance(queries: Tensor, vectors: Tensor) -> Tensor:
    exact = "donot_use_mm_for_euclid_dist"  # the product form loses near neighbours to rounding
    return -torch.cdist(queries, vectors, compute_mode=exact)


_SCORES: "dict[str, Callable[[Tensor, Tensor], Tensor]]" = {
    "cosine": _cosine,
    "dot": lambda queries, vectors: queries @ vectors.mT,
    "euclidean": _minus_distance,
}


class FaissSearch:
    """A FAISS index over vectors, built anew whenever it is needed and never saved."""

    def __init__(self, vectors: Float[Tensor, "n d"], factory: str, metric: Metric) -> None:
        """Trains and fills the index.

        Args:
            vectors: What is searched.
            factory: FAISS's own description of the index, such as "Flat" or "HNSW32".
            metric: "cosine", "dot" or "euclidean".

        Raises:
            MissingExtraError: FAISS is not installed.
            DecoderError: FAISS takes neither the description nor the vectors.
        """
        require("index", "faiss", purpose="a FAISS index")
        import faiss

        kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        self._metric = metric
        data = _plain(vectors, metric)
        try:
            self._index = faiss.index_factory(vectors.shape[1], factory, kind)
            self._index.train(data)
            self._index.add(data)
        except (RuntimeError, AssertionError) as error:
            text = " ".join(str(error).split())
            raise DecoderError(
                f"FAISS builds no index {factory!r} of {tuple(vectors.shape)} vectors: {text}"
            ) from error

    def search(self, queries: Float[Tensor, "m d"], k: int) -> tuple[Tensor, Tensor]:
        """As `search_exactly`; a row is -1 where an approximate index finds fewer than k."""
        scores, rows = self._index.search(_plain(queries, self._metric), k)
        found = torch.from_numpy(scores)
        if self._metric == "euclidean":
            found = -found.clamp(min=0).sqrt()
        return found, torch.from_numpy(rows)


def unit(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of unit L2 norm; a zero row stays zero."""
    return torch.nn.functional.normalize(vectors, dim=1)


def _plain(vectors: Tensor, metric: Metric) -> Any:
    scaled = unit(vectors) if metric == "cosine" else vectors
    return scaled.float().cpu().contiguous().numpy()
