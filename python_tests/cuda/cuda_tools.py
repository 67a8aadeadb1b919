# SPDX-License-Identifier: MIT
"""What the tests of the native code share."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, timeout: float = 300) -> str:
    """The output of a command that must succeed."""
    text = list(map(str, command))
    done = subprocess.run(text, capture_output=True, text=True, timeout=timeout, check=False)
    output = done.stdout + done.stderr
    if done.returncode != 0:
        pytest.fail(f"{' '.join(text)} failed with {done.returncode}:\n{output[-6000:]}")
    return output


def missing(tool: str) -> None:
    """Skip for want of a tool, or fail where the run is asked to have it."""
    reason = f"{tool} is not installed"
    if os.environ.get("NASP_REQUIRE_NVCC") == "1":
        pytest.fail(f"NASP_REQUIRE_NVCC=1, but {reason}")
    pytest.skip(reason)
