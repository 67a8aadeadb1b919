# SPDX-License-Identifier: MIT
"""Tables of trained cells: looking up, ranking, reading files, and errors that say where."""

import gzip
from itertools import product
from pathlib import Path
from random import Random

import pytest
import torch

from nasp_ext.arch.registry import space
from nasp_ext.families.cells.table import Table, read_table

NAMES = ("skip", "none", "conv")
CELLS = ["|{}~0|+|{}~0|{}~1|".format(*names) for names in product(NAMES, repeat=3)]
REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench201.csv.gz"


def small(operations=None) -> Table:
    return Table(CELLS, {"accuracy": [float(i % 10) for i in range(27)], "size": range(27)}, operations)


def test_text_and_options_name_the_same_architecture():
    for operations in (None, ("conv", "none", "skip"), ("x", "none", "skip", "conv", "y")):
        table = small(operations)
        assert table.operations == (operations or ("conv", "none", "skip"))
        for row, text in enumerate(CELLS):
            names = text.replace("+", "").strip("|").split("|")
            options = [table.operations.index(name.split("~")[0]) for name in names if name]
            assert table.row(text) == table.row(options) == row
            assert table.options[row].tolist() == options
            assert table.value("size", text) == table.value("size", tuple(options)) == row


def test_many_architectures_are_looked_up_at_once():
    table = small()
    options = table.options[torch.randperm(27)].reshape(3, 9, 3)
    rows = table.rows(options)
    assert rows.shape == (3, 9)
    assert torch.equal(table.options[rows], options)
    assert table.rows(options[:0]).shape == (0, 9)


def test_best_and_rank_by_hand():
    table = small()  # accuracies 0 … 9, 0 … 9, 0 … 6
    assert table.names == ("accuracy", "size")
    assert table.best("accuracy") == CELLS[9]
    assert table.best("accuracy", largest=False) == CELLS[0]
    assert table.rank("accuracy", CELLS[9]) == table.rank("accuracy", CELLS[19]) == 1
    assert table.rank("accuracy", CELLS[8]) == 3
    assert table.rank("accuracy", CELLS[1], largest=False) == 4
    assert table.rank("size", CELLS[0]) == 27


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_file_is_read_plain_or_zipped(tmp_path, name):
    text = "index,arch,top1\n7,|skip~0|,12.5\n\n8,|conv~0|,93.25\n"
    table = read_table(write(tmp_path / name, text))
    assert table.architectures == ("|skip~0|", "|conv~0|")
    assert table.names == ("index", "top1")
    assert table.value("top1", "|conv~0|") == 93.25
    assert table.column("index").tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected different columns, one of them 'arch', got []"),
        ("index,top1\n1,2\n", "one of them 'arch', got ['index', 'top1']"),
        ("arch,a,a\n", "expected different columns"),
        ("arch,top1\n", "one architecture or more, got none"),
        ("arch,top1\n|skip~0|,1\n|conv~0|\n", "line 3: expected 2 cells, got 1"),
        ("arch,top1\n|skip~0|,high\n", "line 2, top1: expected a number, got 'high'"),
        ("arch,top1\n|skip~0|,nan\n", "a finite number in column 'top1', row 0, got nan"),
        ("arch,top1\n|skip~0|,1\n|skip~0|,2\n", "expected every architecture once, found '|skip~0|' twice"),
        ("arch,top1\n|skip~1|,1\n", "got '|skip~1|'"),
        ("arch,top1\n|skip~0|,1\n|skip~0|+|skip~0|skip~1|,1\n", "expected 1 edges in every architecture"),
    ],
)
def test_a_file_of_another_form_names_itself_and_the_place(tmp_path, text, message):
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the whole message is compared
        read_table(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)


def test_a_missing_or_broken_file_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv: expected a readable CSV file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"t\.csv\.gz: expected a readable CSV file"):
        read_table(tmp_path / "t.csv.gz")
    whole = gzip.compress(b"arch,top1\n|skip~0|,1\n")
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"t\.csv\.gz: expected a readable CSV file"):
        read_table(tmp_path / "t.csv.gz")


def test_what_is_not_in_the_table_is_refused():
    table = Table(CELLS[1:], {"accuracy": range(26)})
    with pytest.raises(ValueError, match=r"expected an architecture of the table, .*, got \(2, 2, 2\)"):
        table.row((2, 2, 2))
    with pytest.raises(ValueError, match=r"in 0\.\.2, got \(0, 3, 0\)"):
        table.rows(torch.tensor([[0, 0, 0], [0, 3, 0]]))
    with pytest.raises(ValueError, match="whole numbers"):
        table.rows(torch.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"options .…, 3."):
        table.row((0, 1))
    with pytest.raises(ValueError, match="of 3 edges with the operations conv, none, skip"):
        table.row("|skip~0|+|none~0|pool~1|")
    with pytest.raises(ValueError, match="one of accuracy, got 'speed'"):
        table.column("speed")
    with pytest.raises(ValueError, match="expected operations with none once"):
        small(("skip", "conv"))
    with pytest.raises(ValueError, match="26 numbers in column 'accuracy', got 2"):
        Table(CELLS[1:], {"accuracy": [1, 2]})


@pytest.mark.skipif(not REAL.exists(), reason="the NAS-Bench-201 table is not beside the repository")
def test_the_table_of_nas_bench_201():
    names = space("nas-bench-201").normal
    table = read_table(REAL, names)
    assert len(table.architectures) == 5**6
    assert table.operations == names
    every = torch.cartesian_prod(*[torch.arange(5)] * 6)
    assert table.rows(every).sort().values.equal(torch.arange(5**6))
    for column, best in (("cifar10", 94.37), ("cifar100", 73.51), ("imagenet16", 47.31)):
        assert table.column(f"{column}_test_200ep").max().item() == pytest.approx(best, abs=0.005)
    skips = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    assert table.value("cifar10_test_200ep", skips) == pytest.approx(54.30, abs=0.005)


def test_a_gzipped_file_with_any_flipped_byte_is_read_or_refused_by_its_name(tmp_path):
    text = "arch,accuracy\n" + "".join(f"{cell},{number}\n" for number, cell in enumerate(CELLS))
    whole, random, refused = gzip.compress(text.encode(), mtime=0), Random(0), 0
    file = tmp_path / "table.csv.gz"
    for position in random.sample(range(len(whole)), min(len(whole), 150)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.randrange(8)
        file.write_bytes(damaged)
        try:
            read_table(file)
        except ValueError as error:
            refused += "table.csv.gz" in str(error)
    assert refused > 100
