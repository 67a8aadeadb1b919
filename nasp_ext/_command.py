# SPDX-License-Identifier: MIT
"""Ctrl-C while the command is still importing, which takes seconds: one line instead of a traceback."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_NAMES = ("nasp-ext", "nasp-ext.exe")


def quiet_interrupts() -> None:
    """Until ``loud_interrupts``, end the process at Ctrl-C with one line, if it is the command ``nasp-ext``.

    A KeyboardInterrupt would not do: imports of PyTorch and numpy swallow it and fail later. There is nothing
    to lose yet. Whoever imports the package for other reasons, or ignores SIGINT, is left alone.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    own = _is_command(list(sys.orig_argv), sys.argv[0] if sys.argv else "")
    if own and usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def loud_interrupts() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"nasp-ext: interrupted\n")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)  # so that a shell sees what ended the process


def _is_command(words: list[str], program: str) -> bool:
    """Whether ``python -m nasp_ext`` or the script of the installation was called.

    >>> _is_command(["python", "-m", "nasp_ext", "info"], "-m"), _is_command(["python"], "")
    (True, False)
    """
    module = "-m" in words and words[words.index("-m") + 1 :][:1] == ["nasp_ext"]
    return module or Path(program).name in _NAMES
