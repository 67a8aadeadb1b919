# SPDX-License-Identifier: MIT
"""Drawings as SVG text, in pure Python: cells as graphs, tables as curves, matrices as coloured squares."""

from nasp_ext.plots.chart import Panel, chart_svg
from nasp_ext.plots.heatmap import Heatmap, heatmaps_svg
from nasp_ext.plots.history import history_svg

__all__ = ["Heatmap", "Panel", "chart_svg", "heatmaps_svg", "history_svg"]
