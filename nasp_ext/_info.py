# SPDX-License-Identifier: MIT
"""What this installation of nasp_ext can do, and why a part of it is missing."""

import platform

import torch

from nasp_ext import __version__

try:
    from nasp_ext._host import build_info, instruction_set
except ImportError:  # a release build, whose one binary serves every Python
    from nasp_ext._C import build_info, instruction_set


def cuda_reason() -> str:
    """Why the CUDA operators cannot run here; an empty string if they can."""
    info = build_info()
    if not info["cuda"]:
        return f"nasp_ext was built without CUDA kernels: {info['cuda_reason']}"
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} has no CUDA support; the CUDA kernels of nasp_ext are built in"
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    return ""


def info_lines() -> list[str]:
    """The report of ``nasp-ext info``, a fact a line."""
    info = build_info()
    kernels = f"built for {info['cuda_archs']}" if info["cuda"] else f"not built: {info['cuda_reason']}"
    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        devices = ", ".join(names)
    else:
        devices = "none found"
    return [
        f"nasp_ext {__version__}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"PyTorch {torch.__version__} (built with {info['torch_built_with']}, compiler {info['compiler']})",
        f"CPU kernels: {instruction_set()}, {torch.get_num_threads()} threads",
        f"CUDA kernels: {kernels}",
        f"CUDA devices: {devices}",
        f"CUDA operators: {cuda_reason() or 'available'}",
        f"Fused cells: float32 and float64 on {_fused_devices()}; plain modules elsewhere",
    ]


def _fused_devices() -> str:
    """Where ``nasp_ext.nn.why_not_fused`` may answer None."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return " and ".join(k for k in ("cpu", "cuda") if has_kernel("nasp_ext::block_forward", k.upper()))
