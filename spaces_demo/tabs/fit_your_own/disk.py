"""Limits what visitors put on the disk: the encoders that they name, and what they upload."""

import hashlib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ENCODERS = 3 * 10**9  # bytes of all encoders that visitors named lately
MAX_UPLOADED = 400 * 2**20  # bytes that one visitor may send within an hour
HOUR = 3600

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class VisitorCache:
    """A folder of downloads that keeps the ones used last, up to a size.

    Attributes:
        root: Holds a folder for each repo.
        most: Bytes of all together, before the next download.
    """

    root: Path
    most: int = MAX_ENCODERS

    def folder(self, repo_id: str) -> Path:
        """The folder of a repo, after the ones used longest ago have made room."""
        own = self.root / hashlib.sha256(repo_id.encode()).hexdigest()[:32]
        own.mkdir(parents=True, exist_ok=True)
        os.utime(own)
        others = sorted(
            (folder for folder in self.root.iterdir() if folder != own),
            key=lambda folder: folder.stat().st_mtime,
        )
        total = sum(map(_size, [own, *others]))
        for folder in others:
            if total <= self.most:
                break
            total -= _size(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return own


class UploadLimit:
    """Middleware that refuses uploads of a visitor who has sent too much within the last hour."""

    def __init__(self, app: Callable[..., Awaitable[None]], most: int = MAX_UPLOADED) -> None:
        self._app, self._most = app, most
        self._sent: dict[str, list[tuple[float, int]]] = defaultdict(list)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, and counts the body of an upload as it comes."""
        if scope["type"] != "http" or not scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        sent = self._lately(_visitor(scope))
        if sum(size for _, size in sent) >= self._most:
            await _refuse(send)
            return

        async def counted() -> Message:
            message = await receive()
            sent.append((time.monotonic(), len(message.get("body", b""))))
            if sum(size for _, size in sent) > self._most:
                return {"type": "http.disconnect"}
            return message

        await self._app(scope, counted, send)

    def _lately(self, visitor: str) -> list[tuple[float, int]]:
        """What each visitor sent within the last hour; forgets the rest."""
        since = time.monotonic() - HOUR
        for name, sent in list(self._sent.items()):
            sent[:] = [(when, size) for when, size in sent if when > since]
            if not sent:
                del self._sent[name]
        return self._sent[visitor]


def _visitor(scope: Message) -> str:
    """The address that the nearest proxy names last, which a visitor cannot choose."""
    named = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1")
    return named.split(",")[-1].strip() or str((scope.get("client") or ("?",))[0])


async def _refuse(send: Send) -> None:
    body = b'{"detail": "You have uploaded 400 MB within an hour; please come back later."}'
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"3600")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
