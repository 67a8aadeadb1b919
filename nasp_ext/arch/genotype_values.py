# SPDX-License-Identifier: MIT
"""The small grammar in which genotypes are written: nothing is run, anything else is an error with its place.

Strings, numbers, lists, tuples, dictionaries, ``range(…)``, and the ways in which NumPy and PyTorch print
numbers and arrays.
"""

import json
import re
from typing import Any

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat", "normal_nodes", "reduce_nodes")

_TOKEN = re.compile(
    r"(?P<string>u?'(?:[^'\\\n]|\\.){0,200}'|u?\"(?:[^\"\\\n]|\\.){0,200}\")"
    r"|(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<mark>[()\[\]{},:=])"
)
_SPACE = re.compile(r"(?:\s+|\#[^\n]*)*")
_ASSIGNED = re.compile(r"\s*=(?!=)")
_GOES_ON = re.compile(r"\.\w|[\[(*+%@]")
_DEEPEST = 10  # brackets within brackets; a genotype has four
_LONGEST = 200_000  # characters of a genotype
_LONGEST_RANGE = 1000
_LONGEST_INTEGER, _LONGEST_FLOAT = 18, 30  # characters
_MODULES = ("", "np", "numpy", "torch")
_INTEGERS = {"int", "int_", "intp", "intc", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))}
_FLOATS = {"float", *(f"float{n}" for n in (16, 32, 64))}
_ARRAYS = {"array", "asarray", "tensor"}
_SEQUENCES = {"list", "tuple", *_ARRAYS}
_CALLS = {*_INTEGERS, *_FLOATS, *_SEQUENCES, "range", "arange", "str_"}
_CONSTANTS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
_AS_PRINTED = {"dtype", "device"}  # keywords of an array or tensor that do not change its numbers
_A_VALUE = "expected a value such as 'sep_conv_3x3', 2, […] or range(2, 6)"


