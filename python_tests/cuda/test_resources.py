# SPDX-License-Identifier: MIT
"""nvcc on every kernel: registers, stack, spills, shared memory; and 16-byte accesses in the PTX."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cuda_tools import ROOT, missing, run

ARCHS = (75, 80, 90, 100)
FLAGS = ("-O3", "-std=c++17", "-fmad=false")  # those of setup.py that change the code
# File -> kernel -> (instances, most registers, most static shared memory of one of them on any architecture).
KERNELS = {
    "block_forward": {"block_forward_kernel": (2, 128, 9216)},
    "product_backward": {"product_backward_kernel": (2, 128, 768)},
    "depthwise_backward": {"depthwise_backward_kernel": (2, 80, 15360)},
    "pool": {"pool_forward_kernel": (2, 80, 2816), "pool_backward_kernel": (2, 80, 1536)},
    "node": {"node_sum_kernel": (2, 72, 0), "node_gradient_sums_kernel": (2, 56, 2048)},
    "norm": {
        "finish_norms_kernel": (2, 128, 2048),
        "sums_of_rows_kernel": (2, 72, 2048),
        "totals_kernel": (2, 56, 0),
    },
    "update_statistics": {"update_statistics_kernel": (2, 56, 0)},
    "recurrent": {
        "node_forward_kernel": (4, 128, 512),
        "node_backward_kernel": (4, 128, 512),
        "output_forward_kernel": (2, 56, 0),
        "output_backward_kernel": (2, 40, 0),
    },
    "row_dots": {"row_dots_kernel": (2, 64, 256), "row_dot_totals_kernel": (1, 56, 0)},
    "prox": {
        "project_rows_of_8_kernel": (8, 64, 0),
        "project_rows_kernel": (8, 48, 0),
        "clip_vectors_kernel": (4, 48, 0),
        "clip_kernel": (4, 40, 0),
    },
    "branch_dots": {"dot_blocks_kernel": (4, 72, 0), "dot_totals_kernel": (2, 56, 0)},
    "mixed_sum": {"dot_blocks_kernel": (4, 72, 0), "mixed_sum_kernel": (8, 64, 0)},
    "select_active": {
        "select_rows_of_8_kernel": (4, 128, 0),
        "select_rows_kernel": (4, 80, 0),
        "select_nodes_kernel": (4, 96, 0),
    },
    "nasp_step": {
        "select_rows_of_8_kernel": (2, 128, 0),
        "select_rows_kernel": (2, 80, 0),
        "select_nodes_kernel": (2, 96, 0),
    },
}
# Read and write 16 bytes at a time; mixed_sum has a one-element instance for each type besides.
VECTOR_KERNELS = {
    "prox": {"project_rows_of_8_kernel": 8, "clip_vectors_kernel": 4},
    "mixed_sum": {"mixed_sum_kernel": 4},
    "select_active": {"select_rows_of_8_kernel": 4},
    "nasp_step": {"select_rows_of_8_kernel": 2},
}
ENTRY = re.compile(
    r"entry function '(?P<symbol>\S+)' for 'sm_(?P<arch>\d+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\s+"
    r"ptxas info\s*: Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Report:
    """nvcc's words on one .cu file, and the PTX of one architecture."""

    text: str
    ptx: str

    def entries(self) -> Iterator[re.Match[str]]:
        return ENTRY.finditer(self.text)


def kernel_of(symbol: str) -> str:
    """The kernel in a mangled symbol, where a name follows its length."""
    names = {name for kernels in KERNELS.values() for name in kernels if f"{len(name)}{name}" in symbol}
    assert len(names) == 1, f"expected one of the kernels in {symbol}, found {names}"
    return names.pop()


def source(family: str) -> Path:
    (path,) = ROOT.glob(f"csrc/*/{family}_kernel.cu")
    return path


def read_by_compiler(path: Path, found: set[Path]) -> set[Path]:
    """A source and what it includes of this package."""
    if path not in found:
        found.add(path)
        for name in re.findall(r'#include "([^"]+)"', path.read_text()):
            read_by_compiler((path.parent / name).resolve(), found)
    return found


