# SPDX-License-Identifier: MIT
"""The facts of _C as a plain pybind11 module; a release build has none."""

from ._C import BuildInfo

def build_info() -> BuildInfo: ...
def instruction_set() -> str: ...
