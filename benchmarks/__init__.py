# SPDX-License-Identifier: MIT
"""Speed and memory of nasp_ext against plain PyTorch and against the methods of the papers."""
