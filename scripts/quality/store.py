"""The results of the comparison: those of the tables in docs/measured, newer ones in the cache.

A cell is computed once for each method. A run that was interrupted goes on where it stopped, a new
method is added to the cells that are there, and nobody computes again what the repository holds.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assets.cache import cache_root
from common import ROOT

from quality.cells import Cell, Results
from quality.methods import Method

MEASURED = ROOT / "docs" / "measured"
_DIGITS = 5

Kept = dict[str, Any]  # a cell's facts, and its results


class Store:
    """The results of one data set.

    Attributes:
        folder: Of what was computed since the last `publish`, one file for each cell.
        published: The file of all others, a line for each cell.
    """

    def __init__(self, data: str, *, root: Path | None = None) -> None:
        self.folder = (root or cache_root()) / "quality" / data
        self.published = (root or MEASURED) / f"{data}.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)

    def fill(self, cell: Cell, methods: Sequence[Method], *, again: Sequence[str] = ()) -> bool:
        """Computes the methods that the cell lacks; returns whether there were any.

        Args:
            cell: The cell.
            methods: Those to be there in the end.
            again: Names of methods to compute anew.
        """
        known = published_cells(self.published).get(cell.name, {"results": {}})["results"]
        path = self.folder / f"{cell.name}.json"
        newer = (
            json.loads(path.read_text())
            if path.exists()
            else {"name": cell.name, **cell.facts, "results": {}}
        )
        there = (known.keys() - set(again)) | newer["results"].keys()
        missing = [one for one in methods if one.name not in there and cell.accepts(one)]
        if not missing:
            return False
        newer["results"] |= cell.compute(missing)
        _replace(path, json.dumps(newer, indent=1))
        return True

    def read(self) -> list[Kept]:
        """All cells that are there, by name."""
        cells = published_cells(self.published)
        for path in sorted(self.folder.glob("*.json")):
            newer = json.loads(path.read_text())
            older = cells.get(path.stem, {"results": {}})["results"]
            cells[path.stem] = {**newer, "results": {**older, **newer["results"]}}
        return [cells[name] for name in sorted(cells)]

    def publish(self) -> None:
        """Moves what was computed into the published file."""
        newer = list(self.folder.glob("*.json"))
        if newer:
            lines = [json.dumps(_packed(cell)) + "\n" for cell in self.read()]
            self.published.parent.mkdir(parents=True, exist_ok=True)
            _replace(self.published, "".join(lines))
        for path in newer:
            path.unlink()


def published_cells(path: Path) -> dict[str, Kept]:
    """The cells of a published file by name; none if there is no such file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {cell["name"]: cell for cell in map(_unpacked, map(json.loads, lines))}


def _packed(cell: Kept) -> Kept:
    """The cell with rounded numbers, each method's scores a list in the order of `scores`."""
    rows = [row for method in cell["results"].values() for row in method.values()]
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))

    def packed(row: Any) -> Any:
        return (
            [_rounded(row.get(name)) for name in names] if isinstance(row, dict) else _rounded(row)
        )

    return {**cell, "scores": names, "results": _mapped(packed, cell["results"])}


def _unpacked(line: Kept) -> Kept:
    cell = dict(line)
    names = cell.pop("scores")

    def unpacked(row: Any) -> Any:
        if not isinstance(row, list):
            return row
        return {name: value for name, value in zip(names, row, strict=True) if value is not None}

    return {**cell, "results": _mapped(unpacked, cell["results"])}


def _mapped(change: Callable[[Any], Any], results: Results) -> Results:
    return {
        method: {where: change(row) for where, row in rows.items()}
        for method, rows in results.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)
