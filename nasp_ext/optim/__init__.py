# SPDX-License-Identifier: MIT
"""Optimizers of architectures: NASP on matrices, ASNG on distributions."""

from nasp_ext.optim.asng import ASNG, SNG, AdamSNG
from nasp_ext.optim.nasp import NASP

__all__ = ["ASNG", "NASP", "SNG", "AdamSNG"]
