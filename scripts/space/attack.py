"""Attacks the Space: hostile texts and files to every endpoint that it lists, then a crowd.

What an endpoint takes is read from the Space itself, so that a new one is attacked too. Each
request must be answered, or refused in one short sentence that gives nothing away. Nobody may reach
files of the server or make it fetch an address; memory and disk must not grow beyond what was sent.
"""

import argparse
import io
import itertools
import json
import os
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
from PIL import Image

PORT = 7862
CLIENTS, SECONDS = 20, 30.0
PATIENCE = 120.0  # seconds for one answer
LONGEST = 700  # characters of a refusal
MORE_MEMORY = 300 * 2**20  # bytes that the process may gain
MORE_DISK = 32 * 2**20  # bytes beside what was uploaded, thrice: file, result, copy of the result
ANSWERS = ("answered", "refused")
BETRAYS = re.compile(
    r"our side|Traceback|object at 0x|/tmp/|/root|/home/|/usr/|&\w+;|<script|errors\.pydantic"
)
TEXTS = {
    "empty": "",
    "blank": " \t\n",
    "a megabyte": "x" * 10**6,
    "script": "<script>alert(1)</script>",
    "markup": "<b>&'",
    "up and away": "../../../../etc/passwd",
    "a file": "file:///etc/passwd",
    "template": "{{7*7}} ${7*7} %s %n {0.__class__}",
    "zero": "a\x00b",
    "half a character": "\ud800",
    "right to left": "\u202egnirts \u200b\U0001f600",
    "nothing": None,
    "a list": ["a", ["b"]],
    "an object": {"path": "/etc/passwd"},
    "a number": 10**30,
}
NUMBERS = {
    "nothing": None,
    "negative": -1,
    "huge": 10**30,
    "tiny": 1e-300,
    "half": 0.5,
    "text": "12; ls",
    "a list": [1],
    "true": True,
}


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        request: Endpoint, parameter and attack.
        refusal: The sentence; None if there was an answer.
    """

    request: str
    refusal: str | None

    @property
    def problem(self) -> str | None:
        """What is wrong with it."""
        if self.refusal is None:
            return None
        if not self.refusal.strip():
            return f"{self.request}: refused without a word"
        if len(self.refusal) > LONGEST:
            return f"{self.request}: {len(self.refusal):,} characters of refusal"
        if found := BETRAYS.search(self.refusal):
            return f"{self.request}: says {found[0]!r}: {self.refusal[:200]}"
        return None


@dataclass
class Target:
    """A running Space.

    Attributes:
        url: Its address.
        trap: An address that nobody has a reason to ask.
        sent: Bytes uploaded so far.
    """

    url: str
    trap: str
    sent: int = 0
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=PATIENCE, trust_env=False)
    )

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def endpoints(self) -> dict[str, list[dict[str, Any]]]:
        """Name -> parameters of every endpoint that the Space lists."""
        listed = self.client.get(f"{self.url}/gradio_api/info").json()["named_endpoints"]
        return {name: endpoint["parameters"] for name, endpoint in listed.items()}

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Sends a file; returns how a request names it."""
        answer = self.client.post(f"{self.url}/gradio_api/upload", files={"files": (name, content)})
        self.sent += len(content)
        if answer.is_error:
            raise UploadRefusedError(answer.text)
        return _file(answer.json()[0], orig_name=name)

    def ask(self, name: str, values: list[Any], request: str = "") -> Reply:
        """Calls an endpoint with raw values, as no honest client would."""
        address = f"{self.url}/gradio_api/call{name}"
        started = self.client.post(
            address,
            content=json.dumps({"data": values}),
            headers={"content-type": "application/json"},
        )
        if started.is_error:
            return Reply(request, started.text)
        event, text = "", ""
        with self.client.stream("GET", f"{address}/{started.json()['event_id']}") as stream:
            for line in stream.iter_lines():
                key, _, value = line.partition(": ")
                event = value if key == "event" else event
                text = value if key == "data" else text
        return Reply(request, None if event == "complete" else _sentence(text))


