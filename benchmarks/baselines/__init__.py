# SPDX-License-Identifier: MIT
"""What nasp_ext is compared with, written from the papers in plain PyTorch."""
