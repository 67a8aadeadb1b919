# SPDX-License-Identifier: MIT
from typing import TypedDict

class _BuildInfo(TypedDict):
    compiler: str
    torch_built_with: str
    cuda: bool
    cuda_archs: str
    cuda_reason: str

def build_info() -> _BuildInfo: ...
def instruction_set() -> str: ...
