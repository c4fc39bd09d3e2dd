"""Starts and stops the embedded Hub, injects faults and logs its requests."""

import re
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import uvicorn

from .asgi import ClientGoneError, Message, Receive, Send, read_request, send_reply
from .errors import HubError
from .messages import Reply, Request, error_reply
from .routes import dispatch
from .store import Store, User

ORGS = ("acme", "local", "sentence-transformers")  # where alice may write
_HOST = "127.0.0.1"
_PATIENCE = 60  # seconds to start and to stop
_KEEP_ALIVE = 3600  # seconds: clients come back after long encoding on the connection they have


@dataclass(frozen=True)
class Exchange:
    """One line of the request log."""

    method: str
    path: str
    query: dict[str, list[str]]
    host: str
    authorized: bool
    status: int
    sent: int


@dataclass
class _Fault:
    pattern: re.Pattern[str]
    method: str | None
    status: int
    left: int

    def hits(self, request: Request) -> bool:
        wanted = self.method in (None, request.method) and self.pattern.search(request.path)
        return self.left > 0 and bool(wanted)


class LocalHub:
    """A Hub on 127.0.0.1 with the users alice and bob.

    With `root` it keeps everything in that folder, for the next time; without, in a folder that
    goes away when it stops. All requests are handled one after another on one event loop.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        port: int = 0,
        orgs: Sequence[str] = ORGS,
    ) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="local-hub-")
            root = self._temporary.name
        self.store = Store(Path(root))
        self.port = port
        self.log: list[Exchange] = []
        self._faults: list[_Fault] = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                self,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                log_level="warning",
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._thread: threading.Thread | None = None
        self.add_user("hf_alice", "alice", orgs=orgs)
        self.add_user("hf_reader", "alice", role="read", orgs=orgs)
        self.add_user("hf_bob", "bob")

    @property
    def url(self) -> str:
        """The address to set HF_ENDPOINT to."""
        return f"http://{_HOST}:{self.port}"

    def environment(self, home: str | Path) -> dict[str, str]:
        """The variables with which a process uses this Hub, signed in as alice.

        huggingface_hub reads them when it is imported.
        """
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_alice",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": f"{_HOST},localhost",
        }

    def add_user(
        self, token: str, name: str, role: str = "write", orgs: Sequence[str] = ()
    ) -> None:
        """Gives a token to a user, who may write under their name and the organisations."""
        self.store.users[token] = User(name, role, tuple(orgs))

    def fail(
        self, pattern: str, status: int = 503, times: int = 1, method: str | None = None
    ) -> None:
        """Answers the next requests whose path matches the pattern with an error."""
        self._faults.append(_Fault(re.compile(pattern), method, status, times))

    def start(self) -> Self:
        """Serves in a thread until `stop`."""
        try:
            listener = socket.create_server((_HOST, self.port))
        except OSError:
            self._release()
            raise
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the embedded Hub does not start at {self.url}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stops serving, and releases the folder."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_PATIENCE)  # a daemon: it ends with the process at the latest
        self._release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves one ASGI request."""
        try:
            request = await read_request(self.store, scope, receive)
        except ClientGoneError:
            return
        try:
            reply = self._answer(request)
        finally:
            if request.upload:
                request.upload.discard()
        self._record(request, reply)
        await send_reply(reply, send, with_body=request.method != "HEAD")

    def _answer(self, request: Request) -> Reply:
        try:
            self._raise_fault(request)
            return dispatch(self.store, request)
        except HubError as error:
            return error_reply(error)
        except Exception as error:
            traceback.print_exc()
            return error_reply(HubError(500, f"A bug in the local Hub: {error!r}"))

    def _raise_fault(self, request: Request) -> None:
        for fault in self._faults:
            if fault.hits(request):
                fault.left -= 1
                raise HubError(fault.status, "A fault that was asked for")

    def _record(self, request: Request, reply: Reply) -> None:
        self.log.append(
            Exchange(
                method=request.method,
                path=request.path,
                query=request.query,
                host=request.headers["host"],
                authorized="authorization" in request.headers,
                status=reply.status,
                sent=0 if request.method == "HEAD" else reply.length,
            )
        )

    def _release(self) -> None:
        self.store.close()
        if self._temporary is not None:
            self._temporary.cleanup()
