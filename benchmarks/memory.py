# SPDX-License-Identifier: MIT
"""Peak memory of one step, each method in a process of its own.

On the CPU: the highest resident size during two steps minus that before the first; Linux only, because the
peak has to be reset after the network was built. On a GPU: the allocator's peak minus what was there before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.cases import recurrent, steps

Sizes = steps.Sizes | recurrent.Sizes

_RESET_PEAK = "5"  # what /proc/self/clear_refs takes to set VmHWM to VmRSS


def peak_of(name: str, phase: str, device: str, sizes: Sizes) -> int:
    """Bytes that a step of a method needs beyond the network, its optimizers and the batch; in a new process.

    Raises:  RuntimeError: if that process fails; with what it wrote.
    """
    is_recurrent = isinstance(sizes, recurrent.Sizes)
    request = json.dumps([name, phase, device, is_recurrent, asdict(sizes), torch.get_num_threads()])
    command = [sys.executable, "-m", "benchmarks.memory", request]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    if run.returncode:
        raise RuntimeError(f"{name}, {phase}: the measuring process failed:\n{run.stderr[-2000:]}")
    return int(run.stdout.split()[-1])


def measure_here(name: str, phase: str, device: str, sizes: Sizes) -> int:
    """The same in this process."""
    if isinstance(sizes, recurrent.Sizes):
        step = recurrent.phases(recurrent.stepper(name, device, sizes))[phase]
    else:
        step = steps.phases(steps.stepper(name, device, sizes))[phase]
    before = _start_peak(device)
    for _ in range(2):
        step()
    return _peak(device) - before


def _start_peak(device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"expected {field} in /proc/self/status, found none")


if __name__ == "__main__":
    name, phase, device, is_recurrent, sizes, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    print(measure_here(name, phase, device, (recurrent.Sizes if is_recurrent else steps.Sizes)(**sizes)))
