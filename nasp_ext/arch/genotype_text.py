# SPDX-License-Identifier: MIT
"""Genotypes in a text: what a search printed, a line of its log, a file of published cells."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nasp_ext.arch.genotype_values import FIELDS, Reader, UnreadableError, shortened

EXAMPLE = (
    "Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=range(2, 6), reduce=[…], reduce_concat=[…])"
)
LONGEST_TEXT = 4_000_000

_FIRST = ("kind", *FIELDS, "layers", "layer_nodes", "recurrent", "concat")
_START = re.compile(
    r"^[ \t]*(?P<comment>\#[^\n]*|class[ \t]+\w*Genotype\b[^\n]*)"
    r"|(?P<call>\b(?:Layered|Recurrent)?Genotype[ \t]*\()"
    r"|(?P<dict>\{\s*u?[\"'](?:" + "|".join(_FIRST) + r")[\"']\s*:)"
    r"|(?P<arch>\|[^|~+\n]+~\d{1,4}\|)",
    re.M,
)
_ARCH = re.compile(r"(?:\|[^|~+\n]+~\d{1,4}|\|\+(?=\|)|\|)+")
_ASSIGNED = re.compile(r"(?:\w+[ \t]*(?::[ \t]*[\w.]+[ \t]*)?=[ \t]*)+$")
_KEY = re.compile(r"[\"'](\w+)[\"']\s*:$")
_MOST = 2_000  # genotypes in a text


@dataclass(frozen=True)
class Found:
    """A genotype in a text.

    Args:
        names: it is assigned to, or the key in front of it; line: from 1, where it starts.
        value: its fields, or the text of a cell ``|nor_conv_3x3~0|+…``; None if it cannot be read.
        error: why not.
    """

    names: tuple[str, ...]
    line: int
    value: Mapping[str, Any] | str | None
    error: str = ""


def genotype_in(text: str, which: str | int | None = None) -> Mapping[str, Any] | str:
    """The fields of the genotype in a text, or the text of a cell of NAS-Bench-201.

    Args:   which: the name or the line of the one that is meant, where the text holds several.
    Raises: ValueError: there is none, it cannot be read, or there are several and nobody says which.

    >>> genotype_in("DARTS = Genotype(normal=[('sep_conv_3x3', 1)], normal_concat=range(2, 4))")
    {'normal': (('sep_conv_3x3', 1),), 'normal_concat': (2, 3)}
    """
    if not isinstance(text, str):
        raise TypeError(f"expected the text of a genotype, got {type(text).__name__}")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"expected a text of at most {LONGEST_TEXT:,} characters, got {len(text):,}")
    found = list(islice(_find(text), _MOST + 1))
    if len(found) > _MOST:
        raise ValueError(f"expected a text with at most {_MOST:,} genotypes, found more")
    if which is not None:
        named = [one for one in found if which == one.line or which in one.names]
        if not named:
            raise ValueError(f"expected a genotype named {which!r} or in that line, found {_listed(found)}")
        found = named
    if not found:
        raise ValueError(
            f"expected a genotype, like {EXAMPLE}, its JSON, or a cell |nor_conv_3x3~0|+…; "
            f"found none in {shortened(text)}"
        )
    first = found[0]
    if any(other.value != first.value or other.error for other in found[1:]):
        raise ValueError(
            f"expected one genotype, found {len(found)}: {_listed(found)}; say which one by its name or line"
        )
    if first.value is None:
        raise ValueError(f"line {first.line}: {first.error}")
    return first.value


def _listed(found: list[Found]) -> str:
    """A few of them, for a message."""
    texts = [f"{'/'.join(one.names) or 'one'} in line {one.line}" for one in found]
    if len(texts) > 8:
        texts = [*texts[:4], "…", *texts[-3:]]
    return ", ".join(texts) or "none"


def _find(text: str) -> Iterator[Found]:
    """Every genotype of a text, those that cannot be read as well; lines of comments are passed over."""
    start = len(text) - len(text.lstrip())
    if text.startswith("{", start):
        one = _parsed(text, start, start, "{", 1 + text.count("\n", 0, start))[0]
        if isinstance(one.value, Mapping) and set(one.value) & set(_FIRST):
            yield one
            return
    at, line, counted = 0, 1, 0
    while match := _START.search(text, at):
        at = match.end()
        if match["comment"] is None:
            line += text.count("\n", counted, match.start())
            counted = match.start()
            if match["arch"] is not None:
                whole = _ARCH.match(text, match.start())
                assert whole is not None
                at = whole.end()
                yield Found((), line, whole[0])
            else:
                opening = match.end() - 1 if match["call"] else match.start()
                one, at = _parsed(text, match.start(), opening, text[opening], line)
                yield one


def _parsed(text: str, start: int, opening: int, bracket: str, line: int) -> tuple[Found, int]:
    """The genotype at a place, and where to look for the next."""
    names = _names(text[max(0, start - 120) : start].rstrip())
    reader = Reader(text, opening + 1)
    try:
        value = reader.fields() if bracket == "(" else reader.mapping()
        reader.check_end()
    except UnreadableError as error:
        line_of_error = line + text.count("\n", start, error.at)
        where = f" (line {line_of_error})" if line_of_error > line else ""
        return Found(names, line, None, f"{error}{where}"), max(error.at, opening + 1)
    return Found(names, line, value), reader.at


def _names(before: str) -> tuple[str, ...]:
    """What the text in front of a genotype calls it: ``A = B =``, ``A: Genotype =`` or ``"A":``."""
    if before.endswith("=") and (assigned := _ASSIGNED.search(before)):
        return tuple(part.split(":")[0].strip() for part in assigned[0].split("=")[:-1])
    key = _KEY.search(before) if before.endswith(":") else None
    return (key[1],) if key else ()
