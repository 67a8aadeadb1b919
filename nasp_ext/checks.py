# SPDX-License-Identifier: MIT
"""What every part of the package asks of a number or an option that a user gives."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any, TypeVar

_T = TypeVar("_T")

# Upper bounds: far above what anybody trains, far below what hangs, overflows or fills the memory at once.
MOST_CELLS = 1_000
MOST_CHANNELS = 16_384
MOST_CLASSES = 1_000_000
MOST_OF = {"cells": MOST_CELLS, "classes": MOST_CLASSES}  # other sizes: MOST_CHANNELS
MOST_EPOCHS = 1_000_000
MOST_IMAGES = 100_000_000  # in a batch, or of a part of the data
MOST_PIXELS = 16_384  # along a side of an image
MOST_THREADS = 1_024
MOST_SEED = 2**63 - 1
LARGEST_RATE = 1e30  # of the weights
LARGEST_ARCH_RATE = 1e6
LARGEST_ETA = 1e9  # Adam takes the square of what it adds to a gradient, which float32 has to hold

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (numbers.Integral,),
    "float": (numbers.Real,),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "tuple[str, ...]": (list, tuple),
    "tuple[int, ...]": (list, tuple),
}


def check(holds: bool, name: str, expected: str, found: object) -> None:
    """Raise ValueError unless it holds.

    >>> check(1 > 2, "batch", "> 2", 1)
    Traceback (most recent call last):
    ValueError: expected batch to be > 2, got 1
    """
    if not holds:
        raise ValueError(f"expected {name} to be {expected}, got {shown(found)}")


def check_range(name: str, value: float, low: float, high: float, beside: str = "") -> None:
    """Raise ValueError unless ``value`` is a number in [low, high]; NaN is not.

    Args:    beside: what else is allowed, for the message.
    """
    check(value >= low, name, f">= {low:g}{beside}", value)
    check(
        value <= high,
        name,
        f"<= {high:,}{beside}" if isinstance(high, int) else f"<= {high:g}{beside}",
        value,
    )


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise TypeError unless ``value`` is a whole number, ValueError unless it is in [low, high]."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"expected {name} to be a whole number, got {type(value).__name__}: {shown(value)}")
    number = int(value)
    if not low <= number <= high:
        bound = f">= {low}" if number < low else f"<= {high:,}"
        raise ValueError(f"expected {name} {bound}, got {shown(number)}")


def checked(name: str, value: object, kind: type[_T]) -> _T:
    """The value itself. Raises TypeError unless it is a ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(
            f"expected {name} to be a {kind.__name__}, got {type(value).__name__}: {shown(value)}"
        )
    return value


def check_different(name: str, values: Collection[object]) -> None:
    """Raise ValueError unless there is a value, and none twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"expected different {name}, at least one, got {shown(values)}")


def typed(name: str, annotation: str, value: Any) -> Any:
    """The value as the type that a field has: numbers as Python's own, lists as tuples.

    Args:    annotation: "int", "float | None", "tuple[str, ...]" …
    Raises:  ValueError: it is of another type.

    >>> typed("lr", "float", 1), typed("limit", "int | None", None)
    (1.0, None)
    """
    allowed = tuple(kind for part in annotation.split("|") for kind in _KINDS[part.strip()])
    listed = isinstance(value, list | tuple)
    fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    part = int if "int" in annotation else str
    if not fits or (listed and not all(type(entry) is part for entry in value)):
        raise ValueError(f"expected {name} to be {annotation}, got {shown(value)}")
    if listed:
        return tuple(value)
    if value is None or isinstance(value, bool | str):
        return value
    if numbers.Integral in allowed:
        return int(value)
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats, which no range has
        return value


def shown(value: object) -> str:
    """A value as a message shows it: not more of it than fits into a line.

    >>> shown(10**99), shown("x")
    ('a number of more than 60 digits', "'x'")
    """
    if isinstance(value, int) and not -(10**60) < value < 10**60:
        return "a number of more than 60 digits"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"
