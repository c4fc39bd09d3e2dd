"""Tables of scores: mean ± deviation over seeds, as plain text and as Markdown."""

import statistics
from collections.abc import Sequence

Cell = str | float | Sequence[float]


class Table:
    """Rows with a name and one cell per column.

    A cell is a text, one score, or the scores of several seeds, which are shown as their mean and
    standard deviation (that of a sample, ddof=1).

    Attributes:
        header: Names of the columns, that of the rows' names first.
        rows: The cells as texts, the row's name first.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self.header = list(header)
        self.rows: list[list[str]] = []

    def add(self, name: str, cells: Sequence[Cell]) -> None:
        """Adds a row.

        Raises:
            ValueError: Not one cell for each column.
        """
        if len(cells) != len(self.header) - 1:
            raise ValueError(
                f"a row needs {len(self.header) - 1} cells under {self.header[1:]}, "
                f"got {len(cells)}: {list(cells)}"
            )
        self.rows.append([name, *map(show, cells)])

    def to_markdown(self) -> str:
        """The table in Markdown, numbers to the right."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows))

    def __str__(self) -> str:
        rows = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in rows
        )


def show(cell: Cell) -> str:
    """A cell as text: "0.942 ± 0.003" for several seeds, "0.942" for one score."""
    if isinstance(cell, str):
        return cell
    values = [float(cell)] if isinstance(cell, int | float) else [float(v) for v in cell]
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
