# SPDX-License-Identifier: MIT
"""The command ``nasp-ext``: the table of commands, and what every one of them does with an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import torch

from nasp_ext._command import loud_interrupts
from nasp_ext.checks import shown
from nasp_ext.commands import compare, count, derive, info, lookup, plot, reproduce, retrain, search
from nasp_ext.commands.command import Command, Group

_MODULES = (info, search, derive, retrain, plot, compare, count, lookup, reproduce)
COMMANDS: Mapping[str, Command | Group] = {module.COMMAND.name: module.COMMAND for module in _MODULES}


def _usage() -> str:
    lines = [f"  {name:<9} {command.summary}" for name, command in COMMANDS.items()]
    head = ["usage: nasp-ext COMMAND [options]", "", "commands:"]
    return "\n".join([*head, *lines, "", "nasp-ext COMMAND --help lists the options of one command"])


_LONGEST = 1000  # characters of an error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's error is one line on stderr and status 2."""
    loud_interrupts()
    if sys.stdout is None:  # closed: files that a run opens would get its number, and what is printed
        return _refuse("expected an open standard output, found it closed: end the command with > /dev/null")
    status = 2
    try:
        try:
            status = _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough: nasp-ext info | head -1
        _drop_output()
        return 128 + 13  # the status of a command that SIGPIPE ends
    except OSError as error:
        _drop_output()
        return _refuse(f"cannot write to the standard output: {error.strerror}")
    return status


def _drop_output() -> None:
    """Let nothing that is still to be printed fail again, in the flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(text: str) -> int:
    """Tell an error in one line; the status of a user's error."""
    if sys.stderr is not None:
        words = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        if len(words) > _LONGEST:  # of a value that was given, the start is enough to know it again
            words = f"{words[: _LONGEST // 2]} … {words[-_LONGEST // 2 :]}"
        print(f"nasp-ext: error: {words}", file=sys.stderr)
    return 2


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name = arguments[0]
    try:
        if name not in COMMANDS:
            raise ValueError(f"expected a command, one of {', '.join(COMMANDS)}, got {shown(name)}")
        COMMANDS[name](arguments[1:])
    except KeyboardInterrupt:
        again = COMMANDS[name].again if name in COMMANDS else ""
        lost = f"; nothing is lost but the current epoch: {again}" if again else ""
        print(f"nasp-ext: interrupted{lost}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _refuse(str(error) or type(error).__name__)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _refuse(
            "out of memory: take a smaller network (channels, cells, embedding), a smaller batch, less data "
            "(--limit)"
        )
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch raises its own error for a GPU's memory, and a RuntimeError for the other."""
    texts = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(text in str(error) for text in texts)
