# SPDX-License-Identifier: MIT
"""The options of a strategy as its signature has them: their names, flags, types, defaults and texts."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

from nasp_ext.checks import (
    LARGEST_ARCH_RATE,
    LARGEST_ETA,
    LARGEST_RATE,
    MOST_CHANNELS,
    check,
    check_range,
    shown,
)
from nasp_ext.config import SearchConfig
from nasp_ext.strategies.base import context_options, factory, names, option_types
from nasp_ext.tasks import task_kinds

_ALL = {"edges_per_node": "all"}  # the word for None of an option
# What several strategies have; the docstring of one may say it in the words of its field.
_COMMON = {
    "preset": "NASP as in the authors' code (official) or as printed (paper).",
    "lr": "Learning rate of A.",
    "eta": "Weight of the complexity regulariser: larger gives smaller networks.",
    "edges_per_node": "Edges kept per node: a number, all, or what the preset says.",
}
_BEYOND = 10**300  # the least whole number that is not made a float
_NONE_FITS = object()
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Option:
    """An option of a strategy that text can give.

    Args:
        strategy, name: whose, and its name there.
        annotation, default: as in the signature of the factory.
        help: what the docstring of the factory says of it.
    """

    strategy: str
    name: str
    annotation: Any
    default: Any
    help: str = ""

    @property
    def flag(self) -> str:
        """Its name on a command line, where the weights or a task of this package may have one of this name.

        >>> own_options("nasp")["lr"].flag, own_options("nasp")["eta"].flag
        ('arch_lr', 'eta')
        """
        return f"arch_{self.name}" if self.name in _taken() else self.name

    def read(self, text: str) -> Any:
        """The value that a text stands for: JSON if it is some, else the text itself.

        Raises:  ValueError: the option takes no such value.

        >>> own_options("darts")["betas"].read("[0.9, 0.99]")
        (0.9, 0.99)
        """
        if text == _ALL.get(self.name):
            return self.checked(None)
        value = _value(text)
        if value is None and not isinstance(self.default, type(None)) and not self._fits(None):
            return self.default
        return self.checked(value, text)

    def text(self, value: Any) -> str:
        """What ``read`` reads as this value."""
        if value is None:
            return _ALL.get(self.name, "None")
        if isinstance(value, bool | str):
            return str(value)
        return json.dumps(value)

    def checked(self, value: Any, found: Any = None) -> Any:
        """The value as the strategy takes it: of one of its types, finite, in its range.

        Args:    found: what a message shows as found; None = the value.
        Raises:  ValueError: it cannot be.
        """
        if self.name == "edges_per_node":
            known = value is None or (
                1 <= value <= MOST_CHANNELS if type(value) is int else value == "preset"
            )
            check(known, self.flag, "a number >= 1, 'all' or 'preset'", value if found is None else found)
        fitting = _fitting(self.annotation, value)
        if fitting is _NONE_FITS:
            raise ValueError(
                f"expected the option {self.flag} of strategy {self.strategy!r} to be "
                f"{_described(self.annotation)}, got {shown(value if found is None else found)}"
            )
        for number in fitting if isinstance(fitting, tuple) else (fitting,):
            if isinstance(number, float):  # which float32 has to hold
                check_range(self.flag, number, -LARGEST_RATE, LARGEST_RATE)
        if self.name == "lr":
            check_range(self.flag, fitting, 0, LARGEST_ARCH_RATE)
        if self.name == "eta":
            check_range(self.flag, fitting, 0, LARGEST_ETA)
        return fitting

    def _fits(self, value: Any) -> bool:
        return _fitting(self.annotation, value) is not _NONE_FITS


def own_options(name: str) -> dict[str, Option]:
    """The options of a strategy that a configuration may set, in the order of its signature.

    Raises:  ValueError: no such strategy.

    >>> [option.flag for option in own_options("pa").values()][:2]
    ['preset', 'arch_lr']
    """
    known, following = option_types(name), context_options(name)
    defaults = inspect.signature(factory(name)).parameters
    texts = _texts(inspect.getdoc(factory(name)) or "") | _COMMON
    return {
        option: Option(name, option, kind, defaults[option].default, texts.get(option, ""))
        for option, kind in known.items()
        if option not in following and _kinds(kind)
    }


@cache
def _taken() -> frozenset[str]:
    """Names of settings that no option of a strategy has for a flag.

    Tasks of one's own are left out: a flag must not depend on what else a process has registered.
    """
    package = SearchConfig.__module__.partition(".")[0]
    kinds: list[Any] = [SearchConfig, *(kind.settings for kind in task_kinds().values())]
    own = [kind for kind in kinds if kind.__module__.partition(".")[0] == package]
    return frozenset(field.name for kind in own for field in dataclasses.fields(kind))


def every_flag() -> set[str]:
    """The flags of all options of all strategies."""
    return {option.flag for name in names() for option in own_options(name).values()}


def _texts(doc: str) -> dict[str, str]:
    """What the part ``Args:`` of a docstring says of each name.

    >>> _texts("Does.\\n\\nArgs:\\n    a, b: one\\n        or two.\\n    c: x; d: y.\\nRaises:\\n    Z: no.")
    {'a': 'one or two.', 'b': 'one or two.', 'c': 'x; d: y.'}
    """
    part = re.search(r"^Args:[ \t]*\n?((?:[ \t]+.*\n?|\n)*)", doc, re.M)
    found: dict[str, str] = {}
    if part is None:
        return found
    for entry in re.finditer(r"^ {4}([\w, ]+): ((?:.*\n?)(?:^ {5,}.*\n?)*)", part[1], re.M):
        text = re.sub(r"\s+", " ", entry[2]).strip()
        found |= {name.strip(): text for name in entry[1].split(",")}
    return found


def _described(annotation: Any) -> str:
    """The types of an option, in words."""
    kinds = " or ".join("None" if kind is type(None) else kind.__name__ for kind in _kinds(annotation))
    parts = [kind.__name__ for kind in typing.get_args(annotation) if kind in _PLAIN]
    listed = f" [{', '.join(parts)}]" if kinds == "tuple" else ""
    return f"{kinds}{listed}{', finite' * ('float' in kinds + listed)}"


def _fitting(annotation: Any, value: Any) -> Any:
    """The value as an option of this annotation takes it, or ``_NONE_FITS``; floats are finite."""
    kinds = _kinds(annotation)
    if type(value) is list:
        value = tuple(value)
    if type(value) is int and int not in kinds and float in kinds and abs(value) < _BEYOND:
        value = float(value)
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        return _NONE_FITS
    if not isinstance(value, tuple):
        return value
    parts = typing.get_args(annotation)
    if parts[-1] is ...:
        parts = parts[:1] * len(value)
    if len(parts) != len(value):
        return _NONE_FITS
    fitting = tuple(map(_fitting, parts, value))
    return _NONE_FITS if _NONE_FITS in fitting else fitting


def _value(text: str) -> Any:
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _kinds(annotation: Any) -> tuple[type, ...]:
    """The types of the values that text can give to an option; none if it takes no plain value."""
    if annotation in _PLAIN:
        return (annotation,)
    if annotation is None:
        return (type(None),)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return tuple(dict.fromkeys(type(value) for value in arguments))
    if origin is tuple and all(argument in (*_PLAIN, ...) for argument in arguments):
        return (tuple,)
    if origin in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(kind for argument in arguments for kind in _kinds(argument)))
    return ()
