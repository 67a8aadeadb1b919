# SPDX-License-Identifier: MIT
"""Words of a command line to a dataclass of settings; a mistake is a ValueError of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

from nasp_ext.commands.flags import Flag, flags_of, strategies_of, tasks_of, with_values
from nasp_ext.engine.options import every_flag

_T = TypeVar("_T")


def parse(start: _T, command: str, argv: Sequence[str]) -> _T:
    """The options of ``nasp-ext <command>``: ``start`` with what the words say.

    Raises:  ValueError: an option or a value that cannot be; SystemExit: after printing the help.
    """
    flags = flags_of(start)
    words = _split(argv, flags)
    _refuse_foreign(start, flags, words)
    fields: list[Any] = [
        (
            flag.name,
            Annotated[flag.type, tyro.conf.arg(help=flag.help)],
            dataclasses.field(default=flag.default),
        )
        for flag in flags
    ]
    kind = dataclasses.make_dataclass(type(start).__name__, fields, frozen=True)
    kind.__doc__ = type(start).__doc__
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            parsed: Any = tyro.cli(kind, prog=f"nasp-ext {command}", args=words)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_one_line(output.getvalue()) + f" (see nasp-ext {command} --help)") from None
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"an option has a value that cannot be read: {error}") from error
    return with_values(start, {flag.name: getattr(parsed, flag.name) for flag in flags})


def value_of(argv: Sequence[str], option: str) -> str | None:
    """The value of ``--option value`` or ``--option=value``; underscores and hyphens are one.

    >>> value_of(["--data_dir", "images"], "--data-dir")
    'images'
    """
    values = None
    for word, following in zip(argv, [*argv, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            values = value if equals else following
    return values


def values_of(argv: Sequence[str], option: str) -> tuple[str, ...] | None:
    """The values of ``--option value value,value``, up to the next option.

    >>> values_of(["--strategies", "nasp,darts", "pa", "--seeds", "1"], "--strategies")
    ('nasp', 'darts', 'pa')
    """
    found: list[str] | None = None
    taking = False
    for word in argv:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            taking = name.replace("_", "-") == option
            found = [] if taking else found
            word = value if equals else ""
        if taking and found is not None:
            found += [part for part in word.split(",") if part]
    return None if found is None else tuple(found)


def _split(argv: Sequence[str], flags: Sequence[Flag]) -> list[str]:
    """The words, with each list of values parted where commas part it.

    Raises:  ValueError: a list is given twice, of which the parser would forget the first.

    >>> _split(["--seeds=0,1", "2,", "3"], [Flag("seeds", tuple[int, ...], (), split=True)])
    ['--seeds', '0', '1', '2', '3']
    """
    several = {f"--{flag.name.replace('_', '-')}" for flag in flags if typing.get_origin(flag.type) is tuple}
    parted = {f"--{flag.name.replace('_', '-')}" for flag in flags if flag.split}
    words: list[str] = []
    listing, seen = False, set[str]()
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            name = name.replace("_", "-")
            if name in seen & several:
                raise ValueError(f"expected {name} once, with all its values behind it, got it twice")
            seen.add(name)
            listing = name in parted
            if listing and equals:
                words.append(name)
                word = value
            elif listing:
                words.append(word)
                continue
        words += [part for part in word.split(",") if part] if listing else [word]
    return words


def _refuse_foreign(start: Any, flags: Sequence[Flag], argv: Sequence[str]) -> None:
    """Raise ValueError if a word is an option of other strategies, or one that means nothing to the task."""
    own, chosen = {flag.name for flag in flags}, strategies_of(start)
    foreign = every_flag() - own if chosen and own & {"strategy", "strategies"} else set()
    for word in argv:
        flag = word.partition("=")[0].removeprefix("--").replace("-", "_")
        for task in tasks_of(start):
            if word.startswith("--") and flag in task.without:
                raise ValueError(f"task {task.name!r} has no setting {flag}, got {word}")
        if word.startswith("--") and flag in foreign:
            value = value_of(argv, f"--{flag.replace('_', '-')}")
            listed = " and ".join(map(repr, chosen))
            raise ValueError(f"strategy {listed} has no option {flag}, got {flag}={value}")


def _one_line(box: str) -> str:
    """The message in the parser's box of text, without frame, title and help."""
    lines = [line.strip(" │|╭╮╰╯─") for line in box.splitlines()]
    words = [line for line in lines if line.strip("-+")][1:]
    for i, line in enumerate(words):
        if line.startswith(("Argument helptext", "For full helptext")):
            words = words[:i]
            break
    return re.sub(r"\s+", " ", " ".join(words)).removeprefix("Error parsing ")
