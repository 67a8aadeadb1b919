# SPDX-License-Identifier: MIT
"""What a command is: an entry of the table in ``nasp_ext/cli.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasp_ext.checks import shown
from nasp_ext.commands.parsing import parse


@dataclass(frozen=True)
class Command:
    """One command, with options of its own.

    Args:
        name: on the command line.
        options: the dataclass of its options, all with defaults; the first line of its docstring is the help.
        work: does it, with the options as they were given.
        start: from the words to what the options start from; None = their defaults.
        again: how to go on where an interrupt left it; empty = there is nothing to go on with.
    """

    name: str
    options: type[Any]
    work: Callable[[Any], None]
    start: Callable[[Sequence[str]], Any] | None = None
    again: str = ""

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.options.__doc__ or "").splitlines()[0]

    def __call__(self, argv: Sequence[str]) -> None:
        """Parse the words after the name, and do it."""
        start = self.options() if self.start is None else self.start(argv)
        self.work(parse(start, self.name, argv))


@dataclass(frozen=True)
class Group:
    """A command that has a word for each of several.

    Args:
        name: on the command line; summary: what it does, in a line.
        noun: what its parts are; parts: by the word that chooses them, made for each call.
        again: as of ``Command``.
    """

    name: str
    summary: str
    noun: str
    parts: Callable[[], Mapping[str, Command]]
    again: str = ""

    def __call__(self, argv: Sequence[str]) -> None:
        """List the parts, or do the one that is named."""
        parts = self.parts()
        if not argv or argv[0] in ("-h", "--help"):
            print(self._usage(parts))
            return
        if argv[0] not in parts:
            raise ValueError(f"expected an {self.noun}, one of {', '.join(parts)}, got {shown(argv[0])}")
        parts[argv[0]](argv[1:])

    def _usage(self, parts: Mapping[str, Command]) -> str:
        head = [f"usage: nasp-ext {self.name} NAME [options]", "", f"{self.noun}s:"]
        width = max(map(len, parts))
        lines = [f"  {name:<{width}} {part.summary}" for name, part in parts.items()]
        return "\n".join(
            [*head, *lines, "", f"nasp-ext {self.name} NAME --help lists the options of one {self.noun}"]
        )
