# SPDX-License-Identifier: MIT
"""Words of a command line to a dataclass; a mistake is a ValueError of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro

_T = TypeVar("_T")


def parse(kind: type[_T], command: str, argv: Sequence[str], default: _T | None = None) -> _T:
    """The options of ``nasp-ext <command>`` as a ``kind``, its defaults taken from ``default`` if given.

    Raises:  ValueError: an option or a value that cannot be; SystemExit: after printing the help.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            start = kind() if default is None else default
            parsed: _T = tyro.cli(kind, prog=f"nasp-ext {command}", args=argv, default=start)
            return parsed
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_one_line(output.getvalue()) + f" (see nasp-ext {command} --help)") from None
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"an option has a value that cannot be read: {error}") from error


def value_of(argv: Sequence[str], option: str) -> str | None:
    """The value of ``--option value`` or ``--option=value``; underscores and hyphens are one.

    >>> value_of(["--data_dir", "images"], "--data-dir")
    'images'
    """
    values = None
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            values = value if equals else following
    return values


def _one_line(box: str) -> str:
    """The message in the parser's box of text, without frame, title and help."""
    lines = [line.strip(" │|╭╮╰╯─-") for line in box.splitlines()]
    words = [line for line in lines if line][1:]
    for i, line in enumerate(words):
        if line.startswith(("Argument helptext", "For full helptext")):
            words = words[:i]
            break
    return re.sub(r"\s+", " ", " ".join(words)).removeprefix("Error parsing ")
