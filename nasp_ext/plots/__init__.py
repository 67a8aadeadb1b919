# SPDX-License-Identifier: MIT
"""Drawings as SVG text, in pure Python: cells as graphs, search histories as curves."""

from nasp_ext.plots.cell import cell_svg, write_cell_svgs
from nasp_ext.plots.history import history_svg

__all__ = ["cell_svg", "history_svg", "write_cell_svgs"]
