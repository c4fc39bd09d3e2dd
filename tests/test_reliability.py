"""Whatever job writes files: kills, failing disks, a second job and flipped bits lose nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import crash_jobs
import crashes
import pytest
from processes import Process

SCRIPT = Path(crashes.__file__)
QUICK = (
    "save_pretrained, over an old one",
    "fit with checkpoints, and save",
    "translate to .jsonl",
)


@pytest.fixture(scope="module")
def tried():
    """What the harness says of a job, from a process that has loaded everything once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with Process([sys.executable, SCRIPT], env=environment, **pipes) as harness:

        def tried(name, **options):
            print(json.dumps([[name], options]), file=harness.stdin, flush=True)
            return json.loads(harness.stdout.readline())

        yield tried


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_job_that_is_disturbed_leaves_the_old_or_the_new_and_can_be_run_again(tried, name):
    report = tried(name, sample=3, rounds=2, flips=10)
    assert report["problems"] == []
    assert (report["killed"], report["full disk"], report["two at once"]) == (3, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(crash_jobs.JOBS.keys() - set(QUICK)))
def test_so_does_every_other_job(tried, name):
    assert tried(name, sample=1, rounds=1, flips=3)["problems"] == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it forks
def test_a_job_that_writes_in_two_steps_is_found_out(tmp_path):
    """Or the harness could not fail."""

    def start(folder):
        (folder / "a").write_text("old")
        (folder / "b").write_text("old")

    def run(folder, variant):
        (folder / "a").write_text(f"new {variant}")
        (folder / "b").write_text(f"new {variant}")

    def read(folder):
        return [(folder / name).read_text() for name in "ab"]

    naive = crashes.Job("naive", "nothing", start, run, read)
    report = crashes.try_job(naive, tmp_path / "root", sample=None, rounds=0, flips=5)
    assert any("killed at event" in problem for problem in report["problems"])
    assert any("names no file, or not what to do" in problem for problem in report["problems"])
    assert any("a flipped bit in" in problem for problem in report["problems"])
