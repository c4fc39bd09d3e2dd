"""Vectors in HDF5 files: one two-dimensional dataset, with its neighbours of one dimension."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.fields import find_field, likely
from hf_latent_bridge.vectors.ids import check_lengths, is_column
from hf_latent_bridge.vectors.lines import Objects, objects_beside
from hf_latent_bridge.vectors.numbers import floating, to_floats, width
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, whole


class Hdf5Reader(VectorReader):
    """A matrix in an HDF5 file, named by its path, such as `train` or `group/embeddings`."""

    def __init__(self, source: VectorSource) -> None:
        """Finds the dataset.

        Raises:
            InvalidLatentsError: Truncated, or no matrix of floats, or several and none is named; or
                ids that are of another number.
        """
        import h5py

        super().__init__(source)
        with whole(source.path, "HDF5 file"), h5py.File(source.path, "r") as file:
            known = _datasets(file)
            self.column = _matrix_name(source, known)
            matrix = known[self.column]
            self.n, stored = matrix.shape
            where = f"{source.path}: dataset {self.column!r}"
            self.dtype = floating(matrix.dtype, source.scale, where)
            self.integers = matrix.dtype.kind in "iu"
            self.dim = width(stored, matrix.dtype, source.scale)
            near = {
                name: dataset
                for name, dataset in known.items()
                if name != self.column and dataset.parent == matrix.parent and dataset.shape
            }
            columns = {name: len(d) for name, d in near.items() if is_column(d.shape)}
            others = [len(d) for name, d in near.items() if name not in columns]
            lengths = {_last(name): length for name, length in columns.items()}
            check_lengths(source.path, _last(self.column), self.n, lengths, others)
            self._beside = [name for name, length in columns.items() if length == self.n]
            self.unfit = {name: length for name, length in lengths.items() if length != self.n}

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Slices of the dataset; the file is open only while it is read, for shards are many."""
        import h5py

        end = (self.n or 0) if stop is None else stop
        with h5py.File(self.source.path, "r") as file:
            for first in range(start, end, size):
                rows = slice(first, min(first + size, end))
                vectors = to_floats(np.asarray(file[str(self.column)][rows]), self.source.scale)
                beside = self._rows(file, rows) if payload and self._beside else None
                yield Part(vectors, beside)

    def _rows(self, file: Any, rows: slice) -> Objects:
        columns = {_last(name): _plain(file[name][rows].reshape(-1)) for name in self._beside}
        return objects_beside(columns, _last(str(self.column)))


def _datasets(file: Any) -> dict[str, Any]:
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            found[name] = entry

    file.visititems(visit)
    return found


def _matrix_name(source: VectorSource, known: dict[str, Any]) -> str:
    wanted = None if source.column is None else source.column.strip("/")
    matrices = {name: d.dtype.kind for name, d in known.items() if d.ndim == 2}
    floats = [name for name, kind in matrices.items() if kind == "f"]
    integers = [name for name, kind in matrices.items() if kind in "iu"]
    if wanted in known and wanted not in (*floats, *integers):
        raise InvalidLatentsError(
            f"{source.path}: {wanted!r} must be one floating matrix (n, d), got "
            f"{known[wanted].dtype} of {known[wanted].shape}"
        )
    others = [f"{name} ({d.dtype} of {d.shape})" for name, d in known.items()]
    vectors = floats + integers if wanted else likely(floats, integers)
    return find_field(source.path, wanted, vectors, others=others).name


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _plain(values: Any) -> list[Any]:
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values.tolist()]
