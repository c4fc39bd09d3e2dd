"""Processes that a test starts, which end with it even where it fails."""

import os
import subprocess
import sys
import time

PATIENCE = 240  # seconds; no test waits longer for a process
GRACE = 20
ON_CPUS = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}


class Process(subprocess.Popen):
    """A process that is ended at the end of its `with` block, where `Popen` would wait for it."""

    def __exit__(self, *exception):
        if self.poll() is None:
            self.terminate()  # torchrun ends its workers then
            try:
                self.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.kill()
        super().__exit__(*exception)


def finished(command, *, check=True, timeout=PATIENCE, **options):
    """Runs a process to its end; returns it with its output as text."""
    pipes = {"capture_output": True, "text": True}
    return subprocess.run(command, check=check, timeout=timeout, **pipes, **options)


def hang(rows):
    """Work that is not done before a test gives up, if there is any; other processes find it."""
    if len(rows):
        time.sleep(PATIENCE)
    return rows


def torchrun(count, *arguments):
    """The command that starts a script as `count` processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc_per_node", str(count), *map(str, arguments)]
