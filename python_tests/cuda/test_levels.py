# SPDX-License-Identifier: MIT
"""Every instruction set gives the same bits: the clones of the CPU operators, one by one."""

import platform
import sys
from pathlib import Path

import pytest
from cuda_tools import run

from nasp_ext import _info

LEVEL_OF = {"x86-64 (SSE2)": 1, "x86-64-v3 (AVX2)": 3, "x86-64-v4 (AVX-512)": 4}


@pytest.mark.parametrize("level", [1, 3, 4])
def test_clones_of_one_instruction_set_have_the_bits_of_the_best(programs: Path, level: int) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the clones are those of x86-64")
    if LEVEL_OF[_info.instruction_set()] < level:
        pytest.skip(f"this processor has {_info.instruction_set()} only")
    library = programs / f"libnasp_level_{level}.so"
    if not library.exists():
        pytest.skip("the compiler makes no clones")
    worker = Path(__file__).parent / "level_worker.py"
    assert "equal" in run(sys.executable, worker, library, str(level))
