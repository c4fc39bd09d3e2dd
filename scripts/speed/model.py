"""What a fit by many processes should take, from what it takes by one; checked with two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common import Table

from speed.contest import Measured

BANDWIDTH = 1e9  # bytes a second, at which every process receives the sums of all
PROCESSES = (1, 2, 8, 64)


@dataclass(frozen=True)
class Fit:
    """A fit whose time is that of its parts.

    Attributes:
        name: Its name in the table.
        alone: Seconds that do not depend on the number of pairs: imports, models, the solution.
        pairs: Number of pairs.
        rate: Pairs a second that one process reads, encodes and sums.
        chunk: Pairs in a chunk; a process does whole chunks.
        widths: Of both sides.
    """

    name: str
    alone: float
    pairs: int
    rate: float
    chunk: int
    widths: tuple[int, int]

    def seconds(self, processes: int) -> float:
        """Predicted time of so many processes, with as many GPUs or cores.

        The busiest process has a whole number of chunks. At the end each receives the sums of all,
        which are float64.
        """
        chunks = math.ceil(math.ceil(self.pairs / self.chunk) / processes)
        d_x, d_y = self.widths
        gathered = 8 * (d_x * (d_x + d_y) + d_x + 2 * d_y) * processes if processes > 1 else 0
        return self.alone + chunks * self.chunk / self.rate + gathered / BANDWIDTH


def scaling_table(
    results: Sequence[Measured], row: str, texts: Measured | None = None
) -> Table | None:
    """Predicted seconds for 1 to 64 processes, and what two took; None without measurements.

    Args:
        results: Measurements on the CPU.
        row: The row of fits by processes: a case of few pairs, and one of many.
        texts: A fit from texts on a GPU; without it, 2,000 pairs a second are assumed.
    """
    measured = sorted((one for one in results if one.row == row), key=lambda one: one.size or 0)
    if len(measured) < 2:
        return None
    few, many = measured[0], measured[-1]
    alone, whole = few.median("1 process"), many.median("1 process")
    n = many.size or 0
    rate = _pairs_of(texts) / texts.median(texts.ours) if texts else 2_000.0
    name = f"texts, {rate:,.0f} pairs a second and GPU ({'measured' if texts else 'assumed'})"
    fits = [
        Fit("files, one core each", alone, n, n / (whole - alone), 16_384, (384, 768)),
        *(Fit(name, 20.0, pairs, rate, 1_024, (384, 768)) for pairs in (10**6, 10**8)),
    ]
    table = Table(["fit", "pairs", *(f"{p} process{'es' * (p > 1)}" for p in PROCESSES)])
    for fit in fits:
        table.add(fit.name, [f"{fit.pairs:,}", *(f"{fit.seconds(p):,.0f} s" for p in PROCESSES)])
    took = f"{many.median('2 processes'):,.0f} s"
    table.add("files, measured", [f"{n:,}", f"{whole:,.0f} s", took, "", ""])
    return table


def _pairs_of(measured: Measured) -> int:
    """The number of pairs that a case names first, such as "16,384 pairs"."""
    return int(measured.case.split()[0].replace(",", ""))
