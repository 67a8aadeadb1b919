# SPDX-License-Identifier: MIT
"""Cells with a choice per edge: DARTS, NASP, NAS-Bench-201."""

from nasp_ext.arch.family import register_family
from nasp_ext.families.cells import known as _known  # noqa: F401  registers its spaces
from nasp_ext.families.cells.family import CellFamily

register_family(CellFamily())
