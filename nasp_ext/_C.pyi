# SPDX-License-Identifier: MIT
"""The compiled operators: importing it registers torch.ops.nasp_ext."""

from typing import TypedDict

class BuildInfo(TypedDict):
    compiler: str
    torch_built_with: str
    cuda: bool
    cuda_archs: str
    cuda_reason: str

def build_info() -> BuildInfo: ...
def instruction_set() -> str: ...
def step_by_address(fixed: bytes, *numbers: int | float | None) -> bool | None: ...
