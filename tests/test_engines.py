"""The examples in docs/scale.md translate the same rows as the translator, on each engine."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from benchmarks.engines import (
    NEEDS,
    Timing,
    cost_of,
    example,
    installed,
    prepare,
    table_of,
    translated_by,
)

from hf_latent_bridge import AutoTranslator

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("engine", installed())
def test_an_engine_translates_every_row_once_and_keeps_its_id(engine, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # as where nobody has set it
    prepare(tmp_path, 3000)
    translated_by(engine, tmp_path)
    translator = AutoTranslator.from_pretrained(tmp_path / "old-to-new")
    old, new = (
        {row["id"]: row["embedding"] for row in pq.read_table(tmp_path / name).to_pylist()}
        for name in ("old", "new")
    )
    assert sorted(new) == list(range(3000))
    wanted = translator.transform(np.array([old[i] for i in range(3000)], np.float32))
    found = np.array([new[i] for i in range(3000)], np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", NEEDS)
def test_an_example_is_short(engine):
    assert len(example(engine).splitlines()) <= 30


def test_a_billion_rows_cost_what_all_rounds_together_say():
    rounds = [Timing(rows=11_000, start=5, whole=5 + seconds) for seconds in (1, 3)]
    assert cost_of({"Spark": rounds}).rows == [["Spark", "5,000", "56", "26"]]


def test_an_engine_is_compared_with_the_command_line():
    timings = {name: [Timing(11_000, 5, 5 + s)] for name, s in (("command line", 2), ("Spark", 4))}
    assert [row[-1] for row in table_of(timings).rows] == ["1.00", "0.50"]
