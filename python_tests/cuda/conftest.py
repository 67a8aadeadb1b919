# SPDX-License-Identifier: MIT
"""The C++ test programs, and a device for the CUDA side of the operators: the emulator, or a real GPU."""

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cuda_tools import ROOT, missing, run
from torch import Tensor

from nasp_ext.ops import blocks, mixture, prox, recurrent, step


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the C++ test programs, built or brought up to date; `make ctest` builds the same ones."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            missing(tool)
    build = ROOT / "build" / "cmake"
    if (build / "CMakeCache.txt").exists():
        folder = build / "csrc" / "tests"
    else:
        build = folder = ROOT / "build" / "native"
        include = Path(torch.__file__).parent / "include"
        run("cmake", "-S", ROOT / "csrc/tests", "-B", build, f"-DNASP_TORCH_INCLUDE={include}")
    run("cmake", "--build", build, "--target", "native_tests", "--parallel", "2", timeout=600)
    return folder


@pytest.fixture(scope="session")
def emulator(programs: Path) -> ctypes.CDLL:
    """The library whose loading registers torch.ops.nasp_emulated."""
    path = programs / "libnasp_emulated.so"
    torch.ops.load_library(path)
    return ctypes.CDLL(str(path))


OPERATORS = {
    prox: ("prox_c", "prox_c1", "prox_c2", "select_active"),
    step: ("nasp_step_",),
    mixture: ("branch_dots", "mixed_sum", "mixed_sum_backward"),
    blocks: (
        *("empty_images", "block_forward", "block_backward", "pool_forward", "pool_backward_"),
        *("node_sum_", "node_gradient_sums", "update_statistics_", "source_dots"),
    ),
    recurrent: ("recurrent_forward", "recurrent_backward", "recurrent_dots"),
}


@pytest.fixture(params=["emulated-0", "emulated-1", "emulated-2", "emulated-3", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU; or the CPU with nasp_ext.ops bound to the emulated kernels, in one order of threads."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return torch.device("cuda")
    library = request.getfixturevalue("emulator")
    library.nasp_set_order(ctypes.c_uint64(int(request.param[-1])))
    for module, names in OPERATORS.items():
        for name in names:
            operator = getattr(torch.ops.nasp_emulated, name).default
            constant = "_" + name.upper()
            monkeypatch.setattr(module, constant if hasattr(module, constant) else constant[:-1], operator)
    return torch.device("cpu")


@pytest.fixture
def close(assert_close: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor, Tensor, torch.dtype], None]:
    """Compare within the tolerance of ``dtype`` of the largest number; ``actual`` may be elsewhere."""

    def check(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
        assert actual.dtype == expected.dtype
        most = expected.abs().nan_to_num(0).max() if expected.numel() else torch.ones(())
        scale = float(most) or 1.0
        assert_close((actual.cpu() / scale).to(dtype), (expected / scale).to(dtype))

    return check
