"""The experiments with `--quick`: their tables, whose orders are sane; docs stay as they are."""

import argparse
import re
import shlex

import benchmark
import pytest
import reproduce
from experiments.results_page import PAGE

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def page():
    before = PAGE.read_bytes() if PAGE.exists() else None
    yield
    assert (PAGE.read_bytes() if PAGE.exists() else None) == before


def tables(printed):
    """Title -> row's name -> means, one per column."""
    found = {}
    for title, table in re.findall(r"\n(.+)\n\n((?:.+\n)+)", printed):
        header, *lines = table.splitlines()
        columns = re.split(r"  +", header)[1:]
        cells = (re.split(r"  +", line) for line in lines)
        found[title] = {
            name: dict(zip(columns, (float(cell.split()[0]) for cell in row), strict=True))
            for name, *row in cells
        }
    return found


def test_a_head_reads_translated_digits_and_nothing_else(capsys):
    assert reproduce.main(["cross-architecture", "--quick", "--seeds", "2"]) == 0
    (rows,) = tables(capsys.readouterr().out).values()
    assert set(rows) >= {"affine", "linear", "l_ortho", "ortho", "affine, alpha=0.1"}
    for pair in ("narrow → wide", "wide → narrow"):
        scores = {name: cells[pair] for name, cells in rows.items()}
        assert scores["native"] > scores["linear"] > scores["relative"] > scores["chance"]
        assert scores["native"] > scores["ortho"] > 0.5 > 0.3 > scores["ortho, shuffled pairs"]
        assert scores["absolute"] < 0.3


def test_more_anchors_help_and_every_choice_has_its_table(capsys):
    assert reproduce.main(["sensitivity", "--quick", "--seeds", "2"]) == 0
    found = tables(capsys.readouterr().out)
    titles = ["accuracy by number", "recall@1 by number", "accuracy by width", "recall@1 by width"]
    titles += ["accuracy by scaling", "recall@1 by scaling"]
    for title, (printed, rows) in zip(titles, found.items(), strict=True):
        assert title in printed
        assert min(rows["linear"].values()) > max(rows["chance"].values())
    by_number = next(iter(found.values()))
    assert by_number["linear"]["25"] < by_number["linear"]["1,000"] < by_number["native"]["1,000"]


@pytest.mark.parametrize("experiment", ["cross-architecture", "sensitivity"])
def test_a_dataset_that_is_not_known_is_refused(experiment, capsys):
    with pytest.raises(SystemExit):
        reproduce.main([experiment, "--tasks", "imagenet"])
    assert "fashion-mnist" in capsys.readouterr().err


def test_every_table_on_the_results_page_names_a_command_that_its_script_understands():
    text = PAGE.read_text(encoding="utf-8")
    sections = re.findall(r"<!-- begin (.+?) -->\n(.*?)<!-- end \1 -->", text, re.DOTALL)
    assert text.count("<!-- begin ") == text.count("<!-- end ") == len(sections) > 0
    for name, content in sections:
        command = re.search(
            r"`python scripts/(reproduce|benchmark).py ([\w-]+)( .+?)?`, \d{4}-\d\d-\d\d, ",
            content,
        )
        assert command, name
        script = {"reproduce": reproduce, "benchmark": benchmark}[command[1]]
        parser = argparse.ArgumentParser(exit_on_error=False)
        script.COMMANDS[command[2]].add_arguments(parser)
        arguments = vars(parser.parse_args(shlex.split(command[3] or "")))
        assert arguments.get("write") or arguments.keys() & {"report"}


def test_numbers_outside_the_printed_tables_are_those_of_a_table_or_a_quotation():
    text = PAGE.read_text(encoding="utf-8")
    printed = "".join(re.findall(r"<!-- begin .+? -->\n(.*?)<!-- end ", text, re.DOTALL))
    prose = re.sub(r"<!-- begin (.+?) -->\n.*?<!-- end \1 -->", "", text, flags=re.DOTALL)
    prose = re.sub(r"\n>.*", "", prose)
    for number in re.findall(r"(?<![\d.])0?\.\d\d\d\b", prose):
        assert number.lstrip("0") in printed, number
