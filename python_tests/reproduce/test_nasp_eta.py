# SPDX-License-Identifier: MIT
"""The size of the derived network falls as the weight of the regulariser grows."""

import re
from xml.etree import ElementTree

import pytest

from nasp_ext.arch.registry import register_space
from nasp_ext.cli import main
from nasp_ext.families.cells.space import CellSpace
from nasp_ext.reproduce import EXPERIMENTS
from nasp_ext.reproduce.nasp_eta import NaspEta
from nasp_ext.reproduce.ranks import ranks, spearman

OPTIONS = ("sep_conv_3x3", "conv_3x3", "conv_1x1", "skip_connect")  # 100, 144, 16 and 0 parameters at C = 4
register_space(CellSpace("tiny-eta", OPTIONS, OPTIONS, nodes=2))
SMALL = ["--space", "tiny-eta", "--limit", "160", "--channels", "4", "--epochs", "4", "--batch", "20"]
SMALL += ["--preset", "paper", "--arch-lr", "0.1"]


def reproduce(capsys, *argv) -> tuple[int, str, str]:
    status = main(["reproduce", *map(str, argv)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_mean_size_falls_from_the_smallest_to_the_largest_eta(capsys, tmp_path):
    argv = ["nasp-eta", *SMALL, "--etas", "0", "0.03", "0.2", "1", "--seeds", "0", "1", "--out", tmp_path]
    status, out, err = reproduce(capsys, *argv)
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if re.match(r"\d\S* +[\d,]+ +[\d,]+ +[\d,]+$", line)]
    assert [row[0] for row in rows] == ["0", "0.03", "0.2", "1"]
    means = [int(row[-1].replace(",", "")) for row in rows]
    assert means[0] > 2 * means[-1]  # a larger η need not give a smaller network each time
    assert max(means) == means[0]
    rho = float(re.search(r"rank correlation of eta and parameters: (\S+)", out)[1])
    assert rho < -0.7
    assert f"wrote {tmp_path / 'eta.svg'}" in out
    drawn = ElementTree.parse(tmp_path / "eta.svg")
    assert (
        sum(node.get("class") == "series" for node in drawn.iter()) == 1 + 8
    )  # the mean, and a dot per search

    again = reproduce(capsys, *argv)  # every search is there already
    assert again == (0, out, "")
    assert re.search(r"arch_lr 0\.1 → 0\.5", reproduce(capsys, *argv, "--arch-lr", "0.5")[2])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--etas", "0.1"], "expected at least two different etas"),
        (["--etas", "0.1", "-1"], "etas"),
        (["--seeds", "1", "1"], "expected different seeds"),
        (["--space", "mars"], "got 'mars'"),
        (["--batch", "0"], "expected batch to be >= 1"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    status, out, err = reproduce(capsys, "nasp-eta", *options, "--out", tmp_path / "new")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_experiments_are_listed_and_an_unknown_one_is_one_line(capsys):
    for argv in ([], ["--help"]):
        status, out, _ = reproduce(capsys, *argv)
        assert status == 0
        assert all(name in out for name in EXPERIMENTS)
    assert f"one of {', '.join(EXPERIMENTS)}, got 'fly'" in reproduce(capsys, "fly")[2]
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "nasp-eta", "--help"])
    assert stop.value.code == 0
    assert "--etas" in capsys.readouterr().out


@pytest.mark.parametrize("kind", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_option_of_an_experiment_has_a_default(kind):
    assert kind() == kind()


def test_equal_values_share_their_rank():
    assert ranks([5, 1, 5, 5]) == [3, 1, 3, 3]


def test_rank_correlation_of_hand_made_lists():
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert spearman([1, 10, 100], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2], [1, 1, 1]) != spearman([1, 1, 2], [1, 1, 1])  # NaN
    with pytest.raises(ValueError, match="one length"):
        spearman([1, 2], [1])


def test_etas_must_differ():
    with pytest.raises(ValueError, match="two different etas"):
        NaspEta(etas=(0.1, 0.1))
