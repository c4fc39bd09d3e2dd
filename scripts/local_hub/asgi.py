"""Reads requests from the web server's messages, and sends replies as messages."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from .messages import FileRange, Reply, Request
from .store import Store

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CHUNK = 1024 * 1024


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


async def read_request(store: Store, scope: Message, receive: Receive) -> Request:
    """Receives a request; the body of an LFS upload goes to disk as it comes."""
    request = Request(
        method=scope["method"],
        path=scope["raw_path"].decode("ascii"),
        query=parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True),
        headers={name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]},
    )
    if request.method != "PUT" or not request.path.startswith("/_lfs/"):
        request.body = b"".join([chunk async for chunk in _body(receive)])
        return request
    request.upload = store.blobs.receive()
    try:
        async for chunk in _body(receive):
            request.upload.write(chunk)
    except ClientGoneError:
        request.upload.discard()
        raise
    return request


async def send_reply(reply: Reply, send: Send, *, with_body: bool) -> None:
    """Sends a reply, a file piece by piece."""
    headers = {"Content-Length": str(reply.length), **reply.headers}
    encoded = [(k.lower().encode(), v.encode("latin1")) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    rest = b""
    if with_body and isinstance(reply.body, FileRange):
        await _send_file(reply.body, send)
    elif with_body and isinstance(reply.body, bytes):
        rest = reply.body
    await send({"type": "http.response.body", "body": rest})


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _send_file(part: FileRange, send: Send) -> None:
    left = part.length
    with part.path.open("rb") as file:
        file.seek(part.start)
        while chunk := file.read(min(_CHUNK, left)):
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
