"""No wait in the library, the scripts or the tests is endless."""

import ast
import signal
import sys
from pathlib import Path

import pytest
from processes import Process

ROOT = Path(__file__).parents[1]
FILES = [
    p
    for folder in ("hf_latent_bridge", "scripts", "spaces_demo", "tests")
    for p in sorted((ROOT / folder).rglob("*.py"))
]
WITHOUT_ARGUMENTS = {"acquire", "get", "join", "wait"}  # the first argument of these is a timeout
WITH_A_TIMEOUT = {
    "FileLock",
    "communicate",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.run",
}
LAST = {name.rpartition(".")[2] for name in (*WITHOUT_ARGUMENTS, *WITH_A_TIMEOUT)}
ENDLESS = {
    ("hf_latent_bridge/hub/waits.py", "_WATCH.get()"),  # a context variable
    ("hf_latent_bridge/vectors/stores/chroma.py", "c.get(include=wanted, **chosen)"),  # rows
    ("scripts/demo.py", "app.wait()"),  # until ctrl-c
}


def endless(code):
    """The calls in some code that may wait for ever."""
    tree = ast.parse(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bounded = {
        id(call.func.value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and has_timeout(call)
    }
    for call in calls:
        last = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if last not in LAST or has_timeout(call) or id(call) in bounded:
            continue
        name = ast.unparse(call.func)
        if (
            (last in WITHOUT_ARGUMENTS and "." in name and not call.args)
            or {name, last} & WITH_A_TIMEOUT
            or name == "wait"
        ):
            yield ast.unparse(call)


def has_timeout(call):
    return any(keyword.arg == "timeout" for keyword in call.keywords)


def test_every_wait_has_an_end():
    found = {
        (name, call)
        for path in FILES
        for name in [str(path.relative_to(ROOT))]
        for call in endless(path.read_text())
    }
    assert found <= ENDLESS, "give these a timeout"


@pytest.mark.parametrize(
    "code",
    [
        "p.wait()",
        "q.get()",
        "t.join()",
        "p.communicate(b'')",
        "subprocess.run(c)",
        "FileLock(p)",
        "wait(runs)",
    ],
)
def test_an_endless_wait_is_found(code):
    assert list(endless(code)) == [code]


@pytest.mark.parametrize(
    "code",
    [
        "p.wait(3)",
        "d.get('a')",
        "','.join(x)",
        "FileLock(p).acquire(timeout=1)",
        "wait(runs, timeout=1)",
    ],
)
def test_a_bounded_wait_is_not(code):
    assert not list(endless(code))


def test_a_process_can_be_interrupted_though_the_tests_run_in_the_background():
    """A shell starts background jobs with SIGINT ignored, which processes inherit."""
    code = "import time; print('up', flush=True); time.sleep(100)"
    with Process([sys.executable, "-c", code], stdout=-1, stderr=-1) as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in error
