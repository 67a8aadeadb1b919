# SPDX-License-Identifier: MIT
"""Compiles csrc/ against the PyTorch that is installed.

Environment: NASP_CUDA=auto|1|0, NASP_RELEASE=1|0, TORCH_CUDA_ARCH_LIST, CUDA_HOME, MAX_JOBS. A release
build leaves out the host module, the one part that belongs to a single Python version, so that its wheel
serves all that abi3 does. Sources are found by a naming
rule, which CMakeLists.txt repeats: csrc/*.cpp and csrc/*/*_cpu.cpp always; csrc/*/*_kernel.cu and
csrc/*/*_cuda.cpp with CUDA; csrc/host/*.cpp for the host module, which includes no PyTorch header.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools import setup

ROOT = Path(__file__).resolve().parent
TORCH_TARGET_VERSION = "0x020b000000000000"  # the oldest PyTorch that the binary runs on: 2.11
CUDA_ARCHS = ("7.5", "8.0", "9.0", "10.0")
CPU_SOURCES = ("csrc/*.cpp", "csrc/*/*_cpu.cpp")
CUDA_SOURCES = ("csrc/*/*_kernel.cu", "csrc/*/*_cuda.cpp")
HOST_SOURCES = ("csrc/host/*.cpp",)


def sources(*patterns: str) -> list[str]:
    return [str(p.relative_to(ROOT)) for pattern in patterns for p in sorted(ROOT.glob(pattern))]


def cuda_root_of(nvcc: str) -> str:
    """The toolkit that this nvcc belongs to; a wrapper script on PATH says nothing by its own location."""
    command = [nvcc, "-dryrun", "-E", "-x", "cu", os.devnull]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    return next((line.partition("TOP=")[2].strip() for line in lines if "TOP=" in line), "")


def find_cuda_home(site: Path) -> str | None:
    """CUDA_HOME, CUDA_PATH, the nvcc on PATH, pip's nvidia-cuda-nvcc, then /usr/local/cuda*."""
    roots = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    if nvcc := shutil.which("nvcc"):
        roots.append(cuda_root_of(nvcc))
    roots += map(str, sorted(site.glob("nvidia/cu*"), reverse=True))
    roots += ["/usr/local/cuda", *map(str, sorted(Path("/usr/local").glob("cuda-*"), reverse=True))]
    for root in filter(None, roots):
        if Path(root, "bin/nvcc").exists() and Path(root, "include/cuda_runtime.h").exists():
            return str(Path(root).resolve())
    return None


