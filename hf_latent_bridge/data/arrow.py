"""Columns of `datasets`, read as Arrow: vectors as arrays, pictures decoded one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_latent_bridge.data.chunks import Rows
from hf_latent_bridge.data.columns import Column, as_index, fingerprint
from hf_latent_bridge.data.items import Items, Unreadable

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class ArrowColumn(Column):
    """A column that Arrow holds."""

    fetch: Callable[[slice | Rows], Any]
    feature: Any
    length: int
    content: str | None = None

    def __len__(self) -> int:
        return self.length

    def read(self, rows: Rows) -> Items:
        """The items of some rows, decoded."""
        return decode(self.fetch(as_index(rows)), self.feature)

    def fingerprint(self) -> str:
        """Equal for equal content: that of the dataset, or a hash of the items."""
        return self.content or fingerprint(list(self))


def dataset_column(dataset: "Dataset", name: str) -> Sequence[Any]:
    """A column of a map-style dataset; through its own format where the user has set one."""
    feature = dataset.features[name]
    kind = dataset.format["type"]
    if kind == "custom" or (kind not in (None, "arrow") and not is_vectors(feature)):
        column: Sequence[Any] = dataset[name]
        return column
    rows = dataset.select_columns([name]).with_format("arrow")
    return ArrowColumn(
        lambda index: rows[index].column(name),
        feature,
        len(dataset),
        f"{dataset._fingerprint} {name}",
    )


def table_column(table: Any, name: str, feature: Any) -> ArrowColumn:
    """A column of an Arrow table in memory."""

    def fetch(index: slice | Rows) -> Any:
        column = table.column(name)
        return column[index] if isinstance(index, slice) else column.take(index)

    return ArrowColumn(fetch, feature, len(table))


def is_vectors(feature: Any) -> bool:
    """Whether each row of such a column is a list of floating-point numbers."""
    inner = getattr(feature, "feature", None)
    return str(getattr(inner, "dtype", "")).startswith("float") and not hasattr(inner, "feature")


def decode(column: Any, feature: Any) -> Items:
    """An Arrow column as a list of items, or as a matrix if each row is a vector of one width."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if _holds_vectors(array.type):
        return _vectors(array)
    items: list[Any] = array.to_pylist()
    if getattr(feature, "decode", False):
        return [_decoded(feature, item) for item in items]
    return items


def _holds_vectors(kind: Any) -> bool:
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in lists) and types.is_floating(kind.value_type)


def _vectors(array: Any) -> Items:
    """A matrix, or a list of vectors and None where rows are missing or ragged."""
    from pyarrow import compute, types

    if array.null_count == 0 and len(array):
        fixed = types.is_fixed_size_list(array.type)
        widths = {array.type.list_size} if fixed else set(compute.list_value_length(array).unique())
        values = array.flatten().to_numpy(zero_copy_only=False)
        if len(widths) == 1:
            return np.asarray(values).reshape(len(array), -1)
    return [row.values.to_numpy(zero_copy_only=False) if row.is_valid else None for row in array]


def _decoded(feature: Any, item: Any) -> Any:
    if item is None:
        return None
    try:
        return feature.decode_example(item)
    except Exception as error:  # image libraries raise anything
        what = type(feature).__name__.lower()
        return Unreadable(f"is no readable {what} ({' '.join(str(error).split())[:80]})")
