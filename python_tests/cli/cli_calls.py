# SPDX-License-Identifier: MIT
"""Calls of the command line on a search that takes a moment."""

from nasp_ext.arch.registry import register_space
from nasp_ext.cli import main
from nasp_ext.families.cells.space import CellSpace

OPTIONS = ("skip_connect", "max_pool_3x3", "conv_1x1")
SPACE = register_space(CellSpace("tiny-cli", OPTIONS, OPTIONS, nodes=1)).name
SIZES = [
    "--cells",
    "3",
    "--channels",
    "2",
    "--batch",
    "8",
    "--limit",
    "40",
    "--threads",
    "1",
    "--device",
    "cpu",
]
SEARCH = ["search", "--space", SPACE, "--epochs", "2", *SIZES]
RETRAIN = ["retrain", "--epochs", "1", *SIZES]


def call(capsys, *argv) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def error_of(capsys, *argv) -> str:
    """The one line of a user error."""
    status, out, err = call(capsys, *argv)
    assert status == 2
    assert out == ""
    assert err.startswith("nasp-ext: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err
