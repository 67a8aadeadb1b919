# SPDX-License-Identifier: MIT
"""The architecture over the epochs of NASP and of DARTS: a table and two drawings."""

import re

import pytest

from nasp_ext.arch.registry import register_space
from nasp_ext.cli import main
from nasp_ext.families.cells.space import CellSpace

OPTIONS = ("skip_connect", "conv_1x1", "max_pool_3x3")
register_space(CellSpace("tiny-stability", OPTIONS, OPTIONS, nodes=1))
SMALL = ["--space", "tiny-stability", "--limit", "40", "--channels", "2", "--batch", "10", "--epochs", "3"]


def test_both_searches_are_measured_and_drawn(capsys, tmp_path):
    argv = ["reproduce", "nasp-stability", *SMALL, "--seeds", "0", "1", "--arch-lr", "0.3"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(nasp|darts) ([01]) +(\d\.\d{4}) +(\d\.\d{4}) +(\d\.\d{4})$", out, re.M)
    assert [row[:2] for row in rows] == [("nasp", "0"), ("nasp", "1"), ("darts", "0"), ("darts", "1")]
    assert all(0 < float(row[4]) < 1 for row in rows)
    for name in ("nasp", "darts"):
        drawing = (tmp_path / f"architecture_{name}.svg").read_text()
        assert drawing.count('class="value"') == 4 * 3 * 3  # rows, epochs, options
        assert drawing.count('class="mark"') == 4 * 3
        assert f"wrote {tmp_path / f'architecture_{name}.svg'}" in out
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("options", [["--epochs", "1"], ["--seeds", "1", "1"]])
def test_a_wrong_option_is_one_line(capsys, tmp_path, options):
    assert main(["reproduce", "nasp-stability", *options, "--out", str(tmp_path / "new")]) == 2
    assert options[0][2:] in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
