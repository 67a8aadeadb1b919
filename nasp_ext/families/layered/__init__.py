# SPDX-License-Identifier: MIT
"""Cells with a choice per edge, of which every layer has its own: ASM-NAS."""

from nasp_ext.arch.family import register_family
from nasp_ext.families.layered.family import LayeredFamily

register_family(LayeredFamily())
