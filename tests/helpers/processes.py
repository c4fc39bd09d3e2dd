"""Processes that a test starts, which end with it even where it fails."""

import subprocess

PATIENCE = 240  # seconds; no test waits longer for a process
_GRACE = 20


class Process(subprocess.Popen):
    """A process that is ended at the end of its `with` block, where `Popen` would wait for it."""

    def __exit__(self, *exception):
        if self.poll() is None:
            self.terminate()  # torchrun ends its workers then
            try:
                self.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self.kill()
        super().__exit__(*exception)


def finished(command, *, check=True, timeout=PATIENCE, **options):
    """Runs a process to its end; returns it with its output as text."""
    pipes = {"capture_output": True, "text": True}
    return subprocess.run(command, check=check, timeout=timeout, **pipes, **options)
