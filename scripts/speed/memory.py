"""Peak memory of one work, in a process of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import torch

from speed.contest import ROWS, Scale

SCRIPT = Path(__file__).parents[1] / "benchmark.py"
PATIENCE = 1800


def peak_in_own_process(row: str, case: str, work: str) -> float:
    """Starts a process that runs one work once; MiB beyond its input."""
    wanted = json.dumps([row, case, work])
    command = [sys.executable, str(SCRIPT), "speed", "--peak", wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return float(done.stdout.splitlines()[-1])


def print_peak(wanted: str, scale: Scale) -> None:
    """Runs the work that a JSON list names, and prints its peak memory in MiB."""
    row, case, work = json.loads(wanted)
    for contest in ROWS[row].contests(scale):
        if contest.case == case:
            print(peak_mib(contest.works[work]))
            return
    raise ValueError(f"row {row!r} has no case {case!r}")


def peak_mib(work: object) -> float:
    """How far the process grows while a work runs, on the GPU if there is one; in MiB."""
    if not callable(work):
        raise TypeError(f"a work must be callable, got {work!r}")
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 2**10


def _status(name: str) -> int:
    """A value of this process's status, in KiB."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"/proc/self/status says nothing of {name}")
    return int(found[1])
