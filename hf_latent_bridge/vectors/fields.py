"""The one rule by which the vectors of a file are found among its columns, keys or tensors."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hf_latent_bridge.errors import InvalidLatentsError

WELL_KNOWN = {
    *("embedding", "embeddings", "emb", "embs", "vector", "vectors", "vec", "values"),
    *("latent", "latents", "dense_vector", "sentence_embedding", "sentence_embeddings"),
    *("text_embedding", "image_embedding"),
}
COLUMN = "latents"  # of vectors that have no name of their own
_SHOWN = 12  # names in an error
_NUMBERED = re.compile(r"(.*?)(\d+)\Z", re.DOTALL)


@dataclass(frozen=True)
class Field:
    """Where the vectors are.

    Attributes:
        name: Of the column, or the pattern of several.
        columns: The one column, or one per dimension in their order.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def is_wide(self) -> bool:
        """Whether each dimension has a column of its own."""
        return self.columns != (self.name,)

    def title(self, names: Iterable[str]) -> str:
        """The name of a column with whole vectors, which none of the other columns has."""
        if not self.is_wide:
            return self.name
        others = set(names) - set(self.columns)
        title = self.name.strip("*_-. ") or COLUMN
        while title in others:
            title += "_"
        return title


def find_field(
    where: object,
    wanted: str | None,
    vectors: Sequence[str],
    numbers: Sequence[str] = (),
    others: Sequence[str] = (),
) -> Field:
    """The field that is wanted, or the only one there can be.

    Args:
        where: The file, for the error.
        wanted: A name, or a pattern of columns such as `dim_*`.
        vectors: Names of the columns that hold vectors.
        numbers: Names of the columns that hold one number a row, in their order.
        others: Whatever else there is, for the error.

    Raises:
        InvalidLatentsError: There is no such field, or several could be meant.
    """
    groups = _groups(numbers)
    found = _only(vectors, groups) if wanted is None else _named(wanted, vectors, numbers, groups)
    if found is not None:
        return found
    known = _shortened([*vectors, *(group.name for group in groups)])
    if not known:
        named = "" if wanted is None else f" {wanted!r}"
        there = _shortened([*numbers, *others])
        raise InvalidLatentsError(
            f"{where} has no column of vectors{named}: a column must hold lists of floating "
            "numbers (or their text), or each dimension a numbered column such as dim_0, dim_1; "
            f"it has {there}"
        )
    got = "none" if wanted is None else repr(wanted)
    raise InvalidLatentsError(f"{where} holds {known}: name one as column, got {got}")


def likely(floats: Sequence[str], integers: Sequence[str]) -> list[str]:
    """The columns that can be meant where none is named.

    Integers are quantised vectors only where their column is named as one, or no other has floats.
    """
    return [*floats, *filter(is_well_known, integers)] or [*integers]


def is_well_known(path: str) -> bool:
    """Whether a column, or a field at a path, is named as vectors mostly are."""
    return re.split(r"[./]", path)[-1].lower() in WELL_KNOWN


def without_columns(where: object, wanted: str) -> InvalidLatentsError:
    """The error for a column that was named in a file that has vectors alone."""
    return InvalidLatentsError(
        f"{where} holds vectors alone, and no column {wanted!r}: name no column for it"
    )


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts shard-2 before shard-10."""
    pieces = re.split(r"(\d+)", name)
    return [(1, int(p), p) if p.isdecimal() else (0, 0, p) for p in pieces]


def steps(name: str) -> tuple[str | int, ...]:
    """A path such as `body.data[0].embedding` as keys and positions."""
    found = re.findall(r"\[(\d+)\]|([^.\[\]]+)", name)
    return tuple(int(position) if position else key for position, key in found)


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) <= _SHOWN else [*names[:_SHOWN], "..."]


def _only(vectors: Sequence[str], groups: list[Field]) -> Field | None:
    chosen = vectors
    if len(vectors) > 1:
        chosen = list(filter(is_well_known, vectors))
    if len(chosen) == 1:
        return Field(chosen[0], (chosen[0],))
    return groups[0] if not vectors and len(groups) == 1 else None


def _named(
    wanted: str, vectors: Sequence[str], numbers: Sequence[str], groups: list[Field]
) -> Field | None:
    if wanted in vectors:
        return Field(wanted, (wanted,))
    if "*" in wanted:
        matched = sorted((n for n in numbers if fnmatchcase(n, wanted)), key=natural)
        return Field(wanted, tuple(matched)) if matched else None
    same = [
        group for group in groups if wanted in (group.name[:-1], group.name[:-1].rstrip("_-. "))
    ]
    return same[0] if len(same) == 1 else None


def _groups(numbers: Sequence[str]) -> list[Field]:
    """Columns that differ in a number at the end alone, counted from 0 or 1 without a gap."""
    by_prefix: dict[str, list[tuple[int, str]]] = {}
    for name in numbers:
        if matched := _NUMBERED.match(name):
            by_prefix.setdefault(matched[1], []).append((int(matched[2]), name))
    fields = []
    for prefix, members in by_prefix.items():
        members.sort()
        numbers_of = [number for number, _ in members]
        first = numbers_of[0]
        if first in (0, 1) and numbers_of == list(range(first, first + max(2, len(members)))):
            fields.append(Field(f"{prefix}*", tuple(name for _, name in members)))
    return fields
