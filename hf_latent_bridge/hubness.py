"""Hubs: items that come up for far too many queries, and how an index takes that into account.

A hub has a high cosine with queries of all kinds. Cross-domain similarity local scaling (CSLS;
Conneau et al. 2018, arXiv 1710.04087, eq. 3) ranks item y for query q by q·y - r(y)/2, where r(y)
is the mean cosine of y with its nearest neighbours in a bank of queries (QB-Norm, Bogolin et al.
2022, arXiv 2112.12777). The term of the query itself is the same for all items and drops out of
the ranking. So the correction is one number per item, and folds into one or two more coordinates:
any store of vectors then ranks by the corrected score.
"""

from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.latents import (
    Array,
    Latents,
    all_finite,
    as_tensor,
    check_finite,
    like,
    unit_rows,
)

Hubness = Literal["csls"]
Metric = Literal["dot", "cosine", "euclidean"]
_COSINES_PER_BLOCK = 2**24


@overload
def neighbor_similarity(items: Tensor, bank: Latents, *, n_neighbors: int = 10) -> Tensor: ...
@overload
def neighbor_similarity(items: Array, bank: Latents, *, n_neighbors: int = 10) -> Array: ...
def neighbor_similarity(items: Latents, bank: Latents, *, n_neighbors: int = 10) -> Latents:
    """The mean cosine of each item with its nearest neighbours in a bank of queries.

    It corrects searches for queries like those of the bank: a bank of documents does not help
    queries of another kind. Memory stays bounded whatever the number of items.

    Args:
        items: What is searched, (n, d).
        bank: Latents of queries in the same space, (m, d), at least `n_neighbors` of them; the
            translated anchors of the fit, for example.
        n_neighbors: How many of the bank's nearest count.

    Returns:
        r, (n,), each in [-1, 1].

    Raises:
        InvalidLatentsError: Not two matrices of one width, NaN or infinity.
        ValueError: `n_neighbors` is less than 1 or more than the bank has.
    """
    x, queries = _rows(items, "items"), _rows(bank, "bank")
    if x.shape[1] != queries.shape[1]:
        raise InvalidLatentsError(
            f"items and bank must have one width, got {x.shape[1]} and {queries.shape[1]}"
        )
    k = check_neighbors(n_neighbors, len(queries))
    return like(_mean_of_nearest(x, unit_rows(queries).to(x), k).to(x.dtype), items)


@overload
def csls_scores(cosines: Tensor, similarity: Tensor) -> Tensor: ...
@overload
def csls_scores(cosines: Array, similarity: Array) -> Array: ...
def csls_scores(cosines: Latents, similarity: Latents) -> Latents:
    """Cosines with the correction: for re-scoring a list that a store has found.

    Args:
        cosines: Cosines of queries and items, (m, k) or (k,).
        similarity: r of the same items, of a shape that broadcasts with `cosines`.

    Returns:
        cosines - similarity / 2; higher is better.

    Raises:
        InvalidLatentsError: The shapes do not go together.
    """
    found, r = as_tensor(cosines), as_tensor(similarity)
    try:
        np.broadcast_shapes(found.shape, r.shape)
    except ValueError as error:
        raise InvalidLatentsError(
            "similarity needs one number per item, of a shape that broadcasts with that of the "
            f"cosines, got {tuple(r.shape)} for {tuple(found.shape)}"
        ) from error
    return like(found - r.to(found) / 2, cosines)


@overload
def fold_items(
    items: Tensor, bank: Latents, *, n_neighbors: int = 10, metric: Metric = "dot"
) -> Tensor: ...
@overload
def fold_items(
    items: Array, bank: Latents, *, n_neighbors: int = 10, metric: Metric = "dot"
) -> Array: ...
def fold_items(
    items: Latents, bank: Latents, *, n_neighbors: int = 10, metric: Metric = "dot"
) -> Latents:
    """Items for a store, so that it ranks folded queries by the corrected score.

    Each item depends on itself and the bank alone, so items can be added at any time.

    Args:
        items: What is searched, (n, d); scaled to unit L2 norm.
        bank: Latents of queries in the same space, (m, d).
        n_neighbors: How many of the bank's nearest count.
        metric: What the store ranks by. "dot" takes one more coordinate; "cosine" and "euclidean"
            take two, the second of which keeps all norms equal.

    Returns:
        (n, d + 1) or (n, d + 2).

    Raises:
        InvalidLatentsError: Not two matrices of one width, NaN or infinity.
        ValueError: An unknown metric, or `n_neighbors` out of range.
    """
    _check_metric(metric)
    x = _rows(items, "items")
    r = neighbor_similarity(x, bank, n_neighbors=n_neighbors)
    return like(append_similarity(x, r, metric=metric), items)


def append_similarity(
    items: Float[Tensor, "n d"], similarity: Float[Tensor, " n"], *, metric: Metric = "dot"
) -> Tensor:
    """As `fold_items`, where r of each item is known already.

    Args:
        items: (n, d); scaled to unit L2 norm.
        similarity: r of each item, (n,), from `neighbor_similarity`.
        metric: What the store ranks by.

    Returns:
        (n, d + 1) or (n, d + 2).
    """
    unit, r = unit_rows(items), similarity.to(items)[:, None]
    if metric == "dot":
        return torch.cat([unit, r], dim=1)
    lengths = unit.any(1, keepdim=True).to(r)  # 0 for rows of zeros, which have no direction
    rest = (2 - lengths - r.square()).clamp(min=0).sqrt()
    return torch.cat([unit, r, rest], dim=1)