def compiled(family: str) -> Report:
    """The report, from the last run if nothing it depends on has changed since."""
    include = Path(torch.__file__).parent / "include"
    inputs = sorted(read_by_compiler(source(family), set()))
    text = run("nvcc", "--version") + str((ARCHS, FLAGS, torch.__version__))
    digest = hashlib.sha256(text.encode() + b"".join(p.read_bytes() for p in inputs)).hexdigest()
    folder = ROOT / "build" / "resources" / f"{family}-{digest[:16]}"
    report, ptx = folder / "report.txt", folder / f"{family}_kernel.compute_80.ptx"
    if not report.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archs = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHS]
        keep = ("--keep", "--keep-dir", folder, "-o", folder / "kernels.fatbin")
        options = (*FLAGS, "-Xptxas", "-v", "--threads", "2", "-I", include, *archs)
        output = run("nvcc", "-fatbin", *options, *keep, source(family), timeout=600)
        report.write_text(output)
    return Report(report.read_text(), ptx.read_text())


@pytest.fixture(scope="module", params=sorted(KERNELS))
def family(request: pytest.FixtureRequest) -> str:
    if shutil.which("nvcc") is None:
        missing("nvcc")
    return str(request.param)


@pytest.fixture(scope="module")
def report(family: str) -> Report:
    return compiled(family)


def test_every_kernel_file_has_its_bounds() -> None:
    assert {p.stem.removesuffix("_kernel") for p in ROOT.glob("csrc/*/*_kernel.cu")} - {
        "planted_faults"
    } == set(KERNELS)
    for name, kernels in KERNELS.items():
        inputs = read_by_compiler(source(name), set())
        text = "".join(p.read_text() for p in inputs if p.parent.name != "emulator")
        declared = re.findall(
            r"__global__\s+void\s+(?:__launch_bounds__\((?:[^()]|\(\))*\)\s+)?(\w+)\(", text
        )
        assert sorted(declared) == sorted(kernels)
        assert text.count("__global__") == len(kernels)


def test_every_instance_is_compiled_for_every_architecture(family: str, report: Report) -> None:
    found = [(kernel_of(e["symbol"]), int(e["arch"])) for e in report.entries()]
    expected = [(k, a) for k, (count, *_) in KERNELS[family].items() for a in ARCHS for _ in range(count)]
    assert sorted(found) == sorted(expected)


def test_no_kernel_uses_stack_or_spills(report: Report) -> None:
    for entry in report.entries():
        assert [entry[x] for x in ("stack", "stores", "loads")] == ["0", "0", "0"], entry[0]
        assert not re.search(r"[1-9]\d* bytes lmem", entry["rest"]), entry[0]


def test_registers_and_shared_memory_stay_within_their_bounds(family: str, report: Report) -> None:
    for entry in report.entries():
        _, registers, shared = KERNELS[family][kernel_of(entry["symbol"])]
        used = re.search(r"(\d+) bytes smem", entry["rest"])
        assert int(entry["registers"]) <= registers, entry[0]
        assert (int(used[1]) if used else 0) <= shared, entry[0]


def test_rows_of_eight_and_mixtures_move_sixteen_bytes_at_a_time(family: str, report: Report) -> None:
    wide: dict[str, int] = {}
    for body in report.ptx.split(".entry ")[1:]:
        kernel = kernel_of(body.split("(")[0])
        loads = re.search(r"ld\.global(\.nc)?\.(v4\.[bfu]32|v2\.[bfu]64)", body)
        stores = re.search(r"st\.global\.(v4\.[bfu]32|v2\.[bfu]64)", body)
        wide[kernel] = wide.get(kernel, 0) + bool(loads and stores)
    assert {k: n for k, n in wide.items() if n} == VECTOR_KERNELS.get(family, {})


def test_the_planted_faults_are_valid_cuda(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        missing("nvcc")
    faults = ROOT / "csrc/tests/planted_faults.cu"
    run("nvcc", "-cubin", "-std=c++17", "-arch=sm_90", faults, "-o", tmp_path / "faults.cubin")