class UnreadableError(ValueError):
    """What was expected at a place of a text, and what stands there."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class Reader:
    """Reads values from a place of a text on; ``at`` is where the next one starts."""

    def __init__(self, text: str, at: int) -> None:
        self._text, self._start, self.at = text, at, at

    def fields(self) -> dict[str, Any]:
        """What stands between the brackets of ``Genotype(…)``."""
        values, named = self._arguments(0)
        if len(values) > len(FIELDS):
            raise UnreadableError(f"expected at most {len(FIELDS)} values without a name", self.at)
        fields = dict(zip(FIELDS, values, strict=False))
        if twice := set(fields) & set(named):
            raise UnreadableError(f"expected each field once, found {sorted(twice)} twice", self.at)
        return fields | named

    def check_end(self) -> None:
        """Raise UnreadableError if the expression goes on, as in ``Genotype(…)._replace(…)``."""
        if _GOES_ON.match(self._text, self.at):
            raise self._unexpected("expected nothing behind a genotype")

    def mapping(self, depth: int = 0) -> dict[str, Any]:
        """A dictionary of strings, behind its opening bracket."""
        found: dict[str, Any] = {}
        while not self._takes("}"):
            key = self._value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise UnreadableError(f"expected different names as keys, found {key!r}", self.at)
            self._take(":")
            found[key] = self._value(depth + 1)
            if not self._takes(","):
                self._take("}")
                break
        return found

    def _unexpected(self, expected: str) -> UnreadableError:
        """The error of what stands next."""
        at = self._skip()
        token = _TOKEN.match(self._text, at)
        found = token[0] if token else self._text[at : at + 10].split("\n")[0]
        return UnreadableError(f"{expected}, found {shortened(found) if found else 'its end'}", at)

    def _value(self, depth: int) -> Any:
        if self.at - self._start > _LONGEST:
            raise UnreadableError(f"expected a genotype of at most {_LONGEST:,} characters", self.at)
        if depth > _DEEPEST:
            raise UnreadableError(f"expected at most {_DEEPEST} brackets within each other", self.at)
        token = _TOKEN.match(self._text, self._skip())
        if token is None or token[0] in ")]},:=":
            raise self._unexpected(_A_VALUE)
        if token["name"]:
            return self._named(token, depth)
        self.at = token.end()
        if token["string"]:
            return _unquoted(token[0], token.start())
        if token["number"]:
            return _number(token[0], token.start())
        if token[0] == "{":
            return self.mapping(depth)
        entries, comma = self._entries("]" if token[0] == "[" else ")", depth)
        return entries[0] if token[0] == "(" and len(entries) == 1 and not comma else entries

    def _entries(self, end: str, depth: int) -> tuple[tuple[Any, ...], bool]:
        """The entries of a list or tuple, and whether a comma stands behind the last."""
        found: list[Any] = []
        comma = False
        while not self._takes(end):
            found.append(self._value(depth + 1))
            comma = self._takes(",")
            if not comma:
                self._take(end)
                break
        return tuple(found), comma

    def _named(self, token: re.Match[str], depth: int) -> Any:
        """A constant, or a call of what prints numbers."""
        if token[0] in _CONSTANTS:
            self.at = token.end()
            return _CONSTANTS[token[0]]
        module, _, name = token[0].rpartition(".")
        called = self._text.startswith("(", token.end())
        if module not in _MODULES or name not in _CALLS or not called:
            raise self._unexpected(_A_VALUE)
        self.at = token.end() + 1
        values, named = self._arguments(depth + 1)
        if set(named) - (_AS_PRINTED if name in _ARRAYS else set()):
            raise UnreadableError(f"expected {token[0]} without {', '.join(named)}", token.start())
        return _called(name, values, token.start())

    def _arguments(self, depth: int) -> tuple[list[Any], dict[str, Any]]:
        """What stands between the brackets of a call."""
        values: list[Any] = []
        named: dict[str, Any] = {}
        while not self._takes(")"):
            token = _TOKEN.match(self._text, self._skip())
            assigned = (
                None if token is None or not token["name"] else _ASSIGNED.match(self._text, token.end())
            )
            if token is not None and assigned is not None:
                if token[0] in named:
                    raise UnreadableError(f"expected {token[0]} once", token.start())
                self.at = assigned.end()
                named[token[0]] = self._as_printed() if token[0] in _AS_PRINTED else self._value(depth + 1)
            elif named:
                raise self._unexpected("expected a name and =")
            else:
                values.append(self._value(depth + 1))
            if not self._takes(","):
                self._take(")")
                break
        return values, named

    def _as_printed(self) -> str:
        """The value of ``dtype=`` or ``device=``: a name or a string."""
        token = _TOKEN.match(self._text, self._skip())
        if token is None or not (token["name"] or token["string"]):
            raise self._unexpected("expected a dtype or device")
        self.at = token.end()
        return token[0]

    def _skip(self) -> int:
        space = _SPACE.match(self._text, self.at)
        self.at = self.at if space is None else space.end()
        return self.at

    def _takes(self, mark: str) -> bool:
        """Whether the mark stands next; then it is passed over."""
        taken = self._text.startswith(mark, self._skip())
        self.at += taken
        return taken

    def _take(self, mark: str) -> None:
        if not self._takes(mark):
            raise self._unexpected(f"expected {mark!r}" + (" or ','" if mark in ")]}" else ""))


def _unquoted(token: str, at: int) -> str:
    body = token.removeprefix("u")[1:-1]
    if "\\" not in body:
        return body
    try:
        text: str = json.loads('"' + re.sub(r'(?<!\\)"', r"\"", body.replace("\\'", "'")) + '"')
        return text
    except ValueError:
        raise UnreadableError(f"expected a string with the escapes of JSON, found {token}", at) from None


def _number(token: str, at: int) -> int | float:
    whole = re.search(r"[.eE]", token) is None
    longest = _LONGEST_INTEGER if whole else _LONGEST_FLOAT
    if len(token) > longest:
        raise UnreadableError(f"expected a number of at most {longest} characters", at)
    return int(token) if whole else float(token)


def _called(name: str, values: list[Any], at: int) -> Any:
    """What ``range(…)``, ``np.int64(…)``, ``array(…)`` and the like stand for."""
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if name in ("range", "arange") and whole and 1 <= len(values) <= 3 and values[2:] != [0]:
        numbers = range(*values)
        if len(numbers) <= _LONGEST_RANGE:
            return tuple(numbers)
    if len(values) == 1 and not isinstance(values[0], bool):
        (value,) = values
        fits = (
            (name in _INTEGERS and whole)
            or (name in _FLOATS and isinstance(value, int | float))
            or (name == "str_" and isinstance(value, str))
            or (name in _SEQUENCES and isinstance(value, tuple))
            or (name == "tensor" and isinstance(value, int | float))
        )
        if fits:
            return value
    raise UnreadableError(f"expected {name}(…) of what it is called with in a genotype", at)


def shortened(text: str) -> str:
    """The start of a text, for a message."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
