"""The generation experiment: stitched pictures lie between native and untranslated ones."""

import pytest
import reproduce
from experiments.results_page import PAGE

pytestmark = pytest.mark.slow

HEADER = ["narrow → wide", "wide → narrow"]


def scores(printed):
    """The table's numbers by row."""
    lines = [line for line in printed.splitlines() if line.strip()]
    table = lines[lines.index(next(line for line in lines if line.split("  ")[-1] in HEADER)) + 1 :]
    cells = [[part.strip() for part in line.split("  ") if part.strip()] for line in table]
    return {row[0]: [float(cell) for cell in row[1:]] for row in cells}


def test_stitched_digits_lie_between_native_and_untranslated_ones(capsys):
    before = PAGE.read_bytes() if PAGE.exists() else None
    arguments = ["--quick", "--seeds", "1", "--epochs", "20"]
    assert reproduce.main(["generation", *arguments]) == 0
    rows = scores(capsys.readouterr().out)
    for column, _ in enumerate(HEADER):
        error = {name: values[column] for name, values in rows.items()}
        assert error["native"] < error["linear"] < error["l_ortho"] < error["untranslated"]
        assert error["native"] < error["ortho"] < error["mean image"] < error["untranslated"]
    assert (PAGE.read_bytes() if PAGE.exists() else None) == before
