"""Refuses what is no number, and numbers of things that are not whole or out of range."""

from numbers import Integral, Real
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a real number of Python or NumPy, as True and "3" are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(
    name: str,
    value: object,
    *,
    least: int = 1,
    most: int | None = None,
    also: str = "",
    error: type[ValueError] = ValueError,
) -> int:
    """The value as an int.

    Args:
        name: What the caller calls it.
        value: An integer of Python or NumPy.
        least: The smallest that is taken.
        most: The largest that is taken; None for any.
        also: What else to say of it, such as " or None".
        error: The class of the error.

    Raises:
        ValueError: It is not an integer, as 2.5, "3" and True are not, or out of range.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    bounds = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    raise error(f"{name} must be an integer {bounds}{also}, got {value!r}")
