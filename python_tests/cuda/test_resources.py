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
# Kernel -> (instances, most registers of one of them on any architecture).
KERNELS = {
    "prox": {
        "project_rows_of_8_kernel": (8, 64),
        "project_rows_kernel": (8, 48),
        "clip_vectors_kernel": (4, 48),
        "clip_kernel": (4, 40),
    },
    "mixture": {
        "dot_blocks_kernel": (8, 72),
        "dot_totals_kernel": (2, 56),
        "mixed_sum_kernel": (8, 64),
    },
    "nasp_step": {
        "select_rows_of_8_kernel": (6, 128),
        "select_rows_kernel": (6, 80),
        "select_nodes_kernel": (6, 96),
    },
}
# Read and write 16 bytes at a time; mixed_sum has a one-element instance for each type besides.
VECTOR_KERNELS = {
    "project_rows_of_8_kernel": 8,
    "clip_vectors_kernel": 4,
    "mixed_sum_kernel": 4,
    "select_rows_of_8_kernel": 6,
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
    names = [name for kernels in KERNELS.values() for name in kernels if f"{len(name)}{name}" in symbol]
    assert len(names) == 1, f"expected one of the kernels in {symbol}, found {names}"
    return names[0]


def source(family: str) -> Path:
    return ROOT / "csrc" / family / f"{family}_kernel.cu"


def compiled(family: str) -> Report:
    """The report, from the last run if nothing it depends on has changed since."""
    include = Path(torch.__file__).parent / "include"
    inputs = sorted(p for p in (ROOT / "csrc").glob("*/*") if p.suffix in {".cu", ".cuh", ".h"})
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
        text = source(name).read_text()
        declared = re.findall(
            r"__global__\s+void\s+(?:__launch_bounds__\((?:[^()]|\(\))*\)\s+)?(\w+)\(", text
        )
        assert sorted(declared) == sorted(kernels)
        assert text.count("__global__") == len(kernels)


def test_every_instance_is_compiled_for_every_architecture(family: str, report: Report) -> None:
    found = [(kernel_of(e["symbol"]), int(e["arch"])) for e in report.entries()]
    expected = [(k, a) for k, (count, _) in KERNELS[family].items() for a in ARCHS for _ in range(count)]
    assert sorted(found) == sorted(expected)


def test_no_kernel_uses_stack_spills_or_shared_memory(report: Report) -> None:
    for entry in report.entries():
        assert [entry[x] for x in ("stack", "stores", "loads")] == ["0", "0", "0"], entry[0]
        assert not re.search(r"[1-9]\d* bytes (smem|lmem)", entry["rest"]), entry[0]


def test_registers_stay_within_their_bounds(family: str, report: Report) -> None:
    for entry in report.entries():
        assert int(entry["registers"]) <= KERNELS[family][kernel_of(entry["symbol"])][1], entry[0]


def test_rows_of_eight_and_mixtures_move_sixteen_bytes_at_a_time(family: str, report: Report) -> None:
    wide: dict[str, int] = {}
    for body in report.ptx.split(".entry ")[1:]:
        kernel = kernel_of(body.split("(")[0])
        loads = re.search(r"ld\.global(\.nc)?\.(v4\.[bfu]32|v2\.[bfu]64)", body)
        stores = re.search(r"st\.global\.(v4\.[bfu]32|v2\.[bfu]64)", body)
        wide[kernel] = wide.get(kernel, 0) + bool(loads and stores)
    assert {k: n for k, n in wide.items() if n} == {
        k: n for k, n in VECTOR_KERNELS.items() if k in KERNELS[family]
    }


def test_the_planted_faults_are_valid_cuda(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        missing("nvcc")
    faults = ROOT / "csrc/tests/planted_faults.cu"
    run("nvcc", "-cubin", "-std=c++17", "-arch=sm_90", faults, "-o", tmp_path / "faults.cubin")
