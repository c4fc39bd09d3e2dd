"""Python processes that start in a moment: copies of one that has loaded libraries once."""

import atexit
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import connection
from pathlib import Path

from processes import GRACE, ON_CPUS, PATIENCE

# What this library needs in any case; none of it reads a setting of the Hub.
BASE = ("jaxtyping", "safetensors.torch", "scipy.linalg", "torch", "yaml")
# Nothing of this project, either: a copy has whatever was edited since.
ALL = (*BASE, "accelerate", "datasets", "pyarrow.parquet", "sentence_transformers", "tqdm.auto")
ALL = (*ALL, "transformers")
DEMO = (*ALL, "gradio")
_FORK = multiprocessing.get_context("fork")


class Warm:
    """A process that runs what follows `python` on a command line; used like `Process`.

    It reads the environment anew, save for what the libraries read when they were loaded. Where
    more than `BASE` is loaded, that is the address and the caches of the Hub: those of the tests.
    """

    def __init__(self, *arguments, env=None, cwd=None, loaded=ALL, log=None):
        self._folder = tempfile.TemporaryDirectory()
        out, error, ended = (Path(self._folder.name, name) for name in ("out", "error", "ended"))
        self.printed = [log, log] if log else [out, error]
        self._ended, self._code = ended, None
        for path in (*self.printed, ended):
            path.touch()
        request = {
            "arguments": [str(word) for word in arguments],
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd or os.getcwd()),
            "printed": [str(path) for path in self.printed],
            "ended": str(self._ended),
            "path": sys.path,
        }
        server = _server(loaded)
        print(json.dumps(request), file=server.stdin, flush=True)
        self.pid = int(server.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.terminate()  # torchrun ends its workers then
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(GRACE)
        self.kill()
        self.wait(PATIENCE)
        self._folder.cleanup()

    @property
    def returncode(self):
        if self._code is None and (told := self._ended.read_text()):
            self._code = int(told)
        return self._code

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while (code := self.returncode) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a warm process", timeout)
            time.sleep(0.005)
        return code

    def communicate(self, timeout):
        self.wait(timeout)
        return tuple(path.read_text() for path in self.printed)


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


@functools.cache
def _server(loaded):
    """The process that is copied; it ends with this one."""
    # or a library that looks for a GPU would leave none to the copies
    environment = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", **os.environ}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen([sys.executable, __file__, *loaded], env=environment, **pipes)

    def end():
        server.stdin.close()
        server.wait(GRACE)
        server.stdout.close()

    atexit.register(end)
    return server


def _serve():
    """Copies this process for each request on stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    copies = {}
    while True:
        for ready in connection.wait([sys.stdin.fileno(), *copies]):
            if ready in copies:
                process, told = copies.pop(ready)
                process.join(GRACE)
                Path(told).write_text(str(process.exitcode))
            elif line := sys.stdin.readline():
                request = json.loads(line)
                process = _FORK.Process(target=_run, kwargs=request)
                process.start()
                copies[process.sentinel] = process, request["ended"]
                print(process.pid, flush=True)
            else:
                return


def _run(arguments, environment, folder, printed, path, ended):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    for number, name in enumerate(printed, 1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)
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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    _serve()
