# SPDX-License-Identifier: MIT
"""Damaged calls of every operator, in a child process: an error that changes nothing, or the twin's answer.

`make torture` runs a hundred times as many; see torture.py.
"""

import copy
import os
from mmap import mmap

import pytest
import torch
import torture
from ops_valid_calls import OPERATORS, drawn

CALLS = 1000
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")  # whose shadow takes all addresses


def test_damaged_call_is_refused_or_right():
    wrong = torture.in_child(sorted(OPERATORS), CALLS, timeout=600, limited=not SANITIZED)
    assert not wrong, wrong


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_call_that_is_not_damaged_is_right(name):
    for arguments in drawn(OPERATORS[name], 8):
        operator = OPERATORS[name]
        ours, theirs = copy.deepcopy(arguments), copy.deepcopy(arguments)
        found, expected = operator.native(*ours), operator.twin(*theirs)
        assert torture.unequal([found, ours], [expected, theirs]) == ""


def planted(monkeypatch, native):
    """The report on an operator with a fault."""
    operator = torture.OPERATORS["prox_c2"]
    faulty = torture.OPERATORS | {"prox_c2": type(operator)(operator.valid, native, operator.twin)}
    monkeypatch.setattr(torture, "OPERATORS", faulty)
    note = mmap(-1, torture.NOTE)
    return torture.torture(["prox_c2"], 60, 0, note), note


def test_answer_that_differs_from_the_twin_is_found(monkeypatch, capsys):
    faults, _ = planted(monkeypatch, lambda a, mask=None: torture.OPERATORS["prox_c"].native(a, mask)[0])
    assert faults > 0
    assert "--operator prox_c2 --seed" in capsys.readouterr().out


def test_error_that_comes_after_a_change_is_found(monkeypatch, capsys):
    def native(a, mask=None):
        a.zero_()
        raise ValueError("too late")

    faults, _ = planted(monkeypatch, native)
    assert faults > 0
    assert "changed its arguments, then raised too late" in capsys.readouterr().out


def test_call_that_kills_its_process_is_named(tmp_path, monkeypatch):
    """The child of this test is a program that notes a call and dies of a signal."""
    script = tmp_path / "child.py"
    script.write_text(
        "import json, os, sys\n"
        "with open(json.loads(sys.argv[2])[3], 'r+b') as file:\n"
        "    file.write(b'node_sum_ --seed 17')\n"
        "os.abort()\n"
    )
    monkeypatch.setattr(torture, "__file__", str(script))
    assert torture.in_child(["node_sum_"], 1) == "ended with -6 at --operator node_sum_ --seed 17"


def test_memory_of_a_tensor_is_compared_beyond_its_view():
    one = torch.zeros(4)
    two = one.clone()
    two[3] = 1
    assert torture.same_bits(one[:2], one.clone()[:2])
    assert not torture.same_bits(one[:2], two[:2])
