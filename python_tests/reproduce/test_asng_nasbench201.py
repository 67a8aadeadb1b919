# SPDX-License-Identifier: MIT
"""ASNG on tables of trained cells: a made-up one, and NAS-Bench-201 where it is at hand."""

import re
from itertools import product
from pathlib import Path

import pytest
import torch

from nasp_ext.cli import main
from nasp_ext.families.cells.table import read_table
from nasp_ext.reproduce.asng_nasbench201 import AsngNasbench201

REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench201.csv.gz"
FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


@pytest.fixture
def made_up(tmp_path) -> Path:
    """729 cells: a query gives the number of good edges less that of bad ones, the score ten times it."""
    lines = ["arch,query,score"]
    for names in product(("good", "fair", "bad"), repeat=6):
        value = names.count("good") - names.count("bad")
        lines.append(f"{FORM.format(*names)},{value},{10 * value}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_asng_finds_the_best_of_a_made_up_table_and_random_search_less(made_up, capsys):
    argv = ["--search-on", "query", "--score", "score", "--queries", "200", "--runs", "10", "--deltas", "0.3"]
    assert main(["reproduce", "asng-nasbench201", "--table", str(made_up), *argv]) == 0
    out = capsys.readouterr().out
    means = dict(re.findall(r"^(asng, delta0 \S+|random).*?([\d.]+) ± [\d.]+$", out, re.M))
    assert set(means) == {"asng, delta0 0.3", "random"}
    assert float(means["asng, delta0 0.3"]) > float(means["random"])
    assert float(means["asng, delta0 0.3"]) >= 59
    assert "best cell: 60.00; best by query: 60.00" in out


def test_a_search_counts_its_queries_and_keeps_the_best_it_saw(made_up):
    cells = read_table(made_up)
    few = AsngNasbench201(search_on="query", score="score", queries=3, runs=4, deltas=(1.0,))
    likely, seen = few.search(cells)
    assert likely.shape == seen.shape == (1, 4)
    # One step of two samples from the uniform start: the better of two uniform draws.
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.rand(2, 4, 6, dtype=torch.float64, generator=generator) * 3).long()
    values = cells.column("query")[cells.rows(drawn)]
    assert torch.equal(cells.column("query")[seen[0]], values.amax(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "none.csv"], "none.csv: expected a readable CSV file"),
        (["--search-on", "speed"], "expected a column, one of query, score, got 'speed'"),
        (["--score", "speed"], "got 'speed'"),
        (["--deltas", "0"], "expected different deltas > 0"),
        (["--queries", "1"], "queries >= lam"),
    ],
)
def test_a_wrong_option_is_one_line(made_up, capsys, options, message):
    argv = ["--table", str(made_up), "--search-on", "query", "--score", "score", *options]
    assert main(["reproduce", "asng-nasbench201", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(not REAL.exists(), reason="the NAS-Bench-201 table is not beside the repository")
def test_asng_comes_near_the_optimum_of_nas_bench_201():
    cells = read_table(REAL)
    experiment = AsngNasbench201(deltas=(0.3,))
    scores = cells.column("cifar10_test_200ep")
    likely, seen = experiment.search(cells)
    assert scores[seen].mean() >= 94.25
    assert scores[likely].mean() >= 94.15
    assert scores[experiment.random_search(cells)].mean() < 94.15
