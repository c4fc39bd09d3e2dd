"""Checks a visitor's input, and turns every error into one sentence for them."""

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image, ImageOps

from hf_latent_bridge.encoders.pictures import MAX_RATIO
from hf_latent_bridge.errors import HubUnavailableError, LatentBridgeError

MAX_NAME = 200  # characters of a column, a split or a repo
MAX_SENTENCE = 600
MAX_TEXT = 2_000  # characters
MAX_UPLOAD = "20mb"
MAX_VISITORS = 200  # remembered at once, about half a megabyte each; those seen last
MAX_PIXELS = 2**24
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
ENCODING: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "encode"}  # quick answers
FITTING: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "fit"}  # slow ones, apart

FAILED = "That did not work"
NO_ANSWER = "The Hub does not answer; please try again in a minute."

P = ParamSpec("P")
R = TypeVar("R")
_log = logging.getLogger("spaces_demo")
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
_PLAIN = str.maketrans("<>", "\u2039\u203a")  # a notice in the page would take them for HTML
_PATH = re.compile(r"(?<![\w/:])/(?:[^\s'\",;:()]+/)+")


class Refusal(gr.Error):
    """One sentence for the visitor."""

    def __init__(self, sentence: str) -> None:
        plain = _OBJECT.sub("it", _PATH.sub("", sentence.strip())).translate(_PLAIN)
        if len(plain) > MAX_SENTENCE:
            plain = plain[:MAX_SENTENCE] + " ..."
        super().__init__(plain, title=FAILED, print_exception=False)


class Unpublished(Refusal):
    """A repo of the Space itself is not on this Hub."""


def picture_upload(*classes: str, **options: Any) -> gr.Image:
    """An upload that hands over its file as it came: `check_picture` is the first to open it."""

    def path(payload: ImageData | None) -> str | None:
        return payload.path if payload else None

    upload = gr.Image(
        sources=["upload"], format="png", buttons=[], elem_classes=["upload", *classes], **options
    )
    upload.preprocess = path  # type: ignore[method-assign]  # a subclass makes Gradio write stubs
    return upload


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """Turns any error into one sentence, without a stack trace or a path."""

    @functools.wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise _refusal(error, function.__name__) from None

    return answer


def check_text(text: str | None, what: str = "a text") -> str:
    """The text without white space around it.

    Raises:
        Refusal: Empty, or longer than 2,000 characters.
    """
    stripped = text.strip() if isinstance(text, str) else ""
    if not stripped:
        raise Refusal(f"Please type {what}.")
    if len(stripped) > MAX_TEXT:
        raise Refusal(
            f"{what.capitalize()} may have {MAX_TEXT:,} characters; this has {len(stripped):,}."
        )
    return stripped


def check_name(text: str | None, what: str) -> str:
    """The name without white space around it; it may be empty.

    Raises:
        Refusal: Longer than 200 characters.
    """
    stripped = text.strip() if isinstance(text, str) else ""
    if len(stripped) > MAX_NAME:
        raise Refusal(f"{what} may have {MAX_NAME} characters; this has {len(stripped):,}.")
    return stripped


def check_upload(path: str) -> Path:
    """The file that a visitor has sent.

    Raises:
        Refusal: It is gone, as all are after a while.
    """
    file = Path(path)
    if not file.is_file():
        raise Refusal(
            f"{file.name} is no longer here, as what you send is deleted after an hour: please "
            "send it again."
        )
    return file


def check_picture(path: str | None) -> Image.Image:
    """The picture in a file, upright, with its size looked at before its pixels are.

    Raises:
        Refusal: No file or one that is gone, no picture, one of more than 16.8 million pixels or a
            narrow strip.
    """
    if not path:
        raise Refusal("Please choose a picture.")
    try:
        with Image.open(check_upload(path), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if max(picture.size) > MAX_RATIO * min(picture.size):
                raise Refusal(f"A picture's sides may differ up to {MAX_RATIO:,}-fold.")
            return ImageOps.exif_transpose(picture)
    except Refusal:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refusal(f"A picture may have up to {MAX_PIXELS / 1e6:.1f} million pixels.") from None
    except Exception:  # decoders of broken files raise anything
        raise Refusal(f"This file is not a picture: needed {', '.join(FORMATS)}.") from None


def check_choice(value: Any, choices: Any, what: str) -> Any:
    """The one of the choices that equals the value.

    Raises:
        Refusal: None does.
    """
    options = list(choices)
    if value not in options:
        raise Refusal(f"{what} must be one of {', '.join(map(str, options))}.")
    return options[options.index(value)]


def check_number(value: Any, low: int, high: int, what: str) -> int:
    """The value as a whole number within bounds.

    Raises:
        Refusal: It is not.
    """
    # bounds first: NaN and infinity have no int()
    if not isinstance(value, int | float) or not low <= value <= high or value != int(value):
        raise Refusal(f"{what} must be a whole number from {low:,} to {high:,}.")
    return int(value)


def _refusal(error: Exception, action: str) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, HubUnavailableError):
        return Refusal(NO_ANSWER)
    if isinstance(error, LatentBridgeError):
        sentence = " ".join(str(error).split())
        is_name = "." in sentence.partition(" ")[0]  # a file's, which is told as it is
        first = sentence[0] if is_name else sentence[0].upper()
        return Refusal(first + sentence[1:] + "." * (sentence[-1] not in ".!?"))
    # the message of an unforeseen error may hold the visitor's input: it is not logged
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_name}, line {place.tb_lineno}" if place else "?"
    _log.error("%s: %s in %s", action, type(error).__name__, where)
    return Refusal("This went wrong on our side; please try again, or with another input.")
