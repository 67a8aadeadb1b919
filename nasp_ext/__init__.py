# SPDX-License-Identifier: MIT
"""Neural architecture search by proximal iterations, fused kernels for PyTorch."""
