"""Waits for a Hub that is slow, busy or silent: tries again after a pause, and gives up in time."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hf_latent_bridge.errors import HubUnavailableError
from hf_latent_bridge.names import without_secrets

BUSY = (408, 429, 500, 502, 503, 504)  # answers after which the same request may succeed
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the second try, the third, ...
_BROKEN_OFF = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
_LEAST_SPEED = 256  # bytes a second, on average over the patience
_WAITS = ("connect", "read", "write", "pool")
_RESUMED = re.compile(r"bytes (\d+)-")
_RESET = re.compile(r"\bt\s*=\s*(\d+)")  # of the header RateLimit: "api";r=0;t=55

Answer = TypeVar("Answer")


@dataclass
class _Watch:
    """How long the Hub has been silent, slow or failing during one operation.

    Attributes:
        patience: Seconds without progress after which the operation is given up.
        offline: No request may leave.
        silent: Seconds waited since the Hub last sent something new.
        asked: When the present wait began; None while nothing is waited for.
        allowed: Seconds after which the present wait times out.
        failing: When the Hub began to answer with errors only; None while it does not.
        failures: How many such errors came since.
        furthest: Bytes received of each address, so that the same bytes again are not news.
        unanswered: Files that were asked for and gave neither content nor a clear refusal.
    """

    patience: float = field(default_factory=lambda: 4.0 * constants.HF_HUB_DOWNLOAD_TIMEOUT)
    offline: bool = False
    silent: float = 0.0
    asked: float | None = None
    allowed: float = 0.0
    failing: float | None = None
    failures: int = 0
    furthest: dict[str, int] = field(default_factory=dict)
    unanswered: set[httpx2.URL] = field(default_factory=set)

    def ask(self, request: httpx2.Request) -> None:
        """Limits the waits of a request to the rest of the patience."""
        if self.offline:
            raise OfflineModeIsEnabled(f"{_shown(request.url)} was not asked: local_files_only")
        if self.asked is not None:
            self.silent += min(time.monotonic() - self.asked, self.allowed)
        left = self.patience - self.silent
        if left <= 0:
            raise _given_up(request.url, f"has sent nothing for {self.silent:.0f} seconds")
        reads = request.method in ("GET", "HEAD")
        given = request.extensions.get("timeout") or {}
        default = constants.HF_HUB_ETAG_TIMEOUT if reads else left
        waits = {kind: min(given.get(kind) or default, left) for kind in _WAITS}
        request.extensions = {**request.extensions, "timeout": waits}
        self.asked, self.allowed = time.monotonic(), waits["read"]
        if not request.url.path.startswith("/api/"):
            self.unanswered.add(request.url)

    def hear(self, *, more: bool) -> None:
        """Something new has come, and more is waited for or not."""
        self.silent, self.asked = 0.0, time.monotonic() if more else None
        self.failing, self.failures = None, 0

    def require_answers(self) -> None:
        """Refuses to go on where a loader did not mind that a file could not be fetched.

        Raises:
            httpx2.ReadError: Names the file.
        """
        for url in self.unanswered:
            raise httpx2.ReadError(f"{_shown(url)} could not be fetched")

    def fail(self, response: httpx2.Response) -> None:
        """The Hub is busy: gives up if it has been for too long, or wants to be left alone."""
        now = time.monotonic()
        self.silent, self.asked = 0.0, None
        self.failing, self.failures = self.failing or now, self.failures + 1
        pause = retry_after(response) or 0.0
        if now + pause > self.failing + self.patience:
            status, detail = response.status_code, ""
            if pause:
                detail = f" and asks to be left alone for {pause:.0f} seconds"
            raise _given_up(response.url, f"answers {status}{detail}", longer=False)


class _WatchedBody(httpx2.SyncByteStream):
    """The body of an answer; tells the watch of bytes that have not come before."""

    def __init__(
        self, stream: httpx2.SyncByteStream, response: httpx2.Response, watch: _Watch
    ) -> None:
        self._stream = stream
        self._watch = watch
        self._url = response.url
        resumed = _RESUMED.match(response.headers.get("Content-Range", ""))
        self._start = int(resumed[1]) if resumed else 0

    def __iter__(self) -> Iterator[bytes]:
        address, position = str(self._url), self._start
        began, passed = time.monotonic(), position
        for chunk in self._stream:
            position += len(chunk)
            now = time.monotonic()
            if position - passed >= _LEAST_SPEED * self._watch.patience:
                began, passed = now, position
            elif now - began > self._watch.patience:
                raise _given_up(self._url, f"sends less than {_LEAST_SPEED} bytes a second")
            if position > self._watch.furthest.get(address, 0):
                self._watch.furthest[address] = position
                self._watch.hear(more=True)
            yield chunk
        self._watch.hear(more=False)
        self._watch.unanswered.discard(self._url)

    def close(self) -> None:
        self._stream.close()


_WATCH: ContextVar[_Watch | None] = ContextVar("hub_watch", default=None)


@contextlib.contextmanager
def bounded_waits(*, offline: bool = False, anew: bool = False) -> Iterator[_Watch]:
    """Within the block, requests of this thread give up on a Hub that makes no progress.

    A request without a timeout of its own gets HF_HUB_ETAG_TIMEOUT where it reads. The client tries
    a request again up to five times; the tries together wait four times HF_HUB_DOWNLOAD_TIMEOUT (40
    seconds by default) for anything new, and as long for the end of errors such as 503. Requests
    outside the block are left as they are.

    Uploads and downloads through Xet run in code of its own, which reads its limits from HF_XET_*
    when it starts; those that are not set get such values that it gives up as soon.

    What the client logs of its tries names no user and password of HF_ENDPOINT from then on.

    Args:
        offline: No request leaves at all.
        anew: Be as patient as at first, though inside another such block.

    Raises:
        HubUnavailableError: The Hub made no progress for so long; names the address.
    """
    hooks = get_session().event_hooks
    for kind, hook in (("request", _on_request), ("response", _on_response)):
        if hook not in hooks[kind]:
            hooks[kind].append(hook)
    logging.getLogger(get_session.__module__).addFilter(_hide_secrets)
    for name, value in _xet_limits().items():
        os.environ.setdefault(f"HF_XET_CLIENT_{name}", value)
    outer = _WATCH.get()
    if outer is not None and not offline and not anew:
        yield outer
        return
    watch = _Watch(offline=offline)
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


def _hide_secrets(record: logging.LogRecord) -> bool:
    """Takes the user and password that HF_ENDPOINT may hold out of what the client logs."""
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


def _xet_limits() -> dict[str, str]:
    """How long hf_xet waits for an answer, how often it asks, and for how long in all."""
    seconds = max(1, round(constants.HF_HUB_DOWNLOAD_TIMEOUT))
    waits = {"CONNECT_TIMEOUT": f"{seconds}s", "READ_TIMEOUT": f"{seconds}s"}
    return {**waits, "RETRY_MAX_ATTEMPTS": "2", "RETRY_MAX_DURATION": f"{4 * seconds}s"}


def patiently(call: Callable[[], Answer], *, only: tuple[int, ...] = BUSY) -> Answer:
    """The answer of a request that is tried again where the Hub is busy or the line breaks.

    The client does so itself for most downloads and uploads, not for what asks about, makes and
    commits to repos. A Hub that cannot be connected to, or is silent, is not asked again.

    Args:
        call: Makes the request; repeating it must do no harm.
        only: Statuses after which it is repeated. If 503 is not among them, neither is a broken
            line a reason.

    Raises:
        HubUnavailableError: The Hub makes no progress; see `bounded_waits`.
        HfHubHTTPError: The last answer, if no try succeeds.
    """
    with bounded_waits() as watch:
        began = time.monotonic()
        for usual in _PAUSES:
            try:
                return call()
            except Exception as error:
                if not is_passing(error):
                    raise
                pause = _pause(error, only, usual)
                late = time.monotonic() + (pause or 0.0) > began + watch.patience
                if pause is None or late or watch.failures > len(_PAUSES):
                    raise
            time.sleep(pause)
        return call()


def _pause(error: Exception, only: tuple[int, ...], usual: float) -> float | None:
    """Seconds until the next try; None for an error after which there is none."""
    if not isinstance(error, HfHubHTTPError):
        return usual if 503 in only else None
    if error.response.status_code not in only:
        return None
    return retry_after(error.response) or usual


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later: the Hub was busy, or the line broke."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in BUSY
    return isinstance(error, _BROKEN_OFF) or is_cut_short(error)


def is_cut_short(error: Exception) -> bool:
    """Whether a download came with fewer bytes than the Hub states, which the client checks."""
    return type(error) is OSError and str(error).startswith("Consistency check failed")


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the Hub asks to wait before the next request; None where it does not say."""
    stated = response.headers.get("Retry-After", "").strip()
    if stated.isdecimal():
        return float(stated)
    if stated:
        with contextlib.suppress(ValueError):
            left = parsedate_to_datetime(stated).astimezone(UTC) - datetime.now(UTC)
            return max(left.total_seconds(), 0.0)
    reset = _RESET.search(response.headers.get("RateLimit", ""))
    return float(reset[1]) if reset and response.status_code == 429 else None


def _on_request(request: httpx2.Request) -> None:
    if (watch := _WATCH.get()) is not None:
        watch.ask(request)


def _on_response(response: httpx2.Response) -> None:
    watch = _WATCH.get()
    if watch is None:
        return
    if response.status_code in BUSY:
        watch.fail(response)
    elif response.is_error or not isinstance(response.stream, httpx2.SyncByteStream):
        watch.hear(more=False)
        watch.unanswered.discard(response.url)
    else:
        response.stream = _WatchedBody(response.stream, response, watch)


def _shown(url: httpx2.URL) -> str:
    """An address without its query and user, which may hold a signature or a password."""
    return str(url.copy_with(query=None, userinfo=b""))


def _given_up(url: httpx2.URL, why: str, *, longer: bool = True) -> HubUnavailableError:
    cure = ", or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds" if longer else ""
    return HubUnavailableError(f"the Hub at {_shown(url)} {why}: try again later{cure}")
