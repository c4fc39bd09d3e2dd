"""The benchmark of speed: every row runs, works take turns, ratios are turn by turn."""

import time

import benchmark
import pytest
import torch
from benchmarks.speed import report
from speed.contest import ROWS, Contest, Measured, Scale, keep, kept, measure
from speed.memory import peak_mib
from speed.report import table


def test_works_take_turns_after_one_run_each():
    order = []

    def slow(name):
        order.append(name)
        time.sleep(0.02)

    works = {"ours": lambda: slow("a"), "theirs": lambda: slow("b")}
    measured = measure(Contest("case", works), "row", Scale(repeats=3))
    assert "".join(order) == "abababab"
    assert [len(times) for times in measured.seconds.values()] == [3, 3]


MEASURED = Measured("row", "1 pair", {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 4.0]})


def test_ratios_are_those_of_each_turn():
    assert MEASURED.ratios("theirs") == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("ratio", "shown"), [(1.9, "1.90"), (2.1, "2.10, missed")])
def test_a_missed_goal_is_named(ratio, shown):
    wanted = [(ratio, "theirs")]
    text = str(table([Measured("row", "", MEASURED.seconds, wanted)]))
    assert text.endswith(shown)


def test_a_result_takes_the_place_of_an_earlier_one_of_its_case(tmp_path):
    path = tmp_path / "cpu.json"
    again = Measured("row", "1 pair", {"ours": [5.0]}, [(0.5, "ours")])
    other = Measured("row", "2 pairs", {"ours": [6.0]})
    for one in (MEASURED, other, again):
        keep(path, one)
    assert kept(path) == [other, again]


def test_the_report_goes_into_its_section_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin speed -->\nold\n<!-- end speed -->\nafter\n")
    name = next(iter(ROWS))
    for n in (10, 100):
        keep(tmp_path / "cpu.json", Measured(name, f"{n}", {"ours": [1.0 * n]}, size=n))
    report(tmp_path, page, tmp_path / "speed.png")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert f"| {name} | 10 | ours | 10 s |" in text
    assert "old" not in text
    assert (tmp_path / "speed.png").stat().st_size > 0


def test_peak_memory_is_what_a_work_adds():
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def work():
        torch.ones(25 * 2**18, device=device).sum()

    assert 24 < peak_mib(work) < 40


@pytest.mark.slow
def test_a_quick_run_prints_every_row(capsys):
    assert benchmark.main(["speed", "--quick"]) == 0
    shown = capsys.readouterr().out
    for one in ROWS.values():
        assert one.device != "cpu" or one.name in shown