class UploadRefusedError(Exception):
    """The Space did not take a file."""


def attack(target: Target, *, most: int | None = None, threads: int = 4) -> list[Reply]:
    """Tries every parameter of every endpoint with hostile values, the others being plausible.

    Args:
        target: The Space.
        most: How many values to try for a parameter, drawn at random; None for all.
        threads: Requests at a time.
    """
    draw = random.Random(0)
    files = dict(_files(target))
    requests = []
    for name, parameters in target.endpoints().items():
        usual = [_plausible(target, parameter) for parameter in parameters]
        for place, parameter in enumerate(parameters):
            hostile = list(_hostile(parameter, files).items())
            draw.shuffle(hostile)
            for kind, value in hostile[:most]:
                values = [*usual[:place], value, *usual[place + 1 :]]
                requests.append((name, values, f"{name} {parameter['parameter_name']}: {kind}"))
        requests.append((name, usual[:-1], f"{name}: a value too few"))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda request: target.ask(*request), requests))


def crowd(target: Target, clients: int, seconds: float) -> Counter[str]:
    """So many clients that ask without a pause; counts answers, refusals and failures."""
    end = time.monotonic() + seconds
    texts = [name for name, given in target.endpoints().items() if _is_quick(given)]

    def visit(number: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        with Target(target.url, target.trap) as own:
            for turn in itertools.count():
                if time.monotonic() > end:
                    return seen
                name = texts[(number + turn) % len(texts)]
                try:
                    reply = own.ask(name, ["a query"], name)
                except httpx.HTTPError as error:
                    seen[f"failed: {type(error).__name__}"] += 1
                    continue
                kind = "refused" if reply.refusal else "answered"
                seen["betrayed" if reply.problem else kind] += 1
        return seen

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(visit, range(clients)), Counter())


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def disk(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def trap() -> ThreadingHTTPServer:
    """A server that remembers, in `asked`, whether anyone came."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Trap)
    server.asked = []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Trap(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _files(target: Target) -> Iterator[tuple[str, Any]]:
    """Hostile files, uploaded where the Space takes them, and files that are none of ours."""
    for name, content in _contents().items():
        try:
            yield name, target.upload(name, content)
        except UploadRefusedError:
            continue
    yield "a file of the server", _file("/etc/passwd")
    yield "its environment", _file("/proc/self/environ")
    yield "an address as path", _file(f"{target.trap}/secret.png")
    yield "an address beside it", {**_file("x.png"), "url": f"{target.trap}/secret.png"}
    yield "no path", {"meta": {"_type": "gradio.FileData"}}
    yield "a text", "/etc/passwd"
    yield "a number", 7
    yield "nothing", None


def _contents() -> dict[str, bytes]:
    def npy(shape: str, descr: str = "<f4") -> bytes:
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
        padded = header.encode().ljust(117) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + padded + bytes(64)

    stream = io.BytesIO()
    Image.new("1", (1, 60_000)).save(stream, "PNG")
    return {
        "empty.npy": b"",
        "negative.npy": npy("(-1, 16)"),
        "endless.npy": npy("(9223372036854775807, 16)"),
        "pickled.npy": npy("(1,)", "|O"),
        "deep.json": b"[" * 100_000,
        "ragged.jsonl": b"[1.0, 2.0]\n[1.0]\n",
        "nan.csv": b"a,b\nnan,inf\n" * 50,
        "noise.safetensors": struct.pack("<Q", 2**60) + b"{}",
        "thread.png": stream.getvalue(),
        "cut.png": stream.getvalue()[:60],
        "entity.svg": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "..%2f..%2fup.npy": npy("(2, 2)"),
        "<img src=x onerror=alert(1)>.npy": npy("(2, 2)"),
        f"{'long' * 60}.npy": npy("(2, 2)"),
    }


def _hostile(parameter: Mapping[str, Any], files: Mapping[str, Any]) -> Mapping[str, Any]:
    if parameter["component"] in ("File", "Image"):
        several = _takes_several(parameter)
        return {kind: [file] * 3 if several else file for kind, file in files.items()}
    return NUMBERS if parameter["component"] in ("Number", "Slider", "Checkbox") else TEXTS


def _plausible(target: Target, parameter: Mapping[str, Any]) -> Any:
    """A value that an honest visitor might send."""
    if parameter["parameter_has_default"]:
        return parameter["parameter_default"]
    if parameter["component"] == "Image":
        stream = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(stream, "PNG")
        return target.upload("red.png", stream.getvalue())
    if parameter["component"] == "File":
        if _takes_several(parameter) or parameter["parameter_name"] == "table":
            return None
        rows = np.random.default_rng(0).normal(size=(150, 8)).astype("float32")
        stream = io.BytesIO()
        np.save(stream, rows)
        return target.upload("rows.npy", stream.getvalue())
    return "me/nothing"


def _takes_several(parameter: Mapping[str, Any]) -> bool:
    return str(parameter["python_type"]["type"]).startswith("list")


def _is_quick(parameters: list[dict[str, Any]]) -> bool:
    """Whether an endpoint takes one text alone."""
    return [parameter["component"] for parameter in parameters] == ["Textbox"]


def _file(path: str, **more: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def _sentence(data: str) -> str:
    """The text of an error as the API gives it."""
    try:
        content = json.loads(data)
    except ValueError:
        return data
    return str(content.get("error") or "") if isinstance(content, dict) else str(content or "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--clients", type=int, default=CLIENTS, help="clients at once")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long they ask")


def run(options: argparse.Namespace) -> int:
    """Starts the Space as `make demo` does and attacks it; returns the exit code."""
    from demo import fill_hub, running_demo

    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        with running_demo(PORT) as (url, app, progress):
            fill_hub(progress)
            problems = report(url, app.pid, Path(folder), options.clients, options.seconds)
    print("\n".join(problems) or "no problem met", file=sys.stderr if problems else sys.stdout)
    return bool(problems)


def report(
    url: str, pid: int, folder: Path, clients: int, seconds: float, *, most: int | None = None
) -> list[str]:
    """Attacks a Space and prints what came of it; returns the problems.

    Args:
        url: Its address.
        pid: Its process.
        folder: Where it keeps what visitors send.
        clients: How many ask at once.
        seconds: For how long.
        most: Hostile values for each parameter; None for all.
    """
    caught = trap()
    with Target(url, f"http://127.0.0.1:{caught.server_address[1]}") as target:
        for name, parameters in target.endpoints().items():  # loads what is loaded once
            target.ask(name, [_plausible(target, parameter) for parameter in parameters])
        before = memory(pid), disk(folder)
        replies = attack(target, most=most)
        between = memory(pid)
        seen = crowd(target, clients, seconds)
    problems = [reply.problem for reply in replies if reply.problem]
    problems += [f"{count} times {kind}" for kind, count in seen.items() if kind not in ANSWERS]
    after = memory(pid), disk(folder)
    more_memory, more_disk = (b - a for a, b in zip(before, after, strict=True))
    if more_memory > MORE_MEMORY:
        problems.append(f"{more_memory / 2**20:,.0f} MB more in memory")
    if more_disk > MORE_DISK + 3 * target.sent:
        problems.append(f"{more_disk / 2**20:,.0f} MB more on disk")
    problems += [f"the Space asked for {path}" for path in caught.asked]  # type: ignore[attr-defined]
    caught.shutdown()
    caught.server_close()
    refused = sum(reply.refusal is not None for reply in replies)
    print(f"  hostile requests                 {len(replies):6,} ({refused:,} refused)")
    for kind, count in sorted(seen.items()):
        print(f"  {clients} clients for {seconds:.0f} s, {kind:15} {count:6,}")
    memories = " MB, ".join(f"{n / 2**20:,.0f}" for n in (before[0], between, after[0]))
    print(f"  memory before, after the requests and after the clients: {memories} MB")
    print(
        f"  disk before and after            {before[1] / 2**20:,.1f} MB {after[1] / 2**20:,.1f} MB"
    )
    return problems
