"""Every endpoint that the Space lists stands hostile input, and a crowd at once."""

import os

import pytest
from space.attack import Reply, report
from space_repos import running_space

pytestmark = pytest.mark.slow

CLIENTS, SECONDS, VALUES = 20, 3.0, 2  # `python scripts/space attack` takes more of each


def test_hostile_input_is_refused_in_plain_words_and_leaves_nothing(repos, tmp_path, capsys):
    pid, folder = tmp_path / "pid", tmp_path / "visitors"
    folder.mkdir()
    plugin = f"import os, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    environment = {"GRADIO_TEMP_DIR": str(folder)}
    log = tmp_path / "log.txt"
    with running_space(repos.settings.namespace, log, plugin=plugin, **environment) as address:
        process = int(pid.read_text())
        problems = report(address, process, folder, CLIENTS, SECONDS, most=VALUES)
        os.kill(process, 0)  # still there
    assert problems == []
    assert f"{CLIENTS} clients for 3 s, answered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        (None, None),
        ("Please type a query.", None),
        ("", "refused without a word"),
        ("x" * 701, "701 characters"),
        ("This went wrong on our side; please try again.", "says 'our side'"),
        ("cannot open /tmp/gradio/x.npy", "says '/tmp/'"),
        ("&lt;b&gt; is not a name", "says '&lt;'"),
    ],
)
def test_what_a_refusal_must_not_say(refusal, problem):
    found = Reply("/search query: script", refusal).problem
    assert found is None if problem is None else problem in found
