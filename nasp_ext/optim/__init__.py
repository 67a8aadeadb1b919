# SPDX-License-Identifier: MIT
"""Optimizers for architecture matrices."""

from nasp_ext.optim.nasp import NASP

__all__ = ["NASP"]
