# SPDX-License-Identifier: MIT
"""Searches of other spaces than cells of two inputs from the command line, to the retrained network."""

import json
import re

import pytest
from cli_calls import SIZES, call, error_of

from nasp_ext.arch.registry import names
from nasp_ext.families.cells.genotype import Genotype

ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"


def test_info_lists_every_space_with_its_size(capsys):
    out = call(capsys, "info")[1]
    assert re.findall(r"^Space (.+?): ", out, re.M) == list(names())
    for line in (
        "Space darts: 28 rows, 8 options, 8 nodes, 2 edges per node, 1.1e+18 architectures",
        "Space nas-bench-201: 6 rows, 5 options, 3 nodes, all edges per node, 15,625 architectures",
    ):
        assert f"{line}\n" in out
    assert re.search(r"^Space asng-cnn: 40 rows, 6 options, .*, no gradient of the choices$", out, re.M)


@pytest.mark.parametrize("strategy", ["nasp", "asng"])
def test_a_cell_of_nas_bench_201_is_searched_derived_and_retrained(capsys, tmp_path, strategy):
    search, out = tmp_path / "search", tmp_path / "retrain"
    argv = ["search", "--space", "nas-bench-201", "--strategy", strategy, "--epochs", "2", *SIZES]
    status, printed, _ = call(capsys, *argv, "--out", search)
    assert status == 0
    genotype = Genotype.from_json((search / "genotype.json").read_text())
    assert len(genotype.normal) == 6
    assert f"cell: {genotype.to_arch()}" in printed.splitlines()
    assert not (search / "cell_reduce.svg").exists()
    status, printed, _ = call(capsys, "derive", "--run", search)
    assert status == 0
    assert f"cell: {genotype.to_arch()}" in printed.splitlines()
    argv = ["retrain", "--epochs", "1", *SIZES, "--genotype", search, "--out", out]
    assert call(capsys, *argv)[0] == 0
    assert json.loads((out / "genotype.json").read_text())["inputs"] == 1


@pytest.mark.parametrize("strategy", ["asng", "random"])
def test_wired_cells_are_searched_derived_drawn_and_retrained(capsys, tmp_path, strategy):
    search, out = tmp_path / "search", tmp_path / "retrain"
    argv = ["search", "--space", "asng-cnn", "--strategy", strategy, "--epochs", "2", *SIZES, "--out", search]
    assert call(capsys, *argv)[0] == 0
    genotype = Genotype.from_json((search / "genotype.json").read_text())
    assert (len(genotype.normal), len(genotype.reduce), genotype.projected) == (10, 10, True)
    assert (search / "cell_reduce.svg").read_text().count('class="label"') == 10
    assert call(capsys, "derive", "--run", search, "--out", tmp_path / "derived")[0] == 0
    assert (tmp_path / "derived" / "genotype.json").read_text() == (search / "genotype.json").read_text()
    argv = ["retrain", "--epochs", "1", *SIZES, "--genotype", search, "--out", out]
    status, printed, _ = call(capsys, *argv)
    assert (status, "parameters: " in printed) == (0, True)


def test_a_cell_is_given_as_text(capsys, tmp_path):
    status, printed, _ = call(
        capsys, "retrain", "--epochs", "1", *SIZES, "--genotype", ARCH, "--out", tmp_path / "retrain"
    )
    assert status == 0
    assert f"cell: {ARCH}" in printed.splitlines()
    assert call(capsys, "plot", "--genotype", ARCH, "--out", tmp_path / "plot")[0] == 0
    assert [file.name for file in (tmp_path / "plot").iterdir()] == ["cell_normal.svg"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["search", "--space", "nas-bench-201", "--cells", "2"], "expected cells >= 3"),
        (["search", "--space", "asng-cnn"], "learns from losses alone .*random.* 'asng-cnn'.* got 'nasp'"),
        (["retrain", "--genotype", "|nor_conv_3x3~1|"], "expected an architecture like"),
        (["retrain", "--genotype", "|warp~0|"], "expected a primitive of .*got 'warp'"),
    ],
)
def test_a_cell_or_size_that_cannot_be_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    command, *rest = options
    assert re.search(message, error_of(capsys, command, *SIZES, *rest, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
