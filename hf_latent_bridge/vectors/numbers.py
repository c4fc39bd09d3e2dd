"""Turns numbers as files spell them into floats: quantised integers, text, base64."""

import base64
import binascii
import json
import re
from typing import Any

import numpy as np

from hf_latent_bridge.data.items import Array, Unreadable
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.vectors.reader import Scale

FLOAT32 = np.dtype(np.float32)
_OPENINGS = ("[", "{", "(", "array(", "tensor(", "Vector(")
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_WRAPPED = re.compile(r"^(?:\w+\.)*[A-Za-z_]\w*\((.*?)(?:,\s*\w+=[^()\[\]]*)*\)$", re.DOTALL)
_SHORTENED = re.compile(r"[\w.]*\(?\[[\s\d.eE,+-]*\.\.\.[\s\d.eE,+-]*\]")
_SCALAR = re.compile(r"(?:np|numpy)\.float\d+\(([^()]*)\)")


def floating(dtype: Any, scale: Scale | None, where: object) -> "np.dtype[np.floating[Any]]":
    """The dtype in which numbers of a stored dtype are given out.

    Raises:
        InvalidLatentsError: Integers and no scale, or not real numbers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
    if dtype.kind not in "iu":
        raise InvalidLatentsError(f"{where} must hold floating numbers, it holds {dtype}")
    if scale is None:
        raise InvalidLatentsError(
            f"{where} holds {dtype.name}: say what the integers are to be multiplied by with "
            'scale= (--scale), such as 0.0078125 for 1/128, or scale="binary" for packed bits'
        )
    if scale == "binary" and dtype.itemsize != 1:
        raise InvalidLatentsError(f"{where} holds {dtype.name}: packed bits are int8 or uint8")
    return FLOAT32


def width(dim: int, dtype: Any, scale: Scale | None) -> int:
    """The width of vectors that are stored as `dim` numbers: packed bits are eight in one."""
    return dim * 8 if scale == "binary" and np.dtype(dtype).kind in "iu" else dim


def to_floats(stored: Array, scale: Scale | None) -> Array:
    """Stored numbers (n, d) as floats; packed bits become 1 and -1."""
    dtype = stored.dtype
    if dtype.kind == "f":
        native = np.float64 if dtype.itemsize > 8 else dtype.newbyteorder("=")
        return stored.astype(native, order="C", copy=False)
    if scale == "binary":
        packed = stored.view(np.uint8) ^ np.uint8(128 if dtype.kind == "i" else 0)
        return np.unpackbits(packed, axis=-1).astype(np.float32) * 2 - 1
    return stored.astype(np.float32) * np.float32(scale or 1)


def scaled(vector: Any, scale: Scale | None, integers: bool) -> Any:
    """A vector of a text format, scaled where the file holds integers and a scale is given."""
    if scale is None or not integers or not isinstance(vector, np.ndarray):
        return vector
    if (vector != np.round(vector)).any():
        return Unreadable("holds fractions, and the rows before it hold integers to be scaled")
    if scale == "binary":
        return Unreadable("is text: packed bits are read from files that say int8 or uint8 only")
    return to_floats(vector.astype(np.int64), scale)


def is_vector_text(text: object) -> bool:
    """Whether a text is the spelling of a vector, whole or shortened when it was printed."""
    if not isinstance(text, str) or not text.strip().startswith(_OPENINGS):
        return False
    return isinstance(parse_vector(text), np.ndarray) or _SHORTENED.match(text) is not None


def parse_vector(text: str) -> Array | Unreadable | None:
    """A vector from text; None for a text that says null.

    Reads JSON, PostgreSQL's `{0.1,0.2}`, `str` and `repr` of NumPy arrays, and float32 in base64.
    """
    text = text.strip()
    if text.lower() in ("", "null", "none", "nan", "\\n"):
        return None
    try:
        return _array(json.loads(text))
    except (ValueError, RecursionError):
        pass
    if not text.startswith(_OPENINGS):
        return _from_base64(text)
    if "..." in text:
        return Unreadable("was shortened with '...' when it was printed: the numbers are lost")
    while matched := _WRAPPED.match(text):
        text = matched[1].strip()
    return _bracketed(text)


def _bracketed(text: str) -> Array | Unreadable:
    """The numbers between brackets, or bare ones, with commas or blanks between them."""
    if text[:1] in _CLOSING and text[-1] != _CLOSING[text[0]]:
        return Unreadable(f"was cut short: {text[:20]!r} to {text[-20:]!r}")
    numbers = _SCALAR.sub(r"\1", text).strip("[](){}").replace(",", " ").split()
    try:
        vector = np.array([float(number) for number in numbers], FLOAT32)
    except ValueError:
        vector = np.empty(0, FLOAT32)
    return vector if len(vector) else Unreadable(f"is not a vector: {text[:40]!r}")


def parse_json(value: Any) -> Array | Unreadable | None:
    """A vector from a JSON value: a list of numbers, or a text that spells one."""
    if value is None or isinstance(value, Unreadable):
        return value
    return parse_vector(value) if isinstance(value, str) else _array(value)


def _array(value: Any) -> Array | Unreadable | None:
    if value is None:
        return None
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or not value:
        return Unreadable(f"is not a vector: {value!r:.40}")
    if not set(map(type, value)) <= {int, float}:
        empty = any(number is None for number in value)
        return Unreadable("holds an empty value" if empty else f"is not a vector: {value!r:.40}")
    with np.errstate(over="ignore"):
        try:
            return np.array(value, FLOAT32)
        except OverflowError:
            return Unreadable("holds an integer that is too large")


def _from_base64(text: str) -> Array | Unreadable:
    try:
        content = base64.b64decode(text, validate=True)
        return np.frombuffer(content, "<f4").astype(FLOAT32)
    except (binascii.Error, ValueError):
        return Unreadable(f"is not a vector: {text[:40]!r}")
