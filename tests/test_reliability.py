"""Whatever job writes files: kills, failing disks, a second job and flipped bits lose nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import crash_jobs
import crashes
import pytest
from benchmarks import reliability
from common import Kept
from processes import Process

SCRIPT = Path(crashes.__file__)
QUICK = (
    "save over an old one: a translator",
    "fit with checkpoints, and save",
    "translate, put together: .jsonl",
)


@pytest.fixture(scope="module")
def tried():
    """What the harness says of a job, from a process that has loaded everything once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with Process([sys.executable, SCRIPT], env=environment, **pipes) as harness:
        harness.stdout.readline()

        def tried(name, **effort):
            request = [name, crashes.KINDS, effort]
            print(json.dumps(request), file=harness.stdin, flush=True)
            found = {}
            while line := harness.stdout.readline().strip():
                report = json.loads(line)
                found[report["kind"]] = report
            return found

        yield tried


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_job_that_is_disturbed_leaves_the_old_or_the_new_and_can_be_run_again(tried, name):
    found = tried(name, sample=3, rounds=2, flips=20, midway=20)
    assert [problem for report in found.values() for problem in report["problems"]] == []
    assert [found[kind]["runs"] for kind in ("killed", "full disk", "two at once")] == [3, 3, 2]
    assert found["flipped midway"]["runs"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(crash_jobs.JOBS.keys() - set(QUICK)))
def test_so_does_every_other_job(tried, name):
    found = tried(name, sample=1, rounds=1, flips=4, midway=2)
    assert found.keys() == set(crashes.KINDS)
    assert [problem for report in found.values() for problem in report["problems"]] == []


@pytest.mark.slow
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
    effort = crashes.Effort(rounds=0, flips=5)
    found = {each["kind"]: each for each in crashes.try_job(naive, tmp_path / "root", effort)}
    assert any("was left as" in problem for problem in found["killed"]["problems"])
    disk = found["full disk"]["problems"]
    assert any("names no file, or not what to do" in problem for problem in disk)
    assert any("reads as" in problem for problem in found["flipped bits"]["problems"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it forks
def test_a_job_that_goes_on_with_a_damaged_note_is_found_out(tmp_path):
    def run(folder, variant):
        note = folder / "note"
        if not note.exists():
            note.write_text(f"a note without a checksum, of variant {variant}")
        (folder / "step").write_text("nothing")
        (folder / "a").write_text(note.read_text())
        (folder / "step").unlink()
        note.unlink()

    def read(folder):
        return (folder / "a").read_text() if (folder / "a").exists() else None

    naive = crashes.Job("naive", "nothing", crashes.nothing, run, read)
    trial = crashes.Trial(naive, tmp_path / "root")
    report = crashes.try_kind(trial, "flipped midway", crashes.Effort(midway=20))
    assert report["runs"] == 20
    assert any("another run leaves" in problem for problem in report["problems"])


def test_jobs_that_share_a_row_are_added_up_and_what_does_not_apply_is_a_dash():
    def report(job, kind, runs, refused=None, problems=()):
        return locals() | {"promise": "promised"}

    found = [
        report("save: a map", "killed", 3),
        report("save: a map", "full disk", 0),
        report("save: a map", "flipped bits", 1000, refused=999),
        report("save: a head", "killed", 4, problems=["lost"]),
        report("save: a head", "full disk", 0),
        report("save: a head", "flipped bits", 1000, refused=1000),
    ]
    (row,) = reliability.table(found).rows
    assert row[:2] == ["save: a map, a head", "promised"]
    assert row[2:] == ["7", "-", "2,000 (1,999 refused)", "1"]


def test_a_result_is_kept_until_something_else_is_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_BRIDGE_CACHE", str(tmp_path))
    Kept("tried").write({"runs": 3}, "a job", "killed", None)
    assert Kept("tried").read("a job", "killed", None) == {"runs": 3}
    assert Kept("tried").read("a job", "killed", 10) is None
    assert len(list((tmp_path / "tried").iterdir())) == 1
