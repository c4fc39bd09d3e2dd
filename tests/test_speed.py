"""The benchmark of speed: every row runs, works take turns, ratios are turn by turn."""

import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

import benchmark
import pytest
import torch
from benchmarks.speed import report
from speed.contest import ROWS, Contest, Measured, Scale, keep, kept, measure
from speed.memory import peak_mib
from speed.model import BANDWIDTH, Fit, scaling_table
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
    assert (tmp_path / "speed.png").exists() == (find_spec("matplotlib") is not None)


def add_100_mib():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.ones(100 * 2**18, device=device).sum()


def test_peak_memory_is_what_a_work_adds():
    new = get_context("spawn")  # one that ran other tests may hold as much that is free
    with ProcessPoolExecutor(1, mp_context=new) as process:
        assert 99 < process.submit(peak_mib, add_100_mib).result(timeout=120) < 115


def test_the_model_shares_whole_chunks_and_adds_what_is_gathered():
    fit = Fit("fit", alone=5.0, pairs=10_000, rate=100.0, chunk=1_000, widths=(384, 768))
    gathered = 8 * (384 * (384 + 768) + 384 + 2 * 768) / BANDWIDTH
    assert fit.seconds(1) == 5 + 100
    assert fit.seconds(3) == pytest.approx(5 + 40 + 3 * gathered)


def test_the_model_stands_beside_what_two_processes_took():
    times = [
        {"2 processes": [12.0], "1 process": [10.0]},
        {"2 processes": [19.0], "1 process": [26.0]},
    ]
    few, many = (
        Measured("row", f"{n:,} pairs", one, size=n)
        for n, one in zip((2_000, 65_536), times, strict=True)
    )
    texts = Measured("GPU", "1,000 pairs", {"fit": [0.5]})
    shown = scaling_table([few, many], "row", texts).to_markdown().splitlines()
    assert shown[2].startswith("| files, one core each | 65,536 | 26 s | 18 s |")
    assert "2,000 pairs a second and GPU (measured)" in shown[3]
    assert shown[-1].startswith("| files, measured | 65,536 | 26 s | 19 s |")


@pytest.mark.slow
def test_a_quick_run_prints_every_row(capsys):
    assert benchmark.main(["speed", "--quick"]) == 0
    shown = capsys.readouterr().out
    for one in ROWS.values():
        assert one.device != "cpu" or one.name in shown
