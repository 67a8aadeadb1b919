# SPDX-License-Identifier: MIT
"""What a figure depends on besides the code: processor, versions, threads, commit."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

import nasp_ext
from benchmarks.framework import Settings


def describe(settings: Settings) -> dict[str, object]:
    """Facts for the head of a report and for its JSON."""
    facts: dict[str, object] = {
        "device": _processor() if settings.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "nasp_ext": nasp_ext.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "sizes": "quick (no figures to quote)" if settings.quick else "full",
    }
    return facts


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
