# SPDX-License-Identifier: MIT
"""``--genotype``: a name, a file, a folder or the text itself."""

import re

import pytest
from cli_calls import RETRAIN, call, error_of

EDGES = "[('sep_conv_3x3', 1), ('skip_connect', 0)]"
TEXT = f"Genotype(normal={EDGES}, normal_concat=range(2, 3), reduce={EDGES}, reduce_concat=range(2, 3))"
OTHER = TEXT.replace("sep_conv_3x3", "dil_conv_3x3")
# Xu et al. 2020 (PC-DARTS), the cell found on CIFAR-10, as their search prints it.
PC_DARTS = (
    "2019-07-02 15:09:29,380 genotype = Genotype("
    "normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)], "
    "normal_concat=range(2, 6), "
    "reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], "
    "reduce_concat=range(2, 6))"
)


def parameters_of(capsys, genotype, *argv) -> str:
    status, printed, _ = call(capsys, "count", "--genotype", genotype, *argv)
    assert status == 0
    return printed.splitlines()[-1].split()[1]


def test_a_line_of_a_log_is_counted_to_the_published_size(capsys):
    assert parameters_of(capsys, PC_DARTS) == "3,634,678"


def test_a_name_a_text_and_files_are_counted(capsys, tmp_path):
    small = ("--cells", "3", "--channels", "4")
    expected, other = (parameters_of(capsys, text, *small) for text in (TEXT, OTHER))
    assert expected != other
    assert parameters_of(capsys, "DARTS_V2") == "3,349,342"
    log, code, long_name = tmp_path / "log.txt", tmp_path / "genotypes.py", tmp_path / "a(b)|{c}.json"
    log.write_text(f"\ufeffepoch 1\ngenotype = {OTHER}\nepoch 2\ngenotype = {TEXT}\n")
    code.write_text(f"import os\nFIRST = {OTHER}\nSECOND = {TEXT}\n")
    long_name.write_text(TEXT)
    for source in (f"{log}:4", f"{code}:SECOND", f"{code}:3", long_name):
        assert parameters_of(capsys, source, *small) == expected
    error = error_of(capsys, "count", "--genotype", code)
    assert f"{code}: expected one genotype, found 2: FIRST in line 2, SECOND in line 3" in error
    assert "named 'THIRD'" in error_of(capsys, "count", "--genotype", f"{code}:THIRD")


@pytest.mark.parametrize(
    "source, message",
    [
        ("DARTS_V9", "one of NASNet, .*DARTS_V2, .*NASP, .*or text like Genotype.*found no file 'DARTS_V9'"),
        ("x" * 5000, "expected a genotype: a file .*found no file 'xxx"),
        ("a\0b", "found no file"),
        (TEXT.replace("[", "", 1), "expected"),
        (TEXT[:-1], "found its end"),
        ("Genotype(normal=__import__('os'))", "found '__import__'"),
        ("Genotype(recurrent=[('relu', 0)], concat=range(1, 9))", "expected concat to be states 0 … 1, "),
        ("[" * 100_000 + "(", "expected a genotype, like"),
        ("genotypes.py:" + "9" * 30, "found no file"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_line(capsys, source, message, tmp_path):
    calls = [["count"], ["plot", "--out", tmp_path / "out"], ["lookup", "--table", tmp_path / "no.csv"]]
    for argv in [*calls, [*RETRAIN, "--out", tmp_path / "out"]]:
        assert re.search(message, error_of(capsys, *argv, "--genotype", source))
    assert not (tmp_path / "out").exists()


def test_an_unknown_operation_and_space_around_are_told_apart(capsys):
    unknown = TEXT.replace("sep_conv_3x3", "sep_conv_9x9")
    assert "got 'sep_conv_9x9'" in error_of(capsys, "count", "--genotype", unknown)
    assert call(capsys, "count", "--genotype", " " * 5000 + TEXT)[0] == 0


def test_files_that_cannot_be_read_are_one_line(capsys, tmp_path):
    wrong = tmp_path / "weights.json"
    wrong.write_bytes(b"\xff\xfe\x00")
    assert f"{wrong}: expected a text file in UTF-8" in error_of(capsys, "count", "--genotype", wrong)
    wrong.write_text("a" * 4_000_001)
    assert "at most 4,000,000 bytes, got 4,000,001" in error_of(capsys, "count", "--genotype", wrong)
    wrong.write_text("epoch 1\n")
    assert f"{wrong}: expected a genotype, like" in error_of(capsys, "count", "--genotype", wrong)


def test_a_text_is_drawn_and_trained(capsys, tmp_path):
    status, printed, _ = call(capsys, "plot", "--genotype", TEXT, "--out", tmp_path / "plot")
    assert status == 0
    assert printed.count("wrote") == 2
    argv = [*RETRAIN, "--genotype", PC_DARTS, "--out", tmp_path / "retrain"]
    status, printed, _ = call(capsys, *argv)
    assert status == 0
    assert '"normal": [["sep_conv_3x3", 1], ["skip_connect", 0], ["sep_conv_3x3", 0]' in printed
    status, again, _ = call(capsys, "count", "--genotype", tmp_path / "retrain", "--cells", "3")
    assert again == call(capsys, "count", "--genotype", PC_DARTS, "--cells", "3")[1]
    assert call(capsys, "retrain", "--resume", "--out", tmp_path / "retrain")[0] == 0
