"""Every script says what it is for, and waits for the embedded Hub before it loads a client."""

import ast
import subprocess
import sys
from pathlib import Path

import benchmark
import publish
import pytest
import reproduce

ROOT = Path(__file__).parents[1]
FILES = [p for folder in ("scripts", "spaces_demo") for p in sorted((ROOT / folder).rglob("*.py"))]
COMMANDS = {"benchmark": benchmark, "publish": publish, "reproduce": reproduce}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_first_line_of_a_file_says_why_it_exists(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


@pytest.mark.slow
def test_no_script_loads_a_client_of_the_hub_before_it_is_told_which_hub():
    names = ", ".join([*COMMANDS, "demo", "quickstart"])
    code = f"import sys, {names}; print('huggingface_hub' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_subcommands_with_the_first_line_of_each(name, capsys):
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name].main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for command, file in COMMANDS[name].COMMANDS.items():
        assert f"{command} {file.__doc__.partition(chr(10))[0]}" in shown


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["everything"])
    assert ended.value.code == 2
    assert "invalid choice: 'everything'" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_benchmarks_print_their_tables(capsys):
    assert benchmark.main(["fit", "--rows", "1024"]) == 0
    assert "384 to 768, float32" in capsys.readouterr().out
