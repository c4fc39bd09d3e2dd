"""A server that accepts every connection, answers a few requests, and is silent on the others."""

import re
import socketserver
import threading

COMMIT = "a" * 40


def answer(
    body: bytes, *, status: str = "200 OK", sent: int | None = None, **headers: str
) -> bytes:
    """An answer of HTTP/1.1, of which only the first `sent` bytes of the body go out."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body[:sent]


class StuckServer(socketserver.ThreadingTCPServer):
    """Answers requests whose first line matches a pattern; says nothing to any other."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: dict[str, bytes] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers or {}
        self.requests: list[str] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "StuckServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: StuckServer

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            length = 0
            while (header := self.rfile.readline().strip().lower()) not in (b"",):
                name, _, value = header.partition(b":")
                length = int(value) if name == b"content-length" else length
            self.rfile.read(length)
            self.server.requests.append(line.rsplit(" ", 1)[0])
            found = (a for pattern, a in self.server.answers.items() if re.match(pattern, line))
            content = next(found, None)
            if content is None:
                self.server.ended.wait(600)
                return
            self.wfile.write(content)