@overload
def fold_queries(queries: Tensor, *, metric: Metric = "dot") -> Tensor: ...
@overload
def fold_queries(queries: Array, *, metric: Metric = "dot") -> Array: ...
def fold_queries(queries: Latents, *, metric: Metric = "dot") -> Latents:
    """Queries for a store of folded items.

    Args:
        queries: (m, d); scaled to unit L2 norm.
        metric: As for `fold_items`.

    Returns:
        (m, d + 1) or (m, d + 2). Their dot product with folded items is q·y - r(y)/2.

    Raises:
        InvalidLatentsError: Not a matrix, NaN or infinity.
        ValueError: An unknown metric.
    """
    _check_metric(metric)
    q = unit_rows(_rows(queries, "queries"))
    more = torch.tensor([-0.5] if metric == "dot" else [-0.5, 0.0]).to(q)
    return like(torch.cat([q, more.expand(len(q), -1)], dim=1), queries)


@overload
def rescore(
    cosines: Tensor, rows: Tensor, similarity: Tensor, *, top_k: int = 10
) -> tuple[Tensor, Tensor]: ...
@overload
def rescore(
    cosines: Array, rows: Array, similarity: Array, *, top_k: int = 10
) -> tuple[Array, Array]: ...
def rescore(
    cosines: Latents, rows: Latents, similarity: Latents, *, top_k: int = 10
) -> tuple[Latents, Latents]:
    """The best of a longer list by the corrected score, for a store that may not be rewritten.

    Ask the store for several times `top_k` items: an item that it does not find cannot move up.
    With all items found, the ranking is that of folded items.

    Args:
        cosines: Of each query with the items that the store found for it, (m, k).
        rows: Which items these are, (m, k), integers; negative where the store found fewer.
        similarity: r of all items, (n,), from `neighbor_similarity`.
        top_k: How many to keep; all where there are fewer.

    Returns:
        Corrected scores and rows, (m, top_k) each, best first. Where the store found fewer, the
        score is minus infinity and the row -1.

    Raises:
        InvalidLatentsError: `cosines` and `rows` (integers) are not two matrices of one shape, an
            item's cosine is NaN, `similarity` is not one finite number per item, or a row is beyond
            it.
        ValueError: `top_k` is less than 1.
    """
    found, items, r = as_tensor(cosines), torch.as_tensor(rows), as_tensor(similarity)
    if items.is_floating_point() or items.dtype == torch.bool:
        raise InvalidLatentsError(f"rows must be integers, got {items.dtype}")
    items = items.to(found.device).long()
    _check_found(found, items, r)
    check_count("top_k", top_k)
    scores = csls_scores(found, r.to(found)[items.clamp(min=0)])
    scores = scores.masked_fill(items < 0, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    ranked = items.gather(1, order).clamp(min=-1)[:, :top_k]
    scores = scores[:, :top_k]
    if isinstance(cosines, Tensor):
        return scores, ranked
    return scores.cpu().numpy(), ranked.cpu().numpy()


def check_neighbors(n_neighbors: object, size: int, error: type[ValueError] = ValueError) -> int:
    """The number of a bank's queries that count, if the bank has so many.

    Args:
        n_neighbors: How many count.
        size: Queries in the bank.
        error: The class of the error where they are too many, too few or no integer.

    Raises:
        InvalidLatentsError: The bank is empty.
        ValueError: `n_neighbors` is less than 1 or more than the bank has.
    """
    if size == 0:
        raise InvalidLatentsError("a bank needs at least one query, got none")
    also = ", the size of the bank"
    return check_count("n_neighbors", n_neighbors, most=size, also=also, error=error)


def _check_found(cosines: Tensor, rows: Tensor, similarity: Tensor) -> None:
    if cosines.ndim != 2 or rows.shape != cosines.shape:
        raise InvalidLatentsError(
            "cosines and rows must be two matrices of one shape (m, k), got "
            f"{tuple(cosines.shape)} and {tuple(rows.shape)}"
        )
    if bool((cosines.isnan() & (rows >= 0)).any()):
        raise InvalidLatentsError("cosines must be numbers where rows name an item, got NaN")
    if similarity.ndim != 1 or len(similarity) == 0:
        raise InvalidLatentsError(
            f"similarity must be one number per item, (n,), got shape {tuple(similarity.shape)}"
        )
    if not all_finite(similarity):
        raise InvalidLatentsError("similarity must be numbers, got NaN or infinity")
    if rows.numel() and int(rows.max()) >= len(similarity):
        raise InvalidLatentsError(
            f"rows must be below {len(similarity)}, the length of similarity, got {int(rows.max())}"
        )


def _mean_of_nearest(
    items: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int
) -> Float[Tensor, " n"]:
    """The mean cosine of each item with the k nearest rows of a bank, of unit norm."""
    blocks = torch.split(items, max(1, _COSINES_PER_BLOCK // len(bank)))
    return torch.cat([(unit_rows(x) @ bank.mT).topk(k, dim=1)[0].mean(1) for x in blocks])


def _rows(latents: Latents, name: str) -> Tensor:
    x = as_tensor(latents)
    if x.ndim != 2 or x.shape[1] == 0:
        raise InvalidLatentsError(f"{name} must be a matrix (n, d), got shape {tuple(x.shape)}")
    check_finite(x)
    return x


def _check_metric(metric: str) -> None:
    if metric not in ("dot", "cosine", "euclidean"):
        raise ValueError(f"metric must be 'dot', 'cosine' or 'euclidean', got {metric!r}")
