# SPDX-License-Identifier: MIT
"""What a table says of a search in the space it was made for: ``--table`` and ``nasp-ext lookup``."""

import itertools
import json
import re
from pathlib import Path

import pytest
from cli_calls import SIZES, call, error_of

from nasp_ext.arch.registry import space
from nasp_ext.commands.lookup import print_lookup
from nasp_ext.families.cells.genotype import Genotype
from nasp_ext.families.cells.table import Table

REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench201.csv.gz"
OPTIONS = space("nas-bench-201").normal
SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"


def score(arch):
    """A number that tells all cells apart: the options of the edges as digits."""
    number = 0
    for name, _ in Genotype.from_arch(arch).normal:
        number = number * 5 + OPTIONS.index(name)
    return number / 100


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """All cells."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    form = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    cells = [form.format(*names) for names in itertools.product(OPTIONS, repeat=6)]
    path.write_text("".join(["index,arch,score\n", *(f"{i},{c},{score(c)}\n" for i, c in enumerate(cells))]))
    return path


def test_compare_prints_the_score_of_each_cell(capsys, tmp_path, file):
    argv = ["compare", "--strategies", "random,nasp", "--space", "nas-bench-201", "--epochs", "1", *SIZES]
    argv += ["--table", file, "--column", "score", "--out", tmp_path / "runs"]
    status, printed, _ = call(capsys, *argv)
    assert status == 0
    for name in ("random", "nasp"):
        arch = Genotype.from_json(
            (tmp_path / "runs" / f"{name}-seed-0" / "genotype.json").read_text()
        ).to_arch()
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert f"{score(arch):.2f}" in row.split()


def test_a_search_prints_the_scores_of_its_cells(capsys, tmp_path, file):
    argv = ["search", "--space", "nas-bench-201", "--strategy", "random", "--epochs", "3", *SIZES]
    status, printed, _ = call(capsys, *argv, "--out", tmp_path / "run", "--table", file)
    assert status == 0
    lines = printed.splitlines()
    arch = Genotype.from_json((tmp_path / "run" / "genotype.json").read_text()).to_arch()
    rank = 5**6 - round(100 * score(arch))
    (found,) = [line.split() for line in lines if line.startswith("score ")]
    assert found == ["score", f"{score(arch):.2f}", f"{rank:,}", "of", "15,625", "156.24"]
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    expected = [f"{score(Genotype.from_json(line['genotype']).to_arch()):.2f}" for line in history]
    start = next(i for i, line in enumerate(lines) if line.split() == ["epochs", "score"]) + 1
    shown = []
    for line in lines[start:]:
        if not line[0].isdigit():
            break
        epochs, value = line.split()
        first, _, last = epochs.partition("-")
        shown += [value] * (int(last or first) - int(first) + 1)
    assert shown == expected
    again = call(capsys, "lookup", "--table", file, "--genotype", tmp_path / "run")[1].splitlines()
    assert again[0] == f"cell: {arch}"
    assert again[1:] == lines[lines.index(again[1]) :][: len(again) - 1]
    assert "table" not in json.loads((tmp_path / "run" / "config.json").read_text())


def test_epochs_with_one_cell_share_a_line(capsys):
    first, second = Genotype.from_arch("|none~0|"), Genotype.from_arch("|skip_connect~0|")
    history = [
        {"epoch": number, "genotype": json.loads(cell.to_json())}
        for number, cell in enumerate((first, first, second, first), 1)
    ]
    print_lookup(Table(["|none~0|", "|skip_connect~0|"], {"score": [10.0, 54.3]}), second, history)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["table", "found", "rank", "best"],
        ["score", "54.30", "1", "of", "2", "54.30"],
        ["epochs", "score"],
        *(["1-2", "10.00"], ["3", "54.30"], ["4", "10.00"]),
    ]


def test_a_cell_is_looked_up_by_its_text(capsys, file):
    status, printed, _ = call(capsys, "lookup", "--table", file, "--genotype", SKIP)
    assert status == 0
    assert f"{score(SKIP):.2f}" in printed
    assert "epochs" not in printed


def test_the_benchmark_knows_the_collapse_of_darts(capsys):
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there")
    printed = call(capsys, "lookup", "--table", REAL, "--genotype", SKIP)[1]
    (line,) = [line.split() for line in printed.splitlines() if line.startswith("cifar10_test_200ep")]
    assert (line[1], line[-1]) == ("54.30", "94.37")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["lookup", "--genotype", SKIP], "expected --table FILE"),
        (["lookup", "--table", "/nowhere.csv", "--genotype", SKIP], "/nowhere.csv"),
        (["search", *SIZES, "--space", "nas-bench-201", "--table", "/nowhere.csv"], "/nowhere.csv"),
        (["compare", *SIZES, "--space", "nas-bench-201", "--table", "/nowhere.csv"], "/nowhere.csv"),
        (["search", *SIZES, "--space", "darts", "--table", "/nowhere.csv"], "cells of one input .*'darts'"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line_and_writes_nothing(capsys, tmp_path, argv, message):
    out = ["--out", tmp_path / "run"] if argv[0] == "search" else []
    error = error_of(capsys, *argv, *out)
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_a_cell_of_two_inputs_is_refused(capsys, file):
    error = error_of(capsys, "lookup", "--table", file, "--genotype", "DARTS_V2")
    assert "expected a cell of one input" in error
