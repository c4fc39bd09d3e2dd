"""An HTTP proxy that spoils one request of a conversation: the k-th, in one of many ways."""

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

PATIENCE = 60  # seconds; no test waits longer
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade"}


@dataclass
class Answer:
    """What the server says to one request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Exchange:
    """One request through the proxy."""

    method: str
    path: str
    forward: Callable[[], Answer]
    connection: socket.socket
    ended: threading.Event
    without_body: bool

    def send(self, answer: Answer, part: int | None = None) -> None:
        """Sends an answer, or the first bytes of its body and no more."""
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin1")
        self.connection.sendall(head + (b"" if self.without_body else answer.body[:part]))


Fault = Callable[[Exchange], bool]  # returns whether the connection stays open


def deliver(exchange: Exchange) -> bool:
    """Not a fault."""
    exchange.send(exchange.forward())
    return True


def drop(exchange: Exchange) -> bool:
    """The request is lost."""
    return False


def reset(exchange: Exchange) -> bool:
    """The server acts, and the connection breaks before it answers."""
    exchange.forward()
    linger = struct.pack("ii", 1, 0)
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return False


def lose(exchange: Exchange) -> bool:
    """The server acts, and its answer is lost."""
    exchange.forward()
    return False


def delay(exchange: Exchange) -> bool:
    """The answer is late, and comes."""
    exchange.ended.wait(0.1)
    return deliver(exchange)


def silence(exchange: Exchange) -> bool:
    """No answer comes, and the connection stays open."""
    exchange.ended.wait(PATIENCE)
    return False


def silence_after(exchange: Exchange) -> bool:
    """The server acts, no answer comes, and the connection stays open."""
    exchange.forward()
    return silence(exchange)


def drip(exchange: Exchange) -> bool:
    """The answer comes byte by byte, very slowly."""
    answer = exchange.forward()
    exchange.send(answer, 0)
    for number in range(len(answer.body)):
        if exchange.ended.wait(0.1):
            return False
        exchange.connection.sendall(answer.body[number : number + 1])
    return True


def repeat(exchange: Exchange) -> bool:
    """The request reaches the server twice; the second answer comes."""
    exchange.forward()
    return deliver(exchange)


def truncate(exchange: Exchange) -> bool:
    """The connection breaks in the middle of the answer."""
    answer = exchange.forward()
    exchange.send(answer, len(answer.body) // 2)
    return False


def cut_short(exchange: Exchange) -> bool:
    """The answer is half of itself, and says that it is whole."""
    answer = exchange.forward()
    half = answer.body[: len(answer.body) // 2]
    exchange.send(Answer(answer.status, _with_length(answer.headers, len(half)), half))
    return True


def damage(exchange: Exchange) -> bool:
    """One bit in the middle of the answer is another one."""
    answer = exchange.forward()
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 1
    exchange.send(Answer(answer.status, answer.headers, bytes(body)))
    return True


def page(exchange: Exchange) -> bool:
    """A page of a hotel's network comes in place of the answer."""
    body = b"<html><title>Welcome! Please sign in</title></html>"
    exchange.send(Answer(200, _with_length([("Content-Type", "text/html")], len(body)), body))
    return True


def say(status: int, **headers: str) -> Fault:
    """The answer is an error, and the server never hears of the request."""

    def fault(exchange: Exchange) -> bool:
        body = b'{"error": "spoilt on the way"}'
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        exchange.send(Answer(status, _with_length(named, len(body)), body))
        return True

    return fault


FAULTS: dict[str, Fault] = {
    "drop": drop,
    "reset": reset,
    "lose the answer": lose,
    "delay": delay,
    "silence": silence,
    "silence after acting": silence_after,
    "drip": drip,
    "repeat": repeat,
    "truncate": truncate,
    "cut short": cut_short,
    "damage": damage,
    "a sign-in page": page,
    **{str(n): say(n) for n in (401, 403, 404, 409, 412, 429, 500, 502, 503, 504)},
    "429, Retry-After: 2": say(429, Retry_After="2"),
    "503, Retry-After: 86400": say(503, Retry_After="86400"),
}


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Passes requests on to a server, but for the k-th, which it spoils.

    Attributes:
        seen: Method and path of each request since `spoil`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._fault, self._at = deliver, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.shutdown()
        self.server_close()
        set_client_factory(default_client_factory)

    def spoil(self, k: int = 0, fault: Fault = deliver, times: int = 1) -> None:
        """From now on, the k-th request (from 1) and the `times` - 1 after it meet a fault."""
        with self._lock:
            self._ended.set()
            self._ended = threading.Event()
            self.seen, self._fault, self._at, self._times = [], fault, k, times

    def next_fault(self, request: str) -> tuple[Fault, threading.Event]:
        """The fault of the next request, and the event that ends its waits."""
        with self._lock:
            self.seen.append(request)
            spoilt = self._at <= len(self.seen) < self._at + self._times if self._at else False
            return self._fault if spoilt else deliver, self._ended


class _Handler(socketserver.StreamRequestHandler):
    server: FaultyProxy

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        """Handles one request; returns whether another may follow."""
        line = self.rfile.readline().decode("latin1")
        if not line.strip():
            return False
        method, address, _ = line.split(" ", 2)
        headers: list[tuple[str, str]] = []
        while header := self.rfile.readline().decode("latin1").strip():
            name, _, value = header.partition(":")
            headers.append((name, value.strip()))
        by_name = {name.lower(): value for name, value in headers}
        body = self.rfile.read(int(by_name.get("content-length", 0)))
        url = urlsplit(address)
        target = f"{url.path}?{url.query}" if url.query else url.path
        fault, ended = self.server.next_fault(f"{method} {url.path}")

        def forward() -> Answer:
            upstream = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
            try:
                upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in headers:
                    if name.lower() not in _HOP_BY_HOP:
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP]
            finally:
                upstream.close()
            return Answer(answer.status, kept, content)

        without_body = method == "HEAD"
        return fault(Exchange(method, url.path, forward, self.connection, ended, without_body))


def _with_length(headers: list[tuple[str, str]], length: int) -> list[tuple[str, str]]:
    kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
    return [*kept, ("Content-Length", str(length))]


@contextlib.contextmanager
def through(proxy: FaultyProxy) -> Iterator[None]:
    """Within the block, this process reaches the Hub by the proxy."""
    set_client_factory(lambda: _client(proxy=proxy.url, trust_env=False))
    try:
        yield
    finally:
        set_client_factory(_client)


def _client(**options: Any) -> httpx2.Client:
    """A client like that of huggingface_hub, without certificates: it takes long to load them."""
    hooks = {"request": [hf_request_event_hook]}
    options |= {"event_hooks": hooks, "follow_redirects": True, "timeout": None}
    return httpx2.Client(verify=False, **options)