def nvcc_output(cuda_home: str, *options: str) -> str:
    command = [f"{cuda_home}/bin/nvcc", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def cuda_archs(torch: ModuleType, cuda_home: str) -> str:
    if chosen := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return chosen
    if count := torch.cuda.device_count():
        capabilities = {torch.cuda.get_device_capability(i) for i in range(count)}
        return ";".join(f"{major}.{minor}" for major, minor in sorted(capabilities))
    known = nvcc_output(cuda_home, "--list-gpu-arch").split()
    return ";".join(a for a in CUDA_ARCHS if f"compute_{a.replace('.', '')}" in known) + "+PTX"


def cuda_plan(torch: ModuleType, cuda_home: str | None) -> tuple[bool, str]:
    """Whether to compile the CUDA kernels, and why."""
    choice = os.environ.get("NASP_CUDA", "auto")
    if choice not in ("auto", "0", "1"):
        raise SystemExit(f"nasp_ext: expected NASP_CUDA to be auto, 0 or 1, found {choice!r}")
    if choice == "0":
        return False, "NASP_CUDA=0 was set when nasp_ext was built"
    if cuda_home is None:
        if choice == "1":
            raise SystemExit("nasp_ext: NASP_CUDA=1, but no nvcc was found; set CUDA_HOME to a CUDA toolkit")
        return False, "no nvcc was found when nasp_ext was built (CUDA_HOME, PATH, /usr/local/cuda)"
    if torch.version.cuda is None:
        built_for = f"PyTorch {torch.__version__}, which nasp_ext was built with, has no CUDA"
        return choice == "1", f"nvcc of {cuda_home}" if choice == "1" else built_for
    major = torch.version.cuda.split(".")[0]
    if f"release {major}." not in nvcc_output(cuda_home, "--version"):
        reason = f"PyTorch is built for CUDA {torch.version.cuda}, the nvcc of {cuda_home} is another major"
        if choice == "1":
            raise SystemExit(f"nasp_ext: NASP_CUDA=1, but {reason}; set CUDA_HOME to a CUDA {major} toolkit")
        return False, reason
    return True, f"nvcc of {cuda_home}"


def is_release() -> bool:
    choice = os.environ.get("NASP_RELEASE", "0")
    if choice not in ("0", "1"):
        raise SystemExit(f"nasp_ext: expected NASP_RELEASE to be 0 or 1, found {choice!r}")
    return choice == "1"


def check_system() -> None:
    """Stop where no compiler is known that takes the sources."""
    if sys.platform == "win32":
        raise SystemExit(
            "nasp_ext: expected Linux or macOS: the kernels use the vector types of GCC and clang, which "
            "MSVC, the compiler of PyTorch's extensions on Windows, has not got; install it in WSL 2"
        )


def build_options() -> dict[str, Any]:
    """The extension modules and the build command; imports torch, so only for commands that compile."""
    check_system()
    import torch
    from torch.utils import cpp_extension

    cuda_home = find_cuda_home(Path(torch.__file__).parents[1])
    with_cuda, reason = cuda_plan(torch, cuda_home)
    archs = cuda_archs(torch, cuda_home) if with_cuda and cuda_home else ""
    what = f"CPU and CUDA kernels for {archs}" if with_cuda else "CPU kernels only"
    print(f"nasp_ext: PyTorch {torch.__version__}: building {what} ({reason})", file=sys.stderr)

    # -ffp-contract=off and -fmad=false: the same bits from every instruction set and from the GPU.
    # -fno-math-errno: a square root is an instruction, not a call, so loops with one are vectorised.
    common = ["-O3", "-std=c++17", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
    cxx = [*common, "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-Wno-psabi"]
    nvcc = [*common, "-fmad=false", "-Xcompiler=-fvisibility=hidden"]
    facts = {
        "NASP_WITH_CUDA": int(with_cuda),
        "NASP_TORCH_VERSION": f'"{torch.__version__}"',
        "NASP_CUDA_ARCHS": f'"{archs}"',
        "NASP_CUDA_REASON": f'"{reason}"',
    }
    cxx += [f"-D{name}={value}" for name, value in facts.items()]
    files, libraries, library_dirs = sources(*CPU_SOURCES), ["pthread"], []
    include_dirs = [str(ROOT / "csrc")]
    if with_cuda and cuda_home:
        os.environ["TORCH_CUDA_ARCH_LIST"] = archs
        cpp_extension.CUDA_HOME = cuda_home  # a CPU-only PyTorch leaves it None whatever the environment says
        files += sources(*CUDA_SOURCES)
        cxx.append("-DUSE_CUDA")
        nvcc.append("-DUSE_CUDA")
        include_dirs.append(f"{cuda_home}/include")
        libraries = ["cudart_static", "dl", "rt", "pthread"]
        library_dirs = [d for d in (f"{cuda_home}/lib64", f"{cuda_home}/lib") if os.path.isdir(d)]
    # CppExtension also with CUDA: CUDAExtension would link c10_cuda and torch_cuda.
    operators = cpp_extension.CppExtension(
        "nasp_ext._C",
        files,
        py_limited_api=True,
        include_dirs=include_dirs,
        libraries=libraries,
        library_dirs=library_dirs,
        extra_link_args=["-s"] if sys.platform == "linux" else [],  # no symbol table; not for macOS' linker
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        depends=sources("csrc/*/*.h", "csrc/*/*.cuh", "setup.py"),
    )
    build: dict[str, Any] = {"cmdclass": {"build_ext": cpp_extension.BuildExtension}}
    if is_release():
        # A folder of its own: a wheel takes all that earlier builds left in the usual one.
        options = {"build": {"build_base": "build/release"}, "bdist_wheel": {"py_limited_api": "cp310"}}
        without = {"nasp_ext": ["_host.pyi"]}
        return {**build, "ext_modules": [operators], "options": options, "exclude_package_data": without}
    from pybind11.setup_helpers import Pybind11Extension

    host = Pybind11Extension(
        "nasp_ext._host",
        sources(*HOST_SOURCES),
        cxx_std=17,
        define_macros=[(name, str(value)) for name, value in facts.items()],
        depends=["setup.py", *sources("csrc/host/*.h")],
    )
    host.extra_compile_args = {"cxx": host.extra_compile_args, "nvcc": []}
    return {**build, "ext_modules": [operators, host]}


COMPILING = {"build", "build_ext", "bdist_wheel", "install", "develop", "editable_wheel"}
setup(**(build_options() if COMPILING & set(sys.argv) else {}))
