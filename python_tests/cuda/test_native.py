# SPDX-License-Identifier: MIT
"""The C++ tests: the emulator, the planted faults, every kernel, and the row arithmetic under sanitizers."""

from pathlib import Path

import pytest
from cuda_tools import ROOT, run

PROGRAMS = [
    "test_emulator",
    "test_kernels_plain",
    "test_kernels_checked",
    "test_math_address",
    "test_math_undefined",
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_passes(programs: Path, name: str) -> None:
    assert ", 0 failed" in run(programs / name)


def test_every_planted_fault_has_a_test() -> None:
    declared = (ROOT / "csrc/tests/planted_faults.h").read_text()
    tested = (ROOT / "csrc/tests/test_planted_faults.cpp").read_text()
    names = [line.split("(")[0].split()[1] for line in declared.splitlines() if line.startswith("void ")]
    assert len(names) == 14
    assert all(f"faults::{name}" in tested for name in names)
