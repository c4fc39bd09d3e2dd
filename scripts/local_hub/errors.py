"""The error that a handler raises to refuse a request."""

from collections.abc import Mapping
from typing import Any


class HubError(Exception):
    """A refusal: an HTTP status, a message, and the code that huggingface_hub maps to a class."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.details = details or {}
