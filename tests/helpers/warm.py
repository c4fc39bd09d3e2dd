"""Python processes that start in a moment: copies of one that has loaded the libraries once."""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import GRACE, ON_CPUS, PATIENCE

LIBRARIES = ["accelerate", "datasets", "pyarrow.parquet", "sentence_transformers", "tqdm.auto"]
LIBRARIES += ["transformers"]  # but nothing of this project
# or a library that looks for a GPU would leave none to the copies
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(LIBRARIES)


class Warm:
    """A process that runs what follows `python` on a command line; used like `Process`.

    It reads the environment anew, save for what the libraries read when they were loaded: the
    address of the Hub is that of the tests.
    """

    def __init__(self, *arguments, env=None, cwd=None):
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("out", "error")]
        for path in self._printed:
            path.touch()
        self._process = _START.Process(
            target=_run,
            args=(
                [str(word) for word in arguments],
                dict(os.environ if env is None else env),
                str(cwd or os.getcwd()),
                [str(path) for path in self._printed],
            ),
        )
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.terminate()  # torchrun ends its workers then
        self._process.join(GRACE)
        self.kill()
        self._process.join(PATIENCE)
        self._folder.cleanup()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def wait(self, timeout):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a warm process", timeout)
        return self.returncode

    def communicate(self, timeout):
        self.wait(timeout)
        return tuple(path.read_text() for path in self._printed)


def finished(*arguments, check=True, **options):
    """Runs a warm process to its end; returns it with its output as text."""
    with Warm(*arguments, **options) as process:
        out, error = process.communicate(timeout=PATIENCE)
        done = subprocess.CompletedProcess(arguments, process.returncode, out, error)
    if check:
        assert done.returncode == 0, error
    return done


def group(count, *arguments, ranks=None):
    """Starts warm processes that find each other; nothing ends the others if one is lost."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [
        Warm(*arguments, env=ON_CPUS | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in (range(count) if ranks is None else ranks)
    ]


def _run(arguments, environment, folder, printed):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in enumerate(printed, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    if threads := environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    how, *rest = arguments
    sys.argv = {"-c": ["-c", *rest[1:]], "-m": rest}.get(how, arguments)
    if how == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif how == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(how, run_name="__main__")
